"""Sigmoid, SiLU and softplus: value, derivative and average.

Values and derivatives are computed in the precision of their argument, from e^-|x|, which is 0
where it would be subnormal. Their formulas do without branches and calls of libm, so that LLVM
vectorizes the loops. Softplus has its value and its derivative in agrad/ops/activation.py: they are
a few calls of NumPy, the same on both devices.

The averages are divided differences; `divided_difference` says what all of these accept, how
accurate they are, and what d, l, h, P and N stand for.
"""

import math

import numpy as np

from .exponential import exp, expm1, power_of_two, round_to_integer, single_exp, split_exp
from .jit import Array, elementwise, inline, kernel
from .segment import gap_of, order, shares

__all__ = [
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_divided_difference",
    "silu",
    "silu_backward",
    "silu_divided_difference",
    "softplus_divided_difference",
]

# Sigmoid ------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e⁻ˣ) for float32 or float64 x, within 3 ulps.

    Example:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    out = np.empty(x.shape, x.dtype)
    _sigmoid(x.ravel(), out.ravel())
    return out


def sigmoid_backward(grad: Array, out: Array) -> Array:
    """Return grad · out · (1 - out), for out = sigmoid x: arrays of one shape and dtype.

    Example:
        >>> sigmoid_backward(np.array([8.0, 8.0]), np.array([0.5, 1.0]))
        array([2., 0.])
    """
    x_grad = np.empty(out.shape, out.dtype)
    _sigmoid_backward(grad.ravel(), out.ravel(), x_grad.ravel())
    return x_grad


@kernel("const real[:], real[:]")
def _sigmoid(x: Array, out: Array) -> None:
    real = out.dtype.type
    for i in range(out.size):
        size = abs(x[i])
        small = real(single_exp(-size) if x.itemsize == 4 else exp(-size))
        out[i] = (small if x[i] < 0 else real(1)) / (real(1) + small)


@kernel("const real[:], const real[:], real[:]")
def _sigmoid_backward(grad: Array, out: Array, x_grad: Array) -> None:
    real = out.dtype.type
    for i in range(out.size):
        x_grad[i] = grad[i] * (out[i] * (real(1) - out[i]))


@elementwise
def sigmoid_divided_difference(a: float, b: float) -> float:
    """Divided difference of sigmoid: s (1 - e^-d) / (d (1 + e^-|a|) (1 + e^-|b|)).

    s is e^-|x| at the end x nearer to zero, or 1 across zero. A product of positive factors, like
    that of tanh.

        >>> sigmoid_divided_difference(np.array([-2.0]), np.array([2.0]))
        array([0.19039854])
    """
    power_a, rest_a = split_exp(max(-abs(a), -1400.0))
    power_b, rest_b = split_exp(max(-abs(b), -1400.0))
    scale_a = power_of_two(max(power_a, -1000.0))
    scale_b = power_of_two(max(power_b, -1000.0))
    one_plus = 1 + (scale_a + scale_a * rest_a)
    both_one_plus = one_plus + one_plus * (scale_b + scale_b * rest_b)
    power, rest = (power_a, rest_a) if abs(a) < abs(b) else (power_b, rest_b)
    power, rest = (power, rest) if a * b > 0 else (0.0, 0.0)
    quarter_gap = abs(0.25 * b - 0.25 * a)
    drop = -expm1(-4 * quarter_gap)
    drop, quarter_gap = (drop, quarter_gap) if quarter_gap > 0 else (4.0, 1.0)
    mean = (drop + drop * rest) / (quarter_gap * both_one_plus)
    half_power = round_to_integer(0.5 * power)
    mean *= power_of_two(half_power)
    return 0.25 * (mean * power_of_two(power - half_power))


# SiLU ---------------------------------------------------------------------------------------------


def silu(x: Array) -> Array:
    """Return x / (1 + e⁻ˣ) for float32 or float64 x, within 3 ulps.

    Example:
        >>> silu(np.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.26894142,  0.        ,  0.73105858])
    """
    out = np.empty(x.shape, x.dtype)
    _silu(x.ravel(), out.ravel())
    return out


def silu_backward(grad: Array, x: Array) -> Array:
    """Return grad times the derivative of `silu`: arrays of one shape and dtype.

    Example:
        >>> silu_backward(np.array([8.0, 1.0]), np.array([0.0, 1.0])).round(8)
        array([4.        , 0.92767051])
    """
    x_grad = np.empty(x.shape, x.dtype)
    _silu_backward(grad.ravel(), x.ravel(), x_grad.ravel())
    return x_grad


@kernel("const real[:], real[:]")
def _silu(x: Array, out: Array) -> None:
    real = out.dtype.type
    for i in range(out.size):
        size = abs(x[i])
        small = real(single_exp(-size) if x.itemsize == 4 else exp(-size))
        out[i] = x[i] * ((small if x[i] < 0 else real(1)) / (real(1) + small))


@kernel("const real[:], const real[:], real[:]")
def _silu_backward(grad: Array, x: Array, x_grad: Array) -> None:
    real = x.dtype.type
    for i in range(x.size):
        size = abs(x[i])
        small = real(single_exp(-size) if x.itemsize == 4 else exp(-size))
        near, far = real(1) / (real(1) + small), small / (real(1) + small)
        share, rest = (far, near) if x[i] < 0 else (near, far)
        x_grad[i] = grad[i] * (share * (real(1) + x[i] * rest))


@inline
def _expm1_over(x: float) -> float:
    """Return (e^x - 1) / x for x <= 0."""
    return 1.0 if x == 0 else math.expm1(x) / x


@inline
def _silu_below(low: float, high: float) -> float:
    """SiLU for low <= high <= 0, e^high factored out: twice its root, as it underflows first."""
    if high < -2000:
        return 0.0
    gap = gap_of(low, high)
    slope = math.exp(-gap) + high * _expm1_over(-gap) / (1 + math.exp(high))
    root = math.exp(0.5 * high)
    return root * (root * (slope / (1 + math.exp(low))))


@elementwise
def silu_divided_difference(a: float, b: float) -> float:
    """Divided difference of SiLU: below zero sigmoid(l) + h S, with S the sigmoid's.

    Above zero the reflection; across zero P sigmoid(h) + N sigmoid(l), all positive. The
    derivative is 0 at -1.278, so below zero the error is relative to sigmoid(l) + |h| S.

        >>> silu_divided_difference(np.array([-1.0]), np.array([1.0]))
        array([0.5])
    """
    if a != a or b != b:
        return math.nan
    low, high = order(a, b)
    if high <= 0:
        return _silu_below(low, high)
    if low >= 0:
        return 1 - _silu_below(-high, -low)
    above, below = shares(low, high)
    exp_low = math.exp(low)
    return above / (1 + math.exp(-high)) + below * (exp_low / (1 + exp_low))


# Softplus -----------------------------------------------------------------------------------------


@inline
def _softplus_below(low: float, high: float) -> float:
    """Softplus for low <= high <= 0."""
    gap = gap_of(low, high)
    weight = math.exp(high) / (1 + math.exp(low))
    growth = -weight * math.expm1(-gap)
    return math.log1p(growth) / gap if growth > 1e-290 else weight * _expm1_over(-gap)


@elementwise
def softplus_divided_difference(a: float, b: float) -> float:
    """Divided difference of log(1 + e^x): below zero log1p((e^h - e^l) / (1 + e^l)) / d.

    Above zero the reflection, 1 minus at most 1/2; across zero the two, weighted by N and P.

        >>> softplus_divided_difference(np.array([-1.0]), np.array([1.0]))
        array([0.5])
    """
    low, high = order(a, b)
    above, below = shares(low, high)
    left = _softplus_below(min(low, 0.0), min(high, 0.0))
    right = 1 - _softplus_below(min(-high, 0.0), min(-low, 0.0))
    return below * left + above * right
