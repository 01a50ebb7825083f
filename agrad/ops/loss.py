"""Losses, most of them against constant targets.

`CrossEntropy` and `ClassLikelihood` take logits or log-probabilities x, (N, C, ...) or (C,); the
classes, integers of the shape of x without C; and optionally a weight for each class, (C,). They
leave out the examples of class `ignored`. Their `reduction` is "mean", weighted with the examples'
weights, "sum" or "none".
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, as_array, kernels, known_all, scalar
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
    "Huber",
    "NegativeLogLikelihood",
    "ProbabilityEntropy",
    "SoftNegativeLogLikelihood",
    "Within",
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
        name: Of the loss, for the error of a class that x does not have.
        ignored: The class of examples to leave out.
        reduction: "mean", "sum" or "none".
        smoothing: The share of each example's weight that goes to all classes evenly.
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
        target: The classes, of the shape of log p without its axis of classes.
        weight: Of the same shape; None for ones. A weight of zero leaves an example out.
        scale: The factor of the sum over the examples; None to keep each example's loss.
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
        target: The classes' weights q, of the shape of log p.
        scale: The factor of the sum over the examples; None to keep each example's loss.
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


class ProbabilityEntropy(Operation):
    """-y log x - (1 - y) log(1 - x): the cost of a probability x where a yes has the share y.

    As in PyTorch no logarithm is below -100. The average is that of products: of y and the
    logarithms, which are elementwise in x.
    """

    def forward(self, x: Array, y: Array) -> Array:
        yes, no = _costs(x)
        out: Array = y * yes + (1 - y) * no
        return out

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        least = x.dtype.type(1e-12)  # PyTorch's bound for x (1 - x)
        x_grad = grad * (x - y) / np.maximum(x * (1 - x), least) if needs[0] else None
        yes, no = _costs(x)
        return x_grad, grad * (yes - no) if needs[1] else None

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, y: Any
    ) -> Sequence[Any]:
        x_grad = self.backward(grad, (needs[0], False), out, x, y)[0]
        return x_grad, grad * (_recorded_cost(x) - _recorded_cost(1 - x)) if needs[1] else None

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        (x0, y0), (x1, y1) = start.inputs, end.inputs
        (yes0, no0), (yes1, no1) = _costs(x0), _costs(x1)
        x_grad = y_grad = None
        if needs[0]:
            share = (y0 + y1) / 2
            yes = _mean_slope(x0, x1, yes0, yes1)
            no = _mean_slope(as_array(1 - x0), as_array(1 - x1), no0, no1)
            x_grad = grad * (share * yes - (1 - share) * no)
        if needs[1]:
            y_grad = grad * ((yes0 + yes1) / 2 - (no0 + no1) / 2)
        return x_grad, y_grad


def _costs(x: Array) -> tuple[Array, Array]:
    """Return -log x and -log(1 - x), 100 at most."""
    with np.errstate(divide="ignore"):
        return np.minimum(-np.log(x), 100), np.minimum(-np.log1p(-x), 100)


def _recorded_cost(x: Any) -> Any:
    """Return -log x, 100 at most, of a Tensor: at 0 its derivative is 0."""
    some = x > 0
    return np.where(some, np.minimum(-np.log(np.where(some, x, 1)), 100), 100)


def _mean_slope(a: Array, b: Array, cost_a: Array, cost_b: Array) -> Array:
    """Return the divided difference of `_costs`' -log x."""
    with np.errstate(all="ignore"):
        jump = (cost_b - cost_a) / np.where(a == b, 1, b - a)
        slope: Array = -kernels(a).divided_difference.log(a, b)
    # Where one end is at the bound, nothing cancels; where both are, the cost is constant.
    return np.where((cost_a < 100) & (cost_b < 100), slope, jump)


class Huber(Elementwise):
    """x²/2 for |x| ≤ delta, and delta (|x| - delta / 2) beyond: the integral of a clipped x."""

    recordable = True

    def __init__(self, delta: float) -> None:
        self.delta = float(owned(delta))

    def forward(self, x: Array) -> Array:
        near = np.minimum(np.abs(x), self.delta)
        out: Array = near * (np.abs(x) - near / 2)
        return out

    def derivative(self, out: Array, x: Array) -> Array:
        return np.clip(x, -self.delta, self.delta)

    def divided_difference(self, a: Array, b: Array) -> Array:
        # The mean of the clipped x, from the shares of the segment that are clipped and that not.
        low, high = np.minimum(a, b), np.maximum(a, b)
        inner, outer = (np.clip(x, -self.delta, self.delta) for x in (low, high))
        gap = np.where(high == low, 1, high - low)
        below = (np.minimum(high, -self.delta) - np.minimum(low, -self.delta)) / gap
        above = (np.maximum(high, self.delta) - np.maximum(low, self.delta)) / gap
        middle = (outer - inner) / gap * ((outer + inner) / 2)
        return np.where(high == low, inner, middle + self.delta * (above - below))


class Within(Linear):
    """x itself, of which every element must lie in [low, high] and, if `at_ends`, at an end.

    Args:
        argument: What the elements are, for the error.
        low: The smallest number allowed.
        high: The largest one.
        at_ends: Whether only these two are.
    """

    recordable = True

    def __init__(
        self, argument: str, low: float, high: float = math.inf, at_ends: bool = False
    ) -> None:
        self.argument, self.low, self.high, self.at_ends = argument, low, high, at_ends

    def requires(self, x: Array) -> Iterator[Requirement]:
        inside = ~((x < self.low) | (x > self.high))  # NaN passes
        if self.at_ends:
            inside = (x == self.low) | (x == self.high)

        def error() -> ValueError:
            allowed = f"{self.low} or {self.high}" if self.at_ends else f"at least {self.low}"
            if not self.at_ends and self.high < math.inf:
                allowed = f"from {self.low} to {self.high}"
            return ValueError(f"{self.argument} must be {allowed}, got {x[~inside].ravel()[0]}")

        yield inside.all(), error

    def forward(self, x: Array) -> Array:
        return x

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad,)
