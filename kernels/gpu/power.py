"""Divided differences of x ** y in either input, for an array of values of the other."""

import cupy

from .launch import Kernel, over

__all__ = ["in_base", "in_exponent"]

_PARAMETERS = "const real*, const real*, const real*, real*, int64, int64, int64, int64"
_in_base = Kernel("power.cu", "in_base", _PARAMETERS)
_in_exponent = Kernel("power.cu", "in_exponent", _PARAMETERS)


def in_base(a: cupy.ndarray, b: cupy.ndarray, exponent: cupy.ndarray) -> cupy.ndarray:
    """Return (bʸ - aʸ) / (b - a) for each y of `exponent`, y aʸ⁻¹ where a and b are equal.

    The three broadcast; they are float32 or float64.

    Example:
        >>> in_base(cupy.array([0.0, 1.0]), cupy.array([2.0, 1.0]), cupy.array([2.0, 3.0]))
        array([2., 3.])
    """
    return _call(_in_base, a, b, exponent)


def in_exponent(a: cupy.ndarray, b: cupy.ndarray, base: cupy.ndarray) -> cupy.ndarray:
    """Return (xᵇ - xᵃ) / (b - a) for each x of `base`, xᵃ log x where a and b are equal.

    The three broadcast; they are float32 or float64. For x = 0 and a = b ≥ 0 the result is 0, for
    negative x NaN.

    Example:
        >>> in_exponent(cupy.array([1.0, 0.0]), cupy.array([3.0, 0.0]), cupy.array([2.0, 0.0]))
        array([3., 0.])
    """
    return _call(_in_exponent, a, b, base)


def _call(kernel: Kernel, *arrays: cupy.ndarray) -> cupy.ndarray:
    dtype = cupy.result_type(*arrays)
    out = cupy.empty(cupy.broadcast(*arrays).shape, dtype)
    # A single number, such as a common exponent, is passed with step 0.
    steps = [int(array.size > 1) for array in arrays]
    flat = [
        cupy.ascontiguousarray(cupy.broadcast_to(array, out.shape) if step else array, dtype)
        for array, step in zip(arrays, steps)
    ]
    kernel(over(out.size), *flat, out, out.size, *steps)
    return out
