"""ReLU and tanh: value, derivative and average, and the loops that run them.

The average is the divided difference (f(b) - f(a)) / (b - a), the mean of f' over the segment from
a to b; `divided_difference` explains how such formulas avoid cancellation. In the docstrings here d
is |b - a|.

The formulas have neither branches nor calls of libm, so LLVM vectorizes the loops. The loops can
also serve a dense layer: they add its bias in the pass of the value, and sum its bias's gradient in
the pass of the derivative or of the average.

Other activations are in `piecewise` (leaky ReLU, ELU, SELU, softsign), `logistic` (sigmoid, SiLU,
softplus) and `gelu`.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .dense import ROWS
from .exponential import DOUBLE, SINGLE, Precision
from .jit import Array, Number, at_the_place_of, inline, kernel

__all__ = ["relu", "tanh"]


# Constants in single precision are exact in float64, and do not promote float32.
_ZERO, _HALF, _ONE, _TWO, _FOUR, _LARGE = map(np.float32, (0, 0.5, 1, 2, 4, 1e38))

# Formulas -----------------------------------------------------------------------------------------


class Formulas(NamedTuple):
    """The formulas of an activation f for one dtype.

    Attributes:
        value: x ↦ f(x).
        backward: grad, f(x) ↦ grad · f'(x).
        average_backward: grad, a, f(a), b, f(b) ↦ grad times f's divided difference from a to b.
    """

    value: inline[Any, Any]
    backward: inline[Any, Any, Any]
    average_backward: inline[Any, Any, Any, Any, Any, Any]


def _relu() -> Formulas:
    @inline
    def value(x: Number) -> Number:
        return _ZERO if x <= 0 else x  # NaN passes

    @inline
    def backward(grad: Number, out: Number) -> Number:
        return grad if out > 0 else _ZERO

    @inline
    def average_backward(grad: Number, a: Number, f_a: Number, b: Number, f_b: Number) -> Number:
        """The slope is the share of the segment above zero, a ratio of lengths: within 2 ulps.

        From -inf to inf, where there is no limit, it is 1.
        """
        scale = _HALF if max(abs(a), abs(b)) > _LARGE else _ONE
        above = scale * f_a + scale * f_b
        whole = scale * abs(a) + scale * abs(b)
        share = _ONE if above == whole else above / whole
        return grad * (_ZERO if whole == 0 else share)

    return Formulas(value, backward, average_backward)


def tanh_formulas(precision: Precision) -> Formulas:
    split_exp, lowest, power_of_two, least, round_to_integer = precision

    @inline
    def value(x: Number) -> float:
        """-E / (2 + E) for E = e^-2|x| - 1, with the sign of x: within 3 ulps."""
        power, rest = split_exp(max(-_TWO * abs(x), lowest))
        scale = power_of_two(max(power, least))
        minus_one = (scale - _ONE) + scale * rest
        return math.copysign(-minus_one / (_TWO + minus_one), x)

    @inline
    def backward(grad: Number, out: Number) -> Number:
        return grad * (_ONE - out * out)

    @inline
    def average_backward(grad: Number, a: Number, f_a: Number, b: Number, f_b: Number) -> Number:
        """The slope is s (1 - e^-2d) / (2d) (1 + |tanh a|) (1 + |tanh b|).

        s is e^-2|x| at the end x nearer to zero, or 1 across zero. The product comes from
        tanh b - tanh a = sinh(b - a) / (cosh a cosh b) and 1 + |tanh x| = 2 / (1 + e^-2|x|); all
        factors are positive. The power of two in s comes last and in halves, so that nothing
        underflows before the result does.

        Within 6 ulps, if the values are within their 3. If d is more than half of the largest
        number, a subnormal slope may come out as 0.
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
        x_grad: Number = grad * (mean * power_of_two(power - half_power))
        return x_grad

    return Formulas(value, backward, average_backward)


# Loops --------------------------------------------------------------------------------------------


class Activation:
    """The loops of an activation f, alone and with a dense layer's bias.

    All arrays of a call have one dtype, float32 or float64, and those of `forward`, `backward` and
    `average_backward` one shape and any strides. With a bias the arrays (m, n) are C-contiguous;
    only the incoming gradient and the bias may have any strides.
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
        self._loops[x.dtype].forward.compiled(x.ravel(), out.ravel())
        return out

    def backward(self, grad: Array, out: Array) -> Array:
        """Return grad · f'(x), given out = f(x).

        Example:
            >>> tanh.backward(np.array([8.0, 8.0]), np.array([0.0, 0.5]))
            array([8., 6.])
        """
        x_grad = np.empty(out.shape, out.dtype)
        self._loops[out.dtype].backward.compiled(grad.ravel(), out.ravel(), x_grad.ravel())
        return x_grad

    def average_backward(self, grad: Array, a: Array, f_a: Array, b: Array, f_b: Array) -> Array:
        """Return grad times the divided difference (f(b) - f(a)) / (b - a), f'(a) where a = b.

        Example:
            >>> a, b = np.array([-1.0]), np.array([3.0])
            >>> relu.average_backward(np.array([8.0]), a, relu.forward(a), b, relu.forward(b))
            array([6.])
        """
        x_grad = np.empty(a.shape, a.dtype)
        arrays = (array.ravel() for array in (grad, a, f_a, b, f_b))
        self._loops[a.dtype].average_backward.compiled(*arrays, x_grad.ravel())
        return x_grad

    def forward_biased(self, z: Array, bias: Array, in_place: bool = False) -> Array:
        """Add `bias` (n,) to each row of `z` (m, n), in place, and return f of the sum.

        With `in_place`, the result overwrites `z`.

        Example:
            >>> z = np.zeros((1, 2))
            >>> relu.forward_biased(z, np.array([-1.0, 2.0])), z
            (array([[0., 2.]]), array([[-1.,  2.]]))
        """
        bias = np.ascontiguousarray(bias)
        if in_place:
            self._loops[z.dtype].forward_in_place.compiled(z, bias)
            return z
        out = np.empty(z.shape, z.dtype)
        self._loops[z.dtype].forward_biased.compiled(z, bias, out)
        return out

    def backward_biased(
        self, grad: Array, out: Array, sum_out: Array | None = None
    ) -> tuple[Array, Array]:
        """Return grad · f'(z) (m, n) and the sum (n,) of its rows, given out = f(z).

        The sum is written to `sum_out`, if given.

        Example:
            >>> relu.backward_biased(np.array([[8.0], [8.0]]), np.array([[1.0], [0.0]]))
            (array([[8.],
                   [0.]]), array([8.]))
        """
        z_grad = np.empty(out.shape, out.dtype)
        bias_grad = np.empty(out.shape[1], out.dtype) if sum_out is None else sum_out
        self._loops[out.dtype].backward_biased.compiled(
            np.ascontiguousarray(grad), out, z_grad, bias_grad
        )
        return z_grad, bias_grad

    def average_backward_biased(
        self,
        grad: Array,
        a: Array,
        f_a: Array,
        b: Array,
        f_b: Array,
        sum_out: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return the result of `average_backward` (m, n) and the sum (n,) of its rows.

        The sum is written to `sum_out`, if given.

        Example:
            >>> a, b = np.array([[-1.0]]), np.array([[3.0]])
            >>> f_a, f_b = relu.forward(a), relu.forward(b)
            >>> relu.average_backward_biased(np.array([[8.0]]), a, f_a, b, f_b)
            (array([[6.]]), array([6.]))
        """
        z_grad = np.empty(a.shape, a.dtype)
        bias_grad = np.empty(a.shape[1], a.dtype) if sum_out is None else sum_out
        self._loops[a.dtype].average_backward_biased.compiled(
            np.ascontiguousarray(grad), a, f_a, b, f_b, z_grad, bias_grad
        )
        return z_grad, bias_grad


class _Loops:
    """The kernels of an activation for one dtype."""

    def __init__(self, real: str, formulas: Formulas) -> None:
        value, backward, average_backward = formulas
        vector, matrix = f"{real}[:]", f"{real}[:, :]"

        def compiled(
            template: Callable[..., None], formula: inline[*tuple[Any, ...]], *kinds: str
        ) -> Any:
            names = {"formula": formula, "np": np, "ROWS": ROWS}
            placed = at_the_place_of(formula.__wrapped__, template, names)
            return kernel(", ".join(kinds))(placed)

        read, table = f"const {vector}", f"const {matrix}"
        self.forward = compiled(_forward, value, read, vector)
        self.backward = compiled(_backward, backward, read, read, vector)
        self.average_backward = compiled(_average_backward, average_backward, *[read] * 5, vector)
        self.forward_biased = compiled(_forward_biased, value, matrix, read, matrix)
        self.forward_in_place = compiled(_forward_in_place, value, matrix, read)
        self.backward_biased = compiled(_backward_biased, backward, table, table, matrix, vector)
        self.average_backward_biased = compiled(
            _average_backward_biased, average_backward, *[table] * 5, matrix, vector
        )


# ruff: noqa: F821 -- `formula` is bound when a loop is copied.
if TYPE_CHECKING:
    formula: Callable[..., Any]


def _forward(x: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = formula(x[i])


def _backward(grad: Array, out: Array, x_grad: Array) -> None:
    for i in range(x_grad.size):
        x_grad[i] = formula(grad[i], out[i])


def _average_backward(
    grad: Array, a: Array, f_a: Array, b: Array, f_b: Array, x_grad: Array
) -> None:
    for i in range(x_grad.size):
        x_grad[i] = formula(grad[i], a[i], f_a[i], b[i], f_b[i])


def _forward_biased(z: Array, bias: Array, out: Array) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            z[i, j] += bias[j]
            out[i, j] = formula(z[i, j])


def _forward_in_place(z: Array, bias: Array) -> None:
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = formula(z[i, j] + bias[j])


def _backward_biased(grad: Array, out: Array, z_grad: Array, bias_grad: Array) -> None:
    part, sums = np.empty_like(bias_grad), np.zeros(bias_grad.size)
    for start in range(0, out.shape[0], ROWS):
        part[:] = 0
        for i in range(start, min(start + ROWS, out.shape[0])):
            for j in range(part.size):
                z_grad[i, j] = formula(grad[i, j], out[i, j])
                part[j] += z_grad[i, j]
        sums += part
    bias_grad[:] = sums


def _average_backward_biased(
    grad: Array, a: Array, f_a: Array, b: Array, f_b: Array, z_grad: Array, bias_grad: Array
) -> None:
    part, sums = np.empty_like(bias_grad), np.zeros(bias_grad.size)
    for start in range(0, a.shape[0], ROWS):
        part[:] = 0
        for i in range(start, min(start + ROWS, a.shape[0])):
            for j in range(part.size):
                z_grad[i, j] = formula(grad[i, j], a[i, j], f_a[i, j], b[i, j], f_b[i, j])
                part[j] += z_grad[i, j]
        sums += part
    bias_grad[:] = sums


SINGLE_RELU, SINGLE_TANH = _relu(), tanh_formulas(SINGLE)
relu = Activation(single=SINGLE_RELU, double=_relu())
tanh = Activation(single=SINGLE_TANH, double=tanh_formulas(DOUBLE))
