"""Dense layers, layer and group normalization, dropout, and layers that change shapes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from agrad.core.tensor import Tensor, as_tensor
from agrad.nn import functional as F
from agrad.nn import init
from agrad.nn.function_module import FunctionModule
from agrad.nn.functional.normalization import lengths_of
from agrad.nn.module import Module, Parameter
from agrad.ops.shape import flattened

__all__ = [
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Flatten",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "Linear",
    "RMSNorm",
    "Unflatten",
]


class Linear(Module):
    """A dense layer: input · weightᵀ + bias.

    Args:
        in_features: The length of the input's last axis.
        out_features: The length of the output's last axis.
        bias: Whether to add a bias.

    Attributes:
        weight: float32 of shape (out_features, in_features), drawn from U(±1/√in_features).
        bias: float32 of shape (out_features,), drawn from the same distribution; or None.

    Raises:
        ValueError: A number of features is below 1.

    Example:
        >>> from agrad import nn
        >>> layer = nn.Linear(3, 2)
        >>> layer([[1.0, 2.0, 3.0]]).shape
        (1, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(
                "Linear: in_features and out_features must be at least 1, got "
                f"in_features={in_features} and out_features={out_features}"
            )
        self.in_features = in_features
        self.out_features = out_features
        weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.weight = init.kaiming_uniform_(weight, a=math.sqrt(5))
        self.bias: Parameter | None = None
        if bias:
            bound = 1 / math.sqrt(in_features)
            self.bias = init.uniform_(Parameter(np.empty(out_features, np.float32)), -bound, bound)

    def forward(self, input: Any) -> Tensor:
        """Return an output of shape (..., out_features) for an input (..., in_features)."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(Module):
    """Normalize the last axes to mean 0 and variance 1, then scale and shift each element.

    Args:
        normalized_shape: The lengths of the axes to normalize over.
        eps: A small number added to the variance.
        elementwise_affine: Whether to scale the elements.
        bias: Whether to shift the elements too; has no effect without scaling.

    Attributes:
        weight: float32 of shape normalized_shape, initially ones; or None.
        bias: float32 of shape normalized_shape, initially zeros; or None.

    Source: Ba et al., "Layer Normalization", 2016.

    Example:
        >>> from agrad import nn
        >>> nn.LayerNorm(2, eps=0.0)([[1.0, 3.0]]).tolist()
        [[-1.0, 1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        lengths = lengths_of(normalized_shape)
        self.normalized_shape = lengths
        self.eps = eps
        self.weight = Parameter(np.ones(lengths, np.float32)) if elementwise_affine else None
        shifts = elementwise_affine and bias
        self.bias = Parameter(np.zeros(lengths, np.float32)) if shifts else None

    def forward(self, input: Any) -> Tensor:
        """Return an output of the input's shape, (..., *normalized_shape)."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.weight is not None}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divide by the root of the mean square over the last axes, then scale each element.

    Args:
        normalized_shape: The lengths of the axes to normalize over.
        eps: A small number added to the mean square; None for the machine epsilon of the input's
            dtype.
        elementwise_affine: Whether to scale the elements.

    Attributes:
        weight: float32 of shape normalized_shape, initially ones; or None.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

    Example:
        >>> from agrad import nn
        >>> nn.RMSNorm(2)([[1.0, 7.0]]).data.round(4)
        array([[0.2, 1.4]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ) -> None:
        lengths = lengths_of(normalized_shape)
        self.normalized_shape = lengths
        self.eps = eps
        self.weight = Parameter(np.ones(lengths, np.float32)) if elementwise_affine else None

    def forward(self, input: Any) -> Tensor:
        """Return an output of the input's shape, (..., *normalized_shape)."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"
        )


class GroupNorm(Module):
    """Normalize each group of an example's channels to mean 0 and variance 1; scale and shift.

    Args:
        num_groups: The number of equal groups into which the channels are divided.
        num_channels: C, the length of the input's second axis.
        eps: A small number added to the variance.
        affine: Whether to scale the channels.
        bias: Whether to shift the channels too; has no effect without scaling.

    Attributes:
        weight: float32 of shape (num_channels,), initially ones; or None.
        bias: float32 of shape (num_channels,), initially zeros; or None.

    Raises:
        ValueError: The groups cannot be of equal size.

    Source: Wu and He, "Group Normalization", 2018.

    Example:
        >>> from agrad import nn
        >>> nn.GroupNorm(2, 4, eps=0.0)([[1.0, 3.0, 10.0, 30.0]]).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(
                "GroupNorm: num_groups must divide num_channels, got "
                f"num_groups={num_groups} and num_channels={num_channels}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.weight = Parameter(np.ones(num_channels, np.float32)) if affine else None
        shifts = affine and bias
        self.bias = Parameter(np.zeros(num_channels, np.float32)) if shifts else None

    def forward(self, input: Any) -> Tensor:
        """Return an output of the input's shape, (N, num_channels, ...)."""
        x = as_tensor(input)
        if x.shape[1:2] != (self.num_channels,):
            raise ValueError(
                f"GroupNorm: input must have shape (N, C, ...) with C = {self.num_channels}, "
                f"got {x.shape}"
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, "
            f"affine={self.weight is not None}, bias={self.bias is not None}"
        )


@dataclass(eq=False, repr=False)
class Dropout(FunctionModule):
    """In training, set elements to zero with probability p and divide the others by 1 - p.

    See `agrad.nn.functional.dropout`.

    Raises:
        ValueError: `p` is outside [0, 1].

    Example:
        >>> from agrad import nn
        >>> nn.Dropout(0.5).eval()([1.0, 2.0])
        tensor([1., 2.])
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"{type(self).__name__}: p must lie in [0, 1], got {self.p}")

    function = staticmethod(F.dropout)

    def forward(self, input: Any) -> Tensor:
        return type(self).function(input, self.p, self.training)


class Dropout1d(Dropout):
    """In training, set whole channels of sequences to zero; see `agrad.nn.functional.dropout1d`.

    Raises:
        ValueError: `p` is outside [0, 1]; when called, the input has another number of axes.

    Example:
        >>> from agrad import nn
        >>> nn.Dropout1d(0.5).eval()([[1.0, 2.0]])
        tensor([[1., 2.]])
    """

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """In training, set whole channels of images to zero; see `agrad.nn.functional.dropout2d`.

    Raises:
        ValueError: `p` is outside [0, 1]; when called, the input has another number of axes.

    Example:
        >>> from agrad import nn
        >>> nn.Dropout2d(0.5).eval()([[[1.0, 2.0]]])
        tensor([[[1., 2.]]])
    """

    function = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """In training, set whole channels of volumes to zero; see `agrad.nn.functional.dropout3d`.

    Raises:
        ValueError: `p` is outside [0, 1]; when called, the input has another number of axes.

    Example:
        >>> from agrad import nn
        >>> nn.Dropout3d(0.5).eval()([[[[1.0, 2.0]]]])
        tensor([[[[1., 2.]]]])
    """

    function = staticmethod(F.dropout3d)


@dataclass(eq=False, repr=False)
class Flatten(FunctionModule):
    """Join the axes from start_dim to end_dim into one.

    Raises:
        ValueError: The input does not have these axes.

    Example:
        >>> from agrad import nn
        >>> nn.Flatten()(np.ones((5, 28, 28))).shape
        (5, 784)
    """

    start_dim: int = 1
    end_dim: int = -1

    def forward(self, input: Any) -> Tensor:
        x = as_tensor(input)
        return x.reshape(flattened("Flatten", x.shape, self.start_dim, self.end_dim))


@dataclass(eq=False, repr=False)
class Unflatten(FunctionModule):
    """Split an axis into several; the inverse of `Flatten`.

    Args:
        dim: The axis to split.
        unflattened_size: The lengths of the new axes.

    Raises:
        ValueError: The input does not have this axis, or its length is not the product of
            `unflattened_size`.

    Example:
        >>> from agrad import nn
        >>> nn.Unflatten(1, (1, 28))(np.ones((5, 28, 28))).shape
        (5, 1, 28, 28)
    """

    dim: int
    unflattened_size: Sequence[int]

    def forward(self, input: Any) -> Tensor:
        x = as_tensor(input)
        axis = normalize_axis_index(self.dim, x.ndim, "Unflatten: dim")
        if x.shape[axis] != math.prod(self.unflattened_size):
            raise ValueError(
                f"Unflatten: axis {axis} of an input of shape {x.shape} cannot be split into "
                f"unflattened_size={self.unflattened_size}"
            )
        return x.reshape(*x.shape[:axis], *self.unflattened_size, *x.shape[axis + 1 :])


class Identity(Module):
    """Return the input unchanged, where a layer is required but should do nothing.

    Example:
        >>> from agrad import nn
        >>> nn.Identity()([1.0, 2.0])
        tensor([1., 2.])
    """

    def forward(self, input: Any) -> Tensor:
        """Return the input as a Tensor."""
        return as_tensor(input)
