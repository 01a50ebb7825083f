"""Normalization and dropout."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np

from agrad.arguments import require_not_negative
from agrad.backend import Array, beside, is_array
from agrad.core.arguments import activated, floating
from agrad.core.tensor import Tensor, apply, as_tensors
from agrad.linalg import norm
from agrad.ops.arithmetic import Sqrt, Square
from agrad.ops.dropout import RandomDropout
from agrad.ops.normalization import FollowedNormalize, Normalize
from agrad.ops.sums import mean, variance

__all__ = [
    "batch_norm",
    "changing",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "lengths_of",
    "normalize",
    "rms_norm",
    "statistics_restored",
]

_before: ContextVar[list[tuple[Tensor, Array]] | None] = ContextVar("agrad_before", default=None)


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
        weight: The scales, (C,).
        bias: The shifts, (C,).
        training: Whether to use the batch's mean and variance.
        momentum: The share of the batch in the new running mean and variance, or a function that
            returns it, perhaps as an array without axes, whenever they change.
        eps: Added to the variance, at least 0.

    Raises:
        ValueError: The shapes do not match, a channel has a single element in training, or there is
            no running mean or variance outside training.
        TypeError: The input is neither float32 nor float64.

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
    require_not_negative("batch_norm", eps=eps)
    _require_channels(
        "batch_norm",
        x,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    if training:
        if x.size // max(1, x.shape[1]) < 2:
            raise ValueError(
                "batch_norm: training needs more than one element for each channel, got input of "
                f"shape {x.shape}; give larger batches, or call eval()"
            )
        axes = (0, *range(2, x.ndim))
        follow = partial(_follow, axes, running_mean, running_var, momentum)
        out = apply(FollowedNormalize(axes, eps, follow), x)
    else:
        out = _by_running("batch_norm", "outside training", x, running_mean, running_var, eps)
    return _scaled_and_shifted(out, weight, bias)


def instance_norm(
    input: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each example to mean 0 and variance 1, then scale and shift it.

    With `use_input_stats` it uses the mean and variance of each example, and moves the running ones
    towards their averages over the batch; without, it uses the running ones.

    Ulyanov et al., "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016.

    Args:
        input: (N, C, ...), float32 or float64.
        running_mean: (C,), changed in place with `use_input_stats`; None to keep no record.
        running_var: (C,), likewise; it follows the unbiased variance.
        weight: The scales, (C,).
        bias: The shifts, (C,).
        use_input_stats: Whether to use each example's own mean and variance.
        momentum: The share of the batch in the new running mean and variance.
        eps: Added to the variance, at least 0.

    Raises:
        ValueError: The shapes do not match, a channel of an example has a single element, or there
            is no running mean or variance without `use_input_stats`.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.instance_norm([[[1.0, 3.0], [10.0, 30.0]]], eps=0.0)
        tensor([[[-1.,  1.],
                 [-1.,  1.]]])
    """
    input, weight, bias = as_tensors(input, weight, bias)
    x = floating("instance_norm", "input", input)
    require_not_negative("instance_norm", eps=eps)
    _require_channels(
        "instance_norm",
        x,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    if not use_input_stats:
        when = "without use_input_stats"
        out = _by_running("instance_norm", when, x, running_mean, running_var, eps)
        return _scaled_and_shifted(out, weight, bias)
    if math.prod(x.shape[2:]) < 2:
        raise ValueError(
            "instance_norm: a channel of an example needs more than one element, got input of "
            f"shape {x.shape}"
        )
    axes = tuple(range(2, x.ndim))
    follow = partial(_follow, axes, running_mean, running_var, momentum)
    return _scaled_and_shifted(apply(FollowedNormalize(axes, eps, follow), x), weight, bias)


def _by_running(
    name: str,
    when: str,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
) -> Tensor:
    """Normalize each channel by its running mean and variance."""
    if running_mean is None or running_var is None:
        raise ValueError(f"{name}: running_mean and running_var are needed {when}")
    channel = (1, -1) + (1,) * (x.ndim - 2)
    deviation: Tensor = apply(Sqrt(), running_var + eps)
    return (x - running_mean.reshape(channel)) / deviation.reshape(channel)


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalize each group of an example's channels to mean 0 and variance 1; scale and shift.

    Wu and He, "Group Normalization", 2018.

    Args:
        input: (N, C, ...), float32 or float64.
        num_groups: The number of equal groups into which the channels are divided.
        weight: The scales of the channels, (C,).
        bias: The shifts of the channels, (C,).
        eps: Added to the variance, at least 0.

    Raises:
        ValueError: The shapes do not match, the groups cannot be of equal size, or a group of an
            example has a single element.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.group_norm([[1.0, 3.0, 10.0, 30.0]], num_groups=2, eps=0.0)
        tensor([[-1.,  1., -1.,  1.]])
    """
    input, weight, bias = as_tensors(input, weight, bias)
    x = floating("group_norm", "input", input)
    require_not_negative("group_norm", eps=eps)
    _require_channels("group_norm", x, weight=weight, bias=bias)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(
            f"group_norm: num_groups must divide the {x.shape[1]} channels of input, of shape "
            f"{x.shape}; got {num_groups}"
        )
    length = math.prod(x.shape[1:]) // num_groups
    if length < 2:
        raise ValueError(
            f"group_norm: a group of an example needs more than one element, got num_groups="
            f"{num_groups} for an input of shape {x.shape}"
        )
    groups = apply(Normalize((-1,), eps), x.reshape(len(x), num_groups, length))
    return _scaled_and_shifted(groups.reshape(x.shape), weight, bias)


def _require_channels(operation: str, x: Tensor, **given: Any) -> None:
    """Raise a ValueError unless x has channels and each value has one element per channel."""
    if x.ndim < 2:
        raise ValueError(f"{operation}: input must have shape (N, C, ...), got {x.shape}")
    for name, value in given.items():
        if value is not None and np.shape(value) != x.shape[1:2]:
            raise ValueError(
                f"{operation}: {name} must have shape {x.shape[1:2]}, one element for each channel "
                f"of input, of shape {x.shape}; got {np.shape(value)}"
            )


def _scaled_and_shifted(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return x with each channel scaled and shifted."""
    channel = (1, -1) + (1,) * (x.ndim - 2)
    if weight is not None:
        x = x * weight.reshape(channel)
    return x if bias is None else x + bias.reshape(channel)


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
    for running, statistic in (
        (running_mean, mean(x, axes)),
        (running_var, variance(x, axes, ddof=1)),
    ):
        if running is not None:
            _move(running, statistic if 0 in axes else mean(statistic, (0,)), share)


@contextmanager
def statistics_restored() -> Iterator[None]:
    """Restore the running statistics that the block has changed if it ends with an error."""
    before: list[tuple[Tensor, Array]] = []
    token = _before.set(before)
    try:
        yield
    except BaseException:
        for running, values in reversed(before):
            running.writable()[...] = values
        raise
    finally:
        _before.reset(token)


def changing(running: Tensor) -> Array:
    """Return the array of a running statistic to change in place; see `statistics_restored`."""
    values = running.writable()
    before = _before.get()
    if before is not None:
        before.append((running, values.copy()))
    return values


def _move(running: Tensor, batch: Array, share: float | Array) -> None:
    values = changing(running)
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
        normalized_shape: The lengths of the axes to normalize over.
        weight: The scales, of shape normalized_shape.
        bias: The shifts, likewise.
        eps: Added to the variance, at least 0.

    Raises:
        ValueError: The shapes do not match.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.layer_norm([[1.0, 3.0]], normalized_shape=2, eps=0.0)
        tensor([[-1.,  1.]])
    """
    input, weight, bias = as_tensors(input, weight, bias)
    x = floating("layer_norm", "input", input)
    require_not_negative("layer_norm", eps=eps)
    lengths = _normalized("layer_norm", x, normalized_shape, weight=weight, bias=bias)
    normalize = Normalize(tuple(range(-len(lengths), 0)), eps)
    if weight is None:
        out = apply(normalize, x)
        return out if bias is None else out + bias
    return apply(normalize, x, weight, *([] if bias is None else [bias]))


def rms_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float | None = None,
) -> Tensor:
    """Divide by the root of the mean square over the last axes, then scale each element.

    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

    Args:
        input: (..., *normalized_shape), float32 or float64.
        normalized_shape: The lengths of the axes to normalize over.
        weight: The scales, of shape normalized_shape.
        eps: Added to the mean square, at least 0; by default the machine epsilon of the input's
            dtype.

    Raises:
        ValueError: The shapes do not match.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.rms_norm([[1.0, 7.0]], normalized_shape=2)
        tensor([[0.2, 1.4]])
    """
    input, weight = as_tensors(input, weight)
    x = floating("rms_norm", "input", input)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    require_not_negative("rms_norm", eps=eps)
    lengths = _normalized("rms_norm", x, normalized_shape, weight=weight)
    square = apply(Square(), x).mean(axis=tuple(range(-len(lengths), 0)), keepdims=True)
    out = x * (square + eps) ** -0.5
    return out if weight is None else out * weight


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divide vectors along the axis `dim` by their norms, or by `eps` where these are smaller.

    Args:
        input: An array, float32 or float64.
        p: Which norm: (Σ |x|ᵖ)^(1/p).
        dim: The axis.
        eps: The smallest divisor, at least 0.

    Raises:
        ValueError: The axis is out of range, or `p` is not positive.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.normalize([[3.0, 4.0], [0.0, 0.0]])
        tensor([[0.6, 0.8],
                [0. , 0. ]])
    """
    x = floating("normalize", "input", input)
    require_not_negative("normalize", eps=eps)
    return x / norm(x, p, dim, keepdims=True).maximum(eps)


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each element to zero with probability `p` and divide the others by 1 - p.

    Each call draws a mask from agrad's generator, on the input's device. An average backward pass
    runs the recorded graph again with the same mask. With `p` = 0, and outside training, the result
    is the input itself, except that integers and booleans become float32.

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
    return _dropped("dropout", activated(input), p, training)


def dropout1d(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each channel of sequences, (N, C, L) or (C, L), to zero with probability `p`.

    See `dropout2d`.

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> ag.seed(0)
        >>> F.dropout1d([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
        tensor([[ 2.,  4.],
                [ 6.,  8.],
                [10., 12.],
                [ 0.,  0.]])
    """
    return _dropped("dropout1d", activated(input), p, training, 1, "(N, C, L) or (C, L)")


def dropout2d(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each channel of images, (N, C, H, W) or (C, H, W), to zero with probability `p`.

    The others are divided by 1 - p; see `dropout`.

    Tompson et al., "Efficient Object Localization Using Convolutional Networks", 2015.

    Raises:
        ValueError: `p` is outside [0, 1], or the input does not have such a shape.

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> ag.seed(0)
        >>> F.dropout2d(ag.ones(1, 4, 2, 2)).data[0, :, 0, 0]
        array([2., 2., 2., 0.], dtype=float32)
    """
    return _dropped("dropout2d", activated(input), p, training, 2, "(N, C, H, W) or (C, H, W)")


def dropout3d(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each channel of volumes, (N, C, D, H, W) or (C, D, H, W), to zero with probability `p`.

    See `dropout2d`.

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> ag.seed(0)
        >>> F.dropout3d(ag.ones(4, 1, 1, 2)).data[:, 0, 0]
        array([[2., 2.],
               [2., 2.],
               [2., 2.],
               [0., 0.]], dtype=float32)
    """
    shapes = "(N, C, D, H, W) or (C, D, H, W)"
    return _dropped("dropout3d", activated(input), p, training, 3, shapes)


def _dropped(
    name: str, x: Tensor, p: float, training: bool, together: int = 0, shapes: str = ""
) -> Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p must lie in [0, 1], got {p}")
    if together and x.ndim not in (together + 1, together + 2):
        raise ValueError(f"{name}: input must have shape {shapes}, got {x.shape}")
    if p == 0 or not training:
        return x
    return apply(RandomDropout(float(p), together), x)


def lengths_of(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return the lengths of the axes to normalize over, given as one or several."""
    if isinstance(normalized_shape, int | np.integer):
        return (int(normalized_shape),)
    return tuple(normalized_shape)


def _normalized(
    operation: str, x: Tensor, normalized_shape: int | Sequence[int], **given: Tensor | None
) -> tuple[int, ...]:
    """Return the lengths to normalize over, after checking x and the other tensors for them."""
    lengths = lengths_of(normalized_shape)
    if not lengths or x.shape[-len(lengths) :] != lengths:
        raise ValueError(
            f"{operation}: the last axes of input must have the lengths normalized_shape, "
            f"{lengths}, got input of shape {x.shape}"
        )
    for argument, tensor in given.items():
        if tensor is not None and tensor.shape != lengths:
            raise ValueError(
                f"{operation}: {argument} must have the shape normalized_shape, {lengths}, "
                f"got {tensor.shape}"
            )
    return lengths
