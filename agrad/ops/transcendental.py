"""Elementwise exponentials, logarithms and trigonometric functions."""

import numpy as np

from agrad.backend import kernels
from agrad.ops.operation import Elementwise

__all__ = ["Cos", "Exp", "Expm1", "Log", "Log1p", "Sin"]


class Exp(Elementwise):
    def forward(self, x):
        return np.exp(x)

    def derivative(self, out, x):
        return out

    def divided_difference(self, a, b):
        return kernels(a).divided_difference.exp(a, b)


class Expm1(Elementwise):
    def forward(self, x):
        return np.expm1(x)

    def derivative(self, out, x):
        return np.exp(x)

    def divided_difference(self, a, b):
        return kernels(a).divided_difference.expm1(a, b)


class Log(Elementwise):
    def forward(self, x):
        return np.log(x)

    def backward(self, grad, needs, out, x):
        return (grad / x,)

    def divided_difference(self, a, b):
        return kernels(a).divided_difference.log(a, b)


class Log1p(Elementwise):
    def forward(self, x):
        return np.log1p(x)

    def backward(self, grad, needs, out, x):
        return (grad / (1 + x),)

    def divided_difference(self, a, b):
        return kernels(a).divided_difference.log1p(a, b)


class Sin(Elementwise):
    def forward(self, x):
        return np.sin(x)

    def derivative(self, out, x):
        return np.cos(x)

    def divided_difference(self, a, b):
        return kernels(a).divided_difference.sin(a, b)


class Cos(Elementwise):
    def forward(self, x):
        return np.cos(x)

    def derivative(self, out, x):
        return -np.sin(x)

    def divided_difference(self, a, b):
        return kernels(a).divided_difference.cos(a, b)
