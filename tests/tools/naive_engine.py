"""A second engine to compare agrad with: slow, small and obviously correct.

A value is an expression: a leaf, or a function of expressions. Everything follows from the
definitions by recursion, in float64. A gradient is found one element of a leaf at a time: the
derivative in the direction of that element alone, pushed forward through each function's own
derivative. For the factorized average gradient each function's derivative is averaged over the
straight path of its inputs, by a quadrature that is exact to rounding for paths as short as here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

POSITIONS, WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True)
class Function:
    """A function of arrays, and its derivative at some inputs along their tangents."""

    value: Callable[..., Array]
    derivative: Callable[..., Array]


FUNCTIONS = {
    "add": Function(lambda x, y: x + y, lambda x, y, dx, dy: dx + dy),
    "subtract": Function(lambda x, y: x - y, lambda x, y, dx, dy: dx - dy),
    "multiply": Function(lambda x, y: x * y, lambda x, y, dx, dy: dx * y + x * dy),
    "matmul": Function(lambda x, y: x @ y, lambda x, y, dx, dy: dx @ y + x @ dy),
    "tanh": Function(np.tanh, lambda x, dx: dx / np.cosh(x) ** 2),
    "sin": Function(np.sin, lambda x, dx: dx * np.cos(x)),
    "square": Function(lambda x: x**2, lambda x, dx: 2 * x * dx),
    "column sums": Function(
        lambda x: x.sum(0, keepdims=True), lambda x, dx: dx.sum(0, keepdims=True)
    ),
    "sum": Function(lambda x: x.sum(), lambda x, dx: dx.sum()),
}


@dataclass(eq=False)
class Expression:
    """A leaf's values at one time, or a function of other expressions.

    Attributes:
        value: The value when it was recorded.
        name: The name of a leaf that requires a gradient.
        function: The function; None for leaves and for values computed without recording.
        operands: The arguments of the function.
        freed: Whether a sweep has freed it.
    """

    value: Array
    name: str | None = None
    function: Function | None = None
    operands: Sequence["Expression"] = ()
    freed: bool = field(default=False)

    @property
    def wants_gradient(self) -> bool:
        return self.name is not None or self.function is not None

    def nodes(self) -> Iterator["Expression"]:
        """Yield every recorded function of the graph, this one first, perhaps repeatedly."""
        if self.function is not None:
            yield self
            for operand in self.operands:
                yield from operand.nodes()

    def leaves(self) -> dict[str, Array]:
        """Return the values of the graph's leaves by name."""
        if self.name is not None:
            return {self.name: self.value}
        return {name: x for operand in self.operands for name, x in operand.leaves().items()}

    def end(self, moves: Mapping[str, Array]) -> Array:
        """Return the value with the leaves moved."""
        if self.function is None:
            return self.value + moves.get(self.name, 0.0) if self.name else self.value
        return self.function.value(*[operand.end(moves) for operand in self.operands])

    def largest(self, moves: Mapping[str, Array]) -> float:
        """Return the largest magnitude of any value in the graph, with the leaves moved."""
        inner = [operand.largest(moves) for operand in self.operands] if self.function else []
        return max([float(np.abs(self.end(moves)).max()), *inner])

    def tangent(self, tangents: Mapping[str, Array], moves: Mapping[str, Array]) -> Array:
        """Return the derivative along the leaves' tangents, averaged over the path `moves`."""
        if self.function is None:
            return tangents.get(self.name or "", np.zeros_like(self.value))
        inner = [operand.tangent(tangents, moves) for operand in self.operands]
        starts = [operand.value for operand in self.operands]
        ends = [operand.end(moves) for operand in self.operands]
        total = np.zeros_like(self.value)
        for position, weight in zip((POSITIONS + 1) / 2, WEIGHTS / 2, strict=True):
            inputs = [a + position * (b - a) for a, b in zip(starts, ends, strict=True)]
            total = total + weight * self.function.derivative(*inputs, *inner)
        return total

    def average_gradients(self, moves: Mapping[str, Array]) -> dict[str, Array]:
        """Return the factorized average gradient of each leaf; without moves, the gradient."""
        gradients = {}
        for name, start in self.leaves().items():
            gradients[name] = np.zeros_like(start)
            for index in np.ndindex(start.shape):
                direction = np.zeros_like(start)
                direction[index] = 1
                gradients[name][index] = self.tangent({name: direction}, moves)
        return gradients


def apply(name: str, *operands: Expression) -> Expression:
    """Compute a function of expressions, and record it if a gradient is required."""
    function = FUNCTIONS[name]
    value = np.asarray(function.value(*[operand.value for operand in operands]))
    if any(operand.wants_gradient for operand in operands):
        return Expression(value, function=function, operands=operands)
    return Expression(value)


@dataclass
class Adam:
    """Kingma and Ba's Adam, from the formulas of the paper."""

    lr: float
    eps: float
    moments: dict[str, tuple[int, Array, Array]] = field(default_factory=dict)

    def step(self, values: dict[str, Array], gradients: Mapping[str, Array]) -> None:
        for name, gradient in gradients.items():
            zeros = np.zeros_like(gradient)
            t, m, v = self.moments.get(name, (0, zeros, zeros))
            t, m, v = t + 1, 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            self.moments[name] = t, m, v
            corrected = np.sqrt(v / (1 - 0.999**t)) + self.eps
            values[name] = values[name] - self.lr * m / (1 - 0.9**t) / corrected


def searched_step(loss: Expression, lr: float) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return gradients, and the steps of AverageGradient around plain gradient descent."""
    gradients = loss.average_gradients({})
    proposal = {name: -lr * gradient for name, gradient in gradients.items()}
    averages = loss.average_gradients(proposal)
    steps = {}
    for name, delta in proposal.items():
        slope = gradients[name] * delta
        curvature = (averages[name] - gradients[name]) * delta
        steps[name] = np.zeros_like(delta)
        for i in np.ndindex(delta.shape):
            fractions = [0.0, 1.0]
            if curvature[i] > 0:
                fractions.append(min(max(-slope[i] / (2 * curvature[i]), 0.0), 1.0))
            model = [t * slope[i] + t * t * curvature[i] for t in fractions]
            steps[name][i] = fractions[int(np.argmin(model))] * delta[i]
    return gradients, steps
