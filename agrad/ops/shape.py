"""Reshaping, joining and indexing, which are all linear."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from agrad.backend import Array, is_array, joined, kernels
from agrad.ops.adjoint import adjoint
from agrad.ops.operation import Apply, Gradients, Linear, owned

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
    "require_byte_order",
]


class Reshape(Linear):
    recordable = True

    def __init__(self, shape: int | Sequence[int]) -> None:
        self.shape = owned(shape)

    def forward(self, x: Array) -> Array:
        return np.reshape(x, self.shape)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (np.reshape(grad, x.shape),)


class Transpose(Linear):
    """Permute the axes, or reverse them by default. A single axis may be a number."""

    recordable = True

    def __init__(self, axes: int | Sequence[int] | None = None) -> None:
        several = axes is None or isinstance(axes, tuple | list) or np.ndim(axes)
        order: Any = axes if several else (axes,)
        self.axes: Sequence[int] | None = owned(order)

    def forward(self, x: Array) -> Array:
        return np.transpose(x, self.axes)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        if self.axes is None:
            return (np.transpose(grad),)
        inverse = np.argsort([axis % x.ndim for axis in self.axes]).tolist()
        return (np.transpose(grad, inverse),)


def axes_after(
    function: Callable[..., Array], ndim: int, *args: int | Sequence[int]
) -> tuple[int, ...]:
    """Return the order of the axes after a NumPy function that permutes them."""
    # The length of each axis of this empty array is the axis's number.
    axes: tuple[int, ...] = function(np.empty(range(ndim)), *args).shape
    return axes


class BroadcastTo(Linear):
    recordable = True

    def __init__(self, shape: int | Sequence[int]) -> None:
        self.shape = owned(shape)

    def forward(self, x: Array) -> Array:
        return np.broadcast_to(x, self.shape)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad,)  # the sweep sums it over the broadcast axes


class Concatenate(Linear):
    recordable = True

    def __init__(self, axis: int = 0) -> None:
        self.axis = owned(axis)

    def forward(self, *arrays: Array) -> Array:
        return joined(np.concatenate, arrays, self.axis)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *arrays: Array
    ) -> Gradients:
        ends = np.cumsum([x.shape[self.axis] for x in arrays[:-1]])
        return np.split(grad, ends, self.axis)


class Stack(Linear):
    """Join arrays of equal shape along a new axis."""

    recordable = True

    def __init__(self, axis: int = 0) -> None:
        self.axis = owned(axis)

    def forward(self, *arrays: Array) -> Array:
        return joined(np.stack, arrays, self.axis)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *arrays: Array
    ) -> Gradients:
        parts = np.split(grad, len(arrays), self.axis)
        return [np.squeeze(part, self.axis) for part in parts]


class Pad(Linear):
    """Pad x with `value`; `width` is a pair (before, after) for each axis."""

    recordable = True

    def __init__(self, width: Sequence[Sequence[int]] | Array, value: Any = 0) -> None:
        self.width = owned(width)
        self.value = owned(value)

    def forward(self, x: Array) -> Array:
        return np.pad(x, self.width, constant_values=self.value)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (
            grad[tuple(slice(before, before + n) for (before, _), n in zip(self.width, x.shape))],
        )


_BASIC = frozenset([int, slice, type(None), type(...)])


class GetItem(Linear):
    """x[index], for any index that NumPy accepts; `choices` are what it was made from."""

    def __init__(self, index: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        self.index = tuple(_as_index(part) for part in parts)
        # Only integer arrays can select an element twice, so that its gradients must be added.
        self.repeats = any(
            type(part) not in _BASIC and is_array(part) and part.ndim and part.dtype != bool
            for part in self.index
        )

    def forward(self, x: Array, *choices: Array) -> Array:
        elements: Array = x[self.index]
        return elements

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, *choices: Array
    ) -> Gradients:
        x_grad = np.zeros_like(x, dtype=grad.dtype, order="C")  # so that reshape returns a view
        if self.repeats:
            # Adding element by element, in the order of flat positions, is reproducible.
            positions = np.arange(x.size, like=x).reshape(x.shape)[self.index]
            rows = np.ascontiguousarray(grad, like=grad).reshape(-1, 1)
            kernels(x).embedding.add_rows(positions.reshape(-1), rows, -1, x_grad.reshape(-1, 1))
        else:
            x_grad[self.index] = grad
        return x_grad, *[None] * len(choices)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        return adjoint(apply, self, 0, grad, *inputs), *[None] * len(inputs[1:])


def _as_index(part: Any) -> Any:
    """Return an owned part of an index, with sequences as arrays."""
    if type(part) in _BASIC or np.ndim(part) == 0 or is_array(part):
        return owned(part)
    # NumPy converts an empty list to float64, which cannot be an index.
    dtype = np.intp if not hasattr(part, "dtype") and np.size(part) == 0 else None
    return np.array(part, dtype=dtype)


def require_byte_order(name: str, dtype: np.dtype[Any]) -> None:
    """Raise a TypeError if a dtype to convert to has another byte order than the machine."""
    if not dtype.isnative:
        raise TypeError(
            f"{name}: {dtype} has another byte order than the machine; convert to "
            f"{dtype.newbyteorder('=')}"
        )


class Cast(Linear):
    """Convert the elements to another dtype."""

    recordable = True

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        require_byte_order("astype", self.dtype)
        if self.dtype.kind not in "biuf":
            raise TypeError(f"astype: dtype must be of real numbers or booleans, not {self.dtype}")

    def forward(self, x: Array) -> Array:
        return x.astype(self.dtype)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (grad,)  # the sweep casts it back
