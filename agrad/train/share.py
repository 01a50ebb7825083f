"""The rows of a batch that one of several ranks computes, and what they weigh in its loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import agrad.nn.functional as F
from agrad.backend import Array, move
from agrad.core.context import no_grad
from agrad.core.tensor import Tensor
from agrad.data.several import examples
from agrad.distributed import Ranks
from agrad.train.entropy import entropy_of

__all__ = ["LossFunction", "Share", "mean_loss", "row_weights", "share_of"]

LossFunction = Callable[[Tensor, Any], Tensor]

_ROUNDING = 1000  # units in the last place, of a mean of many rows


class Share(NamedTuple):
    """The rows of a batch that a rank computes.

    A rank that has no row, or none that counts, computes one whose loss it multiplies by 0.

    Attributes:
        rows: Which rows.
        weight: What their mean loss weighs in that of the batch.
        first: On how many of them a step is measured; None if on all.
        first_weight: What the mean loss of these weighs in that of all rows it is measured on.
    """

    rows: slice
    weight: float
    first: int | None
    first_weight: float


def row_weights(owner: str, loss_function: LossFunction, x: Any, targets: Any) -> Array:
    """Return what each row of a batch weighs in its mean loss: as much as all of its labels."""
    weights = np.ones(examples(owner, x))
    if len(targets) != len(weights):
        raise ValueError(f"{owner}: got {len(weights)} inputs and {len(targets)} targets")
    entropy = entropy_of(loss_function)
    if entropy is not None and targets.dtype.kind in "iu":
        known = entropy.label_weights(move(targets, "cpu")).reshape(len(targets), -1)
        weights = known.sum(axis=1).astype(np.float64)
    return weights


def share_of(ranks: Ranks, weights: Array, probe_size: int | None) -> Share:
    """Return a rank's share of a batch whose rows have these weights.

    Args:
        ranks: The rank and the others.
        weights: Of each row.
        probe_size: On how many rows of the batch a step is measured; None for all. If none of
            them counts, it is measured on all.

    Example:
        The second of two ranks computes the rows 1 and 3 of five, and measures on one of them:

        >>> from types import SimpleNamespace
        >>> second = SimpleNamespace(rank=1, size=2, rows=slice(1, None, 2))
        >>> share_of(second, np.ones(5), probe_size=3)
        Share(rows=slice(1, None, 2), weight=0.4, first=1, first_weight=0.333...)
    """
    rows, own = ranks.rows, weights[ranks.rows]
    counting = np.flatnonzero(own)
    if not len(counting):
        some = int(np.argmax(weights > 0))
        rows = slice(some, some + 1)
    weight = float(own.sum() / weights.sum())
    measured = weights[:probe_size]
    if len(measured) == len(weights) or not measured.any():
        return Share(rows, weight, None, weight)
    first_weight = float(measured[ranks.rows].sum() / measured.sum())
    least = int(counting[0]) + 1 if len(counting) else 1
    return Share(rows, weight, max(len(measured[ranks.rows]), least), first_weight)


def mean_loss(loss_function: LossFunction, output: Tensor, targets: Any) -> Tensor:
    """Return the loss, after a check that it is a mean over the examples.

    Only for means is the weight of each rank's loss in that of the batch known.

    Raises:
        ValueError: The loss is not the mean of the losses of its examples.
    """
    loss = loss_function(output, targets)
    entropy = entropy_of(loss_function)
    is_mean = loss_function is F.mse_loss if entropy is None else entropy.reduction == "mean"
    if is_mean or len(targets) < 2:
        return loss
    half = len(targets) // 2
    with no_grad():
        parts = [
            loss_function(Tensor(output.data[part]), targets[part]).item()
            for part in (slice(half), slice(half, None))
        ]
    mean = (half * parts[0] + (len(targets) - half) * parts[1]) / len(targets)
    allowed = _ROUNDING * np.finfo(loss.dtype).eps * max(map(abs, parts))
    if abs(loss.item() - mean) > allowed:
        raise ValueError(
            "train: over several ranks loss_function must return the mean of the losses of its "
            f"examples, but it is {loss.item():.6g} for {len(targets)} of them and on average "
            f"{mean:.6g} for its two halves; make it a mean, or sum the ranks' losses in a loop of "
            "your own, see agrad.distributed"
        )
    return loss
