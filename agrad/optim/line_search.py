"""How far each part of an update should go, by the gradient and the average gradient along it."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.flat import Buffer, Flat
from agrad.core.tensor import Tensor

__all__ = ["GRANULARITIES", "Granularity", "Proposal", "by_group", "scale", "search"]

Granularity = Literal["element", "row", "tensor", "model"]
GRANULARITIES = get_args(Granularity)


class Proposal(NamedTuple):
    """The gradients of the leaves in a `Flat`, and the update proposed for them."""

    flat: Flat
    grad: Array
    delta: Buffer


Found = Iterator[tuple[tuple[Tensor, ...], tuple[Array, ...], float, float]]


def by_group(array: Array, granularity: Granularity) -> Array:
    """Return a view of a parameter's C-contiguous array with one group per row."""
    rows = array.shape[0] if granularity == "row" and array.ndim > 0 else 1
    return array.reshape(rows, array.size // max(rows, 1))


def search(proposals: Sequence[Proposal], granularity: Granularity, cap: float) -> Found:
    """Scale each group of the updates to the minimizer of the sum of its shares of the loss.

    The share of coordinate i at the fraction t is φᵢ(t) = t·gᵢΔᵢ + t²·(ĝᵢ - gᵢ)Δᵢ, where ĝ is the
    parameters' `.average_grad`, whose memory is overwritten.

    Yields:
        For a few parameters at a time: the parameters, their groups' fractions in [0, cap] (in the
        parameter's shape for single elements, otherwise one for each group), and Σ t|gΔ| and
        Σ |gΔ| over these parameters; for "model", each time over all parameters.
    """
    if granularity == "element":
        return _search_elements(proposals, cap)
    return _search_groups(proposals, granularity, cap)


def scale(proposal: Proposal, fractions: list[Array], granularity: Granularity) -> None:
    """Scale the updates of all leaves by fractions found in an earlier step."""
    flat, _, updates = proposal
    if granularity == "element":
        np.multiply(updates.array, flat.gather(fractions), out=updates.array)
        return
    for delta, own in zip(updates.views, fractions):
        rows = by_group(delta, granularity)
        rows *= own[:, None]


def _search_elements(proposals: Sequence[Proposal], cap: float) -> Found:
    for flat, grad, delta in proposals:
        averages: list[Any] = [param.average_grad for param in flat.tensors]
        average_grad = flat.gather(averages)
        kernel = kernels(grad).optimizer.search_elements
        kept, whole = kernel(grad, average_grad, delta.array, cap)
        yield flat.tensors, flat.split(average_grad), kept, whole


def _search_groups(proposals: Sequence[Proposal], granularity: Granularity, cap: float) -> Found:
    deltas = {
        param: delta
        for flat, _, buffer in proposals
        for param, delta in zip(flat.tensors, buffer.views)
    }
    shares = {}
    for param, delta in deltas.items():
        grad, average_grad, rows = (
            by_group(np.ascontiguousarray(array, like=array), granularity)
            for array in (param.grad, param.average_grad, delta)
        )
        shares[param] = np.empty((3, len(rows)), like=rows)
        kernels(delta).optimizer.loss_shares(grad, average_grad, rows, shares[param])
    if granularity == "model":
        shares = dict.fromkeys(shares, reduce(np.add, shares.values()))
    for param, delta in deltas.items():
        rows = by_group(delta, granularity)
        fractions = np.empty(len(rows), delta.dtype, like=delta)
        kept, whole = kernels(delta).optimizer.search_groups(shares[param], cap, fractions)
        rows *= fractions[:, None]
        yield (param,), (fractions,), kept, whole
