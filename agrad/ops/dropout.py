"""Dropout."""

from agrad.backend import uniform
from agrad.ops.operation import Linear, Operation

__all__ = ["Dropout", "RandomDropout"]


class Dropout(Linear):
    """x times a mask of zeros and 1 / (1 - p), the same at every replay."""

    def __init__(self, mask):
        self.mask = mask

    def forward(self, x):
        return x * self.mask

    def backward(self, grad, needs, out, x):
        return (grad * self.mask,)


class RandomDropout(Operation):
    """Dropout by a mask that each call draws, of zeros with probability p."""

    def __init__(self, p):
        self.p = p

    def for_call(self, x):
        kept = uniform(x) >= self.p
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        return Dropout(kept * x.dtype.type(scale))
