"""Activations and their gradients, one pass over memory each.

All is free of branches and of calls of libm, so that LLVM vectorizes the loops.

GELU is x Φ(x) with the standard normal distribution function Φ, which NumPy lacks.
Φ(-u) = e^(-u²/2) M(u) for u >= 0, M being Mills' ratio over √(2π): within 1 ulp for float32, within
6 for float64, in the lower tail too. (`gaussian` takes more time and is accurate to the last
digit.)

The logistic function is computed in the precision of its argument, from e^-|x|, which is 0 where it
would be subnormal: within 3 ulps.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exponential import exp, power_of_two, single_exp, split_exp
from .jit import inline, kernel

__all__ = [
    "gelu",
    "gelu_derivative",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
]

_SQRT_2PI = math.sqrt(2 * math.pi)

# M(u) / t as a polynomial in t - 1/2, t = 4 / (4 + u), highest power first: interpolated in 60
# digits at the 22 Chebyshev points of 0 <= u <= 38, beyond which Φ(-u) is below 1e-315.
_MILLS = np.array(
    [
        -0.0011845146849972508,
        0.003128763705770617,
        -0.0009445569848677524,
        -0.004976809874676629,
        0.0047059996737141225,
        0.004357963550901405,
        -0.008283724457629399,
        -0.002572715357948674,
        0.012113143703489903,
        0.0007339558424115504,
        -0.017993133524085544,
        -0.000488562844069399,
        0.029580102738213026,
        0.008534039510029954,
        -0.052186189120590434,
        -0.055675077994264896,
        0.060321511707720064,
        0.2415862995655165,
        0.37304371591952096,
        0.38713740074220454,
        0.30394832098594554,
        0.18882128260393788,
    ]
)


def gelu(x: NDArray[Any]) -> NDArray[Any]:
    """Return x Φ(x) for float32 or float64 x.

    Example:
        >>> gelu(np.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.15865525,  0.        ,  0.84134475])
    """
    out = np.empty(x.shape, x.dtype)
    _gelu(x.ravel(), out.ravel())
    return out


def gelu_derivative(x: NDArray[Any]) -> NDArray[Any]:
    """Return Φ(x) + x φ(x), φ the standard normal density.

    Example:
        >>> gelu_derivative(np.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.08331547,  0.5       ,  1.08331547])
    """
    out = np.empty(x.shape, x.dtype)
    _gelu_derivative(x.ravel(), out.ravel())
    return out


@kernel("const real[:], real[:]")
def _gelu(x, out):
    for i in range(out.size):
        value = np.float64(x[i])
        out[i] = value * _distribution(value, _bell(value))


@kernel("const real[:], real[:]")
def _gelu_derivative(x, out):
    for i in range(out.size):
        value = np.float64(x[i])
        bell = _bell(value)
        out[i] = _distribution(value, bell) + value * (bell / _SQRT_2PI)


@inline
def _bell(x):
    """e^(-x²/2), from the exact square of a head of 24 bits and a small rest."""
    head = np.float64(np.float32(x))
    n, minus_one = split_exp(max(-0.5 * head * head, -700.0))
    power = power_of_two(n)
    rest = 0.5 * (x - head) * (x + head)
    bell = (power + power * minus_one) * (1 - rest * (1 - rest / 2 * (1 - rest / 3)))
    return bell if abs(x) < 37 else 0.0


@inline
def _distribution(x, bell):
    t = 4 / (4 + abs(x))
    series = 0.0
    for coefficient in _MILLS:
        series = series * (t - 0.5) + coefficient
    tail = bell * (t * series)
    return tail if x <= 0 else 1 - tail


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """Return 1 / (1 + e⁻ˣ) for float32 or float64 x.

    Example:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    out = np.empty(x.shape, x.dtype)
    _sigmoid(x.ravel(), out.ravel())
    return out


def sigmoid_backward(grad: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
    """Return grad · out · (1 - out), for out = sigmoid x: arrays of one shape and dtype.

    Example:
        >>> sigmoid_backward(np.array([8.0, 8.0]), np.array([0.5, 1.0]))
        array([2., 0.])
    """
    x_grad = np.empty(out.shape, out.dtype)
    _sigmoid_backward(grad.ravel(), out.ravel(), x_grad.ravel())
    return x_grad


def silu(x: NDArray[Any]) -> NDArray[Any]:
    """Return x / (1 + e⁻ˣ) for float32 or float64 x.

    Example:
        >>> silu(np.array([-1.0, 0.0, 1.0])).round(8)
        array([-0.26894142,  0.        ,  0.73105858])
    """
    out = np.empty(x.shape, x.dtype)
    _silu(x.ravel(), out.ravel())
    return out


def silu_backward(grad: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """Return grad times the derivative of `silu`: arrays of one shape and dtype.

    Example:
        >>> silu_backward(np.array([8.0, 1.0]), np.array([0.0, 1.0])).round(8)
        array([4.        , 0.92767051])
    """
    x_grad = np.empty(x.shape, x.dtype)
    _silu_backward(grad.ravel(), x.ravel(), x_grad.ravel())
    return x_grad


@kernel("const real[:], real[:]")
def _sigmoid(x, out):
    real = out.dtype.type
    for i in range(out.size):
        size = abs(x[i])
        small = real(single_exp(-size) if x.itemsize == 4 else exp(-size))
        out[i] = (small if x[i] < 0 else real(1)) / (real(1) + small)


@kernel("const real[:], const real[:], real[:]")
def _sigmoid_backward(grad, out, x_grad):
    real = out.dtype.type
    for i in range(out.size):
        x_grad[i] = grad[i] * (out[i] * (real(1) - out[i]))


@kernel("const real[:], real[:]")
def _silu(x, out):
    real = out.dtype.type
    for i in range(out.size):
        size = abs(x[i])
        small = real(single_exp(-size) if x.itemsize == 4 else exp(-size))
        out[i] = x[i] * ((small if x[i] < 0 else real(1)) / (real(1) + small))


@kernel("const real[:], const real[:], real[:]")
def _silu_backward(grad, x, x_grad):
    real = x.dtype.type
    for i in range(x.size):
        size = abs(x[i])
        small = real(single_exp(-size) if x.itemsize == 4 else exp(-size))
        near, far = real(1) / (real(1) + small), small / (real(1) + small)
        share, rest = (far, near) if x[i] < 0 else (near, far)
        x_grad[i] = grad[i] * (share * (real(1) + x[i] * rest))
