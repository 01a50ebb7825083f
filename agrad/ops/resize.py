"""Resampling of sequences, images and volumes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.adjoint import adjoint
from agrad.ops.operation import Apply, Gradients, Linear, owned

__all__ = ["Resize"]


class Resize(Linear):
    """x with each of its last axes resampled to the lengths `size`.

    Args:
        size: The new lengths.
        linear: Whether to interpolate between two neighbours rather than take the nearest one.
        align_corners: Whether the first and the last element of an axis keep their places;
            otherwise the ends of the axis do.
        steps: For each axis the distance of new elements, measured in old ones; None for the ratio
            of the lengths.
    """

    def __init__(
        self,
        size: tuple[int, ...],
        linear: bool,
        align_corners: bool,
        steps: tuple[float | None, ...],
    ) -> None:
        self.size, self.linear, self.align_corners = owned(size), linear, align_corners
        self.steps = owned(steps)

    def forward(self, x: Array) -> Array:
        for axis in range(-len(self.size), 0):
            first, second, share = self.places(x, axis)
            nearer = np.take(x, first, axis=axis)
            if self.linear:
                share = share.reshape(-1, *[1] * (-1 - axis))
                nearer = nearer * (1 - share) + np.take(x, second, axis=axis) * share
            x = nearer
        return x

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        matmul = kernels(grad).product.matmul
        for axis in range(-1, -len(self.size) - 1, -1):
            first, second, share = self.places(x, axis)
            columns = np.arange(x.shape[axis], like=x)
            weights = (first[:, np.newaxis] == columns).astype(x.dtype)
            if self.linear:
                share = share[:, np.newaxis]
                weights *= 1 - share
                weights += share * (second[:, np.newaxis] == columns)
            grad = np.moveaxis(matmul(np.moveaxis(grad, axis, -1), weights), -1, axis)
        return (grad,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (adjoint(apply, self, 0, grad, x),)

    def places(self, x: Array, axis: int) -> tuple[Array, Array, Array]:
        """Return both neighbours of each new element, and the share of the second."""
        n, m, step = x.shape[axis], self.size[axis], self.steps[axis]
        real = x.dtype.type
        places = np.arange(m, like=x).astype(x.dtype)
        if self.align_corners:
            places *= real((n - 1) / (m - 1) if m > 1 else 0)
        else:
            places += real(0.5 if self.linear else 0)
            places *= real(n / m if step is None else step)
            places -= real(0.5 if self.linear else 0)
        places = np.clip(places, 0, n - 1)
        first = np.floor(places)
        second = np.minimum(first + 1, n - 1)
        share = places - first
        return first.astype(np.int64), second.astype(np.int64), share
