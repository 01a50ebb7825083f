"""Divided differences that do not cancel: (f(b) - f(a)) / (b - a), and f'(a) where a equals b.

The divided difference is the mean of f' over the segment from a to b. Taken literally, the quotient
loses a digit for each digit that f(a) and f(b) have in common. The formulas here subtract nothing
but their inputs, which are exact; beyond that they add terms of one sign, multiply and divide.
Four ideas carry almost all of them:

- *Factor out the larger end.* e^b - e^a = e^b (1 - e^(a - b)), and `expm1` knows 1 - e^(a - b).
  In the same way `log1p` knows log b - log a.
- *Cut where the formula changes*, at a kink or at zero. The mean over a segment is the mean of the
  means over its two parts, weighted by their shares P above and N below.
- *Reflect.* If f(x) = x + f(-x), as for softplus, SiLU and GELU, the difference over (a, b) is
  1 minus that over (-a, -b), which is small: only x < 0 needs a formula.
- *Compose.* f(g(x)) has the product of two divided differences, that of f taken between g(a)
  and g(b).

This page has the elementary functions. An activation has its divided difference beside its value
and its derivative, in `activation`.

Accuracy: within 4 ulps of the exact result for the inputs as given, over all magnitudes; within 5
for tanh's relatives sigmoid, softplus, SiLU and GELU and for powers, and 6 for tanh. If the result
passes through zero without a factor that does, the docstring names the scale that the error is
relative to. float32 is evaluated in double precision and rounded once; ReLU and tanh are evaluated
in single. NaN gives NaN. An infinite end gives the limit if there is one, otherwise NaN. At a kink,
a = b gives the slope of the ordinary backward pass.

Every function takes arrays a and b of one shape and one dtype, float32 or float64, with any
strides, then the constants of f as numbers; it returns a new array of that shape and dtype.
In the docstrings d = |b - a|, and l and h are the lower and the higher end.

    >>> a = np.array([0.0, 1.0, 50.0])
    >>> exp(a, a + 1e-9)
    array([1.00000000e+00, 2.71828183e+00, 5.18470553e+21])
"""

import math

import numpy as np

from .jit import Array, elementwise, inline
from .segment import gap_of, halving, order, shares

__all__ = [
    "absolute",
    "cos",
    "exp",
    "expm1",
    "log",
    "log1p",
    "power",
    "reciprocal",
    "sin",
    "sqrt",
    "square",
]


@elementwise
def absolute(a: float, b: float) -> float:
    """Divided difference of |x|: (a + b) / d across zero, otherwise the sign.

    a + b is rounded once; what cancels in it is exact. At a = b = 0: 0.

        >>> absolute(np.array([-1.0]), np.array([3.0]))
        array([0.5])
    """
    low, high = order(a, b)
    if low >= 0 or high <= 0:
        sign: float = np.sign(low + high)
        return sign
    if math.isinf(low) != math.isinf(high):
        return 1.0 if high == math.inf else -1.0
    scale = halving(low, high)
    return (scale * low + scale * high) / (scale * high - scale * low)


@elementwise
def exp(a: float, b: float) -> float:
    """Divided difference of e^x: e^h (1 - e^-d) / d, with the difference taken by `expm1`.

    >>> exp(np.array([0.0]), np.array([1.0]))
    array([1.71828183])
    """
    low, high = order(a, b)
    gap = gap_of(low, high)
    if gap == 0:
        return math.exp(high)
    drop = -math.expm1(-gap)
    if high <= 0:
        return math.exp(high) * (drop / gap)
    if high < 700:
        return math.exp(high) * drop / gap
    if high > 1500 and low > -math.inf:
        return math.inf
    root = math.exp(0.5 * high)  # e^h overflows before e^h / d
    return root * (root * drop / gap)


expm1 = exp


@elementwise
def square(a: float, b: float) -> float:
    """Divided difference of x^2: a + b.

    >>> square(np.array([-1.0]), np.array([3.0]))
    array([2.])
    """
    return a + b


@elementwise
def sqrt(a: float, b: float) -> float:
    """Divided difference of the square root: 1 / (sqrt(a) + sqrt(b)); NaN below zero.

    >>> sqrt(np.array([1.0]), np.array([9.0]))
    array([0.25])
    """
    return 1 / (math.sqrt(a) + math.sqrt(b))


@elementwise
def reciprocal(a: float, b: float) -> float:
    """Divided difference of 1 / x: -1 / (a b); mantissa and exponent apart if a b is extreme.

    >>> reciprocal(np.array([1.0]), np.array([4.0]))
    array([-0.25])
    """
    product = a * b
    if 1e-290 < abs(product) < 1e290 or product != product:
        return -1 / product
    mantissa_a, exponent_a = math.frexp(a)
    mantissa_b, exponent_b = math.frexp(b)
    return math.ldexp(-1 / (mantissa_a * mantissa_b), -exponent_a - exponent_b)


@elementwise
def log(a: float, b: float) -> float:
    """Divided difference of log: log1p(d / l) / d; NaN below zero.

    >>> log(np.array([1.0]), np.array([math.e]))
    array([0.58197671])
    """
    low, high = order(a, b)
    if not low >= 0:
        return math.nan
    if high == math.inf:
        return 0.0 if low > 0 else math.nan
    gap = high - low
    if gap == 0:
        return 1 / low
    ratio = gap / low
    if ratio == math.inf:  # or too far apart for anything to cancel
        return (math.log(high) - math.log(low)) / gap
    return math.log1p(ratio) / gap


@elementwise
def log1p(a: float, b: float) -> float:
    """Divided difference of log(1 + x): log1p(d / (1 + l)) / d; NaN below -1.

    >>> log1p(np.array([0.0]), np.array([1.0]))
    array([0.69314718])
    """
    low, high = order(a, b)
    if not low >= -1:
        return math.nan
    if high == math.inf:
        return 0.0 if low > -1 else math.nan
    gap = high - low
    if gap == 0:
        return 1 / (1 + low)
    ratio = gap / (1 + low)
    if ratio == math.inf:
        return (math.log1p(high) - math.log1p(low)) / gap
    return math.log1p(ratio) / gap


@inline
def _log_ratio(x: float, y: float) -> float:
    """Return log(y / x) for x, y > 0."""
    ratio = y / x
    if 0.5 < ratio < 2:
        return math.log1p((y - x) / x)
    if 1e-300 < ratio < 1e300:
        return math.log(ratio)
    return math.log(y) - math.log(x)


@inline
def _power_above(a: float, b: float, exponent: float) -> float:
    """`power` for a, b >= 0."""
    low, high = order(a, b)
    main, other = (high, low) if exponent > 0 else (low, high)
    slope: float
    if a == b:
        slope = exponent * main ** (exponent - 1)
        return slope
    if main == 0:
        return math.nan if other == math.inf else -math.inf
    if main == math.inf:
        slope = main ** (exponent - 1)
        return slope
    if other == math.inf:
        return 0.0
    growth = math.expm1(exponent * _log_ratio(main, other))
    whole: float = main**exponent
    if 1e-280 < whole < 1e280:
        return whole * growth / (other - main)
    root: float = main ** (0.5 * exponent)
    return root * (root * growth / (other - main))


@elementwise
def any_power(a: float, b: float, exponent: float) -> float:
    """`power`, without its special cases."""
    if a != a or b != b:
        return math.nan
    if exponent == 0:
        return 0.0
    if exponent == 1:
        return 1.0
    if a >= 0 and b >= 0:
        return _power_above(a, b, exponent)
    if exponent != math.floor(exponent):
        return math.nan
    even = exponent % 2 == 0
    if a <= 0 and b <= 0:
        mean = _power_above(-a, -b, exponent)
        return -mean if even else mean
    if even:
        return 0.0 if a == -b else absolute(a, b) * _power_above(abs(a), abs(b), exponent)
    if exponent > 0:
        above, below = shares(a, b)
        slope: float = above * max(a, b) ** (exponent - 1) + below * max(-a, -b) ** (exponent - 1)
        return slope
    root_a: float = abs(a) ** (0.5 * exponent)
    root_b: float = abs(b) ** (0.5 * exponent)
    gap = abs(b - a)
    return root_a * (root_a / gap) + root_b * (root_b / gap)


def power(a: Array, b: Array, exponent: float) -> Array:
    """Divided difference of x^p for constant p: m^p (e^(p L) - 1) / (o - m), L = log(o / m).

    m is the end with the larger power, o the other, so that p L <= 0. Below zero by symmetry;
    across zero even powers compose with |x|, and odd ones are (|a|^p + |b|^p) / (|a| + |b|). For
    fractional p NaN below zero. p = 2, 1/2 and -1 are `square`, `sqrt` and `reciprocal`.

        >>> power(np.array([1.0]), np.array([2.0]), 3)
        array([7.])
    """
    special = {2.0: square, 0.5: sqrt, -1.0: reciprocal}.get(exponent)
    return special(a, b) if special else any_power(a, b, exponent)


@inline
def _two_sum(x: float, y: float) -> tuple[float, float]:
    """Return the rounded sum and its rounding error (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@inline
def _sine(total: float, rest: float) -> float:
    return math.sin(total) * math.cos(rest) + math.cos(total) * math.sin(rest)


@inline
def _cosine(total: float, rest: float) -> float:
    return math.cos(total) * math.cos(rest) - math.sin(total) * math.sin(rest)


@inline
def _sine_over_halfgap_of(a: float, b: float) -> float:
    """Return sin(d / 2) / (d / 2)."""
    half, rest = _two_sum(0.5 * b, -0.5 * a)
    return 1.0 if half == 0 else _sine(half, rest) / half


@elementwise
def sin(a: float, b: float) -> float:
    """Divided difference of sin: cos(m) sin(g) / g, m = (a + b) / 2, g = d / 2.

    m and g are kept with their rounding errors. If cos(m) or sin(g) is smaller than the spacing of
    floats at m or at g (or than 1, if that is less), the error is relative to that spacing.

        >>> sin(np.array([0.0]), np.array([math.pi / 2]))
        array([0.63661977])
    """
    if math.isinf(a) or math.isinf(b):
        return math.nan if a == b or a != a or b != b else 0.0
    middle, rest = _two_sum(0.5 * a, 0.5 * b)
    return _cosine(middle, rest) * _sine_over_halfgap_of(a, b)


@elementwise
def cos(a: float, b: float) -> float:
    """Divided difference of cos: -sin(m) sin(g) / g, as for `sin`.

    >>> cos(np.array([0.0]), np.array([math.pi / 2]))
    array([-0.63661977])
    """
    if math.isinf(a) or math.isinf(b):
        return math.nan if a == b or a != a or b != b else 0.0
    middle, rest = _two_sum(0.5 * a, 0.5 * b)
    return -_sine(middle, rest) * _sine_over_halfgap_of(a, b)
