"""Sorting, and the largest elements.

`dim` is another name of `axis`. NaN is larger than any number.
"""

from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array
from agrad.core.synonyms import takes_dim
from agrad.core.tensor import Tensor, apply, as_tensor
from agrad.functions.registry import implements
from agrad.ops.ordering import Sort

__all__ = ["TopK", "argsort", "sort", "topk"]


class TopK(NamedTuple):
    """What `topk` returns."""

    values: Tensor
    indices: Array


@implements(np.sort)
@takes_dim
def sort(x: Any, axis: int | None = -1) -> Tensor:
    """Return the elements in ascending order along `axis`; None sorts the flattened `x`.

    Equal elements keep their order. The average gradient is exact; it takes time and memory in
    proportion to the pairs of elements along the axis.

    Raises:
        ValueError: The axis is out of range.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([3.0, 1.0, 2.0], requires_grad=True)
        >>> (ag.sort(x) * [1.0, 10.0, 100.0]).sum().backward()
        >>> x.grad
        array([100.,   1.,  10.], dtype=float32)
    """
    tensor = as_tensor(x)
    return apply(Sort(-1), tensor.ravel()) if axis is None else apply(Sort(axis), tensor)


@takes_dim
def argsort(x: Any, axis: int | None = -1) -> Array:
    """Return the indices that sort `x` along `axis`, equal elements in order, as a plain array.

    Example:
        >>> import agrad as ag
        >>> ag.argsort(ag.tensor([3.0, 1.0, 2.0]))
        array([1, 2, 0])
    """
    order: Array = as_tensor(x).argsort(axis)
    return order


@takes_dim
def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> TopK:
    """Return the k largest or smallest elements along `axis`, in order, and their indices.

    A captured function cannot call it, as its indices are a plain array; slice `sort` instead.

    Raises:
        ValueError: There are fewer than k elements, or the axis is out of range.
        TypeError: `k` is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.topk(ag.tensor([3.0, 1.0, 2.0]), 2)
        TopK(values=tensor([3., 2.]), indices=array([0, 2]))
    """
    tensor = as_tensor(x)
    axis = np.lib.array_utils.normalize_axis_index(axis, tensor.ndim, "topk: axis")
    length = tensor.shape[axis]
    if np.asarray(k).dtype.kind not in "iu":
        raise TypeError(f"topk: k must be an integer, got {k!r}")
    if not 0 <= k <= length:
        raise ValueError(
            f"topk: k must be from 0 to {length}, the length of axis {axis} of shape "
            f"{tensor.shape}, got {k}"
        )
    chosen = slice(length - 1, length - 1 - k if k < length else None, -1) if largest else slice(k)
    places = (*[slice(None)] * axis, chosen)
    return TopK(sort(tensor, axis)[places], tensor.argsort(axis)[places])
