"""Sequences: embedding, and global pooling over the positions that are not padding."""

from typing import Any

import numpy as np

from agrad.backend import Array, beside
from agrad.core.arguments import floating
from agrad.core.tensor import Tensor, apply, as_tensor, plain
from agrad.ops.operation import Operation
from agrad.ops.reduction import Max, Mean
from agrad.ops.sequence import Embedding, MaskedMax, MaskedMean

__all__ = ["embedding", "global_avg_pool1d", "global_max_pool1d"]


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """Return the row of `weight` for each id.

    If an id occurs several times, the gradients of its row are added in the order of the ids, so
    that every run gives the same sums.

    Args:
        input: Ids of any shape, integers from 0 to V - 1; a constant.
        weight: (V, D), float32 or float64.
        padding_idx: The id of padding, negative to count from V. Its row is treated as a constant
            and gets no gradient. If an update moves it anyway, its average gradient accounts for
            that.

    Returns:
        (*input.shape, D).

    Raises:
        ValueError: An id or padding_idx is outside the rows of `weight`, or the weight does not
            have two axes.
        TypeError: The ids are not integers, or the weight is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.embedding([[2, 0]], weight=[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
        tensor([[[4., 5.],
                 [0., 1.]]])
    """
    weight = as_tensor(weight)
    if weight.ndim != 2:
        raise ValueError(
            f"embedding: weight must have two axes, (ids, features), got shape {weight.shape}"
        )
    floating("embedding", "weight", weight)
    count = weight.shape[0]
    if not isinstance(input, Tensor):
        input = beside("embedding", "input", plain(input), weight.data)
    ids = as_tensor(input)
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"embedding: input must hold integer ids, got {ids.dtype} of shape {ids.shape}; "
            "convert it with astype(int)"
        )
    if padding_idx is not None:
        if not -count <= padding_idx < count:
            raise ValueError(
                f"embedding: padding_idx is {padding_idx}, weight has rows 0 to {count - 1}"
            )
        padding_idx = padding_idx % count  # in place, it would change a 0-d array
    return apply(Embedding(padding_idx), weight, ids)


def global_max_pool1d(input: Any, mask: Any = None) -> Tensor:
    """Return each channel's largest element over time, where `mask` is true.

    Equal ones share the gradient. Elements that the mask excludes have no effect.

    Args:
        input: (N, C, L) or (C, L), float32 or float64.
        mask: (N, L) or (L,), true where the input counts; None to count all of it.

    Returns:
        (N, C) or (C,).

    Raises:
        ValueError: The shapes do not match, or the mask excludes a whole sequence.
        TypeError: The input is neither float32 nor float64, or the mask is not boolean.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.global_max_pool1d([[1.0, 2.0, 9.0]], mask=[True, True, False])
        tensor([2.])
    """
    x, mask = _sequences("global_max_pool1d", input, mask)
    operation: Operation = Max(axis=-1) if mask is None else MaskedMax(mask)
    return apply(operation, x)


def global_avg_pool1d(input: Any, mask: Any = None) -> Tensor:
    """Return each channel's mean over time, where `mask` is true.

    Elements that the mask excludes have no effect. Shapes and errors are those of
    `global_max_pool1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.global_avg_pool1d([[1.0, 2.0, 9.0]], mask=[True, True, False])
        tensor([1.5])
    """
    x, mask = _sequences("global_avg_pool1d", input, mask)
    operation: Operation = Mean(axis=-1) if mask is None else MaskedMean(mask)
    return apply(operation, x)


# -- arguments -----------------------------------------------------------------------------------


def _sequences(name: str, input: Any, mask: Any) -> tuple[Tensor, Array | None]:
    """Return the input, and a copy of the mask in a shape that broadcasts to it."""
    x = floating(name, "input", input)
    if x.ndim not in (2, 3) or x.shape[-1] == 0:
        raise ValueError(
            f"{name}: input must have the shape (N, C, L) or (C, L) with at least one position in "
            f"L, got {x.shape}"
        )
    if mask is None:
        return x, None
    mask = beside(name, "mask", plain(mask), x.data).copy()
    if mask.dtype != bool:
        raise TypeError(f"{name}: mask must be boolean, got {mask.dtype}; pass e.g. ids != 0")
    expected = (*x.shape[:-2], x.shape[-1])
    if mask.shape != expected:
        raise ValueError(
            f"{name}: mask must have the shape {expected} for an input of shape {x.shape}, "
            f"got {mask.shape}"
        )
    return x, np.expand_dims(mask, -2)
