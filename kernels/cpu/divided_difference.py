"""Divided differences that do not cancel: (f(b) - f(a)) / (b - a), and f'(a) where a equals b.

The divided difference is the mean of f' on the segment from a to b. Taken literally, the quotient
loses a digit for each digit that f(a) and f(b) share; the formulas here subtract nothing but
the inputs themselves, which are exact, and otherwise add, multiply and divide. Four ideas carry
almost all of them.

- *Factor the larger end out.* e^b - e^a = e^b (1 - e^(a-b)), and `expm1` knows 1 - e^(a-b). The
  same with `log1p` for logarithms.
- *Cut at a kink or a bend.* `_shares` gives the fractions of the segment above and below
  zero; the mean over the whole is the mean of the means over its two parts.
- *Reflect.* Where f(x) = x + f(-x), as for softplus, SiLU and GELU, the difference over (a, b) is
  1 minus that over (-a, -b), so that only x < 0, the small side, needs a formula.
- *Compose.* f(g(x)) has the product of the two divided differences, that of f taken at g.

Accuracy: at most 4 ulps from the exact result for the exact inputs over all magnitudes, float32
and float64, except where a docstring states a scale that the error is relative to. (float32 is
evaluated in double precision and so within 1 ulp.) NaN gives NaN. An infinite end gives the limit
where there is one, and NaN otherwise. At a kink, a = b gives what ordinary backward takes there.

Each function takes arrays a and b of one shape and dtype, float32 or float64, any strides, and
returns a new array of that shape and dtype; the constants of f follow as numbers.

    >>> import numpy as np
    >>> a = np.array([0.0, 1.0, 50.0])
    >>> tanh(a, a + 1e-9)
    array([1.00000000e+00, 4.19974341e-01, 1.48803057e-43])
"""

import math

import numpy as np
from numpy.typing import NDArray
from typing import Any

from .jit import elementwise, inline

_SHIFT = 1.5 * 2.0**52  # x + _SHIFT holds round(x) in the low bits of its mantissa
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # 32 bits, so that n * _LN2_HIGH is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_LOG2_E = 1 / math.log(2)


@inline
def _reduce(x):
    """2^n and e^r - 1 for x = n ln 2 + r, |r| < 0.35: the parts that e^x is made of.

    Adds, multiplies and shifts alone: LLVM turns a loop around it into vector code, which it
    cannot do around a call of libm. Where e^x no longer matters beside 1 and underflow is near,
    x stops at -700.
    """
    x = -700.0 if x < -700.0 else x
    shifted = x * _LOG2_E + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    bits = (np.float64(shifted).view(np.int64) + 1023) << 52
    power = np.int64(bits).view(np.float64)
    series = 1 / 6227020800 * r + 1 / 479001600
    series = series * r + 1 / 39916800
    series = series * r + 1 / 3628800
    series = series * r + 1 / 362880
    series = series * r + 1 / 40320
    series = series * r + 1 / 5040
    series = series * r + 1 / 720
    series = series * r + 1 / 120
    series = series * r + 1 / 24
    series = series * r + 1 / 6
    series = series * r + 1 / 2
    return power, series * (r * r) + r


@inline
def _fast_exp(x):
    power, minus_one = _reduce(x)
    return power + power * minus_one


@inline
def _fast_expm1(x):
    power, minus_one = _reduce(x)
    return (power - 1) + power * minus_one


@inline
def _gap(low, high):
    """high - low, also for equal infinities."""
    return 0.0 if low == high else high - low


@inline
def _expm1_over(x):
    """(e^x - 1) / x, for x <= 0."""
    return 1.0 if x == 0 else math.expm1(x) / x


@inline
def _log1p_over(x):
    """log(1 + x) / x, for x >= 0."""
    return 1.0 if x == 0 else math.log1p(x) / x


@inline
def _shares(a, b):
    """Fractions of the segment from a to b above and below zero; the point zero lies below.

    The lengths p above and n below give p / (p + n), by way of their ratio: p + n overflows.
    """
    low, high = (a, b) if a < b else (b, a)
    above = high if high > 0 else 0.0
    below = -low if low < 0 else 0.0
    small, large = (below, above) if above > below else (above, below)
    ratio = small / large if large > 0 else 0.0
    ratio = a + b if a != a or b != b else ratio
    most = 1 / (1 + ratio)
    return (most, ratio * most) if above > below else (ratio * most, most)


# Piecewise linear ---------------------------------------------------------------------------


@elementwise
def relu(a, b):
    """The share of the segment above zero; at a = b = 0 it is 0."""
    return _shares(a, b)[0]


@elementwise
def leaky_relu(a, b, negative_slope):
    """P + s N, with the shares P above and N below zero: a sum of positive terms for s >= 0.

    For s < 0 the error is relative to P + |s| N. At a = b = 0: s.
    """
    above, below = _shares(a, b)
    return above + negative_slope * below


@elementwise
def absolute(a, b):
    """(a + b) / |b - a| across zero, otherwise the sign: a + b is a single rounding.

    At a = b = 0: 0.
    """
    if a != a or b != b:
        return math.nan
    if (a >= 0) == (b >= 0) or a == 0 or b == 0:
        total = a if b == 0 else b
        return 1.0 if total > 0 else (-1.0 if total < 0 else 0.0)
    if math.isinf(a) != math.isinf(b):
        return 1.0 if math.isinf(max(a, b)) else -1.0
    scale = 0.5 if max(abs(a), abs(b)) > 1e300 else 1.0
    return (scale * a + scale * b) / abs(scale * b - scale * a)


@elementwise
def _clip(a, b, low, high):
    if a != a or b != b:
        return math.nan
    if a == b:
        return 1.0 if low <= a <= high else 0.0
    start, end = min(a, b), max(a, b)
    start_inside, end_inside = max(start, low), min(end, high)
    if start_inside >= end_inside:
        return 0.0
    if math.isinf(start_inside) or math.isinf(end_inside):
        outside = start_inside > start and math.isinf(start)
        outside = outside or (end_inside < end and math.isinf(end))
        return math.nan if outside else 1.0
    scale = 0.5 if max(abs(a), abs(b)) > 1e300 else 1.0
    return (scale * end_inside - scale * start_inside) / (scale * end - scale * start)


def clip(
    a: NDArray[Any], b: NDArray[Any], low: float | None = None, high: float | None = None
) -> NDArray[Any]:
    """The share of the segment that lies in [low, high]: a quotient of two lengths.

    At a = b on a bound: 1. A bound that is None does not bind.
    """
    return _clip(a, b, -math.inf if low is None else low, math.inf if high is None else high)


# Exponentials -------------------------------------------------------------------------------


@elementwise
def exp(a, b):
    """e^m (1 - e^-d) / d with the larger end m and d = |b - a|: `expm1` makes the difference."""
    low, high = (a, b) if a < b else (b, a)
    gap = _gap(low, high)
    if gap == 0:
        return math.exp(high)
    drop = -math.expm1(-gap)
    if high <= 0:
        return math.exp(high) * (drop / gap)
    if high < 700:
        return math.exp(high) * drop / gap
    if high > 1500 and low > -math.inf:
        return math.inf
    root = math.exp(0.5 * high)  # e^m overflows earlier than e^m / d
    return root * (root * drop / gap)


expm1 = exp


@elementwise
def tanh(a, b):
    """2 s (1 - e^-2d) / (d (1 + e^-2|a|) (1 + e^-2|b|)), s = e^-2min(|a|, |b|) or 1 across zero.

    A product of positive factors; d = |b - a|. e^-2|x| is the square of e^-|x|, s the last
    factor, so that nothing underflows before the result does.
    """
    exp_a, exp_b = _fast_exp(-abs(a)), _fast_exp(-abs(b))
    nearest = exp_a if exp_a > exp_b else exp_b
    nearest = nearest if a * b > 0 else 1.0
    half_gap = 0.0 if a == b else abs(0.5 * b - 0.5 * a)
    slope = -_fast_expm1(-4 * half_gap) / half_gap if half_gap != 0 else 4.0
    return nearest * slope / ((1 + exp_a * exp_a) * (1 + exp_b * exp_b)) * nearest


@elementwise
def sigmoid(a, b):
    """A quarter of that of tanh at a / 2 and b / 2: sigmoid(x) = (1 + tanh(x / 2)) / 2."""
    return 0.25 * tanh(0.5 * a, 0.5 * b)


@inline
def _softplus_below(low, high):
    """Softplus for low <= high <= 0: log1p(x) / d, x = (e^high - e^low) / (1 + e^low)."""
    gap = _gap(low, high)
    slope = math.exp(high) * _expm1_over(-gap) / (1 + math.exp(low))
    return slope * _log1p_over(-math.exp(high) * math.expm1(-gap) / (1 + math.exp(low)))


@elementwise
def softplus(a, b):
    """N S(a-, b-) + P (1 - S(-a+, -b+)): cut at zero and reflect (softplus(x) = x + softplus(-x)).

    x- = min(x, 0), x+ = max(x, 0), and S(a, b) = log1p((e^b - e^a) / (1 + e^a)) / (b - a) below
    zero, where it is at most 1/2, so that 1 - S does not cancel.
    """
    if a != a or b != b:
        return math.nan
    low, high = (a, b) if a < b else (b, a)
    above, below = _shares(low, high)
    left = _softplus_below(min(low, 0.0), min(high, 0.0)) if below > 0 else 0.0
    right = 1 - _softplus_below(-max(high, 0.0), -max(low, 0.0)) if above > 0 else 0.0
    return below * left + above * right


@elementwise
def elu(a, b, alpha):
    """P + N alpha E(min(a, 0), min(b, 0)), E that of exp: positive terms for alpha >= 0.

    For alpha < 0 the error is relative to P + N |alpha| E. At a = b = 0: alpha.
    """
    above, below = _shares(a, b)
    return above + below * (alpha * exp(min(a, 0.0), min(b, 0.0)))


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


@elementwise
def selu(a, b):
    """1.0507 times that of ELU with alpha = 1.6733 (Klambauer et al., 2017)."""
    return _SELU_SCALE * elu(a, b, _SELU_ALPHA)


@inline
def _silu_below(low, high):
    """SiLU for low <= high <= 0: sigmoid(low) + high S, S that of the sigmoid; e^high in front."""
    if high < -2000:
        return 0.0
    gap = _gap(low, high)
    slope = math.exp(-gap) + high * _expm1_over(-gap) / (1 + math.exp(high))
    root = math.exp(0.5 * high)  # twice, since e^high is subnormal before high e^high is
    return root * (root * (slope / (1 + math.exp(low))))


@elementwise
def silu(a, b):
    """Below zero sigmoid(l) + h S(l, h), S that of the sigmoid; above, 1 minus its reflection.

    l < h are the ends. Across zero it is P sigmoid(h) + N sigmoid(l), a sum of positive terms.
    SiLU' is 0 at x = -1.278, so below zero the error is relative to sigmoid(l) + |h| S(l, h):
    4 ulps of this.
    """
    if a != a or b != b:
        return math.nan
    low, high = (a, b) if a < b else (b, a)
    if high <= 0:
        return _silu_below(low, high)
    if low >= 0:
        return 1 - _silu_below(-high, -low)
    above, below = _shares(low, high)
    exp_low = math.exp(low)
    return above / (1 + math.exp(-high)) + below * exp_low / (1 + exp_low)


# Powers, roots and logarithms ---------------------------------------------------------------


@elementwise
def square(a, b):
    """a + b."""
    return a + b


@elementwise
def sqrt(a, b):
    """1 / (sqrt(a) + sqrt(b)): positive terms."""
    return 1 / (math.sqrt(a) + math.sqrt(b))


@elementwise
def reciprocal(a, b):
    """-1 / (a b); mantissas and exponents apart where the product leaves the normal range."""
    product = a * b
    if 1e-290 < abs(product) < 1e290 or product != product:
        return -1 / product
    mantissa_a, exponent_a = math.frexp(a)
    mantissa_b, exponent_b = math.frexp(b)
    return math.ldexp(-1 / (mantissa_a * mantissa_b), -exponent_a - exponent_b)


@elementwise
def log(a, b):
    """log1p(d / l) / d with the smaller end l and d = |b - a|; NaN below zero."""
    low, high = (a, b) if a < b else (b, a)
    if not low >= 0:
        return math.nan
    if high == math.inf:
        return 0.0 if low > 0 else math.nan
    gap = high - low
    if gap == 0:
        return 1 / low
    ratio = gap / low
    if ratio == math.inf:
        return (math.log(high) - math.log(low)) / gap  # so far apart that nothing cancels
    return math.log1p(ratio) / gap


@elementwise
def log1p(a, b):
    """log1p(d / (1 + l)) / d with the smaller end l and d = |b - a|; NaN below -1."""
    low, high = (a, b) if a < b else (b, a)
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
def _power_above(a, b, exponent):
    """Powers of a, b >= 0: m^p (e^(p L) - 1) / (o - m), L = log(o / m), m the end of larger m^p."""
    low, high = (a, b) if a < b else (b, a)
    main, other = (high, low) if exponent > 0 else (low, high)
    if a == b:
        return exponent * main ** (exponent - 1)
    if main == 0:
        return -math.inf if other < math.inf else math.nan
    if main == math.inf:
        return main ** (exponent - 1)
    if other == math.inf:
        return 0.0
    if 0.5 < other / main < 2:
        growth = math.expm1(exponent * math.log1p((other - main) / main))
    elif 1e-300 < other / main < 1e300:
        growth = math.expm1(exponent * math.log(other / main))
    else:
        growth = math.expm1(exponent * (math.log(other) - math.log(main)))
    whole = main**exponent
    if 1e-280 < whole < 1e280:
        return whole * growth / (other - main)
    root = main ** (0.5 * exponent)
    return root * (root * growth / (other - main))


@elementwise
def _power(a, b, exponent):
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
    if even and a == -b:
        return 0.0
    if even:
        return absolute(a, b) * _power_above(abs(a), abs(b), exponent)
    if exponent > 0:
        above, below = _shares(a, b)
        return above * max(a, b) ** (exponent - 1) + below * max(-a, -b) ** (exponent - 1)
    root_a, root_b = abs(a) ** (0.5 * exponent), abs(b) ** (0.5 * exponent)
    gap = abs(b - a)
    return root_a * (root_a / gap) + root_b * (root_b / gap)


def power(a: NDArray[Any], b: NDArray[Any], exponent: float) -> NDArray[Any]:
    """m^p (e^(p L) - 1) / (o - m), L = log(o / m), where m is the end of larger m^p, o the other.

    For negative ends and integer p by symmetry: |x|^p composed with |x| for even p, and for odd p
    across zero (|a|^p + |b|^p) / (|a| + |b|), a sum of positive terms. NaN below zero for
    fractional p. The exponents 2, 1/2 and -1 are `square`, `sqrt` and `reciprocal`.
    """
    special = {2.0: square, 0.5: sqrt, -1.0: reciprocal}.get(exponent)
    return special(a, b) if special else _power(a, b, exponent)


@elementwise
def softsign(a, b):
    """P / (1 + |h|) + N / (1 + |l|) across zero, otherwise 1 / ((1 + |a|) (1 + |b|))."""
    if a * b >= 0 or (a >= 0) == (b >= 0):
        return 1 / (1 + abs(a)) / (1 + abs(b))
    if math.isinf(a) and math.isinf(b):
        return 0.0
    above, below = _shares(a, b)
    return above / (1 + max(a, b)) + below / (1 + max(-a, -b))


# Trigonometric ------------------------------------------------------------------------------


@inline
def _two_sum(x, y):
    """The rounded sum and its rounding error (Knuth)."""
    total = x + y
    y_part = total - x
    return total, (x - (total - y_part)) + (y - y_part)


@inline
def _sine_over(a, b):
    """sin(h) / h for h = (b - a) / 2, as a sum of the rounded h and its error."""
    half, rest = _two_sum(0.5 * b, -0.5 * a)
    if half == 0:
        return 1.0
    return (math.sin(half) * math.cos(rest) + math.cos(half) * math.sin(rest)) / half


@elementwise
def sin(a, b):
    """cos((a + b) / 2) sin(h) / h, h = (b - a) / 2; the half sums with their rounding errors.

    Both factors have zeros: the error is relative to
    """
    if math.isinf(a) or math.isinf(b):
        return math.nan if a == b or a != a or b != b else 0.0
    middle, rest = _two_sum(0.5 * a, 0.5 * b)
    cosine = math.cos(middle) * math.cos(rest) - math.sin(middle) * math.sin(rest)
    return cosine * _sine_over(a, b)


@elementwise
def cos(a, b):
    """-sin((a + b) / 2) sin(h) / h, h = (b - a) / 2, as for `sin`."""
    if math.isinf(a) or math.isinf(b):
        return math.nan if a == b or a != a or b != b else 0.0
    middle, rest = _two_sum(0.5 * a, 0.5 * b)
    sine = math.sin(middle) * math.cos(rest) + math.cos(middle) * math.sin(rest)
    return -sine * _sine_over(a, b)


# Gaussian -----------------------------------------------------------------------------------

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_NODES, _WEIGHTS = (1 + _NODES) / 2, _WEIGHTS / 2


@inline
def _normal_density(x):
    """The standard normal density, x^2 split into an exact part and a small rest."""
    if abs(x) > 40:
        return 0.0
    head = np.float64(np.float32(x))
    return math.exp(-0.5 * head * head) * math.exp(-0.5 * (x - head) * (x + head)) * _DENSITY_0


_DENSITY_0 = 1 / math.sqrt(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_HEAD = float(np.float32(_SQRT_HALF))
_SQRT_HALF_TAIL = _SQRT_HALF - _SQRT_HALF_HEAD
_SQRT_HALF_REST = -4.833646656726457e-17


@inline
def _normal_below(x):
    """The standard normal distribution function for x <= 0: erfc(-x / sqrt(2)) / 2.

    The rounding error of -x / sqrt(2), which the tail magnifies x^2 times, is made good to first
    order.
    """
    if x < -40:
        return 0.0
    y = -x * _SQRT_HALF
    head = np.float64(np.float32(-x))
    tail = -x - head
    error = head * _SQRT_HALF_HEAD - y + head * _SQRT_HALF_TAIL
    error += tail * _SQRT_HALF_HEAD + tail * _SQRT_HALF_TAIL - x * _SQRT_HALF_REST
    return 0.5 * math.erfc(y) - error / math.sqrt(math.pi) * math.exp(-y * y)


@inline
def _gelu_below(low, high):
    """GELU for low <= high <= 0: Phi(low) + high times the mean of the density."""
    gap = _gap(low, high)
    if high < -40:
        return 0.0
    if gap * (-low - high) < 8:
        mean = 0.0
        for node, weight in zip(_NODES, _WEIGHTS):
            t = gap * node
            mean += weight * math.exp(-t * (0.5 * t - high))
        mean *= _normal_density(high)
    else:
        mean = (_normal_below(high) - _normal_below(low)) / gap
    return _normal_below(low) + high * mean


@elementwise
def gelu(a, b):
    """Below zero Phi(l) + h D, D the mean of the normal density; above, 1 minus its reflection."""
    if a != a or b != b:
        return math.nan
    low, high = (a, b) if a < b else (b, a)
    if high <= 0:
        return _gelu_below(low, high)
    if low >= 0:
        return 1 - _gelu_below(-high, -low)
    above, below = _shares(low, high)
    return above * (1 - _normal_below(-high)) + below * _normal_below(low)
