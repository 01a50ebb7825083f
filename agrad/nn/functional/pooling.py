"""Pooling: the largest or the mean of each window."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.arguments import is_integer
from agrad.backend import Array
from agrad.core.arguments import floating
from agrad.core.tensor import Tensor, apply, chosen
from agrad.functions import broadcast_to, scatter, zeros
from agrad.nn.functional.windows import batched, per_axis, two_axes
from agrad.ops.pooling import AdaptiveAvgPool, AvgPool, MaxPool

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


_Pool = MaxPool | AvgPool
_Pair = tuple[int, int]
_Window = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Kernel, stride, padding and dilation."""


def max_pool1d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the largest element of each window of a sequence; the first of equal ones is chosen.

    Args:
        input: (N, C, L), or (C, L) for a single sequence; float32 or float64.
        kernel_size: The number of elements in a window.
        stride: The distance between windows, kernel_size if None; they may overlap.
        padding: How far windows reach beyond either side, at most half a window; elements there
            are never the largest.
        dilation: The distance between a window's elements.
        ceil_mode: Whether elements left over at the end make a partial window.
        return_indices: Whether to return the indices of the chosen elements, too.

    Returns:
        (N, C, ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1) / stride⌋ + 1), with ⌈⌉ in place
        of ⌊⌋ in ceil_mode, except that no window begins in the padding on the right. With
        `return_indices`, a pair of this and the indices, int64 of the same shape: a Tensor that a
        graph computes again if the input requires a gradient, otherwise an array.

    Raises:
        ValueError: The input has another shape, an option is below its minimum, the padding is more
            than half a window, or a window is longer than the padded input.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.max_pool1d([[[1.0, 3.0, 2.0, 0.0]]], kernel_size=2, stride=1)
        tensor([[[3., 3., 2.]]])
    """
    options = kernel_size, stride, padding, dilation, ceil_mode, return_indices
    return _max_pool("max_pool1d", 1, input, *options)


def max_pool2d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the largest element of each window of an image; the first of equal ones is chosen.

    Like `max_pool1d`, for an input (N, C, H, W) or (C, H, W); options are a number for both axes,
    or a pair, the vertical one first. Indices count the elements of an image row by row.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.max_pool2d([[[[1.0, 3.0], [2.0, 0.0]]]], kernel_size=2)
        tensor([[[[3.]]]])
    """
    options = kernel_size, stride, padding, dilation, ceil_mode, return_indices
    return _max_pool("max_pool2d", 2, input, *options)


def max_pool3d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the largest element of each window of a volume; the first of equal ones is chosen.

    Like `max_pool1d`, for an input (N, C, D, H, W) or (C, D, H, W); options are a number for all
    axes, or three: of the depth, the vertical and the horizontal axis. Indices count the elements
    of a volume plane by plane, and row by row. It pools each plane first, then the results along
    the depth. Average gradients pass through both stages.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.max_pool3d([[[[[1.0, 3.0]], [[2.0, 0.0]]]]], kernel_size=(2, 1, 1))
        tensor([[[[[2., 3.]]]]])
    """
    options = kernel_size, stride, padding, dilation, ceil_mode, return_indices
    return _max_pool("max_pool3d", 3, input, *options)


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return zeros with each element of a pooled sequence where `max_pool1d` found it.

    It cannot be captured.

    Args:
        input: (N, C, L), or (C, L) for a single sequence; float32 or float64.
        indices: The place of each element, as `max_pool1d` returns it; of the input's shape.
        kernel_size: The number of elements in a window of the pooling.
        stride: The distance between its windows, kernel_size if None.
        padding: Its padding.
        output_size: The length of the result, or its shape, which ends with it.

    Returns:
        (N, C, output_size), by default (L - 1)·stride - 2·padding + kernel_size long.

    Raises:
        ValueError: The shapes of input and indices differ; an index occurs twice in a sequence, as
            where windows overlap.
        IndexError: An index is not below the length.
        TypeError: The input is neither float32 nor float64, or the indices are not integers.

    Example:
        >>> import agrad.nn.functional as F
        >>> pooled, indices = F.max_pool1d([[[1.0, 3.0, 2.0, 0.0]]], 2, return_indices=True)
        >>> F.max_unpool1d(pooled, indices, 2)
        tensor([[[0., 3., 2., 0.]]])
    """
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return zeros with each element of a pooled image where `max_pool2d` found it.

    Like `max_unpool1d`, for an input (N, C, H, W) or (C, H, W).

    Example:
        >>> import agrad.nn.functional as F
        >>> pooled, indices = F.max_pool2d([[[[1.0, 3.0], [2.0, 0.0]]]], 2, return_indices=True)
        >>> F.max_unpool2d(pooled, indices, 2)
        tensor([[[[0., 3.],
                  [0., 0.]]]])
    """
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return zeros with each element of a pooled volume where `max_pool3d` found it.

    Like `max_unpool1d`, for an input (N, C, D, H, W) or (C, D, H, W).

    Example:
        >>> import agrad.nn.functional as F
        >>> x = [[[[[1.0, 3.0]], [[2.0, 0.0]]]]]
        >>> F.max_unpool3d(*F.max_pool3d(x, (2, 1, 1), return_indices=True), (2, 1, 1))
        tensor([[[[[0., 3.]],
        <BLANKLINE>
                  [[2., 0.]]]]])
    """
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


def avg_pool1d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window of a sequence.

    Args:
        input: (N, C, L), or (C, L) for a single sequence; float32 or float64.
        kernel_size: The number of elements in a window.
        stride: The distance between windows, kernel_size if None; they may overlap.
        padding: Zeros on either side, at most half a window.
        ceil_mode: Whether elements left over at the end make a partial window; its mean is over
            those elements.
        count_include_pad: Whether the mean counts the zeros of the padding.

    Returns:
        As `max_pool1d`.

    Raises:
        ValueError, TypeError: As for `max_pool1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.avg_pool1d([[[1.0, 3.0, 2.0, 0.0]]], kernel_size=2)
        tensor([[[2., 1.]]])
    """
    return _avg_pool(
        "avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None
    )


def avg_pool2d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window of an image.

    Like `avg_pool1d`, for an input (N, C, H, W) or (C, H, W); kernel_size, stride and padding are a
    number for both axes, or a pair, the vertical one first. A `divisor_override` divides the sums
    instead of the number of elements.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.avg_pool2d([[[[1.0, 3.0], [2.0, 0.0]]]], kernel_size=2)
        tensor([[[[1.5]]]])
    """
    return _avg_pool(
        "avg_pool2d",
        2,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def avg_pool3d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window of a volume.

    Like `avg_pool2d`, for an input (N, C, D, H, W) or (C, D, H, W); kernel_size, stride and padding
    are a number for all axes, or three: of the depth, the vertical and the horizontal axis.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.avg_pool3d([[[[[1.0, 3.0]], [[2.0, 0.0]]]]], kernel_size=(2, 1, 2))
        tensor([[[[[1.5]]]]])
    """
    return _avg_pool(
        "avg_pool3d",
        3,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def adaptive_avg_pool1d(input: Any, output_size: int | Sequence[int]) -> Tensor:
    """Return the means of `output_size` windows that cover a sequence and are as equal as possible.

    Args:
        input: (N, C, L), or (C, L) for a single sequence; float32 or float64.
        output_size: The number of windows; 1 for the mean of the whole sequence.

    Returns:
        (N, C, output_size).

    Raises:
        ValueError: The input has another shape, output_size is below 1, or the sequence is empty.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.adaptive_avg_pool1d([[[1.0, 2.0, 6.0]]], output_size=1)
        tensor([[[3.]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Return the means of windows that cover an image and are as equal as possible.

    Args:
        input: (N, C, H, W), or (C, H, W) for a single image; float32 or float64.
        output_size: (height, width) of the output, or a number for both; None keeps a length.

    Returns:
        (N, C, height, width).

    Raises:
        ValueError, TypeError: As for `adaptive_avg_pool1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.adaptive_avg_pool2d([[[[1.0, 3.0], [2.0, 0.0]]]], output_size=(1, None))
        tensor([[[[1.5, 1.5]]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Return the means of windows that cover a volume and are as equal as possible.

    Args:
        input: (N, C, D, H, W), or (C, D, H, W) for a single volume; float32 or float64.
        output_size: (depth, height, width) of the output, or a number for all; None keeps a length.

    Returns:
        (N, C, depth, height, width).

    Raises:
        ValueError, TypeError: As for `adaptive_avg_pool1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.adaptive_avg_pool3d([[[[[1.0, 3.0]], [[2.0, 0.0]]]]], output_size=(1, 1, None))
        tensor([[[[[1.5, 1.5]]]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def _max_pool(
    operation: str,
    axes: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    window = _window(operation, axes, kernel_size, stride, padding, dilation)
    planes = MaxPool(*_of_planes(window), ceil_mode)
    depth = MaxPool(*_of_depth(window), ceil_mode) if axes == 3 else None
    out = _pool(operation, axes, input, planes, depth)
    if not return_indices:
        return out

    def indices(x: Array) -> Array:
        return planes.indices(x) if depth is None else _indices_in_volumes(x, planes, depth)

    return out, batched(operation, axes, input, lambda x: chosen(indices, x))


def _indices_in_volumes(x: Array, planes: MaxPool, depth: MaxPool) -> Array:
    """Return the index of each window's largest element in its flattened volume."""
    count, channels, length, *size = x.shape
    images = x.reshape(count, channels * length, *size)
    pooled = planes.forward(images)
    area = math.prod(pooled.shape[2:])
    chosen_first = planes.indices(images).reshape(count, channels, length * area)
    places = depth.indices(pooled.reshape(count, channels, length, area))
    flat = places.reshape(count, channels, math.prod(places.shape[2:]))
    within = np.take_along_axis(chosen_first, flat, axis=2)
    indices: Array = places // area * math.prod(size) + within.reshape(places.shape)
    return indices.reshape(*places.shape[:3], *pooled.shape[2:])


def _max_unpool(
    operation: str,
    axes: int,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Sequence[int] | None,
) -> Tensor:
    kernel, strides, pads, _ = _window(operation, axes, kernel_size, stride, padding, dilation=1)
    x = floating(operation, "input", input)
    places = indices if isinstance(indices, Tensor) else np.asarray(indices)
    if places.shape != x.shape:
        raise ValueError(
            f"{operation}: indices must have the shape of input, {x.shape}, they have "
            f"{places.shape}"
        )
    if output_size is None:
        options = list(zip(x.shape[-axes:], kernel[-axes:], strides[-axes:], pads[-axes:]))
        lengths = tuple((n - 1) * step - 2 * pad + span for n, span, step, pad in options)
    else:
        last = output_size if is_integer(output_size) else tuple(output_size)[-axes:]
        lengths = per_axis(operation, "output_size", last, axes)

    def unpooled(x: Tensor) -> Tensor:
        shape = *x.shape[:2], int(np.prod(lengths))
        empty = broadcast_to(zeros((), dtype=x.dtype, device=x.device), shape)
        rows = *x.shape[:2], math.prod(x.shape[2:])
        filled = scatter(empty, 2, places.reshape(rows), x.reshape(rows))
        return filled.reshape(*shape[:2], *lengths)

    return batched(operation, axes, x, unpooled)


def _avg_pool(
    operation: str,
    axes: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    if divisor is not None:
        (divisor,) = per_axis(operation, "divisor_override", divisor, 1)
    window = _window(operation, axes, kernel_size, stride, padding, dilation=1)
    options = ceil_mode, count_include_pad
    kernel, strides, pads, _ = _of_planes(window)
    planes, depth = AvgPool(kernel, strides, pads, *options, divisor), None
    if axes == 3:
        kernel, strides, pads, _ = _of_depth(window)
        depth = AvgPool(kernel, strides, pads, *options, None if divisor is None else 1)
    return _pool(operation, axes, input, planes, depth)


def _adaptive_avg_pool(operation: str, axes: int, input: Any, output_size: Any) -> Tensor:
    def pool(x: Tensor) -> Tensor:
        lengths = x.shape[2:]
        if 0 in lengths:
            raise ValueError(f"{operation}: input of shape {x.shape} has nothing to average")
        wanted = output_size if isinstance(output_size, Sequence) else (output_size,) * axes
        if axes > 1 and len(wanted) == axes:
            wanted = tuple(n if m is None else m for m, n in zip(wanted, lengths))
        size = per_axis(operation, "output_size", wanted, axes)
        planes = AdaptiveAvgPool((1 if axes == 1 else size[-2], size[-1]))
        if axes < 3:
            return apply(planes, x)
        return _in_stages(x, planes, AdaptiveAvgPool((size[0], size[1] * size[2])))

    return batched(operation, axes, input, pool)


def _window(
    operation: str, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> _Window:
    """Return kernel, stride, padding and dilation, each for two axes or three."""
    kernel = per_axis(operation, "kernel_size", kernel_size, axes)
    strides = kernel if stride is None else per_axis(operation, "stride", stride, axes)
    pads = per_axis(operation, "padding", padding, axes, least=0)
    steps = per_axis(operation, "dilation", dilation, axes)
    for pad, length, step in zip(pads, kernel, steps):
        if 2 * pad > step * (length - 1) + 1:
            raise ValueError(
                f"{operation}: padding={padding!r} is more than half a window, which has "
                f"kernel_size={kernel_size!r} and dilation={dilation!r}"
            )
    return two_axes(kernel, 1), two_axes(strides, 1), two_axes(pads, 0), two_axes(steps, 1)


def _of_planes(window: _Window) -> tuple[_Pair, _Pair, _Pair, _Pair]:
    """Return what `_window` returned, for the vertical and the horizontal axis."""
    kernel, stride, padding, dilation = ((option[-2], option[-1]) for option in window)
    return kernel, stride, padding, dilation


def _of_depth(window: _Window) -> tuple[_Pair, _Pair, _Pair, _Pair]:
    """Return what `_window` returned, for planes whose vertical axis is the depth of volumes."""
    kernel, stride, padding, dilation = (option[0] for option in window)
    return (kernel, 1), (stride, 1), (padding, 0), (dilation, 1)


def _pool(operation: str, axes: int, input: Any, planes: _Pool, depth: _Pool | None) -> Tensor:
    along = [(planes, 0), (planes, 1)] if axes > 1 else [(planes, 1)]
    if depth is not None:
        along.insert(0, (depth, 0))

    def checked(x: Tensor) -> Tensor:
        for (pool, axis), length in zip(along, x.shape[2:]):
            if length < 1 or pool.out_length(axis, length) < 1:
                kernel, padding = (
                    tuple(getattr(pool, name)[axis] for pool, axis in along)
                    for name in ("kernel", "padding")
                )
                raise ValueError(
                    f"{operation}: a window of kernel_size={kernel} is larger than the padded "
                    f"input (input has shape {x.shape}, padding is {padding})"
                )
        return apply(planes, x) if depth is None else _in_stages(x, planes, depth)

    return batched(operation, axes, input, checked)


def _in_stages(x: Tensor, planes: _Pool, depth: _Pool) -> Tensor:
    """Pool each plane of volumes, then the results along the depth."""
    count, channels, length, height, width = x.shape
    pooled = apply(planes, x.reshape(count, channels * length, height, width))
    size = pooled.shape[2:]
    out = apply(depth, pooled.reshape(count, channels, length, math.prod(size)))
    return out.reshape(*out.shape[:3], *size)
