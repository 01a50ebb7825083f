"""Arithmetic, powers, and choices between elements."""

import numpy as np

from agrad.backend import kernels
from agrad.ops.operation import Linear, Multilinear, Operation

__all__ = ["Add", "Divide", "Multiply", "Negative", "Subtract"]


class Add(Linear):
    def forward(self, x, y):
        return np.add(x, y)

    def backward(self, grad, needs, out, x, y):
        return grad, grad


class Subtract(Linear):
    def forward(self, x, y):
        return np.subtract(x, y)

    def backward(self, grad, needs, out, x, y):
        return grad, -grad if needs[1] else None


class Negative(Linear):
    def forward(self, x):
        return np.negative(x)

    def backward(self, grad, needs, out, x):
        return (-grad,)


class Multiply(Multilinear):
    def forward(self, x, y):
        return np.multiply(x, y)

    def backward(self, grad, needs, out, x, y):
        return grad * y if needs[0] else None, grad * x if needs[1] else None


class Divide(Operation):
    """x / y, averaged as the product of x and 1/y: multilinear in those two, elementwise in y."""

    def forward(self, x, y):
        return np.divide(x, y)

    def backward(self, grad, needs, out, x, y):
        return grad / y if needs[0] else None, -grad * (out / y) if needs[1] else None

    def average_backward(self, grad, needs, start, end):
        (x0, y0), (x1, y1) = start.inputs, end.inputs
        secant = kernels(y0).divided_difference.reciprocal
        x_grad = grad * ((1 / y0 + 1 / y1) / 2) if needs[0] else None
        y_grad = grad * ((x0 + x1) / 2 * secant(y0, y1)) if needs[1] else None
        return x_grad, y_grad
