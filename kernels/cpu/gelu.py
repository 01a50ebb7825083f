"""GELU, x Φ(x) with the standard normal distribution function Φ, and erf: values and averages.

NumPy lacks Φ, so it is computed here, twice: for value and derivative fast, by a series without
branches or calls of libm, for the average accurately. In the lower tail Φ and the density φ are
e^(-x²/2) times something tame; a rounding error in x² or in x / √2 is magnified x² times there, to
hundreds of ulps, unless it is carried along.
"""

import math

import numpy as np

from .exponential import power_of_two, round_to_integer, split_exp
from .jit import Array, elementwise, inline, kernel
from .segment import gap_of, order, shares

__all__ = ["erf", "erf_divided_difference", "gelu", "gelu_derivative", "gelu_divided_difference"]

_SQRT_2 = math.sqrt(2)
_SQRT_PI = math.sqrt(math.pi)
_SQRT_2PI = math.sqrt(2 * math.pi)
_LN2, _LOG2_E = math.log(2), 1 / math.log(2)

# Value and derivative -----------------------------------------------------------------------------


def gelu(x: Array) -> Array:
    """Return x Φ(x) for float32 or float64 x.

    Φ is within 1 ulp for float32, within 6 for float64, in the lower tail too.

    Example:
        >>> gelu(np.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.15865525,  0.        ,  0.84134475])
    """
    out = np.empty(x.shape, x.dtype)
    _gelu(x.ravel(), out.ravel())
    return out


def gelu_derivative(x: Array) -> Array:
    """Return Φ(x) + x φ(x), φ the standard normal density.

    Example:
        >>> gelu_derivative(np.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.08331547,  0.5       ,  1.08331547])
    """
    out = np.empty(x.shape, x.dtype)
    _gelu_derivative(x.ravel(), out.ravel())
    return out


def erf(x: Array) -> Array:
    """Return 2 Φ(√2 x) - 1, the error function, for float32 or float64 x, within 1 ulp.

    Example:
        >>> erf(np.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.84270079,  0.        ,  0.84270079])
    """
    out = np.empty(x.shape, x.dtype)
    _erf(x.ravel(), out.ravel())
    return out


@kernel("const real[:], real[:]")
def _erf(x: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = math.erf(np.float64(x[i]))


@kernel("const real[:], real[:]")
def _gelu(x: Array, out: Array) -> None:
    for i in range(out.size):
        value = np.float64(x[i])
        if x.itemsize == 4:  # only one of the two is compiled
            out[i] = value * _single_distribution(value, _single_bell(value))
        else:
            out[i] = value * _distribution(value, _bell(value))


@kernel("const real[:], real[:]")
def _gelu_derivative(x: Array, out: Array) -> None:
    for i in range(out.size):
        value = np.float64(x[i])
        if x.itemsize == 4:
            bell = _single_bell(value)
            out[i] = _single_distribution(value, bell) + value * (bell / _SQRT_2PI)
        else:
            bell = _bell(value)
            out[i] = _distribution(value, bell) + value * (bell / _SQRT_2PI)


@inline
def _bell(x: float) -> float:
    """e^(-x²/2), from the exact square of a head of 24 bits and a small rest."""
    head = np.float64(np.float32(x))
    n, minus_one = split_exp(max(-0.5 * head * head, -700.0))
    power = power_of_two(n)
    rest = 0.5 * (x - head) * (x + head)
    bell = (power + power * minus_one) * (1 - rest * (1 - rest / 2 * (1 - rest / 3)))
    return bell if abs(x) < 37 else 0.0


@inline
def _single_bell(x: float) -> float:
    """e^(-x²/2) for the value of a float32, whose square is exact: within 1e-8."""
    square = max(-0.5 * x * x, -1023 * _LN2)  # the bits of 2^-1023 are those of 0
    n = round_to_integer(square * _LOG2_E)
    r = square - n * _LN2
    series = 1 / 5040 * r + 1 / 720
    series = series * r + 1 / 120
    series = series * r + 1 / 24
    series = series * r + 1 / 6
    series = series * r + 1 / 2
    power = power_of_two(n)
    return power + power * (series * (r * r) + r)


# Φ(-u) = e^(-u²/2) M(u) for u >= 0, M being Mills' ratio over √(2π). M(u) / t as a polynomial in
# t - 1/2, t = 4 / (4 + u), highest power first: interpolated in 60 digits at the 22 Chebyshev
# points of 0 <= u <= 38, beyond which Φ(-u) is below 1e-315.
_MILLS = np.array(
    [
        -0.0011845146849972508,
        0.003128763705770617,
        -0.0009445569848677524,
        -0.004976809874676629,
        0.0047059996737141225,
        0.004357963550901405,
        -0.008283724457629399,
        -0.002572715357948674,
        0.012113143703489903,
        0.0007339558424115504,
        -0.017993133524085544,
        -0.000488562844069399,
        0.029580102738213026,
        0.008534039510029954,
        -0.052186189120590434,
        -0.055675077994264896,
        0.060321511707720064,
        0.2415862995655165,
        0.37304371591952096,
        0.38713740074220454,
        0.30394832098594554,
        0.18882128260393788,
    ]
)

# The same from 11 points of 0 <= u <= 14.6, beyond which Φ(-u) is 0 in float32: within 3e-9.
_SINGLE_MILLS = np.array(
    [
        -0.013420918942224911,
        0.029957890817660718,
        0.010861598613260304,
        -0.052674822287542104,
        -0.055813252214788694,
        0.060362181866143005,
        0.24158936569898962,
        0.373042603426717,
        0.3871373795236265,
        0.3039483290213326,
        0.18882128262857553,
    ]
)


def _distribution_by(mills: Array) -> inline[float, float, float]:
    coefficients = tuple(mills.tolist())

    @inline
    def distribution(x: float, bell: float) -> float:
        t = 4 / (4 + abs(x))
        series = 0.0
        for coefficient in coefficients:
            series = series * (t - 0.5) + coefficient
        tail = bell * (t * series)
        return tail if x <= 0 else 1 - tail

    return distribution


_distribution, _single_distribution = map(_distribution_by, (_MILLS, _SINGLE_MILLS))


# Average ------------------------------------------------------------------------------------------


@elementwise
def gelu_divided_difference(a: float, b: float) -> float:
    """Divided difference of x Φ(x): below zero Φ(l) + h D, D the mean normal density.

    Above zero the reflection; across zero P Φ(h) + N Φ(l), all positive. The derivative is 0
    at -0.752, so below zero the error is relative to Φ(l) + |h| D, or to 1e-300 if that is more.

        >>> gelu_divided_difference(np.array([-1.0]), np.array([1.0]))
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
    return above * (1 - _normal_below(-high)) + below * _normal_below(low)


@elementwise
def erf_divided_difference(a: float, b: float) -> float:
    """Divided difference of erf: 2√2 times the mean normal density from √2 a to √2 b.

    Where nothing cancels the quotient itself: across zero, and if the nearer end is below 1 and
    less than half of the other. The rounding of √2 x makes an error of up to x² ulps in the tails.

        >>> erf_divided_difference(np.array([-1.0]), np.array([1.0]))
        array([0.84270079])
    """
    if a != a or b != b:
        return math.nan
    low, high = order(a, b)
    if low > 28 or high < -28:
        return 0.0
    if low < 0 < high or min(abs(low), abs(high)) < min(1.0, 0.5 * max(abs(low), abs(high))):
        return (math.erf(high) - math.erf(low)) / (high - low)
    far, near = (low, high) if high <= 0 else (-high, -low)
    return 2 * _SQRT_2 * _mean_density(_SQRT_2 * far, _SQRT_2 * near)


@inline
def _gelu_below(low: float, high: float) -> float:
    return 0.0 if high < -40 else _normal_below(low) + high * _mean_density(low, high)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_NODES, _WEIGHTS = (1 + _NODES) / 2, _WEIGHTS / 2


@inline
def _mean_density(low: float, high: float) -> float:
    """Return the mean of the normal density for low <= high <= 0.

    If it falls by less than e^-4 from h to l, Gauss-Legendre of its ratio to that at h, exact to
    1e-17; otherwise Φ(h) - Φ(l), where at most a fiftieth cancels.
    """
    gap = gap_of(low, high)
    if gap * (-low - high) > 8:
        return (_normal_below(high) - _normal_below(low)) / gap
    ratio = 0.0
    for node, weight in zip(_NODES, _WEIGHTS):
        x = gap * node
        ratio += weight * math.exp(-x * (0.5 * x - high))
    return ratio * _normal_density(high)


@inline
def _normal_density(x: float) -> float:
    """Return e^(-x²/2) / √(2π), with the square taken of a head of 24 bits and of the rest."""
    if abs(x) > 40:
        return 0.0
    head = np.float64(np.float32(x))
    return math.exp(-0.5 * head * head) * math.exp(-0.5 * (x - head) * (x + head)) / _SQRT_2PI


_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_HEAD = float(np.float32(_SQRT_HALF))
_SQRT_HALF_TAIL = (_SQRT_HALF - _SQRT_HALF_HEAD) - 4.833646656726457e-17


@inline
def _normal_below(x: float) -> float:
    """Return Φ(x) = erfc(y) / 2 with y = -x / √2, for x <= 0.

    The rounding error of y enters to first order, by the derivative of erfc.
    """
    if x < -40:
        return 0.0
    y = -x * _SQRT_HALF
    head = np.float64(np.float32(-x))
    tail = -x - head
    error = (head * _SQRT_HALF_HEAD - y) + head * _SQRT_HALF_TAIL + tail * _SQRT_HALF
    return 0.5 * math.erfc(y) - error * math.exp(-y * y) / _SQRT_PI
