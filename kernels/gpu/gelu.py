"""GELU, x Φ(x) with the standard normal distribution function Φ, and erf: values and averages.

`agrad.kernels.cpu.gelu` explains the formulas.
"""

import cupy

from .launch import Kernel, divided_difference, of_pairs, over

__all__ = ["erf", "erf_divided_difference", "gelu", "gelu_derivative", "gelu_divided_difference"]

_erf = Kernel("gelu.cu", "erf_of", "const real*, real*, int64")
_erf_divided_difference = divided_difference("erf", "gelu.cu")
_gelu = Kernel("gelu.cu", "gelu", "const real*, real*, int64")
_gelu_derivative = Kernel("gelu.cu", "gelu_derivative", "const real*, real*, int64")
_gelu_divided_difference = divided_difference("gelu", "gelu.cu")


def erf(x: cupy.ndarray) -> cupy.ndarray:
    """Return the error function, 2 Φ(√2 x) - 1, for float32 or float64 x.

    Example:
        >>> erf(cupy.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.84270079,  0.        ,  0.84270079])
    """
    out = cupy.empty(x.shape, x.dtype)
    _erf(over(out.size), cupy.ascontiguousarray(x), out, out.size)
    return out


def erf_divided_difference(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of the error function."""
    return of_pairs(_erf_divided_difference, a, b)


def gelu(x: cupy.ndarray) -> cupy.ndarray:
    """Return x Φ(x) for float32 or float64 x.

    Example:
        >>> gelu(cupy.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.15865525,  0.        ,  0.84134475])
    """
    out = cupy.empty(x.shape, x.dtype)
    _gelu(over(out.size), cupy.ascontiguousarray(x), out, out.size)
    return out


def gelu_derivative(x: cupy.ndarray) -> cupy.ndarray:
    """Return Φ(x) + x φ(x), φ the standard normal density.

    Example:
        >>> gelu_derivative(cupy.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.08331547,  0.5       ,  1.08331547])
    """
    out = cupy.empty(x.shape, x.dtype)
    _gelu_derivative(over(out.size), cupy.ascontiguousarray(x), out, out.size)
    return out


def gelu_divided_difference(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x Phi(x)."""
    return of_pairs(_gelu_divided_difference, a, b)
