"""The dense layer."""

from typing import Any

from agrad.core.tensor import Tensor, apply, as_tensors
from agrad.ops import linalg

__all__ = ["linear"]


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """Return input · weightᵀ + bias.

    Args:
        input: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,).

    Returns:
        (..., out_features).

    Raises:
        ValueError: the shapes do not match.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.linear([[1.0, 2.0]], weight=[[3.0, 4.0], [5.0, 6.0]], bias=[10.0, 20.0])
        tensor([[21., 37.]])
    """
    input, weight, bias = as_tensors(input, weight, bias)
    if weight.ndim != 2 or input.ndim == 0:
        raise ValueError(
            "linear: weight must have shape (out_features, in_features) and input (..., "
            f"in_features), got weight of shape {weight.shape} and input of shape {input.shape}"
        )
    if input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: input has {input.shape[-1]} features, weight expects {weight.shape[1]} "
            f"(input has shape {input.shape}, weight {weight.shape})"
        )
    if bias is None:
        return apply(linalg.Affine(), input, weight)
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear: bias must have shape {weight.shape[:1]}, one element for each row of weight, "
            f"got shape {bias.shape}"
        )
    return apply(linalg.Affine(), input, weight, bias)
