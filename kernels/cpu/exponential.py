"""e^x and e^x - 1 for x <= 0, inlined and free of branches, so that LLVM vectorizes the loop.

A call of libm in a loop keeps it scalar: 15 to 20 ns an element where this takes less than one.
"""

import math

import numpy as np

from .jit import inline

_LOG2_E = 1 / math.log(2)
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # 32 bits, so that n * _LN2_HIGH is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_SHIFT = 1.5 * 2.0**52  # x + _SHIFT is rounded to an integer, in the low bits of the mantissa


@inline
def _reduce(x: float) -> tuple[float, float]:
    """Return 2^n and e^r - 1 for x = n ln 2 + r with |r| < 0.35, for -700 <= x <= 700.

    The series of degree 13 leaves out less than 1e-17.
    """
    shifted = x * _LOG2_E + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    bits = (np.float64(shifted).view(np.int64) + 1023) << 52
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
    return np.int64(bits).view(np.float64), series * (r * r) + r


@inline
def exp(x: float) -> float:
    """Return e^x for x <= 0, within 1 ulp; e^-700, about 1e-304, below -700."""
    power, rest = _reduce(-700.0 if x < -700 else x)
    return power + power * rest


@inline
def expm1(x: float) -> float:
    """Return e^x - 1 for x <= 0, within 1.5 ulps."""
    power, rest = _reduce(-700.0 if x < -700 else x)
    return (power - 1) + power * rest
