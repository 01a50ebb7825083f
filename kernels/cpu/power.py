"""Divided differences of x ** y in either input, for an array of values of the other."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .divided_difference import any_power, power
from .jit import Array, inline, kernel

__all__ = ["in_base", "in_exponent"]


def in_base(a: Array, b: Array, exponent: Array) -> Array:
    """Return (bʸ - aʸ) / (b - a) for each y of `exponent`, y aʸ⁻¹ where a and b are equal.

    The three broadcast; they are float32 or float64.

    Example:
        >>> in_base(np.array([0.0, 1.0]), np.array([2.0, 1.0]), np.array([2.0, 3.0]))
        array([2., 3.])
    """
    if exponent.ndim == 0 and exponent.dtype == a.dtype:
        return power(a, b, float(exponent))
    return _call(_in_base, a, b, exponent)


def in_exponent(a: Array, b: Array, base: Array) -> Array:
    """Return (xᵇ - xᵃ) / (b - a) for each x of `base`, xᵃ log x where a and b are equal.

    The three broadcast; they are float32 or float64. For x = 0 and a = b ≥ 0 the result is 0, for
    negative x NaN.

    Example:
        >>> in_exponent(np.array([1.0, 0.0]), np.array([3.0, 0.0]), np.array([2.0, 0.0]))
        array([3., 0.])
    """
    return _call(_in_exponent, a, b, base)


def _call(loop: Any, *arrays: ArrayLike) -> Array:
    dtype = np.result_type(*arrays)
    flat = [np.asarray(array, dtype).ravel() for array in np.broadcast_arrays(*arrays)]
    out = np.empty(np.broadcast_shapes(*(np.shape(array) for array in arrays)), dtype)
    loop(*flat, out.ravel())
    return out


@kernel("const real[:], const real[:], const real[:], real[:]")
def _in_base(a: Array, b: Array, exponent: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = any_power(np.float64(a[i]), np.float64(b[i]), np.float64(exponent[i]))


@kernel("const real[:], const real[:], const real[:], real[:]")
def _in_exponent(a: Array, b: Array, base: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = _exponential(np.float64(a[i]), np.float64(b[i]), np.float64(base[i]))


@inline
def _exponential(a: float, b: float, base: float) -> float:
    """baseᵃ log(base) expm1(s) / s for s = (b - a) log(base); the plain quotient if s is large."""
    if base == 0 and a == b:
        return 0.0 if a >= 0 else -math.inf
    log = math.log(base)
    step = (b - a) * log
    if abs(step) > 1:
        quotient: float = (base**b - base**a) / (b - a)
        return quotient
    slope = math.expm1(step) / step if step != 0 else 1.0
    result: float = base**a * log * slope
    return result
