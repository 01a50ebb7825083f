"""Softmax over rows, its gradient and its average, and the cross-entropy with classes.

Rows are processed in blocks that stay in the cache. For cross-entropy and averages each is
transposed: a loop over the rows then runs along memory, and LLVM vectorizes it however short the
rows are. A long row is a block by itself, spread over many columns, whose sums are added up at the
end. Sums are taken in double precision.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .exponential import exponentials
from .jit import Array, called, inline, kernel
from .threads import in_parallel

__all__ = [
    "average_softmax",
    "cross_entropy",
    "cross_entropy_average_backward",
    "cross_entropy_backward",
    "first_outside",
    "softmax",
    "softmax_backward",
]

_BLOCK = 2048  # elements of a block of short rows
_COLUMNS = 64  # over which a long row is spread; it has more elements
_PRODUCTS, _PRODUCTS_BACKWARD = 16, 8  # that take as long as an element of a softmax
_REDUCTIONS = {"none": 0, "sum": 1, "mean": 2}

_LOBATTO = (0.5 - math.sqrt(0.05), 0.5 + math.sqrt(0.05))
"""The inner nodes of Lobatto's quadrature with four nodes; they weigh 5/12, the ends 1/12."""

_SLIGHT = 1 / 1024
"""Up to it, 1 + u may replace e^u: they differ by u²/2, and the quadrature is off by about u."""


def softmax(x: Array, masked: bool) -> Array:
    """Return the softmax of rows.

    Args:
        x: (N, C), float32 or float64.
        masked: Whether a row of minus infinities gives zeros; otherwise it gives NaN.

    Example:
        >>> softmax(np.array([[0.0, 0.0, -np.inf], [-np.inf] * 3]), masked=True)
        array([[0.5, 0.5, 0. ],
               [0. , 0. , 0. ]])
    """
    x, out = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    lowest = np.finfo(x.dtype).min if masked else -math.inf

    def work(part: slice) -> None:
        _softmax_rows(x[part], lowest, out[part])

    in_parallel(work, len(x), x.size * _PRODUCTS)
    return out


def softmax_backward(grad: Array, out: Array) -> Array:
    """Return the gradient of x, given that of `out`, the softmax of its rows.

    Example:
        >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
        array([[ 0.25, -0.25]])
    """
    grad, out = np.ascontiguousarray(grad), np.ascontiguousarray(out)
    x_grad = np.empty(out.shape, out.dtype)

    def work(part: slice) -> None:
        _softmax_rows_backward(grad[part], out[part], x_grad[part])

    in_parallel(work, len(out), out.size * _PRODUCTS_BACKWARD)
    return x_grad


def cross_entropy(
    x: Array,
    classes: NDArray[np.int64],
    weight: Array | None,
    ignored: int,
    reduction: str,
) -> Array:
    """Return -w log softmax(x)[class] over the examples, w the weight of the class.

    Args:
        x: (N, C), float32 or float64.
        classes: (N,), from 0 to C - 1, or `ignored` for an example to leave out.
        weight: (C,), of the dtype of x; None for ones. A weight of zero leaves examples out.
        ignored: The class that marks examples to leave out.
        reduction: "none" for (N,); "sum"; "mean", weighted by the examples' weights.

    Example:
        >>> cross_entropy(np.zeros((3, 2)), np.array([0, 1, -1]), None, -1, "none").round(4)
        array([0.6931, 0.6931, 0.    ])
    """
    out = np.empty(len(x) if reduction == "none" else (), x.dtype)
    _cross_entropy(*_arrays(x, classes, weight), ignored, _REDUCTIONS[reduction], out.reshape(-1))
    return out


def cross_entropy_backward(
    grad: Array,
    x: Array,
    classes: NDArray[np.int64],
    weight: Array | None,
    ignored: int,
    reduction: str,
) -> Array:
    """Return the gradient of x, given the gradient of the result of `cross_entropy`.

    Example:
        >>> grad, classes = np.ones(()), np.array([0])
        >>> cross_entropy_backward(grad, np.zeros((1, 2)), classes, None, -1, "sum")
        array([[-0.5,  0.5]])
    """
    x_grad = np.empty(x.shape, x.dtype)
    arrays = _arrays(x, classes, weight)
    _cross_entropy_backward(grad.ravel(), *arrays, ignored, _REDUCTIONS[reduction], x_grad)
    return x_grad


def cross_entropy_average_backward(
    grad: Array,
    start: Array,
    end: Array,
    classes: NDArray[np.int64],
    weight: Array | None,
    ignored: int,
    reduction: str,
) -> Array:
    """Return the gradient of x through the Jacobian averaged along the segment.

    It is the gradient with `average_softmax` in place of the softmax.

    Example:
        >>> grad, classes = np.ones(()), np.array([0])
        >>> start, end = np.zeros((1, 2)), np.array([[0.0, 2.0]])
        >>> x_grad = cross_entropy_average_backward(grad, start, end, classes, None, -1, "sum")
        >>> before, after = (cross_entropy(x, classes, None, -1, "sum") for x in (start, end))
        >>> bool(np.isclose((x_grad * (end - start)).sum(), after - before, rtol=1e-14))
        True
    """
    x_grad = np.empty(start.shape, start.dtype)
    _cross_entropy_average_backward(
        grad.ravel(),
        np.ascontiguousarray(start),
        *_arrays(end, classes, weight),
        ignored,
        _REDUCTIONS[reduction],
        x_grad,
    )
    return x_grad


def average_softmax(start: Array, end: Array) -> Array:
    """Return the softmax of rows, averaged while they move straight from start to end.

    Lobatto's quadrature, which includes the ends, approximates it. Completeness requires the
    average to be orthogonal to the step d of log softmax. Multiplying it by e^(-βd), with the β
    that achieves this, keeps it positive and symmetric in start and end. Where all these factors
    are close to 1, linear ones replace them.

    Args:
        start: (N, C), float32 or float64.
        end: Likewise.

    Example:
        >>> start, end = np.array([[0.0, 30.0]]), np.array([[0.0, -50.0]])
        >>> p = average_softmax(start, end)
        >>> [round(float(share), 12) for share in p[0]]
        [0.625, 0.375]
    """
    out = np.empty(start.shape, start.dtype)
    _average_softmax(np.ascontiguousarray(start), np.ascontiguousarray(end), out)
    return out


@kernel("const int64[:], int64, int64")
def first_outside(classes: NDArray[np.int64], count: int, ignored: int) -> int:
    """Return the place of the first class neither `ignored` nor in 0 to count - 1, or -1.

    Example:
        >>> first_outside(np.array([0, -1, 3, 2]), 3, -1)
        2
    """
    for i in range(classes.size):
        if classes[i] != ignored and not 0 <= classes[i] < count:
            return i
    return -1


def _arrays(
    x: Array, classes: NDArray[np.int64], weight: Array | None
) -> tuple[Array, NDArray[np.int64], Array]:
    weight = np.empty(0, x.dtype) if weight is None else np.ascontiguousarray(weight)
    return np.ascontiguousarray(x), classes, weight


@kernel("const real[:, :], float64, real[:, :]", reassociate=True)
def _softmax_rows(x: Array, lowest: float, out: Array) -> None:
    real, n = x.dtype.type, x.shape[1]
    most = max(1, _BLOCK // max(1, n))
    for first in range(0, len(x), most):
        rows, powers = x[first : first + most], out[first : first + most]
        for i in range(len(rows)):
            top = real(lowest)
            for j in range(n):
                top = max(top, rows[i, j])
            for j in range(n):
                powers[i, j] = rows[i, j] - top
        # Over the whole block, since the last elements of short rows would not fill a vector
        # register.
        exponentials(powers.reshape(-1))
        for i in range(len(rows)):
            total = 0.0
            for j in range(n):
                total += powers[i, j]
            share = real(1 / total if total != 0 else 0.0)
            for j in range(n):
                powers[i, j] *= share


@kernel("const real[:, :], const real[:, :], real[:, :]", reassociate=True)
def _softmax_rows_backward(grad: Array, out: Array, x_grad: Array) -> None:
    real, (rows, n) = out.dtype.type, out.shape
    for i in range(rows):
        total = 0.0
        for j in range(n):
            total += np.float64(grad[i, j]) * np.float64(out[i, j])
        mean = real(total)
        for j in range(n):
            x_grad[i, j] = out[i, j] * (grad[i, j] - mean)


@kernel("const real[:, :], const int64[:], const real[:], int64, int64, real[:]")
def _cross_entropy(
    x: Array, classes: NDArray[np.int64], weight: Array, ignored: int, reduction: int, out: Array
) -> None:
    most, size = _block(x)
    scratch, tops, sums = np.empty(size, x.dtype), np.empty(size, x.dtype), np.empty(size)
    total = divisor = 0.0
    for first in range(0, len(x), most):
        rows = x[first : first + most]
        powers = _columns(rows, scratch)
        _lay_out(rows, powers)
        _exponentiate(powers, len(rows), tops, sums)
        for i in range(len(rows)):
            label = classes[first + i]
            w = _weight_of(label, x.shape[1], weight, ignored)
            loss = 0.0
            if w != 0:
                below = np.float64(rows[i, label]) - np.float64(tops[i])
                loss = w * (math.log(sums[i]) - below)
            if reduction == 0:
                out[first + i] = loss
            total += loss
            divisor += w
    if reduction > 0:
        out[0] = total / divisor if reduction == 2 else total


@kernel("const real[:], const real[:, :], const int64[:], const real[:], int64, int64, real[:, :]")
def _cross_entropy_backward(
    grad: Array,
    x: Array,
    classes: NDArray[np.int64],
    weight: Array,
    ignored: int,
    reduction: int,
    x_grad: Array,
) -> None:
    most, size = _block(x)
    scratch, tops, sums = np.empty(size, x.dtype), np.empty(size, x.dtype), np.empty(size)
    divisor = _divisor(classes, x.shape[1], weight, ignored, reduction)
    for first in range(0, len(x), most):
        rows = x[first : first + most]
        p = _columns(rows, scratch)
        _lay_out(rows, p)
        _softmax(p, len(rows), tops, sums)
        _pull(p, first, grad, classes, weight, ignored, reduction, divisor, x_grad)


@kernel(
    "const real[:], const real[:, :], const real[:, :], const int64[:], const real[:],"
    " int64, int64, real[:, :]"
)
def _cross_entropy_average_backward(
    grad: Array,
    start: Array,
    end: Array,
    classes: NDArray[np.int64],
    weight: Array,
    ignored: int,
    reduction: int,
    x_grad: Array,
) -> None:
    most, size = _block(start)
    scratch, sums = np.empty((6, size), start.dtype), np.empty((2, size))
    divisor = _divisor(classes, start.shape[1], weight, ignored, reduction)
    for first in range(0, len(start), most):
        p = _average(start[first : first + most], end[first : first + most], scratch, sums)
        _pull(p, first, grad, classes, weight, ignored, reduction, divisor, x_grad)


@kernel("const real[:, :], const real[:, :], real[:, :]")
def _average_softmax(start: Array, end: Array, out: Array) -> None:
    most, size = _block(start)
    scratch, sums = np.empty((6, size), start.dtype), np.empty((2, size))
    for first in range(0, len(start), most):
        rows = out[first : first + most]
        p = _average(start[first : first + most], end[first : first + most], scratch, sums)
        flat, between = p.reshape(-1), len(rows)
        for i in range(len(rows)):
            for j in range(rows.shape[1]):
                rows[i, j] = flat[i + j * between]


@inline
def _weight_of(label: np.int64, n: int, weight: Array, ignored: int) -> float:
    """A class out of range counts as ignored: the caller must check for it."""
    if label == ignored or not 0 <= label < n:
        return 0.0
    return np.float64(weight[label]) if weight.size else 1.0


@inline
def _divisor(
    classes: NDArray[np.int64], n: int, weight: Array, ignored: int, reduction: int
) -> float:
    """The divisor of the gradient: the sum of the examples' weights for a mean, otherwise 1."""
    if reduction != 2:
        return 1.0
    total = 0.0
    for i in range(classes.size):
        total += _weight_of(classes[i], n, weight, ignored)
    return total


@called
def _pull(
    p: Array,
    first: int,
    grad: Array,
    classes: NDArray[np.int64],
    weight: Array,
    ignored: int,
    reduction: int,
    divisor: float,
    x_grad: Array,
) -> None:
    """Turn the columns of probabilities into the rows of the gradient."""
    real = x_grad.dtype.type
    rows = x_grad[first : first + _block(x_grad)[0]]
    flat, between = p.reshape(-1), len(rows)
    for i in range(len(rows)):
        label = classes[first + i]
        w = _weight_of(label, rows.shape[1], weight, ignored)
        if w == 0:
            rows[i] = 0
            continue
        factor = real(w * (grad[first + i] if reduction == 0 else grad[0]) / divisor)
        for j in range(rows.shape[1]):
            rows[i, j] = factor * flat[i + j * between]
        rows[i, label] -= factor


# Columns ------------------------------------------------------------------------------------------


@inline
def _block(x: Array) -> tuple[int, int]:
    """Return the number of rows in a block of x, and the number of elements in its columns."""
    rows, n = x.shape
    if n > _COLUMNS:
        return 1, n + -n % _COLUMNS
    most = max(1, min(rows, _BLOCK // max(1, n)))
    return most, most * max(1, n)


@inline
def _columns(rows: Array, scratch: Array) -> Array:
    """Return memory for the columns of a block: one for each row, `_COLUMNS` for a long row."""
    count, n = rows.shape
    if n > _COLUMNS:
        return scratch.reshape(-1, _COLUMNS)
    return scratch[: n * count].reshape(n, count)


@called
def _lay_out(rows: Array, columns: Array) -> None:
    """Copy a block to its columns; those of a long row are padded with -inf, which no class has."""
    flat, between = columns.reshape(-1), len(rows)
    for i in range(len(rows)):
        for j in range(rows.shape[1]):
            flat[i + j * between] = rows[i, j]
    for i in range(rows.size, flat.size):
        flat[i] = -math.inf


@called
def _exponentiate(x: Array, rows: int, tops: Array, sums: Array) -> None:
    """Overwrite x by e^(x - top), top the largest of a row, and sum the rows."""
    n, count = x.shape
    for i in range(count):
        tops[i] = -math.inf
        sums[i] = 0
    for j in range(n):
        for i in range(count):
            tops[i] = max(tops[i], x[j, i])
    if count != rows:
        tops[:count] = tops[:count].max()
    for j in range(n):
        for i in range(count):
            x[j, i] -= tops[i]
    exponentials(x.reshape(-1))
    for j in range(n):
        for i in range(count):
            sums[i] += x[j, i]
    _add_up(sums, rows, count)


@inline
def _add_up(sums: Array, rows: int, count: int) -> None:
    """Give each column of a long row the sum over all of them."""
    if count != rows:
        sums[:count] = sums[:count].sum()


@called
def _softmax(x: Array, rows: int, tops: Array, sums: Array) -> None:
    """Overwrite the rows by their softmax."""
    n, count = x.shape
    _exponentiate(x, rows, tops, sums)
    for i in range(count):
        sums[i] = 1 / sums[i]
    for j in range(n):
        for i in range(count):
            x[j, i] *= x.dtype.type(sums[i])


@called
def _log_softmax(x: Array, rows: int, p: Array, tops: Array, sums: Array) -> None:
    """Write the softmax of the rows to p, and overwrite the rows by its logarithm."""
    n, count = x.shape
    p[...] = x
    _softmax(p, rows, tops, sums)
    for i in range(count):
        sums[i] = math.log(sums[i])
    for j in range(n):
        for i in range(count):
            x[j, i] = (x[j, i] - tops[i]) + x.dtype.type(sums[i])


@called
def _average(start: Array, end: Array, scratch: Array, totals: Array) -> Array:
    """Return the columns of the averaged softmax of a block, in the first part of `scratch`.

    Rows differ from the logarithms of their softmax by a constant, which softmax does not see.
    """
    rows, real = len(start), scratch.dtype.type
    p, work = _columns(start, scratch[0]), _columns(start, scratch[1])
    y, step = _columns(start, scratch[2]), _columns(start, scratch[3])
    tops, farthest, sums, others = scratch[4], scratch[5], totals[0], totals[1]
    _lay_out(start, y)
    _lay_out(end, step)
    n, count = p.shape
    finfo = np.finfo(p.dtype)
    lowest = real(-math.sqrt(finfo.max) / 4)
    _log_softmax(y, rows, p, tops, sums)
    _log_softmax(step, rows, work, tops, sums)
    for j in range(n):
        for i in range(count):
            p[j, i] = (p[j, i] + work[j, i]) / real(12)
            # Not below `lowest`: infinities have no difference, and squares must not overflow. p is
            # 0 there.
            y[j, i] = max(y[j, i], lowest)
            step[j, i] = max(step[j, i], lowest) - y[j, i]
    for position in _LOBATTO:
        for j in range(n):
            for i in range(count):
                work[j, i] = y[j, i] + real(position) * step[j, i]
        _softmax(work, rows, tops, sums)
        for j in range(n):
            for i in range(count):
                p[j, i] += real(5 / 12) * work[j, i]
    for i in range(count):
        sums[i] = others[i] = farthest[i] = 0
    for j in range(n):
        for i in range(count):
            sums[i] += p[j, i] * step[j, i]
            others[i] += p[j, i] * (2 * y[j, i] + step[j, i])
    _add_up(sums, rows, count)
    _add_up(others, rows, count)
    for i in range(count):
        # A drift that the rounding of y can explain says nothing against the quadrature.
        tops[i] = sums[i]
        sums[i] = sums[i] if abs(sums[i]) > 4 * finfo.eps * (1 - others[i]) else 0
        others[i] = 0
    for j in range(n):
        for i in range(count):
            others[i] += p[j, i] * (step[j, i] - tops[i]) * step[j, i]
            farthest[i] = max(farthest[i], abs(step[j, i] - tops[i]))
    _add_up(others, rows, count)
    if count != rows:
        farthest[:count] = farthest[:count].max()
    for i in range(count):
        sums[i] = sums[i] / others[i] if sums[i] != 0 else 0
    for i in range(rows):
        if abs(sums[i]) * farthest[i] > _SLIGHT:
            sums[i:count:rows] = 0
            _tilt(p.reshape(-1)[i::rows], step.reshape(-1)[i::rows])
    for j in range(n):
        for i in range(count):
            p[j, i] *= 1 - real(sums[i]) * (step[j, i] - tops[i])
    return p


@called
def _tilt(p: Array, step: Array) -> None:
    """Multiply probabilities by e^(-β step), with the β for which their mean step is 0.

    For steps up and for steps down, the mean is the difference of two positive sums. The difference
    of their logarithms is nearly linear in β, so Newton's method needs few iterations. Adding the
    rounding error to both sums does not change the solution, and gives one where all steps seem to
    go the same way.
    """
    logs, work = np.empty(p.size), np.empty(p.size)
    least = math.log(np.finfo(p.dtype).eps)
    for j in range(p.size):
        logs[j] = math.log(p[j]) if p[j] > 0 else -math.inf
    beta, low, high = 0.0, -math.inf, math.inf
    for _ in range(100):
        top_up = top_down = least
        for j in range(p.size):
            work[j] = -math.inf
            if step[j] != 0:
                work[j] = logs[j] + math.log(abs(step[j])) - beta * step[j]
            if step[j] > 0:
                top_up = max(top_up, work[j])
            else:
                top_down = max(top_down, work[j])
        for j in range(p.size):
            work[j] -= top_up if step[j] > 0 else top_down
        exponentials(work)
        up, down = math.exp(least - top_up), math.exp(least - top_down)
        up_slope = down_slope = 0.0
        for j in range(p.size):
            if step[j] > 0:
                up += work[j]
                up_slope += work[j] * step[j]
            else:
                down += work[j]
                down_slope -= work[j] * step[j]
        gap = (top_down - top_up) + math.log(down / up)
        if abs(gap) <= 1e-15 * (abs(top_up) + abs(top_down) + 10):
            break
        following = beta - gap / (up_slope / up + down_slope / down)
        if following == beta:
            break
        if gap < 0:
            low = beta
        else:
            high = beta
        beta = following if low < following < high else low / 2 + high / 2
    top = -math.inf
    for j in range(p.size):
        work[j] = logs[j] - beta * step[j]
        top = max(top, work[j])
    for j in range(p.size):
        work[j] -= top
    exponentials(work)
    total = work.sum()
    for j in range(p.size):
        p[j] = work[j] / total
