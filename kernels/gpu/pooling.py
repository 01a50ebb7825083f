"""Pooling of planes (count, height, width): the largest or the mean of each window.

Windows may overlap; an element accumulates the gradients from all of them. Max pooling never
chooses the padding. Of equal elements it chooses the first, and NaN before any number.
"""

import cupy
import numpy as np
from numpy.typing import NDArray

from ..cpu.pooling import Window
from .axis import axes
from .conv import unpack
from .launch import Kernel, over

__all__ = [
    "Window",
    "average_max_gradient",
    "max_gradient",
    "max_pool",
    "mean_gradient",
    "mean_pool",
]

_AXES = ", int64, Axis, Axis"
_max_pool = Kernel("pooling.cu", "max_pool", "const real*, real*" + _AXES)
_places_of_largest = Kernel("pooling.cu", "places_of_largest", "const real*, int64*" + _AXES)
_max_gradient = Kernel("pooling.cu", "max_gradient", "const real*, const int64*, real*" + _AXES)
_shares_of_largest = Kernel(
    "pooling.cu", "shares_of_largest", "const real*, const real*, const real*, real*" + _AXES
)
_MEANS = "const real*, const int64*, const int64*, const real*, real*" + ", int64" * 5
_mean_pool = Kernel("pooling.cu", "mean_pool", _MEANS)
_mean_gradient = Kernel("pooling.cu", "mean_gradient", _MEANS)


def max_pool(x: cupy.ndarray, size: tuple[int, int], window: Window) -> cupy.ndarray:
    """Return the largest element of each window, for an output of `size`.

    Example:
        >>> x = cupy.array([[[1.0, 3.0, 2.0, 0.0]]])
        >>> max_pool(x, (1, 3), Window((1, 2), (1, 1), (0, 0), (1, 1)))
        array([[[3., 3., 2.]]])
    """
    out = cupy.empty((len(x), *size), x.dtype)
    _max_pool(over(out.size), cupy.ascontiguousarray(x), out, len(x), *_axes(x, out, window))
    return out


def max_gradient(grad: cupy.ndarray, x: cupy.ndarray, window: Window) -> cupy.ndarray:
    """Pull the output's gradient back to the chosen elements.

    Example:
        >>> x = cupy.array([[[1.0, 3.0, 2.0, 0.0]]])
        >>> max_gradient(cupy.ones((1, 1, 3)), x, Window((1, 2), (1, 1), (0, 0), (1, 1)))
        array([[[0., 2., 1., 0.]]])
    """
    x_grad = cupy.empty(x.shape, x.dtype)
    places = cupy.empty(grad.shape, np.int64)
    grad, x = map(cupy.ascontiguousarray, (grad, x))
    rest = len(x), *_axes(x, grad, window)
    _places_of_largest(over(grad.size), x, places, *rest)
    _max_gradient(over(x.size), grad, places, x_grad, *rest)
    return x_grad


def average_max_gradient(
    grad: cupy.ndarray, start: cupy.ndarray, end: cupy.ndarray, window: Window
) -> cupy.ndarray:
    """Pull the output's gradient back by the fraction of the segment on which each is chosen.

    Example:
        >>> start, end = cupy.array([[[3.0, 0.0]]]), cupy.array([[[0.0, 1.0]]])
        >>> window = Window((1, 2), (1, 1), (0, 0), (1, 1))
        >>> average_max_gradient(cupy.ones((1, 1, 1)), start, end, window)
        array([[[0.75, 0.25]]])
    """
    x_grad = cupy.empty(start.shape, start.dtype)
    columns = cupy.empty((*window.kernel, *grad.shape), start.dtype)
    arrays = map(cupy.ascontiguousarray, (grad, start, end))
    vertical, horizontal = _axes(start, grad, window)
    _shares_of_largest(over(grad.size), *arrays, columns, len(start), vertical, horizontal)
    # Each plane is an image of one channel.
    unpack(over(x_grad.size), columns, x_grad, len(start), 1, vertical, horizontal)
    return x_grad


def mean_pool(
    x: cupy.ndarray, rows: NDArray[np.int64], columns: NDArray[np.int64], area: cupy.ndarray
) -> cupy.ndarray:
    """Return the sum over each window divided by its area.

    `rows`, (2, out_height), and `columns`, (2, out_width), hold the windows' starts and stops along
    the axes, ascending; `area`, (out_height, out_width), holds the divisors. The three may be NumPy
    arrays.

    Example:
        >>> x, windows = cupy.array([[[1.0, 3.0, 2.0]]]), cupy.array([[0, 1], [2, 3]])
        >>> mean_pool(x, cupy.array([[0], [1]]), windows, cupy.full((1, 2), 2.0))
        array([[[2. , 2.5]]])
    """
    out = cupy.empty((len(x), *area.shape), x.dtype)
    windows = map(cupy.asarray, (rows, columns, area))
    x = cupy.ascontiguousarray(x)
    _mean_pool(over(out.size), x, *windows, out, *x.shape, *area.shape)
    return out


def mean_gradient(
    grad: cupy.ndarray,
    size: tuple[int, int],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    area: cupy.ndarray,
) -> cupy.ndarray:
    """Pull the gradient of `mean_pool` back to planes of `size`.

    Example:
        >>> windows = cupy.array([[0, 1], [2, 3]])
        >>> grad, area = cupy.ones((1, 1, 2)), cupy.full((1, 2), 2.0)
        >>> mean_gradient(grad, (1, 3), cupy.array([[0], [1]]), windows, area)
        array([[[0.5, 1. , 0.5]]])
    """
    x_grad = cupy.empty((len(grad), *size), grad.dtype)
    windows = map(cupy.asarray, (rows, columns, area))
    grad = cupy.ascontiguousarray(grad)
    _mean_gradient(over(x_grad.size), grad, *windows, x_grad, *x_grad.shape, *area.shape)
    return x_grad


def _axes(x: cupy.ndarray, out: cupy.ndarray, window: Window) -> list[NDArray[np.void]]:
    kernel, stride, padding, dilation = window
    return axes(x.shape[1:], out.shape[1:], kernel, stride, padding, dilation)
