"""Rows added to the rows of a table, any of which may be named more than once."""

import numpy as np
from numpy.typing import NDArray

from .dense import ROWS
from .jit import Array, kernel

__all__ = ["add_rows"]


@kernel("const int64[:], const real[:, :], int64, real[:, :]")
def add_rows(indices: NDArray[np.int64], rows: Array, skipped: int, table: Array) -> None:
    """Add each of `rows` to the row of `table` that `indices` names, but never to row `skipped`.

    Rows are added in the order of the indices, so that the sums are the same in every run; sums of
    many are in double precision. Indices outside the table are ignored; a negative `skipped` skips
    none.
    """
    height, width = table.shape
    counts = np.zeros(height, np.int64)
    for i in range(indices.size):
        if 0 <= indices[i] < height and indices[i] != skipped:
            counts[indices[i]] += 1
    frequent = np.flatnonzero(counts > ROWS)
    sums = np.zeros((frequent.size, width))
    # From here on, the number of a frequent row's sum, and -1 for the other rows.
    counts[:] = -1
    for i in range(frequent.size):
        counts[frequent[i]] = i
    for i in range(indices.size):
        row = indices[i]
        if 0 <= row < height and row != skipped:
            if counts[row] >= 0:
                for column in range(width):
                    sums[counts[row], column] += rows[i, column]
            else:
                for column in range(width):
                    table[row, column] += rows[i, column]
    for i in range(frequent.size):
        for column in range(width):
            table[frequent[i], column] += table.dtype.type(sums[i, column])
