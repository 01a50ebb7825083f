"""Rows added to the rows of a table, any of which may be named more than once."""

import cupy

from .launch import THREADS, Kernel, over

__all__ = ["add_rows"]

_WIDTH = 32
"""The columns of a block; the same as in embedding.cu."""

_add_runs = Kernel(
    "embedding.cu",
    "add_runs",
    "const int64*, const int64*, const real*, real*, int64, int64, int64, int64",
)


def add_rows(indices: cupy.ndarray, rows: cupy.ndarray, skipped: int, table: cupy.ndarray) -> None:
    """Add each of `rows` to the row of `table` that `indices` names, but never to row `skipped`.

    Rows are added in the order of the indices, so that the sums are the same in every run. Indices
    outside the table are ignored; a negative `skipped` skips none.

    Example:
        >>> table = cupy.zeros((2, 1))
        >>> add_rows(cupy.array([1, 0, 1]), cupy.array([[1.0], [2.0], [4.0]]), -1, table)
        >>> table.ravel()
        array([2., 5.])
    """
    count, width = rows.shape
    order = cupy.argsort(indices, kind="stable")
    sizes = count, width, len(table)
    grid = over(-(-width // _WIDTH) * THREADS, count)
    _add_runs(grid, indices[order], order, rows, table, *sizes, skipped)
