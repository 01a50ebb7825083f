"""Losses against constant targets.

`CrossEntropy` and `ClassLikelihood` take logits or log-probabilities x, (N, C, ...) or (C,); the
classes, integers of the shape of x without C; and optionally a weight for each class, (C,). They
leave out the examples of class `ignored`. Their `reduction` is "mean", weighted with the examples'
weights, "sum" or "none".
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels, known_all, scalar
from agrad.ops.activation import Sigmoid
from agrad.ops.operation import (
    Apply,
    Elementwise,
    Gradients,
    Linear,
    Operation,
    Point,
    Requirement,
    owned,
)
from agrad.ops.softmax import Softmax
from agrad.ops.sums import sum_over

__all__ = [
    "BinaryCrossEntropy",
    "ClassLikelihood",
    "CrossEntropy",
    "NegativeLogLikelihood",
    "SoftNegativeLogLikelihood",
    "class_axis",
    "scale_of",
    "smoothed",
]


def class_axis(ndim: int) -> int:
    """Return where the classes lie in logits (N, C, ...) or (C,) of `ndim` axes."""
    return min(1, ndim - 1)


def scale_of(reduction: str, total: int | Array) -> float | Array | None:
    """Return the factor of the sum over examples that weigh `total`; None if there is no sum."""
    if reduction == "none":
        return None
    if reduction == "sum":
        return 1.0
    if isinstance(total, int):
        return 1 / total if total else math.nan
    return 1 / np.where(total, total, total.dtype.type(math.nan))


def smoothed(shares: Array, smoothing: float, weight: Array | None = None) -> Array:
    """Return each example's shares of the classes, partly spread evenly, times their weights."""
    axis = class_axis(shares.ndim)
    if smoothing:
        shares = (1 - smoothing) * shares + smoothing / shares.shape[axis]
    if weight is not None:
        weight = weight.astype(shares.dtype, copy=False)
        shares = shares * weight.reshape(-1, *[1] * (shares.ndim - axis - 1))
    return shares


def _known(name: str, x: Array, classes: Array, ignored: int) -> Requirement:
    """Return the requirement that x has the class of every example that is not left out."""
    axis = class_axis(x.ndim)
    labels = classes.ravel().astype(np.int64, copy=False)
    wrong = kernels(x).softmax.first_outside(labels, x.shape[axis], ignored)

    def error() -> ValueError:
        return ValueError(
            f"{name}: target has class {labels[int(wrong)]}, outside 0 to {x.shape[axis] - 1} "
            f"(input has shape {x.shape}, its classes on axis {axis})"
        )

    return wrong < 0, error


class CrossEntropy(Operation):
    """-w log softmax(x)[class] of each example, with x the logits and w the weight of its class.

    With p the softmax, the gradient for x is p minus 1 at the class, and its average needs only
    that of p.
    """

    owns_gradients = True
    promotes = False

    def __init__(self, ignored: int, reduction: str) -> None:
        self.ignored = owned(ignored)
        self.reduction = reduction

    def requires(
        self, x: Array, classes: Array, weight: Array | None = None
    ) -> Iterator[Requirement]:
        yield _known("cross_entropy", x, classes, self.ignored)

    def forward(self, x: Array, classes: Array, weight: Array | None = None) -> Array:
        examples = *self._rows(x, classes, weight), self.ignored, self.reduction
        out: Array = kernels(x).softmax.cross_entropy(*examples)
        return out.reshape(classes.shape) if self.reduction == "none" else out

    def backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        out: Array,
        x: Array,
        classes: Array,
        weight: Array | None = None,
    ) -> Gradients:
        examples = *self._rows(x, classes, weight), self.ignored, self.reduction
        x_grad = kernels(x).softmax.cross_entropy_backward(grad.ravel(), *examples)
        return self._gradients(x_grad, x, needs)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, *constants: Any
    ) -> Sequence[Any]:
        # The loss is a weighted sum of log p, whose Jacobian is 1 - 1 pᵀ.
        likelihood = ClassLikelihood("cross_entropy", self.ignored, self.reduction)
        called = likelihood.for_call(x.data, *[constant.data for constant in constants])
        pulled = called.recorded_backward(apply, grad, needs, out, x)[0]
        axis = class_axis(x.ndim)
        x_grad = pulled - apply(Softmax(axis), x) * pulled.sum(axis, keepdims=True)
        return x_grad, *[None] * len(constants)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x0, classes, *weight), (x1, *_) = start.inputs, end.inputs
        start_rows, *_ = self._rows(x0, classes, *weight)
        examples = *self._rows(x1, classes, *weight), self.ignored, self.reduction
        x_grad = kernels(x0).softmax.cross_entropy_average_backward(
            grad.ravel(), start_rows, *examples
        )
        return self._gradients(x_grad, x0, needs)

    def _rows(
        self, x: Array, classes: Array, weight: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        """Return the logits as rows, a class for each, and the classes' weights."""
        if x.ndim != 2:
            axis = class_axis(x.ndim)
            x = np.moveaxis(x, axis, -1).reshape(classes.size, x.shape[axis])
        if weight is not None:
            weight = weight.astype(x.dtype, copy=False)
        return x, classes.ravel().astype(np.int64, copy=False), weight

    def _gradients(self, rows: Array, x: Array, needs: tuple[bool, ...]) -> Gradients:
        """Return the gradient of the logits, in their shape, and none of the constants."""
        if x.ndim != 2:
            axis = class_axis(x.ndim)
            examples = x.shape[:axis] + x.shape[axis + 1 :]
            rows = np.moveaxis(rows.reshape(*examples, x.shape[axis]), -1, axis)
        return rows, *[None] * (len(needs) - 1)


class ClassLikelihood(Operation):
    """-w log p[class] of each example, with x = log p and w the weight of its class.

    Each call returns one of the two linear operations below, with what it derives from the classes.

    Args:
        name: of the loss, for the error of a class that x does not have.
        ignored: the class of examples to leave out.
        reduction: "mean", "sum" or "none".
        smoothing: the share of each example's weight that goes to all classes evenly.
    """

    promotes = False

    def __init__(self, name: str, ignored: int, reduction: str, smoothing: float = 0.0) -> None:
        self.name = name
        self.ignored = owned(ignored)
        self.reduction = reduction
        self.smoothing = owned(smoothing)

    def requires(
        self, x: Array, classes: Array, weight: Array | None = None
    ) -> Iterator[Requirement]:
        yield _known(self.name, x, classes, self.ignored)

    def for_call(self, x: Array, classes: Array, weight: Array | None = None) -> Operation:
        axis = class_axis(x.ndim)
        counted = classes != self.ignored
        if weight is None and known_all(counted):
            weights, total = None, classes.size
        else:
            inside = (classes >= 0) & (classes < x.shape[axis])
            classes = np.where(inside, classes, 0)
            if weight is None:
                weights = counted.astype(x.dtype)
            else:
                weights = weight.astype(x.dtype, copy=False)[classes] * counted
            total = weights.sum()
        scale = scale_of(self.reduction, total)
        if not self.smoothing:
            return NegativeLogLikelihood(classes, weights, scale)
        shares = np.zeros_like(x)
        one = scalar(1, x.dtype, like=x)
        np.put_along_axis(shares, np.expand_dims(classes, axis), one, axis)
        shares = smoothed(shares, self.smoothing, weight)
        shares *= np.expand_dims(counted, axis)
        return SoftNegativeLogLikelihood(shares, scale)


def _left_out(weight: Array, gradient: Array) -> Array:
    """Return the gradient, 0 where the weight is: without examples, the scale of a mean is NaN."""
    return np.where(weight, gradient, gradient.dtype.type(0))


class NegativeLogLikelihood(Linear):
    """-w log p[class] of each example, given log p (N, C, ...) or (C,): a `ClassLikelihood`'s call.

    Args:
        target: the classes, of the shape of log p without its axis of classes.
        weight: of the same shape; None for ones. A weight of zero leaves an example out.
        scale: the factor of the sum over the examples; None to keep each example's loss.
    """

    def __init__(
        self, target: Array, weight: Array | None = None, scale: float | Array | None = None
    ) -> None:
        after = range(target.ndim)[::-1]
        grid = [np.arange(n, like=target).reshape(n, *[1] * k) for n, k in zip(target.shape, after)]
        self.picked = (*grid[:1], target, *grid[1:])
        self.weight = weight
        self.scale = scale

    def forward(self, x: Array, *constants: Array) -> Array:
        losses = -x[self.picked]
        if self.weight is not None:
            losses = np.where(self.weight, losses, 0) * self.weight
        out: Array = losses if self.scale is None else losses.sum() * self.scale
        return out

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, *constants: Array
    ) -> Gradients:
        if self.scale is not None:
            grad = grad * self.scale
        x_grad = np.zeros_like(x)
        if self.weight is None:
            x_grad[self.picked] = -grad
        else:
            x_grad[self.picked] = _left_out(self.weight, -grad * self.weight)
        return x_grad, *[None] * len(constants)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, *constants: Any
    ) -> Sequence[Any]:
        jacobian = self.backward(np.ones_like(grad.data), needs, out, x.data)[0]
        if self.scale is None:
            grad = np.expand_dims(grad, class_axis(x.ndim))
        return grad * jacobian, *[None] * len(constants)


class SoftNegativeLogLikelihood(Linear):
    """-Σ q log p over the classes of each example, given log p (N, C, ...) or (C,).

    Args:
        target: the classes' weights q, of the shape of log p.
        scale: the factor of the sum over the examples; None to keep each example's loss.
    """

    recordable = True

    def __init__(self, target: Array, scale: float | Array | None = None) -> None:
        self.target = target
        self.scale = scale

    def forward(self, x: Array, *constants: Array) -> Array:
        # Where q is zero, log p may be minus infinity.
        products = self.target * np.where(self.target != 0, x, 0)
        losses = -sum_over(products, class_axis(x.ndim))
        out: Array = losses if self.scale is None else losses.sum() * self.scale
        return out

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, *constants: Array
    ) -> Gradients:
        if self.scale is None:
            x_grad = -np.expand_dims(grad, class_axis(x.ndim)) * self.target
        else:
            x_grad = -grad * self.scale * self.target
        return _left_out(self.target, x_grad), *[None] * len(constants)


class BinaryCrossEntropy(Elementwise):
    """w₊ softplus(-x) + w₋ softplus(x): the cost of x as the logit of a yes, and of a no.

    `positive` and `negative` are the weights, broadcast with x.
    """

    def __init__(self, positive: Array, negative: Array) -> None:
        self.positive = positive
        self.negative = negative

    def forward(self, x: Array) -> Array:
        # softplus(x) = max(x, 0) + log1p(e^-|x|)
        tail = np.log1p(np.exp(-np.abs(x)))
        out: Array = self.positive * (np.maximum(-x, 0) + tail) + self.negative * (
            np.maximum(x, 0) + tail
        )
        return out

    def derivative(self, out: Array, x: Array) -> Array:
        small = np.exp(-np.abs(x))
        near, far = 1 / (1 + small), small / (1 + small)
        slope: Array = np.where(
            x > 0,
            self.negative * near - self.positive * far,
            self.negative * far - self.positive * near,
        )
        return slope

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        yes, no = apply(Sigmoid(), x), apply(Sigmoid(), -x)
        return (grad * (yes * self.negative - no * self.positive),)

    def divided_difference(self, a: Array, b: Array) -> Array:
        softplus = kernels(a).logistic.softplus_divided_difference
        slope: Array = self.negative * softplus(a, b) - self.positive * softplus(-a, -b)
        return slope
