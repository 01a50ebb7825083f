"""Normalization and dropout."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from agrad.backend import Array, beside, is_array
from agrad.core.tensor import Tensor, apply, as_tensors
from agrad.nn.functional.windows import activated, floating
from agrad.ops.arithmetic import Sqrt
from agrad.ops.dropout import RandomDropout
from agrad.ops.normalization import FollowedNormalize, Normalize
from agrad.ops.sums import mean, variance

__all__ = ["batch_norm", "dropout", "layer_norm"]


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float | Callable[[], float | Array] = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel to mean 0 and variance 1, then scale and shift it.

    In training it uses the batch's mean and variance, and moves the running ones towards them; an
    average backward pass, which runs the recorded graph again, does not move them. Outside training
    it uses the running ones.

    Ioffe and Szegedy, "Batch Normalization", 2015.

    Args:
        input: (N, C) or (N, C, ...), float32 or float64.
        running_mean: (C,), changed in place in training; None to keep no record.
        running_var: (C,), likewise; it follows the unbiased variance.
        weight: the scales, (C,).
        bias: the shifts, (C,).
        training: whether to use the batch's mean and variance.
        momentum: the share of the batch in the new running mean and variance, or a function that
            returns it, perhaps as an array without axes, whenever they change.
        eps: added to the variance.

    Raises:
        ValueError: the shapes do not match, a channel has a single element in training, or there is
            no running mean or variance outside training.
        TypeError: the input is neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> mean, var = ag.tensor([0.0]), ag.tensor([1.0])
        >>> F.batch_norm([[1.0], [3.0]], mean, var, training=True, eps=0.0)
        tensor([[-1.],
                [ 1.]])
        >>> mean
        tensor([0.2])
    """
    input, weight, bias = as_tensors(input, weight, bias)
    x = floating("batch_norm", "input", input)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: input must have shape (N, C, ...), got {x.shape}")
    names = "running_mean", "running_var", "weight", "bias"
    given = dict(zip(names, (running_mean, running_var, weight, bias)))
    for name, value in given.items():
        if value is not None and np.shape(value) != x.shape[1:2]:
            raise ValueError(
                f"batch_norm: {name} must have shape {x.shape[1:2]}, one element for each channel "
                f"of input, of shape {x.shape}; got {np.shape(value)}"
            )
    channel = (1, -1) + (1,) * (x.ndim - 2)
    if training:
        if x.size // max(1, x.shape[1]) < 2:
            raise ValueError(
                "batch_norm: training needs more than one element for each channel, got input of "
                f"shape {x.shape}; give larger batches, or call eval()"
            )
        axes = (0, *range(2, x.ndim))
        follow = partial(_follow, axes, running_mean, running_var, momentum)
        out = apply(FollowedNormalize(axes, eps, follow), x)
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm: running_mean and running_var are needed outside training")
    else:
        deviation = apply(Sqrt(), running_var + eps)
        out = (x - running_mean.reshape(channel)) / deviation.reshape(channel)
    if weight is not None:
        out = out * weight.reshape(channel)
    return out if bias is None else out + bias.reshape(channel)


def _follow(
    axes: tuple[int, ...],
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float | Callable[[], float | Array],
    x: Array,
) -> None:
    """Move the running mean and variance towards the batch's."""
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None:
            beside("batch_norm", name, running.data, x)
    share = momentum() if callable(momentum) else momentum
    if running_mean is not None:
        _move(running_mean, mean(x, axes), share)
    if running_var is not None:
        _move(running_var, variance(x, axes, ddof=1), share)


def _move(running: Tensor, batch: Array, share: float | Array) -> None:
    values = running.writable()
    step = batch - values
    if is_array(share):
        share = share.astype(step.dtype)  # type: ignore[union-attr]
    values += share * step


def layer_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize the last axes to mean 0 and variance 1, then scale and shift each element.

    Ba et al., "Layer Normalization", 2016.

    Args:
        input: (..., *normalized_shape), float32 or float64.
        normalized_shape: the lengths of the axes to normalize over.
        weight: the scales, of shape normalized_shape.
        bias: the shifts, likewise.
        eps: added to the variance.

    Raises:
        ValueError: the shapes do not match.
        TypeError: the input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.layer_norm([[1.0, 3.0]], normalized_shape=2, eps=0.0)
        tensor([[-1.,  1.]])
    """
    input, weight, bias = as_tensors(input, weight, bias)
    x = floating("layer_norm", "input", input)
    lengths = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not lengths or x.shape[-len(lengths) :] != lengths:
        raise ValueError(
            f"layer_norm: the last axes of input must have the lengths normalized_shape, "
            f"{lengths}, got input of shape {x.shape}"
        )
    _require_shape("weight", weight, lengths)
    _require_shape("bias", bias, lengths)
    normalize = Normalize(tuple(range(-len(lengths), 0)), eps)
    if weight is None:
        out = apply(normalize, x)
        return out if bias is None else out + bias
    return apply(normalize, x, weight, *([] if bias is None else [bias]))


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each element to zero with probability `p` and divide the others by 1 - p.

    Each call draws the mask on the input's device, as `agrad.seed` determines; an average backward
    pass runs the recorded graph again with the same mask. With `p` = 0, and outside training, the
    result is the input itself, except that integers and booleans become float32.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.

    Raises:
        ValueError: `p` is outside [0, 1].

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> ag.seed(0)
        >>> F.dropout(ag.tensor([1.0, 1.0, 1.0, 1.0]))
        tensor([2., 2., 2., 0.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must lie in [0, 1], got {p}")
    x = activated(input)
    if p == 0 or not training:
        return x
    return apply(RandomDropout(float(p)), x)


def _require_shape(argument: str, tensor: Tensor | None, lengths: tuple[int, ...]) -> None:
    if tensor is not None and tensor.shape != lengths:
        raise ValueError(
            f"layer_norm: {argument} must have the shape normalized_shape, {lengths}, "
            f"got {tensor.shape}"
        )
