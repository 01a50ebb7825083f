"""Convolution in two dimensions: windows packed into columns, products by the BLAS.

A tile of the output, some images or some rows of one, is computed at a time. What its windows
cover is packed into a buffer of columns, (channels · kernel) × pixels, that stays in the cache and
is used again for the next tile: the weight times the buffer is the tile as it lies in memory, and
neither factor has to be transposed. A 1×1 kernel's columns are the image itself, never packed.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import inline, kernel

__all__ = ["Geometry", "convolve", "input_gradient", "weight_gradient"]

_BUFFER_BYTES = 2**20
"""About what the second-level cache of a core holds; larger tiles mean fewer calls."""

_LEAST_PIXELS = 128
"""Of a tile, however many channels there are: products with fewer columns are slow."""


class Geometry(NamedTuple):
    """How windows lie on an image: pairs, of the vertical axis and the horizontal one."""

    stride: tuple[int, int]
    before: tuple[int, int]
    """Zeros before the image; how many follow it, the size of the output says."""
    dilation: tuple[int, int]
    groups: int


def convolve(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    size: tuple[int, int],
    geometry: Geometry,
) -> NDArray[Any]:
    """Return the sums over windows of weight · x, plus bias, for an output of `size`.

    x is (images, channels, height, width), weight (filters, channels / groups, *kernel), bias
    (filters,): all of one dtype, float32 or float64.

    Example:
        >>> x, weight = np.arange(5.0).reshape(1, 1, 1, 5), np.ones((1, 1, 1, 3))
        >>> convolve(x, weight, None, (1, 3), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([3., 6., 9.])
    """
    columns = _Columns(x, weight.shape, size, geometry)
    out = np.empty((len(x), len(weight), *size), x.dtype)
    factors = columns.factors(weight)
    for tile in columns.tiles():
        product = columns.images_first(np.matmul(factors, columns.pack(x, tile)), tile)
        if bias is None:
            out[tile.images, :, tile.rows] = product
        else:
            np.add(product, bias[:, None, None], out=out[tile.images, :, tile.rows])
    return out


def input_gradient(
    grad: NDArray[Any], weight: NDArray[Any], size: tuple[int, int], geometry: Geometry
) -> NDArray[Any]:
    """Pull the gradient of the output back to an x of `size`; this is a transposed convolution.

    Example:
        >>> grad, weight = np.ones((1, 1, 1, 3)), np.ones((1, 1, 1, 3))
        >>> input_gradient(grad, weight, (1, 5), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([1., 2., 3., 2., 1.])
    """
    grad = np.ascontiguousarray(grad)
    x_grad = np.zeros((len(grad), weight.shape[1] * geometry.groups, *size), grad.dtype)
    columns = _Columns(x_grad, weight.shape, grad.shape[2:], geometry)
    factors = columns.factors(weight).mT
    for tile in columns.tiles():
        part = columns.filters_first(grad, tile)
        np.matmul(factors, part, out=columns.room(x_grad, tile))
        columns.unpack(x_grad, tile)
    return x_grad


def weight_gradient(
    grad: NDArray[Any], x: NDArray[Any], kernel: tuple[int, int], geometry: Geometry
) -> NDArray[Any]:
    """Pull the gradient of the output back to a weight with a `kernel` of that size.

    Example:
        >>> x, grad = np.arange(5.0).reshape(1, 1, 1, 5), np.ones((1, 1, 1, 3))
        >>> weight_gradient(grad, x, (1, 3), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([3., 6., 9.])
    """
    grad = np.ascontiguousarray(grad)
    filters, channels = grad.shape[1], x.shape[1] // geometry.groups
    shape = filters, channels, *kernel
    columns = _Columns(x, shape, grad.shape[2:], geometry)
    # Its transpose is what the BLAS computes faster: the buffer is the left factor as it lies.
    total = np.zeros_like(columns.factors(np.empty(shape, grad.dtype)).mT, order="C")
    for tile in columns.tiles():
        total += columns.pack(x, tile) @ columns.filters_first(grad, tile).mT
    return np.ascontiguousarray(total.mT).reshape(shape)


class _Tile(NamedTuple):
    """Some images' rows of the output: all rows, or those of one image only."""

    images: slice
    rows: slice


class _Columns:
    """The windows of x as the columns of a matrix for each group, a tile at a time."""

    def __init__(
        self,
        x: NDArray[Any],
        weight_shape: tuple[int, ...],
        size: tuple[int, ...],
        geometry: Geometry,
    ) -> None:
        self.images, self.channels = x.shape[:2]
        self.kernel = weight_shape[2:]
        self.size = size
        self.geometry = geometry
        window = self.channels * self.kernel[0] * self.kernel[1]
        rest = (geometry.stride, geometry.before, self.size)
        self.packed = self.kernel != (1, 1) or rest != ((1, 1), (0, 0), x.shape[2:])
        pixels = max(_LEAST_PIXELS, _BUFFER_BYTES // (x.itemsize * max(1, window)))
        rows, width = size
        if self.packed:
            self.tile_images = max(1, min(self.images, pixels // (rows * width)))
            self.tile_rows = _even(rows, max(1, pixels // width))
            pixels = self.tile_images * self.tile_rows * width
            self.buffer = np.empty(window * pixels, x.dtype)
        else:
            self.tile_images, self.tile_rows = 1, rows

    def tiles(self) -> Iterator[_Tile]:
        for image in range(0, self.images, self.tile_images):
            for row in range(0, self.size[0], self.tile_rows):
                yield _Tile(
                    slice(image, min(image + self.tile_images, self.images)),
                    slice(row, min(row + self.tile_rows, self.size[0])),
                )

    def factors(self, weight: NDArray[Any]) -> NDArray[Any]:
        """Return the weight as a matrix for each group."""
        groups = self.geometry.groups
        window = weight.shape[1] * self.kernel[0] * self.kernel[1]
        return weight.reshape(groups, len(weight) // groups, window)

    def room(self, x: NDArray[Any], tile: _Tile) -> NDArray[Any]:
        """Return the matrices that the columns of a tile fill: those of x itself if not packed."""
        groups = self.geometry.groups
        if not self.packed:
            return x[tile.images].reshape(groups, self.channels // groups, -1)
        columns = self._columns(tile)
        return columns.reshape(groups, -1, columns[0, 0, 0].size)

    def pack(self, x: NDArray[Any], tile: _Tile) -> NDArray[Any]:
        """Return the columns of a tile."""
        if self.packed:
            images = np.ascontiguousarray(x[tile.images])
            _pack(images, self._columns(tile), tile.rows.start, *self._placing())
        return self.room(x, tile)

    def unpack(self, x: NDArray[Any], tile: _Tile) -> None:
        """Add the columns of a tile to where in x they come from."""
        if self.packed:
            _unpack(self._columns(tile), x[tile.images], tile.rows.start, *self._placing())

    def images_first(self, product: NDArray[Any], tile: _Tile) -> NDArray[Any]:
        """Return what stands filter by filter image by image."""
        images = tile.images.stop - tile.images.start
        return product.reshape(-1, images, *self._shape(tile)[1:]).swapaxes(0, 1)

    def filters_first(self, grad: NDArray[Any], tile: _Tile) -> NDArray[Any]:
        """Return a tile of the output's gradient as a matrix for each group."""
        filters = grad.shape[1]
        part = grad[tile.images, :, tile.rows].swapaxes(0, 1)
        pixels = part[0].size
        return part.reshape(self.geometry.groups, filters // self.geometry.groups, pixels)

    def _columns(self, tile: _Tile) -> NDArray[Any]:
        shape = (self.channels, *self.kernel, *self._shape(tile))
        return self.buffer[: math.prod(shape)].reshape(shape)

    def _shape(self, tile: _Tile) -> tuple[int, int, int]:
        images, rows = (part.stop - part.start for part in tile)
        return images, rows, self.size[1]

    def _placing(self) -> tuple[int, ...]:
        return (*self.geometry.stride, *self.geometry.before, *self.geometry.dilation)


def _even(length: int, most: int) -> int:
    """Return the length of the parts, no longer than `most`, that are as equal as can be."""
    parts = -(-length // most)
    return -(-length // parts)


@kernel("const real[:, :, :, :], real[:, :, :, :, :, :]" + ", int64" * 7)
def _pack(x, columns, row, stride_y, stride_x, before_y, before_x, dilation_y, dilation_x):
    images, channels, height, width = x.shape
    _, kernel_y, kernel_x, _, rows, out_width = columns.shape
    shifts = stride_y == stride_x == 1 and out_width == width
    for channel in range(channels):
        for i in range(kernel_y):
            top = row * stride_y - before_y + i * dilation_y
            first_row, stop_row = _inside(top, stride_y, height, rows)
            for j in range(kernel_x):
                left = j * dilation_x - before_x
                first, stop = _inside(left, stride_x, width, out_width)
                for image in range(images):
                    block = columns[channel, i, j, image]
                    block[:first_row] = 0
                    block[stop_row:] = 0
                    if shifts:
                        target, source = _shifted(
                            block, x[image, channel], first_row, stop_row, top, left
                        )
                        for k in range(target.size):
                            target[k] = source[k]
                        _clear_sides(block[first_row:stop_row], first, stop)
                        continue
                    for r in range(first_row, stop_row):
                        line, pixels = block[r], x[image, channel, top + r * stride_y]
                        line[:first] = 0
                        inner, pixels = line[first:stop], pixels[first * stride_x + left :]
                        for k in range(inner.size):
                            inner[k] = pixels[k * stride_x]
                        line[stop:] = 0


@kernel("real[:, :, :, :, :, :], real[:, :, :, :]" + ", int64" * 7)
def _unpack(columns, x, row, stride_y, stride_x, before_y, before_x, dilation_y, dilation_x):
    images, channels, height, width = x.shape
    _, kernel_y, kernel_x, _, rows, out_width = columns.shape
    shifts = stride_y == stride_x == 1 and out_width == width
    for channel in range(channels):
        for i in range(kernel_y):
            top = row * stride_y - before_y + i * dilation_y
            first_row, stop_row = _inside(top, stride_y, height, rows)
            for j in range(kernel_x):
                left = j * dilation_x - before_x
                first, stop = _inside(left, stride_x, width, out_width)
                for image in range(images):
                    block = columns[channel, i, j, image]
                    if shifts:
                        _clear_sides(block[first_row:stop_row], first, stop)
                        source, target = _shifted(
                            block, x[image, channel], first_row, stop_row, top, left
                        )
                        for k in range(target.size):
                            target[k] += source[k]
                        continue
                    for r in range(first_row, stop_row):
                        inner = block[r, first:stop]
                        pixels = x[image, channel, top + r * stride_y, first * stride_x + left :]
                        for k in range(inner.size):
                            pixels[k * stride_x] += inner[k]


@inline
def _shifted(block, plane, first_row, stop_row, top, left):
    """Return the pixels of some rows in one run, and those of the image that they stand for.

    Rows as long as the image's follow each other as there: only at their sides, where one row's
    pixels run into the next one's, are they not what the window covers.
    """
    shift = top * plane.shape[1] + left
    first = max(first_row * plane.shape[1], -shift)
    stop = max(first, min(stop_row * plane.shape[1], plane.size - shift))
    return block.reshape(-1)[first:stop], plane.reshape(-1)[first + shift : stop + shift]


@inline
def _clear_sides(block, first, stop):
    for r in range(block.shape[0]):
        for k in range(first):
            block[r, k] = 0
        for k in range(stop, block.shape[1]):
            block[r, k] = 0


@inline
def _inside(left, stride, width, count):
    """Return the first and the end of those k < count that have 0 <= left + k · stride < width."""
    first = min(max(0, -(left // stride)), count)
    return first, max(first, min(count, (width - left + stride - 1) // stride))
