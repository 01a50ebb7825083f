"""Reshaping, joining and indexing, which are all linear."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import DTypeLike

from agrad.arguments import holds_exactly
from agrad.backend import Array, is_array, joined, kernels
from agrad.ops.adjoint import adjoint
from agrad.ops.operation import Apply, Gradients, Linear, Requirement, owned

__all__ = [
    "BroadcastTo",
    "Cast",
    "Concatenate",
    "Diagonal",
    "GetItem",
    "Pad",
    "Reshape",
    "Scatter",
    "Stack",
    "TakeAlongAxis",
    "Transpose",
    "Triangle",
    "axes_after",
    "flattened",
    "require_byte_order",
    "require_floating",
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


def flattened(name: str, shape: tuple[int, ...], start_dim: int, end_dim: int) -> tuple[int, ...]:
    """Return a shape with the axes from start_dim to end_dim joined into one."""
    lengths = shape or (1,)
    start = normalize_axis_index(start_dim, len(lengths), f"{name}: start_dim")
    stop = normalize_axis_index(end_dim, len(lengths), f"{name}: end_dim") + 1
    if start >= stop:
        raise ValueError(
            f"{name}: start_dim={start_dim} is after end_dim={end_dim} in an input of shape {shape}"
        )
    return (*lengths[:start], math.prod(lengths[start:stop]), *lengths[stop:])


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
        if self.repeats:
            positions = np.arange(x.size, like=x).reshape(x.shape)[self.index]
            return _added(grad, positions, x), *[None] * len(choices)
        x_grad = np.zeros_like(x, dtype=grad.dtype, order="C")
        x_grad[self.index] = grad
        return x_grad, *[None] * len(choices)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        return adjoint(apply, self, 0, grad, *inputs), *[None] * len(inputs[1:])


def _added(grad: Array, positions: Array, like: Array) -> Array:
    """Return zeros like an array, with a gradient added at flat positions, some of them twice."""
    x_grad = np.zeros_like(like, dtype=grad.dtype, order="C")  # so that reshape returns a view
    rows = np.ascontiguousarray(grad, like=grad).reshape(-1, 1)
    # Adding element by element, in the order of flat positions, is reproducible.
    kernels(like).embedding.add_rows(positions.reshape(-1), rows, -1, x_grad.reshape(-1, 1))
    return x_grad


def _as_index(part: Any) -> Any:
    """Return an owned part of an index, with sequences as arrays."""
    if type(part) in _BASIC or np.ndim(part) == 0 or is_array(part):
        return owned(part)
    # NumPy converts an empty list to float64, which cannot be an index.
    dtype = np.intp if not hasattr(part, "dtype") and np.size(part) == 0 else None
    return np.array(part, dtype=dtype)


class TakeAlongAxis(Linear):
    """The elements of x at integer `indices` along an axis; along the others both broadcast."""

    promotes = False

    def __init__(self, axis: int) -> None:
        self.axis = owned(axis)

    def requires(self, x: Array, indices: Array) -> Iterator[Requirement]:
        yield _inside("take_along_axis", x, indices, self.axis, -x.shape[self.axis])

    def forward(self, x: Array, indices: Array) -> Array:
        return np.take_along_axis(x, indices, self.axis)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, indices: Array
    ) -> Gradients:
        places = np.arange(x.size, like=x).reshape(x.shape)
        return _added(grad, np.take_along_axis(places, indices, self.axis), x), None

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, indices: Any
    ) -> Sequence[Any]:
        return adjoint(apply, self, 0, grad, x, indices), None


class Scatter(Linear):
    """x with the elements at integer `index` along an axis replaced by those of `source`.

    Along the other axes, an element of the source replaces that in the same place. The source has
    the shape of the index, and the index no element of x twice.
    """

    promotes = False

    def __init__(self, axis: int) -> None:
        self.axis = owned(axis)

    def requires(self, x: Array, index: Array, source: Array) -> Iterator[Requirement]:
        yield _inside("scatter", x, index, self.axis, 0)
        places = np.sort(self._places(x, index).reshape(-1))
        yield (
            (places[1:] != places[:-1]).all(),
            lambda: ValueError(
                f"scatter: index of shape {index.shape} names an element of x, of shape {x.shape}, "
                "more than once, so that its value would depend on the order"
            ),
        )
        yield (
            holds_exactly(x.dtype, source),
            lambda: OverflowError(f"scatter: src holds numbers that do not fit into {x.dtype}"),
        )

    def forward(self, x: Array, index: Array, source: Array) -> Array:
        out = x.copy()
        out.reshape(-1)[self._places(x, index)] = source
        return out

    def backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        out: Array,
        x: Array,
        index: Array,
        source: Array,
    ) -> Gradients:
        places = self._places(x, index)
        x_grad = grad.copy()
        source_grad = x_grad.reshape(-1)[places]
        x_grad.reshape(-1)[places] = np.zeros_like(source_grad)
        return x_grad, None, source_grad

    def recorded_backward(
        self,
        apply: Apply,
        grad: Any,
        needs: tuple[bool, ...],
        out: Any,
        x: Any,
        index: Any,
        source: Any,
    ) -> Sequence[Any]:
        x_grad = apply(self, grad, index, np.zeros_like(source.data))
        return x_grad, None, grad.reshape(-1)[self._places(x, index.data)]

    def _places(self, x: Array, index: Array) -> Array:
        """Return the flat positions of the replaced elements."""
        places = np.zeros_like(index, dtype=np.int64)
        step = 1
        for axis in reversed(range(x.ndim)):
            if axis == self.axis % x.ndim:
                along = index.astype(np.int64)
            else:
                along = np.arange(index.shape[axis], like=index)
                along = along.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
            places = places + step * along
            step *= x.shape[axis]
        return places


def _inside(name: str, x: Array, index: Array, axis: int, least: int) -> Requirement:
    """Return the requirement that no index along an axis is out of range."""
    length = x.shape[axis]
    inside = (index >= least) & (index < length)

    def error() -> IndexError:
        return IndexError(
            f"{name}: index {index[~inside][0]} is out of range for axis {axis} of shape "
            f"{x.shape}; it must be from {least} to {length - 1}"
        )

    return inside.all(), error


class Triangle(Linear):
    """The lower or upper triangle of matrices, from or up to their k-th diagonal; zeros beside."""

    recordable = True

    def __init__(self, k: int, upper: bool) -> None:
        self.k = owned(k)
        self.upper = owned(upper)

    def forward(self, x: Array) -> Array:
        return np.triu(x, self.k) if self.upper else np.tril(x, self.k)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (self.forward(grad),)


class Diagonal(Linear):
    """A diagonal of the matrices that two axes span, as last axis; `offset` above the main one."""

    def __init__(self, offset: int, axis1: int, axis2: int) -> None:
        self.offset, self.axis1, self.axis2 = owned(offset), owned(axis1), owned(axis2)

    def forward(self, x: Array) -> Array:
        return np.diagonal(x, self.offset, self.axis1, self.axis2)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        x_grad = np.zeros_like(x)
        rows = np.arange(out.shape[-1], like=x)
        first = rows + max(-self.offset, 0), rows + max(self.offset, 0)
        np.moveaxis(x_grad, (self.axis1, self.axis2), (-2, -1))[..., first[0], first[1]] = grad
        return (x_grad,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (adjoint(apply, self, 0, grad, x),)


def require_byte_order(name: str, dtype: np.dtype[Any]) -> None:
    """Raise a TypeError if a dtype to convert to has another byte order than the machine."""
    if not dtype.isnative:
        raise TypeError(
            f"{name}: {dtype} has another byte order than the machine; convert to "
            f"{dtype.newbyteorder('=')}"
        )


def require_floating(operation: str, name: str, dtype: np.dtype[Any]) -> None:
    """Raise a TypeError unless the dtype of an argument is float32 or float64."""
    if dtype.char not in "fd":
        raise TypeError(
            f"{operation}: {name} must be float32 or float64, not {dtype}; convert it with astype"
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
