"""How windows lie along one axis of an image, in the layout of `struct Axis` in axis.cuh."""

import numpy as np
from numpy.typing import NDArray

AXIS = np.dtype(
    [(name, np.int64) for name in ("length", "windows", "kernel", "stride", "before", "dilation")]
)


def axes(
    lengths: tuple[int, ...],
    windows: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    before: tuple[int, int],
    dilation: tuple[int, int],
) -> list[NDArray[np.void]]:
    """Return the vertical and the horizontal axis; each argument is a pair of the two."""
    pairs = zip(lengths, windows, kernel, stride, before, dilation)
    return [np.array(numbers, AXIS) for numbers in pairs]
