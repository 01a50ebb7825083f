"""Softmax and its logarithm."""

import numpy as np

from agrad.ops.operation import Smooth

__all__ = ["LogSoftmax", "Softmax"]


class Softmax(Smooth):
    """eˣ / Σ eˣ along `axis`; the largest element is subtracted first, so nothing overflows."""

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        powers = np.exp(x - _largest(x, self.axis))
        powers /= powers.sum(axis=self.axis, keepdims=True)
        return powers

    def backward(self, grad, needs, out, x):
        x_grad = grad * out
        x_grad -= out * x_grad.sum(axis=self.axis, keepdims=True)
        return (x_grad,)


class LogSoftmax(Smooth):
    """x - log Σ eˣ along `axis`, without overflow."""

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        shifted = x - _largest(x, self.axis)
        with np.errstate(divide="ignore"):  # the sum is 0 only along an empty axis
            shifted -= np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        return shifted

    def backward(self, grad, needs, out, x):
        x_grad = np.exp(out)
        x_grad *= -grad.sum(axis=self.axis, keepdims=True)
        x_grad += grad
        return (x_grad,)


def _largest(x, axis):
    return x.max(axis=axis, keepdims=True, initial=-np.inf)
