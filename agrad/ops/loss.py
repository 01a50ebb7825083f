"""Losses against constant targets: an input of cross-entropy, held by the other operations."""

import numpy as np

from agrad.backend import kernels
from agrad.gpu.deferred import holds
from agrad.ops.operation import Elementwise, Linear, Operation

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "NegativeLogLikelihood",
    "SoftNegativeLogLikelihood",
    "class_axis",
    "class_error",
]


def class_axis(x):
    """Return where the classes lie in logits (N, C, ...) or (C,)."""
    return min(1, x.ndim - 1)


def class_error(name, label, x):
    """Return the error for a class that `x` does not have."""
    axis = class_axis(x)
    return ValueError(
        f"{name}: target has class {label}, outside 0 to {x.shape[axis] - 1} (input has shape "
        f"{x.shape}, its classes on axis {axis})"
    )


class CrossEntropy(Operation):
    """-w log softmax(x)[class] of each example, over logits x (N, C, ...) or (C,).

    The classes are integers of the shape of x without C, the weights w, (C,), theirs; both are
    constants. With p the softmax, the gradient for x is p less 1 at the class, and its average
    needs that of p alone.

    Args:
        ignored: the class that marks examples to leave out.
        reduction: "mean", by the sum of the examples' weights; "sum"; "none".
    """

    owns_gradients = True

    def __init__(self, ignored, reduction):
        self.ignored = ignored
        self.reduction = reduction

    def for_call(self, x, classes, weight=None):
        _, classes, _ = self._rows(x, classes, weight)
        count = x.shape[class_axis(x)]
        wrong = kernels(x).softmax.first_outside(classes, count, self.ignored)
        if not holds(wrong < 0):
            raise class_error("cross_entropy", classes[int(wrong)], x)
        return self

    def forward(self, x, classes, weight=None):
        examples = *self._rows(x, classes, weight), self.ignored, self.reduction
        out = kernels(x).softmax.cross_entropy(*examples)
        return out.reshape(classes.shape) if self.reduction == "none" else out

    def backward(self, grad, needs, out, x, classes, weight=None):
        examples = *self._rows(x, classes, weight), self.ignored, self.reduction
        x_grad = kernels(x).softmax.cross_entropy_backward(grad.ravel(), *examples)
        return self._gradients(x_grad, x, needs)

    def average_backward(self, grad, needs, start, end):
        (x0, classes, *weight), (x1, *_) = start.inputs, end.inputs
        start_rows, *_ = self._rows(x0, classes, *weight)
        examples = *self._rows(x1, classes, *weight), self.ignored, self.reduction
        x_grad = kernels(x0).softmax.cross_entropy_average_backward(
            grad.ravel(), start_rows, *examples
        )
        return self._gradients(x_grad, x0, needs)

    def _rows(self, x, classes, weight=None):
        """Return the logits as rows, a class for each, and the classes' weights."""
        if x.ndim != 2:
            axis = class_axis(x)
            x = np.moveaxis(x, axis, -1).reshape(classes.size, x.shape[axis])
        if weight is not None:
            weight = weight.astype(x.dtype, copy=False)
        return x, classes.ravel().astype(np.int64, copy=False), weight

    def _gradients(self, rows, x, needs):
        """Return the gradient of the logits, in their shape, and none of the constants."""
        if x.ndim != 2:
            axis = class_axis(x)
            examples = x.shape[:axis] + x.shape[axis + 1 :]
            rows = np.moveaxis(rows.reshape(*examples, x.shape[axis]), -1, axis)
        return rows, *[None] * (len(needs) - 1)


class NegativeLogLikelihood(Linear):
    """-w log p[class] of each example, given log p (N, C, ...) or (C,).

    Args:
        target: the classes, of the shape of log p without its axis of classes.
        weight: of the same shape; None for ones. A weight of zero leaves an example out.
        scale: what the sum over the examples is multiplied by; None for no sum.
    """

    def __init__(self, target, weight=None, scale=None):
        after = range(target.ndim)[::-1]
        grid = [np.arange(n, like=target).reshape(n, *[1] * k) for n, k in zip(target.shape, after)]
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
        softplus = kernels(a).logistic.softplus_divided_difference
        return self.negative * softplus(a, b) - self.positive * softplus(-a, -b)
