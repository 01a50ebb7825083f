"""Convolution in two dimensions, straight from the planes of x: no columns are packed.

Planes are laid out so that the pixels that a tap of the kernel reads, from one pixel of the output
to the next, form one contiguous run (see `planes`). The output is the sum of these runs, each times
a weight. The gradient of x is a convolution of the output's gradient with the flipped kernel. The
gradient of a weight is the product of its run with the gradient of its filter's plane.
"""

import functools
import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import Array, kernel
from .microkernel import FILTERS, summed_products, weighted_sums, widest
from .planes import Geometry, layout
from .threads import in_parallel

__all__ = ["Geometry", "convolve", "input_gradient", "weight_gradient"]


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    size: tuple[int, int],
    geometry: Geometry,
) -> Array:
    """Return the sums over windows of weight · x, plus bias, for an output of `size`.

    x is (images, channels, height, width), weight (filters, channels / groups, *kernel), bias
    (filters,): all of one dtype, float32 or float64.

    Example:
        >>> x, weight = np.arange(5.0).reshape(1, 1, 1, 5), np.ones((1, 1, 1, 3))
        >>> convolve(x, weight, None, (1, 3), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([3., 6., 9.])
    """
    x = np.ascontiguousarray(x)
    out = np.empty((len(x), len(weight), *size), x.dtype)
    where = layout(x.shape[1:], x.itemsize, weight.shape[2:], size, geometry)
    factors = _by_block(weight, geometry.groups)
    initial = _by_block(np.zeros(len(weight), x.dtype) if bias is None else bias, geometry.groups)

    def work(images: slice) -> None:
        planes = where.planes(x)
        sums = np.empty(FILTERS * where.room, x.dtype)
        for tile in where.tiles(images):
            rows = tile.rows.start, tile.rows.stop
            arrays = planes.of(tile), where.offsets, factors, initial, out[tile.images], sums
            _convolve(*arrays, *rows, where.pitch, where.lanes, widest())

    in_parallel(work, len(x), out.size * where.taps)
    return out


def input_gradient(grad: Array, weight: Array, size: tuple[int, int], geometry: Geometry) -> Array:
    """Pull the output's gradient back to an x of `size`: a transposed convolution.

    Example:
        >>> grad, weight = np.ones((1, 1, 1, 3)), np.ones((1, 1, 1, 3))
        >>> input_gradient(grad, weight, (1, 5), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([1., 2., 3., 2., 1.])
    """
    filters, channels, *kernel = weight.shape
    groups = geometry.groups
    # Each channel of x becomes a filter; its channels are the filters of its group.
    weight = weight.reshape(groups, filters // groups, channels, *kernel).swapaxes(1, 2)
    weight = weight.reshape(groups * channels, filters // groups, *kernel)

    def pulled_to(rows: _Phase, columns: _Phase) -> Array:
        before, dilation = (rows.before, columns.before), (rows.dilation, columns.dilation)
        return convolve(
            grad,
            weight[:, :, rows.taps, columns.taps],
            None,
            (len(range(size[0])[rows.pixels]), len(range(size[1])[columns.pixels])),
            Geometry((1, 1), before, dilation, groups),
        )

    phases = list(product(*(_phases(axis, size, kernel, geometry) for axis in (0, 1))))
    if phases and geometry.stride == (1, 1):
        return pulled_to(*phases[0])
    x_grad = np.zeros((len(grad), len(weight), *size), grad.dtype)
    for rows, columns in phases:
        x_grad[:, :, rows.pixels, columns.pixels] = pulled_to(rows, columns)
    return x_grad


def weight_gradient(grad: Array, x: Array, kernel: tuple[int, int], geometry: Geometry) -> Array:
    """Pull the output's gradient back to a weight with a kernel of size `kernel`.

    Example:
        >>> x, grad = np.arange(5.0).reshape(1, 1, 1, 5), np.ones((1, 1, 1, 3))
        >>> weight_gradient(grad, x, (1, 3), Geometry((1, 1), (0, 0), (1, 1), 1)).ravel()
        array([3., 6., 9.])
    """
    x, grad = np.ascontiguousarray(x), np.ascontiguousarray(grad)
    filters, channels = grad.shape[1], x.shape[1] // geometry.groups
    where = layout(x.shape[1:], x.itemsize, kernel, grad.shape[2:], geometry, filters)
    # Taps are taken `widest()` at a time. The last one repeats to fill up; the excess is dropped.
    tiles = -(-where.taps // widest())
    taps = np.minimum(np.arange(tiles * widest()), where.taps - 1)
    offsets = np.take(where.offsets, taps, axis=1).reshape(geometry.groups, tiles, widest())

    def work(images: slice) -> Array:
        planes, grads = where.planes(x), where.output_planes(grad)
        sums = np.empty(FILTERS * widest(), x.dtype)
        total = np.zeros((filters, taps.size), x.dtype)
        for tile in where.tiles(images):
            count = tile.images.stop - tile.images.start
            numbers = count, where.room, where.lanes
            _correlate(planes.of(tile), offsets, grads.of(tile), *numbers, sums, total)
        return total

    totals = in_parallel(work, len(x), grad.size * where.taps)
    total = functools.reduce(np.add, totals)[:, : where.taps]
    return np.ascontiguousarray(total).reshape(filters, channels, *kernel)


class _Phase(NamedTuple):
    """Pixels of x one stride apart on an axis; their gradients form a convolution of their own."""

    pixels: slice
    taps: slice
    """The taps that read any of these pixels, the last one first."""
    before: int
    dilation: int


def _phases(
    axis: int, size: tuple[int, int], kernel: list[int], geometry: Geometry
) -> Iterator[_Phase]:
    """Yield the phases of an axis that some tap reads."""
    stride, before, dilation = (pair[axis] for pair in geometry[:3])
    common = math.gcd(stride, dilation)
    for first in range(min(stride, size[axis])):
        # Tap i reads pixel p for the output's pixel (p + before - i · dilation) / stride.
        distances = [first + before - tap * dilation for tap in range(kernel[axis])]
        taps = [tap for tap, distance in enumerate(distances) if distance % stride == 0]
        if taps:
            yield _Phase(
                slice(first, None, stride),
                slice(taps[-1], None, -(stride // common)),
                -(distances[taps[-1]] // stride),
                dilation // common,
            )


def _by_block(values: Array, groups: int) -> Array:
    """Return values of filters, (filters, ...), as (groups, blocks, values of a filter, FILTERS).

    The last block of a group is padded with zeros.
    """
    filters, *shape = values.shape
    by_group = values.reshape(groups, filters // groups, *shape)
    blocks = -(-by_group.shape[1] // FILTERS)
    by_block = np.zeros((groups, blocks, *shape, FILTERS), values.dtype)
    for f in range(FILTERS):
        filter_of_blocks = by_group[:, f::FILTERS]
        by_block[:, : filter_of_blocks.shape[1], ..., f] = filter_of_blocks
    return by_block.reshape(groups, blocks, math.prod(shape), FILTERS)


@kernel(
    "const real[:, :], const int64[:, :], const real[:, :, :, :], const real[:, :, :, :],"
    "real[:, :, :, :], real[:], int64, int64, int64, int64, int64"
)
def _convolve(
    planes: Array,
    offsets: NDArray[np.int64],
    factors: Array,
    initial: Array,
    out: Array,
    sums: Array,
    first_row: int,
    stop_row: int,
    pitch: int,
    lanes: int,
    widest: int,
) -> None:
    images, filters, _, width = out.shape
    groups, blocks, taps, _ = factors.shape
    filters //= groups
    room = sums.size // FILTERS
    rows = stop_row - first_row
    vectors = ((rows - 1) * pitch + width + lanes - 1) // lanes
    parts = (vectors + widest - 1) // widest
    for image in range(images):
        for group in range(groups):
            for block in range(blocks):
                for part in range(parts):
                    first, stop = vectors * part // parts, vectors * (part + 1) // parts
                    weighted_sums(
                        planes[image, first * lanes :],
                        offsets[group],
                        factors[group, block, 0],
                        taps,
                        initial[group, block, 0],
                        stop - first,
                        sums[first * lanes :],
                        room,
                    )
                first_filter = block * FILTERS
                for f in range(min(FILTERS, filters - first_filter)):
                    plane = out[image, group * filters + first_filter + f]
                    for row in range(rows):
                        line, source = plane[first_row + row], sums[f * room + row * pitch :]
                        for k in range(width):
                            line[k] = source[k]


@kernel(
    "const real[:, :], const int64[:, :, :], const real[:, :], int64, int64, int64, real[:],"
    "real[:, :]"
)
def _correlate(
    planes: Array,
    offsets: NDArray[np.int64],
    grads: Array,
    images: int,
    room: int,
    lanes: int,
    sums: Array,
    total: Array,
) -> None:
    groups, tiles, taps = offsets.shape
    filters = total.shape[0] // groups
    for group in range(groups):
        for first in range(0, filters, FILTERS):
            several = min(FILTERS, filters - first)
            for tile in range(tiles):
                summed_products(
                    grads[0, (group * filters + first) * room :],
                    grads.shape[1],
                    room,
                    several,
                    planes[0],
                    planes.shape[1],
                    offsets[group, tile],
                    images,
                    room // lanes,
                    sums,
                )
                for f in range(several):
                    for k in range(taps):
                        place = group * filters + first + f, tile * taps + k
                        total[place] += sums[f * taps + k]
