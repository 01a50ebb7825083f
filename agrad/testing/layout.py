"""Copies of an array in the memory layout of another array."""

import numpy as np

from agrad.backend import Array
from agrad.core.tensor import Tensor, apply
from agrad.ops.operation import Gradients, Linear

__all__ = ["has_own_elements", "laid_out", "seen_as"]

_ALIGNMENT = 64


def has_own_elements(array: Array) -> bool:
    """Return whether no two elements of the array share memory."""
    if array.flags.forc:
        return True
    places = np.zeros(array.shape, np.int64)
    for axis, (length, stride) in enumerate(zip(array.shape, array.strides)):
        along = np.arange(length) * stride
        places += along.reshape(-1, *[1] * (array.ndim - axis - 1))
    return np.unique(places).size == array.size


def laid_out(values: Array, like: Array) -> Array:
    """Copy values, with the strides and the alignment of another array of their shape.

    Strides count elements if the dtypes differ.

    Args:
        values: The values.
        like: An array for which `has_own_elements` is true.

    Example:
        >>> import numpy as np
        >>> from agrad.testing.layout import laid_out
        >>> laid_out(np.ones((2, 3)), np.zeros((3, 2), order="F")[::-1].T).strides
        (24, -8)
    """
    if not like.size:
        return np.asarray(values).copy()
    factor = values.dtype.itemsize / like.dtype.itemsize
    strides = [int(stride * factor) for stride in like.strides]
    reach = [(length - 1) * stride for length, stride in zip(like.shape, strides)]
    before = -sum(span for span in reach if span < 0)
    room = np.zeros(sum(map(abs, reach)) + values.dtype.itemsize + _ALIGNMENT, np.uint8)
    shift = (like.ctypes.data - before - room.ctypes.data) % _ALIGNMENT
    copy: Array = np.ndarray(like.shape, values.dtype, room.data, shift + before, strides)
    copy[...] = values
    return copy


class _LaidOut(Linear):
    """The identity, with its result in the memory layout of a given array."""

    def __init__(self, like: Array) -> None:
        self.like = like

    def forward(self, *inputs: Array) -> Array:
        (x,) = inputs
        return laid_out(x, self.like)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        return (grad,)


def seen_as(tensor: Tensor, like: Array) -> Tensor:
    """Return a Tensor in the memory layout of `like`; gradients flow back to `tensor`."""
    if tensor.data.strides == like.strides and tensor.data.flags.aligned == like.flags.aligned:
        return tensor
    return apply(_LaidOut(like), tensor)
