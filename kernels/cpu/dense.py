"""What a dense layer does beside its products, in one pass over memory each.

Its bias is added, or its bias's gradient summed, in the pass of the activation that follows, if
one does for which there are loops here.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .exponential import DOUBLE, SINGLE, Precision
from .jit import at_the_place_of, inline, kernel

__all__ = ["add_bias", "midpoint", "relu", "sum_rows", "tanh"]

Array = NDArray[Any]

# So many rows are summed at a time, and then their sums: rounding grows with the larger number.
_ROWS = 256


def sum_rows(rows: Array) -> Array:
    """Return the sum (n,) of the rows of an array (m, n), float32 or float64.

    Example:
        >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    total = np.zeros(rows.shape[1], rows.dtype)
    _sum_rows(np.ascontiguousarray(rows), total)
    return total


def midpoint(a: Array, b: Array) -> Array:
    """Return (a + b) / 2 for arrays of one shape and dtype, float32 or float64.

    Example:
        >>> midpoint(np.array([1.0, 2.0]), np.array([3.0, 2.0]))
        array([2., 2.])
    """
    middle = np.empty(a.shape, a.dtype)
    _midpoint(a.ravel(), b.ravel(), middle.ravel())
    return middle


@kernel("const real[:], const real[:], real[:]")
def _midpoint(a, b, middle):
    half = middle.dtype.type(0.5)
    for i in range(middle.size):
        middle[i] = half * (a[i] + b[i])


def add_bias(z: Array, bias: Array) -> None:
    """Add `bias` (n,) to each row of a C-contiguous `z` (m, n), in place.

    Example:
        >>> z = np.zeros((2, 2))
        >>> add_bias(z, np.array([1.0, 2.0]))
        >>> z
        array([[1., 2.],
               [1., 2.]])
    """
    _add_bias(z, np.ascontiguousarray(bias))


@kernel("real[:, :], const real[:]")
def _add_bias(z, bias):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] += bias[j]


@kernel("const real[:, :], real[:]")
def _sum_rows(rows, total):
    part = np.empty_like(total)
    for start in range(0, rows.shape[0], _ROWS):
        part[:] = 0
        for i in range(start, min(start + _ROWS, rows.shape[0])):
            for j in range(total.size):
                part[j] += rows[i, j]
        total += part


# Activations --------------------------------------------------------------------------------------


class Formulas(NamedTuple):
    """An activation f element by element, for one dtype.

    Attributes:
        value: x ↦ f(x).
        pull: grad, f(x) ↦ grad · f'(x).
        average_pull: grad, a, f(a), b, f(b) ↦ grad times f's divided difference from a to b.
    """

    value: inline
    pull: inline
    average_pull: inline


class Activation:
    """The loops of an activation, alone and together with a dense layer's bias.

    All take C-contiguous arrays of one dtype, float32 or float64; what needs not be contiguous is
    copied if it is not.
    """

    def __init__(self, single: Formulas, double: Formulas) -> None:
        self._loops = {
            np.dtype(np.float32): _Loops("float32", single),
            np.dtype(np.float64): _Loops("float64", double),
        }

    def forward(self, x: Array) -> Array:
        """Return f(x).

        Example:
            >>> relu.forward(np.array([-1.0, 2.0]))
            array([0., 2.])
        """
        out = np.empty(x.shape, x.dtype)
        self._loops[x.dtype].forward(x.ravel(), out.ravel())
        return out

    def backward(self, grad: Array, out: Array) -> Array:
        """Return grad · f'(x), given out = f(x).

        Example:
            >>> tanh.backward(np.array([8.0, 8.0]), np.array([0.0, 0.5]))
            array([8., 6.])
        """
        x_grad = np.empty(out.shape, out.dtype)
        self._loops[out.dtype].backward(grad.ravel(), out.ravel(), x_grad.ravel())
        return x_grad

    def average_backward(self, grad: Array, a: Array, f_a: Array, b: Array, f_b: Array) -> Array:
        """Return grad times the divided difference (f(b) - f(a)) / (b - a), f'(a) where b is a.

        Example:
            >>> a, b = np.array([-1.0]), np.array([3.0])
            >>> relu.average_backward(np.array([8.0]), a, relu.forward(a), b, relu.forward(b))
            array([6.])
        """
        x_grad = np.empty(a.shape, a.dtype)
        arrays = (array.ravel() for array in (grad, a, f_a, b, f_b))
        self._loops[a.dtype].average_backward(*arrays, x_grad.ravel())
        return x_grad

    def forward_biased(self, z: Array, bias: Array, in_place: bool = False) -> Array:
        """Add `bias` (n,) to the rows of `z` (m, n), in place, and return f of them.

        With `in_place`, that takes the place of `z` too.

        Example:
            >>> z = np.zeros((1, 2))
            >>> relu.forward_biased(z, np.array([-1.0, 2.0])), z
            (array([[0., 2.]]), array([[-1.,  2.]]))
        """
        bias = np.ascontiguousarray(bias)
        if in_place:
            self._loops[z.dtype].forward_in_place(z, bias)
            return z
        out = np.empty(z.shape, z.dtype)
        self._loops[z.dtype].forward_biased(z, bias, out)
        return out

    def backward_biased(
        self, grad: Array, out: Array, room: Array | None = None
    ) -> tuple[Array, Array]:
        """Return grad · f'(z) (m, n) and the sum of its rows (n,), given out = f(z).

        The sum is put into `room`, if there is one.

        Example:
            >>> relu.backward_biased(np.array([[8.0], [8.0]]), np.array([[1.0], [0.0]]))
            (array([[8.],
                   [0.]]), array([8.]))
        """
        z_grad = np.empty(out.shape, out.dtype)
        bias_grad = np.empty(out.shape[1], out.dtype) if room is None else room
        self._loops[out.dtype].backward_biased(np.ascontiguousarray(grad), out, z_grad, bias_grad)
        return z_grad, bias_grad

    def average_backward_biased(
        self,
        grad: Array,
        a: Array,
        f_a: Array,
        b: Array,
        f_b: Array,
        room: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return what `average_backward` does (m, n), and the sum of its rows (n,).

        The sum is put into `room`, if there is one.

        Example:
            >>> a, b = np.array([[-1.0]]), np.array([[3.0]])
            >>> f_a, f_b = relu.forward(a), relu.forward(b)
            >>> relu.average_backward_biased(np.array([[8.0]]), a, f_a, b, f_b)
            (array([[6.]]), array([6.]))
        """
        z_grad = np.empty(a.shape, a.dtype)
        bias_grad = np.empty(a.shape[1], a.dtype) if room is None else room
        self._loops[a.dtype].average_backward_biased(
            np.ascontiguousarray(grad), a, f_a, b, f_b, z_grad, bias_grad
        )
        return z_grad, bias_grad


class _Loops:
    """The kernels of an activation for one dtype."""

    def __init__(self, real: str, formulas: Formulas) -> None:
        value, pull, average_pull = formulas
        vector, matrix = f"{real}[:]", f"{real}[:, :]"

        def compiled(template: Callable[..., Any], formula: inline, *kinds: str) -> Any:
            names = {"formula": formula, "np": np, "_ROWS": _ROWS}
            placed = at_the_place_of(formula.__wrapped__, template, names)
            return kernel(", ".join(kinds))(placed)

        read, table = f"const {vector}", f"const {matrix}"
        self.forward = compiled(_forward, value, read, vector)
        self.backward = compiled(_backward, pull, read, read, vector)
        self.average_backward = compiled(_average_backward, average_pull, *[read] * 5, vector)
        self.forward_biased = compiled(_forward_biased, value, matrix, read, matrix)
        self.forward_in_place = compiled(_forward_in_place, value, matrix, read)
        self.backward_biased = compiled(_backward_biased, pull, table, table, matrix, vector)
        self.average_backward_biased = compiled(
            _average_backward_biased, average_pull, *[table] * 5, matrix, vector
        )


# ruff: noqa: F821 -- `formula` is bound when a loop is copied.
# mypy: disable-error-code="name-defined, no-untyped-def"
def _forward(x, out):
    for i in range(out.size):
        out[i] = formula(x[i])


def _backward(grad, out, x_grad):
    for i in range(x_grad.size):
        x_grad[i] = formula(grad[i], out[i])


def _average_backward(grad, a, f_a, b, f_b, x_grad):
    for i in range(x_grad.size):
        x_grad[i] = formula(grad[i], a[i], f_a[i], b[i], f_b[i])


def _forward_biased(z, bias, out):
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            z[i, j] += bias[j]
            out[i, j] = formula(z[i, j])


def _forward_in_place(z, bias):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = formula(z[i, j] + bias[j])


def _backward_biased(grad, out, z_grad, bias_grad):
    bias_grad[:] = 0
    part = np.empty_like(bias_grad)
    for start in range(0, out.shape[0], _ROWS):
        part[:] = 0
        for i in range(start, min(start + _ROWS, out.shape[0])):
            for j in range(part.size):
                z_grad[i, j] = formula(grad[i, j], out[i, j])
                part[j] += z_grad[i, j]
        bias_grad += part


def _average_backward_biased(grad, a, f_a, b, f_b, z_grad, bias_grad):
    bias_grad[:] = 0
    part = np.empty_like(bias_grad)
    for start in range(0, a.shape[0], _ROWS):
        part[:] = 0
        for i in range(start, min(start + _ROWS, a.shape[0])):
            for j in range(part.size):
                z_grad[i, j] = formula(grad[i, j], a[i, j], f_a[i, j], b[i, j], f_b[i, j])
                part[j] += z_grad[i, j]
        bias_grad += part


# Numbers of single precision are exact in double, and leave single what is.
_ZERO, _HALF, _ONE, _TWO, _FOUR, _LARGE = map(np.float32, (0, 0.5, 1, 2, 4, 1e38))


def _relu() -> Formulas:
    @inline
    def value(x):
        return _ZERO if x <= 0 else x  # NaN passes

    @inline
    def pull(grad, out):
        return grad if out > 0 else _ZERO

    @inline
    def average_pull(grad, a, f_a, b, f_b):
        """The slope is the share of the segment above zero, a ratio of lengths."""
        scale = _HALF if max(abs(a), abs(b)) > _LARGE else _ONE
        above = scale * f_a + scale * f_b
        whole = scale * abs(a) + scale * abs(b)
        share = _ONE if above == whole else above / whole
        return grad * (_ZERO if whole == 0 else share)

    return Formulas(value, pull, average_pull)


def _tanh(precision: Precision) -> Formulas:
    split_exp, lowest, power_of_two, least, round_to_integer = precision

    @inline
    def value(x):
        """-E / (2 + E) for E = e^-2|x| - 1, with the sign of x: within 3 ulps."""
        power, rest = split_exp(max(-_TWO * abs(x), lowest))
        scale = power_of_two(max(power, least))
        minus_one = (scale - _ONE) + scale * rest
        return math.copysign(-minus_one / (_TWO + minus_one), x)

    @inline
    def pull(grad, out):
        return grad * (_ONE - out * out)

    @inline
    def average_pull(grad, a, f_a, b, f_b):
        """That of `divided_difference.tanh`, where 2 / (1 + e^-2|x|) is 1 + |tanh x|.

        Within 6 ulps, with the values as good as they are here.
        """
        power, rest = split_exp(max(-_TWO * min(abs(a), abs(b)), lowest))
        power, rest = (power, rest) if (a > 0) == (b > 0) else (_ZERO, _ZERO)
        half_gap = abs(_HALF * b - _HALF * a)
        gap_power, gap_rest = split_exp(max(-_FOUR * half_gap, lowest))
        gap_scale = power_of_two(max(gap_power, least))
        drop = (_ONE - gap_scale) - gap_scale * gap_rest
        drop, half_gap = (drop, half_gap) if half_gap > 0 else (_FOUR, _ONE)
        mean = (drop + drop * rest) * ((_ONE + abs(f_a)) * (_ONE + abs(f_b))) / (_FOUR * half_gap)
        half_power = round_to_integer(_HALF * power)
        mean *= power_of_two(half_power)
        return grad * (mean * power_of_two(power - half_power))

    return Formulas(value, pull, average_pull)


relu = Activation(single=_relu(), double=_relu())
tanh = Activation(single=_tanh(SINGLE), double=_tanh(DOUBLE))
