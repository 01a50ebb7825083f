"""Which candidate is the largest while all of them move along straight lines."""

import math

import cupy

from .launch import Kernel, over_rows

__all__ = ["average_shares"]

_average_shares = Kernel(
    "selection.cu", "average_shares", "const real*, const real*, real*, int64, int64"
)


def average_shares(start: cupy.ndarray, end: cupy.ndarray) -> cupy.ndarray:
    """Return for each candidate the fraction of the segment on which it is the largest.

    The candidates lie along the last axis and move from `start` to `end`, arrays of one shape and
    dtype, float32 or float64, which the result has too. Candidates that are equal all the way share
    their fraction equally; NaN anywhere in a row makes the whole row NaN.

    Example:
        >>> average_shares(cupy.array([[3.0, 0.0, 0.0]]), cupy.array([[0.0, 1.0, 1.0]]))
        array([[0.75 , 0.125, 0.125]])
    """
    shares = cupy.zeros(start.shape, start.dtype)
    rows = math.prod(start.shape[:-1]) if start.size else 0
    arrays = map(cupy.ascontiguousarray, (start, end))
    size = start.shape[-1]
    _average_shares(over_rows(rows, size), *arrays, shares, rows, size)
    return shares
