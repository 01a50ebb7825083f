"""Convolution along one, two or three axes, and its transpose."""

from collections.abc import Sequence
from typing import Any

from agrad.core.arguments import floating
from agrad.core.tensor import Tensor, apply, as_tensors
from agrad.nn.functional.windows import batched, per_axis, two_axes
from agrad.ops.convolution import Convolution, TransposedConvolution

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return the products of `weight` with each window of a sequence, plus `bias`.

    Args:
        input: (N, C, L), or (C, L) for a single sequence; float32 or float64.
        weight: (out_channels, C / groups, kernel_size).
        bias: (out_channels,).
        stride: The distance between windows.
        padding: Zeros on either side; "valid" for none, "same" to keep the length, with an odd zero
            on the right.
        dilation: The distance between a window's elements.
        groups: How many groups of channels to convolve separately.

    Returns:
        (N, out_channels, ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1) / stride⌋ + 1).

    Raises:
        ValueError: The shapes do not match, groups do not divide the channels, the kernel is longer
            than the padded input, an option is below its minimum, or padding="same" comes with a
            stride.
        TypeError: The input or weight is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.conv1d([[[1.0, 2.0, 3.0, 4.0]]], weight=[[[1.0, 10.0]]])
        tensor([[[21., 32., 43.]]])
    """
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return the products of `weight` with each window of an image, plus `bias`.

    Options other than `groups` are a number for both axes, or a pair, the vertical one first.

    Args:
        input: (N, C, H, W), or (C, H, W) for a single image; float32 or float64.
        weight: (out_channels, C / groups, kernel height, kernel width).
        bias: (out_channels,).
        stride: The distance between windows.
        padding: Zeros on either side; "valid" for none, "same" to keep the size, with an odd zero
            below or on the right.
        dilation: The distance between a window's elements.
        groups: How many groups of channels to convolve separately.

    Returns:
        (N, out_channels, height, width), with the lengths that `conv1d` gives.

    Raises:
        ValueError, TypeError: As for `conv1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.conv2d([[[[1.0, 2.0], [3.0, 4.0]]]], weight=[[[[1.0, 10.0]]]], padding="same")
        tensor([[[[21.,  2.],
                  [43.,  4.]]]])
    """
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return the products of `weight` with each window of a volume, plus `bias`.

    Like `conv2d`; options other than `groups` are a number for all axes, or three: of the depth,
    the vertical and the horizontal axis.

    Args:
        input: (N, C, D, H, W), or (C, D, H, W) for a single volume; float32 or float64.
        weight: (out_channels, C / groups, kernel depth, kernel height, kernel width).
        bias: (out_channels,).
        stride: The distance between windows.
        padding: Zeros on either side; "valid" for none, "same" to keep the size, with an odd zero
            at the end of an axis.
        dilation: The distance between a window's elements.
        groups: How many groups of channels to convolve separately.

    Returns:
        (N, out_channels, depth, height, width), with the lengths that `conv1d` gives.

    Raises:
        ValueError, TypeError: As for `conv1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.conv3d([[[[[1.0, 2.0]], [[3.0, 4.0]]]]], weight=[[[[[1.0]], [[10.0]]]]])
        tensor([[[[[31., 42.]]]]])
    """
    return _convolve("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Return the sum of windows, each `weight` times an element of a sequence, plus `bias`.

    It is the transpose of the linear map of `conv1d` with the same options: the map that the
    backward pass of `conv1d` applies to gradients.

    Args:
        input: (N, C, L), or (C, L) for a single sequence; float32 or float64.
        weight: (C, out_channels / groups, kernel_size).
        bias: (out_channels,).
        stride: The distance between windows.
        padding: How many elements are cut off on either side.
        output_padding: How many extra elements the output has on the right; less than the stride or
            the dilation.
        groups: How many groups of channels to convolve separately.
        dilation: The distance between a window's elements.

    Returns:
        (N, out_channels, (L - 1)·stride - 2·padding + dilation·(kernel_size - 1) +
        output_padding + 1).

    Raises:
        ValueError: The shapes do not match, groups do not divide the channels, the output has no
            elements, an option is below its minimum, or output_padding is too large.
        TypeError: The input or weight is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.conv_transpose1d([[[1.0, 2.0, 3.0]]], weight=[[[1.0, 10.0]]])
        tensor([[[ 1., 12., 23., 30.]]])
    """
    return _convolve_transposed(
        "conv_transpose1d",
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Return the sum of windows, each `weight` times a pixel of an image, plus `bias`.

    Options other than `groups` are a number for both axes, or a pair, the vertical one first;
    see `conv_transpose1d`.

    Args:
        input: (N, C, H, W), or (C, H, W) for a single image; float32 or float64.
        weight: (C, out_channels / groups, kernel height, kernel width).
        bias: (out_channels,).
        stride: The distance between windows.
        padding: How many rows and columns are cut off on either side.
        output_padding: How many extra rows and columns the output has below and on the right.
        groups: How many groups of channels to convolve separately.
        dilation: The distance between a window's elements.

    Raises:
        ValueError, TypeError: As for `conv_transpose1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.conv_transpose2d([[[[1.0, 2.0]]]], weight=[[[[1.0], [10.0]]]])
        tensor([[[[ 1.,  2.],
                  [10., 20.]]]])
    """
    return _convolve_transposed(
        "conv_transpose2d",
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Return the sum of windows, each `weight` times an element of a volume, plus `bias`.

    Options other than `groups` are a number for all axes, or three: of the depth, the vertical and
    the horizontal axis; see `conv_transpose1d`.

    Args:
        input: (N, C, D, H, W), or (C, D, H, W) for a single volume; float32 or float64.
        weight: (C, out_channels / groups, kernel depth, kernel height, kernel width).
        bias: (out_channels,).
        stride: The distance between windows.
        padding: How many elements are cut off on either side of each axis.
        output_padding: How many extra elements the output has at the end of each axis.
        groups: How many groups of channels to convolve separately.
        dilation: The distance between a window's elements.

    Raises:
        ValueError, TypeError: As for `conv_transpose1d`.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.conv_transpose3d([[[[[1.0, 2.0]]]]], weight=[[[[[1.0]], [[10.0]]]]])
        tensor([[[[[ 1.,  2.]],
        <BLANKLINE>
                  [[10., 20.]]]]])
    """
    return _convolve_transposed(
        "conv_transpose3d",
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def _convolve(
    operation: str,
    axes: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Tensor:
    stride = per_axis(operation, "stride", stride, axes)
    dilation = per_axis(operation, "dilation", dilation, axes)
    (groups,) = per_axis(operation, "groups", groups, 1)
    input, weight, bias = as_tensors(input, weight, bias)
    weight = _weight(operation, axes, weight)
    kernel = weight.shape[2:]
    pads = _pads(operation, padding, kernel, stride, dilation)
    if weight.shape[0] % groups:
        raise ValueError(
            f"{operation}: groups={groups} does not divide the {weight.shape[0]} output channels "
            f"of weight, of shape {weight.shape}"
        )
    parameters = _parameters(operation, weight, bias, weight.shape[0])
    convolution = Convolution(
        two_axes(stride, 1), two_axes(pads, (0, 0)), two_axes(dilation, 1), groups
    )

    def convolve(x: Tensor) -> Tensor:
        if x.shape[1] != weight.shape[1] * groups:
            raise ValueError(
                f"{operation}: input has {x.shape[1]} channels, weight expects {weight.shape[1]} "
                f"for each of groups={groups} (input has shape {x.shape}, weight {weight.shape})"
            )
        first = len(convolution.stride) - axes
        for axis, (length, size) in enumerate(zip(x.shape[2:], kernel), start=first):
            if length < 1 or convolution.out_length(axis, length, size) < 1:
                raise ValueError(
                    f"{operation}: the kernel, {kernel} with dilation={dilation}, is larger than "
                    f"the padded input (input has shape {x.shape}, padding is {padding!r})"
                )
        return apply(convolution, x, *parameters)

    return batched(operation, axes, input, convolve)


def _convolve_transposed(
    operation: str,
    axes: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Tensor:
    stride = per_axis(operation, "stride", stride, axes)
    padding = per_axis(operation, "padding", padding, axes, least=0)
    excess = per_axis(operation, "output_padding", output_padding, axes, least=0)
    dilation = per_axis(operation, "dilation", dilation, axes)
    (groups,) = per_axis(operation, "groups", groups, 1)
    input, weight, bias = as_tensors(input, weight, bias)
    weight = _weight(operation, axes, weight)
    if any(n >= max(limits) for n, *limits in zip(excess, stride, dilation)):
        raise ValueError(
            f"{operation}: output_padding={output_padding!r} must be smaller than stride={stride} "
            f"or dilation={dilation}"
        )
    kernel = weight.shape[2:]
    parameters = _parameters(operation, weight, bias, weight.shape[1] * groups)
    pads = tuple((n, n) for n in padding)
    convolution = TransposedConvolution(
        two_axes(stride, 1),
        two_axes(pads, (0, 0)),
        two_axes(excess, 0),
        two_axes(dilation, 1),
        groups,
    )

    def convolve(x: Tensor) -> Tensor:
        if x.shape[1] != weight.shape[0] or x.shape[1] % groups:
            raise ValueError(
                f"{operation}: input has {x.shape[1]} channels, weight expects {weight.shape[0]}, "
                f"a multiple of groups={groups} (input has shape {x.shape}, weight {weight.shape})"
            )
        first = len(convolution.stride) - axes
        for axis, (length, size) in enumerate(zip(x.shape[2:], kernel), start=first):
            if length < 1 or convolution.out_length(axis, length, size) < 1:
                raise ValueError(
                    f"{operation}: padding={padding} leaves no output (input has shape "
                    f"{x.shape}, weight {weight.shape})"
                )
        return apply(convolution, x, *parameters)

    return batched(operation, axes, input, convolve)


def _weight(operation: str, axes: int, value: Any) -> Tensor:
    weight = floating(operation, "weight", value)
    if weight.ndim != axes + 2 or 0 in weight.shape:
        raise ValueError(
            f"{operation}: weight must have {axes + 2} axes, none of them empty: the channels of "
            f"output and input, then the kernel's; got shape {weight.shape}"
        )
    return weight


def _parameters(operation: str, weight: Tensor, bias: Any, channels: int) -> list[Tensor]:
    if bias is None:
        return [weight]
    bias = floating(operation, "bias", bias)
    if bias.shape != (channels,):
        raise ValueError(
            f"{operation}: bias must have shape ({channels},), one element for each output channel,"
            f" got shape {bias.shape}"
        )
    return [weight, bias]


def _pads(
    operation: str,
    padding: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Return the numbers of zeros before and after each axis."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if max(stride) > 1:
            raise ValueError(
                f'{operation}: padding="same" needs a stride of 1, got stride={stride}; give the '
                "padding as numbers"
            )
        totals = [d * (k - 1) for d, k in zip(dilation, kernel)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str):
        raise ValueError(
            f'{operation}: padding must be "same", "valid" or numbers, got {padding!r}'
        )
    return tuple((n, n) for n in per_axis(operation, "padding", padding, len(kernel), least=0))
