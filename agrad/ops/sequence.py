"""Sequences: vectors for their ids, and pooling over the positions that are not padding."""

import numpy as np

from agrad.backend import kernels
from agrad.ops.operation import Linear, Point
from agrad.ops.reduction import Max

__all__ = ["Embedding", "MaskedMax", "MaskedMean"]


class Embedding(Linear):
    """The rows of a weight (V, D) that integer `ids`, from 0 to V - 1, name.

    Row `padding`, if there is one, is treated as a constant: it gets no gradient.
    """

    def __init__(self, padding=None):
        self.padding = padding

    def requires(self, weight, ids):
        inside = (ids >= 0) & (ids < len(weight))

        def error():
            wrong = ids[~inside]
            return ValueError(
                f"embedding: input has the id {wrong[0]}, outside 0 to {len(weight) - 1}, "
                f"the rows of weight; {wrong.size} of its {ids.size} ids are"
            )

        yield inside.all(), error

    def forward(self, weight, ids):
        return np.take(weight, ids, axis=0)

    def backward(self, grad, needs, out, weight, ids):
        weight_grad = np.zeros_like(weight, dtype=grad.dtype, order="C")
        rows = np.ascontiguousarray(grad, like=grad).reshape(ids.size, weight.shape[1])
        skipped = -1 if self.padding is None else self.padding
        kernels(weight).embedding.add_rows(
            ids.ravel().astype(np.int64, copy=False), rows, skipped, weight_grad
        )
        return weight_grad, None


def _never_empty(name, mask):
    """Return the requirement that the mask, (..., 1, L), is true somewhere in each sequence."""
    counts = mask.any(axis=-1)

    def error():
        return ValueError(
            f"{name}: mask is nowhere true in sequence {np.flatnonzero(~counts)[0]} (of shape "
            f"{mask.squeeze(-2).shape}); leave such sequences out"
        )

    return counts.all(), error


class MaskedMax(Max):
    """The largest element of the last axis where `mask`, (..., 1, L) for x (..., C, L), is true."""

    def __init__(self, mask):
        super().__init__(axis=-1)
        self.mask = mask

    def requires(self, x):
        yield _never_empty("global_max_pool1d", self.mask)

    def candidates(self, x):
        """Return `x` with the elements that the mask excludes too small to be chosen."""
        return np.where(self.mask, x, x.dtype.type(-np.inf))

    def forward(self, x):
        return super().forward(self.candidates(x))

    def shares(self, out, x):
        return super().shares(out, self.candidates(x))

    def average_shares(self, start, end):
        (x0,), (x1,) = start.inputs, end.inputs
        return super().average_shares(
            Point(start.out, (self.candidates(x0),)), Point(end.out, (self.candidates(x1),))
        )


class MaskedMean(Linear):
    """The mean over the last axis where `mask`, (..., 1, L) for x (..., C, L), is true."""

    def __init__(self, mask):
        self.mask = mask

    def requires(self, x):
        yield _never_empty("global_avg_pool1d", self.mask)

    def forward(self, x):
        return np.where(self.mask, x, x.dtype.type(0)).sum(axis=-1) / self.counts(x).squeeze(-1)

    def backward(self, grad, needs, out, x):
        return (grad[..., np.newaxis] * (self.mask / self.counts(x)),)

    def counts(self, x):
        """Return how many elements each mean is of."""
        return self.mask.sum(axis=-1, keepdims=True, dtype=x.dtype)
