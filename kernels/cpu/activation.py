"""Activation functions that NumPy has no vector code for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gaussian import normal_below, normal_density
from .jit import inline, kernel

__all__ = ["gelu", "gelu_derivative"]


def gelu(x: NDArray[Any]) -> NDArray[Any]:
    """Return x Φ(x), Φ the standard normal distribution function, for float32 or float64 x.

    Example:
        >>> gelu(np.array([-1.0, 0.0, 1.0]))
        array([-0.15865525,  0.        ,  0.84134475])
    """
    out = np.empty(x.shape, x.dtype)
    _gelu(x.ravel(), out.ravel())
    return out


def gelu_derivative(x: NDArray[Any]) -> NDArray[Any]:
    """Return Φ(x) + x φ(x), φ the standard normal density.

    Example:
        >>> gelu_derivative(np.array([-1.0, 0.0, 1.0]))
        array([-0.08331547,  0.5       ,  1.08331547])
    """
    out = np.empty(x.shape, x.dtype)
    _gelu_derivative(x.ravel(), out.ravel())
    return out


@inline
def _normal(x):  # type: ignore[no-untyped-def]
    return normal_below(x) if x <= 0 else 1 - normal_below(-x)


@kernel("const real[:], real[:]")
def _gelu(x, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        value = np.float64(x[i])
        out[i] = value * _normal(value)


@kernel("const real[:], real[:]")
def _gelu_derivative(x, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        value = np.float64(x[i])
        out[i] = _normal(value) + value * normal_density(value)
