"""Softmax and its logarithm."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels, largest
from agrad.ops.operation import Apply, Gradients, Point, Smooth, owned
from agrad.ops.sums import sum_over

__all__ = ["LogSoftmax", "MaskedSoftmax", "Softmax"]

Axis = int | tuple[int, ...] | None


class Softmax(Smooth):
    """eˣ / Σ eˣ along `axis`; the largest element is subtracted first, so nothing overflows."""

    def __init__(self, axis: Axis) -> None:
        self.axis = owned(axis)

    def forward(self, x: Array) -> Array:
        if self._is_last(x):
            out: Array = kernels(x).softmax.softmax(_rows(x), masked=False)
            return out.reshape(x.shape)
        powers: Array = np.exp(x - largest(x, self.axis))
        powers /= sum_over(powers, self.axis, keepdims=True)
        return powers

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        x_grad: Array
        if self._is_last(x):
            x_grad = kernels(x).softmax.softmax_backward(_rows(grad), _rows(out))
            return (x_grad.reshape(x.shape),)
        x_grad = grad * out
        x_grad -= out * sum_over(x_grad, self.axis, keepdims=True)
        return (x_grad,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        x_grad = grad * out
        x_grad = x_grad - out * x_grad.sum(self.axis, keepdims=True)
        return x_grad, *[None] * (len(inputs) - 1)

    def _is_last(self, x: Array) -> bool:
        """Return whether the softmax is along the last axis, whose rows the kernels take."""
        return x.ndim > 0 and self.axis in (-1, x.ndim - 1)


class MaskedSoftmax(Softmax):
    """The softmax of scores (..., L, S) along the last axis, where no mask excludes them.

    Excluded elements are 0, also where all of a row are, or are minus infinity.

    Args:
        allows: Whether true elements of a mask are kept; otherwise they are excluded.
        causal: Whether row i excludes the elements after i.
    """

    promotes = False

    def __init__(self, allows: bool, causal: bool) -> None:
        super().__init__(axis=-1)
        self.allows, self.causal = allows, causal

    def forward(self, x: Array, *masks: Array) -> Array:
        seen = _rows(self._seen(x, masks))
        out: Array = kernels(x).softmax.softmax(seen, masked=True)
        return out.reshape(x.shape)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, *masks: Array
    ) -> Gradients:
        return *super().backward(grad, needs, out, x), *[None] * len(masks)

    recorded_backward = Softmax.recorded_backward

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        seen = MaskedSoftmax(self.allows, causal=False)
        (x0, *masks), (x1, *_) = start.inputs, end.inputs
        ends = (Point(point.out, (self._seen(x, masks),)) for point, x in ((start, x0), (end, x1)))
        (x_grad,) = super(MaskedSoftmax, seen).average_backward(grad, needs[:1], *ends)
        return x_grad, *[None] * len(masks)

    def _seen(self, x: Array, masks: Sequence[Array]) -> Array:
        """Return the scores, minus infinity where they are excluded."""
        lowest = x.dtype.type(-np.inf)
        if self.causal:
            queries, keys = (np.arange(length, like=x) for length in x.shape[-2:])
            x = np.where(keys <= queries[:, np.newaxis], x, lowest)
        for mask in masks:
            x = np.where(mask, x, lowest) if self.allows else np.where(mask, lowest, x)
        return x


def _rows(x: Array) -> Array:
    """Return an array as rows of its last axis."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


class LogSoftmax(Smooth):
    """x - log Σ eˣ along `axis`, without overflow.

    With the softmax p, J = I - 1 pᵀ. Its average therefore needs only the average of p, which is
    the same for every gradient; see `agrad.kernels.cpu.softmax`.
    """

    recordable = True

    def __init__(self, axis: int) -> None:
        self.axis: int = owned(axis)

    def forward(self, x: Array) -> Array:
        shifted = x - largest(x, self.axis)
        powers = sum_over(np.exp(shifted), self.axis, keepdims=True)
        shifted -= np.log(np.maximum(powers, 1))  # at least 1 unless there are no elements
        return shifted

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (self._pull(grad, np.exp(out)),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        return (self._pull(grad, self._average_softmax(start.out, end.out)),)

    def _pull(self, grad: Array, p: Array) -> Array:
        x_grad: Array = grad - p * sum_over(grad, self.axis, keepdims=True)
        return x_grad

    def _average_softmax(self, y0: Array, y1: Array) -> Array:
        """Average p from y⁰ to y¹; these differ from x⁰ and x¹ by constants, which p ignores."""
        moved = [np.moveaxis(y, self.axis, -1) for y in (y0, y1)]
        shape = moved[0].shape
        rows = [y.reshape(math.prod(shape[:-1]), shape[-1]) for y in moved]
        p: Array = kernels(y0).softmax.average_softmax(*rows)
        return np.moveaxis(p.reshape(shape), -1, self.axis)
