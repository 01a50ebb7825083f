"""Elementwise exponentials, logarithms and trigonometric functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.activation import Sigmoid
from agrad.ops.operation import Apply, Elementwise, Gradients, Point, Selection

__all__ = ["Cos", "Exp", "Expm1", "Log", "Log1p", "LogAddExp", "Sin"]


class Exp(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.exp(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return out

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.exp(a, b)
        return slope


class Expm1(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.expm1(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return np.exp(x)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.expm1(a, b)
        return slope


class Log(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.log(x)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad / x,)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.log(a, b)
        return slope


class Log1p(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.log1p(x)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad / (1 + x),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.log1p(a, b)
        return slope


class Sin(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.sin(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return np.cos(x)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.sin(a, b)
        return slope


class Cos(Elementwise):
    recordable = True

    def forward(self, x: Array) -> Array:
        return np.cos(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return -np.sin(x)

    def divided_difference(self, a: Array, b: Array) -> Array:
        slope: Array = kernels(a).divided_difference.cos(a, b)
        return slope


class LogAddExp(Selection):
    """log(eˣ + eʸ), a smooth maximum: the shares of x and y are sigmoid(x - y) and its rest.

    Sigmoid being the derivative of softplus, the averaged shares are its divided differences.
    """

    def forward(self, x: Array, y: Array) -> Array:
        return np.logaddexp(x, y)

    def shares(self, out: Array, x: Array, y: Array) -> Gradients:
        return self._mean_shares(_lead(x, y), _lead(x, y))

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, y: Any
    ) -> Sequence[Any]:
        # As `_lead`. Infinities stay infinite, but finite elements may cease to be equal.
        infinite = np.isinf(x.data) & (x.data == y.data)
        lead = np.where(infinite, 0, x) - np.where(infinite, 0, y)
        return grad * apply(Sigmoid(), lead), grad * apply(Sigmoid(), -lead)

    def average_shares(self, start: Point, end: Point) -> Gradients:
        return self._mean_shares(_lead(*start.inputs), _lead(*end.inputs))

    def _mean_shares(self, a: Array, b: Array) -> Gradients:
        softplus = kernels(a).logistic.softplus_divided_difference
        return softplus(a, b), softplus(-a, -b)


def _lead(x: Array, y: Array) -> Array:
    """Return x - y, 0 also for equal infinities."""
    with np.errstate(invalid="ignore"):
        return np.where(x == y, 0, x - y)
