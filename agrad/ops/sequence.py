"""Sequences: vectors for their ids, and pooling over the positions that are not padding."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.adjoint import adjoint
from agrad.ops.arithmetic import Where
from agrad.ops.operation import Apply, Gradients, Linear, Point, Requirement, owned
from agrad.ops.reduction import Max

__all__ = ["Embedding", "MaskedMax", "MaskedMean"]


class Embedding(Linear):
    """The rows of a weight (V, D) that integer `ids`, from 0 to V - 1, name.

    Row `padding`, if there is one, is treated as a constant: it gets no gradient. Where an update
    moves it all the same, it gets an average gradient, or the change of the loss would lack a part.
    """

    promotes = False

    def __init__(self, padding: int | None = None) -> None:
        self.padding = owned(padding)

    def requires(self, weight: Array, ids: Array) -> Iterator[Requirement]:
        inside = (ids >= 0) & (ids < len(weight))

        def error() -> ValueError:
            wrong = ids[~inside]
            return ValueError(
                f"embedding: input has the id {wrong[0]}, outside 0 to {len(weight) - 1}, "
                f"the rows of weight; {wrong.size} of its {ids.size} ids are"
            )

        yield inside.all(), error

    def forward(self, weight: Array, ids: Array) -> Array:
        return np.take(weight, ids, axis=0)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, weight: Array, ids: Array
    ) -> Gradients:
        skipped = -1 if self.padding is None else self.padding
        return self._sums(grad, weight, ids, skipped), None

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, weight: Any, ids: Any
    ) -> Sequence[Any]:
        weight_grad = adjoint(apply, Embedding(), 0, grad, weight, ids)
        if self.padding is not None:
            rows = np.arange(len(weight), like=weight.data)[:, np.newaxis]
            weight_grad = apply(Where(rows == self.padding), 0, weight_grad)
        return weight_grad, None

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (weight, ids), (end_weight, _) = start.inputs, end.inputs
        weight_grad = self._sums(grad, weight, ids, skipped=-1)
        if self.padding is not None:
            moved = weight[self.padding] != end_weight[self.padding]
            weight_grad[self.padding] = np.where(moved, weight_grad[self.padding], 0)
        return weight_grad, None

    def _sums(self, grad: Array, weight: Array, ids: Array, skipped: int) -> Array:
        """Return for each row of the weight the sum of its gradients, 0 for the skipped one."""
        weight_grad = np.zeros_like(weight, dtype=grad.dtype, order="C")
        rows = np.ascontiguousarray(grad, like=grad).reshape(ids.size, weight.shape[1])
        kernels(weight).embedding.add_rows(
            ids.ravel().astype(np.int64, copy=False), rows, skipped, weight_grad
        )
        return weight_grad


def _never_empty(name: str, mask: Array) -> Requirement:
    """Return the requirement that the mask, (..., 1, L), is true somewhere in each sequence."""
    counts = mask.any(axis=-1)

    def error() -> ValueError:
        return ValueError(
            f"{name}: mask is nowhere true in sequence {np.flatnonzero(~counts)[0]} (of shape "
            f"{mask.squeeze(-2).shape}); leave such sequences out"
        )

    return counts.all(), error


class MaskedMax(Max):
    """The largest element of the last axis where `mask`, (..., 1, L) for x (..., C, L), is true."""

    def __init__(self, mask: Array) -> None:
        super().__init__(axis=-1)
        self.mask = mask

    def requires(self, x: Array) -> Iterator[Requirement]:
        yield _never_empty("global_max_pool1d", self.mask)

    def candidates(self, x: Array) -> Array:
        """Return `x` with the elements that the mask excludes too small to be chosen."""
        return np.where(self.mask, x, x.dtype.type(-np.inf))

    def forward(self, x: Array) -> Array:
        return super().forward(self.candidates(x))

    def shares(self, out: Array, x: Array) -> Gradients:
        return super().shares(out, self.candidates(x))

    recorded_backward = Max.recorded_backward

    def average_shares(self, start: Point, end: Point) -> Gradients:
        (x0,), (x1,) = start.inputs, end.inputs
        return super().average_shares(
            Point(start.out, (self.candidates(x0),)), Point(end.out, (self.candidates(x1),))
        )


class MaskedMean(Linear):
    """The mean over the last axis where `mask`, (..., 1, L) for x (..., C, L), is true."""

    recordable = True

    def __init__(self, mask: Array) -> None:
        self.mask = mask

    def requires(self, x: Array) -> Iterator[Requirement]:
        yield _never_empty("global_avg_pool1d", self.mask)

    def forward(self, x: Array) -> Array:
        total: Array = np.where(self.mask, x, x.dtype.type(0)).sum(axis=-1)
        return total / self.counts(x).squeeze(-1)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad[..., np.newaxis] * (self.mask / self.counts(x)),)

    def counts(self, x: Array) -> Array:
        """Return how many elements each mean is of."""
        out: Array = self.mask.sum(axis=-1, keepdims=True, dtype=x.dtype)
        return out
