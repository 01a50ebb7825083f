"""Convolution of images (N, C, H, W) or sequences (N, C, L), and its transpose."""

import numpy as np

from agrad.backend import kernels, ones
from agrad.ops.operation import Multilinear

__all__ = ["Convolution", "TransposedConvolution"]


class Convolution(Multilinear):
    """Sums over windows of weight · x, plus bias.

    Options are pairs: for the vertical axis, and for the horizontal one, a sequence's only axis.
    `padding` has a pair (before, after) for each axis.
    """

    def __init__(self, stride, padding, dilation, groups):
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, x, weight, bias=None):
        x4, weight4, bias = _promoted(x, weight, bias)
        size = tuple(map(self.out_length, (0, 1), x4.shape[2:], weight4.shape[2:]))
        return _like(x, self._output(x4, weight4, bias, size))

    def backward(self, grad, needs, out, x, weight, bias=None):
        x4, weight4, _ = _promoted(x, weight, bias)
        grad = _planes(grad)
        x_grad = self._input_gradient(grad, weight4, x4.shape[2:]) if needs[0] else None
        weight_grad = self._weight_gradient(grad, x4, weight4.shape[2:]) if needs[1] else None
        grads = tuple(None if part is None else _like(x, part) for part in (x_grad, weight_grad))
        if bias is None:
            return grads
        return *grads, _sum_by_channel(grad) if needs[2] else None

    def out_length(self, axis, length, kernel):
        """Return the length of the output along an axis."""
        span = self.dilation[axis] * (kernel - 1) + 1
        return (length + sum(self.padding[axis]) - span) // self.stride[axis] + 1

    def _output(self, x, weight, bias, size):
        return kernels(x).conv.convolve(x, weight, bias, size, self._geometry(x))

    def _input_gradient(self, grad, weight, size):
        return kernels(grad).conv.input_gradient(grad, weight, size, self._geometry(grad))

    def _weight_gradient(self, grad, x, kernel):
        return kernels(x).conv.weight_gradient(grad, x, kernel, self._geometry(x))

    def _geometry(self, x):
        before = tuple(before for before, _ in self.padding)
        return kernels(x).conv.Geometry(self.stride, before, self.dilation, self.groups)


class TransposedConvolution(Convolution):
    """The Jacobian of a convolution by its x, transposed: a gradient's way, taken by values.

    The weight is that convolution's, (its filters, which are channels here, and so on). `excess`
    is what the output has along each axis beyond the windows.
    """

    def __init__(self, stride, padding, excess, dilation, groups):
        super().__init__(stride, padding, dilation, groups)
        self.excess = excess

    def out_length(self, axis, length, kernel):
        span = self.dilation[axis] * (kernel - 1) + 1
        windows = (length - 1) * self.stride[axis] + span
        return windows - sum(self.padding[axis]) + self.excess[axis]

    def _output(self, x, weight, bias, size):
        out = super()._input_gradient(x, weight, size)
        if bias is not None:
            out += bias[:, np.newaxis, np.newaxis]
        return out

    def _input_gradient(self, grad, weight, size):
        return super()._output(grad, weight, None, size)

    def _weight_gradient(self, grad, x, kernel):
        return super()._weight_gradient(x, grad, kernel)


def _promoted(x, weight, bias):
    """Return x and weight with four axes, and bias, all in the dtype that they promote to."""
    dtype = np.result_type(*(array for array in (x, weight, bias) if array is not None))
    x, weight = (_planes(array.astype(dtype, copy=False)) for array in (x, weight))
    return x, weight, None if bias is None else bias.astype(dtype, copy=False)


def _planes(array):
    """Make a sequence an image of one row."""
    return array if array.ndim == 4 else array[:, :, np.newaxis]


def _like(known, array):
    """Undo `_planes`."""
    return array if known.ndim == 4 else array[:, :, 0]


def _sum_by_channel(grad):
    # As a product, the sum over the pixels runs in the BLAS.
    pixels = grad.reshape(*grad.shape[:2], grad.shape[2] * grad.shape[3])
    by_image = kernels(grad).product.matmul(pixels, ones(pixels.shape[2], like=pixels))
    return by_image.sum(axis=0)
