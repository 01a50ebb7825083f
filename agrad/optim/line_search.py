"""How far each part of an update should go, by the gradient and the average gradient along it."""

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from operator import add
from typing import Literal, NamedTuple, get_args

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.flat import Buffer, Flat

__all__ = ["GRANULARITIES", "Granularity", "Proposal", "search", "shorten"]

Granularity = Literal["element", "row", "tensor", "model"]
GRANULARITIES = get_args(Granularity)


class Proposal(NamedTuple):
    """The slopes of the loss by the leaves in a `Flat`, and the update proposed for them.

    The slope g is the loss's gradient. The update may come from another, such as a clipped one.
    """

    flat: Flat
    slope: Array
    delta: Buffer


def search(
    proposals: Sequence[Proposal],
    own_slopes: Sequence[Array],
    averages: Sequence[Array],
    granularity: Granularity,
) -> tuple[float, float]:
    """Scale each group of the updates to the minimizer of the sum of its shares of the loss.

    The share of coordinate i at the fraction t is φᵢ(t) = t·gᵢΔᵢ + t²·(ĝᵢ - pᵢ)Δᵢ, where ĝ and p,
    the average and the ordinary gradient, are those of the loss that was measured. A group whose
    shares do not change the loss at all, such as that of an unused weight, keeps its whole update.

    Args:
        proposals: The slopes g and the updates Δ, which are scaled in place.
        own_slopes: p for each proposal, in its layout; g itself if that was measured.
        averages: ĝ likewise; the memory is overwritten.
        granularity: The groups.

    Returns:
        The sums of -s Σ pΔ and of -Σ pΔ over the groups in which Σ pΔ is negative, where s
        minimizes the group's share of the measured loss.
    """
    if granularity == "element":
        sums = _search_elements(proposals, own_slopes, averages)
    else:
        sums = _search_groups(proposals, own_slopes, averages, granularity)
    used, usable = map(partial(reduce, add), zip(*sums))
    return used, usable


def shorten(
    proposals: Sequence[Proposal],
    curvatures: Sequence[Array],
    granularity: Granularity,
) -> None:
    """Scale each group of the updates as `search` does, with ĝ - p = sΔ by known curvatures s.

    Args:
        proposals: The slopes g and the updates Δ, which are scaled in place.
        curvatures: s for each proposal, in its layout.
        granularity: The groups.
    """
    if granularity == "element":
        for (_, slope, delta), curvature in zip(proposals, curvatures):
            kernels(slope).optimizer.shorten_elements(slope, curvature, delta.array)
    else:
        slopes = [slope for _, slope, _ in proposals]
        averages = [
            slope + curvature * delta.array
            for (_, slope, delta), curvature in zip(proposals, curvatures)
        ]
        search(proposals, slopes, averages, granularity)


def _search_elements(
    proposals: Sequence[Proposal],
    own_slopes: Sequence[Array],
    averages: Sequence[Array],
) -> Iterator[tuple[float, float]]:
    for (_, slope, delta), own, average in zip(proposals, own_slopes, averages):
        yield kernels(slope).optimizer.search_elements(slope, own, average, delta.array)


def _search_groups(
    proposals: Sequence[Proposal],
    own_slopes: Sequence[Array],
    averages: Sequence[Array],
    granularity: Granularity,
) -> Iterator[tuple[float, float]]:
    deltas, shares = {}, {}
    for (flat, slope, buffer), own, average in zip(proposals, own_slopes, averages):
        parts = *map(flat.split, (slope, own, average)), buffer.views
        for param, *arrays in zip(flat.tensors, *parts):
            g, p, averaged, rows = (_by_group(array, granularity) for array in arrays)
            deltas[param] = arrays[-1]
            shares[param] = np.empty((3, len(rows)), like=rows)
            kernels(rows).optimizer.loss_shares(g, p, averaged, rows, shares[param])
    if granularity == "model":
        shares = dict.fromkeys(shares, reduce(np.add, shares.values()))
    for param, delta in deltas.items():
        rows = _by_group(delta, granularity)
        fractions = np.empty(len(rows), delta.dtype, like=delta)
        yield kernels(delta).optimizer.search_groups(shares[param], fractions)
        rows *= fractions[:, None]


def _by_group(array: Array, granularity: Granularity) -> Array:
    """Return a view of a parameter's C-contiguous array with one group per row."""
    rows = array.shape[0] if granularity == "row" and array.ndim > 0 else 1
    return array.reshape(rows, array.size // max(rows, 1))
