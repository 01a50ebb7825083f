"""Losses against constant targets, which the operation holds."""

import numpy as np

from agrad.backend import kernels
from agrad.ops.operation import Elementwise, Linear

__all__ = ["BinaryCrossEntropy", "NegativeLogLikelihood", "SoftNegativeLogLikelihood"]


class NegativeLogLikelihood(Linear):
    """-w log p[class] of each example, given log p (N, C, ...) or (C,).

    Args:
        target: the classes, of the shape of log p without its axis of classes.
        weight: of the same shape; None for ones. A weight of zero leaves an example out.
        scale: what the sum over the examples is multiplied by; None for no sum.
    """

    def __init__(self, target, weight=None, scale=None):
        grid = [np.asarray(axis, like=target) for axis in np.indices(target.shape, sparse=True)]
        self.picked = (*grid[:1], target, *grid[1:])
        self.weight = weight
        self.scale = scale

    def forward(self, x):
        losses = -x[self.picked]
        if self.weight is not None:
            losses = np.where(self.weight, losses, 0) * self.weight
        return losses if self.scale is None else losses.sum() * self.scale

    def backward(self, grad, needs, out, x):
        if self.scale is not None:
            grad = grad * self.scale
        x_grad = np.zeros_like(x)
        x_grad[self.picked] = -grad if self.weight is None else -grad * self.weight
        return (x_grad,)


class SoftNegativeLogLikelihood(Linear):
    """-Σ q log p over the classes of each example, given log p (N, C, ...) or (C,).

    Args:
        target: the classes' weights q, of the shape of log p.
        scale: what the sum over the examples is multiplied by; None for no sum.
    """

    def __init__(self, target, scale=None):
        self.target = target
        self.scale = scale

    def forward(self, x):
        # Where q is zero, log p may be minus infinity.
        products = self.target * np.where(self.target != 0, x, 0)
        losses = -products.sum(axis=min(1, x.ndim - 1))
        return losses if self.scale is None else losses.sum() * self.scale

    def backward(self, grad, needs, out, x):
        if self.scale is not None:
            return (-grad * self.scale * self.target,)
        return (-np.expand_dims(grad, min(1, x.ndim - 1)) * self.target,)


class BinaryCrossEntropy(Elementwise):
    """w₊ softplus(-x) + w₋ softplus(x): the cost of x as the logit of a yes, and of a no.

    `positive` and `negative` are the weights, broadcast with x.
    """

    def __init__(self, positive, negative):
        self.positive = positive
        self.negative = negative

    def forward(self, x):
        # softplus(x) = max(x, 0) + log1p(e^-|x|)
        tail = np.log1p(np.exp(-np.abs(x)))
        return self.positive * (np.maximum(-x, 0) + tail) + self.negative * (
            np.maximum(x, 0) + tail
        )

    def derivative(self, out, x):
        small = np.exp(-np.abs(x))
        near, far = 1 / (1 + small), small / (1 + small)
        return np.where(
            x > 0,
            self.negative * near - self.positive * far,
            self.negative * far - self.positive * near,
        )

    def divided_difference(self, a, b):
        softplus = kernels(a).divided_difference.softplus
        return self.negative * softplus(a, b) - self.positive * softplus(-a, -b)
