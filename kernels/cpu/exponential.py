"""e^x in parts and e^x - 1 for x <= 0, without branches, so that LLVM vectorizes a loop of them.

A call of libm in a loop keeps the loop scalar.
"""

import math

import numpy as np

from .jit import inline

_LOG2_E = 1 / math.log(2)
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # 32 bits, so that n * _LN2_HIGH is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_SHIFT = 1.5 * 2.0**52  # x + _SHIFT is rounded to an integer, in the low bits of the mantissa


@inline
def round_to_integer(x: float) -> float:
    return (x + _SHIFT) - _SHIFT


@inline
def power_of_two(n: float) -> float:
    """Return 2^n for an integer n, -1022 <= n <= 1023."""
    bits = (np.float64(n + _SHIFT).view(np.int64) + 1023) << 52
    return np.int64(bits).view(np.float64)


@inline
def split_exp(x: float) -> tuple[float, float]:
    """Return n and e^r - 1 for x = n ln 2 + r with |r| < 0.35, where -1400 <= x <= 0.

    The series of degree 13 leaves out less than 1e-17.
    """
    n = round_to_integer(x * _LOG2_E)
    head = x - n * _LN2_HIGH
    r = head - n * _LN2_LOW
    rounding = (head - r) - n * _LN2_LOW
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
    return n, (series * (r * r) + rounding) + r


@inline
def expm1(x: float) -> float:
    """Return e^x - 1 for x <= 0."""
    n, rest = split_exp(-700.0 if x < -700 else x)
    power = power_of_two(n)
    return (power - 1) + power * rest


@inline
def exp_to_single(x: float) -> float:
    """Return e^x for x <= 0, as exact as float32 can hold it; below -700 it is e^-700."""
    power, rest = _split_exp_to_single(x)
    return power + power * rest


@inline
def expm1_to_single(x: float) -> float:
    """Return e^x - 1 for x <= 0, as exact as float32 can hold it."""
    power, rest = _split_exp_to_single(x)
    return (power - 1) + power * rest


@inline
def _split_exp_to_single(x: float) -> tuple[float, float]:
    """Return 2^n and e^r - 1 as `split_exp` does; the series of degree 8 leaves out 1e-9."""
    x = -700.0 if x < -700 else x
    n = round_to_integer(x * _LOG2_E)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    series = 1 / 40320 * r + 1 / 5040
    series = series * r + 1 / 720
    series = series * r + 1 / 120
    series = series * r + 1 / 24
    series = series * r + 1 / 6
    series = series * r + 1 / 2
    return power_of_two(n), series * (r * r) + r
