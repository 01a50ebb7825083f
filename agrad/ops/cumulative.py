"""Sums and products of all elements up to each one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.ops.arithmetic import Where
from agrad.ops.operation import Apply, Gradients, Linear, Smooth, owned

__all__ = ["Cumprod", "Cumsum"]


class Cumsum(Linear):
    recordable = True

    def __init__(self, axis: int) -> None:
        self.axis = owned(axis)

    def forward(self, x: Array) -> Array:
        out: Array = np.cumsum(x, self.axis)
        return out

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        back = tuple(slice(None, None, -1 if i == self.axis % x.ndim else 1) for i in range(x.ndim))
        return (np.cumsum(grad[back], self.axis)[back],)


class Cumprod(Smooth):
    """The products up to each element, averaged exactly for up to 16 factors; see `Prod`."""

    nodes = 8

    def __init__(self, axis: int) -> None:
        self.axis: int = owned(axis)

    def forward(self, x: Array) -> Array:
        out: Array = np.cumprod(x, self.axis)
        return out

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        # From the last element back, without a division: the products from an element on, each
        # times the gradient at its end.
        factors, grads = np.moveaxis(x, self.axis, 0), np.moveaxis(grad, self.axis, 0)
        before = np.ones_like(factors)
        before[1:] = np.moveaxis(out, self.axis, 0)[:-1]
        x_grad = np.empty_like(factors)
        rest = np.zeros_like(factors[:1])[0] if len(factors) else grads
        for i in reversed(range(len(factors))):
            following = factors[i + 1] if i + 1 < len(factors) else 0
            rest = grads[i] + following * rest
            x_grad[i] = before[i] * rest
        return (np.moveaxis(x_grad, 0, self.axis),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        # Row i holds the products without the i-th factor, of which those from it on count.
        places = np.arange(x.shape[self.axis], like=x.data)
        itself = places[:, np.newaxis] == places
        factors, grad = (np.moveaxis(y, self.axis, -1)[..., np.newaxis, :] for y in (x, grad))
        others = np.cumprod(apply(Where(itself), 1, factors), axis=-1)
        return (np.moveaxis(np.triu(grad * others).sum(-1), -1, self.axis),)
