"""Softmax and its logarithm."""

import numpy as np

from agrad.backend import Array, largest
from agrad.ops.operation import Gradients, Point, Smooth, owned

__all__ = ["LogSoftmax", "Softmax"]

Axis = int | tuple[int, ...] | None


class Softmax(Smooth):
    """eˣ / Σ eˣ along `axis`; the largest element is subtracted first, so nothing overflows."""

    def __init__(self, axis: Axis) -> None:
        self.axis = owned(axis)

    def forward(self, x: Array) -> Array:
        powers: Array = np.exp(x - largest(x, self.axis))
        powers /= powers.sum(axis=self.axis, keepdims=True)
        return powers

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        x_grad = grad * out
        x_grad -= out * x_grad.sum(axis=self.axis, keepdims=True)
        return (x_grad,)


class LogSoftmax(Smooth):
    """x - log Σ eˣ along `axis`, without overflow.

    With the softmax p, J = I - 1 pᵀ. Its average therefore needs only the average of p, which is
    the same for every gradient.
    """

    def __init__(self, axis: Axis) -> None:
        self.axis = owned(axis)

    def forward(self, x: Array) -> Array:
        shifted = x - largest(x, self.axis)
        total = np.exp(shifted).sum(axis=self.axis, keepdims=True)
        shifted -= np.log(np.maximum(total, 1))  # at least 1 unless there are no elements
        return shifted

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (self._pull(grad, np.exp(out)),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        return (self._pull(grad, self._average_softmax(start.out, end.out)),)

    def _pull(self, grad: Array, p: Array) -> Array:
        x_grad: Array = grad - p * grad.sum(axis=self.axis, keepdims=True)
        return x_grad

    def _average_softmax(self, y0: Array, y1: Array) -> Array:
        """Average p from y⁰ to y¹; these differ from x⁰ and x¹ by constants, which p ignores.

        Lobatto quadrature, which includes the ends, approximates p̄. Completeness requires p̄ to be
        orthogonal to y¹ - y⁰. The classes correct the error in proportion to their share in p̄.
        """
        finfo = np.finfo(y0.dtype)
        # Infinities have no difference, so make them finite; p is 0 there, and squares stay finite.
        y0, y1 = (np.maximum(y, -(finfo.max**0.5) / 4) for y in (y0, y1))
        step = y1 - y0
        softmax = Softmax(self.axis).forward
        p = (np.exp(y0) + np.exp(y1)) / 12
        for position in (1 - 5**-0.5) / 2, (1 + 5**-0.5) / 2:
            p += 5 / 12 * softmax(y0 + position * step)

        def mean(values: Array) -> Array:
            total: Array = (p * values).sum(axis=self.axis, keepdims=True)
            return total

        drift = mean(step)
        centered = step - drift
        # A drift within the rounding error of y is not an error of the quadrature.
        real = np.abs(drift) > 4 * finfo.eps * (1 - mean(y0 + y1))
        slope = np.where(real, drift / np.where(real, mean(centered * step), 1), 0)
        average: Array = p * (1 - slope * centered)
        return average
