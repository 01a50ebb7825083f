"""Arithmetic, powers, and selection between elements."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels, known_all
from agrad.ops.choice import Choice, require_unchanged
from agrad.ops.operation import (
    Apply,
    Elementwise,
    Gradients,
    Linear,
    Multilinear,
    Operation,
    Point,
    Selection,
    owned,
)

__all__ = [
    "Absolute",
    "Add",
    "Clip",
    "Divide",
    "FractionalPower",
    "Maximum",
    "Minimum",
    "Multiply",
    "Negative",
    "Power",
    "Reciprocal",
    "Remainder",
    "Sqrt",
    "Square",
    "Subtract",
    "Where",
]


Bound = Array | float | None


class Add(Linear):
    recordable = True

    def forward(self, x: Array, y: Array) -> Array:
        return np.add(x, y)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        return grad, grad


class Subtract(Linear):
    recordable = True

    def forward(self, x: Array, y: Array) -> Array:
        return np.subtract(x, y)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        return grad, -grad if needs[1] else None


class Negative(Linear):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.negative(x)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (-grad,)


class Multiply(Multilinear):
    recordable = True

    def forward(self, x: Array, y: Array) -> Array:
        return np.multiply(x, y)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        return grad * y if needs[0] else None, grad * x if needs[1] else None


class Divide(Operation):
    """x / y, averaged as the product of x and 1/y: bilinear in these two, elementwise in y."""

    recordable = True

    def forward(self, x: Array, y: Array) -> Array:
        return np.divide(x, y)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        return grad / y if needs[0] else None, -grad * (out / y) if needs[1] else None

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        dtype = start.out.dtype
        (x0, y0), (x1, y1) = (_in_dtype(dtype, *point.inputs) for point in (start, end))
        secant = kernels(y0).divided_difference.reciprocal
        x_grad = grad * ((1 / y0 + 1 / y1) / 2) if needs[0] else None
        y_grad = grad * ((x0 + x1) / 2 * secant(y0, y1)) if needs[1] else None
        return x_grad, y_grad


def _in_dtype(dtype: np.dtype[Any], *inputs: Any) -> list[Any]:
    """Return arrays or Tensors in the dtype of the output; in a narrower one, constants wrap."""
    return [x if x.dtype == dtype else x.astype(dtype) for x in inputs]


class Remainder(Operation):
    """x - y ⌊x / y⌋: linear as long as ⌊x / y⌋ is the same; where that changes, it jumps."""

    def forward(self, x: Array, y: Array) -> Array:
        return np.remainder(x, y)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        return grad, -grad * np.floor_divide(x, y) if needs[1] else None

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, y: Any
    ) -> Sequence[Any]:
        quotient = apply(Choice(np.floor_divide), x, y)
        return grad, -grad * quotient if needs[1] else None

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        changed = np.floor_divide(*start.inputs) != np.floor_divide(*end.inputs)
        require_unchanged("remainder", changed)
        return self.backward(grad, needs, start.out, *start.inputs)


class Power(Operation):
    """x ** y, averaged as the mean of two paths: either x or y moves first.

    Each path consists of divided differences in one input, so the mean is complete and symmetric in
    start and end. If only one input moves, the mean is the divided difference itself. An element
    whose power is finite at the corner of only one path (0 ** -1 is not) takes that path alone.

    As in PyTorch, the derivative with respect to y is 0 at x = 0 for y >= 0.
    """

    def forward(self, x: Array, y: Array) -> Array:
        return np.power(x, y)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        x_grad = y_grad = None
        x, y = _in_dtype(out.dtype, x, y)
        if needs[0]:
            # For y = 0 the derivative is 0 for any x; x⁻¹ must not turn it into NaN.
            x_grad = grad * (y * np.power(x, np.where(y == 0, y, y - 1)))
        if needs[1]:
            vanishes = (x == 0) & (y >= 0)
            y_grad = grad * np.where(vanishes, 0, out * np.log(np.where(vanishes, 1, x)))
        return x_grad, y_grad

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, y: Any
    ) -> Sequence[Any]:
        x_grad = y_grad = None
        x, y = _in_dtype(out.dtype, x, y)
        if needs[0]:
            # As in `backward`, but only where x⁻¹ would be infinite: this has a derivative by y.
            constant = (x == 0) & (y == 0)
            x_grad = grad * (y * np.power(x, np.where(constant, y, y - 1)))
        if needs[1]:
            vanishes = (x == 0) & (y >= 0)
            y_grad = np.where(vanishes, 0, grad * (out * np.log(np.where(vanishes, 1, x))))
        return x_grad, y_grad

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x0, y0), (x1, y1) = start.inputs, end.inputs
        secants = kernels(x0).power
        x_grad = y_grad = None
        if needs[0]:
            x_grad = grad * _mean_over_ends(lambda y: secants.in_base(x0, x1, y), y0, y1)
        if needs[1]:
            y_grad = grad * _mean_over_ends(lambda x: secants.in_exponent(y0, y1, x), x0, x1)
        if x0 is x1 or y0 is y1:
            return x_grad, y_grad
        with np.errstate(all="ignore"):
            x_first, y_first = (
                np.isfinite(self.forward(*corner)) for corner in ((x1, y0), (x0, y1))
            )
        if known_all(x_first == y_first):
            return x_grad, y_grad

        def on_one_path(mean: Any, x_moves_first: Array, y_moves_first: Array) -> Array:
            alone = np.where(x_first, x_moves_first, y_moves_first)
            return np.where(x_first == y_first, mean, grad * alone)

        if needs[0]:
            x_grad = on_one_path(x_grad, *(secants.in_base(x0, x1, y) for y in (y0, y1)))
        if needs[1]:
            y_grad = on_one_path(y_grad, *(secants.in_exponent(y0, y1, x) for x in (x1, x0)))
        return x_grad, y_grad


def _mean_over_ends(function: Callable[[Array], Array], start: Array, end: Array) -> Array:
    return function(start) if start is end else (function(start) + function(end)) / 2


class FractionalPower(Operation):
    """x ** exponent for x >= 0 and a constant exponent below 1; the gradient at 0 counts as 0."""

    recordable = True

    def __init__(self, exponent: float) -> None:
        self.exponent = float(exponent)  # a scalar of NumPy would change the dtype

    def forward(self, x: Array) -> Array:
        return np.power(x, self.exponent)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        zero = x == 0
        slope = self.exponent * np.power(np.where(zero, 1, x), self.exponent - 1)
        return (grad * np.where(zero, 0, slope),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x0,), (x1,) = start.inputs, end.inputs
        zero = (x0 == 0) & (x1 == 0)
        exponent = np.asarray(self.exponent, x0.dtype, like=x0)
        slope = kernels(x0).power.in_base(*(np.where(zero, 1, x) for x in (x0, x1)), exponent)
        return (grad * np.where(zero, 0, slope),)


class Square(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.square(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return 2 * x

    def divided_difference(self, a: Array, b: Array) -> Array:
        return a + b


class Sqrt(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.sqrt(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return 0.5 / out

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.sqrt(a, b)
        return slope


class Reciprocal(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.reciprocal(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return -out * out

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.reciprocal(a, b)
        return slope


class Absolute(Elementwise):
    def forward(self, x: Array) -> Array:
        return np.abs(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return np.sign(x)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (np.where(x > 0, grad, np.where(x < 0, -grad, 0)),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.absolute(a, b)
        return slope


class Clip(Elementwise):
    """x clipped to [low, high], which are numbers, arrays or None; at a bound the slope is 1."""

    def __init__(self, low: Bound = None, high: Bound = None) -> None:
        self.low = owned(low)
        self.high = owned(high)

    def forward(self, x: Array) -> Array:
        return np.clip(x, self.low, self.high)

    def derivative(self, out: Array, x: Array) -> Array:
        slope: Array = x == out
        return slope

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (np.where(x == out, grad, 0),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        # A quotient of two lengths: only inputs and bounds are subtracted, and those are exact.
        # Halved, finite numbers have finite differences, but subnormal neighbours become equal.
        clipped = self.forward(a)
        with np.errstate(invalid="ignore"):
            gap = b / 2 - a / 2
            still = (a == b) | (gap == 0)
            quotient = (self.forward(b) / 2 - clipped / 2) / np.where(still, 1, gap)
        return np.where(still, clipped == a, quotient)


class Maximum(Selection):
    """The larger of x and y; equal elements share the gradient."""

    def forward(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    def shares(self, out: Array, x: Array, y: Array) -> Gradients:
        return _shares_of_larger(x, y)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, y: Any
    ) -> Sequence[Any]:
        return _recorded_shares(grad, needs, x > y, x == y)

    def average_shares(self, start: Point, end: Point) -> Gradients:
        return _average_shares_of_larger(start.inputs, end.inputs)


class Minimum(Selection):
    """The smaller of x and y; equal elements share the gradient."""

    def forward(self, x: Array, y: Array) -> Array:
        return np.minimum(x, y)

    def shares(self, out: Array, x: Array, y: Array) -> Gradients:
        return _shares_of_larger(y, x)  # x is the smaller exactly where y is the larger

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, y: Any
    ) -> Sequence[Any]:
        return _recorded_shares(grad, needs, x < y, x == y)

    def average_shares(self, start: Point, end: Point) -> Gradients:
        return _average_shares_of_larger(start.inputs[::-1], end.inputs[::-1])


def _shares_of_larger(x: Array, y: Array) -> tuple[Array, Array]:
    share = np.result_type(x, y).type(0.5) * np.add(x > y, x >= y, dtype=np.int8)
    return share, 1 - share


def _recorded_shares(grad: Any, needs: tuple[bool, ...], first: Any, both: Any) -> Sequence[Any]:
    """Return the gradient of two candidates, given where the first or both are selected."""
    share = np.where(both, 0.5 * grad, 0)
    x_grad = np.where(first, grad, share) if needs[0] else None
    y_grad = np.where(first, 0, np.where(both, share, grad)) if needs[1] else None
    return x_grad, y_grad


def _average_shares_of_larger(
    start: tuple[Array, ...], end: tuple[Array, ...]
) -> tuple[Array, Array]:
    rows = [np.stack(np.broadcast_arrays(*inputs), axis=-1) for inputs in (start, end)]
    shares = kernels(rows[0]).selection.average_shares(*rows)
    return shares[..., 0], shares[..., 1]


class Where(Linear):
    """x where the condition holds, y elsewhere; `choices` are what the condition was made from."""

    def __init__(self, condition: Array) -> None:
        self.condition = owned(condition)

    def forward(self, x: Array, y: Array, *choices: Array) -> Array:
        return np.where(self.condition, x, y)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array, *choices: Array
    ) -> Gradients:
        x_grad = np.where(self.condition, grad, 0) if needs[0] else None
        y_grad = np.where(self.condition, 0, grad) if needs[1] else None
        return x_grad, y_grad, *[None] * len(choices)

    def recorded_backward(
        self,
        apply: Apply,
        grad: Any,
        needs: tuple[bool, ...],
        out: Any,
        x: Any,
        y: Any,
        *choices: Any,
    ) -> Sequence[Any]:
        x_grad = apply(self, grad, 0, *choices) if needs[0] else None
        y_grad = apply(self, 0, grad, *choices) if needs[1] else None
        return x_grad, y_grad, *[None] * len(choices)
