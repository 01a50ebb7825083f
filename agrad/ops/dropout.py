"""Dropout."""

from typing import Any

from agrad.backend import Array, uniform
from agrad.ops.operation import Gradients, Linear, Operation, owned

__all__ = ["Dropout", "RandomDropout"]


class Dropout(Linear):
    """x times a mask of zeros and 1 / (1 - p), the same at every replay."""

    recordable = True

    def __init__(self, mask: Array) -> None:
        self.mask = mask

    def forward(self, x: Array) -> Array:
        return x * self.mask

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad * self.mask,)


class RandomDropout(Operation):
    """Dropout by a mask that each call draws, of zeros with probability p.

    Args:
        p: The probability.
        together: The number of last axes along which elements are kept or dropped together.
    """

    def __init__(self, p: float, together: int = 0) -> None:
        self.p = float(owned(p))
        self.together = together

    def for_call(self, x: Array) -> Operation:
        first: tuple[Any, ...] = (..., *[slice(0, 1)] * self.together)
        drawn = x[first] if self.together else x
        kept = uniform(drawn) >= self.p
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        return Dropout(kept * x.dtype.type(scale))

    def for_part(self, called: Operation, whole: tuple[Array, ...], x: Array) -> Operation:
        assert isinstance(called, Dropout)
        return Dropout(called.mask[tuple(map(slice, x.shape))])
