"""Normalization: zero mean and unit variance over some axes."""

import numpy as np

from agrad.ops.operation import Smooth

__all__ = ["Normalize"]


class Normalize(Smooth):
    """(x - mean) / √(mean square of x - mean, plus eps), with means over `axis`."""

    def __init__(self, axis, eps):
        self.axis = axis
        self.eps = eps

    def forward(self, x):
        centered = x - x.mean(axis=self.axis, keepdims=True)
        return centered / self._deviation(centered)

    def backward(self, grad, needs, out, x):
        centered = x - x.mean(axis=self.axis, keepdims=True)
        mean = grad.mean(axis=self.axis, keepdims=True)
        along = (grad * out).mean(axis=self.axis, keepdims=True)
        return ((grad - mean - out * along) / self._deviation(centered),)

    def _deviation(self, centered):
        variance = np.square(centered).mean(axis=self.axis, keepdims=True)
        return np.sqrt(variance + self.eps)
