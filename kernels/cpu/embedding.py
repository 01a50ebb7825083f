"""Rows added to the rows of a table, any of which may be named more than once."""

import numpy as np
from numpy.typing import NDArray

from .jit import Array, kernel

__all__ = ["add_rows"]


@kernel("const int64[:], const real[:, :], int64, real[:, :]")
def add_rows(indices: NDArray[np.int64], rows: Array, skipped: int, table: Array) -> None:
    """Add each of `rows` to the row of `table` that `indices` names, but never to row `skipped`.

    Rows are added in the order of the indices, so that the sums are the same in every run. Indices
    outside the table are ignored; a negative `skipped` skips none.
    """
    for i in range(indices.size):
        row = indices[i]
        if 0 <= row < len(table) and row != skipped:
            for column in range(table.shape[1]):
                table[row, column] += rows[i, column]
