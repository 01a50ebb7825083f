"""Losses: how far an output is from its target."""

from typing import Any

import numpy as np

from agrad.backend import Array, beside
from agrad.core.tensor import Tensor, apply, as_tensor, as_tensors, plain
from agrad.nn.functional.windows import floating
from agrad.ops.loss import (
    BinaryCrossEntropy,
    ClassLikelihood,
    CrossEntropy,
    SoftNegativeLogLikelihood,
    class_axis,
    scale_of,
    smoothed,
)
from agrad.ops.softmax import LogSoftmax

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "mse_loss", "nll_loss"]


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross entropy between `target` and the softmax of `input`.

    Args:
        input: logits (N, C), (N, C, d1, ...) or (C,); minus infinity rules a class out.
        target: the classes, integers of the shape of `input` without C, or the classes'
            probabilities, of the shape of `input`; a constant. Classes can be an argument of a
            captured function.
        weight: (C,), a factor for each class; a constant.
        ignore_index: the class that marks examples to leave out.
        reduction: "mean", "sum", or "none" for the loss of each example. With classes as targets
            the mean is weighted by the examples' weights.
        label_smoothing: the share, 0 to 1, of each target that is spread evenly over all classes
            (Szegedy et al., "Rethinking the Inception Architecture", 2016).

    Raises:
        ValueError: a class is out of range, the shapes do not match, label_smoothing is outside
            [0, 1], the reduction is unknown, or a target or weight requires a gradient.
        TypeError: the logits are neither float32 nor float64, or the classes are not integers.

    Example:
        >>> import agrad.nn.functional as F
        >>> logits = [[0.0, 0.0], [0.0, 100.0]]
        >>> F.cross_entropy(logits, [1, 0], reduction="none")
        tensor([  0.6931472, 100.       ])
        >>> F.cross_entropy(logits, [[0.0, 1.0], [0.5, 0.5]], reduction="none")
        tensor([ 0.6931472, 50.       ])
    """
    name = "cross_entropy"
    logits = floating(name, "input", input)
    target = _beside(name, "target", target, logits)
    _require_classes(name, logits)
    _check_reduction(name, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing must lie in [0, 1], got {label_smoothing}")
    weights = _class_weights(name, weight, logits)
    soft = target.dtype.kind == "f" and target.shape == logits.shape
    if not soft:
        _check_classes(name, logits, target)
        if label_smoothing == 0:
            return apply(CrossEntropy(ignore_index, reduction), logits, target, *weights)
        likelihood = ClassLikelihood(name, ignore_index, reduction, float(label_smoothing))
        return apply(likelihood, _log_softmax(logits), target, *weights)
    target = _constant(name, target, logits)
    shares = smoothed(target.astype(logits.dtype), float(label_smoothing), *map(plain, weights))
    scale = scale_of(reduction, target.size // max(1, _classes(logits)))
    return apply(SoftNegativeLogLikelihood(shares, scale), _log_softmax(logits))


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Return the negative log-likelihood of `target`, given the classes' log-probabilities.

    Args:
        input: log-probabilities (N, C), (N, C, d1, ...) or (C,), as from `log_softmax`.
        target: the classes, integers of the shape of `input` without C; a constant.
        weight: (C,), a factor for each class; a constant.
        ignore_index: the class that marks examples to leave out.
        reduction: "mean" (weighted by the examples' weights), "sum", or "none".

    Raises:
        ValueError: a class is out of range, the shapes do not match, the reduction is unknown, or a
            target or weight requires a gradient.
        TypeError: the input is not floating-point, or the classes are not integers.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.nll_loss([[-0.5, -1.0], [-2.0, -0.25]], [0, 1])
        tensor(0.375)
    """
    name = "nll_loss"
    logs = _floating(name, input)
    target = _beside(name, "target", target, logs)
    _require_classes(name, logs)
    _check_reduction(name, reduction)
    weights = _class_weights(name, weight, logs)
    _check_classes(name, logs, target)
    return apply(ClassLikelihood(name, ignore_index, reduction), logs, target, *weights)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Return the squared differences of two arrays of equal shape: their mean, sum, or each.

    Raises:
        ValueError: the shapes differ (PyTorch broadcasts them, which is rarely intended), or the
            reduction is unknown.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.mse_loss([1.0, 2.0], [1.0, 4.0])
        tensor(2.)
    """
    name = "mse_loss"
    input, target = as_tensors(input, target)
    _check_reduction(name, reduction)
    _check_shape(name, "target", target.shape, input.shape)
    error = input - target
    return _reduce(error * error, reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """Return the cross entropy between `target` and the logistic function of `input`.

    Args:
        input: logits, of any shape.
        target: probabilities of the positive class, of the same shape; a constant.
        weight: a factor for each element, broadcast to the shape of `input`; a constant.
        reduction: "mean" (over all elements), "sum", or "none".
        pos_weight: a factor for the cost of a missed positive, broadcast to the shape of `input`;
            a constant.

    Raises:
        ValueError: the shapes do not match, the reduction is unknown, or the target or a weight
            requires a gradient.
        TypeError: the input is not floating-point.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.binary_cross_entropy_with_logits([0.0, 100.0], [1.0, 0.0], reduction="none")
        tensor([  0.6931472, 100.       ])
    """
    name = "binary_cross_entropy_with_logits"
    logits = _floating(name, input)
    target = _constant(name, target, logits)
    _check_reduction(name, reduction)
    _check_shape(name, "target", target.shape, logits.shape)
    positive = target.astype(logits.dtype)
    negative = 1 - positive
    if pos_weight is not None:
        positive = positive * _broadcast(name, "pos_weight", pos_weight, logits)
    if weight is not None:
        factor = _broadcast(name, "weight", weight, logits)
        positive, negative = positive * factor, negative * factor
    return _reduce(apply(BinaryCrossEntropy(positive, negative), logits), reduction)


# -- arguments -----------------------------------------------------------------------------------


def _floating(name: str, input: Any) -> Tensor:
    tensor = as_tensor(input)
    if tensor.dtype.kind != "f":
        raise TypeError(
            f"{name}: input must be floating-point, got {tensor.dtype}; convert it with astype"
        )
    return tensor


def _constant(name: str, target: Any, like: Tensor) -> Array:
    """Return a copy of the target, which the operation will hold."""
    target = plain(_beside(name, "target", target, like))
    return beside(name, "target", target, like.data).copy()


def _beside(name: str, argument: str, value: Any, logits: Tensor) -> Any:
    """Return a constant input for an operation: a Tensor, or an array on the logits' device."""
    if not isinstance(value, Tensor):
        return beside(name, argument, value, logits.data)
    if value.requires_grad:
        raise ValueError(
            f"{name}: {argument} is a constant, but requires a gradient; pass {argument}.detach()"
        )
    return value


def _classes(logits: Tensor) -> int:
    return logits.shape[class_axis(logits.ndim)]


def _require_classes(name: str, logits: Tensor) -> None:
    if logits.ndim == 0:
        raise ValueError(f"{name}: input must have an axis of classes, got a single number")


def _class_weights(name: str, weight: Any, logits: Tensor) -> tuple[Any, ...]:
    """Return the classes' weights as an operation's inputs: one input or none."""
    if weight is None:
        return ()
    weight = _beside(name, "weight", weight, logits)
    _check_shape(name, "weight", weight.shape, (_classes(logits),))
    return (weight,)


def _check_classes(name: str, logits: Tensor, target: Any) -> None:
    if target.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: target must hold integer classes or probabilities of shape {logits.shape}, "
            f"got {target.dtype} of shape {target.shape}"
        )
    axis = class_axis(logits.ndim)
    _check_shape(name, "target", target.shape, logits.shape[:axis] + logits.shape[axis + 1 :])


def _log_softmax(logits: Tensor) -> Tensor:
    return apply(LogSoftmax(class_axis(logits.ndim)), logits)


def _check_shape(
    name: str, argument: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    if shape != expected:
        raise ValueError(f"{name}: {argument} must have shape {expected}, got {shape}")


def _broadcast(name: str, argument: str, value: Any, like: Tensor) -> Array:
    value = plain(_beside(name, argument, value, like))
    value = beside(name, argument, value, like.data, like.dtype)
    try:
        return np.broadcast_to(value, like.shape)
    except ValueError:
        raise ValueError(
            f"{name}: {argument} must broadcast to the shape of input, {like.shape}, "
            f"got {value.shape}"
        ) from None


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{name}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
