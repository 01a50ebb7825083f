"""e^x, whole or in parts, and e^x - 1 for x <= 0, without branches, so that LLVM vectorizes loops.

A loop that calls libm stays scalar.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .jit import Array, Number, inline

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
def exp(x: float) -> float:
    """Return e^x for x <= 0, and 0 below -708, where numbers become subnormal."""
    n, rest = split_exp(max(x, -708.0))
    power = power_of_two(n)
    return 0.0 if x < -708 else power + power * rest


@inline
def expm1(x: float) -> float:
    """Return e^x - 1 for x <= 0."""
    n, rest = split_exp(-700.0 if x < -700 else x)
    power = power_of_two(n)
    return (power - 1) + power * rest


# The same in single precision, where a vector register holds twice as many numbers.

_LOG2_E_32 = np.float32(_LOG2_E)
_LN2_HIGH_32 = np.float32(
    float.fromhex("0x1.62e4p-1")
)  # 16 bits, so that n * _LN2_HIGH_32 is exact
_LN2_LOW_32 = np.float32(float.fromhex("0x1.7f7d1cf79abcap-20"))
_SHIFT_32 = np.float32(1.5 * 2**23)
_ZERO_32 = np.float32(0)
_LOWEST_32 = np.float32(-174)
_LEAST_NORMAL_32 = np.float32(-87)
# 1 / 7!, 1 / 6! and so on to 1 / 2!
_C7, _C6, _C5, _C4, _C3, _C2 = (np.float32(1 / math.factorial(k)) for k in range(7, 1, -1))


@inline
def round_single_to_integer(x: Number) -> Number:
    return (x + _SHIFT_32) - _SHIFT_32


@inline
def single_power_of_two(n: Number) -> Number:
    """Return 2^n for an integer n, -126 <= n <= 127."""
    bits = (np.float32(n + _SHIFT_32).view(np.int32) + np.int32(127)) << np.int32(23)
    return np.int32(bits).view(np.float32)


@inline
def split_single_exp(x: Number) -> tuple[Number, Number]:
    """Return n and e^r - 1 as `split_exp` does, for x <= 0; x below -174 counts as -174.

    The series of degree 7 leaves out less than 1e-8. Half of n is still an exponent of float32.
    """
    x = max(x, _LOWEST_32)
    n = round_single_to_integer(x * _LOG2_E_32)
    head = x - n * _LN2_HIGH_32
    r = head - n * _LN2_LOW_32
    rounding = (head - r) - n * _LN2_LOW_32
    series = _C7 * r + _C6
    series = series * r + _C5
    series = series * r + _C4
    series = series * r + _C3
    series = series * r + _C2
    return n, (series * (r * r) + rounding) + r


@inline
def single_exp(x: Number) -> Number:
    """Return e^x for x <= 0, and 0 below -87, where numbers become subnormal."""
    n, rest = split_single_exp(max(x, _LEAST_NORMAL_32))
    power = single_power_of_two(n)
    return _ZERO_32 if x < _LEAST_NORMAL_32 else power + power * rest


@inline
def exponentials(values: Array) -> None:
    """Overwrite each x <= 0 of a contiguous array by e^x, in the array's own precision."""
    for i in range(values.size):
        x = values[i]
        # Only one of the two is compiled.
        values[i] = single_exp(x) if values.itemsize == 4 else exp(x)


class Precision(NamedTuple):
    """The building blocks of a formula in one of the precisions.

    Attributes:
        split_exp: x from `lowest` to 0 ↦ n and e^r - 1.
        lowest: The least x; below it e^x vanishes from every product.
        power_of_two: 2^n for integers n from `least` on.
        least: The least n; below it 1 + 2^n is rounded to 1.
        round_to_integer: x ↦ the nearest integer, as a real number.
    """

    split_exp: Callable[[Any], tuple[Any, Any]]
    lowest: np.floating[Any]
    power_of_two: Callable[[Any], Any]
    least: np.floating[Any]
    round_to_integer: Callable[[Any], Any]


DOUBLE = Precision(split_exp, np.float64(-1400), power_of_two, np.float64(-1000), round_to_integer)
SINGLE = Precision(
    split_single_exp, _LOWEST_32, single_power_of_two, np.float32(-100), round_single_to_integer
)
