"""Products of matrices and tensors."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor, apply, as_tensors
from agrad.functions.registry import implements
from agrad.ops import linalg
from agrad.ops.arithmetic import Multiply

__all__ = ["dot", "einsum", "matmul", "outer", "tensordot"]


@implements(np.matmul)
def matmul(x: Any, y: Any) -> Tensor:
    """Return the matrix product x @ y.

    Args:
        x: An array of shape (..., m, k); or (k,) for a single row, and the result then lacks the
            axis m.
        y: An array of shape (..., k, n); or (k,) for a single column, and the result then lacks the
            axis n.

    Returns:
        A Tensor of shape (..., m, n); the leading axes broadcast.

    Raises:
        ValueError: The shapes do not match, or an argument is a number.

    Example:
        >>> import agrad as ag
        >>> ag.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0])
        tensor([-1., -1.])
    """
    return apply(linalg.Matmul(), *as_tensors(x, y))


@implements(np.dot)
def dot(x: Any, y: Any) -> Tensor:
    """Return the sums of products over the last axis of `x` and the second-to-last of `y`.

    If `y` has a single axis, the sum runs over that axis. For arguments with one or two axes, this
    is the matrix product. A number multiplies every element.

    Raises:
        ValueError: The axes differ in length.

    Example:
        >>> import agrad as ag
        >>> ag.dot([1.0, 2.0], [3.0, 4.0])
        tensor(11.)
    """
    x, y = as_tensors(x, y)
    return apply(linalg.dot(x.shape, y.shape), x, y)


@implements(np.outer)
def outer(x: Any, y: Any) -> Tensor:
    """Return the products of all pairs of elements, of shape (x.size, y.size).

    Example:
        >>> import agrad as ag
        >>> ag.outer([1.0, 2.0], [3.0, 4.0])
        tensor([[3., 4.],
                [6., 8.]])
    """
    x, y = as_tensors(x, y)
    return apply(Multiply(), x.reshape(-1, 1), y.reshape(1, -1))


@implements(np.tensordot)
def tensordot(x: Any, y: Any, axes: int | Sequence[Any] = 2) -> Tensor:
    """Return the sums of products over pairs of axes.

    Args:
        x: The first factor.
        y: The second factor.
        axes: A pair of ints or sequences, the axes of `x` and those of `y`; or an int n, not
            negative, for the last n axes of `x` and the first n axes of `y`.

    Returns:
        A Tensor with the remaining axes of `x`, followed by those of `y`.

    Raises:
        ValueError: Axes differ in number or in length, or are repeated or out of range.
        TypeError: `axes` is neither an int nor a pair of ints or sequences.

    Example:
        >>> import agrad as ag
        >>> ag.tensordot(np.ones((2, 3, 4)), np.ones((4, 3, 5)), axes=([1, 2], [1, 0])).shape
        (2, 5)
    """
    x, y = as_tensors(x, y)
    return apply(linalg.contraction(x.shape, y.shape, *_axes_of_both(axes, x.ndim, y.ndim)), x, y)


def _axes_of_both(axes: Any, x_ndim: int, y_ndim: int) -> tuple[list[int], list[int]]:
    """Return the axes of both factors that tensordot sums over."""
    if isinstance(axes, int | np.integer):
        if not 0 <= axes <= min(x_ndim, y_ndim):
            raise ValueError(
                f"tensordot: axes={axes} must lie between 0 and the numbers of axes, which are "
                f"{x_ndim} and {y_ndim}"
            )
        return list(range(x_ndim - axes, x_ndim)), list(range(axes))
    try:
        x_axes, y_axes = ([operator.index(i) for i in np.atleast_1d(part)] for part in axes)
    except (TypeError, ValueError):
        raise TypeError(
            f"tensordot: axes must be an integer, or a pair of integers or sequences of them, one "
            f"for each factor; got {axes!r}"
        ) from None
    for name, found, ndim in ("x", x_axes, x_ndim), ("y", y_axes, y_ndim):
        outside = [axis for axis in found if not -ndim <= axis < ndim]
        if outside:
            raise ValueError(f"tensordot: axes has {outside[0]} for {name}, which has {ndim} axes")
        if len({axis % ndim for axis in found}) < len(found):
            raise ValueError(f"tensordot: axes repeats an axis of {name}: {found}")
    if len(x_axes) != len(y_axes):
        raise ValueError(
            f"tensordot: axes has {len(x_axes)} axes of x and {len(y_axes)} of y; it must have the "
            f"same number of both, got {axes!r}"
        )
    return x_axes, y_axes


@implements(np.einsum)
def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Return sums of products in Einstein notation; see np.einsum.

    Any number of operands, an ellipsis, an implicit result, and a repeated letter within a term are
    supported. Lists of numbers instead of subscripts are not.

    Raises:
        ValueError: The subscripts do not match the operands.
        TypeError: The subscripts are not a string.

    Example:
        >>> import agrad as ag
        >>> ag.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0])
        tensor([21., 43.])
    """
    if not isinstance(subscripts, str):
        raise TypeError(
            f'einsum: subscripts must be a string such as "ij,jk->ik", got '
            f"{type(subscripts).__name__}"
        )
    return apply(linalg.Einsum(subscripts), *as_tensors(*operands))
