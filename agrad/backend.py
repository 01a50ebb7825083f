"""The array library, the device and the kernels that an array belongs to.

Operations are written against NumPy's functions, which CuPy's arrays answer by NumPy's dispatch
protocols. Every other choice by an array's type is made in this module.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from agrad.arguments import require_real
from agrad.errors import DeviceError
from agrad.gpu import cuda
from agrad.gpu.deferred import fed, kept
from agrad.kernels import cpu
from agrad.random import generator

__all__ = [
    "Array",
    "address",
    "alias",
    "as_array",
    "beside",
    "cached_arrays",
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
    "require_no_mask",
    "same_device",
    "scalar",
    "set_writable",
    "uniform",
]

Array = NDArray[Any]


def kernels(array: Array) -> ModuleType:
    """Return the kernels for `array`: `agrad.kernels.cpu` if it is NumPy's, `gpu` if CuPy's.

    Raises:
        TypeError: No kernels support arrays of that type.
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
    """Return `value` as an array: NumPy's reductions return scalars in place of 0-d arrays."""
    return np.asarray(value) if isinstance(value, np.generic) else value


# -- devices ---------------------------------------------------------------------------------------


def device_of(array: Any) -> str:
    """Return an array's device: "cpu", "cuda:0" and so on.

    Example:
        >>> device_of(np.zeros(2))
        'cpu'
    """
    return f"cuda:{array.device.id}" if cuda.is_array(array) else "cpu"


def same_device(x: Array, y: Array) -> bool:
    """Return whether two arrays are on the same device."""
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return True
    return device_of(x) == device_of(y)


def is_on(array: Array, device: str) -> bool:
    """Return whether an array is on that device.

    Raises:
        DeviceError: The device does not exist.
    """
    known = device_of(array)
    return known == (device if device == "cpu" else f"cuda:{cuda.number_of(device)}")


def move(array: Array, device: str) -> Array:
    """Return an array on a device; the array itself, if it is already there.

    Raises:
        DeviceError: No such device can be used, or it is out of memory.
    """
    if device != "cpu":
        moved: Array = cuda.to_device(array, device)
        return moved
    return cuda.to_host(array) if cuda.is_array(array) else array


def beside(
    operation: str, argument: str, value: Any, like: Array, dtype: DTypeLike | None = None
) -> Array:
    """Return a constant as an array on the device of `like`.

    Numbers and nested sequences are put there. An array must be there already: operations never
    copy arrays between devices unasked.

    Raises:
        DeviceError: `value` is an array on another device.
        TypeError: `value` has masked elements, or does not hold real numbers.

    Example:
        >>> beside("where", "condition", [True, False], like=np.zeros(2))
        array([ True, False])
    """
    if not is_array(value):
        require_real(operation, argument, np.asarray(value).dtype)
        # From the numbers themselves: those that do not fit raise, while an array's would wrap.
        return np.asarray(value, dtype=dtype, like=like)
    require_real(operation, argument, value.dtype)
    if type(value) is not np.ndarray:
        require_no_mask(operation, argument, value)
    if not same_device(value, like):
        raise DeviceError(
            f"{operation}: {argument} is on {device_of(value)}, but the other operand is on "
            f"{device_of(like)}; move one of them with .to()"
        )
    array: Array = value if dtype is None else value.astype(dtype, copy=False)
    return array


def require_no_mask(operation: str, argument: str, value: Any) -> None:
    """Raise a TypeError if elements of an array are masked: operations would use the hidden values.

    Example:
        >>> require_no_mask("tensor", "data", np.ma.array([1.0, 2.0], mask=[False, True]))
        Traceback (most recent call last):
        TypeError: tensor: data has masked elements; replace them first, e.g. with data.filled(0)
    """
    if type(value) is np.ndarray or not isinstance(value, np.ndarray):
        return  # without numpy.ma, whose import could fail in the middle of a save
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(
            f"{operation}: {argument} has masked elements; replace them first, e.g. with "
            f"{argument}.filled(0)"
        )


# -- differences between the libraries -------------------------------------------------------------


def set_writable(arrays: Iterable[Array], writable: bool) -> None:
    """Make NumPy arrays writable or read-only; CuPy's arrays have no such flag."""
    for array in arrays:
        if isinstance(array, np.ndarray):
            array.setflags(write=writable)


def address(array: Array) -> int:
    """Return where in the memory of its device an array begins.

    Example:
        >>> values = np.zeros(2)
        >>> address(values[1:]) - address(values)
        8
    """
    place: int = array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
    return place


def alias(array: Array) -> Array:
    """Return a fresh one-dimensional array on the memory of another, which is not its base.

    So a view of it, and a view of that view, has the fresh array as its base, and a weak reference
    to that array tells whether anything still refers to a part of it.

    Example:
        >>> whole = alias(np.zeros(4))
        >>> whole[1:][1:].base is whole
        True
    """
    if isinstance(array, np.ndarray):
        return np.frombuffer(array.data, array.dtype)
    return type(array)(array.shape, array.dtype, memptr=array.data)


def scalar(value: float | np.generic, dtype: DTypeLike, like: Array) -> Array:
    """Return a number as a 0-d array; on a GPU it is filled in place, as a copy would wait."""
    if isinstance(like, np.ndarray):
        return np.asarray(value, dtype=dtype)
    # CuPy treats the shape () as no shape at all, and uses that of `like`.
    return np.full_like(like, value, dtype=dtype, shape=(1,)).reshape(())


def finite_part(values: Array) -> Array:
    """Return the values with 0 in place of NaN and infinities.

    Example:
        >>> finite_part(np.array([1.0, -np.inf]))
        array([1., 0.])
    """
    finite = np.isfinite(values)
    return values if known_all(finite) else np.where(finite, values, 0)


def known_all(conditions: Array) -> bool:
    """Return whether all are known to be true; False on a GPU, where finding out would mean a wait.

    Example:
        >>> known_all(np.array([True, False]))
        False
    """
    return not cuda.is_array(conditions) and bool(conditions.all())


def cached_arrays(make: Callable[..., list[Array]]) -> Callable[..., list[Array]]:
    """Cache arrays that depend on hashable arguments alone, and that nothing ever changes.

    The cache drops the arrays of the least recently used arguments. A recorded training step has
    their addresses, so it keeps them alive itself.

    Example:
        >>> @cached_arrays
        ... def thirds(count):
        ...     return [np.arange(count) / 3]
        >>> thirds(2) is thirds(2)
        True
    """
    cached = functools.lru_cache(maxsize=256)(make)

    @functools.wraps(cached)
    def look_up(*arguments: Any) -> list[Array]:
        arrays: list[Array] = kept(cached(*arguments))
        return arrays

    return look_up


def uniform(like: Array) -> Any:
    """Return float32 numbers on [0, 1) of the shape of `like`, drawn on its device.

    On a GPU they are a function of a key drawn from agrad's generator, so that the generator's
    state is all that a seed determines and a checkpoint needs. A recorded step draws a new key for
    each run.
    """
    if isinstance(like, np.ndarray):
        return generator().random(like.shape, dtype=np.float32)
    key = fed(lambda: int(generator().integers(2**63)), np.int64)
    return kernels(like).random.uniform(like.shape, key)


def ones(count: int, like: Array) -> Array:
    """Return `count` ones of the dtype of `like`, on its device."""
    if isinstance(like, np.ndarray):
        return np.ones(count, like.dtype)
    return np.ones_like(like, shape=(count,))


def joined(
    join: Callable[[Sequence[Array], int], Array], arrays: Sequence[Array], axis: int
) -> Array:
    """Return arrays joined by `np.stack` or `np.concatenate`.

    On a GPU they are joined eight at a time: for more, CuPy copies the addresses from the host.

    Example:
        >>> joined(np.concatenate, [np.array([1.0, 2.0]), np.array([3.0])], 0)
        array([1., 2., 3.])
    """
    while len(arrays) > 8 and cuda.is_array(arrays[0]):
        arrays = [join(arrays[i : i + 8], axis) for i in range(0, len(arrays), 8)]
        join = np.concatenate
    return join(arrays, axis)


def largest(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    """Return the largest element over `axis`, which is kept; -inf if there is none.

    Example:
        >>> largest(np.array([[1.0, 3.0], [2.0, 0.0]]), axis=1)
        array([[3.],
               [2.]])
    """
    if x.size:
        top: Array = x.max(axis=axis, keepdims=True)
        return top
    sums = x.sum(axis=axis, keepdims=True)
    return np.full_like(sums, -np.inf)
