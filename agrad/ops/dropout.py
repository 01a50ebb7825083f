"""Dropout."""

from agrad.ops.operation import Linear

__all__ = ["Dropout"]


class Dropout(Linear):
    """x times a mask of zeros and 1 / (1 - p), the same at every replay."""

    def __init__(self, mask):
        self.mask = mask

    def forward(self, x):
        return x * self.mask

    def backward(self, grad, needs, out, x):
        return (grad * self.mask,)
