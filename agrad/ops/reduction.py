"""Reductions over axes."""

import numpy as np

from agrad.ops.operation import Linear

__all__ = ["Sum"]


class Sum(Linear):
    def __init__(self, axis=None, keepdims=False):
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x):
        return np.sum(x, axis=self.axis, keepdims=self.keepdims)

    def backward(self, grad, needs, out, x):
        return (np.broadcast_to(expand_reduced(grad, x, self.axis, self.keepdims), x.shape),)


def expand_reduced(reduced, x, axis, keepdims):
    """Give what was reduced from `x` over `axis` its axes of length one back."""
    if keepdims or axis is None:
        return np.reshape(reduced, reduced.shape if keepdims else (1,) * x.ndim)
    axes = np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    return np.expand_dims(reduced, axes)
