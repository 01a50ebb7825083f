"""Reductions over axes, given as an int, a tuple of ints, or None for all."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels, largest
from agrad.ops.arithmetic import Where
from agrad.ops.operation import (
    Apply,
    Gradients,
    Linear,
    Multilinear,
    Operation,
    Point,
    Selection,
    Smooth,
    owned,
)
from agrad.ops.sums import mean, sum_over, variance

__all__ = [
    "LogSumExp",
    "Max",
    "Mean",
    "Min",
    "Norm",
    "Prod",
    "Std",
    "Sum",
    "Var",
    "products_of_others",
]

Axis = int | tuple[int, ...] | None


class Reduction(Operation):
    """The base of all reductions; it knows the axes to reduce."""

    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis = owned(axis)
        self.keepdims = keepdims

    def axes(self, x: Array) -> tuple[int, ...]:
        """Return the axes as a tuple of non-negative ints, or raise an AxisError."""
        if self.axis is None:
            return tuple(range(x.ndim))
        if type(self.axis) is int and -x.ndim <= self.axis < x.ndim:
            return (self.axis % x.ndim,)
        return np.lib.array_utils.normalize_axis_tuple(self.axis, x.ndim, type(self).__name__)

    def count(self, x: Array) -> int:
        """Return the number of elements of `x` that are reduced to one."""
        return math.prod(x.shape[axis] for axis in self.axes(x))

    def restore(self, reduced: Array, x: Array) -> Array:
        """Return `reduced` with the reduced axes of `x` restored, with length one."""
        lengths = list(x.shape)
        for axis in self.axes(x):
            lengths[axis] = 1
        return reduced.reshape(lengths)

    def rows(self, x: Array) -> Array:
        """Return `x` with the reduced axes last and merged into one."""
        axes = self.axes(x)
        moved = np.moveaxis(x, axes, tuple(range(-len(axes), 0)))
        return moved.reshape(*moved.shape[: x.ndim - len(axes)], self.count(x))

    def from_rows(self, rows: Array, x: Array) -> Array:
        """Undo `rows`: return `rows` of an array like `x` in the shape of `x`."""
        axes = self.axes(x)
        moved = rows.reshape(rows.shape[:-1] + tuple(x.shape[axis] for axis in axes))
        return np.moveaxis(moved, tuple(range(-len(axes), 0)), axes)


class Sum(Reduction, Linear):
    recordable = True

    def forward(self, x: Array) -> Array:
        return sum_over(x, self.axes(x), self.keepdims)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (np.broadcast_to(self.restore(grad, x), x.shape),)


class Mean(Reduction, Linear):
    recordable = True

    def forward(self, x: Array) -> Array:
        return mean(x, self.axes(x), self.keepdims)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (np.broadcast_to(self.restore(grad, x) / self.count(x), x.shape),)


class Var(Reduction, Multilinear):
    """Σ (x - mean)² / (n - ddof): quadratic, so the single input counts as two factors."""

    recordable = True

    def __init__(self, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> None:
        super().__init__(axis, keepdims)
        self.ddof = float(ddof)

    def freedom(self, x: Array) -> float:
        """Return n - ddof, the degrees of freedom."""
        freedom = self.count(x) - self.ddof
        if freedom <= 0:
            raise ValueError(
                f"{type(self).__name__}: {self.count(x)} elements over axis {self.axis} leave no "
                f"degree of freedom for ddof={self.ddof}; pass a smaller ddof or more elements"
            )
        return freedom

    def forward(self, x: Array) -> Array:
        self.freedom(x)  # raises if there is none
        return variance(x, self.axes(x), self.ddof, self.keepdims)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        centred = x - mean(x, self.axes(x), keepdims=True)
        return (self.restore(grad, x) * (2 / self.freedom(x)) * centred,)


class Std(Var):
    """The square root of the variance, averaged as such; the gradient at 0 is 0."""

    recordable = True

    def forward(self, x: Array) -> Array:
        if x.dtype == np.float16:  # in which the variance overflows
            return self.forward(x.astype(np.float32)).astype(np.float16)
        return np.sqrt(super().forward(x))

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return super().backward(grad * _inverse(2 * out), needs, out, x)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        # The divided difference of the root, 1 / (√a + √b), then the midpoint as for Var.
        (x0,), (x1,) = start.inputs, end.inputs
        scale = _inverse(start.out + end.out)
        return super().backward(grad * scale, needs, start.out, (x0 + x1) / 2)


class Norm(Reduction):
    """The root of the sum of squares, averaged as such; the gradient at 0 is 0."""

    recordable = True

    def forward(self, x: Array) -> Array:
        if x.dtype == np.float16:  # in which the squares overflow
            return self.forward(x.astype(np.float32)).astype(np.float16)
        return np.sqrt(sum_over(np.square(x), self.axes(x), self.keepdims))

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (self.restore(grad * _inverse(out), x) * x,)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        # The divided difference of the root, 1 / (√a + √b), times that of the squares.
        (x0,), (x1,) = start.inputs, end.inputs
        return (self.restore(grad * _inverse(start.out + end.out), x0) * (x0 + x1),)


def _inverse(x: Array) -> Array:
    """Return 1 / x, or 0 for x = 0."""
    return np.where(x == 0, 0, 1 / np.where(x == 0, 1, x))


class Max(Reduction, Selection):
    """The largest element; equal elements share the gradient. NaN is larger than any number."""

    extreme: Callable[..., Array] = staticmethod(np.max)
    sign = 1

    def candidates(self, x: Array) -> Array:
        """Return what is selected from: `x`."""
        return x

    def forward(self, x: Array) -> Array:
        if self.count(x) == 0:
            raise ValueError(
                f"{type(self).__name__}: no elements over axis {self.axis} of shape {x.shape}"
            )
        return self.extreme(x, axis=self.axes(x), keepdims=self.keepdims)

    def shares(self, out: Array, x: Array) -> Gradients:
        chosen = (x == self.restore(out, x)).astype(x.dtype)
        with np.errstate(invalid="ignore"):  # no element equals NaN
            return (chosen / sum_over(chosen, self.axes(x), keepdims=True),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        share: Any = self.shares(out.data, x.data)[0]
        pulled = self.restore(grad, x) * share
        # It is the same in both cases, but depends on the choice.
        return (np.where(self.candidates(x) == self.restore(out, x), pulled, 0 * share),)

    def average_shares(self, start: Point, end: Point) -> Gradients:
        (x0,), (x1,) = start.inputs, end.inputs
        average_shares = kernels(x0).selection.average_shares
        shares = average_shares(self.rows(self.sign * x0), self.rows(self.sign * x1))
        return (self.from_rows(shares, x0),)

    def spread(self, grad: Array, x: Array) -> Array:
        return self.restore(grad, x)


class Min(Max):
    """The smallest element; equal elements share the gradient. NaN is smaller than any number."""

    extreme = staticmethod(np.min)
    sign = -1


class Prod(Reduction, Smooth):
    """The product, averaged exactly for up to 16 factors and corrected to completeness for more.

    On the segment, a derivative is a polynomial of degree n - 1, which 8 nodes integrate exactly
    for n ≤ 16.
    """

    nodes = 8

    def forward(self, x: Array) -> Array:
        out: Array = np.prod(x, axis=self.axes(x), keepdims=self.keepdims)
        return out

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        others = self.from_rows(products_of_others(self.rows(x)), x)
        return (self.restore(grad, x) * others,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        places = np.arange(self.count(x), like=x.data)
        itself = places[:, np.newaxis] == places
        others = np.prod(apply(Where(itself), 1, self.rows(x)[..., np.newaxis, :]), axis=-1)
        return (self.restore(grad, x) * self.from_rows(others, x),)


def products_of_others(rows: Array) -> Array:
    """Return for each element of a row the product of the others; division would fail at zeros."""
    before = np.ones_like(rows)
    after = np.ones_like(rows)
    np.cumprod(rows[..., :-1], axis=-1, out=before[..., 1:])
    np.cumprod(rows[..., :0:-1], axis=-1, out=after[..., -2::-1])
    return before * after


class LogSumExp(Reduction, Smooth):
    """log Σ exp(x), with the largest element factored out against overflow; -inf if all are so."""

    recordable = True

    def forward(self, x: Array) -> Array:
        top = largest(x, self.axes(x))
        top = np.where(np.isfinite(top), top, np.zeros_like(top))
        with np.errstate(divide="ignore", over="ignore"):
            powers = sum_over(np.exp(x - top), self.axes(x), keepdims=True)
            out: Array = np.log(powers) + top
        return out if self.keepdims else out.squeeze(self.axes(x))

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        with np.errstate(invalid="ignore"):
            weights = np.exp(x - self.restore(out, x))
        return (self.restore(grad, x) * weights,)
