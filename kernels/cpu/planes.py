"""Planes of images laid out so that a kernel's taps meet contiguous runs of them.

The padding is laid out around a plane, and with a stride the pixels are laid out apart by their
remainders. Whatever the geometry, what a tap meets for all pixels of the output, row by row, is
then one run with a stride of 1, from an offset of the tap's own. Rows that are laid out are longer
than the output's: what runs meet between the end of a row and the start of the next is of no use.

A tile, some images or some rows of one, is laid out at a time, in a buffer that stays in the cache.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import inline, kernel
from .microkernel import VECTOR_BYTES

__all__ = ["Geometry", "layout"]

_BUFFER_BYTES = 2**20
"""About what the second-level cache of a core holds."""


class Geometry(NamedTuple):
    """How windows lie on an image: pairs, of the vertical axis and the horizontal one."""

    stride: tuple[int, int]
    before: tuple[int, int]
    """Zeros before the image or, if negative, pixels passed over. How many follow it, the size of
    the output says."""
    dilation: tuple[int, int]
    groups: int


class Tile(NamedTuple):
    """Some images' rows of the output: all rows, or those of one image only."""

    images: slice
    rows: slice


class Axis(NamedTuple):
    """What the taps meet along one axis, as runs with a stride of 1."""

    starts: NDArray[np.int64]
    """Where in x each run starts."""
    stride: int
    """From one pixel of a run to the next."""
    run: NDArray[np.int64]
    """Which run each tap meets."""
    shift: NDArray[np.int64]
    """And from which pixel on."""

    @classmethod
    def of(cls, kernel: int, stride: int, before: int, dilation: int) -> "Axis":
        shift, remainder = np.divmod(np.arange(kernel) * dilation, stride)
        remainders, run = np.unique(remainder, return_inverse=True)
        return cls(remainders - before, stride, run, shift)

    @property
    def excess(self) -> int:
        """How much longer than the output a run is."""
        return int(self.shift.max())


class Layout:
    """Where the pixels of a tile are, and how large a tile is."""

    def __init__(
        self,
        shape: tuple[int, ...],
        itemsize: int,
        kernel: tuple[int, ...],
        size: tuple[int, ...],
        geometry: Geometry,
        filters: int = 0,
    ) -> None:
        channels = shape[0]
        self.lanes = VECTOR_BYTES // itemsize
        self.height, self.width = size
        self.axes = rows, columns = tuple(map(Axis.of, kernel, *geometry[:3]))
        self.pitch = self.width + columns.excess
        runs = len(rows.starts) * len(columns.starts)
        # What a 1×1 kernel meets are the planes as they are, if their last vector ends with them.
        self.in_place = (
            kernel == (1, 1)
            and geometry[:2] == ((1, 1), (0, 0))
            and size == shape[1:]
            and math.prod(size) % self.lanes == 0
        )
        row = max(1, itemsize * self.pitch * (channels * runs + filters))
        most_rows = max(1, _BUFFER_BYTES // row - rows.excess)
        self.tile_rows = self.height if self.in_place else _even(self.height, most_rows)
        self.tile_images = max(1, _BUFFER_BYTES // (row * (self.tile_rows + rows.excess)))
        self.plane = (self.tile_rows + rows.excess) * self.pitch
        span = (self.tile_rows - 1) * self.pitch + self.width
        self.room = -(-span // self.lanes) * self.lanes

        run = rows.run[:, np.newaxis] * len(columns.starts) + columns.run
        shift = rows.shift[:, np.newaxis] * self.pitch + columns.shift
        channel = np.arange(channels)[:, np.newaxis, np.newaxis]
        offsets = (channel * runs + run) * self.plane + shift
        self.offsets: NDArray[np.int64] = offsets.reshape(geometry.groups, -1)
        """Of the runs from an image's start: (groups, taps of all channels of a group)."""
        self.taps = self.offsets.shape[1]

    def tiles(self, images: slice) -> Iterator[Tile]:
        for image in range(images.start, images.stop, self.tile_images):
            for row in range(0, self.height, self.tile_rows):
                yield Tile(
                    slice(image, min(image + self.tile_images, images.stop)),
                    slice(row, min(row + self.tile_rows, self.height)),
                )

    def planes(self, x: NDArray[Any]) -> "Planes":
        return Planes(self, x, self.axes, self.plane)

    def output_planes(self, grad: NDArray[Any]) -> "Planes":
        """Return planes of the output: whole vectors, with zeros where no pixel is."""
        axis = Axis.of(kernel=1, stride=1, before=0, dilation=1)
        return Planes(self, grad, (axis, axis), self.room)


layout = functools.lru_cache(maxsize=128)(Layout)


class Planes:
    """A buffer in which an array's planes are laid out for one tile after the other."""

    def __init__(
        self, where: Layout, array: NDArray[Any], axes: tuple[Axis, ...], plane: int
    ) -> None:
        self.array = array
        self.rows, self.columns = axes
        self.plane = plane
        self.pitch = where.pitch
        self.buffer: NDArray[Any] | None = None
        if not where.in_place:
            runs = array.shape[1] * len(self.rows.starts) * len(self.columns.starts)
            # The last run's last vector passes beyond its plane.
            length = runs * plane + where.lanes
            self.buffer = np.zeros((where.tile_images, length), array.dtype)

    def of(self, tile: Tile) -> NDArray[Any]:
        """Return the planes of a tile's images, an image a row."""
        images = self.array[tile.images]
        if self.buffer is None:
            return images.reshape(len(images), images[0].size)
        rows = tile.rows.stop - tile.rows.start + self.rows.excess
        starts = self.rows.starts + tile.rows.start * self.rows.stride, self.columns.starts
        strides = self.rows.stride, self.columns.stride
        _lay_out(images, self.buffer, *starts, *strides, rows, self.plane, self.pitch)
        return self.buffer


def _even(length: int, most: int) -> int:
    """Return the length of the parts, no longer than `most`, that are as equal as can be."""
    parts = -(-length // most)
    return -(-length // parts)


@kernel(
    "const real[:, :, :, :], real[:, :], const int64[:], const int64[:]"
    ", int64, int64, int64, int64, int64"
)
def _lay_out(x, buffer, tops, lefts, stride_y, stride_x, rows, plane, pitch):
    images, channels, height, width = x.shape
    for image in range(images):
        start = 0
        for channel in range(channels):
            for top in tops:
                first_row, stop_row = _inside(top, stride_y, height, rows)
                for left in lefts:
                    first, stop = _inside(left, stride_x, width, pitch)
                    target = buffer[image, start : start + plane]
                    target[: first_row * pitch] = 0
                    target[stop_row * pitch :] = 0
                    for row in range(first_row, stop_row):
                        line = target[row * pitch + first : row * pitch + stop]
                        pixels = x[image, channel, top + row * stride_y, first * stride_x + left :]
                        if stride_x == 1:
                            for k in range(line.size):
                                line[k] = pixels[k]
                        else:
                            for k in range(line.size):
                                line[k] = pixels[k * stride_x]
                    start += plane


@inline
def _inside(start, stride, length, count):
    """Return the first and the end of those k < count with 0 <= start + k · stride < length."""
    first = min(max(0, -(start // stride)), count)
    return first, max(first, min(count, (length - start + stride - 1) // stride))
