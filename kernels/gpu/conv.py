"""Convolution in two dimensions: windows packed into columns, products by cuBLAS.

The windows of some images are packed into one matrix for each group, (channels · kernel) ×
(images · windows); the weight times that matrix is the output, filter by filter. Only as many
images are taken at a time as fit in a buffer of moderate size.
"""

from collections.abc import Iterator

import cupy

from ..cpu.conv import Geometry
from .axis import axes
from .launch import Kernel, over
from .product import matmul

__all__ = ["Geometry", "convolve", "input_gradient", "weight_gradient"]

_COLUMN_BYTES = 2**28
"""Of the columns at a time, unless one image has more: enough to keep a device busy."""

_PARAMETERS = "const real*, real*, int64, int64, Axis, Axis"
_pack = Kernel("conv.cu", "pack", _PARAMETERS)
unpack = Kernel("conv.cu", "unpack", _PARAMETERS)
"""Sums columns into the pixels that they come from; pooling uses it too."""


def convolve(
    x: cupy.ndarray,
    weight: cupy.ndarray,
    bias: cupy.ndarray | None,
    size: tuple[int, int],
    geometry: Geometry,
) -> cupy.ndarray:
    """Return the sums over windows of weight · x, plus bias, for an output of `size`.

    x is (images, channels, height, width), weight (filters, channels / groups, *kernel), bias
    (filters,): all of one dtype, float32 or float64.

    Example:
        >>> x, weight = cupy.arange(5.0).reshape(1, 1, 1, 5), cupy.ones((1, 1, 1, 3))
        >>> convolve(x, weight, None, (1, 3), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([3., 6., 9.])
    """
    columns = _Columns(x.shape, weight.shape, size, geometry)
    out = cupy.empty((len(x), len(weight), *size), x.dtype)
    factors = columns.factors(weight)
    for images in columns.parts(x.itemsize):
        product = matmul(factors, columns.pack(x[images]))
        product = product.reshape(len(weight), -1, *size).swapaxes(0, 1)
        if bias is None:
            out[images] = product
        else:
            cupy.add(product, bias[:, None, None], out=out[images])
    return out


def input_gradient(
    grad: cupy.ndarray, weight: cupy.ndarray, size: tuple[int, int], geometry: Geometry
) -> cupy.ndarray:
    """Pull the output's gradient back to an x of `size`: a transposed convolution.

    Example:
        >>> grad, weight = cupy.ones((1, 1, 1, 3)), cupy.ones((1, 1, 1, 3))
        >>> input_gradient(grad, weight, (1, 5), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([1., 2., 3., 2., 1.])
    """
    shape = len(grad), weight.shape[1] * geometry.groups, *size
    columns = _Columns(shape, weight.shape, grad.shape[2:], geometry)
    x_grad = cupy.empty(shape, grad.dtype)
    factors = columns.factors(weight).swapaxes(1, 2)
    for images in columns.parts(grad.itemsize):
        columns.unpack(matmul(factors, columns.by_filter(grad[images])), x_grad[images])
    return x_grad


def weight_gradient(
    grad: cupy.ndarray, x: cupy.ndarray, kernel: tuple[int, int], geometry: Geometry
) -> cupy.ndarray:
    """Pull the output's gradient back to a weight with a kernel of size `kernel`.

    Example:
        >>> x, grad = cupy.arange(5.0).reshape(1, 1, 1, 5), cupy.ones((1, 1, 1, 3))
        >>> weight_gradient(grad, x, (1, 3), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([3., 6., 9.])
    """
    shape = grad.shape[1], x.shape[1] // geometry.groups, *kernel
    columns = _Columns(x.shape, shape, grad.shape[2:], geometry)
    total = cupy.zeros((geometry.groups, columns.rows, columns.filters), grad.dtype)
    for images in columns.parts(x.itemsize):
        # CuPy copies a transposed factor; in this order that is not the columns, which are larger.
        total += matmul(columns.pack(x[images]), columns.by_filter(grad[images]).swapaxes(1, 2))
    return cupy.ascontiguousarray(total.swapaxes(1, 2)).reshape(shape)


class _Columns:
    """The windows of x as the columns of a matrix for each group."""

    def __init__(
        self,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        size: tuple[int, ...],
        geometry: Geometry,
    ) -> None:
        filters, channels, *kernel = weight_shape
        self.images = x_shape[0]
        self.channels = x_shape[1]
        self.groups = geometry.groups
        self.filters = filters // geometry.groups
        self.rows = channels * kernel[0] * kernel[1]
        self.windows = size[0] * size[1]
        self.pixels = x_shape[2] * x_shape[3]
        self.axes = axes(
            x_shape[2:], size, tuple(kernel), geometry.stride, geometry.before, geometry.dilation
        )

    def parts(self, itemsize: int) -> Iterator[slice]:
        per_image = self.groups * self.rows * self.windows * itemsize
        count = max(1, _COLUMN_BYTES // max(1, per_image))
        for image in range(0, self.images, count):
            yield slice(image, min(image + count, self.images))

    def factors(self, weight: cupy.ndarray) -> cupy.ndarray:
        """Return the weight as a matrix for each group."""
        return weight.reshape(self.groups, self.filters, self.rows)

    def pack(self, x: cupy.ndarray) -> cupy.ndarray:
        """Return the columns of some images."""
        columns = cupy.empty((self.groups, self.rows, len(x) * self.windows), x.dtype)
        grid = over(len(x) * self.windows, self.channels)
        _pack(grid, cupy.ascontiguousarray(x), columns, len(x), self.channels, *self.axes)
        return columns

    def unpack(self, columns: cupy.ndarray, x: cupy.ndarray) -> None:
        """Sum the columns of some images into the pixels of x that they come from."""
        grid = over(len(x) * self.pixels, self.channels)
        unpack(grid, columns, x, len(x), self.channels, *self.axes)

    def by_filter(self, grad: cupy.ndarray) -> cupy.ndarray:
        """Return some images of the output's gradient as a matrix for each group."""
        return grad.swapaxes(0, 1).reshape(self.groups, self.filters, len(grad) * self.windows)
