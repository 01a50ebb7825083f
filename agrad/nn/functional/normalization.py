"""Normalization and dropout."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.ops.dropout import Dropout
from agrad.ops.normalization import Normalize
from agrad.random import generator
from agrad.tensor import Tensor, apply, as_tensor

__all__ = ["dropout", "layer_norm"]


def layer_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize the last axes to mean 0 and variance 1, then scale and shift each element.

    Ba et al., "Layer Normalization", 2016.

    Args:
        input: (..., *normalized_shape), floating-point.
        normalized_shape: the lengths of the axes to normalize over.
        weight: the scales, of shape normalized_shape.
        bias: the shifts, likewise.
        eps: added to the variance.

    Raises:
        ValueError: shapes that do not fit together.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.layer_norm([[1.0, 3.0]], normalized_shape=2, eps=0.0)
        tensor([[-1.,  1.]])
    """
    x = as_tensor(input)
    lengths = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not lengths or x.shape[-len(lengths) :] != lengths:
        raise ValueError(
            f"layer_norm: the last axes of input must have the lengths normalized_shape, "
            f"{lengths}, got input of shape {x.shape}"
        )
    scale = None if weight is None else _of_shape("weight", weight, lengths)
    shift = None if bias is None else _of_shape("bias", bias, lengths)
    out = apply(Normalize(tuple(range(-len(lengths), 0)), eps), x)
    if scale is not None:
        out = out * scale
    return out if shift is None else out + shift


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each element to zero with probability `p` and divide the others by 1 - p.

    The mask is drawn by the call, from the generator that `agrad.seed` seeds: an average backward
    pass runs the recorded graph again with the same mask. Where nothing is dropped, with `p` = 0 or
    outside training, the input itself is returned.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.

    Raises:
        ValueError: `p` outside [0, 1].

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> ag.seed(0)
        >>> F.dropout(ag.tensor([1.0, 1.0, 1.0, 1.0]))
        tensor([2., 2., 2., 0.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must lie in [0, 1], got {p}")
    x = as_tensor(input)
    if p == 0 or not training:
        return x
    kept = generator().random(x.shape, dtype=np.float32) >= p
    scale = 1 / (1 - p) if p < 1 else 0.0
    return apply(Dropout(kept * x.dtype.type(scale)), x)


def _of_shape(argument: str, value: Any, lengths: tuple[int, ...]) -> Tensor:
    tensor = as_tensor(value)
    if tensor.shape != lengths:
        raise ValueError(
            f"layer_norm: {argument} must have the shape normalized_shape, {lengths}, "
            f"got {tensor.shape}"
        )
    return tensor
