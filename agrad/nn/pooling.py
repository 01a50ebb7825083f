"""Pooling as modules; see `agrad.nn.functional` for options, shapes and errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agrad.core.tensor import Tensor
from agrad.nn import functional as F
from agrad.nn.function_module import FunctionModule
from agrad.nn.functional.windows import per_axis

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


@dataclass(eq=False, repr=False)
class _Pool(FunctionModule):
    """The common base of pooling layers: their windows, which by default lie side by side."""

    kernel_size: int | Sequence[int]
    stride: int | Sequence[int] | None = None
    padding: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        self.stride = self.kernel_size if self.stride is None else self.stride


@dataclass(eq=False, repr=False)
class _MaxPool(_Pool):
    """The maximum of each window."""

    dilation: int | Sequence[int] = 1
    ceil_mode: bool = False
    return_indices: bool = False

    def extra_repr(self) -> str:
        return super().extra_repr().removesuffix(", return_indices=False")


@dataclass(eq=False, repr=False)
class _MaxUnpool(_Pool):
    """The inverse of `_MaxPool`, which takes its indices."""

    def forward(self, *inputs: Any, output_size: Sequence[int] | None = None) -> Tensor:
        """Return the unpooled input, of shape `output_size` if it is given."""
        return self.function(*inputs, **self._options(), output_size=output_size)


@dataclass(eq=False, repr=False)
class _AvgPool(_Pool):
    """The mean of each window."""

    ceil_mode: bool = False
    count_include_pad: bool = True

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


@dataclass(eq=False, repr=False)
class MaxPool1d(_MaxPool):
    """The maximum of each window of a sequence; see `agrad.nn.functional.max_pool1d`.

    Example:
        >>> from agrad import nn
        >>> nn.MaxPool1d(2)([[[1.0, 3.0, 2.0, 0.0]]])
        tensor([[[3., 2.]]])
    """

    function = staticmethod(F.max_pool1d)


@dataclass(eq=False, repr=False)
class MaxPool2d(_MaxPool):
    """The maximum of each window of an image; see `agrad.nn.functional.max_pool2d`.

    Example:
        >>> from agrad import nn
        >>> nn.MaxPool2d(2)([[[[1.0, 3.0], [2.0, 0.0]]]])
        tensor([[[[3.]]]])
    """

    function = staticmethod(F.max_pool2d)


@dataclass(eq=False, repr=False)
class MaxPool3d(_MaxPool):
    """The maximum of each window of a volume; see `agrad.nn.functional.max_pool3d`.

    Example:
        >>> from agrad import nn
        >>> nn.MaxPool3d((2, 1, 2))([[[[[1.0, 3.0]], [[2.0, 0.0]]]]])
        tensor([[[[[3.]]]]])
    """

    function = staticmethod(F.max_pool3d)


@dataclass(eq=False, repr=False)
class MaxUnpool1d(_MaxUnpool):
    """Put the elements of a pooled sequence back; see `agrad.nn.functional.max_unpool1d`.

    Call it with the pooled sequence and the indices, and perhaps an `output_size`.

    Example:
        >>> from agrad import nn
        >>> pool, unpool = nn.MaxPool1d(2, return_indices=True), nn.MaxUnpool1d(2)
        >>> unpool(*pool([[[1.0, 3.0, 2.0, 0.0]]]))
        tensor([[[0., 3., 2., 0.]]])
    """

    function = staticmethod(F.max_unpool1d)


@dataclass(eq=False, repr=False)
class MaxUnpool2d(_MaxUnpool):
    """Put the elements of a pooled image back; see `agrad.nn.functional.max_unpool2d`.

    Call it with the pooled image and the indices, and perhaps an `output_size`.

    Example:
        >>> from agrad import nn
        >>> pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        >>> unpool(*pool([[[[1.0, 3.0], [2.0, 0.0]]]]))
        tensor([[[[0., 3.],
                  [0., 0.]]]])
    """

    function = staticmethod(F.max_unpool2d)


@dataclass(eq=False, repr=False)
class MaxUnpool3d(_MaxUnpool):
    """Put the elements of a pooled volume back; see `agrad.nn.functional.max_unpool3d`.

    Call it with the pooled volume and the indices, and perhaps an `output_size`.

    Example:
        >>> from agrad import nn
        >>> pool, unpool = nn.MaxPool3d((2, 1, 1), return_indices=True), nn.MaxUnpool3d((2, 1, 1))
        >>> unpool(*pool([[[[[1.0, 3.0]], [[2.0, 0.0]]]]]))
        tensor([[[[[0., 3.]],
        <BLANKLINE>
                  [[2., 0.]]]]])
    """

    function = staticmethod(F.max_unpool3d)


@dataclass(eq=False, repr=False)
class AvgPool1d(_AvgPool):
    """The mean of each window of a sequence; see `agrad.nn.functional.avg_pool1d`.

    Raises:
        ValueError: An option is too small.

    Example:
        >>> from agrad import nn
        >>> nn.AvgPool1d(2)([[[1.0, 3.0, 2.0, 0.0]]])
        tensor([[[2., 1.]]])
    """

    function = staticmethod(F.avg_pool1d)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kernel_size = per_axis("AvgPool1d", "kernel_size", self.kernel_size, 1)
        self.stride = per_axis("AvgPool1d", "stride", self.stride, 1)
        self.padding = per_axis("AvgPool1d", "padding", self.padding, 1, least=0)


@dataclass(eq=False, repr=False)
class AvgPool2d(_AvgPool):
    """The mean of each window of an image; see `agrad.nn.functional.avg_pool2d`.

    Example:
        >>> from agrad import nn
        >>> nn.AvgPool2d(2)([[[[1.0, 3.0], [2.0, 0.0]]]])
        tensor([[[[1.5]]]])
    """

    divisor_override: int | None = None
    function = staticmethod(F.avg_pool2d)


@dataclass(eq=False, repr=False)
class AvgPool3d(_AvgPool):
    """The mean of each window of a volume; see `agrad.nn.functional.avg_pool3d`.

    Example:
        >>> from agrad import nn
        >>> nn.AvgPool3d((2, 1, 2))([[[[[1.0, 3.0]], [[2.0, 0.0]]]]])
        tensor([[[[[1.5]]]]])
    """

    divisor_override: int | None = None
    function = staticmethod(F.avg_pool3d)


@dataclass(eq=False, repr=False)
class AdaptiveAvgPool1d(FunctionModule):
    """The means of `output_size` windows that cover a sequence.

    See `agrad.nn.functional.adaptive_avg_pool1d`.

    Example:
        >>> from agrad import nn
        >>> nn.AdaptiveAvgPool1d(1)([[[1.0, 2.0, 6.0]]])
        tensor([[[3.]]])
    """

    output_size: int | Sequence[int]
    function = staticmethod(F.adaptive_avg_pool1d)


@dataclass(eq=False, repr=False)
class AdaptiveAvgPool2d(FunctionModule):
    """The means of windows that cover an image; see `agrad.nn.functional.adaptive_avg_pool2d`.

    Example:
        >>> from agrad import nn
        >>> nn.AdaptiveAvgPool2d(1)([[[[1.0, 3.0], [2.0, 0.0]]]])
        tensor([[[[1.5]]]])
    """

    output_size: int | Sequence[int | None] | None
    function = staticmethod(F.adaptive_avg_pool2d)


@dataclass(eq=False, repr=False)
class AdaptiveAvgPool3d(FunctionModule):
    """The means of windows that cover a volume; see `agrad.nn.functional.adaptive_avg_pool3d`.

    Example:
        >>> from agrad import nn
        >>> nn.AdaptiveAvgPool3d(1)([[[[[1.0, 3.0]], [[2.0, 0.0]]]]])
        tensor([[[[[1.5]]]]])
    """

    output_size: int | Sequence[int | None] | None
    function = staticmethod(F.adaptive_avg_pool3d)
