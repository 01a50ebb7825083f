"""Pooling: the largest or the mean of each window."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor, apply, as_tensor, chosen
from agrad.functions import broadcast_to, scatter
from agrad.nn.functional.windows import batched, floating, per_axis, two_axes
from agrad.ops.pooling import AdaptiveAvgPool, AvgPool, MaxPool

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
    "max_unpool1d",
    "max_unpool2d",
]


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
        kernel_size: the number of elements in a window.
        stride: the distance between windows, kernel_size if None; they may overlap.
        padding: how far windows reach beyond either side, at most half a window; elements there
            are never the largest.
        dilation: the distance between a window's elements.
        ceil_mode: whether elements left over at the end make a partial window.
        return_indices: whether to return the indices of the chosen elements, too.

    Returns:
        (N, C, ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1) / stride⌋ + 1), with ⌈⌉ in place
        of ⌊⌋ in ceil_mode, except that no window begins in the padding on the right. With
        `return_indices`, a pair of this and the indices, int64 of the same shape: a Tensor that a
        graph computes again if the input requires a gradient, otherwise an array.

    Raises:
        ValueError: the input has another shape, an option is below its minimum, the padding is more
            than half a window, or a window is longer than the padded input.
        TypeError: the input is neither float32 nor float64.

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
        indices: the place of each element, as `max_pool1d` returns it; of the input's shape.
        kernel_size: the number of elements in a window of the pooling.
        stride: the distance between its windows, kernel_size if None.
        padding: its padding.
        output_size: the length of the result, or its shape, which ends with it.

    Returns:
        (N, C, output_size), by default (L - 1)·stride - 2·padding + kernel_size long.

    Raises:
        ValueError: the shapes of input and indices differ; an index occurs twice in a sequence, as
            where windows overlap.
        IndexError: an index is not below the length.
        TypeError: the input is neither float32 nor float64, or the indices are not integers.

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
        kernel_size: the number of elements in a window.
        stride: the distance between windows, kernel_size if None; they may overlap.
        padding: zeros on either side, at most half a window.
        ceil_mode: whether elements left over at the end make a partial window; its mean is over
            those elements.
        count_include_pad: whether the mean counts the zeros of the padding.

    Returns:
        As `max_pool1d`.

    Raises:
        ValueError, TypeError: as for `max_pool1d`.

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
    in place of the number of elements.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.avg_pool2d([[[[1.0, 3.0], [2.0, 0.0]]]], kernel_size=2)
        tensor([[[[1.5]]]])
    """
    if divisor_override is not None:
        (divisor_override,) = per_axis("avg_pool2d", "divisor_override", divisor_override, 1)
    return _avg_pool(
        *("avg_pool2d", 2, input, kernel_size, stride, padding),
        *(ceil_mode, count_include_pad, divisor_override),
    )


def adaptive_avg_pool1d(input: Any, output_size: int | Sequence[int]) -> Tensor:
    """Return the means of `output_size` windows that cover a sequence and are as equal as possible.

    Args:
        input: (N, C, L), or (C, L) for a single sequence; float32 or float64.
        output_size: how many windows; 1 for the mean of the whole sequence.

    Returns:
        (N, C, output_size).

    Raises:
        ValueError: the input has another shape, output_size is below 1, or the sequence is empty.
        TypeError: the input is neither float32 nor float64.

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
        ValueError, TypeError: as for `adaptive_avg_pool1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.adaptive_avg_pool2d([[[[1.0, 3.0], [2.0, 0.0]]]], output_size=(1, None))
        tensor([[[[1.5, 1.5]]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


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
    kernel, stride, padding, dilation = _window(
        operation, axes, kernel_size, stride, padding, dilation
    )
    pool = MaxPool(kernel, stride, padding, dilation, ceil_mode)
    out = _pool(operation, axes, input, pool)
    if not return_indices:
        return out
    return out, batched(operation, axes, input, lambda x: chosen(pool.indices, x))


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
        lengths = per_axis(operation, "output_size", tuple(output_size)[-axes:], axes)

    def unpooled(x: Tensor) -> Tensor:
        shape = *x.shape[:2], int(np.prod(lengths))
        zeros = broadcast_to(as_tensor(np.zeros_like(x.data, shape=())), shape)
        filled = scatter(zeros, 2, places.reshape(*shape[:2], -1), x.reshape(*shape[:2], -1))
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
    kernel, stride, padding, _ = _window(operation, axes, kernel_size, stride, padding, dilation=1)
    pool = AvgPool(kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    return _pool(operation, axes, input, pool)


def _adaptive_avg_pool(operation: str, axes: int, input: Any, output_size: Any) -> Tensor:
    def pool(x: Tensor) -> Tensor:
        lengths = x.shape[2:]
        if 0 in lengths:
            raise ValueError(f"{operation}: input of shape {x.shape} has nothing to average")
        wanted = output_size if isinstance(output_size, Sequence) else (output_size,) * axes
        if axes == 2 and len(wanted) == axes:
            wanted = tuple(n if m is None else m for m, n in zip(wanted, lengths))
        size = per_axis(operation, "output_size", wanted, axes)
        return apply(AdaptiveAvgPool(two_axes(size, 1)), x)

    return batched(operation, axes, input, pool)


def _window(
    operation: str, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return kernel, stride, padding and dilation as pairs."""
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


def _pool(operation: str, axes: int, input: Any, pool: MaxPool | AvgPool) -> Tensor:
    def checked(x: Tensor) -> Tensor:
        for axis, length in enumerate(x.shape[2:], start=2 - axes):
            if length < 1 or pool.out_length(axis, length) < 1:
                raise ValueError(
                    f"{operation}: a window of kernel_size={pool.kernel[-axes:]} is larger than "
                    f"the padded input (input has shape {x.shape}, padding is "
                    f"{pool.padding[-axes:]})"
                )
        return apply(pool, x)

    return batched(operation, axes, input, checked)
