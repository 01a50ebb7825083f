"""Padding and resampling as modules; see `agrad.nn.functional.pad` and `interpolate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from agrad.core.tensor import Tensor, as_tensor
from agrad.nn import functional as F
from agrad.nn.function_module import FunctionModule
from agrad.nn.module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "Upsample",
    "ZeroPad1d",
    "ZeroPad2d",
]


@dataclass(eq=False, repr=False)
class Upsample(FunctionModule):
    """Resample sequences, images or volumes; see `agrad.nn.functional.interpolate`.

    Example:
        >>> from agrad import nn
        >>> nn.Upsample(scale_factor=2)([[[1.0, 3.0]]])
        tensor([[[1., 1., 3., 3.]]])
    """

    size: int | Sequence[int] | None = None
    scale_factor: float | Sequence[float] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None
    function = staticmethod(F.interpolate)

    def __post_init__(self) -> None:
        factor = self.scale_factor
        if factor is not None:
            self.scale_factor = (
                tuple(map(float, factor)) if isinstance(factor, Sequence) else float(factor)
            )

    def extra_repr(self) -> str:
        name = "size" if self.size is not None else "scale_factor"
        return f"{name}={getattr(self, name)}, mode={self.mode!r}"


class _Pad(Module):
    """The common base of padding layers, which pad the last axes."""

    axes: ClassVar[int]
    mode: ClassVar[str] = "constant"
    value: float = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        self.padding = (padding,) * (2 * self.axes) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self.axes:
            raise ValueError(
                f"{type(self).__name__}: padding must be an integer, or {2 * self.axes} of them, "
                f"got {padding!r}"
            )

    def forward(self, input: Any) -> Tensor:
        """Return the padded input."""
        x = as_tensor(input)
        if x.ndim not in (self.axes + 1, self.axes + 2):
            shapes = "(N, C, L) or (C, L)" if self.axes == 1 else "(N, C, H, W) or (C, H, W)"
            raise ValueError(
                f"{type(self).__name__}: input must have shape {shapes}, got {x.shape}"
            )
        return F.pad(x, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_Pad):
    """Pad a sequence with zeros; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or before and after it.

    Example:
        >>> from agrad import nn
        >>> nn.ZeroPad1d(1)([[1.0, 2.0, 3.0]]).tolist()
        [[0.0, 1.0, 2.0, 3.0, 0.0]]
    """

    axes = 1


class ZeroPad2d(_Pad):
    """Pad an image with zeros; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or left, right, above and below it.

    Example:
        >>> from agrad import nn
        >>> nn.ZeroPad2d((1, 1, 0, 0))([[[1.0, 2.0, 3.0]]]).tolist()
        [[[0.0, 1.0, 2.0, 3.0, 0.0]]]
    """

    axes = 2


class ConstantPad1d(_Pad):
    """Pad a sequence with a value; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or before and after it.
        value: The value.

    Example:
        >>> from agrad import nn
        >>> nn.ConstantPad1d(1, 5.0)([[1.0, 2.0, 3.0]]).tolist()
        [[5.0, 1.0, 2.0, 3.0, 5.0]]
    """

    axes = 1

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(_Pad):
    """Pad an image with a value; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or left, right, above and below it.
        value: The value.

    Example:
        >>> from agrad import nn
        >>> nn.ConstantPad2d((1, 1, 0, 0), 5.0)([[[1.0, 2.0, 3.0]]]).tolist()
        [[[5.0, 1.0, 2.0, 3.0, 5.0]]]
    """

    axes = 2

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ReflectionPad1d(_Pad):
    """Pad a sequence with its mirror image at both ends; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or before and after it.

    Example:
        >>> from agrad import nn
        >>> nn.ReflectionPad1d(1)([[1.0, 2.0, 3.0]]).tolist()
        [[2.0, 1.0, 2.0, 3.0, 2.0]]
    """

    axes = 1
    mode = "reflect"


class ReflectionPad2d(_Pad):
    """Pad an image with its mirror image at both ends; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or left, right, above and below it.

    Example:
        >>> from agrad import nn
        >>> nn.ReflectionPad2d((1, 1, 0, 0))([[[1.0, 2.0, 3.0]]]).tolist()
        [[[2.0, 1.0, 2.0, 3.0, 2.0]]]
    """

    axes = 2
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """Pad a sequence with the first and the last element; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or before and after it.

    Example:
        >>> from agrad import nn
        >>> nn.ReplicationPad1d(1)([[1.0, 2.0, 3.0]]).tolist()
        [[1.0, 1.0, 2.0, 3.0, 3.0]]
    """

    axes = 1
    mode = "replicate"


class ReplicationPad2d(_Pad):
    """Pad an image with the first and the last element; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or left, right, above and below it.

    Example:
        >>> from agrad import nn
        >>> nn.ReplicationPad2d((1, 1, 0, 0))([[[1.0, 2.0, 3.0]]]).tolist()
        [[[1.0, 1.0, 2.0, 3.0, 3.0]]]
    """

    axes = 2
    mode = "replicate"


class CircularPad1d(_Pad):
    """Pad a sequence with the elements from the other end; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or before and after it.

    Example:
        >>> from agrad import nn
        >>> nn.CircularPad1d(1)([[1.0, 2.0, 3.0]]).tolist()
        [[3.0, 1.0, 2.0, 3.0, 1.0]]
    """

    axes = 1
    mode = "circular"


class CircularPad2d(_Pad):
    """Pad an image with the elements from the other end; see `agrad.nn.functional.pad`.

    Args:
        padding: How many elements to add on each side, or left, right, above and below it.

    Example:
        >>> from agrad import nn
        >>> nn.CircularPad2d((1, 1, 0, 0))([[[1.0, 2.0, 3.0]]]).tolist()
        [[[3.0, 1.0, 2.0, 3.0, 1.0]]]
    """

    axes = 2
    mode = "circular"
