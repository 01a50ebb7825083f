"""Pooling of planes (count, height, width): the largest or the mean of each window.

Windows may overlap; an element accumulates the gradients from all of them. Max pooling never
chooses the padding. Of equal elements it chooses the first, and NaN before any number.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import Array, inline, kernel
from .selection import first_leader, next_leader
from .threads import in_parallel

__all__ = [
    "Window",
    "average_max_gradient",
    "max_gradient",
    "max_pool",
    "mean_gradient",
    "mean_pool",
]


class Window(NamedTuple):
    """The windows' geometry; pairs are of the vertical and the horizontal axis."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def max_pool(x: Array, size: tuple[int, int], window: Window) -> Array:
    """Return the largest element of each window, for an output of `size`.

    Example:
        >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
        >>> max_pool(x, (1, 3), Window((1, 2), (1, 1), (0, 0), (1, 1)))
        array([[[3., 3., 2.]]])
    """
    x, numbers = np.ascontiguousarray(x), _numbers(window)
    out = np.empty((len(x), *size), x.dtype)
    pool = _maxima_by_row if _go_by_row(out, window) else _maxima_by_window

    def work(planes: slice) -> None:
        pool(x[planes], out[planes], *numbers)

    in_parallel(work, len(x), _products(out, window))
    return out


def max_gradient(grad: Array, x: Array, window: Window) -> Array:
    """Pull the output's gradient back to the chosen elements.

    Example:
        >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
        >>> max_gradient(np.ones((1, 1, 3)), x, Window((1, 2), (1, 1), (0, 0), (1, 1)))
        array([[[0., 2., 1., 0.]]])
    """
    grad, x, numbers = np.ascontiguousarray(grad), np.ascontiguousarray(x), _numbers(window)
    x_grad = np.zeros(x.shape, x.dtype)
    pull = _gradient_by_row if _go_by_row(grad, window) else _gradient_by_window

    def work(planes: slice) -> None:
        pull(grad[planes], x[planes], x_grad[planes], *numbers)

    in_parallel(work, len(x), _products(grad, window))
    return x_grad


def average_max_gradient(grad: Array, start: Array, end: Array, window: Window) -> Array:
    """Pull the output's gradient back by the fraction of the segment on which each is chosen.

    Example:
        >>> start, end = np.array([[[3.0, 0.0]]]), np.array([[[0.0, 1.0]]])
        >>> window = Window((1, 2), (1, 1), (0, 0), (1, 1))
        >>> average_max_gradient(np.ones((1, 1, 1)), start, end, window)
        array([[[0.75, 0.25]]])
    """
    x_grad = np.zeros(start.shape, start.dtype)
    ends = np.ascontiguousarray(start), np.ascontiguousarray(end)
    arrays = np.ascontiguousarray(grad), *ends, x_grad
    _average_max_gradient(*arrays, *_numbers(window))
    return x_grad


def mean_pool(x: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], area: Array) -> Array:
    """Return the sum over each window divided by its area.

    `rows`, (2, out_height), and `columns`, (2, out_width), hold the windows' starts and stops along
    the axes; `area`, (out_height, out_width), holds the divisors.

    Example:
        >>> x, windows = np.array([[[1.0, 3.0, 2.0]]]), np.array([[0, 1], [2, 3]])
        >>> mean_pool(x, np.array([[0], [1]]), windows, np.full((1, 2), 2.0))
        array([[[2. , 2.5]]])
    """
    out = np.empty((len(x), *area.shape), x.dtype)
    _mean_pool(np.ascontiguousarray(x), rows, columns, area, out)
    return out


def mean_gradient(
    grad: Array,
    size: tuple[int, int],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    area: Array,
) -> Array:
    """Pull the gradient of `mean_pool` back to planes of `size`.

    Example:
        >>> windows = np.array([[0, 1], [2, 3]])
        >>> grad, area = np.ones((1, 1, 2)), np.full((1, 2), 2.0)
        >>> mean_gradient(grad, (1, 3), np.array([[0], [1]]), windows, area)
        array([[[0.5, 1. , 0.5]]])
    """
    x_grad = np.zeros((len(grad), *size), grad.dtype)
    _mean_gradient(np.ascontiguousarray(grad), rows, columns, area, x_grad)
    return x_grad


def _numbers(window: Window) -> tuple[int, ...]:
    return tuple(number for pair in window for number in pair)


def _go_by_row(out: Array, window: Window) -> bool:
    """Return whether to find the maxima of a row of windows together, and not one by one.

    Loops over one window are too short to vectorize. Those over a row of windows are vectorized if
    LLVM knows the stride, and pay unless they are short too.
    """
    return window.stride[1] in _ROW_STRIDES and out.shape[2] >= _LEAST_COLUMNS


def _products(out: Array, window: Window) -> int:
    """Return how many multiplications take as long as finding the maxima."""
    return out.size * math.prod(window.kernel) * _PRODUCTS


_WINDOW = ", int64" * 8
_NOWHERE = -1
_ROW_STRIDES = 1, 2
"""The strides with which `_maxima_by_row` and `_gradient_by_row` read."""
_LEAST_COLUMNS = 4
"""The fewest windows in a row that pay to be taken together."""
_PRODUCTS = 16
"""Multiplications that take as long as the steps of one tap; see `in_parallel`."""


@kernel("const real[:, :, :], real[:, :, :]" + _WINDOW)
def _maxima_by_window(
    x: Array,
    out: Array,
    kernel_y: int,
    kernel_x: int,
    stride_y: int,
    stride_x: int,
    pad_y: int,
    pad_x: int,
    step_y: int,
    step_x: int,
) -> None:
    planes, height, width = x.shape
    _, rows, columns = out.shape
    for plane in range(planes):
        for i in range(rows):
            top, bottom = _span(i * stride_y - pad_y, kernel_y, step_y, height)
            for j in range(columns):
                left, right = _span(j * stride_x - pad_x, kernel_x, step_x, width)
                largest = x.dtype.type(-math.inf)
                for y in range(top, bottom, step_y):
                    for k in range(left, right, step_x):
                        value = x[plane, y, k]
                        largest = value if value > largest or value != value else largest
                out[plane, i, j] = largest


@kernel("const real[:, :, :], const real[:, :, :], real[:, :, :]" + _WINDOW)
def _gradient_by_window(
    grad: Array,
    x: Array,
    x_grad: Array,
    kernel_y: int,
    kernel_x: int,
    stride_y: int,
    stride_x: int,
    pad_y: int,
    pad_x: int,
    step_y: int,
    step_x: int,
) -> None:
    planes, height, width = x.shape
    _, rows, columns = grad.shape
    for plane in range(planes):
        for i in range(rows):
            top, bottom = _span(i * stride_y - pad_y, kernel_y, step_y, height)
            for j in range(columns):
                left, right = _span(j * stride_x - pad_x, kernel_x, step_x, width)
                if top >= bottom or left >= right:
                    continue
                row, column = top, left
                largest = x[plane, top, left]
                for y in range(top, bottom, step_y):
                    for k in range(left, right, step_x):
                        value = x[plane, y, k]
                        if value > largest or value != value:
                            row, column, largest = y, k, value
                x_grad[plane, row, column] += grad[plane, i, j]


# A tap is taken for all windows of a row at a time. Literal strides let LLVM vectorize the reads.


@kernel("const real[:, :, :], real[:, :, :]" + _WINDOW)
def _maxima_by_row(
    x: Array,
    out: Array,
    kernel_y: int,
    kernel_x: int,
    stride_y: int,
    stride_x: int,
    pad_y: int,
    pad_x: int,
    step_y: int,
    step_x: int,
) -> None:
    planes, height, width = x.shape
    _, rows, columns = out.shape
    inside = _inside(columns, kernel_x, stride_x, pad_x, step_x, width)
    for plane in range(planes):
        for i in range(rows):
            top, bottom = _span(i * stride_y - pad_y, kernel_y, step_y, height)
            out[plane, i] = -math.inf
            for y in range(top, bottom, step_y):
                for tap in range(kernel_x):
                    first, stop, left = inside[tap, 0], inside[tap, 1], inside[tap, 2]
                    values, largest = x[plane, y, left:], out[plane, i, first:stop]
                    if stride_x == 1:
                        _raise(largest, values, 1)
                    else:
                        _raise(largest, values, 2)


@kernel("const real[:, :, :], const real[:, :, :], real[:, :, :]" + _WINDOW)
def _gradient_by_row(
    grad: Array,
    x: Array,
    x_grad: Array,
    kernel_y: int,
    kernel_x: int,
    stride_y: int,
    stride_x: int,
    pad_y: int,
    pad_x: int,
    step_y: int,
    step_x: int,
) -> None:
    planes, height, width = x.shape
    _, rows, columns = grad.shape
    inside = _inside(columns, kernel_x, stride_x, pad_x, step_x, width)
    row, row_places = np.empty(columns, x.dtype), np.empty(columns, np.int64)
    for plane in range(planes):
        flat_grad = x_grad[plane].reshape(-1)
        for i in range(rows):
            top, bottom = _span(i * stride_y - pad_y, kernel_y, step_y, height)
            row[:] = -math.inf
            row_places[:] = _NOWHERE
            for y in range(top, bottom, step_y):
                for tap in range(kernel_x):
                    first, stop, left = inside[tap, 0], inside[tap, 1], inside[tap, 2]
                    values, place = x[plane, y, left:], y * width + left
                    largest, places = row[first:stop], row_places[first:stop]
                    if stride_x == 1:
                        _raise_with_places(largest, places, values, 1, place)
                    else:
                        _raise_with_places(largest, places, values, 2, place)
            for j in range(columns):
                if row_places[j] != _NOWHERE:
                    flat_grad[row_places[j]] += grad[plane, i, j]


@inline
def _raise(largest: Array, values: Array, stride: int) -> None:
    """Raise the maximum of each window to the value that a tap reads, if that is larger."""
    for j in range(largest.size):
        value = values[j * stride]
        # Without `or`, which would branch.
        larger = (value > largest[j]) | (value != value)
        largest[j] = value if larger else largest[j]


@inline
def _raise_with_places(
    largest: Array, places: NDArray[np.int64], values: Array, stride: int, place: int
) -> None:
    """Do what `_raise` does, and note where the maxima are; the first value is at `place`."""
    for j in range(largest.size):
        value = values[j * stride]
        larger = (value > largest[j]) | (value != value) | (places[j] == _NOWHERE)
        largest[j] = value if larger else largest[j]
        places[j] = place + j * stride if larger else places[j]


@inline
def _inside(
    windows: int, kernel: int, stride: int, padding: int, step: int, length: int
) -> NDArray[np.int64]:
    """Return for each tap the first and the stop of the windows in which it is not in the padding.

    The third number is where it reads in the first of them.
    """
    inside = np.empty((kernel, 3), np.int64)
    for tap in range(kernel):
        place = tap * step - padding
        first = min(max(0, (stride - 1 - place) // stride), windows)
        stop = max(first, min(windows, (length - 1 - place) // stride + 1))
        inside[tap] = first, stop, first * stride + place
    return inside


@kernel("const real[:, :, :], const real[:, :, :], const real[:, :, :], real[:, :, :]" + _WINDOW)
def _average_max_gradient(
    grad: Array,
    start: Array,
    end: Array,
    x_grad: Array,
    kernel_y: int,
    kernel_x: int,
    stride_y: int,
    stride_x: int,
    pad_y: int,
    pad_x: int,
    step_y: int,
    step_x: int,
) -> None:
    """Gather each window's lines and walk along their upper envelope."""
    planes, height, width = start.shape
    _, rows, columns = grad.shape
    places = np.empty(kernel_y * kernel_x, np.int64)
    starts = np.empty(kernel_y * kernel_x, start.dtype)
    ends = np.empty(kernel_y * kernel_x, start.dtype)
    for plane in range(planes):
        flat_start, flat_end = start[plane].reshape(-1), end[plane].reshape(-1)
        flat_grad = x_grad[plane].reshape(-1)
        for i in range(rows):
            top, bottom = _span(i * stride_y - pad_y, kernel_y, step_y, height)
            for j in range(columns):
                left, right = _span(j * stride_x - pad_x, kernel_x, step_x, width)
                n = 0
                for y in range(top, bottom, step_y):
                    for k in range(left, right, step_x):
                        places[n] = y * width + k
                        starts[n], ends[n] = flat_start[places[n]], flat_end[places[n]]
                        n += 1
                if n == 0:
                    continue
                a, b = starts[:n], ends[:n]
                leader, time = first_leader(a, b), 0.0
                if leader < 0:
                    for place in places[:n]:
                        flat_grad[place] = math.nan
                    continue
                while time < 1:
                    following, end_time = next_leader(a, b, leader, time)
                    flat_grad[places[leader]] += (end_time - time) * grad[plane, i, j]
                    leader, time = following, end_time


@kernel(
    "const real[:, :, :], const int64[:, :], const int64[:, :], const real[:, :], real[:, :, :]"
)
def _mean_pool(
    x: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], area: Array, out: Array
) -> None:
    for plane in range(out.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                total = x.dtype.type(0)
                for y in range(rows[0, i], rows[1, i]):
                    for k in range(columns[0, j], columns[1, j]):
                        total += x[plane, y, k]
                out[plane, i, j] = total / area[i, j]


@kernel(
    "const real[:, :, :], const int64[:, :], const int64[:, :], const real[:, :], real[:, :, :]"
)
def _mean_gradient(
    grad: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], area: Array, x_grad: Array
) -> None:
    for plane in range(grad.shape[0]):
        for i in range(grad.shape[1]):
            for j in range(grad.shape[2]):
                part = grad[plane, i, j] / area[i, j]
                for y in range(rows[0, i], rows[1, i]):
                    for k in range(columns[0, j], columns[1, j]):
                        x_grad[plane, y, k] += part


@inline
def _span(start: int, kernel: int, step: int, length: int) -> tuple[int, int]:
    """Return the start and the stop of a window, without its elements in the padding."""
    stop = min(start + (kernel - 1) * step + 1, length)
    if start < 0:
        start += (-start + step - 1) // step * step
    return start, stop
