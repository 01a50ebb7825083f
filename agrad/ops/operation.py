"""Operations, and the kinds that determine their averaged Jacobians.

An operation is a function of arrays. It defines how to compute its output (`forward`) and how to
pull a gradient back through its Jacobian J (`backward`: grad ↦ Jᵀ grad). The average backward pass
also needs the Jacobian averaged over the straight segment between the inputs' start and end values,

    J̄ = ∫₀¹ J(x⁰ + t (x¹ - x⁰)) dt,        hence        J̄ (x¹ - x⁰) = y¹ - y⁰   exactly.

Because of that last identity the averages of a whole graph telescope: the gradient ĝ that is swept
back meets ⟨ĝ, Δ⟩ = L(θ + Δ) - L(θ). The *kind* of an operation alone determines how to compute J̄,
so an operation normally derives from one of the kinds below and has no averaging code of its own.
One that derives from `Operation` directly has no kind, and an average backward pass through it
raises an error.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from agrad.backend import Array, as_array, finite_part, is_array, kernels, largest
from agrad.errors import AverageUndefinedError, HigherDerivativeError
from agrad.ops.quadrature import gauss_legendre
from agrad.ops.sums import sum_over

__all__ = [
    "Apply",
    "Elementwise",
    "Gradients",
    "Linear",
    "Multilinear",
    "Operation",
    "Point",
    "Requirement",
    "Selection",
    "Smooth",
    "midpoint",
    "owned",
]

_Parameter = TypeVar("_Parameter")
_UNCHANGING = frozenset([bool, int, float, str, type(None), type(...)])

Gradients = Sequence[Array | None]
"""One gradient for each input; None for inputs that need none."""

Apply = Callable[..., Any]
"""`agrad.core.tensor.apply`, which computes an operation on Tensors and records it."""

Requirement = tuple[Any, Callable[[], Exception]]
"""A condition, a bool or a boolean array of one element, and a function that makes its error."""


class Point(NamedTuple):
    """The inputs of an operation, and its output for them."""

    out: Array
    inputs: tuple[Array, ...]


class Operation:
    """A differentiable function of arrays, computed by a node of the graph.

    An instance holds the parameters of the function (an axis, a slope, a mask) but never the values
    that pass through it, so `forward` and `backward` can be evaluated again at any inputs. The
    parameters belong to it alone: a list or an array that the caller may change later is `owned`.

    Example:
        >>> from agrad.core.tensor import apply
        >>> class Root(Elementwise):
        ...     def requires(self, x):
        ...         yield (x >= 0).all(), lambda: ValueError(f"root: x has {x.min()}")
        ...
        ...     def forward(self, x):
        ...         return np.sqrt(x)
        >>> apply(Root(), np.array([4.0, -1.0]))
        Traceback (most recent call last):
        ValueError: root: x has -1.0
        in Root of inputs float64[2]
    """

    differentiable: bool = True
    """Whether it has gradients; if not, a graph keeps it for its outcome alone."""

    owns_gradients: bool = False
    """Whether its gradients have the inputs' shapes and share memory with nothing."""

    promotes: bool = True
    """Whether the inputs are numbers that are computed with together, so that scalars take the
    dtype of the others; False where one of them holds labels or places."""

    recordable: bool = False
    """Whether `backward` computes on Tensors, too. It consists of operators and NumPy's functions,
    and takes no choice by comparing Tensors that would have to be another at other inputs.

    A subclass that defines its own backward sets this again, or defines `recorded_backward`.
    """

    requires: Callable[..., Iterable[Requirement]] | None = None
    """What the inputs' values must satisfy, a method of them, or None if they may be anything.

    The method returns or yields a `Requirement` for each condition. It computes the conditions but
    never asks whether they hold: the engine asks once in each call, before `for_call`, and while a
    training step is recorded as a CUDA graph it defers the question until the graph has run. An
    average backward pass does not ask again.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        defined = vars(cls).keys()
        if not defined.isdisjoint(_BACKWARDS) and defined.isdisjoint(_RECORDED):
            cls.recordable = False
            cls.recorded_backward = Operation.recorded_backward  # type: ignore[method-assign]

    def forward(self, *inputs: Array) -> Array:
        """Return the output, which may be a view of an input. It must not change the inputs."""
        raise TypeError(f"{type(self).__name__}: the operation defines no forward")

    def for_call(self, *inputs: Array) -> "Operation":
        """Return the operation for one call, after drawing or changing what the call does.

        Each call runs this once, before `forward`. An average backward pass runs `forward` of the
        returned operation again, but not this.
        """
        return self

    def for_part(
        self, called: "Operation", whole: tuple[Array, ...], *inputs: Array
    ) -> "Operation":
        """Return the operation for a call on the first rows of a batch, see `agrad.ops.part`.

        Args:
            called: What `for_call` returned for the batch.
            whole: The inputs of that call.
            inputs: Their first rows, or the first entries along another axis.
        """
        return self.for_call(*inputs)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        """Return Jᵀ grad for each input, in the order of the inputs.

        `needs[i]` says whether input i needs a gradient; if not, its gradient may be None. A
        gradient may have the broadcast shape of the output: the sweep sums it to the input's.
        """
        raise TypeError(f"{type(self).__name__}: the operation defines no backward")

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        """Return what `backward` returns, computed by operations on Tensors, which are recorded.

        The graph of a gradient consists of these operations, so that it can be differentiated
        again. All arguments except `apply` are Tensors; `apply` computes an operation on Tensors.
        Operators and NumPy's functions on Tensors are recorded as well. Anything that changes with
        the values of the inputs must be computed from them: a comparison by an operator, which the
        graph remembers, rather than by a function such as np.sign.

        Raises:
            HigherDerivativeError: The operation is not `recordable`, and has no such method of its
                own.
        """
        if not self.recordable:
            raise HigherDerivativeError(
                f"{type(self).__name__}: the backward pass of the operation cannot be recorded, so "
                "it has no higher derivatives; define recorded_backward, or set recordable = True "
                "if backward consists of operators and NumPy's functions"
            )
        return self.backward(grad, needs, out, *inputs)

    def require_average(self) -> None:
        """Raise an AverageUndefinedError if the operation has no averaged Jacobian.

        An average backward pass asks every operation before it computes anything.
        """
        if type(self).average_backward is Operation.average_backward:
            raise AverageUndefinedError(
                f"{type(self).__name__}: the operation has no kind, so its averaged Jacobian is "
                "unknown; derive it from one of the kinds (Linear, Multilinear, Elementwise, "
                "Selection, Smooth) or define average_backward"
            )

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        """Return J̄ᵀ grad for each input, with J̄ the Jacobian averaged from `start` to `end`."""
        self.require_average()
        raise TypeError(f"{type(self).__name__}: the operation defines no average_backward")


_BACKWARDS = frozenset(["backward", "derivative", "shares"])
_RECORDED = frozenset(["recordable", "recorded_backward"])


class Linear(Operation):
    """J does not depend on the inputs, so the averaged Jacobian is the Jacobian itself.

    `backward` may use only the shapes and dtypes of `out` and `inputs`, not their values.
    """

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        return self.backward(grad, needs, start.out, *start.inputs)


class Multilinear(Operation):
    """Linear (or affine) in each of `degree` factors, so J is of degree - 1 along the segment.

    Gauss-Legendre quadrature with ⌈degree / 2⌉ nodes is therefore exact. For two factors one node
    suffices: the Jacobian at the midpoint. An input that enters twice counts as two factors.
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
    """y = f(x) elementwise: J̄ is diagonal, the divided difference (f(b) - f(a)) / (b - a).

    Subclasses define `derivative` and `divided_difference`. The quotient itself cancels, so the
    latter must be a stable closed form (see `agrad.kernels.cpu.divided_difference` and, for
    activations, `agrad.kernels.cpu.activation`).
    """

    def derivative(self, out: Array, x: Array) -> Array:
        """Return f'(x), given x and out = f(x)."""
        raise TypeError(f"{type(self).__name__}: the operation defines no derivative")

    def divided_difference(self, a: Array, b: Array) -> Array:
        """Return (f(b) - f(a)) / (b - a), or f'(a) where a and b are equal."""
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
    """Each output is one of several candidates, and J holds the candidates' shares in it.

    Along the segment the selection is piecewise constant, so the averaged share of a candidate is
    exactly the fraction of the segment on which it is selected.
    """

    def shares(self, out: Array, *inputs: Array) -> Gradients:
        """Return the share (0 to 1) of each input in the selection; ties share equally."""
        raise TypeError(f"{type(self).__name__}: the operation defines no shares")

    def average_shares(self, start: Point, end: Point) -> Gradients:
        """Return the share of each input, averaged over the segment."""
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
    """A smooth function of one input, whose averaged Jacobian has no practical closed form.

    A few Gauss-Legendre nodes approximate J̄. The smallest change along x¹ - x⁰ that makes it map
    x¹ - x⁰ to y¹ - y⁰ then restores completeness exactly. `axis` names the axes that the function
    couples (None for all). The other axes index independent problems, each corrected on its own.
    The output has the input's shape, or that shape with `axis` reduced.
    """

    nodes: int = 3
    axis: int | tuple[int, ...] | None = None

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x_grad,) = _mean_backward(self, grad, needs, start, end, self.nodes)
        return (x_grad + self._correction(x_grad, grad, start, end),)

    def _correction(self, x_grad: Array, grad: Array, start: Point, end: Point) -> Array:
        # An infinity that stays the same has not moved.
        x0, x1, y0, y1 = map(finite_part, (*start.inputs, *end.inputs, start.out, end.out))
        step = x1 - x0
        # After scaling by the largest entry, the square of the step cannot underflow or overflow.
        scale = largest(np.abs(step), self.axis)
        scale = np.where(scale > 0, scale, 1)
        unit = step / scale

        def over_axis(values: Array) -> Array:
            if values.shape == step.shape:
                return sum_over(values, self.axis, keepdims=True)
            return values.reshape(scale.shape)

        missing = over_axis(grad * (y1 - y0)) - over_axis(x_grad * step)
        # y¹ - y⁰ is a difference of rounded values. A gap that rounding explains does not speak
        # against the quadrature, and divided by a small step it would swamp the gradient.
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


def owned(parameter: _Parameter) -> _Parameter:
    """Return a parameter of an operation in a form that its giver cannot change.

    Lists become tuples. Arrays, and what NumPy makes an array of, become copies, which a captured
    function refuses to freeze.

    Example:
        >>> owned([0, np.array(1)])
        (0, array(1))
    """
    value: Any = parameter
    kind = type(value)
    if kind in _UNCHANGING or (kind is tuple and _UNCHANGING.issuperset(map(type, value))):
        return parameter
    if is_array(value):
        value = value.copy()
    elif isinstance(value, (tuple, list)):
        value = tuple(map(owned, value))
    elif isinstance(value, slice):
        value = slice(owned(value.start), owned(value.stop), owned(value.step))
    elif hasattr(value, "__array__") and not isinstance(value, np.generic):
        value = np.array(value)
    return value  # type: ignore[no-any-return]


def midpoint(x0: Array, x1: Array) -> Array:
    """Return (x⁰ + x¹) / 2, or x⁰ itself if it has not moved."""
    return x0 if x0 is x1 else kernels(x0).dense.midpoint(x0, x1)


def _between(x0: Array, x1: Array, position: float) -> Array:
    """Return (1 - position) x⁰ + position x¹, without the difference, NaN for equal infinities."""
    if x0 is x1:
        return x0
    x = (1 - position) * x0
    x += position * x1
    return as_array(x)
