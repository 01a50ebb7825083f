"""Softmax and its logarithm."""

import numpy as np

from agrad.backend import largest
from agrad.ops.operation import Smooth

__all__ = ["LogSoftmax", "Softmax"]


class Softmax(Smooth):
    """eˣ / Σ eˣ along `axis`; the largest element is subtracted first, so nothing overflows."""

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        powers = np.exp(x - largest(x, self.axis))
        powers /= powers.sum(axis=self.axis, keepdims=True)
        return powers

    def backward(self, grad, needs, out, x):
        x_grad = grad * out
        x_grad -= out * x_grad.sum(axis=self.axis, keepdims=True)
        return (x_grad,)


class LogSoftmax(Smooth):
    """x - log Σ eˣ along `axis`, without overflow.

    With p the softmax, J = I - 1 pᵀ: its average needs only that of p, the same for every gradient.
    """

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        shifted = x - largest(x, self.axis)
        total = np.exp(shifted).sum(axis=self.axis, keepdims=True)
        shifted -= np.log(np.maximum(total, 1))  # never below 1, except over no elements
        return shifted

    def backward(self, grad, needs, out, x):
        return (self._pull(grad, np.exp(out)),)

    def average_backward(self, grad, needs, start, end):
        return (self._pull(grad, self._average_softmax(start.out, end.out)),)

    def _pull(self, grad, p):
        return grad - p * grad.sum(axis=self.axis, keepdims=True)

    def _average_softmax(self, y0, y1):
        """Average p from y⁰ to y¹, which differ from the x by constants, so that p is the same.

        Lobatto's quadrature, which includes the ends, approximates p̄. Completeness requires p̄ to be
        orthogonal to y¹ - y⁰: the classes that have a share in p̄ make up for what is missing.
        """
        finfo = np.finfo(y0.dtype)
        # No infinities, which have no difference; p is 0 there, and squares do not overflow.
        y0, y1 = (np.maximum(y, -(finfo.max**0.5) / 4) for y in (y0, y1))
        step = y1 - y0
        softmax = Softmax(self.axis).forward
        p = (np.exp(y0) + np.exp(y1)) / 12
        for position in (1 - 5**-0.5) / 2, (1 + 5**-0.5) / 2:
            p += 5 / 12 * softmax(y0 + position * step)

        def mean(values):
            return (p * values).sum(axis=self.axis, keepdims=True)

        drift = mean(step)
        centered = step - drift
        # A drift that the rounding of y explains does not speak against the quadrature.
        real = np.abs(drift) > 4 * finfo.eps * (1 - mean(y0 + y1))
        slope = np.where(real, drift / np.where(real, mean(centered * step), 1), 0)
        return p * (1 - slope * centered)
