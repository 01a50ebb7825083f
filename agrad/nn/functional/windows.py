"""Arguments of convolution and pooling: checks and conversions."""

from collections.abc import Callable, Sequence
from typing import Any

from agrad.arguments import is_integer
from agrad.core.arguments import floating
from agrad.core.tensor import Tensor

__all__ = ["batched", "per_axis", "two_axes"]

_SHAPES = {
    1: "(N, C, L) or (C, L)",
    2: "(N, C, H, W) or (C, H, W)",
    3: "(N, C, D, H, W) or (C, D, H, W)",
}


def per_axis(operation: str, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """Return an option as one integer for each axis."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(values) != axes or not all(is_integer(n) and n >= least for n in values):
        several = "" if axes == 1 else f", or {axes} of them"
        raise ValueError(
            f"{operation}: {name} must be an integer of at least {least}{several}, got {value!r}"
        )
    return tuple(int(n) for n in values)


def two_axes(values: tuple[Any, ...], single: Any) -> tuple[Any, ...]:
    """Return two values or more: a single value, for a sequence's only axis, follows `single`."""
    return (single, *values) if len(values) == 1 else values


def batched(operation: str, axes: int, input: Any, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of batches to a batch or, as a batch of one, to a single example."""
    x = floating(operation, "input", input)
    if x.ndim == axes + 2:
        return function(x)
    if x.ndim == axes + 1:
        return function(x.reshape(1, *x.shape))[0]
    raise ValueError(f"{operation}: input must have shape {_SHAPES[axes]}, got {x.shape}")
