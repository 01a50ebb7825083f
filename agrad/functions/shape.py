"""Reshaping, joining, splitting and selecting elements.

`dim` is another name of `axis`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import is_array
from agrad.core.synonyms import takes_dim
from agrad.core.tensor import Tensor, apply, as_tensor, as_tensors, plain
from agrad.functions.registry import implements
from agrad.ops import shape as ops

__all__ = [
    "array_split",
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flip",
    "moveaxis",
    "pad",
    "ravel",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "take",
    "transpose",
]


@implements(np.reshape)
def reshape(x: Any, shape: Any) -> Tensor:
    """Return the elements of `x` in a new shape; one length may be -1.

    Raises:
        ValueError: `shape` does not have the number of elements of `x`.

    Example:
        >>> import agrad as ag
        >>> ag.reshape([1.0, 2.0, 3.0, 4.0], (2, -1))
        tensor([[1., 2.],
                [3., 4.]])
    """
    return as_tensor(x).reshape(shape)


@implements(np.ravel)
def ravel(x: Any) -> Tensor:
    """Return the elements of `x` along one axis; the last axis varies fastest.

    Example:
        >>> import agrad as ag
        >>> ag.ravel([[1.0, 2.0], [3.0, 4.0]])
        tensor([1., 2., 3., 4.])
    """
    return as_tensor(x).ravel()


@implements(np.transpose)
def transpose(x: Any, axes: int | Sequence[int] | None = None) -> Tensor:
    """Return `x` with its axes in the order `axes`, by default reversed.

    A single axis may be given as a number.

    Raises:
        ValueError: `axes` does not contain each axis exactly once.

    Example:
        >>> import agrad as ag
        >>> ag.transpose([[1.0, 2.0], [3.0, 4.0]])
        tensor([[1., 3.],
                [2., 4.]])
    """
    return apply(ops.Transpose(axes), as_tensor(x))


@implements(np.swapaxes)
def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Return `x` with two axes exchanged.

    Raises:
        ValueError: An axis is out of range.

    Example:
        >>> import agrad as ag
        >>> ag.swapaxes(ag.tensor([[[1.0, 2.0]]]), 0, 2).shape
        (2, 1, 1)
    """
    return as_tensor(x).swapaxes(axis1, axis2)


@implements(np.moveaxis)
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Return `x` with the axes `source` moved to `destination`; other axes keep their order.

    Raises:
        ValueError: An axis is out of range or repeated, or the numbers of axes differ.

    Example:
        >>> import agrad as ag
        >>> ag.moveaxis(np.zeros((2, 3, 4)), 0, -1).shape
        (3, 4, 2)
    """
    tensor = as_tensor(x)
    return apply(
        ops.Transpose(ops.axes_after(np.moveaxis, tensor.ndim, source, destination)), tensor
    )


@implements(np.squeeze)
@takes_dim
def squeeze(x: Any, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Return `x` without its axes of length one, or without those in `axis`.

    Raises:
        ValueError: An axis in `axis` does not have length one.

    Example:
        >>> import agrad as ag
        >>> ag.squeeze([[[1.0, 2.0]]], axis=0)
        tensor([[1., 2.]])
    """
    return as_tensor(x).squeeze(axis)


@implements(np.expand_dims)
@takes_dim
def expand_dims(x: Any, axis: int | Sequence[int]) -> Tensor:
    """Return `x` with new axes of length one, at the positions `axis` of the result.

    Raises:
        ValueError: An axis is out of range or repeated.

    Example:
        >>> import agrad as ag
        >>> ag.expand_dims([1.0, 2.0], axis=1)
        tensor([[1.],
                [2.]])
    """
    tensor = as_tensor(x)
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    return tensor.reshape(np.expand_dims(np.broadcast_to(0, tensor.shape), axes).shape)


@implements(np.broadcast_to)
def broadcast_to(x: Any, shape: Any) -> Tensor:
    """Return a read-only view of `x`, broadcast to `shape`.

    Raises:
        ValueError: `x` does not broadcast to `shape`.

    Example:
        >>> import agrad as ag
        >>> ag.broadcast_to([1.0, 2.0], (2, 2))
        tensor([[1., 2.],
                [1., 2.]])
    """
    return apply(ops.BroadcastTo(shape), as_tensor(x))


@implements(np.concatenate)
@takes_dim
def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Join arrays along an existing axis, or flattened if `axis` is None.

    Raises:
        ValueError: There are no arrays, or their lengths differ along another axis.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> ag.concatenate([x, [3.0]])
        tensor([1., 2., 3.], requires_grad=True)
    """
    if axis is None:
        return apply(ops.Concatenate(), *map(ravel, as_tensors(*arrays)))
    return apply(ops.Concatenate(axis), *as_tensors(*arrays))


@implements(np.stack)
@takes_dim
def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Join arrays of equal shape along a new axis.

    Raises:
        ValueError: There are no arrays, or their shapes differ.

    Example:
        >>> import agrad as ag
        >>> ag.stack([ag.tensor([1.0, 2.0]), ag.tensor([3.0, 4.0])], axis=1)
        tensor([[1., 3.],
                [2., 4.]])
    """
    return apply(ops.Stack(axis), *as_tensors(*arrays))


@implements(np.split)
@takes_dim
def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Split `x` along an axis, into a number of equal parts or before each of the given indices.

    Raises:
        ValueError: The number of parts does not divide the length of the axis.

    Example:
        >>> import agrad as ag
        >>> ag.split([1.0, 2.0, 3.0, 4.0], 2)
        [tensor([1., 2.]), tensor([3., 4.])]
    """
    return _cut(np.split, as_tensor(x), indices_or_sections, axis)


@implements(np.array_split)
@takes_dim
def array_split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Split `x` like `split`, but into parts whose lengths may differ by one.

    Example:
        >>> import agrad as ag
        >>> ag.array_split([1.0, 2.0, 3.0], 2)
        [tensor([1., 2.]), tensor([3.])]
    """
    return _cut(np.array_split, as_tensor(x), indices_or_sections, axis)


def _cut(function: Any, x: Tensor, indices_or_sections: Any, axis: int) -> list[Tensor]:
    """Split the positions along `axis` with NumPy, and take these slices of `x`."""
    axis = np.lib.array_utils.normalize_axis_index(axis, x.ndim)
    parts = function(np.arange(x.shape[axis]), indices_or_sections)
    slices = [slice(part[0], part[-1] + 1) if part.size else slice(0) for part in parts]
    return [x[(*[slice(None)] * axis, part)] for part in slices]


@implements(np.pad)
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Tensor:
    """Pad `x` with a constant.

    Args:
        x: An array of any shape.
        pad_width: The number of elements to add: one integer, (before, after), or such a pair for
            each axis.
        mode: "constant"; NumPy's other modes are not supported.
        constant_values: The number to pad with, or numbers in any form that `pad_width` can have;
            constants.

    Raises:
        ValueError: The mode is not "constant", or widths are negative or do not fit the axes.
        TypeError: Widths are not integers, or a constant value requires a gradient.

    Example:
        >>> import agrad as ag
        >>> ag.pad([1.0, 2.0], (1, 2))
        tensor([0., 1., 2., 0., 0.])
    """
    if mode != "constant":
        raise ValueError(f'pad: mode must be "constant", got {mode!r}')
    tensor = as_tensor(x)
    widths = _pairs("pad_width", pad_width, tensor.shape)
    if widths.dtype.kind not in "iu":
        raise TypeError(f"pad: pad_width must hold integers, got {pad_width!r}")
    if (widths < 0).any():
        raise ValueError(f"pad: pad_width must not be negative, got {pad_width!r}")
    if getattr(constant_values, "requires_grad", False):
        raise TypeError(
            "pad: constant_values requires a gradient, but it is a constant; use concatenate"
        )
    values = plain(constant_values)
    if not np.isscalar(values):
        values = _pairs("constant_values", values, tensor.shape)
        values = values if is_array(constant_values) else values.tolist()
    return apply(ops.Pad(widths if is_array(pad_width) else widths.tolist(), values), tensor)


def _pairs(argument: str, value: Any, shape: tuple[int, ...]) -> Any:
    """Return a number before and a number after for each axis."""
    try:
        return np.broadcast_to(np.asarray(plain(value)), (len(shape), 2))
    except ValueError:
        raise ValueError(
            f"pad: {argument} must be a number, (before, after), or such a pair for each axis of "
            f"an array of shape {shape}; got {value!r}"
        ) from None


@implements(np.flip)
@takes_dim
def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Return `x` with its elements in reverse order along `axis`, by default along all axes.

    Raises:
        ValueError: An axis is out of range or repeated.

    Example:
        >>> import agrad as ag
        >>> ag.flip([1.0, 2.0, 3.0])
        tensor([3., 2., 1.])
    """
    tensor = as_tensor(x)
    axes = (
        range(tensor.ndim)
        if axis is None
        else np.lib.array_utils.normalize_axis_tuple(axis, tensor.ndim)
    )
    return tensor[tuple(slice(None, None, -1 if i in axes else 1) for i in range(tensor.ndim))]


@implements(np.take)
@takes_dim
def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Return the elements at `indices` along `axis`, or of the flattened `x` if it is None.

    Raises:
        IndexError: An index is out of range.
        ValueError: The axis is out of range.

    Example:
        >>> import agrad as ag
        >>> ag.take([[1.0, 2.0], [3.0, 4.0]], [1, 1, 0], axis=1)
        tensor([[2., 2., 1.],
                [4., 4., 3.]])
    """
    tensor = as_tensor(x)
    if axis is None:
        return tensor.ravel()[indices]
    axis = np.lib.array_utils.normalize_axis_index(axis, tensor.ndim)
    return tensor[(*[slice(None)] * axis, indices)]
