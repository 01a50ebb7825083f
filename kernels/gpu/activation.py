"""Activations and their gradients, one pass over memory each.

GELU is x Φ(x) with the standard normal distribution function Φ, by the formulas of the CPU's.
"""

import cupy

from .launch import Kernel, over

__all__ = ["gelu", "gelu_derivative", "relu_backward", "tanh_backward"]

_gelu = Kernel("activation.cu", "gelu", "const real*, real*, int64")
_gelu_derivative = Kernel("activation.cu", "gelu_derivative", "const real*, real*, int64")
_relu_backward = Kernel("activation.cu", "relu_backward", "const real*, const real*, real*, int64")
_tanh_backward = Kernel("activation.cu", "tanh_backward", "const real*, const real*, real*, int64")


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


def tanh_backward(grad: cupy.ndarray, out: cupy.ndarray) -> cupy.ndarray:
    """Return grad · (1 - out²), for out = tanh x: arrays of one shape and dtype.

    Example:
        >>> tanh_backward(cupy.array([8.0, 8.0]), cupy.array([0.0, 0.5]))
        array([8., 6.])
    """
    x_grad = cupy.empty(out.shape, out.dtype)
    arrays = map(cupy.ascontiguousarray, (grad, out))
    _tanh_backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
    return x_grad


def relu_backward(grad: cupy.ndarray, x: cupy.ndarray) -> cupy.ndarray:
    """Return grad where x > 0, else 0: arrays of one shape and dtype.

    Example:
        >>> relu_backward(cupy.array([8.0, 8.0]), cupy.array([0.0, 0.5]))
        array([0., 8.])
    """
    x_grad = cupy.empty(x.shape, x.dtype)
    arrays = map(cupy.ascontiguousarray, (grad, x))
    _relu_backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
    return x_grad
