"""Sorting."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.ops.choice import Choice
from agrad.ops.operation import Apply, Gradients, Operation, Point, owned
from agrad.ops.shape import TakeAlongAxis

__all__ = ["Sort"]

_PAIRS = 2**20  # compared at a time


class Sort(Operation):
    """The elements in ascending order along an axis; equal ones keep their order, NaN is last.

    The Jacobian is a permutation, which along the segment is piecewise constant. So the averaged
    Jacobian is known exactly: an element's rank changes by one where it meets another, and the
    element takes from each rank's gradient the share of the segment on which it has that rank.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = owned(axis)

    def forward(self, x: Array) -> Array:
        return np.sort(x, self.axis, kind="stable")

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        x_grad = np.zeros_like(x)
        np.put_along_axis(x_grad, np.argsort(x, self.axis, kind="stable"), grad, self.axis)
        return (x_grad,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        def ranks(x: Array) -> Array:
            return np.argsort(np.argsort(x, self.axis, kind="stable"), self.axis)

        return (apply(TakeAlongAxis(self.axis), grad, apply(Choice(ranks), x)),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x0,), (x1,) = start.inputs, end.inputs
        length = x0.shape[self.axis]
        moved = np.moveaxis(grad, self.axis, -1)
        rows = [
            np.moveaxis(values, self.axis, -1).reshape(-1, max(length, 1)).astype(np.float64)
            for values in (x0, x1, grad)
        ]
        size = max(1, _PAIRS // max(length, 1))
        places = np.arange(x0.size, like=x0)
        parts = [
            _mean_gradient(rows[0], rows[1], rows[2], places[i : i + size])
            for i in range(0, x0.size, size)
        ]
        if not parts:
            return (np.zeros_like(x0),)
        x_grad = np.concatenate(parts).astype(grad.dtype, copy=False).reshape(moved.shape)
        return (np.moveaxis(x_grad, -1, self.axis),)


def _mean_gradient(start: Array, end: Array, grad: Array, places: Array) -> Array:
    """Return the mean gradient of the elements at flat `places` of rows that move to `end`."""
    length = start.shape[1]
    row, column = places // length, places % length
    # How far each other element is ahead of the one at the place.
    before, after = (x[row] - x[row, column][:, np.newaxis] for x in (start, end))
    earlier = np.arange(length, like=places) < column[:, np.newaxis]
    still = (after < 0) | ((after == 0) & earlier)
    rank = ((before < 0) | ((before == 0) & still)).sum(axis=1, keepdims=True)
    change = ((before > 0) & (after < 0)).astype(np.int64) - ((before < 0) & (after > 0))
    time = np.where(change != 0, before / np.where(change != 0, before - after, 1), 1)
    order = np.argsort(time, axis=1)
    time = np.take_along_axis(time, order, axis=1)
    ranks = rank + np.cumsum(np.take_along_axis(change, order, axis=1), axis=1)
    ranks = np.concatenate([rank, ranks], axis=1)
    ones = np.ones_like(time[:, :1])
    lasting = np.concatenate([time, ones], axis=1) - np.concatenate([0 * ones, time], axis=1)
    mean: Array = (lasting * np.take_along_axis(grad[row], ranks, axis=1)).sum(axis=1)
    return mean
