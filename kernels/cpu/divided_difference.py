"""Divided differences that do not cancel: (f(b) - f(a)) / (b - a), and f'(a) where a equals b.

The divided difference is the mean of f' over the segment from a to b. Taken literally, the quotient
loses a digit for each digit that f(a) and f(b) have in common. The formulas here subtract nothing
but their inputs, which are exact; otherwise they add terms of one sign, multiply and divide.
Four ideas carry almost all of them:

- *Factor the larger end out.* e^b - e^a = e^b (1 - e^(a - b)), and `expm1` knows 1 - e^(a - b).
  In the same way `log1p` knows log b - log a.
- *Cut where the formula changes*, at a kink or at zero. The mean over a segment is the mean of the
  means over its two parts, weighted by their shares P above and N below.
- *Reflect.* Where f(x) = x + f(-x), as for softplus, SiLU and GELU, the difference over (a, b) is
  1 minus that over (-a, -b), which is small: only x < 0 needs a formula.
- *Compose.* f(g(x)) has the product of two divided differences, that of f taken between g(a)
  and g(b).

Accuracy: within 4 ulps of the exact result for the inputs as given, over all magnitudes; within 5
for tanh, sigmoid, softplus, SiLU, GELU and powers. Where the result passes through zero without a
factor that does, the docstring names the scale that the error is relative to. float32 is evaluated
in double precision and rounded once, except by tanh, which has a formula in single precision. NaN
gives NaN. An infinite end gives the limit where there is one, otherwise NaN. At a kink, a = b gives
what ordinary backward takes.

Every function takes arrays a and b of one shape and one dtype, float32 or float64, with any
strides, then the constants of f as numbers; it returns a new array of that shape and dtype.
In the docstrings d = |b - a|, and l and h are the lower and the higher end.

    >>> a = np.array([0.0, 1.0, 50.0])
    >>> tanh(a, a + 1e-9)
    array([1.00000000e+00, 4.19974341e-01, 1.48803039e-43])
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import exponential
from .elementary_difference import (
    absolute,
    cos,
    exp,
    expm1,
    log,
    log1p,
    power,
    reciprocal,
    sin,
    sqrt,
    square,
)
from .gaussian import normal_below, normal_density
from .jit import elementwise, inline
from .segment import gap_of, halving, order, shares

__all__ = [
    "absolute",
    "clip",
    "cos",
    "elu",
    "exp",
    "expm1",
    "gelu",
    "leaky_relu",
    "log",
    "log1p",
    "power",
    "reciprocal",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "sin",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "tanh",
]

# Piecewise linear ---------------------------------------------------------------------------------


@elementwise
def relu(a: float, b: float) -> float:
    """Divided difference of max(x, 0): P, the share of the segment above zero.

    A ratio of lengths. At a = b = 0: 0.

        >>> relu(np.array([-1.0]), np.array([3.0]))
        array([0.75])
    """
    return shares(a, b)[0]


@elementwise
def leaky_relu(a: float, b: float, negative_slope: float) -> float:
    """Divided difference of x above zero and s x below: P + s N.

    For s >= 0 a sum of positive terms; for s < 0 the error is relative to P + |s| N. At
    a = b = 0: s.

        >>> leaky_relu(np.array([-1.0]), np.array([3.0]), 0.5)
        array([0.875])
    """
    above, below = shares(a, b)
    return above + negative_slope * below


@elementwise
def _clip(a: float, b: float, lower: float, upper: float) -> float:
    low, high = order(a, b)
    if low != low or high != high:
        return math.nan
    if low == high:
        return 1.0 if lower <= low <= upper else 0.0
    start, end = max(low, lower), min(high, upper)
    if start >= end:
        return 0.0
    if math.isinf(start) or math.isinf(end):
        infinite_outside = (low < start and low == -math.inf) or (high > end and high == math.inf)
        return math.nan if infinite_outside else 1.0
    scale = halving(low, high)
    return (scale * end - scale * start) / (scale * high - scale * low)


def clip(
    a: NDArray[Any], b: NDArray[Any], lower: float | None = None, upper: float | None = None
) -> NDArray[Any]:
    """Divided difference of min(max(x, lower), upper): the share of the segment between the bounds.

    A ratio of two lengths, each a single subtraction of inputs. A bound that is None does not
    bind. At a = b on a bound: 1.

        >>> clip(np.array([-1.0]), np.array([3.0]), 0.0, 2.0)
        array([0.5])
    """
    return _clip(a, b, -math.inf if lower is None else lower, math.inf if upper is None else upper)


@elementwise
def softsign(a: float, b: float) -> float:
    """Divided difference of x / (1 + |x|): 1 / ((1 + |a|) (1 + |b|)) on one side of zero.

    Across zero P / (1 + h) + N / (1 - l), a sum of positive terms.

        >>> softsign(np.array([-1.0]), np.array([3.0]))
        array([0.3125])
    """
    low, high = order(a, b)
    if low >= 0 or high <= 0:
        return 1 / (1 + abs(low)) / (1 + abs(high))
    if math.isinf(low) and math.isinf(high):
        return 0.0
    above, below = shares(low, high)
    return above / (1 + high) + below / (1 - low)


# Exponentials -------------------------------------------------------------------------------------


@inline
def _expm1_over(x: float) -> float:
    """Return (e^x - 1) / x for x <= 0."""
    return 1.0 if x == 0 else math.expm1(x) / x


_ZERO, _HALF, _ONE, _TWO, _FOUR, _HUNDRED = map(np.float32, (0, 0.5, 1, 2, 4, 100))


@elementwise
def tanh(a: float, b: float) -> float:
    """Divided difference of tanh: 2 s (1 - e^-2d) / (d (1 + e^-2|a|) (1 + e^-2|b|)).

    s is e^-2|x| at the end x nearer to zero, or 1 across zero. A product of positive factors. The
    power of two in s comes last and in halves, so that nothing underflows before the result.

        >>> tanh(np.array([-1.0]), np.array([1.0]))
        array([0.76159416])
    """
    power_a, rest_a = exponential.split_exp(max(-2 * abs(a), -1400.0))
    power_b, rest_b = exponential.split_exp(max(-2 * abs(b), -1400.0))
    scale_a = exponential.power_of_two(max(power_a, -1000.0))
    scale_b = exponential.power_of_two(max(power_b, -1000.0))
    one_plus = 1 + (scale_a + scale_a * rest_a)
    both_one_plus = one_plus + one_plus * (scale_b + scale_b * rest_b)
    power, rest = (power_a, rest_a) if abs(a) < abs(b) else (power_b, rest_b)
    power, rest = (power, rest) if a * b > 0 else (0.0, 0.0)
    half_gap = abs(0.5 * b - 0.5 * a)
    drop = -exponential.expm1(-4 * half_gap)
    drop, half_gap = (drop, half_gap) if half_gap > 0 else (4.0, 1.0)
    mean = (drop + drop * rest) / (half_gap * both_one_plus)
    half_power = exponential.round_to_integer(0.5 * power)
    mean *= exponential.power_of_two(half_power)
    return mean * exponential.power_of_two(power - half_power)


@tanh.for_float32
def _tanh_for_float32(a, b):
    """The same product in single precision."""
    power_a, rest_a = exponential.split_single_exp(-_TWO * abs(a))
    power_b, rest_b = exponential.split_single_exp(-_TWO * abs(b))
    scale_a = exponential.single_power_of_two(max(power_a, -_HUNDRED))
    scale_b = exponential.single_power_of_two(max(power_b, -_HUNDRED))
    one_plus = _ONE + (scale_a + scale_a * rest_a)
    both_one_plus = one_plus + one_plus * (scale_b + scale_b * rest_b)
    power, rest = (power_a, rest_a) if abs(a) < abs(b) else (power_b, rest_b)
    power, rest = (power, rest) if (a > _ZERO) == (b > _ZERO) else (_ZERO, _ZERO)
    half_gap = abs(_HALF * b - _HALF * a)
    gap_power, gap_rest = exponential.split_single_exp(-_FOUR * half_gap)
    gap_scale = exponential.single_power_of_two(max(gap_power, -_HUNDRED))
    drop = (_ONE - gap_scale) - gap_scale * gap_rest
    drop, half_gap = (drop, half_gap) if half_gap > _ZERO else (_FOUR, _ONE)
    mean = (drop + drop * rest) / (half_gap * both_one_plus)
    half_power = exponential.round_single_to_integer(_HALF * power)
    mean *= exponential.single_power_of_two(half_power)
    return mean * exponential.single_power_of_two(power - half_power)


@elementwise
def sigmoid(a: float, b: float) -> float:
    """Divided difference of 1 / (1 + e^-x) = (1 + tanh(x / 2)) / 2: a quarter of tanh's at halves.

    >>> sigmoid(np.array([-2.0]), np.array([2.0]))
    array([0.19039854])
    """
    return 0.25 * tanh(0.5 * a, 0.5 * b)


@inline
def _softplus_below(low: float, high: float) -> float:
    """Softplus for low <= high <= 0."""
    gap = gap_of(low, high)
    weight = math.exp(high) / (1 + math.exp(low))
    growth = -weight * math.expm1(-gap)
    return math.log1p(growth) / gap if growth > 1e-290 else weight * _expm1_over(-gap)


@elementwise
def softplus(a: float, b: float) -> float:
    """Divided difference of log(1 + e^x): below zero log1p((e^h - e^l) / (1 + e^l)) / d.

    Above zero the reflection, 1 minus at most 1/2; across zero the two, weighted by N and P.

        >>> softplus(np.array([-1.0]), np.array([1.0]))
        array([0.5])
    """
    low, high = order(a, b)
    above, below = shares(low, high)
    left = _softplus_below(min(low, 0.0), min(high, 0.0))
    right = 1 - _softplus_below(min(-high, 0.0), min(-low, 0.0))
    return below * left + above * right


@elementwise
def elu(a: float, b: float, alpha: float) -> float:
    """Divided difference of x above zero and alpha (e^x - 1) below: P + N alpha E(a-, b-).

    E is that of exp, x- = min(x, 0). For alpha >= 0 a sum of positive terms; for alpha < 0 the
    error is relative to P + N |alpha| E. At a = b = 0: alpha.

        >>> elu(np.array([-1.0]), np.array([1.0]), 1.0)
        array([0.81606028])
    """
    above, below = shares(a, b)
    return above + below * (alpha * exp(min(a, 0.0), min(b, 0.0)))


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@elementwise
def selu(a: float, b: float) -> float:
    """Divided difference of SELU (Klambauer et al., 2017): that of ELU, scaled.

    >>> selu(np.array([-1.0]), np.array([1.0]))
    array([1.08101586])
    """
    return _SELU_SCALE * elu(a, b, _SELU_ALPHA)


@inline
def _silu_below(low: float, high: float) -> float:
    """SiLU for low <= high <= 0, e^high in front: twice its root, for it underflows first."""
    if high < -2000:
        return 0.0
    gap = gap_of(low, high)
    slope = math.exp(-gap) + high * _expm1_over(-gap) / (1 + math.exp(high))
    root = math.exp(0.5 * high)
    return root * (root * (slope / (1 + math.exp(low))))


@elementwise
def silu(a: float, b: float) -> float:
    """Divided difference of x sigmoid(x): below zero sigmoid(l) + h S, with S the sigmoid's.

    Above zero the reflection; across zero P sigmoid(h) + N sigmoid(l), all positive. The
    derivative is 0 at -1.278, so below zero the error is relative to sigmoid(l) + |h| S.

        >>> silu(np.array([-1.0]), np.array([1.0]))
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


# Gaussian -----------------------------------------------------------------------------------------

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_NODES, _WEIGHTS = (1 + _NODES) / 2, _WEIGHTS / 2


@inline
def _mean_density(low: float, high: float) -> float:
    """Return the mean of the normal density for low <= high <= 0.

    Where it falls by less than e^-4 from h to l, Gauss-Legendre of its ratio to that at h, exact
    to 1e-17; elsewhere Phi(h) - Phi(l), where at most a fiftieth cancels.
    """
    gap = gap_of(low, high)
    if gap * (-low - high) > 8:
        return (normal_below(high) - normal_below(low)) / gap
    ratio = 0.0
    for node, weight in zip(_NODES, _WEIGHTS):
        x = gap * node
        ratio += weight * math.exp(-x * (0.5 * x - high))
    return ratio * normal_density(high)


@inline
def _gelu_below(low: float, high: float) -> float:
    return 0.0 if high < -40 else normal_below(low) + high * _mean_density(low, high)


@elementwise
def gelu(a: float, b: float) -> float:
    """Divided difference of x Phi(x): below zero Phi(l) + h D, D the mean normal density.

    Above zero the reflection; across zero P Phi(h) + N Phi(l), all positive. The derivative is 0
    at -0.752, so below zero the error is relative to Phi(l) + |h| D, or to 1e-300 if that is more.

        >>> gelu(np.array([-1.0]), np.array([1.0]))
        array([0.5])
    """
    if a != a or b != b:
        return math.nan
    low, high = order(a, b)
    if high <= 0:
        return _gelu_below(low, high)
    if low >= 0:
        return 1 - _gelu_below(-high, -low)
    above, below = shares(low, high)
    return above * (1 - normal_below(-high)) + below * normal_below(low)
