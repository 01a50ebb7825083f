"""Products of matrices and tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor, apply, as_tensor
from agrad.functions.registry import implements
from agrad.ops import linalg

__all__ = ["dot", "einsum", "matmul", "outer", "tensordot"]


@implements(np.matmul)
def matmul(x: Any, y: Any) -> Tensor:
    """Return the matrix product x @ y.

    Args:
        x: (..., m, k), or (k,) for a single row that the result then lacks.
        y: (..., k, n), or (k,) for a single column likewise. The leading axes broadcast.

    Raises:
        ValueError: shapes that do not fit, or a number in place of an array.

    Example:
        >>> import agrad as ag
        >>> ag.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0])
        tensor([-1., -1.])
    """
    return apply(linalg.Matmul(), as_tensor(x), as_tensor(y))


@implements(np.dot)
def dot(x: Any, y: Any) -> Tensor:
    """Return the sums of products over the last axis of `x` and the last but one of `y`.

    With one axis or two that is the matrix product (the only axis of `y` counts as its last but
    one); a number multiplies every element.

    Raises:
        ValueError: axes of different lengths.

    Example:
        >>> import agrad as ag
        >>> ag.dot([1.0, 2.0], [3.0, 4.0])
        tensor(11.)
    """
    return as_tensor(x).dot(as_tensor(y))


@implements(np.outer)
def outer(x: Any, y: Any) -> Tensor:
    """Return the products of each element of `x`, as rows, with each of `y`, as columns.

    Example:
        >>> import agrad as ag
        >>> ag.outer([1.0, 2.0], [3.0, 4.0])
        tensor([[3., 4.],
                [6., 8.]])
    """
    return as_tensor(x).reshape(-1, 1) * as_tensor(y).reshape(1, -1)


@implements(np.tensordot)
def tensordot(x: Any, y: Any, axes: int | Sequence[Any] = 2) -> Tensor:
    """Return the sums of products over pairs of axes.

    Args:
        x: first factor.
        y: second factor.
        axes: the axes of `x` and those of `y`, a pair of ints or of sequences; or how many of the
            last of `x` and the first of `y`.

    Returns:
        An array with the other axes of `x`, then those of `y`.

    Raises:
        ValueError: axes of different lengths, or out of range.

    Example:
        >>> import agrad as ag
        >>> ag.tensordot(np.ones((2, 3, 4)), np.ones((4, 3, 5)), axes=([1, 2], [1, 0])).shape
        (2, 5)
    """
    x, y = as_tensor(x), as_tensor(y)
    if isinstance(axes, int):
        axes = range(x.ndim - axes, x.ndim), range(axes)
    return apply(linalg.contraction(x.shape, y.shape, *axes), x, y)


@implements(np.einsum)
def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Return sums of products by Einstein's convention; see np.einsum.

    Any number of operands, an ellipsis, an implicit result and a letter that stands twice in one
    term are supported; a list of numbers in place of the subscripts is not.

    Raises:
        ValueError: subscripts that do not fit the operands.
        TypeError: subscripts that are no string.

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
    return apply(linalg.Einsum(subscripts), *map(as_tensor, operands))
