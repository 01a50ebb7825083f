"""Rows added to the rows of a table, each of which may be named repeatedly."""

import numpy as np
from numpy.typing import NDArray

from .dense import ROWS
from .jit import Array, kernel

__all__ = ["add_rows"]


@kernel("const int64[:], const real[:, :], int64, real[:, :]")
def add_rows(indices: NDArray[np.int64], rows: Array, skipped: int, table: Array) -> None:
    """Add each of `rows` to the row of `table` that `indices` names, but never to row `skipped`.

    Rows are added in the order of the indices, so that the sums are the same in every run; the sums
    of each `ROWS` of them are added up in double precision. Indices outside the table are ignored;
    a negative `skipped` skips none.
    """
    height, width = table.shape
    counts, parts = np.zeros(height, np.int32), np.zeros(height, np.int32)
    sums = np.zeros((indices.size // ROWS, width))
    used = 0
    for i in range(indices.size):
        row = indices[i]
        if 0 <= row < height and row != skipped:
            for column in range(width):
                table[row, column] += rows[i, column]
            counts[row] += 1
            if counts[row] == ROWS:
                counts[row] = 0
                if parts[row] == 0:
                    used += 1
                    parts[row] = used
                for column in range(width):
                    sums[parts[row] - 1, column] += table[row, column]
                    table[row, column] = 0
    if used:
        for row in range(height):
            if parts[row]:
                for column in range(width):
                    table[row, column] += sums[parts[row] - 1, column]
