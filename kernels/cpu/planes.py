"""Planes of images laid out so that each tap of a kernel reads one contiguous run.

A plane is laid out with its padding; with a stride, its pixels are grouped by their remainder. The
zeros between two rows are the padding of both.
Whatever the geometry, the pixels that a tap reads for all pixels of the output, row by row, then
form one run with a stride of 1, which starts at an offset of the tap's own. Laid-out rows are
longer than the output's; what a run reads between the end of a row and the next start is unused.

One tile, some images or some rows of one, is laid out at a time, in a buffer that stays in the
cache.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import Array, inline, kernel
from .microkernel import register_bytes

__all__ = ["Geometry", "layout"]

_BUFFER_BYTES = 2**20
"""About the size of a core's second-level cache."""


class Geometry(NamedTuple):
    """How windows lie on an image; pairs are of the vertical and the horizontal axis."""

    stride: tuple[int, int]
    before: tuple[int, int]
    """Zeros before the image or, if negative, pixels skipped. The size of the output determines how
    many zeros follow the image."""
    dilation: tuple[int, int]
    groups: int


class Tile(NamedTuple):
    """All rows of the output of some images, or some rows of one image."""

    images: slice
    rows: slice


class Axis(NamedTuple):
    """The runs, of stride 1, that the taps read along one axis."""

    starts: NDArray[np.int64]
    """The place in x where each run starts."""
    stride: int
    """From one pixel of a run to the next."""
    run: NDArray[np.int64]
    """The run that each tap reads."""
    shift: NDArray[np.int64]
    """The pixel of the run from which the tap reads."""

    @classmethod
    def of(cls, kernel: int, stride: int, before: int, dilation: int) -> "Axis":
        shift, remainder = np.divmod(np.arange(kernel) * dilation, stride)
        remainders, run = np.unique(remainder, return_inverse=True)
        return cls(remainders - before, stride, run, shift)

    @property
    def excess(self) -> int:
        """How much longer than the output a run is."""
        return int(self.shift.max())

    def shared(self, size: int, length: int) -> int:
        """Return how many zeros after a row can be those before the next one.

        Args:
            size: The length of the output's rows.
            length: That of the image's.
        """
        before = -(self.starts // self.stride)
        after = size + self.excess + (self.starts - length) // self.stride
        return max(0, min(self.excess, int(before.min()), int(after.min())))


class Layout:
    """The place of each pixel of a tile, and the size of a tile."""

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
        self.lanes = register_bytes() // itemsize
        self.height, self.width = size
        self.axes = rows, columns = tuple(map(Axis.of, kernel, *geometry[:3]))
        self.pitch = self.width + columns.excess - columns.shared(self.width, shape[2])
        runs = len(rows.starts) * len(columns.starts)
        # A 1×1 kernel reads the planes in place if their last vector ends where they do.
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
        """Offsets of the runs from an image's start, (groups, taps of all channels of a group)."""
        self.taps = self.offsets.shape[1]

    def tiles(self, images: slice) -> Iterator[Tile]:
        for image in range(images.start, images.stop, self.tile_images):
            for row in range(0, self.height, self.tile_rows):
                yield Tile(
                    slice(image, min(image + self.tile_images, images.stop)),
                    slice(row, min(row + self.tile_rows, self.height)),
                )

    def planes(self, x: Array) -> "Planes":
        return Planes(self, x, self.axes, self.plane)

    def output_planes(self, grad: Array) -> "Planes":
        """Return planes of the output, padded with zeros to whole vectors."""
        axis = Axis.of(kernel=1, stride=1, before=0, dilation=1)
        return Planes(self, grad, (axis, axis), self.room)


layout = functools.lru_cache(maxsize=128)(Layout)


class Planes:
    """A buffer in which an array's planes are laid out, tile by tile."""

    def __init__(self, where: Layout, array: Array, axes: tuple[Axis, ...], plane: int) -> None:
        self.array = array
        self.rows, self.columns = axes
        self.plane = plane
        self.pitch = where.pitch
        self.buffer: Array | None = None
        if not where.in_place:
            runs = array.shape[1] * len(self.rows.starts) * len(self.columns.starts)
            # The last vector of the last run extends beyond its plane.
            length = runs * plane + where.lanes
            self.buffer = np.zeros((where.tile_images, length), array.dtype)

    def of(self, tile: Tile) -> Array:
        """Return the planes of a tile's images, one row for each image."""
        images = self.array[tile.images]
        if self.buffer is None:
            return images.reshape(len(images), images[0].size)
        rows = tile.rows.stop - tile.rows.start + self.rows.excess
        starts = self.rows.starts + tile.rows.start * self.rows.stride, self.columns.starts
        strides = self.rows.stride, self.columns.stride
        _lay_out(images, self.buffer, *starts, *strides, rows, self.plane, self.pitch)
        return self.buffer


def _even(length: int, most: int) -> int:
    """Return the length of parts that are as equal as possible and no longer than `most`."""
    parts = -(-length // most)
    return -(-length // parts)


@kernel(
    "const real[:, :, :, :], real[:, :], const int64[:], const int64[:]"
    ", int64, int64, int64, int64, int64"
)
def _lay_out(
    x: Array,
    buffer: Array,
    tops: NDArray[np.int64],
    lefts: NDArray[np.int64],
    stride_y: int,
    stride_x: int,
    rows: int,
    plane: int,
    pitch: int,
) -> None:
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
def _inside(start: int, stride: int, length: int, count: int) -> tuple[int, int]:
    """Return the range (first, stop) of the k < count with 0 <= start + k · stride < length."""
    first = min(max(0, -(start // stride)), count)
    return first, max(first, min(count, (length - start + stride - 1) // stride))
