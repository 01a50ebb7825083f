"""Reshaping, joining, splitting and selecting elements.

`dim` is another name of `axis`.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.arguments import exactly, require_real
from agrad.backend import beside, is_array
from agrad.core.synonyms import takes_dim
from agrad.core.tensor import Tensor, apply, as_tensor, as_tensors, plain
from agrad.functions.registry import implements
from agrad.ops import shape as ops

__all__ = [
    "array_split",
    "broadcast_to",
    "concatenate",
    "diagonal",
    "expand_dims",
    "flip",
    "hstack",
    "moveaxis",
    "pad",
    "ravel",
    "repeat",
    "reshape",
    "roll",
    "scatter",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "take",
    "take_along_axis",
    "tile",
    "trace",
    "transpose",
    "tril",
    "triu",
    "vstack",
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
    parts = _several("concatenate", arrays)
    if axis is None:
        return apply(ops.Concatenate(), *map(ravel, parts))
    return apply(ops.Concatenate(axis), *parts)


def _several(name: str, arrays: Any) -> list[Any]:
    """Return arrays to be joined as Tensors."""
    listed = list(arrays)
    if not listed:
        raise ValueError(f"{name}: arrays is empty; give at least one")
    return as_tensors(*listed)


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
    return apply(ops.Stack(axis), *_several("stack", arrays))


@implements(np.hstack)
def hstack(arrays: Sequence[Any]) -> Tensor:
    """Join arrays along their second axis; those with one axis or none along the first.

    Raises:
        ValueError: There are no arrays, or their lengths differ along another axis.

    Example:
        >>> import agrad as ag
        >>> ag.hstack([[[1.0], [2.0]], [[3.0], [4.0]]])
        tensor([[1., 3.],
                [2., 4.]])
    """
    tensors = [x if x.ndim else x.reshape(1) for x in _several("hstack", arrays)]
    along = 0 if tensors[0].ndim == 1 else 1
    return apply(ops.Concatenate(along), *tensors)


@implements(np.vstack)
def vstack(arrays: Sequence[Any]) -> Tensor:
    """Join arrays along their first axis; those with one axis or none as rows.

    Raises:
        ValueError: There are no arrays, or their lengths differ along another axis.

    Example:
        >>> import agrad as ag
        >>> ag.vstack([[1.0, 2.0], [3.0, 4.0]])
        tensor([[1., 2.],
                [3., 4.]])
    """
    rows = [x if x.ndim > 1 else x.reshape(1, -1) for x in _several("vstack", arrays)]
    return apply(ops.Concatenate(0), *rows)


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
            they are constants.

    Raises:
        ValueError: The mode is not "constant", or widths are negative or do not fit the axes.
        TypeError: Widths are not integers, or a constant value requires a gradient or is no number.
        OverflowError: `x` consists of integers of a dtype that cannot hold a constant value.

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
    values = values if is_array(values) else np.asarray(values)
    require_real("pad", "constant_values", values.dtype)
    values = exactly("pad", "constant_values", values, tensor.dtype)
    if values.ndim:
        values = _pairs("constant_values", values, tensor.shape)
        values = values if is_array(constant_values) else values.tolist()
    else:
        values = values.item()
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
        TypeError: The indices are not integers.

    Example:
        >>> import agrad as ag
        >>> ag.take([[1.0, 2.0], [3.0, 4.0]], [1, 1, 0], axis=1)
        tensor([[2., 2., 1.],
                [4., 4., 3.]])
    """
    tensor = as_tensor(x)
    if axis is None:
        tensor, axis = tensor.ravel(), 0
    axis = np.lib.array_utils.normalize_axis_index(axis, tensor.ndim, "take: axis")
    places = _indices("take", "indices", indices, tensor)
    return tensor[(*[slice(None)] * axis, places)]


@implements(np.take_along_axis)
@takes_dim
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """Return the elements of `x` at `indices` along `axis`: PyTorch's `gather`.

    Args:
        x: An array.
        indices: Integers with as many axes as `x`; along the other axes both broadcast. Negative
            indices count from the end.
        axis: The axis, or None for the flattened `x`.

    Raises:
        IndexError: An index is out of range.
        ValueError: The numbers of axes differ, or the axis is out of range.
        TypeError: The indices are not integers.

    Example:
        >>> import agrad as ag
        >>> ag.take_along_axis([[1.0, 2.0], [3.0, 4.0]], [[1], [0]], axis=1)
        tensor([[2.],
                [3.]])
    """
    tensor = as_tensor(x)
    if axis is None:
        tensor, axis = tensor.ravel(), 0
    axis = np.lib.array_utils.normalize_axis_index(axis, tensor.ndim, "take_along_axis: axis")
    places = _indices_along("take_along_axis", "indices", indices, tensor)
    return apply(ops.TakeAlongAxis(axis), tensor, places)


@takes_dim
def scatter(x: Any, axis: int, index: Any, src: Any) -> Tensor:
    """Return `x` with the elements at `index` along `axis` replaced by those of `src`.

    The order of the arguments is that of PyTorch's `scatter(dim, index, src)`.

    Args:
        x: An array.
        axis: The axis.
        index: Integers with as many axes as `x`, and along the other axes no longer than `x`. They
            must not name an element twice.
        src: A number, or an array that is at least as long as `index` along each axis.

    Raises:
        IndexError: An index is negative or too large.
        ValueError: The index names an element twice; shapes do not fit; the axis is out of range.
        TypeError: The index is not made of integers.
        OverflowError: `x` consists of integers of a dtype that cannot hold an element of `src`.

    Example:
        >>> import agrad as ag
        >>> ag.scatter(ag.zeros(2, 3), 1, [[2], [0]], [[5.0], [7.0]])
        tensor([[0., 0., 5.],
                [7., 0., 0.]])
    """
    tensor, source = as_tensors(x, src)
    axis = np.lib.array_utils.normalize_axis_index(axis, tensor.ndim, "scatter: axis")
    places = _indices_along("scatter", "index", index, tensor)
    lengths = places.shape
    if any(n > m for i, (n, m) in enumerate(zip(lengths, tensor.shape)) if i != axis):
        raise ValueError(
            f"scatter: index must not be longer than x, of shape {tensor.shape}, along other axes "
            f"than {axis}; it has shape {lengths}"
        )
    if source.ndim == 0:
        source = broadcast_to(source, lengths)
    if source.ndim != len(lengths) or any(n > m for n, m in zip(lengths, source.shape)):
        raise ValueError(
            f"scatter: src must be at least as long as index, of shape {lengths}, along each axis; "
            f"it has shape {source.shape}"
        )
    if source.shape != lengths:
        source = source[tuple(slice(n) for n in lengths)]
    return apply(ops.Scatter(axis), tensor, places, source)


def _indices(name: str, argument: str, value: Any, like: Tensor) -> Any:
    """Return indices: a Tensor, or an array on the device of `like`."""
    places = value if isinstance(value, Tensor) else beside(name, argument, value, like.data)
    if not places.size:  # an empty list makes an array of floats
        places = places.astype(np.int64)
    if places.dtype.kind not in "iu":
        raise TypeError(f"{name}: {argument} must hold integers, got {places.dtype}")
    return places


def _indices_along(name: str, argument: str, value: Any, like: Tensor) -> Any:
    """Return indices of elements along an axis, with as many axes as `like`."""
    places = _indices(name, argument, value, like)
    if places.ndim != like.ndim:
        raise ValueError(
            f"{name}: {argument} must have as many axes as x, of shape {like.shape}; it has shape "
            f"{places.shape}"
        )
    return places


@implements(np.repeat)
@takes_dim
def repeat(x: Any, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Return each element several times in succession along `axis`, or of the flattened `x`.

    Args:
        x: An array.
        repeats: How many times; for each element along the axis if it is a sequence.
        axis: The axis, or None to flatten `x` first.

    Raises:
        ValueError: A number is negative, or there is not one for each element.
        TypeError: A number is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.repeat([1.0, 2.0], 2)
        tensor([1., 1., 2., 2.])
    """
    tensor = as_tensor(x)
    if axis is None:
        tensor, axis = tensor.ravel(), 0
    axis = np.lib.array_utils.normalize_axis_index(axis, tensor.ndim, "repeat: axis")
    given = np.asarray(repeats)
    if given.dtype.kind not in "iu":
        raise TypeError(f"repeat: repeats must be integers, got {repeats!r}")
    if given.ndim > 1 or (given.ndim == 1 and given.size not in (1, tensor.shape[axis])):
        raise ValueError(
            f"repeat: repeats must be one integer, or one for each of the {tensor.shape[axis]} "
            f"elements along axis {axis} of shape {tensor.shape}; got {repeats!r}"
        )
    if (given < 0).any():
        raise ValueError(f"repeat: repeats must not be negative, got {repeats!r}")
    if given.ndim == 0:
        times = int(given)
        before, after = tensor.shape[: axis + 1], tensor.shape[axis + 1 :]
        copies = broadcast_to(tensor.reshape(*before, 1, *after), (*before, times, *after))
        joined = copies.reshape(*before[:-1], before[-1] * times, *after)
        return joined.clone() if 1 in (before[-1], times) else joined  # which is still a view
    return take(tensor, np.repeat(np.arange(tensor.shape[axis]), given), axis)


@implements(np.tile)
def tile(x: Any, reps: int | Sequence[int]) -> Tensor:
    """Return copies of `x` side by side; `reps` gives their number along each of the last axes.

    Raises:
        ValueError: A number is negative.
        TypeError: A number is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.tile([1.0, 2.0], (2, 2))
        tensor([[1., 2., 1., 2.],
                [1., 2., 1., 2.]])
    """
    tensor = as_tensor(x)
    try:
        times = tuple(map(operator.index, np.atleast_1d(reps)))
    except TypeError:
        if np.size(reps):
            raise TypeError(f"tile: reps must be integers, got {reps!r}") from None
        times = ()
    ndim = max(len(times), tensor.ndim)
    times = (*[1] * (ndim - len(times)), *times)
    lengths = (*[1] * (ndim - tensor.ndim), *tensor.shape)
    if any(n < 0 for n in times):
        raise ValueError(f"tile: reps must not be negative, got {reps}")
    pairs = list(zip(times, lengths))
    columns = tensor.reshape([n for _, length in pairs for n in (1, length)])
    copies = broadcast_to(columns, tuple(n for pair in pairs for n in pair))
    joined = copies.reshape([n * length for n, length in pairs])
    return joined.clone() if all(1 in pair for pair in pairs) else joined  # which is still a view


@implements(np.roll)
@takes_dim
def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Return `x` with its elements shifted by `shift` places; those pushed off the end come first.

    Args:
        x: An array.
        shift: The number of places; one for each axis if there are several.
        axis: The axis or axes; None for the flattened `x`, which keeps its shape.

    Raises:
        ValueError: An axis is out of range, or the numbers of shifts and axes differ.
        TypeError: A shift is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.roll([1.0, 2.0, 3.0], 1)
        tensor([3., 1., 2.])
    """
    tensor = as_tensor(x)
    if np.asarray(shift).dtype.kind not in "iu":
        raise TypeError(f"roll: shift must hold integers, got {shift!r}")
    if axis is None:
        return roll(tensor.ravel(), int(np.sum(shift)), 0).reshape(tensor.shape)
    shifts, axes = np.atleast_1d(shift).tolist(), np.atleast_1d(axis).tolist()
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ValueError(f"roll: shift has {len(shifts)} numbers and axis {len(axes)}")
    whole = tensor
    for places, i in zip(*(np.broadcast_arrays(shifts, axes))):
        along = np.lib.array_utils.normalize_axis_index(int(i), tensor.ndim, "roll: axis")
        length = tensor.shape[along]
        cut = -int(places) % length if length else 0
        if cut:
            lead = [slice(None)] * along
            parts = tensor[(*lead, slice(cut, None))], tensor[(*lead, slice(cut))]
            tensor = apply(ops.Concatenate(along), *parts)
    return tensor.clone() if tensor is whole else tensor


@implements(np.tril)
def tril(x: Any, k: int = 0) -> Tensor:
    """Return matrices (..., m, n) with zeros above the k-th diagonal.

    Raises:
        ValueError: `x` has fewer than two axes.

    Example:
        >>> import agrad as ag
        >>> ag.tril([[1.0, 2.0], [3.0, 4.0]])
        tensor([[1., 0.],
                [3., 4.]])
    """
    return _triangle("tril", x, k, upper=False)


@implements(np.triu)
def triu(x: Any, k: int = 0) -> Tensor:
    """Return matrices (..., m, n) with zeros below the k-th diagonal.

    Raises:
        ValueError: `x` has fewer than two axes.

    Example:
        >>> import agrad as ag
        >>> ag.triu([[1.0, 2.0], [3.0, 4.0]], k=1)
        tensor([[0., 2.],
                [0., 0.]])
    """
    return _triangle("triu", x, k, upper=True)


def _triangle(name: str, x: Any, k: int, upper: bool) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ValueError(f"{name}: x must have at least two axes, got shape {tensor.shape}")
    return apply(ops.Triangle(k, upper), tensor)


@implements(np.diagonal)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return a diagonal of the matrices that two axes span, as the last axis of the result.

    Raises:
        ValueError: `x` has fewer than two axes, or an axis is out of range or repeated.

    Example:
        >>> import agrad as ag
        >>> ag.diagonal([[1.0, 2.0], [3.0, 4.0]])
        tensor([1., 4.])
    """
    return as_tensor(x).diagonal(offset, axis1, axis2)


@implements(np.trace)
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return the sum of a diagonal of the matrices that two axes span.

    Raises:
        ValueError: `x` has fewer than two axes, or an axis is out of range or repeated.

    Example:
        >>> import agrad as ag
        >>> ag.trace([[1.0, 2.0], [3.0, 4.0]])
        tensor(5.)
    """
    return as_tensor(x).trace(offset, axis1, axis2)
