"""Connectionist temporal classification: the likelihood of labels without an alignment.

Graves et al., "Connectionist Temporal Classification", 2006. The labels with a blank before,
between and after them are the states of a chain, which a path visits in order; it may skip a blank
between two different labels. The likelihood is the sum over all paths, computed by recursion over
time, forward for the value and backward for the gradient, in logarithms of double precision.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.operation import Gradients, Operation, Point, Requirement, Smooth, owned

__all__ = ["CTC", "PathLikelihood"]


class CTC(Operation):
    """-log p(labels) of each sequence, given log-probabilities x (T, N, C) of all classes.

    The labels are (N, S), of which the first `label_lengths` (N,) count, as do the first `lengths`
    (N,) of the times. With `zero_infinity` an impossible sequence has the loss and the gradient 0.
    """

    promotes = False

    def __init__(self, blank: int, zero_infinity: bool) -> None:
        self.blank = owned(blank)
        self.zero_infinity = owned(zero_infinity)

    def requires(
        self, x: Array, labels: Array, lengths: Array, label_lengths: Array
    ) -> Iterator[Requirement]:
        times, _, classes = x.shape
        for name, values, most in (
            ("input_lengths", lengths, times),
            ("target_lengths", label_lengths, labels.shape[1]),
        ):
            yield _all_in(name, values, (values >= 0) & (values <= most), f"from 0 to {most}")
        counts = np.arange(labels.shape[1], like=labels) < label_lengths[:, np.newaxis]
        known = (labels >= 0) & (labels < classes) & (labels != self.blank)
        what = f"classes from 0 to {classes - 1} other than the blank, {self.blank}"
        yield _all_in("targets", labels, known | ~counts, what)

    def for_call(self, x: Array, labels: Array, lengths: Array, label_lengths: Array) -> Operation:
        return PathLikelihood(self.blank, self.zero_infinity, labels, lengths, label_lengths)


def _all_in(name: str, values: Array, condition: Array, what: str) -> Requirement:
    return (
        condition.all(),
        lambda: ValueError(f"ctc_loss: {name} must be {what}, got {values[~condition][0]}"),
    )


class _Chain(NamedTuple):
    """The states of all sequences.

    Attributes:
        classes: (N, 2 S + 1), the class of each state.
        skips: (N, 2 S + 1), 0 where a path may come from the state before the last, else -inf.
        last: (N, 1), the last state of each sequence.
    """

    classes: Array
    skips: Array
    last: Array


class PathLikelihood(Smooth):
    """A `CTC`'s call, with what it derives from the labels."""

    axis = (0, 2)

    def __init__(
        self, blank: int, zero_infinity: bool, labels: Array, lengths: Array, label_lengths: Array
    ) -> None:
        self.zero_infinity = zero_infinity
        self.lengths = lengths[:, np.newaxis]
        count, most = labels.shape
        counts = np.arange(most, like=labels) < label_lengths[:, np.newaxis]
        classes = np.full_like(labels, blank, dtype=np.int64, shape=(count, 2 * most + 1))
        classes[:, 1::2] = np.where(counts, labels, blank)
        differs = (classes[:, 2:] != classes[:, :-2]) & (classes[:, 2:] != blank)
        skips = np.full_like(classes, -np.inf, dtype=np.float64)
        skips[:, 2:] = np.where(differs, 0.0, -np.inf)
        self.chain = _Chain(classes, skips, 2 * label_lengths[:, np.newaxis].astype(np.int64))

    def forward(self, x: Array, *constants: Array) -> Array:
        losses = -self._ended(self._before(self._emitted(x))[-1])
        if self.zero_infinity:
            losses = np.where(np.isposinf(losses), 0, losses)
        return losses.astype(x.dtype)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, *constants: Array
    ) -> Gradients:
        emitted = self._emitted(x)
        before = self._before(emitted)
        total = self._ended(before[-1])[:, np.newaxis]
        possible = np.isfinite(total)
        weight = np.where(possible | (not self.zero_infinity), -grad[:, np.newaxis], 0)
        with np.errstate(invalid="ignore"):
            visits = np.exp(before[1:] + self._after(emitted) - total)
        visits = np.where(possible, visits, 0 if self.zero_infinity else np.nan)
        times, count, classes = x.shape
        running = np.arange(times, like=x)[:, np.newaxis, np.newaxis] < self.lengths
        visits = np.where(running, visits * weight, 0)
        # A class may have several states: their visits add up.
        sums = np.zeros_like(visits, shape=(count * classes, times))
        places = classes * np.arange(count, like=self.chain.classes)[:, np.newaxis]
        rows = np.ascontiguousarray(np.moveaxis(visits, 0, -1), like=visits)
        ids = (places + self.chain.classes).reshape(-1)
        kernels(x).embedding.add_rows(ids, rows.reshape(len(ids), times), -1, sums)
        x_grad = np.moveaxis(sums.reshape(count, classes, times), -1, 0)
        return x_grad.astype(x.dtype), *[None] * len(constants)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        alone = (Point(point.out, point.inputs[:1]) for point in (start, end))
        x_grads = super().average_backward(grad, needs[:1], *alone)
        return *x_grads, *[None] * (len(needs) - 1)

    def _emitted(self, x: Array) -> Array:
        """Return the log-probabilities (T, N, 2 S + 1) of the states' classes."""
        classes = self.chain.classes[np.newaxis]
        return np.take_along_axis(x.astype(np.float64), classes, axis=2)

    def _before(self, emitted: Array) -> Array:
        """Return the logarithm of the sum over paths up to each time and state; first, before any.

        After a sequence's own length, it stays.
        """
        times, count, states = emitted.shape
        sums = np.full_like(emitted, -np.inf, shape=(times + 1, count, states))
        # Every path begins in one of the first two states: as if it came from the first.
        sums[0, :, :1] = np.zeros_like(sums[0, :, :1])
        for t in range(times):
            known = sums[t]
            total = known.copy()
            total[:, 1:] = np.logaddexp(known[:, 1:], known[:, :-1])
            if t:
                skipped = known[:, :-2] + self.chain.skips[:, 2:]
                total[:, 2:] = np.logaddexp(total[:, 2:], skipped)
            sums[t + 1] = np.where(t < self.lengths, total + emitted[t], known)
        return sums

    def _after(self, emitted: Array) -> Array:
        """Return the logarithm of the sum over paths that go on from each time and state."""
        times, _, states = emitted.shape
        sums = np.full_like(emitted, -np.inf)
        places = np.arange(states, like=self.chain.last)
        ends = (places == self.chain.last) | (places == self.chain.last - 1)
        final = np.where(ends, 0.0, -np.inf)
        for t in reversed(range(times)):
            if t + 1 == times:
                sums[t] = np.where(t == self.lengths - 1, final, -np.inf)
                continue
            known = sums[t + 1] + emitted[t + 1]
            total = known.copy()
            total[:, :-1] = np.logaddexp(known[:, :-1], known[:, 1:])
            skipped = known[:, 2:] + self.chain.skips[:, 2:]
            total[:, :-2] = np.logaddexp(total[:, :-2], skipped)
            sums[t] = np.where(t == self.lengths - 1, final, total)
        return sums

    def _ended(self, sums: Array) -> Array:
        """Return the logarithm of the sum over paths that end in one of the last two states."""
        last = self.chain.last
        blank = np.take_along_axis(sums, last, axis=1)[:, 0]
        label = np.take_along_axis(sums, np.maximum(last - 1, 0), axis=1)[:, 0]
        total: Array = np.where(last[:, 0] > 0, np.logaddexp(blank, label), blank)
        return total
