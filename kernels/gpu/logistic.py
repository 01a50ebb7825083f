"""Sigmoid, SiLU and softplus: value, derivative and average.

`agrad.kernels.cpu.logistic` explains the formulas.
"""

import cupy

from .launch import Kernel, divided_difference, of_pairs, over

__all__ = [
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_divided_difference",
    "silu",
    "silu_backward",
    "silu_divided_difference",
    "softplus_divided_difference",
]

_sigmoid = Kernel("logistic.cu", "sigmoid", "const real*, real*, int64")
_sigmoid_backward = Kernel(
    "logistic.cu", "sigmoid_backward", "const real*, const real*, real*, int64"
)
_sigmoid_divided_difference = divided_difference("sigmoid", "logistic.cu")
_silu = Kernel("logistic.cu", "silu", "const real*, real*, int64")
_silu_backward = Kernel("logistic.cu", "silu_backward", "const real*, const real*, real*, int64")
_silu_divided_difference = divided_difference("silu", "logistic.cu")
_softplus_divided_difference = divided_difference("softplus", "logistic.cu")


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


def sigmoid_divided_difference(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of 1 / (1 + e^-x)."""
    return of_pairs(_sigmoid_divided_difference, a, b)


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


def silu_divided_difference(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x sigmoid(x)."""
    return of_pairs(_silu_divided_difference, a, b)


def softplus_divided_difference(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of log(1 + e^x)."""
    return of_pairs(_softplus_divided_difference, a, b)
