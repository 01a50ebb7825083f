"""Convolution of sequences (N, C, L), images (N, C, H, W) or volumes (N, C, D, H, W).

Kernels convolve images. A sequence is an image with one row. The windows of a volume along its
depth become images of their own, whose channels are the elements of the window.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agrad.backend import Array, kernels, ones
from agrad.ops.adjoint import adjoints
from agrad.ops.operation import Apply, Gradients, Multilinear
from agrad.ops.sums import sum_over

if TYPE_CHECKING:
    from agrad.kernels.cpu.conv import Geometry

__all__ = ["Convolution", "TransposedConvolution"]

Pair = tuple[int, int]
Size = tuple[int, ...]


class Convolution(Multilinear):
    """Sums over windows of weight · x, plus bias.

    Options have a number for each axis, the vertical and the horizontal one last; a sequence has
    only the horizontal one, but two numbers too. `padding` has a pair (before, after) for each.
    """

    def __init__(
        self, stride: Size, padding: tuple[Pair, ...], dilation: Size, groups: int
    ) -> None:
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        planes, filters, bias = _promoted(x, weight, bias)
        lengths = zip(planes.shape[2:], filters.shape[2:])
        size = tuple(self.out_length(axis, *pair) for axis, pair in enumerate(lengths))
        return _like(x, self._output(planes, filters, bias, size))

    def backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        out: Array,
        x: Array,
        weight: Array,
        bias: Array | None = None,
    ) -> Gradients:
        planes, filters, _ = _promoted(x, weight, bias)
        grad = _planes(grad)
        x_grad = self._input_gradient(grad, filters, planes.shape[2:]) if needs[0] else None
        weight_grad = self._weight_gradient(grad, planes, filters.shape[2:]) if needs[1] else None
        grads = tuple(None if part is None else _like(x, part) for part in (x_grad, weight_grad))
        if bias is None:
            return grads
        return *grads, _sum_by_channel(grad) if needs[2] else None

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        factors, bias = inputs[:2], inputs[2:]
        found = adjoints(apply, self, grad, needs, *factors)
        return [*found, *[grad.sum((0, *range(2, grad.ndim))) for _ in bias]]

    def out_length(self, axis: int, length: int, kernel: int) -> int:
        """Return the output's length along an axis."""
        span = self.dilation[axis] * (kernel - 1) + 1
        return (length + sum(self.padding[axis]) - span) // self.stride[axis] + 1

    def _output(self, x: Array, weight: Array, bias: Array | None, size: Size) -> Array:
        return _convolve(self, x, weight, bias, size)

    def _input_gradient(self, grad: Array, weight: Array, size: Size) -> Array:
        return _input_gradient(self, grad, weight, size)

    def _weight_gradient(self, grad: Array, x: Array, kernel: Size) -> Array:
        return _weight_gradient(self, grad, x, kernel)


class TransposedConvolution(Convolution):
    """The transposed Jacobian of a convolution by its x, applied to values.

    The weight is that of the convolution, whose filters are the input channels here. `excess` is
    the length of the output beyond the windows along each axis.
    """

    def __init__(
        self, stride: Size, padding: tuple[Pair, ...], excess: Size, dilation: Size, groups: int
    ) -> None:
        super().__init__(stride, padding, dilation, groups)
        self.excess = excess

    def out_length(self, axis: int, length: int, kernel: int) -> int:
        span = self.dilation[axis] * (kernel - 1) + 1
        windows = (length - 1) * self.stride[axis] + span
        return windows - sum(self.padding[axis]) + self.excess[axis]

    def _output(self, x: Array, weight: Array, bias: Array | None, size: Size) -> Array:
        out = _input_gradient(self, x, weight, size)
        if bias is not None:
            out += bias.reshape(-1, *[1] * len(size))
        return out

    def _input_gradient(self, grad: Array, weight: Array, size: Size) -> Array:
        return _convolve(self, grad, weight, None, size)

    def _weight_gradient(self, grad: Array, x: Array, kernel: Size) -> Array:
        return _weight_gradient(self, x, grad, kernel)


def _convolve(
    windows: Convolution, x: Array, weight: Array, bias: Array | None, size: Size
) -> Array:
    """Return the sums over windows of weight · x, plus bias, for an output of `size`."""
    if len(size) == 3:
        depth = _Depth.of(windows, x.shape[2], size[0], weight.shape[2])
        images = depth.images(x)
        return depth.stacked(_convolve(windows, images, _flat(weight), bias, size[1:]))
    out: Array = kernels(x).conv.convolve(x, weight, bias, size, _geometry(windows, x))
    return out


def _input_gradient(windows: Convolution, grad: Array, weight: Array, size: Size) -> Array:
    """Pull the output's gradient back to an x of `size`."""
    if len(size) == 3:
        depth = _Depth.of(windows, size[0], grad.shape[2], weight.shape[2])
        planes = depth.planes(grad)
        return depth.summed(_input_gradient(windows, planes, _flat(weight), size[1:]))
    geometry = _geometry(windows, grad)
    out: Array = kernels(grad).conv.input_gradient(grad, weight, size, geometry)
    return out


def _weight_gradient(windows: Convolution, grad: Array, x: Array, kernel: Size) -> Array:
    """Pull the output's gradient back to a weight with a kernel of size `kernel`."""
    out: Array
    if len(kernel) == 3:
        depth = _Depth.of(windows, x.shape[2], grad.shape[2], kernel[0])
        out = _weight_gradient(windows, depth.planes(grad), depth.images(x), kernel[1:])
        return out.reshape(grad.shape[1], x.shape[1] // windows.groups, *kernel)
    out = kernels(x).conv.weight_gradient(grad, x, kernel, _geometry(windows, x))
    return out


def _geometry(windows: Convolution, x: Array) -> "Geometry":
    before = tuple(before for before, _ in windows.padding[-2:])
    geometry: Geometry = kernels(x).conv.Geometry(
        windows.stride[-2:], before, windows.dilation[-2:], windows.groups
    )
    return geometry


class _Depth(NamedTuple):
    """The windows of volumes along their depth."""

    length: int
    windows: int
    kernel: int
    stride: int
    before: int
    dilation: int

    @classmethod
    def of(cls, options: Convolution, length: int, windows: int, kernel: int) -> "_Depth":
        (before, _), *_ = options.padding
        return cls(length, windows, kernel, options.stride[0], before, options.dilation[0])

    def images(self, x: Array) -> Array:
        """Return each window as an image: (N · windows, C · kernel, H, W)."""
        count, channels, _, *size = x.shape
        images = np.zeros_like(x, shape=(count, self.windows, channels, self.kernel, *size))
        for tap, windows, elements in self._taps():
            images[:, windows, :, tap] = np.swapaxes(x[:, :, elements], 1, 2)
        return images.reshape(count * self.windows, channels * self.kernel, *size)

    def summed(self, images: Array) -> Array:
        """Return the sums of the images' channels where they come from: (N, C, length, H, W)."""
        count, channels, size = self._shape(images)
        channels //= self.kernel
        images = images.reshape(count, self.windows, channels, self.kernel, *size)
        x = np.zeros_like(images, shape=(count, channels, self.length, *size))
        for tap, windows, elements in self._taps():
            x[:, :, elements] += np.swapaxes(images[:, windows, :, tap], 1, 2)
        return x

    def planes(self, out: Array) -> Array:
        """Return the planes of the output, one for each window: (N · windows, F, H', W')."""
        count, filters, _, *size = out.shape
        return np.swapaxes(out, 1, 2).reshape(count * self.windows, filters, *size)

    def stacked(self, planes: Array) -> Array:
        """Undo `planes`."""
        count, filters, size = self._shape(planes)
        stacked = np.swapaxes(planes.reshape(count, self.windows, filters, *size), 1, 2)
        return np.ascontiguousarray(stacked, like=stacked)

    def _shape(self, planes: Array) -> tuple[int, int, Size]:
        count, channels, *size = planes.shape
        return count // self.windows, channels, tuple(size)

    def _taps(self) -> Iterator[tuple[int, slice, slice]]:
        """Yield each tap, the windows in which it is not in the padding, and what it reads."""
        for tap in range(self.kernel):
            place = tap * self.dilation - self.before
            first = max(0, -(place // self.stride))
            stop = min(self.windows, -((place - self.length) // self.stride))
            if first < stop:
                start, last = (place + window * self.stride for window in (first, stop - 1))
                yield tap, slice(first, stop), slice(start, last + 1, self.stride)


def _flat(weight: Array) -> Array:
    """Return the weight for images whose channels are the elements of windows."""
    filters, channels, kernel, *size = weight.shape
    return weight.reshape(filters, channels * kernel, *size)


def _promoted(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Array, Array | None]:
    """Return x and weight with four axes or five, and bias, all in their common dtype."""
    dtype = np.result_type(*(array for array in (x, weight, bias) if array is not None))
    x, weight = (_planes(array.astype(dtype, copy=False)) for array in (x, weight))
    return x, weight, None if bias is None else bias.astype(dtype, copy=False)


def _planes(array: Array) -> Array:
    """Turn a sequence into an image with one row."""
    return array[:, :, np.newaxis] if array.ndim == 3 else array


def _like(known: Array, array: Array) -> Array:
    """Undo `_planes`."""
    return array[:, :, 0] if known.ndim == 3 else array


def _sum_by_channel(grad: Array) -> Array:
    # Written as a product, the sum over pixels runs in BLAS.
    pixels = grad.reshape(*grad.shape[:2], math.prod(grad.shape[2:]))
    by_image = kernels(grad).product.matmul(pixels, ones(pixels.shape[2], like=pixels))
    return sum_over(by_image, 0)
