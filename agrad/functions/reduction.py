"""Reductions over axes.

In all functions, `axis` is an int, a tuple of ints, or None for all axes; negative axes count from
the end. `keepdims` keeps the reduced axes with length one. `dim` and `keepdim` are other names of
the two. An axis out of range raises a ValueError.
"""

from typing import Any

import numpy as np

from agrad.core.synonyms import takes_dim
from agrad.core.tensor import Tensor, as_tensor
from agrad.functions.registry import implements

__all__ = [
    "amax",
    "amin",
    "cumprod",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "std",
    "sum",
    "var",
]


@implements(np.sum)
@takes_dim
def sum(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the sum over `axis`, which is 0 if there are no elements.

    Example:
        >>> import agrad as ag
        >>> ag.sum(ag.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        tensor([4., 6.])
    """
    return as_tensor(x).sum(axis, keepdims)


@implements(np.mean)
@takes_dim
def mean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the mean over `axis`.

    Example:
        >>> import agrad as ag
        >>> ag.mean(ag.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        tensor([2., 3.])
    """
    return as_tensor(x).mean(axis, keepdims)


@implements(np.var)
@takes_dim
def var(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Return the variance over `axis`: the sum of squared deviations divided by n - ddof.

    Raises:
        ValueError: n - ddof is not positive.

    Example:
        >>> import agrad as ag
        >>> ag.var(ag.tensor([1.0, 2.0, 3.0]), ddof=1)
        tensor(1.)
    """
    return as_tensor(x).var(axis, ddof, keepdims)


@implements(np.std)
@takes_dim
def std(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Return the standard deviation over `axis`, the square root of `var`.

    If it is 0, its gradient is 0.

    Raises:
        ValueError: n - ddof is not positive.

    Example:
        >>> import agrad as ag
        >>> ag.std(ag.tensor([1.0, 2.0, 3.0]), ddof=1)
        tensor(1.)
    """
    return as_tensor(x).std(axis, ddof, keepdims)


@implements(np.max, np.amax)
@takes_dim
def max(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the largest element over `axis`; equal elements share the gradient.

    Raises:
        ValueError: There are no elements.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([1.0, 3.0, 3.0], requires_grad=True)
        >>> ag.max(x).backward()
        >>> x.grad
        array([0. , 0.5, 0.5], dtype=float32)
    """
    return as_tensor(x).max(axis, keepdims)


amax = max


@implements(np.min, np.amin)
@takes_dim
def min(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the smallest element over `axis`; equal elements share the gradient.

    Raises:
        ValueError: There are no elements.

    Example:
        >>> import agrad as ag
        >>> ag.min(ag.tensor([[1.0, 2.0], [3.0, 0.0]]), axis=1)
        tensor([1., 0.])
    """
    return as_tensor(x).min(axis, keepdims)


amin = min


@implements(np.prod)
@takes_dim
def prod(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the product over `axis`, which is 1 if there are no elements.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([2.0, 3.0, 0.0], requires_grad=True)
        >>> ag.prod(x).backward()
        >>> x.grad
        array([0., 0., 6.], dtype=float32)
    """
    return as_tensor(x).prod(axis, keepdims)


@takes_dim
def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return log Σ eˣ over `axis` without overflow, which is -inf if there are no elements.

    Integers and booleans become float32.

    Example:
        >>> import agrad as ag
        >>> ag.logsumexp(ag.tensor([1000.0, 1000.0])).data.round(1)
        np.float32(1000.7)
    """
    return as_tensor(x).logsumexp(axis, keepdims)


@implements(np.cumsum)
@takes_dim
def cumsum(x: Any, axis: int | None = None) -> Tensor:
    """Return the sums of the elements up to each one along `axis`, or of the flattened `x`.

    Example:
        >>> import agrad as ag
        >>> ag.cumsum([[1.0, 2.0], [3.0, 4.0]], axis=1)
        tensor([[1., 3.],
                [3., 7.]])
    """
    return as_tensor(x).cumsum(axis)


@implements(np.cumprod)
@takes_dim
def cumprod(x: Any, axis: int | None = None) -> Tensor:
    """Return the products of the elements up to each one along `axis`, or of the flattened `x`.

    The average gradient is exact for up to 16 elements along the axis, and complete for more.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([2.0, 0.0, 3.0], requires_grad=True)
        >>> ag.cumprod(x).sum().backward()
        >>> x.grad
        array([1., 8., 0.], dtype=float32)
    """
    return as_tensor(x).cumprod(axis)
