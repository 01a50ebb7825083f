"""Convolution of images (N, C, H, W) or sequences (N, C, L), and its transpose."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agrad.backend import Array, kernels, ones
from agrad.ops.adjoint import adjoints
from agrad.ops.operation import Apply, Gradients, Multilinear
from agrad.ops.sums import sum_over

if TYPE_CHECKING:
    from agrad.kernels.cpu.conv import Geometry

__all__ = ["Convolution", "TransposedConvolution"]

Pair = tuple[int, int]


class Convolution(Multilinear):
    """Sums over windows of weight · x, plus bias.

    Options are pairs for the vertical and the horizontal axis; a sequence has only the horizontal
    one. `padding` has a pair (before, after) for each axis.
    """

    def __init__(
        self, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair, groups: int
    ) -> None:
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        x4, weight4, bias = _promoted(x, weight, bias)
        (height, width), kernel = x4.shape[2:], weight4.shape[2:]
        size = self.out_length(0, height, kernel[0]), self.out_length(1, width, kernel[1])
        return _like(x, self._output(x4, weight4, bias, size))

    def backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        out: Array,
        x: Array,
        weight: Array,
        bias: Array | None = None,
    ) -> Gradients:
        x4, weight4, _ = _promoted(x, weight, bias)
        grad = _planes(grad)
        x_grad = self._input_gradient(grad, weight4, x4.shape[2:]) if needs[0] else None
        weight_grad = self._weight_gradient(grad, x4, weight4.shape[2:]) if needs[1] else None
        grads = tuple(None if part is None else _like(x, part) for part in (x_grad, weight_grad))
        if bias is None:
            return grads
        return *grads, _sum_by_channel(grad) if needs[2] else None

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        factors, bias = inputs[:2], inputs[2:]
        found = adjoints(apply, self, grad, needs, *factors)
        return [*found, *[grad.sum((0, *range(2, grad.ndim))) for _ in bias]]

    def out_length(self, axis: int, length: int, kernel: int) -> int:
        """Return the output's length along an axis."""
        span = self.dilation[axis] * (kernel - 1) + 1
        return (length + sum(self.padding[axis]) - span) // self.stride[axis] + 1

    def _output(self, x: Array, weight: Array, bias: Array | None, size: Pair) -> Array:
        out: Array = kernels(x).conv.convolve(x, weight, bias, size, self._geometry(x))
        return out

    def _input_gradient(self, grad: Array, weight: Array, size: Pair) -> Array:
        out: Array = kernels(grad).conv.input_gradient(grad, weight, size, self._geometry(grad))
        return out

    def _weight_gradient(self, grad: Array, x: Array, kernel: Pair) -> Array:
        out: Array = kernels(x).conv.weight_gradient(grad, x, kernel, self._geometry(x))
        return out

    def _geometry(self, x: Array) -> "Geometry":
        before = tuple(before for before, _ in self.padding)
        geometry: Geometry = kernels(x).conv.Geometry(
            self.stride, before, self.dilation, self.groups
        )
        return geometry


class TransposedConvolution(Convolution):
    """The transposed Jacobian of a convolution by its x, applied to values.

    The weight is that of the convolution, whose filters are the input channels here. `excess` is
    the length of the output beyond the windows along each axis.
    """

    def __init__(
        self, stride: Pair, padding: tuple[Pair, Pair], excess: Pair, dilation: Pair, groups: int
    ) -> None:
        super().__init__(stride, padding, dilation, groups)
        self.excess = excess

    def out_length(self, axis: int, length: int, kernel: int) -> int:
        span = self.dilation[axis] * (kernel - 1) + 1
        windows = (length - 1) * self.stride[axis] + span
        return windows - sum(self.padding[axis]) + self.excess[axis]

    def _output(self, x: Array, weight: Array, bias: Array | None, size: Pair) -> Array:
        out = super()._input_gradient(x, weight, size)
        if bias is not None:
            out += bias[:, np.newaxis, np.newaxis]
        return out

    def _input_gradient(self, grad: Array, weight: Array, size: Pair) -> Array:
        return super()._output(grad, weight, None, size)

    def _weight_gradient(self, grad: Array, x: Array, kernel: Pair) -> Array:
        return super()._weight_gradient(x, grad, kernel)


def _promoted(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Array, Array | None]:
    """Return x and weight with four axes, and bias, all in their common dtype."""
    dtype = np.result_type(*(array for array in (x, weight, bias) if array is not None))
    x, weight = (_planes(array.astype(dtype, copy=False)) for array in (x, weight))
    return x, weight, None if bias is None else bias.astype(dtype, copy=False)


def _planes(array: Array) -> Array:
    """Turn a sequence into an image with one row."""
    return array if array.ndim == 4 else array[:, :, np.newaxis]


def _like(known: Array, array: Array) -> Array:
    """Undo `_planes`."""
    return array if known.ndim == 4 else array[:, :, 0]


def _sum_by_channel(grad: Array) -> Array:
    # Written as a product, the sum over pixels runs in BLAS.
    pixels = grad.reshape(*grad.shape[:2], grad.shape[2] * grad.shape[3])
    by_image = kernels(grad).product.matmul(pixels, ones(pixels.shape[2], like=pixels))
    return sum_over(by_image, 0)
