"""Cases of functions of sequences."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad import functions as f
from agrad.backend import Array
from agrad.core.tensor import Tensor, apply
from agrad.ops import recurrent as ops
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


@st.composite
def recurrent(draw: st.DrawFn, kind: type[ops.Recurrent], masked: bool) -> Case:
    steps, batch, width = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    reverse, started = draw(st.booleans()), draw(st.booleans())
    biased = kind is ops.GRU and draw(st.booleans())
    options = {"activation": "tanh"} if kind is ops.RNN else {}
    rows = kind.gates * width
    drawn = [(steps, batch, rows), (rows, width)]
    drawn += [(batch, width)] * ((1 + kind.has_cell) * started) + [(rows,)] * biased
    lengths = np.random.default_rng(draw(seeds)).integers(0, steps + 1, batch)
    shape = (steps + 1, batch, width)

    def function(*inputs: Any, **masks: Any) -> Tensor:
        # Where gates saturate, derivatives are only as accurate as the values they come from.
        small = [0.25 * x for x in inputs]
        record = apply(kind(reverse, started, biased, masked, **options), *small, *masks.values())
        parts = [apply(ops.States(0, shape), record)]
        if kind.has_cell:
            parts.append(apply(ops.States(parts[0].size, shape), record))
        return f.concatenate(parts)

    inputs = draw(points(*[(shape, REAL) for shape in drawn]))
    given = {"lengths": lengths} if masked else {}
    return Case(function, inputs, (REAL,) * len(inputs), given)


@st.composite
def stopped(draw: st.DrawFn) -> Case:
    steps, batch, width = (draw(st.integers(1, 3)) for _ in range(3))
    lengths = np.random.default_rng(draw(seeds)).integers(0, steps + 1, batch)

    def function(x: Tensor, lengths: Array) -> Tensor:
        return apply(ops.Padded(), x, lengths)

    def reference(x: Array, lengths: Array) -> Array:
        return np.where(np.arange(steps)[:, None, None] < lengths[:, None], x, 0)

    inputs = draw(points(((steps, batch, width), REAL)))
    return Case(function, inputs, (REAL,), {"lengths": lengths}, reference)


ENTRIES = {
    "rnn": Entry(ops.RNN, recurrent(ops.RNN, masked=False)),
    "gru": Entry(ops.GRU, recurrent(ops.GRU, masked=False)),
    "lstm": Entry(ops.LSTM, recurrent(ops.LSTM, masked=False)),
    "rnn of lengths": Entry(ops.States, recurrent(ops.RNN, masked=True)),
    "gru of lengths": Entry(ops.States, recurrent(ops.GRU, masked=True)),
    "lstm of lengths": Entry(ops.States, recurrent(ops.LSTM, masked=True)),
    "padding with zeros": Entry(ops.Padded, stopped()),
    "embedding": Entry(sequence.Embedding, embedded()),
    "global_max_pool1d": Entry(sequence.MaskedMax, pooled(F.global_max_pool1d, masked_max)),
    "global_avg_pool1d": Entry(sequence.MaskedMean, pooled(F.global_avg_pool1d, masked_mean)),
}
