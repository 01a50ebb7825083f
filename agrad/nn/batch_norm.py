"""Batch and instance normalization as modules."""

from typing import Any, ClassVar

import numpy as np

from agrad.backend import Array, as_array
from agrad.core.tensor import Tensor, as_tensor
from agrad.nn import functional as F
from agrad.nn.functional.normalization import changing
from agrad.nn.module import Module, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
]


class _BatchNorm(Module):
    """Normalize each channel to mean 0 and variance 1, then scale and shift it."""

    shapes: ClassVar[dict[int, str]]
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        bias: bool = True,
    ) -> None:
        if num_features < 1:
            raise ValueError(
                f"{type(self).__name__}: needs at least one channel, got "
                f"num_features={num_features}"
            )
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        shifts = affine and bias
        self.bias = Parameter(np.zeros(num_features, np.float32)) if shifts else None
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(num_features, np.float32))
            self.register_buffer("running_var", np.ones(num_features, np.float32))
            self.register_buffer("num_batches_tracked", np.zeros((), np.int64))
        else:
            self.running_mean = self.running_var = None

    def forward(self, input: Any) -> Tensor:
        """Return the normalized input, of its shape."""
        x = as_tensor(input)
        if x.ndim not in self.shapes or self._channels(x) != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input must have shape {' or '.join(self.shapes.values())} "
                f"with C = {self.num_features}, got {x.shape}"
            )
        return self._normalize(x)

    def _channels(self, x: Tensor) -> int:
        return x.shape[1]

    def _normalize(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training or not self.track_running_stats,
            momentum=self._count_batch,
            eps=self.eps,
        )

    def _count_batch(self) -> float | Array:
        """Count a batch and return its share of the running averages."""
        if not self.track_running_stats:
            return 0.0
        batches = changing(self.num_batches_tracked)
        batches += 1
        return as_array(1 / batches) if self.momentum is None else self.momentum

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalize each channel of (N, C) or (N, C, L) to mean 0 and variance 1; scale and shift it.

    Training uses the batch's mean and variance, evaluation uses their running averages. An average
    backward pass does not change the running averages.

    Args:
        num_features: C.
        eps: Added to the variance.
        momentum: The share of a batch in the new running averages; None to average all batches.
        affine: Whether to scale the channels.
        track_running_stats: Whether to keep running averages; without them, evaluation also uses
            the batch's own mean and variance.
        bias: Whether to shift the channels too, if they are scaled.

    Attributes:
        weight: (num_features,), all ones; or None.
        bias: (num_features,), all zeros; or None.
        running_mean: A buffer (num_features,), initially zeros; or None.
        running_var: A buffer (num_features,), initially ones; or None.
        num_batches_tracked: A buffer, the number of batches in the running averages.

    Raises:
        ValueError: There is no channel, the input has another shape, or a channel has a single
            element in training.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015.

    Example:
        >>> from agrad import nn
        >>> nn.BatchNorm1d(1, eps=0.0)([[1.0], [3.0]]).tolist()
        [[-1.0], [1.0]]
    """

    shapes: ClassVar = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Normalize each channel of (N, C, H, W) to mean 0 and variance 1; scale and shift it.

    Like `BatchNorm1d`.

    Example:
        >>> from agrad import nn
        >>> nn.BatchNorm2d(3).eval()(np.ones((2, 3, 4, 4), np.float32)).shape
        (2, 3, 4, 4)
    """

    shapes: ClassVar = {4: "(N, C, H, W)"}


class BatchNorm3d(_BatchNorm):
    """Normalize each channel of (N, C, D, H, W) to mean 0 and variance 1; scale and shift it.

    Like `BatchNorm1d`.

    Example:
        >>> from agrad import nn
        >>> nn.BatchNorm3d(3).eval()(np.ones((2, 3, 2, 4, 4), np.float32)).shape
        (2, 3, 2, 4, 4)
    """

    shapes: ClassVar = {5: "(N, C, D, H, W)"}


class _InstanceNorm(_BatchNorm):
    """Normalize each channel of each example to mean 0 and variance 1, then scale and shift it."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias)

    def _single(self, x: Tensor) -> bool:
        return x.ndim == min(self.shapes)

    def _channels(self, x: Tensor) -> int:
        return x.shape[0 if self._single(x) else 1]

    def _normalize(self, x: Tensor) -> Tensor:
        out = F.instance_norm(
            x.reshape(1, *x.shape) if self._single(x) else x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input_stats=self.training or not self.track_running_stats,
            momentum=0.0 if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        return out[0] if self._single(x) else out


class InstanceNorm1d(_InstanceNorm):
    """Normalize each channel of each example, (N, C, L) or (C, L), to mean 0 and variance 1.

    Args:
        num_features: C.
        eps: Added to the variance.
        momentum: The share of a batch in the new running averages, if there are any.
        affine: Whether to scale the channels.
        track_running_stats: Whether to keep running averages of the examples' means and variances,
            and to use them in evaluation.
        bias: Whether to shift the channels too, if they are scaled.

    Attributes:
        weight: (num_features,), all ones; or None.
        bias: (num_features,), all zeros; or None.
        running_mean: A buffer (num_features,), initially zeros; or None.
        running_var: A buffer (num_features,), initially ones; or None.
        num_batches_tracked: A buffer that stays 0, as in PyTorch; absent without running averages.

    Raises:
        ValueError: There is no channel, the input has another shape, or a channel of an example has
            a single element.

    Source: Ulyanov et al., "Instance Normalization", 2016.

    Example:
        >>> from agrad import nn
        >>> nn.InstanceNorm1d(1, eps=0.0)([[[1.0, 3.0]], [[10.0, 30.0]]]).tolist()
        [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    """

    shapes: ClassVar = {3: "(N, C, L)", 2: "(C, L)"}


class InstanceNorm2d(_InstanceNorm):
    """Normalize each channel of each image, (N, C, H, W) or (C, H, W), to mean 0 and variance 1.

    Like `InstanceNorm1d`.

    Example:
        >>> from agrad import nn
        >>> nn.InstanceNorm2d(3)(np.ones((2, 3, 4, 4), np.float32)).shape
        (2, 3, 4, 4)
    """

    shapes: ClassVar = {4: "(N, C, H, W)", 3: "(C, H, W)"}


class InstanceNorm3d(_InstanceNorm):
    """Normalize each channel of each volume to mean 0 and variance 1.

    Volumes are (N, C, D, H, W) or (C, D, H, W). Like `InstanceNorm1d`.

    Example:
        >>> from agrad import nn
        >>> nn.InstanceNorm3d(3)(np.ones((2, 3, 2, 4, 4), np.float32)).shape
        (2, 3, 2, 4, 4)
    """

    shapes: ClassVar = {5: "(N, C, D, H, W)", 4: "(C, D, H, W)"}
