"""Reductions over axes: an int, a tuple of ints, or None for all."""

import math

import numpy as np

from agrad.backend import kernels, largest
from agrad.ops.operation import Linear, Multilinear, Operation, Selection, Smooth

__all__ = ["LogSumExp", "Max", "Mean", "Min", "Prod", "Std", "Sum", "Var"]


class Reduction(Operation):
    """What all reductions have: the axes they run over."""

    def __init__(self, axis=None, keepdims=False):
        self.axis = axis
        self.keepdims = keepdims

    def axes(self, x):
        """Return the axes as a tuple of non-negative ints, or raise an AxisError."""
        if self.axis is None:
            return tuple(range(x.ndim))
        return np.lib.array_utils.normalize_axis_tuple(self.axis, x.ndim, type(self).__name__)

    def count(self, x):
        """Return how many elements of `x` are reduced to one."""
        return math.prod(x.shape[axis] for axis in self.axes(x))

    def restore(self, reduced, x):
        """Return what was reduced from `x`, with the reduced axes restored at length one."""
        axes = self.axes(x)
        return reduced.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])

    def rows(self, x):
        """Return `x` with the reduced axes last and merged into one."""
        axes = self.axes(x)
        moved = np.moveaxis(x, axes, tuple(range(-len(axes), 0)))
        return moved.reshape(*moved.shape[: x.ndim - len(axes)], self.count(x))

    def from_rows(self, rows, x):
        """Undo `rows`: return what it made of an array like `x` in that array's shape."""
        axes = self.axes(x)
        moved = rows.reshape(rows.shape[:-1] + tuple(x.shape[axis] for axis in axes))
        return np.moveaxis(moved, tuple(range(-len(axes), 0)), axes)


class Sum(Reduction, Linear):
    def forward(self, x):
        return np.sum(x, axis=self.axes(x), keepdims=self.keepdims)

    def backward(self, grad, needs, out, x):
        return (np.broadcast_to(self.restore(grad, x), x.shape),)


class Mean(Reduction, Linear):
    def forward(self, x):
        return np.mean(x, axis=self.axes(x), keepdims=self.keepdims)

    def backward(self, grad, needs, out, x):
        return (np.broadcast_to(self.restore(grad, x) / self.count(x), x.shape),)


class Var(Reduction, Multilinear):
    """Σ (x - mean)² / (n - ddof): quadratic, so its one input counts as two factors."""

    def __init__(self, axis=None, ddof=0, keepdims=False):
        super().__init__(axis, keepdims)
        self.ddof = ddof

    def freedom(self, x):
        """Return n - ddof, the degrees of freedom."""
        freedom = self.count(x) - self.ddof
        if freedom <= 0:
            raise ValueError(
                f"{type(self).__name__}: {self.count(x)} elements over axis {self.axis} leave no "
                f"degree of freedom for ddof={self.ddof}; give a smaller ddof or more elements"
            )
        return freedom

    def forward(self, x):
        self.freedom(x)  # raises if none is left
        return np.var(x, axis=self.axes(x), ddof=self.ddof, keepdims=self.keepdims)

    def backward(self, grad, needs, out, x):
        centred = x - np.mean(x, axis=self.axes(x), keepdims=True)
        return (self.restore(grad, x) * (2 / self.freedom(x)) * centred,)


class Std(Var):
    """The root of the variance, averaged as such; where it is 0, so is the gradient."""

    def forward(self, x):
        return np.sqrt(super().forward(x))

    def backward(self, grad, needs, out, x):
        return super().backward(grad * _inverse(2 * out), needs, out, x)

    def average_backward(self, grad, needs, start, end):
        # The divided difference of the root, 1 / (√a + √b), then the midpoint as for Var.
        (x0,), (x1,) = start.inputs, end.inputs
        scale = _inverse(start.out + end.out)
        return super().backward(grad * scale, needs, start.out, (x0 + x1) / 2)


def _inverse(x):
    """1 / x, and 0 where x is 0."""
    return np.where(x == 0, 0, 1 / np.where(x == 0, 1, x))


class Max(Reduction, Selection):
    """The largest element; equal ones share the gradient. NaN is larger than any number."""

    extreme = staticmethod(np.max)
    sign = 1

    def forward(self, x):
        if self.count(x) == 0:
            raise ValueError(
                f"{type(self).__name__}: no elements over axis {self.axis} of shape {x.shape}"
            )
        return self.extreme(x, axis=self.axes(x), keepdims=self.keepdims)

    def shares(self, out, x):
        chosen = (x == self.restore(out, x)).astype(x.dtype)
        with np.errstate(invalid="ignore"):  # no element equals NaN
            return (chosen / np.sum(chosen, axis=self.axes(x), keepdims=True),)

    def average_shares(self, start, end):
        (x0,), (x1,) = start.inputs, end.inputs
        average_shares = kernels(x0).selection.average_shares
        shares = average_shares(self.rows(self.sign * x0), self.rows(self.sign * x1))
        return (self.from_rows(shares, x0),)

    def spread(self, grad, x):
        return self.restore(grad, x)


class Min(Max):
    """The smallest element; equal ones share the gradient. NaN is smaller than any number."""

    extreme = staticmethod(np.min)
    sign = -1


class Prod(Reduction, Smooth):
    """The product, averaged exactly for up to 16 factors and corrected to completeness beyond.

    On the segment a derivative is a polynomial of degree n - 1, which 8 nodes integrate for n ≤ 16.
    """

    nodes = 8

    def forward(self, x):
        return np.prod(x, axis=self.axes(x), keepdims=self.keepdims)

    def backward(self, grad, needs, out, x):
        others = self.from_rows(_products_of_others(self.rows(x)), x)
        return (self.restore(grad, x) * others,)


def _products_of_others(rows):
    """For each element of a row the product of the others; a division would fail at zeros."""
    before = np.ones_like(rows)
    after = np.ones_like(rows)
    np.cumprod(rows[..., :-1], axis=-1, out=before[..., 1:])
    np.cumprod(rows[..., :0:-1], axis=-1, out=after[..., -2::-1])
    return before * after


class LogSumExp(Reduction, Smooth):
    """log Σ exp(x), without overflow: the largest element is subtracted first. -inf if all are."""

    def forward(self, x):
        top = largest(x, self.axes(x))
        top = np.where(np.isfinite(top), top, np.zeros_like(top))
        with np.errstate(divide="ignore", over="ignore"):
            total = np.sum(np.exp(x - top), axis=self.axes(x), keepdims=True)
            out = np.log(total) + top
        return out if self.keepdims else out.squeeze(self.axes(x))

    def backward(self, grad, needs, out, x):
        with np.errstate(invalid="ignore"):
            weights = np.exp(x - self.restore(out, x))
        return (self.restore(grad, x) * weights,)
