"""Sums of many rows, in blocks.

NumPy adds up a contiguous axis in pairs, but rows one by one, so that the rounding error of a sum
over other axes grows with the number of rows: in single precision, a million of them leave two or
three digits. Here each block of rows is summed, then their sums, and so on. Few rows are left to
NumPy, unless the BLAS is faster.
"""

import functools
import math

import numpy as np

from agrad.backend import Array

__all__ = ["mean", "sum_over", "unbroadcast", "variance"]

_ROWS = 128  # in a block
_SHORT = 256  # for a row


def sum_over(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool = False) -> Array:
    """Return the sum over an axis, several, or all.

    Example:
        >>> x = np.full((10**6, 2), 0.1, np.float32)
        >>> sum_over(x, 0).round()
        array([100000., 100000.], dtype=float32)
    """
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    while _rows(x, axes) > _ROWS:
        slowest = max((a for a in axes if x.shape[a] > 1), key=lambda a: abs(x.strides[a]))
        x = _in_blocks(x, slowest % x.ndim)
    if _in_short_rows(x, axes):
        length = x.shape[-1]
        sums: Array = np.matmul(x.reshape(-1, length), _ones(length, x.dtype.char))
        return sums.reshape(*x.shape[:-1], 1) if keepdims else sums.reshape(x.shape[:-1])
    out: Array = x.sum(axis=axes, keepdims=keepdims)
    return out


def mean(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the mean over axes.

    Example:
        >>> mean(np.array([[1.0, 2.0], [3.0, 4.0]]), (0,))
        array([2., 3.])
    """
    if x.dtype == np.float16 or _rows(x, axes) <= _ROWS:
        few: Array = x.mean(axis=axes, keepdims=keepdims)
        return few
    many: Array = sum_over(x, axes, keepdims) / math.prod(x.shape[a] for a in axes)
    return many


def variance(x: Array, axes: tuple[int, ...], ddof: float = 0, keepdims: bool = False) -> Array:
    """Return the variance over axes: the sum of squared deviations divided by n - ddof.

    Example:
        >>> variance(np.array([1.0, 2.0, 3.0]), (0,), ddof=1)
        np.float64(1.0)
    """
    if x.dtype == np.float16:  # in which the squares overflow
        return variance(x.astype(np.float32), axes, ddof, keepdims).astype(np.float16)
    if _rows(x, axes) <= _ROWS:
        few: Array = x.var(axis=axes, ddof=ddof, keepdims=keepdims)
        return few
    squares = np.square(x - mean(x, axes, keepdims=True))
    freedom = math.prod(x.shape[a] for a in axes) - ddof
    many: Array = sum_over(squares, axes, keepdims) / freedom
    return many


def unbroadcast(grad: Array, like: Array) -> Array:
    """Sum `grad` over the axes along which `like` was broadcast, and give it `like`'s dtype.

    Raises:
        ValueError: `like` does not broadcast to the shape of `grad`.
    """
    if grad.shape != like.shape:
        lead = grad.ndim - like.ndim
        if lead < 0 or any(n not in (1, m) for n, m in zip(like.shape, grad.shape[lead:])):
            raise ValueError(
                f"backward: a gradient of shape {grad.shape} does not fit an input of shape "
                f"{like.shape}"
            )
        stretched = (lead + i for i, n in enumerate(like.shape) if n == 1 != grad.shape[lead + i])
        grad = sum_over(grad, (*range(lead), *stretched)).reshape(like.shape)
    return grad if grad.dtype == like.dtype else grad.astype(like.dtype)


def _in_short_rows(x: Array, axes: tuple[int, ...]) -> bool:
    """Return whether the sums are of rows so short that the BLAS is faster, and as exact.

    NumPy's sum takes 0.1 µs for each row. The BLAS adds a row up in a fixed number of parts: of
    short rows, few elements each.
    """
    return (
        type(x) is np.ndarray
        and x.ndim > 1
        and axes in ((x.ndim - 1,), (-1,))
        and 1 < x.shape[-1] <= _SHORT
        and x.dtype.char in "fd"
        and x.flags.c_contiguous
    )


@functools.cache
def _ones(count: int, dtype: str) -> Array:
    ones = np.ones(count, dtype)
    ones.setflags(write=False)
    return ones


def _rows(x: Array, axes: tuple[int, ...]) -> int:
    """Return how many numbers or partial sums NumPy would add one by one."""
    count: int = math.prod([x.shape[a] for a in axes])
    if count <= _ROWS or not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return 1
    if x.flags.c_contiguous and (len(axes) == x.ndim or axes in ((x.ndim - 1,), (-1,))):
        return 1
    in_pairs, step = 1, x.itemsize
    for a in sorted(range(x.ndim), key=lambda a: abs(x.strides[a])):
        if x.shape[a] > 1:
            if abs(x.strides[a]) != step or (a not in axes and a - x.ndim not in axes):
                break
            in_pairs *= x.shape[a]
            step *= x.shape[a]
    return count // in_pairs


def _in_blocks(x: Array, axis: int) -> Array:
    """Return the sums of the blocks along an axis."""
    before, n = x.shape[:axis], x.shape[axis]
    whole = n - n % _ROWS
    blocks, rest = np.split(x, [whole], axis)
    sums = blocks.reshape(*before, n // _ROWS, _ROWS, *x.shape[axis + 1 :]).sum(axis=axis + 1)
    return np.concatenate([sums, rest.sum(axis=axis, keepdims=True)], axis) if n > whole else sums
