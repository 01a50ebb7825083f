"""What a dense layer computes besides its products, in one pass over memory each.

If ReLU or tanh follows the layer, the kernels of `activation` add the bias and sum its gradient.
Rows are summed 128 at a time, then the sums in the same way, in an order that depends on their
number alone; float32 is summed in single precision.
"""

import cupy

from .launch import Kernel, over

__all__ = ["add_bias", "midpoint", "sum_rows"]

_LANES = 16
"""Threads that share a column, and columns of a block; the same as in `dense.cuh`."""

_ROWS = 128
"""Rows that a block sums; the same as in `dense.cuh`."""

_add_bias = Kernel("dense.cu", "add_bias", "real*, const real*, int64, int64")
_midpoint = Kernel("dense.cu", "midpoint", "const real*, const real*, real*, int64")
_sum_rows = Kernel("dense.cu", "sum_rows", "const real*, real*, int64, int64, int64")


def add_bias(z: cupy.ndarray, bias: cupy.ndarray) -> None:
    """Add `bias` (n,) to each row of `z` (m, n), in place.

    Example:
        >>> z = cupy.zeros((2, 2))
        >>> add_bias(z, cupy.array([1.0, 2.0]))
        >>> z
        array([[1., 2.],
               [1., 2.]])
    """
    _add_bias(over_places(z), z, cupy.ascontiguousarray(bias), *z.shape)


def sum_rows(rows: cupy.ndarray) -> cupy.ndarray:
    """Return the sum (n,) of the rows of an array (m, n), float32 or float64.

    Example:
        >>> sum_rows(cupy.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    return _summed_rows(rows, None)


def midpoint(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Return (a + b) / 2 for arrays of one shape and dtype, float32 or float64.

    Example:
        >>> midpoint(cupy.array([1.0, 2.0]), cupy.array([3.0, 2.0]))
        array([2., 2.])
    """
    middle = cupy.empty(a.shape, a.dtype)
    _midpoint(over(middle.size), *map(cupy.ascontiguousarray, (a, b)), middle, middle.size)
    return middle


def summed(
    kernel: Kernel, sum_out: cupy.ndarray | None, *arrays: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """Return the result of a kernel for arrays (m, n) and the sum (n,) of the result's rows.

    The sum is written to `sum_out`, if given.
    """
    result = cupy.empty(arrays[-1].shape, arrays[-1].dtype)
    sums = _chunk_sums(result, sum_out)
    given = map(cupy.ascontiguousarray, arrays)
    kernel(_over_chunks(sums), *given, result, sums, *result.shape, len(sums))
    return result, _total(sums, sum_out)


def _summed_rows(rows: cupy.ndarray, sum_out: cupy.ndarray | None) -> cupy.ndarray:
    sums = _chunk_sums(rows, sum_out)
    _sum_rows(_over_chunks(sums), cupy.ascontiguousarray(rows), sums, *rows.shape, len(sums))
    return _total(sums, sum_out)


def _chunk_sums(rows: cupy.ndarray, sum_out: cupy.ndarray | None) -> cupy.ndarray:
    """Return an array for the sums of each `_ROWS` rows; without rows it has a single row."""
    chunks = max(1, -(-len(rows) // _ROWS))
    if chunks == 1 and sum_out is not None:
        return sum_out[None]
    return cupy.empty((chunks, rows.shape[1]), rows.dtype)


def _total(sums: cupy.ndarray, sum_out: cupy.ndarray | None) -> cupy.ndarray:
    if len(sums) > 1:
        return _summed_rows(sums, sum_out)
    return sums[0] if sum_out is None else sum_out


def over_places(z: cupy.ndarray) -> tuple[int, int]:
    """Return the grid of a kernel that loops over the rows and columns of a layer."""
    rows, columns = z.shape
    return over(columns * _LANES, -(-rows // _LANES))


def _over_chunks(sums: cupy.ndarray) -> tuple[int, int]:
    chunks, columns = sums.shape
    return over(columns * _LANES, chunks)
