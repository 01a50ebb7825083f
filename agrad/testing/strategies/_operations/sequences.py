"""Cases of functions of sequences."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad import functions as f
from agrad.backend import Array
from agrad.core.tensor import Tensor
from agrad.ops import sequence
from agrad.testing.strategies._arrays import seeds, shapes
from agrad.testing.strategies._operations.case import Case, Cases, Entry
from agrad.testing.strategies._points import REAL, points

__all__ = ["ENTRIES"]


@st.composite
def embedded(draw: st.DrawFn) -> Case:
    count, features = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    ids = np.random.default_rng(draw(seeds)).integers(0, count, draw(shapes()))
    padding = draw(st.none() | st.integers(-count, count - 1))
    # The gradient treats the padding row as constant, so the function must not depend on it.
    rows = np.arange(count)[:, None]
    moving = rows >= 0 if padding is None else rows != padding % count

    def function(weight: Tensor, ids: Array, padding_idx: int | None, moving: Array) -> Tensor:
        return F.embedding(ids, f.where(moving, weight, 0.0), padding_idx)

    def reference(weight: Array, ids: Array, padding_idx: int | None, moving: Array) -> Array:
        return np.where(moving, weight, 0.0)[ids]

    options = {"ids": ids, "padding_idx": padding, "moving": moving}
    return Case(function, draw(points(((count, features), REAL))), (REAL,), options, reference)


def pooled(function: Callable[..., Tensor], reference: Callable[..., Any]) -> Cases:
    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        *batch, channels, length = draw(shapes(min_dims=2, min_side=1))
        rng = np.random.default_rng(draw(seeds))
        mask = rng.random((*batch, length)) < 0.5
        mask[..., rng.integers(length)] = True
        inputs = draw(points(((*batch, channels, length), REAL)))
        return Case(function, inputs, (REAL,), {"mask": mask}, reference)

    return cases()


def masked_max(x: Array, mask: Array) -> Any:
    return np.where(mask[..., None, :], x, -np.inf).max(axis=-1)


def masked_mean(x: Array, mask: Array) -> Any:
    return np.mean(x, axis=-1, where=mask[..., None, :])


ENTRIES = {
    "embedding": Entry(sequence.Embedding, embedded()),
    "global_max_pool1d": Entry(sequence.MaskedMax, pooled(F.global_max_pool1d, masked_max)),
    "global_avg_pool1d": Entry(sequence.MaskedMean, pooled(F.global_avg_pool1d, masked_mean)),
}
