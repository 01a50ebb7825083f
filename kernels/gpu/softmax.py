"""The cross-entropy of softmax with classes, its gradient and average; a warp or block to a row.

Checking for classes out of range is up to the caller, see `first_outside`, and may be done later:
such a class makes the results meaningless, but nothing beyond the arrays is read or written.
"""

import cupy

from .launch import Kernel, over_rows

__all__ = [
    "average_softmax",
    "cross_entropy",
    "cross_entropy_average_backward",
    "cross_entropy_backward",
    "first_outside",
]

_average_softmax = Kernel(
    "softmax.cu", "average_softmax", "const real*, const real*, real*, int64, int64"
)
_EXAMPLES = "const int64*, const double*"
_cross_entropy = Kernel(
    "softmax.cu", "cross_entropy", f"const real*, {_EXAMPLES}, double*, int64, int64"
)
_cross_entropy_backward = Kernel(
    "softmax.cu", "cross_entropy_backward", f"const real*, {_EXAMPLES}, real*, int64, int64"
)
_cross_entropy_average_backward = Kernel(
    "softmax.cu",
    "cross_entropy_average_backward",
    f"const real*, const real*, {_EXAMPLES}, real*, int64, int64",
)


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
        ignored: the class that marks examples to leave out.
        reduction: "none" for (N,); "sum"; "mean", weighted by the examples' weights.

    Example:
        >>> cross_entropy(cupy.zeros((3, 2)), cupy.array([0, 1, -1]), None, -1, "none").round(4)
        array([0.6931, 0.6931, 0.    ])
    """
    rows, n = x.shape
    weights = _weights(classes, weight, ignored)
    losses = cupy.empty(rows)
    _cross_entropy(over_rows(rows, n), cupy.ascontiguousarray(x), classes, weights, losses, rows, n)
    if reduction != "none":
        losses = losses.sum() / weights.sum() if reduction == "mean" else losses.sum()
    return losses.astype(x.dtype)


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
    factors = _factors(grad, classes, weight, ignored, reduction)
    x = cupy.ascontiguousarray(x)
    _cross_entropy_backward(over_rows(rows, n), x, classes, factors, x_grad, rows, n)
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
    """Return the gradient by the Jacobian averaged while x moves straight from start to end.

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
    factors = _factors(grad, classes, weight, ignored, reduction)
    ends = map(cupy.ascontiguousarray, (start, end))
    _cross_entropy_average_backward(over_rows(rows, n), *ends, classes, factors, x_grad, rows, n)
    return x_grad


def average_softmax(start: cupy.ndarray, end: cupy.ndarray) -> cupy.ndarray:
    """Return the softmax of rows, averaged while they move straight from start to end.

    Lobatto's quadrature, which includes the ends, gives it nearly. Completeness requires it to be
    orthogonal to the step d of log softmax. Multiplying by e^(-βd), with the β for which it is,
    keeps it positive and symmetric in start and end. Where all these factors are close to 1, they
    are linear in d.

    Args:
        start: (N, C), float32 or float64.
        end: likewise.

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
    # As uint64 a negative number is larger than any class and any place.
    outside = (classes.view(cupy.uint64) >= count) & (classes != ignored)
    places = cupy.where(outside, cupy.arange(classes.size), -1)
    return places.view(cupy.uint64).min().view(cupy.int64)


def _weights(classes: cupy.ndarray, weight: cupy.ndarray | None, ignored: int) -> cupy.ndarray:
    """Return the examples' weights, 0 for examples to leave out."""
    kept = classes != ignored
    if weight is None:
        return kept.astype(cupy.float64)
    return weight[cupy.clip(classes, 0, len(weight) - 1)].astype(cupy.float64) * kept


def _factors(
    grad: cupy.ndarray,
    classes: cupy.ndarray,
    weight: cupy.ndarray | None,
    ignored: int,
    reduction: str,
) -> cupy.ndarray:
    """Return the factor of the gradient of each example's own loss."""
    weights = _weights(classes, weight, ignored)
    scale = grad.astype(cupy.float64)
    if reduction == "mean":
        scale = scale / cupy.maximum(weights.sum(), cupy.finfo(cupy.float64).tiny)
    return weights * scale
