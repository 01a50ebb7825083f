"""Rearranging, joining and picking elements: all linear."""

import numpy as np

from agrad.backend import joined, kernels
from agrad.ops.operation import Linear

__all__ = [
    "BroadcastTo",
    "Cast",
    "Concatenate",
    "GetItem",
    "Pad",
    "Reshape",
    "Stack",
    "Transpose",
    "axes_after",
]


class Reshape(Linear):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        return np.reshape(x, self.shape)

    def backward(self, grad, needs, out, x):
        return (np.reshape(grad, x.shape),)


class Transpose(Linear):
    """The axes in another order, or reversed where none is given."""

    def __init__(self, axes=None):
        self.axes = axes

    def forward(self, x):
        return np.transpose(x, self.axes)

    def backward(self, grad, needs, out, x):
        if self.axes is None:
            return (np.transpose(grad),)
        inverse = np.argsort([axis % x.ndim for axis in self.axes]).tolist()
        return (np.transpose(grad, inverse),)


def axes_after(function, ndim, *args):
    """Return the order in which a function of NumPy that permutes axes leaves them."""
    # The axes of this empty array are as long as their numbers.
    return function(np.empty(range(ndim)), *args).shape


class BroadcastTo(Linear):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        return np.broadcast_to(x, self.shape)

    def backward(self, grad, needs, out, x):
        return (grad,)  # the sweep sums it over the broadcast axes


class Concatenate(Linear):
    def __init__(self, axis=0):
        self.axis = axis

    def forward(self, *arrays):
        return joined(np.concatenate, arrays, self.axis)

    def backward(self, grad, needs, out, *arrays):
        ends = np.cumsum([x.shape[self.axis] for x in arrays[:-1]])
        return np.split(grad, ends, self.axis)


class Stack(Linear):
    """Arrays of one shape joined along a new axis."""

    def __init__(self, axis=0):
        self.axis = axis

    def forward(self, *arrays):
        return joined(np.stack, arrays, self.axis)

    def backward(self, grad, needs, out, *arrays):
        parts = np.split(grad, len(arrays), self.axis)
        return [np.squeeze(part, self.axis) for part in parts]


class Pad(Linear):
    """`value` around x; `width` says how often, in a pair (before, after) for each axis."""

    def __init__(self, width, value=0):
        self.width = width
        self.value = value

    def forward(self, x):
        return np.pad(x, self.width, constant_values=self.value)

    def backward(self, grad, needs, out, x):
        return (
            grad[tuple(slice(before, before + n) for (before, _), n in zip(self.width, x.shape))],
        )


class GetItem(Linear):
    """x[index], by any of NumPy's indices."""

    def __init__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        self.index = tuple(_own(part) for part in parts)
        # Only integer arrays can name an element twice, so that its gradients have to be added.
        self.repeats = any(np.ndim(part) and part.dtype != bool for part in self.index)

    def forward(self, x):
        return x[self.index]

    def backward(self, grad, needs, out, x):
        x_grad = np.zeros_like(x, dtype=grad.dtype, order="C")  # so that reshape gives a view
        if self.repeats:
            # Element by element through flat positions, in their order: the same in every run.
            positions = np.arange(x.size, like=x).reshape(x.shape)[self.index]
            rows = np.ascontiguousarray(grad, like=grad).reshape(-1, 1)
            kernels(x).embedding.add_rows(positions.reshape(-1), rows, -1, x_grad.reshape(-1, 1))
        else:
            x_grad[self.index] = grad
        return (x_grad,)


def _own(part):
    """Copy an index array, which its owner may change before the gradient comes back."""
    if np.ndim(part) == 0:
        return part
    is_array = hasattr(part, "dtype")
    # NumPy's dtype for the empty list is float64, which cannot index.
    dtype = np.intp if not is_array and np.size(part) == 0 else None
    return np.array(part, dtype=dtype, like=part if is_array else None)


class Cast(Linear):
    """The elements converted to another dtype."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
        if self.dtype.kind not in "biuf":
            raise TypeError(f"astype: dtype must be of real numbers or booleans, not {self.dtype}")

    def forward(self, x):
        return x.astype(self.dtype)

    def backward(self, grad, needs, out, x):
        return (grad,)  # the sweep casts it back
