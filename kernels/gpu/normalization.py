"""Rows normalized to mean 0 and variance 1, scaled and shifted; a warp or a block to a row."""

import cupy

from .launch import Kernel, over_rows

__all__ = ["layer_norm", "layer_norm_average_backward", "layer_norm_backward"]


def _kernel(name: str, arrays: int, results: int) -> Kernel:
    types = ["const real*"] * arrays + ["real*"] * results + ["int64", "int64", "double"]
    return Kernel("normalization.cu", name, ", ".join(types))


_layer_norm = _kernel("layer_norm", 3, 1)
_layer_norm_backward = _kernel("layer_norm_backward", 3, 2)
_layer_norm_average_backward = _kernel("layer_norm_average_backward", 5, 2)


def layer_norm(
    x: cupy.ndarray, weight: cupy.ndarray | None, bias: cupy.ndarray | None, eps: float
) -> cupy.ndarray:
    """Return (x - mean) / √(variance + eps) · weight + bias for each row.

    Args:
        x: (rows, n), float32 or float64.
        weight: (n,), of the dtype of x; None for ones.
        bias: Likewise; None for zeros.
        eps: Added to the variance.

    Example:
        >>> layer_norm(cupy.array([[1.0, 3.0]]), None, cupy.array([0.0, 1.0]), 0.0)
        array([[-1.,  2.]])
    """
    rows, n = x.shape
    out = cupy.empty(x.shape, x.dtype)
    bias = cupy.zeros(n, x.dtype) if bias is None else cupy.ascontiguousarray(bias)
    x, weight = cupy.ascontiguousarray(x), _or_ones(weight, x)
    _layer_norm(over_rows(rows, n), x, weight, bias, out, rows, n, eps)
    return out


def layer_norm_backward(
    grad: cupy.ndarray, x: cupy.ndarray, weight: cupy.ndarray | None, eps: float
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """Return the gradients for x, weight and bias.

    Example:
        >>> grad, x = cupy.array([[1.0, 0.0]]), cupy.array([[1.0, 3.0]])
        >>> for gradient in layer_norm_backward(grad, x, None, 1.0):
        ...     print(gradient.round(4))
        [[ 0.1768 -0.1768]]
        [-0.7071  0.    ]
        [1. 0.]
    """
    rows, n = x.shape
    grad, x = map(cupy.ascontiguousarray, (grad, x))
    x_grad, normalized = (cupy.empty(x.shape, x.dtype) for _ in range(2))
    arrays = grad, x, _or_ones(weight, x), x_grad, normalized
    _layer_norm_backward(over_rows(rows, n), *arrays, rows, n, eps)
    return x_grad, _column_sums(grad * normalized), _column_sums(grad)


def layer_norm_average_backward(
    grad: cupy.ndarray,
    start: cupy.ndarray,
    end: cupy.ndarray,
    start_weight: cupy.ndarray | None,
    end_weight: cupy.ndarray | None,
    eps: float,
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """Return the gradients through the Jacobian averaged while x and weight move straight.

    The Jacobian of the normalized rows is averaged by quadrature, then changed along the step to be
    complete. For their product with the weight it is the Jacobian at the midpoint of the two.

    Example:
        >>> grad, start, end = cupy.ones((1, 2)), cupy.array([[1.0, 3.0]]), cupy.array([[0.0, 5.0]])
        >>> x_grad, *_ = layer_norm_average_backward(grad, start, end, None, None, 1.0)
        >>> bool(abs((x_grad * (end - start)).sum()) < 1e-15)
        True
    """
    rows, n = start.shape
    grad, start, end = map(cupy.ascontiguousarray, (grad, start, end))
    weights = (_or_ones(weight, start) for weight in (start_weight, end_weight))
    x_grad, normalized = (cupy.empty(start.shape, start.dtype) for _ in range(2))
    arrays = grad, start, end, *weights, x_grad, normalized
    _layer_norm_average_backward(over_rows(rows, n), *arrays, rows, n, eps)
    return x_grad, _column_sums(grad * normalized), _column_sums(grad)


def _or_ones(weight: cupy.ndarray | None, x: cupy.ndarray) -> cupy.ndarray:
    return cupy.ones(x.shape[1], x.dtype) if weight is None else cupy.ascontiguousarray(weight)


def _column_sums(x: cupy.ndarray) -> cupy.ndarray:
    return cupy.sum(x, axis=0, dtype=cupy.float64).astype(x.dtype)
