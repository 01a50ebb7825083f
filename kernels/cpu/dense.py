"""The operations of a dense layer besides its products, each in one pass over memory.

If ReLU or tanh follows the layer, the loops of `activation` add the bias and sum its gradient.
"""

import numpy as np

from .jit import Array, kernel

__all__ = ["add_bias", "midpoint", "sum_rows"]


ROWS = 256
"""Rows summed at a time; their sums are added up in double precision, against rounding."""


def sum_rows(rows: Array) -> Array:
    """Return the sum (n,) of the rows of an array (m, n), float32 or float64.

    Example:
        >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    total = np.empty(rows.shape[1], rows.dtype)
    _sum_rows.compiled(np.ascontiguousarray(rows), total)
    return total


def midpoint(a: Array, b: Array) -> Array:
    """Return (a + b) / 2 for arrays of one shape and dtype, float32 or float64.

    Example:
        >>> midpoint(np.array([1.0, 2.0]), np.array([3.0, 2.0]))
        array([2., 2.])
    """
    middle = np.empty(a.shape, a.dtype)
    _midpoint.compiled(a.ravel(), b.ravel(), middle.ravel())
    return middle


@kernel("const real[:], const real[:], real[:]")
def _midpoint(a: Array, b: Array, middle: Array) -> None:
    half = middle.dtype.type(0.5)
    for i in range(middle.size):
        middle[i] = half * (a[i] + b[i])


def add_bias(z: Array, bias: Array) -> None:
    """Add `bias` (n,) to each row of a C-contiguous `z` (m, n), in place.

    Example:
        >>> z = np.zeros((2, 2))
        >>> add_bias(z, np.array([1.0, 2.0]))
        >>> z
        array([[1., 2.],
               [1., 2.]])
    """
    _add_bias.compiled(z, np.ascontiguousarray(bias))


@kernel("real[:, :], const real[:]")
def _add_bias(z: Array, bias: Array) -> None:
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] += bias[j]


@kernel("const real[:, :], real[:]")
def _sum_rows(rows: Array, total: Array) -> None:
    part, sums = np.empty_like(total), np.zeros(total.size)
    for start in range(0, rows.shape[0], ROWS):
        part[:] = 0
        for i in range(start, min(start + ROWS, rows.shape[0])):
            for j in range(total.size):
                part[j] += rows[i, j]
        sums += part
    total[:] = sums
