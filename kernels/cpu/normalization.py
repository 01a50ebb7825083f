"""Rows normalized to mean 0 and variance 1, scaled and shifted; in double precision, rounded once.

Let c be a row minus its mean, and d its step minus the step's mean. Along the segment,
the row is c + t d, and its variance is a polynomial in t. So a gradient averaged along the segment
needs the same sums as the gradient at a point: products of c, d and the incoming gradient.
"""

import math

import numpy as np

from .jit import Array, inline, kernel

__all__ = ["layer_norm", "layer_norm_average_backward", "layer_norm_backward"]

_ROOT = math.sqrt(0.15)
_GAUSS = ((0.5 - _ROOT, 5 / 18), (0.5, 8 / 18), (0.5 + _ROOT, 5 / 18))
"""Positions and weights of Gauss-Legendre quadrature with three nodes."""


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """Return (x - mean) / √(variance + eps) · weight + bias for each row.

    Args:
        x: (rows, n), float32 or float64.
        weight: (n,), of the dtype of x; None for ones.
        bias: Likewise; None for zeros.
        eps: Added to the variance.

    Example:
        >>> layer_norm(np.array([[1.0, 3.0]]), None, np.array([0.0, 1.0]), 0.0)
        array([[-1.,  2.]])
    """
    out = np.empty(x.shape, x.dtype)
    bias = np.zeros(x.shape[1], x.dtype) if bias is None else np.ascontiguousarray(bias)
    _layer_norm(np.ascontiguousarray(x), _or_ones(weight, x), bias, eps, out)
    return out


def layer_norm_backward(
    grad: Array, x: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Return the gradients for x, weight and bias.

    Example:
        >>> grad, x = np.array([[1.0, 0.0]]), np.array([[1.0, 3.0]])
        >>> for gradient in layer_norm_backward(grad, x, None, 1.0):
        ...     print(gradient.round(4))
        [[ 0.1768 -0.1768]]
        [-0.7071  0.    ]
        [1. 0.]
    """
    gradients = _gradients(x)
    arrays = np.ascontiguousarray(grad), np.ascontiguousarray(x), _or_ones(weight, x)
    _layer_norm_backward(*arrays, eps, *gradients)
    return gradients


def layer_norm_average_backward(
    grad: Array,
    start: Array,
    end: Array,
    start_weight: Array | None,
    end_weight: Array | None,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Return the gradients through the Jacobian averaged along the segment of x and weight.

    The Jacobian of the normalized rows is averaged by quadrature, then changed along d to be
    complete: J̄ d is the change of the normalized rows. For their product with the weight it is the
    Jacobian at the midpoint of the two factors.

    Example:
        >>> grad, start, end = np.ones((1, 2)), np.array([[1.0, 3.0]]), np.array([[0.0, 5.0]])
        >>> x_grad, *_ = layer_norm_average_backward(grad, start, end, None, None, 1.0)
        >>> bool(abs((x_grad * (end - start)).sum()) < 1e-15)
        True
    """
    gradients = _gradients(start)
    _layer_norm_average_backward(
        np.ascontiguousarray(grad),
        np.ascontiguousarray(start),
        np.ascontiguousarray(end),
        _or_ones(start_weight, start),
        _or_ones(end_weight, start),
        eps,
        *gradients,
    )
    return gradients


def _or_ones(weight: Array | None, x: Array) -> Array:
    return np.ones(x.shape[1], x.dtype) if weight is None else np.ascontiguousarray(weight)


def _gradients(x: Array) -> tuple[Array, Array, Array]:
    n = x.shape[1]
    return np.empty(x.shape, x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype)


@inline
def _centred(x: float, mean: float, rest: float) -> float:
    """x minus its mean, which is mean + rest, unrounded; the sum must not be taken first."""
    return (x - mean) - rest


@inline
def _exact(squares: float) -> bool:
    """Whether a sum of squares in single precision has neither overflowed nor underflowed."""
    return 1e-30 < squares < 1e38


@kernel("const real[:, :], const real[:], const real[:], float64, real[:, :]", reassociate=True)
def _layer_norm(x: Array, weight: Array, bias: Array, eps: float, out: Array) -> None:
    real, (rows, n) = x.dtype.type, x.shape
    for row in range(rows):
        total = variance = 0.0
        for j in range(n):
            total += x[row, j]
        mean = real(total / n)
        rest = real(total / n - mean)
        for j in range(n):
            c = _centred(x[row, j], mean, rest)
            variance += c * c
        if not _exact(variance):
            variance = 0.0
            for j in range(n):
                wide = np.float64(_centred(x[row, j], mean, rest))
                variance += wide * wide
        scale = real(1 / math.sqrt(variance / n + eps))
        for j in range(n):
            out[row, j] = _centred(x[row, j], mean, rest) * scale * weight[j] + bias[j]


@kernel(
    "const real[:, :], const real[:, :], const real[:], float64, real[:, :], real[:], real[:]",
    reassociate=True,
)
def _layer_norm_backward(
    grad: Array,
    x: Array,
    weight: Array,
    eps: float,
    x_grad: Array,
    weight_grad: Array,
    bias_grad: Array,
) -> None:
    real, (rows, n) = x.dtype.type, x.shape
    weight_sum, bias_sum = np.zeros(n), np.zeros(n)
    for row in range(rows):
        total = cc = g1 = gc = 0.0
        for j in range(n):
            total += x[row, j]
        mean = real(total / n)
        rest = real(total / n - mean)
        for j in range(n):
            c, g = _centred(x[row, j], mean, rest), grad[row, j] * weight[j]
            cc += c * c
            g1 += g
            gc += g * c
            x_grad[row, j] = g
        if not _exact(cc):
            cc = gc = 0.0
            for j in range(n):
                wide = np.float64(_centred(x[row, j], mean, rest))
                cc += wide * wide
                gc += x_grad[row, j] * wide
        inverse = 1 / math.sqrt(cc / n + eps)
        scale, common = real(inverse), real(g1 / n)
        along = real(inverse * inverse * gc / n)
        for j in range(n):
            c = _centred(x[row, j], mean, rest)
            # Read the product from memory: a fused one would differ from the summed one.
            x_grad[row, j] = scale * ((x_grad[row, j] - common) - along * c)
            weight_sum[j] += grad[row, j] * (scale * c)
            bias_sum[j] += grad[row, j]
    for j in range(n):
        weight_grad[j], bias_grad[j] = weight_sum[j], bias_sum[j]


@kernel(
    "const real[:, :], const real[:, :], const real[:, :], const real[:], const real[:], float64,"
    " real[:, :], real[:], real[:]",
    reassociate=True,
)
def _layer_norm_average_backward(
    grad: Array,
    start: Array,
    end: Array,
    start_weight: Array,
    end_weight: Array,
    eps: float,
    x_grad: Array,
    weight_grad: Array,
    bias_grad: Array,
) -> None:
    rows, n = start.shape
    weight_sum, bias_sum = np.zeros(n), np.zeros(n)
    weight, products = np.empty(n), np.empty(n)
    for j in range(n):
        weight[j] = (np.float64(start_weight[j]) + np.float64(end_weight[j])) / 2
    for row in range(rows):
        mean = drift = 0.0
        for j in range(n):
            mean += start[row, j]
            drift += np.float64(end[row, j]) - np.float64(start[row, j])
        mean /= n
        drift /= n
        cc = cd = dd = g1 = gc = gd = 0.0
        for j in range(n):
            c, g = start[row, j] - mean, grad[row, j] * weight[j]
            d = np.float64(end[row, j]) - np.float64(start[row, j]) - drift
            cc += c * c
            cd += c * d
            dd += d * d
            g1 += g
            gc += g * c
            gd += g * d
            products[j] = g
        cc, cd, dd, g1, gc, gd = cc / n, cd / n, dd / n, g1 / n, gc / n, gd / n
        along_g = along_c = along_d = 0.0
        for position, share in _GAUSS:
            inverse = 1 / math.sqrt(cc + position * (2 * cd + position * dd) + eps)
            cube = share * inverse * inverse * inverse * (gc + position * gd)
            along_g += share * inverse
            along_c += cube
            along_d += position * cube
        at_start = math.sqrt(cc + eps)
        at_end = math.sqrt(cc + 2 * cd + dd + eps)
        # ⟨g, normalized end - normalized start⟩, without a difference that cancels.
        change = gd / at_end - gc * (2 * cd + dd) / (at_start * at_end * (at_start + at_end))
        if dd > 0:
            along_d -= (change - (along_g * gd - along_c * cd - along_d * dd)) / dd
        first, last = 0.5 / at_start, 0.5 / at_end
        for j in range(n):
            c = start[row, j] - mean
            d = np.float64(end[row, j]) - np.float64(start[row, j]) - drift
            x_grad[row, j] = along_g * (products[j] - g1) - along_c * c - along_d * d
            weight_sum[j] += grad[row, j] * (first * c + last * (c + d))
            bias_sum[j] += grad[row, j]
    for j in range(n):
        weight_grad[j], bias_grad[j] = weight_sum[j], bias_sum[j]
