"""Softmax over rows, and the cross-entropy with classes, its gradient and its average.

The cross-entropy has one warp to a short row, and one block to a long one.

Checking for classes out of range is up to the caller, see `first_outside`, and may be done later:
such a class makes the results meaningless, but nothing beyond the arrays is read or written.
"""

import cupy

from .launch import Kernel, over_rows, summing

__all__ = [
    "average_softmax",
    "cross_entropy",
    "cross_entropy_average_backward",
    "cross_entropy_backward",
    "first_outside",
    "softmax",
    "softmax_backward",
]

_average_softmax = Kernel(
    "softmax.cu", "average_softmax", "const real*, const real*, real*, int64, int64"
)
_first_outside = Kernel("softmax.cu", "first_outside", "const int64*, int64*, int64, int64, int64")
_example_weights = Kernel(
    "softmax.cu",
    "example_weights",
    "const int64*, const real*, double*, double*, int64, int64, int64, bool",
)
_cross_entropy = Kernel(
    "softmax.cu",
    "cross_entropy",
    "const real*, const int64*, const double*, double*, int64, int64",
)
_sum_losses = Kernel("softmax.cu", "sum_losses", "const double*, double*, int64")
_total_loss = Kernel(
    "softmax.cu", "total_loss", "const double*, const double*, real*, int64, int64, bool"
)
_FACTORS = "const int64*, const double*, const double*, const real*"
_SIZES = "int64, int64, int64, int64"
_cross_entropy_backward = Kernel(
    "softmax.cu", "cross_entropy_backward", f"const real*, {_FACTORS}, real*, {_SIZES}"
)
_cross_entropy_average_backward = Kernel(
    "softmax.cu",
    "cross_entropy_average_backward",
    f"const real*, const real*, {_FACTORS}, real*, {_SIZES}",
)
_REDUCTIONS = "none", "sum", "mean"
"""In the order of their numbers in softmax.cu."""


def softmax(x: cupy.ndarray, masked: bool) -> cupy.ndarray:
    """Return the softmax of rows.

    Args:
        x: (N, C), float32 or float64.
        masked: Whether a row of minus infinities gives zeros; otherwise it gives NaN.

    Example:
        >>> softmax(cupy.array([[0.0, 0.0, -cupy.inf], [-cupy.inf] * 3]), masked=True)
        array([[0.5, 0.5, 0. ],
               [0. , 0. , 0. ]])
    """
    if x.size == 0:
        return cupy.empty(x.shape, x.dtype)
    top, limits = x.max(axis=1, keepdims=True), cupy.finfo(x.dtype)
    powers = cupy.exp(x - (cupy.maximum(top, limits.min) if masked else top))
    total = powers.sum(axis=1, keepdims=True)
    return powers / (cupy.maximum(total, limits.tiny) if masked else total)


def softmax_backward(grad: cupy.ndarray, out: cupy.ndarray) -> cupy.ndarray:
    """Return the gradient of x, given that of `out`, the softmax of its rows.

    Example:
        >>> softmax_backward(cupy.array([[1.0, 0.0]]), cupy.array([[0.5, 0.5]]))
        array([[ 0.25, -0.25]])
    """
    x_grad = grad * out
    return x_grad - out * x_grad.sum(axis=1, keepdims=True)


def cross_entropy(
    x: cupy.ndarray,
    classes: cupy.ndarray,
    weight: cupy.ndarray | None,
    ignored: int,
    reduction: str,
) -> cupy.ndarray:
    """Return -w log softmax(x)[class] over the examples, w the weight of the class.

    Args:
        x: (N, C), float32 or float64.
        classes: (N,), from 0 to C - 1, or `ignored` for an example to leave out.
        weight: (C,), of the dtype of x; None for ones. A weight of zero leaves examples out.
        ignored: The class that marks examples to leave out.
        reduction: "none" for (N,); "sum"; "mean", weighted by the examples' weights.

    Example:
        >>> cross_entropy(cupy.zeros((3, 2)), cupy.array([0, 1, -1]), None, -1, "none").round(4)
        array([0.6931, 0.6931, 0.    ])
    """
    rows, n = x.shape
    weights, sums = _weights(x, classes, weight, ignored)
    losses = cupy.empty(rows)
    _cross_entropy(over_rows(rows, n), cupy.ascontiguousarray(x), classes, weights, losses, rows, n)
    if reduction == "none":
        return losses.astype(x.dtype)
    grid = summing(rows)
    if grid[0] > 1:
        parts = cupy.empty(grid[0])
        _sum_losses(grid, losses, parts, rows)
        losses = parts
    loss = cupy.empty(1, x.dtype)
    _total_loss((1, 1), losses, sums, loss, losses.size, sums.size, reduction == "mean")
    return loss.reshape(())


def cross_entropy_backward(
    grad: cupy.ndarray,
    x: cupy.ndarray,
    classes: cupy.ndarray,
    weight: cupy.ndarray | None,
    ignored: int,
    reduction: str,
) -> cupy.ndarray:
    """Return the gradient of x, given the gradient of the result of `cross_entropy`.

    Example:
        >>> grad, classes = cupy.ones(()), cupy.array([0])
        >>> cross_entropy_backward(grad, cupy.zeros((1, 2)), classes, None, -1, "sum")
        array([[-0.5,  0.5]])
    """
    rows, n = x.shape
    x_grad = cupy.empty(x.shape, x.dtype)
    weights, sums = _weights(x, classes, weight, ignored)
    arrays = map(cupy.ascontiguousarray, (x, classes, weights, sums, grad))
    sizes = rows, n, sums.size, _REDUCTIONS.index(reduction)
    _cross_entropy_backward(over_rows(rows, n), *arrays, x_grad, *sizes)
    return x_grad


def cross_entropy_average_backward(
    grad: cupy.ndarray,
    start: cupy.ndarray,
    end: cupy.ndarray,
    classes: cupy.ndarray,
    weight: cupy.ndarray | None,
    ignored: int,
    reduction: str,
) -> cupy.ndarray:
    """Return the gradient of x through the Jacobian averaged from `start` to `end`.

    It is the gradient with `average_softmax` in place of the softmax.

    Example:
        >>> grad, classes = cupy.ones(()), cupy.array([0])
        >>> start, end = cupy.zeros((1, 2)), cupy.array([[0.0, 2.0]])
        >>> x_grad = cross_entropy_average_backward(grad, start, end, classes, None, -1, "sum")
        >>> before, after = (cross_entropy(x, classes, None, -1, "sum") for x in (start, end))
        >>> bool(cupy.isclose((x_grad * (end - start)).sum(), after - before, rtol=1e-14))
        True
    """
    rows, n = start.shape
    x_grad = cupy.empty(start.shape, start.dtype)
    weights, sums = _weights(start, classes, weight, ignored)
    arrays = map(cupy.ascontiguousarray, (start, end, classes, weights, sums, grad))
    sizes = rows, n, sums.size, _REDUCTIONS.index(reduction)
    _cross_entropy_average_backward(over_rows(rows, n), *arrays, x_grad, *sizes)
    return x_grad


def average_softmax(start: cupy.ndarray, end: cupy.ndarray) -> cupy.ndarray:
    """Return the softmax of rows, averaged while they move straight from start to end.

    Lobatto's quadrature, which includes the ends, gives it nearly. Completeness requires it to be
    orthogonal to the step d of log softmax. Multiplying by e^(-βd), with the β for which it is,
    keeps it positive and symmetric in start and end. Where all these factors are close to 1, they
    are linear in d.

    Args:
        start: (N, C), float32 or float64.
        end: Likewise.

    Example:
        >>> start, end = cupy.array([[0.0, 30.0]]), cupy.array([[0.0, -50.0]])
        >>> p = average_softmax(start, end)
        >>> [round(float(share), 12) for share in p[0]]
        [0.625, 0.375]
    """
    rows, n = start.shape
    out = cupy.empty(start.shape, start.dtype)
    ends = map(cupy.ascontiguousarray, (start, end))
    _average_softmax(over_rows(rows, n), *ends, out, rows, n)
    return out


def first_outside(classes: cupy.ndarray, count: int, ignored: int) -> cupy.ndarray:
    """Return the place of the first class neither `ignored` nor in 0 to count - 1, or -1.

    The result is an array without axes on the device; reading it waits for the device.

    Example:
        >>> int(first_outside(cupy.array([0, -1, 3, 2]), 3, -1))
        2
    """
    if classes.size == 0:
        return cupy.full((), -1)
    grid = summing(classes.size)
    places = cupy.empty(grid[0], cupy.int64)
    _first_outside(grid, classes, places, classes.size, count, ignored)
    if places.size == 1:
        return places.reshape(())
    # As uint64 the mark of no place is larger than any place.
    return places.view(cupy.uint64).min().view(cupy.int64)


def _weights(
    x: cupy.ndarray, classes: cupy.ndarray, weight: cupy.ndarray | None, ignored: int
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """Return the examples' weights, 0 for examples to leave out, and the parts of their sum."""
    rows, n = x.shape
    grid = summing(rows)
    weights, sums = cupy.empty(rows), cupy.empty(grid[0])
    known = x[:0] if weight is None else cupy.ascontiguousarray(weight)
    sizes = rows, n, ignored, weight is not None
    _example_weights(grid, classes, known, weights, sums, *sizes)
    return weights, sums
