"""Attention."""

import math
from typing import Any

from agrad.core.arguments import floating
from agrad.core.tensor import Tensor, apply, as_tensor, as_tensors
from agrad.nn.functional.normalization import dropout
from agrad.ops.softmax import MaskedSoftmax

__all__ = ["attention_weights", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return softmax(query · keyᵀ · scale + mask) · value: means of the values by their keys.

    A query that may attend to nothing gets zeros.

    Vaswani et al., "Attention Is All You Need", 2017.

    Args:
        query: (..., L, E), float32 or float64.
        key: (..., S, E); leading axes broadcast.
        value: (..., S, V).
        attn_mask: Broadcasts to (..., L, S). Booleans: true where a query may attend to a key.
            Floats: added to the scores, and may require a gradient.
        dropout_p: The probability with which a weight is set to zero, whatever the mode.
        is_causal: Whether query i attends only to keys 0 to i.
        scale: The factor of the scores; 1/√E by default.

    Returns:
        (..., L, V).

    Raises:
        ValueError: The shapes do not match, both `attn_mask` and `is_causal` are given, or
            `dropout_p` is outside [0, 1].
        TypeError: An input is neither float32 nor float64, or the mask neither boolean nor
            floating-point.

    Example:
        >>> import agrad.nn.functional as F
        >>> x = [[1.0, 0.0], [0.0, 1.0]]
        >>> F.scaled_dot_product_attention(x, x, x, is_causal=True).data.round(4)
        array([[1.    , 0.    ],
               [0.3302, 0.6698]], dtype=float32)
    """
    if attn_mask is not None and is_causal:
        raise ValueError(
            "scaled_dot_product_attention: give attn_mask or is_causal, not both; combine them in "
            "attn_mask"
        )
    query, key, value = as_tensors(query, key, value)
    weights = attention_weights(
        "scaled_dot_product_attention",
        query,
        key,
        [] if attn_mask is None else [attn_mask],
        allows=True,
        is_causal=is_causal,
        scale=scale,
    )
    if value.ndim < 2 or value.shape[-2] != key.shape[-2]:
        raise ValueError(
            "scaled_dot_product_attention: value must have shape (..., S, V) with the S of key, "
            f"of shape {key.shape}; got {value.shape}"
        )
    out: Tensor = dropout(weights, dropout_p) @ value
    return out


def attention_weights(
    operation: str,
    query: Any,
    key: Any,
    masks: list[Any],
    allows: bool,
    is_causal: bool,
    scale: float | None = None,
) -> Tensor:
    """Return the weights (..., L, S) of the keys for each query.

    Args:
        operation: Its name for errors.
        query: (..., L, E).
        key: (..., S, E).
        masks: Arrays that broadcast to (..., L, S): booleans, or floats that are added to the
            scores.
        allows: Whether a boolean mask is true where a query may attend, rather than where it may
            not.
        is_causal: Whether query i attends only to keys 0 to i.
        scale: The factor of the scores; 1/√E by default.
    """
    q, k = floating(operation, "query", query), floating(operation, "key", key)
    if q.ndim < 2 or k.ndim < 2 or q.shape[-1] != k.shape[-1] or q.shape[-1] == 0:
        raise ValueError(
            f"{operation}: query must have shape (..., L, E) and key (..., S, E) with equal E of "
            f"at least 1, got {q.shape} and {k.shape}"
        )
    scores = (q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)) @ k.mT
    excluding = []
    for mask in map(as_tensor, masks):
        if mask.dtype.kind not in "bf":
            raise TypeError(f"{operation}: a mask must be boolean or floats, not {mask.dtype}")
        if not _broadcasts(mask.shape, scores.shape):
            raise ValueError(
                f"{operation}: a mask of shape {mask.shape} does not broadcast to the scores, of "
                f"shape {scores.shape}"
            )
        if mask.dtype.kind == "b":
            excluding.append(mask)
        else:
            scores = scores + mask.astype(scores.dtype)
    return apply(MaskedSoftmax(allows, bool(is_causal)), scores, *excluding)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(
        n in (1, m) for n, m in zip(shape, to[len(to) - len(shape) :])
    )
