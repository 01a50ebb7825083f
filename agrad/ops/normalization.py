"""Normalization: zero mean and unit variance over some axes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.operation import Apply, Gradients, Linear, Operation, Point, owned
from agrad.ops.sums import mean, variance

__all__ = ["FollowedNormalize", "Normalize", "Standardize"]


class Normalize(Operation):
    """(x - mean) / √(mean square of x - mean, plus eps) · weight + bias, with means over `axis`.

    Weight and bias are optional, but a bias needs a weight. They have the lengths of these axes,
    which are counted from the last. The normalization is averaged by a formula of its own, see
    `agrad.kernels.cpu.normalization`; the product with the weight, like that of any two factors, at
    the midpoint.
    """

    def __init__(self, axis: tuple[int, ...], eps: float) -> None:
        self.axis = axis
        self._last = tuple(range(-len(axis), 0))
        self.eps = float(owned(eps))

    def forward(self, x: Array, weight: Array | None = None, bias: Array | None = None) -> Array:
        arrays = [array for array in (x, weight, bias) if array is not None]
        dtype = x.dtype if len({array.dtype for array in arrays}) == 1 else np.result_type(*arrays)
        arguments = self._rows(x, dtype), _row(weight, dtype), _row(bias, dtype), self.eps
        return self._restored(kernels(x).normalization.layer_norm(*arguments), x)

    def backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        out: Array,
        x: Array,
        weight: Array | None = None,
        bias: Array | None = None,
    ) -> Gradients:
        rows = (self._rows(array, out.dtype) for array in (grad, x))
        arguments = *rows, _row(weight, out.dtype), self.eps
        gradients = kernels(x).normalization.layer_norm_backward(*arguments)
        return self._in_place(gradients, x, weight, bias)[: len(needs)]

    def recorded_backward(
        self,
        apply: Apply,
        grad: Any,
        needs: tuple[bool, ...],
        out: Any,
        x: Any,
        weight: Any = None,
        bias: Any = None,
    ) -> Sequence[Any]:
        last = self._last
        x, grad = self._moved(x), self._moved(grad)
        centred = x - x.mean(last, keepdims=True)
        scale = 1 / np.sqrt((centred * centred).mean(last, keepdims=True) + self.eps)
        unit = centred * scale
        pulled = grad if weight is None else grad * weight
        along = unit * (pulled * unit).mean(last, keepdims=True)
        x_grad = scale * (pulled - pulled.mean(last, keepdims=True) - along)
        if self.axis != last:
            x_grad = np.moveaxis(x_grad, last, self.axis)
        rows = tuple(range(x.ndim - len(last)))
        return (x_grad, (grad * unit).sum(rows), grad.sum(rows))[: len(needs)]

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        dtype = start.out.dtype
        (x, weight, bias), (x1, weight1, _) = _three(*start.inputs), _three(*end.inputs)
        rows = (self._rows(array, dtype) for array in (grad, x, x1))
        arguments = *rows, _row(weight, dtype), _row(weight1, dtype), self.eps
        gradients = kernels(x).normalization.layer_norm_average_backward(*arguments)
        return self._in_place(gradients, x, weight, bias)[: len(needs)]

    def _rows(self, x: Array, dtype: np.dtype[Any]) -> Array:
        """Return an array like x with the normalized axes as rows."""
        if x.ndim == 2 and self.axis == (-1,) and x.dtype is dtype:
            return x
        moved = self._moved(x)
        lengths = moved.shape[-len(self.axis) :]
        rows = math.prod(moved.shape[: x.ndim - len(lengths)])
        return moved.reshape(rows, math.prod(lengths)).astype(dtype, copy=False)

    def _restored(self, rows: Array, x: Array) -> Array:
        """Return what `_rows` made of an array like x in that array's shape."""
        if self.axis == self._last:
            return rows if rows.shape == x.shape else rows.reshape(x.shape)
        moved = rows.reshape(self._moved(x).shape)
        return np.ascontiguousarray(np.moveaxis(moved, self._last, self.axis), like=rows)

    def _moved(self, x: Array) -> Array:
        return x if self.axis == self._last else np.moveaxis(x, self.axis, self._last)

    def _in_place(
        self,
        gradients: tuple[Array, Array, Array],
        x: Array,
        weight: Array | None,
        bias: Array | None,
    ) -> Gradients:
        """Return the gradients in the shapes of the inputs."""
        x_grad, weight_grad, bias_grad = gradients
        return (
            self._restored(x_grad, x),
            None if weight is None else weight_grad.reshape(weight.shape),
            None if bias is None else bias_grad.reshape(bias.shape),
        )


def _three(
    x: Array, weight: Array | None = None, bias: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    return x, weight, bias


def _row(weight: Array | None, dtype: np.dtype[Any]) -> Array | None:
    return None if weight is None else weight.ravel().astype(dtype, copy=False)


class FollowedNormalize(Operation):
    """`Normalize`, but each call first passes its input to `follow`.

    If the first axis is among those normalized, the first rows of a batch take its statistics.
    """

    def __init__(self, axis: tuple[int, ...], eps: float, follow: Callable[[Array], None]) -> None:
        self.axis = axis
        self.eps = float(owned(eps))
        self.follow = follow

    def for_call(self, x: Array) -> Operation:
        self.follow(x)
        return Normalize(self.axis, self.eps)

    def for_part(self, called: Operation, whole: tuple[Array, ...], x: Array) -> Operation:
        if 0 not in self.axis:
            return Normalize(self.axis, self.eps)
        (batch,) = whole
        deviation = np.sqrt(variance(batch, self.axis, keepdims=True) + x.dtype.type(self.eps))
        return Standardize(mean(batch, self.axis, keepdims=True), deviation)


class Standardize(Linear):
    """(x - mean) / deviation, with a mean and a deviation that are known."""

    def __init__(self, mean: Array, deviation: Array) -> None:
        self.mean, self.deviation = mean, deviation

    def forward(self, x: Array) -> Array:
        return (x - self.mean) / self.deviation

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad / self.deviation,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (apply(Standardize(np.zeros_like(self.mean), self.deviation), grad),)
