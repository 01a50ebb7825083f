"""Convolutions and their transposes as modules; see `agrad.nn.functional` for details."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor
from agrad.nn import functional as F
from agrad.nn import init
from agrad.nn.functional.windows import per_axis
from agrad.nn.module import Module, Parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
]


class _Convolution(Module):
    """The common base of all convolutions: options for each axis, a weight and a bias."""

    axes: int
    function: Callable[..., Tensor]
    transposed = False
    padding: Any  # a number for each axis, or the name of a padding that conv2d knows

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: str | int | Sequence[int],
        dilation: int | Sequence[int],
        groups: int,
        bias: bool,
        output_padding: int | Sequence[int] = 0,
    ) -> None:
        name = type(self).__name__

        def checked(option: str, value: Any, least: int) -> tuple[int, ...]:
            return per_axis(name, option, value, self.axes, least)

        if (
            min(in_channels, out_channels, groups) < 1
            or in_channels % groups + out_channels % groups
        ):
            raise ValueError(
                f"{name}: groups must divide in_channels and out_channels, all at least 1; got "
                f"groups={groups}, in_channels={in_channels}, out_channels={out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = checked("kernel_size", kernel_size, 1)
        self.stride = checked("stride", stride, 1)
        self.padding = padding if isinstance(padding, str) else checked("padding", padding, 0)
        self.dilation = checked("dilation", dilation, 1)
        self.output_padding = checked("output_padding", output_padding, 0)
        self.groups = groups
        channels = in_channels, out_channels
        first, second = channels if self.transposed else reversed(channels)
        shape = first, second // groups, *self.kernel_size
        self.weight = init.kaiming_uniform_(Parameter(np.empty(shape, np.float32)), a=math.sqrt(5))
        self.bias: Parameter | None = None
        if bias:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            self.bias = init.uniform_(Parameter(np.empty(out_channels, np.float32)), -bound, bound)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        for name, usual in ("padding", 0), ("dilation", 1), ("output_padding", 0):
            value = getattr(self, name)
            if value != (usual,) * self.axes:
                text += f", {name}={value}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"


class _Forward(_Convolution):
    """A convolution from inputs to outputs."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )

    def forward(self, input: Any) -> Tensor:
        """Return (N, out_channels, ...) for an input (N, in_channels, ...)."""
        return self.function(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class _Transposed(_Convolution):
    """The transpose of a convolution."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            output_padding,
        )

    def forward(self, input: Any) -> Tensor:
        """Return (N, out_channels, ...) for an input (N, in_channels, ...)."""
        return self.function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class Conv1d(_Forward):
    """A convolution over sequences; see `agrad.nn.functional.conv1d` for the options.

    Attributes:
        weight: float32 of shape (out_channels, in_channels / groups, kernel_size), drawn from
            U(±1/√fan), where fan is the product of the last two lengths.
        bias: float32 of shape (out_channels,), drawn from the same distribution; or None.

    Raises:
        ValueError: `groups` does not divide the channels, or an option is too small.

    Example:
        >>> from agrad import nn
        >>> layer = nn.Conv1d(3, 8, kernel_size=3, padding=1)
        >>> layer(np.ones((2, 3, 10), np.float32)).shape
        (2, 8, 10)
    """

    axes = 1
    function = staticmethod(F.conv1d)


class Conv2d(_Forward):
    """A convolution over images; see `agrad.nn.functional.conv2d` for the options.

    Attributes:
        weight: float32 of shape (out_channels, in_channels / groups, *kernel_size), drawn from
            U(±1/√fan), where fan is the product of the last three lengths.
        bias: float32 of shape (out_channels,), drawn from the same distribution; or None.

    Raises:
        ValueError: `groups` does not divide the channels, or an option is too small.

    Example:
        >>> from agrad import nn
        >>> layer = nn.Conv2d(3, 8, kernel_size=3, stride=2)
        >>> layer(np.ones((2, 3, 11, 9), np.float32)).shape
        (2, 8, 5, 4)
    """

    axes = 2
    function = staticmethod(F.conv2d)


class Conv3d(_Forward):
    """A convolution over volumes; see `agrad.nn.functional.conv3d` for the options.

    Attributes:
        weight: float32 of shape (out_channels, in_channels / groups, *kernel_size), drawn from
            U(±1/√fan), where fan is the product of the last four lengths.
        bias: float32 of shape (out_channels,), drawn from the same distribution; or None.

    Raises:
        ValueError: `groups` does not divide the channels, or an option is too small.

    Example:
        >>> from agrad import nn
        >>> layer = nn.Conv3d(3, 8, kernel_size=3, stride=2)
        >>> layer(np.ones((2, 3, 7, 11, 9), np.float32)).shape
        (2, 8, 3, 5, 4)
    """

    axes = 3
    function = staticmethod(F.conv3d)


class ConvTranspose1d(_Transposed):
    """The transpose of `Conv1d`; see `agrad.nn.functional.conv_transpose1d` for the options.

    Attributes:
        weight: float32 of shape (in_channels, out_channels / groups, kernel_size), drawn from
            U(±1/√fan), where fan is the product of the last two lengths.
        bias: float32 of shape (out_channels,), drawn from the same distribution; or None.

    Raises:
        ValueError: `groups` does not divide the channels, or an option is too small.

    Example:
        >>> from agrad import nn
        >>> layer = nn.ConvTranspose1d(8, 3, kernel_size=4, stride=2, padding=1)
        >>> layer(np.ones((2, 8, 10), np.float32)).shape
        (2, 3, 20)
    """

    axes = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_Transposed):
    """The transpose of `Conv2d`; see `agrad.nn.functional.conv_transpose2d` for the options.

    Attributes:
        weight: float32 of shape (in_channels, out_channels / groups, *kernel_size), drawn from
            U(±1/√fan), where fan is the product of the last three lengths.
        bias: float32 of shape (out_channels,), drawn from the same distribution; or None.

    Raises:
        ValueError: `groups` does not divide the channels, or an option is too small.

    Example:
        >>> from agrad import nn
        >>> layer = nn.ConvTranspose2d(8, 3, kernel_size=2, stride=2)
        >>> layer(np.ones((2, 8, 5, 4), np.float32)).shape
        (2, 3, 10, 8)
    """

    axes = 2
    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_Transposed):
    """The transpose of `Conv3d`; see `agrad.nn.functional.conv_transpose3d` for the options.

    Attributes:
        weight: float32 of shape (in_channels, out_channels / groups, *kernel_size), drawn from
            U(±1/√fan), where fan is the product of the last four lengths.
        bias: float32 of shape (out_channels,), drawn from the same distribution; or None.

    Raises:
        ValueError: `groups` does not divide the channels, or an option is too small.

    Example:
        >>> from agrad import nn
        >>> layer = nn.ConvTranspose3d(8, 3, kernel_size=2, stride=2)
        >>> layer(np.ones((2, 8, 3, 5, 4), np.float32)).shape
        (2, 3, 6, 10, 8)
    """

    axes = 3
    function = staticmethod(F.conv_transpose3d)
