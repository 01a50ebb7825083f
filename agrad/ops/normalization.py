"""Normalization: zero mean and unit variance over some axes."""

import numpy as np

from agrad.ops.operation import Operation, Smooth

__all__ = ["FollowedNormalize", "Normalize"]


class Normalize(Smooth):
    """(x - mean) / √(mean square of x - mean, plus eps), with means over `axis`."""

    def __init__(self, axis, eps):
        self.axis = axis
        self.eps = eps

    def forward(self, x):
        centered = x - self._mean(x)
        return centered / self._deviation(centered)

    def backward(self, grad, needs, out, x):
        centered = x - self._mean(x)
        x_grad = grad - self._mean(grad) - out * self._mean(grad * out)
        x_grad /= self._deviation(centered)
        return (x_grad,)

    def _deviation(self, centered):
        return np.sqrt(self._mean(centered * centered) + self.eps)

    def _mean(self, x):
        # Not x.mean, which warns where there is nothing to normalize.
        total = x.sum(axis=self.axis, keepdims=True)
        return total * (total.size / max(1, x.size))


class FollowedNormalize(Operation):
    """`Normalize`, where each call first has `follow` see its input."""

    def __init__(self, axis, eps, follow):
        self.axis = axis
        self.eps = eps
        self.follow = follow

    def for_call(self, x):
        self.follow(x)
        return Normalize(self.axis, self.eps)
