"""Losses: how far an output is from its target."""

import builtins
import math
from typing import Any

import numpy as np

from agrad.arguments import require, require_not_negative
from agrad.backend import Array, beside
from agrad.core.arguments import floating
from agrad.core.tensor import Tensor, apply, as_tensors, plain
from agrad.functions import abs, broadcast_to, exp, log, maximum, minimum, sqrt, sum, where
from agrad.linalg import norm
from agrad.nn.functional.activation import relu
from agrad.ops.ctc import CTC
from agrad.ops.loss import (
    BinaryCrossEntropy,
    ClassLikelihood,
    CrossEntropy,
    Huber,
    ProbabilityEntropy,
    SoftNegativeLogLikelihood,
    Within,
    class_axis,
    scale_of,
    smoothed,
)
from agrad.ops.softmax import LogSoftmax

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "pairwise_distance",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "triplet_margin_loss",
]


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
        input: Logits (N, C), (N, C, d1, ...) or (C,); minus infinity rules a class out.
        target: The classes, integers of the shape of `input` without C, or the classes'
            probabilities, of the shape of `input`; a constant. Classes can be an argument of a
            captured function.
        weight: (C,), a factor for each class; a constant.
        ignore_index: The class that marks examples to leave out.
        reduction: "mean", "sum", or "none" for the loss of each example. With classes as targets
            the mean is weighted by the examples' weights.
        label_smoothing: The share, 0 to 1, of each target that is spread evenly over all classes
            (Szegedy et al., "Rethinking the Inception Architecture", 2016).

    Raises:
        ValueError: A class is out of range, the shapes do not match, label_smoothing is outside
            [0, 1], the reduction is unknown, or a target or weight requires a gradient.
        TypeError: The logits are neither float32 nor float64, or the classes are not integers.

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
        input: Log-probabilities (N, C), (N, C, d1, ...) or (C,), as from `log_softmax`.
        target: The classes, integers of the shape of `input` without C; a constant.
        weight: (C,), a factor for each class; a constant.
        ignore_index: The class that marks examples to leave out.
        reduction: "mean" (weighted by the examples' weights), "sum", or "none".

    Raises:
        ValueError: A class is out of range, the shapes do not match, the reduction is unknown, or a
            target or weight requires a gradient.
        TypeError: The input is neither float32 nor float64, or the classes are not integers.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.nll_loss([[-0.5, -1.0], [-2.0, -0.25]], [0, 1])
        tensor(0.375)
    """
    name = "nll_loss"
    logs = floating(name, "input", input)
    target = _beside(name, "target", target, logs)
    _require_classes(name, logs)
    _check_reduction(name, reduction)
    weights = _class_weights(name, weight, logs)
    _check_classes(name, logs, target)
    return apply(ClassLikelihood(name, ignore_index, reduction), logs, target, *weights)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Return the absolute differences of two arrays of equal shape: their mean, sum, or each.

    Raises:
        ValueError: The shapes differ, or the reduction is unknown.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.l1_loss([1.0, 2.0], [1.0, 4.0])
        tensor(1.)
    """
    return _reduce(abs(_error("l1_loss", input, target, reduction)), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Return e²/2 of each difference e up to `delta`, and delta (|e| - delta / 2) beyond.

    Args:
        input: An array.
        target: An array of the same shape.
        reduction: "mean", "sum", or "none".
        delta: The difference at which the square turns into a line; positive.

    Source: Huber, "Robust Estimation of a Location Parameter", 1964.

    Raises:
        ValueError: The shapes differ, the reduction is unknown, or delta is not positive and
            finite.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.huber_loss([1.0, 2.0], [1.5, 5.0], reduction="none")
        tensor([0.125, 2.5  ])
    """
    require("huber_loss", "be positive", lambda x: x > 0, delta=delta)
    error = _error("huber_loss", input, target, reduction)
    return _reduce(apply(Huber(delta), error), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Return e²/(2 beta) of each difference e up to `beta`, and |e| - beta / 2 beyond.

    This is `huber_loss` divided by beta, and `l1_loss` for beta = 0.

    Raises:
        ValueError: The shapes differ, the reduction is unknown, or beta is negative or infinite.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.smooth_l1_loss([1.0, 2.0], [1.5, 5.0], reduction="none", beta=2.0)
        tensor([0.0625, 2.    ])
    """
    require_not_negative("smooth_l1_loss", beta=beta)
    error = _error("smooth_l1_loss", input, target, reduction)
    return _reduce(apply(Huber(beta), error) / beta if beta else abs(error), reduction)


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Return the cross entropy between `target` and `input`, both probabilities.

    No logarithm is below -100, as in PyTorch. For a network's output use
    `binary_cross_entropy_with_logits`, which is accurate everywhere.

    Args:
        input: Probabilities of the positive class, of any shape.
        target: Probabilities of the same shape.
        weight: A factor for each element, broadcast to the shape of `input`.
        reduction: "mean" (over all elements), "sum", or "none".

    Raises:
        ValueError: A probability is outside [0, 1], the shapes do not match, or the reduction is
            unknown.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.binary_cross_entropy([0.5, 0.0], [1.0, 1.0], reduction="none")
        tensor([  0.6931472, 100.       ])
    """
    name = "binary_cross_entropy"
    input, target = _pair(name, input, target, reduction)
    x = apply(Within(f"{name}: input", 0, 1), input)
    losses = apply(ProbabilityEntropy(), x, apply(Within(f"{name}: target", 0, 1), target))
    if weight is not None:
        (weight,) = as_tensors(weight)
        _check_broadcast(name, "weight", weight.shape, input.shape)
        losses = losses * _of_dtype(weight, losses)
    return _reduce(losses, reduction)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Return target · (log target - input), the terms of the Kullback-Leibler divergence.

    Args:
        input: Log-probabilities.
        target: Probabilities, or with `log_target` their logarithms, of the same shape.
        reduction: "batchmean" for the divergence, the sum divided by the length of the first axis;
            "mean" over all elements; "sum", or "none".
        log_target: Whether `target` holds logarithms.

    Raises:
        ValueError: The shapes differ, a probability is negative, or the reduction is unknown.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.kl_div(F.log_softmax([[0.0, 0.0]], 1), [[0.0, 1.0]], reduction="batchmean")
        tensor(0.6931472)
    """
    name = "kl_div"
    input, target = _pair(name, input, target, "sum" if reduction == "batchmean" else reduction)
    if log_target:
        losses = exp(target) * (target - input)
    else:
        target = apply(Within(f"{name}: target", 0), target)
        # 0 log 0 is 0.
        logs = log(maximum(target, float(np.finfo(target.dtype).tiny)))
        losses = target * (logs - input)
    if reduction == "batchmean":
        total: Tensor = losses.sum() / (input.shape[0] if input.ndim else 1)
        return total
    return _reduce(losses, reduction)


def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Return the negative log-likelihood of `target` under normal distributions.

    Args:
        input: The means, of any shape.
        target: An array of the same shape.
        var: The variances: of the same shape, with a last axis of length one, without the last
            axis, or a number. Variances below `eps` are replaced by eps and get no gradient.
        full: Whether to add the constant log(2π) / 2.
        eps: The least variance; positive.
        reduction: "mean" (over all elements), "sum", or "none".

    Source: Nix and Weigend, "Estimating the Mean and Variance of the Target Probability
    Distribution", 1994.

    Raises:
        ValueError: A variance is negative, eps is not positive, the shapes do not match, or the
            reduction is unknown.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.gaussian_nll_loss([1.0, 2.0], [1.0, 4.0], [1.0, 1.0], reduction="none")
        tensor([0., 2.])
    """
    name = "gaussian_nll_loss"
    if not eps > 0:
        raise ValueError(f"{name}: eps must be positive, got {eps}")
    input, target = _pair(name, input, target, reduction)
    var = _of_dtype(as_tensors(var, input)[0], input)
    if var.ndim and var.shape == input.shape[:-1]:
        var = var.reshape(*var.shape, 1)
    if var.shape not in ((), input.shape, (*input.shape[:-1], 1)):
        raise ValueError(
            f"{name}: var must have the shape of input, {input.shape}, that with a last axis of "
            f"length one, or that without it; got {var.shape}"
        )
    var = maximum(apply(Within(f"{name}: var", 0), var), eps)
    error = input - target
    losses = (log(var) + error * error / var) * 0.5
    return _reduce(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Return the negative log-likelihood of counts under Poisson distributions.

    Args:
        input: The logarithms of the means or, without `log_input`, the means; of any shape.
        target: The counts, of the same shape.
        log_input: Whether `input` holds logarithms.
        full: Whether to add Stirling's approximation of log(target!), for targets above 1. A
            captured function then cannot take the target as an argument.
        eps: A small number added to means before taking the logarithm.
        reduction: "mean" (over all elements), "sum", or "none".

    Raises:
        ValueError: The shapes do not match, or the reduction is unknown.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.poisson_nll_loss([0.0, 0.0], [1.0, 3.0], reduction="none")
        tensor([1., 1.])
    """
    name = "poisson_nll_loss"
    input, target = _pair(name, input, target, reduction)
    losses = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        count = maximum(target, 1)
        stirling = count * log(count) - count + 0.5 * log(2 * math.pi * count)
        losses = losses + where(target > 1, stirling, 0)
    return _reduce(losses, reduction)


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Return x where the target is 1, and max(0, margin - x) where it is -1.

    Args:
        input: Distances x, of any shape.
        target: 1 for pairs that belong together and -1 for pairs that do not, of the same shape.
        margin: The distance beyond which a pair of the latter kind costs nothing.
        reduction: "mean" (over all elements), "sum", or "none".

    Raises:
        ValueError: A target is neither 1 nor -1, the shapes do not match, or the reduction is
            unknown.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.hinge_embedding_loss([0.25, 0.25, 3.0], [1, -1, -1], reduction="none")
        tensor([0.25, 0.75, 0.  ])
    """
    name = "hinge_embedding_loss"
    input, target = _pair(name, input, target, reduction)
    together = _together(name, target)
    return _reduce(together * input + (1 - together) * relu(margin - input), reduction)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the cosines of the angles between vectors along the axis `dim`.

    Norms below `eps` count as `eps`. Shapes broadcast.

    Raises:
        ValueError: The shapes do not match, or `dim` is out of range.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.cosine_similarity([[1.0, 0.0]], [[3.0, 4.0]])
        tensor([0.6])
    """
    x1, x2 = _vectors("cosine_similarity", x1=x1, x2=x2)
    product = x1 * x2
    x1, x2 = (broadcast_to(x, product.shape) for x in (x1, x2))
    lengths = maximum(norm(x1, axis=dim), eps) * maximum(norm(x2, axis=dim), eps)
    return sum(product, dim) / lengths


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Return 1 - cos where the target is 1, and max(0, cos - margin) where it is -1.

    Args:
        input1: Vectors (N, D), or one (D,).
        input2: Vectors of the same shape.
        target: 1 for pairs that should be alike and -1 for others, (N,) or a number.
        margin: The cosine, -1 to 1, below which pairs of the latter kind cost nothing.
        reduction: "mean", "sum", or "none".

    Raises:
        ValueError: A target is neither 1 nor -1, the shapes do not match, or the reduction is
            unknown.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.cosine_embedding_loss([[1.0, 0.0]], [[0.0, 2.0]], [1])
        tensor(1.)
    """
    name = "cosine_embedding_loss"
    _check_reduction(name, reduction)
    input1, input2 = _vectors(name, input1=input1, input2=input2)
    (target,) = as_tensors(target)
    _check_shape(name, "input2", input2.shape, input1.shape)
    if input1.ndim not in (1, 2):
        raise ValueError(f"{name}: input1 must have shape (N, D) or (D,), got {input1.shape}")
    _check_shape(name, "target", target.shape, input1.shape[:-1])
    squares = (sum(input1 * input1, -1) + 1e-12) * (sum(input2 * input2, -1) + 1e-12)
    cosine = sum(input1 * input2, -1) / sqrt(squares)
    together = _together(name, _of_dtype(target, input1))
    losses = together * (1 - cosine) + (1 - together) * relu(cosine - margin)
    return _reduce(losses, reduction)


def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """Return the p-norms of x1 - x2 + eps along the last axis. Shapes broadcast.

    Raises:
        ValueError: The shapes do not match, or p is neither positive nor infinite.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.pairwise_distance([[0.0, 0.0]], [[3.0, 4.0]], eps=0.0)
        tensor([5.])
    """
    x1, x2 = _vectors("pairwise_distance", x1=x1, x2=x2)
    return norm(x1 - x2 + eps, p, -1, keepdim)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm distance.

    Args:
        anchor: Vectors (N, D), or one (D,).
        positive: Vectors of the same shape that should be nearer than the negative ones.
        negative: Vectors of the same shape.
        margin: By how much the positive vectors should be nearer.
        p: The norm, see `pairwise_distance`.
        eps: A small number added to each difference.
        swap: Whether the distance from the positive to the negative vector counts where it is less
            than the distance from the anchor to the negative one.
        reduction: "mean", "sum", or "none".

    Source: Balntas et al., "Learning Shallow Convolutional Feature Descriptors with Triplet
    Losses", 2016.

    Raises:
        ValueError: The shapes do not match, or the reduction is unknown.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.triplet_margin_loss([[0.0]], [[1.0]], [[3.0]], margin=3.0, eps=0.0)
        tensor(1.)
    """
    name = "triplet_margin_loss"
    _check_reduction(name, reduction)
    anchor, positive, negative = _vectors(name, anchor=anchor, positive=positive, negative=negative)
    _check_shape(name, "positive", positive.shape, anchor.shape)
    _check_shape(name, "negative", negative.shape, anchor.shape)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduce(relu(pairwise_distance(anchor, positive, p, eps) - far + margin), reduction)


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Return the negative log-likelihood of label sequences, summed over all alignments.

    The gradient is the derivative with respect to `log_probs`. PyTorch's gradient assumes that they
    come from log_softmax; if they do, the two agree. Higher derivatives are not supported.

    Args:
        log_probs: Log-probabilities (T, N, C) of C classes at T times in N sequences, or (T, C) for
            a single sequence.
        targets: The classes: (N, S), or those of all sequences concatenated; (S,) for a single
            sequence. Constants, none of them the blank.
        input_lengths: The number of times in each sequence, (N,), or of a single sequence a number.
        target_lengths: The number of classes in each sequence, likewise.
        blank: The class that stands for no label.
        reduction: "mean" of the losses, each divided by its number of labels; "sum", or "none".
        zero_infinity: Whether a sequence too short for its labels has the loss 0, rather than
            infinity.

    Source: Graves et al., "Connectionist Temporal Classification", 2006.

    Raises:
        ValueError: A length or a class is out of range, the shapes do not match, or the reduction
            is unknown.
        TypeError: The log-probabilities are neither float32 nor float64, or classes or lengths are
            not integers.

    Example:
        >>> import agrad.nn.functional as F
        >>> log_probs = F.log_softmax(np.zeros((2, 1, 3), "float32"), 2)
        >>> F.ctc_loss(log_probs, [[1]], [2], [1])  # -log 3/9: the paths 11, 01, 10
        tensor(1.0986123)
    """
    name = "ctc_loss"
    _check_reduction(name, reduction)
    logs = floating(name, "log_probs", log_probs)
    single = logs.ndim == 2
    if single:
        logs = logs.reshape(logs.shape[0], 1, logs.shape[1])
    if logs.ndim != 3:
        raise ValueError(f"{name}: log_probs must have shape (T, N, C) or (T, C), got {logs.shape}")
    count, classes = logs.shape[1:]
    if not 0 <= blank < classes:
        raise ValueError(f"{name}: blank must be a class from 0 to {classes - 1}, got {blank}")
    labels, lengths, label_lengths = (
        _whole(name, argument, value, logs)
        for argument, value in (
            ("targets", targets),
            ("input_lengths", input_lengths),
            ("target_lengths", target_lengths),
        )
    )
    lengths, label_lengths = lengths.reshape(-1), label_lengths.reshape(-1)
    _check_shape(name, "input_lengths", lengths.shape, (count,))
    _check_shape(name, "target_lengths", label_lengths.shape, (count,))
    if labels.ndim == 1:
        labels = labels.reshape(1, -1) if single else _padded(name, labels, label_lengths)
    if labels.ndim != 2 or labels.shape[0] != count:
        raise ValueError(
            f"{name}: targets must have shape ({count}, S) for log_probs of shape {logs.shape}, or "
            f"one axis with all classes; got {labels.shape}"
        )
    losses = apply(CTC(blank, zero_infinity), logs, labels, lengths, label_lengths)
    if reduction == "mean":
        losses = losses / maximum(label_lengths, 1).astype(losses.dtype)
    return losses.reshape(()) if single and reduction == "none" else _reduce(losses, reduction)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Return the squared differences of two arrays of equal shape: their mean, sum, or each.

    Raises:
        ValueError: The shapes differ (PyTorch broadcasts them, which is rarely intended), or the
            reduction is unknown.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.mse_loss([1.0, 2.0], [1.0, 4.0])
        tensor(2.)
    """
    error = _error("mse_loss", input, target, reduction)
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
        input: Logits, of any shape.
        target: Probabilities of the positive class, of the same shape; a constant.
        weight: A factor for each element, broadcast to the shape of `input`; a constant.
        reduction: "mean" (over all elements), "sum", or "none".
        pos_weight: A factor for the cost of a missed positive, broadcast to the shape of `input`;
            a constant.

    Raises:
        ValueError: The shapes do not match, the reduction is unknown, or the target or a weight
            requires a gradient.
        TypeError: The input is neither float32 nor float64.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.binary_cross_entropy_with_logits([0.0, 100.0], [1.0, 0.0], reduction="none")
        tensor([  0.6931472, 100.       ])
    """
    name = "binary_cross_entropy_with_logits"
    logits = floating(name, "input", input)
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


def _error(name: str, input: Any, target: Any, reduction: str) -> Tensor:
    """Return the differences of two arrays of equal shape."""
    input, target = as_tensors(input, target)
    _check_reduction(name, reduction)
    _check_shape(name, "target", target.shape, input.shape)
    return _of_floats(name, "input - target", input - target)


def _vectors(name: str, **arrays: Any) -> list[Tensor]:
    """Return arrays as Tensors, which must hold floats."""
    tensors = as_tensors(*arrays.values())
    return [_of_floats(name, argument, x) for argument, x in zip(arrays, tensors)]


def _of_floats(name: str, argument: str, x: Tensor) -> Tensor:
    """Return `x`, in whose dtype differences and products must not wrap around."""
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: {argument} must be floating-point, not {x.dtype}; use astype")
    return x


def _pair(name: str, input: Any, target: Any, reduction: str) -> tuple[Tensor, Tensor]:
    """Return an input of float32 or float64, and a target of its shape and dtype."""
    _check_reduction(name, reduction)
    x = floating(name, "input", input)
    target = as_tensors(target, x)[0]
    _check_shape(name, "target", target.shape, x.shape)
    return x, _of_dtype(target, x)


def _of_dtype(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor if tensor.dtype == like.dtype else tensor.astype(like.dtype)


def _together(name: str, target: Tensor) -> Tensor:
    """Return 1 where a target is 1, and 0 where it is -1."""
    return (apply(Within(f"{name}: target", -1, 1, at_ends=True), target) + 1) / 2


def _whole(name: str, argument: str, value: Any, logs: Tensor) -> Tensor:
    """Return integers as a Tensor on the device of the log-probabilities."""
    known = value if isinstance(value, Tensor) else Tensor(beside(name, argument, value, logs.data))
    if known.dtype.kind not in "iu":
        raise TypeError(f"{name}: {argument} must hold integers, got {known.dtype}")
    return known


def _padded(name: str, labels: Tensor, lengths: Tensor) -> Tensor:
    """Split concatenated classes into a row for each sequence."""
    counts = lengths.tolist()
    if min(counts, default=0) < 0 or builtins.sum(counts) != labels.shape[0]:
        raise ValueError(
            f"{name}: targets has {labels.shape[0]} classes, but target_lengths are {counts}"
        )
    starts = np.cumsum([0, *counts[:-1]])[:, np.newaxis]
    places = np.minimum(starts + np.arange(max(counts, default=0)), max(labels.shape[0] - 1, 0))
    return labels[places]


def _check_broadcast(
    name: str, argument: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    try:
        fits = np.broadcast_shapes(shape, expected) == expected
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name}: {argument} must broadcast to the shape of input, {expected}, got {shape}"
        )


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
    _check_broadcast(name, argument, value.shape, like.shape)
    return np.broadcast_to(value, like.shape)


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{name}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
