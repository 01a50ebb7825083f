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
        ValueError: The shapes do not match.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.linear([[1.0, 2.0]], weight=[[3.0, 4.0], [5.0, 6.0]], bias=[10.0, 20.0])
        tensor([[21., 37.]])
    """
    input, weight, bias = as_tensors(input, weight, bias)
    shape, weights = input.shape, weight.shape
    if len(weights) != 2 or not shape:
        raise ValueError(
            "linear: weight must have shape (out_features, in_features) and input (..., "
            f"in_features), got weight of shape {weights} and input of shape {shape}"
        )
    if shape[-1] != weights[1]:
        raise ValueError(
            f"linear: input has {shape[-1]} features, weight expects {weights[1]} "
            f"(input has shape {shape}, weight {weights})"
        )
    if bias is None:
        return apply(linalg.Affine(), input, weight)
    if bias.shape != weights[:1]:
        raise ValueError(
            f"linear: bias must have shape {weights[:1]}, one element for each row of weight, "
            f"got shape {bias.shape}"
        )
    return apply(linalg.Affine(), input, weight, bias)
