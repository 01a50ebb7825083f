"""Elementwise exponentials, logarithms and trigonometric functions."""

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.operation import Elementwise, Gradients

__all__ = ["Cos", "Exp", "Expm1", "Log", "Log1p", "Sin"]


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
