"""What an operation is, and the kinds that decide its averaged Jacobian.

An operation is a function of arrays. It says how to compute its output (`forward`) and how to pull
a gradient back through its Jacobian J (`backward`: grad ↦ Jᵀ grad). The average backward pass needs
one thing more: the Jacobian averaged on the straight segment between the inputs' start and end
values,

    J̄ = ∫₀¹ J(x⁰ + t (x¹ - x⁰)) dt,        hence        J̄ (x¹ - x⁰) = y¹ - y⁰   exactly.

Because of that last identity the averages of a whole graph telescope: the swept-back gradient ĝ
meets ⟨ĝ, Δ⟩ = L(θ + Δ) - L(θ). How J̄ comes about depends on the *kind* of the operation alone, so
an operation normally derives from one of the kinds below and writes no averaging code of its own.
One that derives from `Operation` directly has no kind, and an average backward pass through it
raises.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, as_array, finite_part, kernels, largest
from agrad.errors import AverageUndefinedError
from agrad.ops.quadrature import gauss_legendre

__all__ = [
    "Elementwise",
    "Gradients",
    "Linear",
    "Multilinear",
    "Operation",
    "Point",
    "Selection",
    "Smooth",
    "midpoint",
]

Gradients = Sequence[Any]
"""One gradient for each input; None where none is needed."""


class Point(NamedTuple):
    """An operation's inputs and the output they give."""

    out: Array
    inputs: tuple[Array, ...]


class Operation:
    """A differentiable function of arrays: what a node of the graph computes.

    An instance holds the parameters of the function (an axis, a slope, a mask), never the values
    that pass through it, so `forward` and `backward` can be evaluated again at any inputs.
    """

    owns_gradients: bool = False
    """Whether its gradients have the inputs' shapes and dtypes, and memory that is theirs alone."""

    def forward(self, *inputs: Array) -> Array:
        """Return the output. It may be a view of an input; inputs are never written to."""
        raise TypeError(f"{type(self).__name__}: the operation defines no forward")

    def for_call(self, *inputs: Array) -> "Operation":
        """Return the operation as it is for one call, with what the call draws or changes done.

        A call runs this once, before `forward`; an average backward pass, which runs `forward`
        again, does not.
        """
        return self

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        """Return Jᵀ grad for each input, in the inputs' order.

        `needs[i]` says whether input i's gradient is wanted: where it is not, None may stand in its
        place. A gradient may have the broadcast shape of the output: the sweep sums it to the
        input's.
        """
        raise TypeError(f"{type(self).__name__}: the operation defines no backward")

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        """Return J̄ᵀ grad for each input, J̄ the Jacobian averaged from `start` to `end`."""
        raise AverageUndefinedError(
            f"{type(self).__name__}: the operation has no kind, so its averaged Jacobian is "
            "unknown; derive it from one of the kinds (Linear, Multilinear, Elementwise, "
            "Selection, Smooth) or define average_backward"
        )

    @property
    def without_average(self) -> "Operation | None":
        """The operation whose averaged Jacobian is unknown: this one, or None."""
        return self if type(self).average_backward is Operation.average_backward else None


class Linear(Operation):
    """J does not depend on the inputs: the averaged Jacobian is the Jacobian itself.

    `backward` must not use the values of `out` and `inputs`, only their shapes and dtypes.
    """

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        return self.backward(grad, needs, start.out, *start.inputs)


class Multilinear(Operation):
    """Linear (or affine) in each of `degree` factors: J has degree - 1 on the segment.

    Gauss-Legendre quadrature with ⌈degree / 2⌉ nodes is therefore exact. With two factors that is
    one node: the Jacobian at the midpoint. An input that enters twice counts as two factors.
    `backward` must not use `out`.
    """

    degree: int = 2

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        if self.degree == 2:
            inputs = map(midpoint, start.inputs, end.inputs)
            return self.backward(grad, needs, start.out, *inputs)
        return _mean_backward(self, grad, needs, start, end, nodes=(self.degree + 1) // 2)


class Elementwise(Operation):
    """y = f(x) element by element: J̄ is diagonal, the divided difference (f(b) - f(a)) / (b - a).

    Subclasses give `derivative` and `divided_difference`; the quotient itself cancels, so the
    latter is always a stable closed form (see `agrad.kernels.cpu.divided_difference` and, for
    activations, `agrad.kernels.cpu.activation`).
    """

    def derivative(self, out: Array, x: Array) -> Array:
        """Return f'(x), given also out = f(x)."""
        raise TypeError(f"{type(self).__name__}: the operation defines no derivative")

    def divided_difference(self, a: Array, b: Array) -> Array:
        """Return (f(b) - f(a)) / (b - a), and f'(a) where a and b are equal."""
        raise TypeError(f"{type(self).__name__}: the operation defines no divided difference")

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        return (grad * self.derivative(out, *inputs),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        return (grad * self.divided_difference(*start.inputs, *end.inputs),)


class Selection(Operation):
    """Each output is one of its candidates: J holds the candidates' shares of the choice.

    On the segment the choice is piecewise constant, so a candidate's averaged share is exactly the
    fraction of the segment on which it is chosen.
    """

    def shares(self, out: Array, *inputs: Array) -> Gradients:
        """Return for each input the share (0 to 1) with which it is chosen; ties share equally."""
        raise TypeError(f"{type(self).__name__}: the operation defines no shares")

    def average_shares(self, start: Point, end: Point) -> Gradients:
        """Return for each input the share averaged over the segment."""
        raise TypeError(f"{type(self).__name__}: the operation defines no average shares")

    def spread(self, grad: Array, *inputs: Array) -> Array:
        """Return `grad` in a shape that broadcasts against the shares."""
        return grad

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        grad = self.spread(grad, *inputs)
        return [grad * share for share in self.shares(out, *inputs)]

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        grad = self.spread(grad, *start.inputs)
        return [grad * share for share in self.average_shares(start, end)]


class Smooth(Operation):
    """A smooth function of one input, whose averaged Jacobian has no closed form worth writing.

    A few Gauss-Legendre nodes give J̄ nearly; the smallest change along x¹ - x⁰ that makes it map
    x¹ - x⁰ onto y¹ - y⁰ then restores completeness exactly. `axis` names the axes that the function
    couples (all where None): what lies along the others are independent problems, each corrected
    alone. The output has the input's shape, or that shape with `axis` reduced.
    """

    nodes: int = 3
    axis: int | tuple[int, ...] | None = None

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x_grad,) = _mean_backward(self, grad, needs, start, end, self.nodes)
        return (x_grad + self._correction(x_grad, grad, start, end),)

    def _correction(self, x_grad: Array, grad: Array, start: Point, end: Point) -> Array:
        # An infinity that stays the same does not move.
        x0, x1, y0, y1 = map(finite_part, (*start.inputs, *end.inputs, start.out, end.out))
        step = x1 - x0
        # Scaled by its largest entry, the square of the step can neither underflow nor overflow.
        scale = largest(np.abs(step), self.axis)
        scale = np.where(scale > 0, scale, 1)
        unit = step / scale

        def over_axis(values: Array) -> Array:
            if values.shape == step.shape:
                return values.sum(axis=self.axis, keepdims=True)
            return values.reshape(scale.shape)

        missing = over_axis(grad * (y1 - y0)) - over_axis(x_grad * step)
        # y¹ - y⁰ is a difference of rounded values: what rounding explains is no evidence against
        # the quadrature, and divided by a small step it would swamp the gradient.
        rounding = over_axis(np.abs(grad) * (np.abs(y0) + np.abs(y1)))
        rounding += over_axis(np.abs(x_grad) * (np.abs(x0) + np.abs(x1)))
        noise = 4 * np.finfo(step.dtype).eps * rounding
        missing = np.where(np.abs(missing) > noise, missing, 0)
        return missing / scale / np.maximum(over_axis(unit * unit), 1) * unit


def _mean_backward(
    operation: Operation,
    grad: Array,
    needs: tuple[bool, ...],
    start: Point,
    end: Point,
    nodes: int,
) -> list[Any]:
    """Average Jᵀ grad over the segment by Gauss-Legendre quadrature."""
    total: list[Any] = [None] * len(needs)
    for position, weight in gauss_legendre(nodes):
        inputs = [_between(x0, x1, position) for x0, x1 in zip(start.inputs, end.inputs)]
        out = operation.forward(*inputs) if isinstance(operation, Smooth) else start.out
        part = operation.backward(as_array(weight * grad), needs, out, *inputs)
        for i, gradient in enumerate(part):
            if gradient is not None and needs[i]:
                total[i] = gradient if total[i] is None else total[i] + gradient
    return total


def midpoint(x0: Array, x1: Array) -> Array:
    """Return (x⁰ + x¹) / 2, which is x⁰ itself where nothing has moved."""
    return x0 if x0 is x1 else kernels(x0).dense.midpoint(x0, x1)


def _between(x0: Array, x1: Array, position: float) -> Array:
    """Return (1 - position) x⁰ + position x¹: no difference, which equal infinities do not have."""
    if x0 is x1:
        return x0
    x = (1 - position) * x0
    x += position * x1
    return as_array(x)
