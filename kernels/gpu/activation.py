"""Activations and their gradients, one pass over memory each.

GELU is x Φ(x) with the standard normal distribution function Φ, by the formulas of the CPU's.
"""

import cupy

from .launch import Kernel, over

__all__ = [
    "gelu",
    "gelu_derivative",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
]

_gelu = Kernel("activation.cu", "gelu", "const real*, real*, int64")
_gelu_derivative = Kernel("activation.cu", "gelu_derivative", "const real*, real*, int64")
_sigmoid = Kernel("activation.cu", "sigmoid", "const real*, real*, int64")
_sigmoid_backward = Kernel(
    "activation.cu", "sigmoid_backward", "const real*, const real*, real*, int64"
)
_silu = Kernel("activation.cu", "silu", "const real*, real*, int64")
_silu_backward = Kernel("activation.cu", "silu_backward", "const real*, const real*, real*, int64")


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


def sigmoid(x: cupy.ndarray) -> cupy.ndarray:
    """Return 1 / (1 + e⁻ˣ) for float32 or float64 x.

    Example:
        >>> sigmoid(cupy.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    out = cupy.empty(x.shape, x.dtype)
    _sigmoid(over(out.size), cupy.ascontiguousarray(x), out, out.size)
    return out


def sigmoid_backward(grad: cupy.ndarray, out: cupy.ndarray) -> cupy.ndarray:
    """Return grad · out · (1 - out), for out = sigmoid x: arrays of one shape and dtype.

    Example:
        >>> sigmoid_backward(cupy.array([8.0, 8.0]), cupy.array([0.5, 1.0]))
        array([2., 0.])
    """
    x_grad = cupy.empty(out.shape, out.dtype)
    arrays = map(cupy.ascontiguousarray, (grad, out))
    _sigmoid_backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
    return x_grad


def silu(x: cupy.ndarray) -> cupy.ndarray:
    """Return x / (1 + e⁻ˣ) for float32 or float64 x.

    Example:
        >>> silu(cupy.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.26894142,  0.        ,  0.73105858])
    """
    out = cupy.empty(x.shape, x.dtype)
    _silu(over(out.size), cupy.ascontiguousarray(x), out, out.size)
    return out


def silu_backward(grad: cupy.ndarray, x: cupy.ndarray) -> cupy.ndarray:
    """Return grad times the derivative of `silu`: arrays of one shape and dtype.

    Example:
        >>> silu_backward(cupy.array([8.0, 1.0]), cupy.array([0.0, 1.0])).round(8)
        array([4.        , 0.92767051])
    """
    x_grad = cupy.empty(x.shape, x.dtype)
    arrays = map(cupy.ascontiguousarray, (grad, x))
    _silu_backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
    return x_grad
