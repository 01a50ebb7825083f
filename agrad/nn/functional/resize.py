"""Padding and resampling of sequences, images and volumes."""

import math
from collections.abc import Sequence
from typing import Any

from agrad import functions as f
from agrad.arguments import is_integer
from agrad.core.arguments import floating
from agrad.core.tensor import Tensor, apply, as_tensor
from agrad.nn.functional.windows import per_axis
from agrad.ops.resize import Resize

__all__ = ["interpolate", "pad"]

_AXES = {"nearest": (1, 2, 3), "linear": (1,), "bilinear": (2,), "trilinear": (3,)}
_SHAPES = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad the last axes of an array.

    Args:
        input: Of any shape.
        pad: How many elements to add before and after the last axis, then the last but one, and so
            on. Negative numbers remove elements, in the mode "constant" alone.
        mode: What is added: "constant", a `value`; "reflect", the elements mirrored at the first
            and the last one; "replicate", the first or the last element; "circular", the elements
            from the other end.
        value: The constant.

    Raises:
        ValueError: The mode is unknown, `pad` does not fit the axes, or an axis is too short.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.pad([1.0, 2.0, 3.0], (2, 1), mode="reflect")
        tensor([3., 2., 1., 2., 3., 2.])
    """
    x = as_tensor(input)
    widths = tuple(pad)
    if len(widths) % 2 or len(widths) > 2 * x.ndim or not all(is_integer(n) for n in widths):
        raise ValueError(
            f"pad: pad must hold two integers for each of the last axes of input, of shape "
            f"{x.shape}; got {pad!r}"
        )
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(
            f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"
        )
    pairs = [(x.ndim - 1 - i // 2, widths[i], widths[i + 1]) for i in range(0, len(widths), 2)]
    for axis, before, after in pairs:
        most = {"reflect": x.shape[axis] - 1, "circular": x.shape[axis]}.get(mode, math.inf)
        least = 0 if mode != "constant" else -x.shape[axis]
        if not (least <= before <= most and least <= after <= most) or (
            before + after + x.shape[axis] < 0 or (mode == "replicate" and x.shape[axis] == 0)
        ):
            raise ValueError(
                f"pad: {(before, after)} does not fit axis {axis} of input, of shape {x.shape}, in "
                f"the mode {mode!r}"
            )
    if mode == "constant":
        kept = [slice(None)] * x.ndim
        added = [(0, 0)] * x.ndim
        for axis, before, after in pairs:
            kept[axis] = slice(max(0, -before), x.shape[axis] - max(0, -after))
            added[axis] = max(0, before), max(0, after)
        return f.pad(x[tuple(kept)], added, constant_values=value)
    for axis, before, after in pairs:
        n = x.shape[axis]
        if mode == "reflect":
            first = f.flip(_part(x, axis, 1, before + 1), axis)
            last = f.flip(_part(x, axis, n - 1 - after, n - 1), axis)
        elif mode == "circular":
            first, last = _part(x, axis, n - before, n), _part(x, axis, 0, after)
        else:
            shape = list(x.shape)
            shape[axis] = before
            first = f.broadcast_to(_part(x, axis, 0, 1), tuple(shape))
            shape[axis] = after
            last = f.broadcast_to(_part(x, axis, n - 1, n), tuple(shape))
        x = f.concatenate([first, x, last], axis)
    return x


def interpolate(
    input: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resample sequences, images or volumes to other lengths.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W), float32 or float64.
        size: The new lengths of the axes after the channels; a number for all of them.
        scale_factor: The factor of the lengths, instead of `size`; the new lengths are rounded
            down.
        mode: "nearest" for the nearest element; "linear" for a sequence, "bilinear" for an image,
            or "trilinear" for a volume, to interpolate between neighbours.
        align_corners: Whether interpolation keeps the first and the last element in their places;
            otherwise it keeps the ends of the axes.

    Returns:
        (N, C, *size).

    Raises:
        ValueError: The shape does not fit the mode; both or none of size and scale_factor are
            given; a length is below 1; or `align_corners` is given for the nearest element.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.interpolate([[[1.0, 3.0]]], size=4, mode="linear")
        tensor([[[1. , 1.5, 2.5, 3. ]]])
    """
    x = floating("interpolate", "input", input)
    if mode not in _AXES:
        raise ValueError(f"interpolate: mode must be one of {[*_AXES]}, got {mode!r}")
    axes = x.ndim - 2
    if axes not in _AXES[mode] or 0 in x.shape[2:]:
        expected = " or ".join(_SHAPES[n] for n in _AXES[mode])
        raise ValueError(
            f"interpolate: mode {mode!r} needs an input of shape {expected}, got {x.shape}"
        )
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    if mode == "nearest" and align_corners is not None:
        raise ValueError("interpolate: align_corners is for interpolation, not mode 'nearest'")
    steps: tuple[float | None, ...] = (None,) * axes
    if size is not None:
        lengths = per_axis("interpolate", "size", size, axes)
    else:
        factors = scale_factor if isinstance(scale_factor, Sequence) else (scale_factor,) * axes
        given = [float(factor) for factor in factors if factor is not None and factor > 0]
        if len(factors) != axes or len(given) != axes:
            raise ValueError(
                f"interpolate: scale_factor must be a positive number, or {axes} of them, got "
                f"{scale_factor!r}"
            )
        lengths = tuple(math.floor(n * factor) for n, factor in zip(x.shape[2:], given))
        steps = tuple(1 / factor for factor in given)
        if min(lengths) < 1:
            raise ValueError(
                f"interpolate: scale_factor {scale_factor!r} leaves no elements of an input of "
                f"shape {x.shape}"
            )
    return apply(Resize(lengths, mode != "nearest", bool(align_corners), steps), x)


def _part(x: Tensor, axis: int, first: int, stop: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(first, stop),)]
