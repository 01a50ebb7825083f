"""Which array library, which device and which kernels an array belongs to.

Operations are written against NumPy's functions; CuPy's arrays answer those themselves, by NumPy's
dispatch protocols. What is left to choose by the array's type stands here, and here alone.
"""

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from agrad.errors import DeviceError
from agrad.gpu import cuda
from agrad.gpu.deferred import fed
from agrad.kernels import cpu
from agrad.random import generator

__all__ = [
    "Array",
    "alias",
    "as_array",
    "beside",
    "device_of",
    "finite_part",
    "is_array",
    "is_on",
    "joined",
    "kernels",
    "known_all",
    "largest",
    "move",
    "ones",
    "same_device",
    "scalar",
    "set_writable",
    "uniform",
]

Array = np.ndarray[Any, np.dtype[Any]]


def kernels(array: Array) -> ModuleType:
    """Return the kernels that work on `array`: `agrad.kernels.cpu` for NumPy's, `gpu` for CuPy's.

    Raises:
        TypeError: no kernels exist for arrays of that type.
    """
    if isinstance(array, np.ndarray):
        return cpu
    if cuda.is_array(array):
        from agrad.kernels import gpu

        return gpu
    raise TypeError(f"agrad has no kernels for arrays of type {type(array).__name__}")


def is_array(value: Any) -> bool:
    """Return whether `value` is an array of a library that agrad computes with."""
    return isinstance(value, np.ndarray) or cuda.is_array(value)


def as_array(value: Any) -> Array:
    """Return `value` as an array: NumPy's reductions give scalars where a 0-d array is meant."""
    return np.asarray(value) if isinstance(value, np.generic) else value


# -- devices ---------------------------------------------------------------------------------------


def device_of(array: Any) -> str:
    """Return where an array lives: "cpu", or "cuda:0" and so on.

    Example:
        >>> device_of(np.zeros(2))
        'cpu'
    """
    return f"cuda:{array.device.id}" if cuda.is_array(array) else "cpu"


def same_device(x: Array, y: Array) -> bool:
    """Return whether two arrays live on one device."""
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return True
    return device_of(x) == device_of(y)


def is_on(array: Array, device: str) -> bool:
    """Return whether an array lives on that device.

    Raises:
        DeviceError: there is no such device.
    """
    known = device_of(array)
    return known == (device if device == "cpu" else f"cuda:{cuda.number_of(device)}")


def move(array: Array, device: str) -> Array:
    """Return an array on a device: itself, if it is there already.

    Raises:
        DeviceError: no such device can be used, or it has no room.
    """
    if device != "cpu":
        return cuda.to_device(array, device)
    return cuda.to_host(array) if cuda.is_array(array) else array


def beside(
    operation: str, argument: str, value: Any, like: Array, dtype: DTypeLike | None = None
) -> Array:
    """Return a constant as an array on the device of `like`.

    Numbers and nested sequences are put there. An array has to be there already: no operation
    copies one between devices unasked.

    Raises:
        DeviceError: an array on another device.

    Example:
        >>> beside("where", "condition", [True, False], like=np.zeros(2))
        array([ True, False])
    """
    if not is_array(value):
        return np.asarray(value, dtype=dtype, like=like)
    if not same_device(value, like):
        raise DeviceError(
            f"{operation}: {argument} is on {device_of(value)}, and what it goes with on "
            f"{device_of(like)}; move one of them with .to()"
        )
    return value if dtype is None else value.astype(dtype, copy=False)


# -- what the libraries do not share ---------------------------------------------------------------


def set_writable(arrays: Iterable[Array], writable: bool) -> None:
    """Let NumPy allow or refuse changes in place; CuPy's arrays have no such flag."""
    for array in arrays:
        if isinstance(array, np.ndarray):
            array.setflags(write=writable)


def alias(array: Array) -> Array:
    """Return a fresh one-dimensional array on the memory of another, which is not its base.

    So a view of it, and a view of that view, has the fresh array as its base, and a weak reference
    to that array tells whether anybody still has a part of it.

    Example:
        >>> whole = alias(np.zeros(4))
        >>> whole[1:][1:].base is whole
        True
    """
    if isinstance(array, np.ndarray):
        return np.frombuffer(array.data, array.dtype)
    return type(array)(array.shape, array.dtype, memptr=array.data)


def scalar(value: float | np.generic, dtype: DTypeLike, like: Array) -> Array:
    """Return a number as a 0-d array; on a GPU filled there, as a copy would have to wait."""
    if isinstance(like, np.ndarray):
        return np.asarray(value, dtype=dtype)
    # CuPy takes a shape without axes for none given, and then that of `like`.
    return np.full_like(like, value, dtype=dtype, shape=(1,)).reshape(())


def finite_part(values: Array) -> Array:
    """Return the values with 0 in the place of NaN and infinities.

    Example:
        >>> finite_part(np.array([1.0, -np.inf]))
        array([1., 0.])
    """
    finite = np.isfinite(values)
    return values if known_all(finite) else np.where(finite, values, 0)


def known_all(conditions: Array) -> bool:
    """Return whether all are true; of those on a GPU, where to look would be to wait, that is open.

    Example:
        >>> known_all(np.array([True, False]))
        False
    """
    return not cuda.is_array(conditions) and bool(conditions.all())


def uniform(like: Array) -> Any:
    """Return float32 numbers on [0, 1) of the shape of `like`, drawn where it lives.

    On a GPU they are a function of a key drawn from agrad's generator, whose state is thus all that
    there is to seed, to save and to restore.
    """
    if isinstance(like, np.ndarray):
        return generator().random(like.shape, dtype=np.float32)
    key = fed(lambda: int(generator().integers(2**63)), np.int64)
    return kernels(like).random.uniform(like.shape, key)


def ones(count: int, like: Array) -> Array:
    """Return so many ones of the dtype of `like`, where it lives."""
    if isinstance(like, np.ndarray):
        return np.ones(count, like.dtype)
    return np.ones_like(like, shape=(count,))


def joined(
    join: Callable[[Sequence[Array], int], Array], arrays: Sequence[Array], axis: int
) -> Array:
    """Return arrays joined by `np.stack` or `np.concatenate`.

    On a GPU a few at a time: of more than eight, CuPy copies the addresses from the host.

    Example:
        >>> joined(np.concatenate, [np.array([1.0, 2.0]), np.array([3.0])], 0)
        array([1., 2., 3.])
    """
    while len(arrays) > 8 and cuda.is_array(arrays[0]):
        arrays = [join(arrays[i : i + 8], axis) for i in range(0, len(arrays), 8)]
        join = np.concatenate
    return join(arrays, axis)


def largest(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    """Return the largest element over `axis`, which is kept; -inf where there is none.

    Example:
        >>> largest(np.array([[1.0, 3.0], [2.0, 0.0]]), axis=1)
        array([[3.],
               [2.]])
    """
    if x.size:
        return x.max(axis=axis, keepdims=True)
    sums = x.sum(axis=axis, keepdims=True)
    return np.full_like(sums, -np.inf)
