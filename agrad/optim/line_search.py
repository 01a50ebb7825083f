"""How far each part of an update should go, by the gradient and the average gradient along it."""

from collections.abc import Iterator
from functools import reduce
from typing import Literal, get_args

import numpy as np

from agrad.backend import Array, kernels
from agrad.tensor import Tensor

__all__ = ["GRANULARITIES", "Granularity", "by_group", "search"]

Granularity = Literal["element", "row", "tensor", "model"]
GRANULARITIES = get_args(Granularity)

Search = Iterator[tuple[Tensor, Array, float, float]]


def by_group(array: Array, granularity: Granularity) -> Array:
    """Return a view of a parameter's C-contiguous array with one group a row."""
    if granularity == "element":
        groups = array.size
    elif granularity == "row" and array.ndim > 0:
        groups = array.shape[0]
    else:
        groups = 1
    return array.reshape(groups, array.size // max(groups, 1))


def search(updates: dict[Tensor, Array], granularity: Granularity, cap: float) -> Search:
    """Scale each group of the updates to the minimizer of the sum of its shares of the loss.

    The share of coordinate i at the fraction t is φᵢ(t) = t·gᵢΔᵢ + t²·(ĝᵢ - gᵢ)Δᵢ, from `.grad` and
    `.average_grad` of the parameters; the latter's memory is used up.

    Yields:
        For each parameter, as it is done: the parameter, its groups' fractions in [0, cap], and
        Σ t|gΔ| and Σ |gΔ| over it; with "model", over all for each.
    """
    if granularity == "element":
        return _search_elements(updates, cap)
    return _search_groups(updates, granularity, cap)


def _search_elements(updates: dict[Tensor, Array], cap: float) -> Search:
    for param, delta in updates.items():
        grad, fractions = param.grad.ravel(), param.average_grad.ravel()  # type: ignore[union-attr]
        kernel = kernels(delta).optimizer.search_elements
        kept, whole = kernel(grad, fractions, delta.ravel(), cap)
        yield param, fractions, kept, whole


def _search_groups(updates: dict[Tensor, Array], granularity: Granularity, cap: float) -> Search:
    shares = {}
    for param, delta in updates.items():
        grad, average_grad, rows = (
            by_group(np.ascontiguousarray(array, like=array), granularity)
            for array in (param.grad, param.average_grad, delta)
        )
        shares[param] = np.empty((3, len(rows)), like=rows)
        kernels(delta).optimizer.loss_shares(grad, average_grad, rows, shares[param])
    if granularity == "model":
        shares = dict.fromkeys(shares, reduce(np.add, shares.values()))
    for param, delta in updates.items():
        rows = by_group(delta, granularity)
        fractions = np.empty(len(rows), delta.dtype, like=delta)
        kept, whole = kernels(delta).optimizer.search_groups(shares[param], cap, fractions)
        rows *= fractions[:, None]
        yield param, fractions, kept, whole
