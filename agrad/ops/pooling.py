"""Pooling of images (N, C, H, W) or sequences (N, C, L), which are images of one row.

Options are pairs: for the vertical axis, and for the horizontal one, a sequence's only axis.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agrad.backend import Array, cached_arrays, device_of, kernels, move, set_writable
from agrad.ops.adjoint import Adjoint, adjoint
from agrad.ops.choice import Choice
from agrad.ops.operation import Apply, Gradients, Linear, Point, Selection
from agrad.ops.shape import GetItem

if TYPE_CHECKING:
    from agrad.kernels.cpu.pooling import Window

__all__ = ["AdaptiveAvgPool", "AvgPool", "MaxPool"]

Pair = tuple[int, int]


class MaxPool(Selection):
    """The largest element of each window; of equal ones the first, as in PyTorch."""

    def __init__(
        self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
    ) -> None:
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Array) -> Array:
        planes = _planes(x)
        size = tuple(map(self.out_length, (0, 1), planes.shape[1:]))
        return _like(x, kernels(x).pooling.max_pool(planes, size, self._window(x)))

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        max_gradient = kernels(x).pooling.max_gradient
        return (max_gradient(_planes(grad), _planes(x), self._window(x)).reshape(x.shape),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x0,), (x1,) = start.inputs, end.inputs
        gradient = kernels(x0).pooling.average_max_gradient
        return (gradient(*map(_planes, (grad, x0, x1)), self._window(x0)).reshape(x0.shape),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        places = apply(Choice(self.places), x)
        pick = Adjoint(GetItem(places.data), 0, (x.size,), x.dtype)
        return (apply(pick, grad, places).reshape(x.shape),)

    def places(self, x: Array) -> Array:
        """Return where in the flattened `x` the largest element of each window is.

        It is the first of equal elements and the last NaN, as in `backward`, and never padding.
        """
        planes = _planes(x)
        spans = []
        for axis, length in enumerate(planes.shape[1:]):
            starts = self.stride[axis] * np.arange(self.out_length(axis, length), like=x)
            steps = self.dilation[axis] * np.arange(self.kernel[axis], like=x)
            spans.append(starts[:, np.newaxis] + steps - self.padding[axis])
        rows, columns = spans[0][:, np.newaxis, :, np.newaxis], spans[1][:, np.newaxis]
        height, width = planes.shape[1:]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        within = np.where(inside, rows * width + columns, 0)
        places = np.arange(len(planes), like=x).reshape(-1, 1, 1, 1, 1) * (height * width) + within
        windows = np.where(inside, x.reshape(-1)[places], -np.inf)
        largest = inside & (windows == windows.max(axis=(-2, -1), keepdims=True))
        size = *places.shape[:3], math.prod(self.kernel)
        places, largest, unordered = (
            array.reshape(size) for array in (places, largest, np.isnan(windows))
        )
        last = size[-1] - 1 - unordered[..., ::-1].argmax(axis=-1)
        chosen = np.where(unordered.any(axis=-1), last, largest.argmax(axis=-1))[..., np.newaxis]
        return _like(x, np.take_along_axis(places, chosen, axis=-1)[..., 0])

    def indices(self, x: Array) -> Array:
        """Return where in its flattened plane the largest element of each window is."""
        height, width = _planes(x).shape[1:]
        indices: Array = self.places(x) % (height * width)
        return indices

    def out_length(self, axis: int, length: int) -> int:
        """Return how many windows there are along an axis."""
        span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return _count(length, span, self.stride[axis], self.padding[axis], self.ceil_mode)

    def _window(self, x: Array) -> "Window":
        pooling = kernels(x).pooling
        window: Window = pooling.Window(self.kernel, self.stride, self.padding, self.dilation)
        return window


class AvgPool(Linear):
    """The mean of each window; the padding counts as zeros or, if it is not counted, not at all."""

    def __init__(
        self,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor = divisor

    def forward(self, x: Array) -> Array:
        planes = _planes(x)
        return _like(x, kernels(x).pooling.mean_pool(planes, *self._windows_on(planes)))

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        planes = _planes(x)
        x_grad = kernels(x).pooling.mean_gradient(
            _planes(grad), planes.shape[1:], *self._windows_on(planes)
        )
        return (x_grad.reshape(x.shape),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (adjoint(apply, self, 0, grad, x),)

    def out_length(self, axis: int, length: int) -> int:
        """Return how many windows there are along an axis."""
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]
        return _count(length, kernel, stride, padding, self.ceil_mode)

    def spans(self, axis: int, length: int) -> tuple[Array, Array, Array]:
        """Return the windows' starts and stops along an axis, and how many elements count."""
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]
        starts = stride * np.arange(self.out_length(axis, length)) - padding
        stops = np.minimum(starts + kernel, length + padding)
        counted = stops - starts
        starts, stops = np.maximum(starts, 0), np.minimum(stops, length)
        return starts, stops, counted if self.count_include_pad else stops - starts

    def _windows_on(self, planes: Array) -> list[Array]:
        options = tuple(vars(self).items())  # the attributes are named like the parameters
        where = planes.shape[1:], planes.dtype, device_of(planes)
        return _windows(type(self), options, *where)


class AdaptiveAvgPool(AvgPool):
    """The mean of each of `size` windows that cover the whole and are as equal as possible."""

    divisor = None

    def __init__(self, size: Pair) -> None:
        self.size = size

    def spans(self, axis: int, length: int) -> tuple[Array, Array, Array]:
        count = np.arange(self.size[axis])
        starts = count * length // self.size[axis]
        stops = -((count + 1) * -length // self.size[axis])
        return starts, stops, stops - starts


@cached_arrays
def _windows(
    kind: type["AvgPool"],
    options: tuple[tuple[str, Any], ...],
    size: Pair,
    dtype: np.dtype[Any],
    device: str,
) -> list[Array]:
    """Return the spans of a pool's windows along both axes and their areas, on a device.

    To make them takes a CPU longer than to pool, and a GPU would have to wait for their copies.
    """
    pool = kind(**dict(options))
    (*rows, height), (*columns, width) = map(pool.spans, (0, 1), size)
    area = np.multiply.outer(height, width)
    if pool.divisor is not None:
        area = np.full_like(area, pool.divisor)
    windows = np.stack(rows), np.stack(columns), area.astype(dtype)
    set_writable(windows, False)
    return [move(array, device) for array in windows]


def _count(length: int, span: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Return how many windows there are along an axis.

    With `ceil_mode` the last may reach beyond the padding, but not begin there.
    """
    room = length + 2 * padding - span
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= length + padding else count


def _planes(x: Array) -> Array:
    """Return images and channels as one axis, and two axes after it."""
    size = x.shape[2:] if x.ndim == 4 else (1, x.shape[2])
    return x.reshape(math.prod(x.shape[:2]), *size)


def _like(x: Array, planes: Array) -> Array:
    """Undo `_planes`."""
    size = planes.shape[1:] if x.ndim == 4 else planes.shape[2:]
    return planes.reshape(*x.shape[:2], *size)
