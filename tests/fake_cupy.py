"""A CuPy without a GPU, to see on any machine that what belongs on a device stays there.

Its arrays hold NumPy's and let nothing out that CuPy's would not: no conversion unasked, no flag
for writing, no mixing with arrays of the host, no function that CuPy lacks and no argument that its
functions do not have. `SIGNATURES` and `METHODS` were taken from CuPy 14.2, and are compared with
CuPy's own where it is installed. The kernels behind it are those for the CPU.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest

from agrad import kernels

_LIKE = "a, dtype=None, order='K', subok=None, shape=None"
_AXES = "a, axis=None, out=None, keepdims=False"
_SUMS = "a, axis=None, dtype=None, out=None, keepdims=False"
_MOMENTS = "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False"

SIGNATURES = {
    "all": _AXES,
    "arange": "start, stop=None, step=1, dtype=None",
    "array": "obj, dtype=None, copy=True, order='K', subok=False, ndmin=0, *, blocking=False",
    "array_equal": "a1, a2, equal_nan=False",
    "asarray": "a, dtype=None, order=None, *, copy=None, blocking=False",
    "ascontiguousarray": "a, dtype=None",
    "broadcast_arrays": "*args",
    "broadcast_to": "array, shape",
    "clip": "a, a_min, a_max, out=None",
    "concatenate": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "cumprod": "a, axis=None, dtype=None, out=None",
    "einsum": "*operands, **kwargs",
    "empty": "shape, dtype=float, order='C'",
    "empty_like": _LIKE.replace("a,", "prototype,", 1),
    "expand_dims": "a, axis",
    "flatnonzero": "a",
    "full": "shape, fill_value, dtype=None, order='C'",
    "full_like": _LIKE.replace("a,", "a, fill_value,", 1),
    "linalg.norm": "x, ord=None, axis=None, keepdims=False",
    "max": _AXES,
    "may_share_memory": "a, b, max_work=None",
    "mean": _SUMS,
    "min": _AXES,
    "moveaxis": "a, source, destination",
    "ndim": "a",
    "ones": "shape, dtype=float, order='C'",
    "ones_like": _LIKE,
    "pad": "array, pad_width, mode='constant', **kwargs",
    "prod": _SUMS,
    "put_along_axis": "arr, indices, values, axis",
    "ravel": "a, order='C'",
    "reshape": "a, newshape, order='C', *, copy=None",
    "result_type": "*arrays_and_dtypes",
    "shape": "a",
    "split": "ary, indices_or_sections, axis=0",
    "squeeze": "a, axis=None",
    "stack": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "std": _MOMENTS,
    "sum": _SUMS,
    "take": "a, indices, axis=None, out=None",
    "transpose": "a, axes=None",
    "var": _MOMENTS,
    "where": "condition, x=None, y=None",
    "zeros": "shape, dtype=float, order='C'",
    "zeros_like": _LIKE,
}
METHODS = {
    "all": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "argmin": "axis=None, out=None, dtype=None, keepdims=False",
    "astype": "dtype, order='K', casting=None, subok=None, copy=True",
    "copy": "order='C'",
    "item": "",
    "max": "axis=None, out=None, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "ravel": "order='C'",
    "reshape": "*shape, order='C', copy=None",
    "squeeze": "axis=None",
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "tobytes": "order='C'",
    "tolist": "",
    "transpose": "*axes",
    "view": "dtype=None, type=None",
}
_FROM_HOST = {"array", "asarray", "ascontiguousarray"}
_WAITING = {"array_equal", "flatnonzero"}
_PLAIN_ARGUMENTS = {"pad", "split"}
"""Functions of which CuPy takes other arguments than arrays as NumPy's arrays."""


def signature(text: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {text}: None"))


_BOUND = {name: signature(text) for name, text in SIGNATURES.items()}
_BOUND_METHODS = {name: signature(text) for name, text in METHODS.items()}


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Device:
    """A device by its number, by default the current one."""

    current = 0

    def __init__(self, number: int | None = None) -> None:
        self.id = Device.current if number is None else number

    def __enter__(self) -> "Device":
        self._before, Device.current = Device.current, self.id
        return self

    def __exit__(self, *error: object) -> None:
        Device.current = self._before


_noted: list[str] | None = None


@contextmanager
def waits() -> Iterator[list[str]]:
    """Note inside the block for what Python waits for the device, or copies to it."""
    global _noted
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None


def _note(what: str) -> None:
    if _noted is not None:
        _noted.append(what)


_OWNERS: WeakValueDictionary[int, "ndarray"] = WeakValueDictionary()


def _owner(host: Any) -> "ndarray":
    known = _OWNERS.get(id(host))
    return known if known is not None and known.host is host else ndarray(host)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the host's that is taken for one on the device that is current."""

    def __init__(self, host: Any) -> None:
        self.host = np.asarray(host)
        self.device = Device()
        self.base = None if self.host.base is None else _owner(self.host.base)
        """The array whose memory a view is of, which lives as long as the view does."""
        _OWNERS[id(self.host)] = self

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    T = property(lambda self: ndarray(self.host.T))
    mT = property(lambda self: ndarray(self.host.mT))

    def get(self) -> Any:
        _note("get")
        return self.host.copy()

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or not options.keys() <= {"out", "dtype", "casting"}:
            raise TypeError(f"{ufunc.__name__}.{method}: wrong arguments {sorted(options)}")
        (out,) = options.get("out", (None,))
        result = ufunc(*map(_taken, inputs), **_taken(options))
        return _given(result) if out is None else out

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
        if name not in SIGNATURES:
            raise TypeError(f"{name}: look whether CuPy has it, then add it to SIGNATURES")
        _BOUND[name].bind(*args, **options)
        if name in _FROM_HOST and any(isinstance(arg, np.ndarray) for arg in args):
            _note(f"copy by {name}")
            args = [_given(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        if name in _WAITING:
            _note(name)
        if name == "take":
            options = {**options, "mode": "wrap"}
        first, *rest = args
        rest = rest if name in _PLAIN_ARGUMENTS else map(_taken, rest)
        return _given(function(_taken(first), *rest, **_taken(options)))

    def __getitem__(self, index: Any) -> "ndarray":
        return ndarray(self.host[_index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.host[_index(index)] = _taken(value)

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator["ndarray"]:
        return map(ndarray, self.host)

    def __bool__(self) -> bool:
        _note("bool")
        return bool(self.host)

    def __int__(self) -> int:
        _note("int")
        return int(self.host)

    def __float__(self) -> float:
        _note("float")
        return float(self.host)

    def __format__(self, specification: str) -> str:
        _note("format")
        return format(self.host, specification)


def _method(name: str) -> Callable[..., Any]:
    def call(self: ndarray, *args: Any, **options: Any) -> Any:
        _BOUND_METHODS[name].bind(*args, **options)
        if name in ("item", "tobytes", "tolist"):
            _note(name)
        result = getattr(self.host, name)(*map(_taken, args), **_taken(options))
        return _given(result) if isinstance(result, np.ndarray | np.generic) else result

    return call


for _name in METHODS:
    setattr(ndarray, _name, _method(_name))


def _taken(value: Any) -> Any:
    """Return what NumPy is to be called with, and refuse an array of the host."""
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, ndarray):
        return value.host
    if type(value) in (list, tuple):
        return type(value)(map(_taken, value))
    return {k: _taken(v) for k, v in value.items()} if isinstance(value, dict) else value


def _given(result: Any) -> Any:
    """Return what NumPy gave as CuPy would: also a single number as an array."""
    if isinstance(result, list | tuple) and any(isinstance(part, np.ndarray) for part in result):
        return type(result)(map(_given, result))
    return ndarray(result) if isinstance(result, np.ndarray | np.generic) else result


def _index(index: Any) -> Any:
    """Return an index for the host's array; CuPy copies those of the host to the device."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, np.ndarray | list):
        _note("copy of an index")
    if isinstance(index, ndarray) and index.dtype.kind == "b":
        _note("index by booleans")
    return index.host if isinstance(index, ndarray) else index


class Kernels:
    """The kernels for the CPU, refusing arrays that are not on the device."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._module, name)
        if not callable(found):  # a module, or an activation
            return Kernels(found)
        if isinstance(found, type):
            return found
        return lambda *arguments, **options: _of_kernel(
            found(*map(_taken, arguments), **_taken(options))
        )


def _of_kernel(result: Any) -> Any:
    """Return what a kernel gives; the GPU's leave single numbers on the device."""
    if isinstance(result, tuple):
        return tuple(_of_kernel(part) for part in result)
    return ndarray(result) if isinstance(result, bool | int | float) else _given(result)


def _uniform(shape: tuple[int, ...], key: Any) -> np.ndarray:
    return np.random.Generator(np.random.Philox(int(key))).random(shape, np.float32)


_GPU = SimpleNamespace(**vars(kernels.cpu), random=SimpleNamespace(uniform=_uniform))
"""The kernels for the CPU, and what those for GPUs have beyond."""


def _asarray(array: Any) -> ndarray:
    if isinstance(array, ndarray):
        return ndarray(array.host)
    _note("copy by asarray")
    return ndarray(array.copy())


def make() -> SimpleNamespace:
    """Return what stands for the module `cupy`, with two GPUs."""
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        deviceSynchronize=lambda: None,
        driverGetVersion=lambda: 13000,
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda number: {"name": b"Stand-in", "major": 9, "minor": 0},
        memGetInfo=lambda: (3 * 2**30, 4 * 2**30),
    )
    return SimpleNamespace(
        __version__="14.2.0",
        ndarray=ndarray,
        asarray=_asarray,
        cuda=SimpleNamespace(
            Device=Device,
            driver=SimpleNamespace(CUDADriverError=type("CUDADriverError", (RuntimeError,), {})),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=runtime,
        ),
    )


@contextmanager
def installed() -> Iterator[SimpleNamespace]:
    """Let `import cupy`, and agrad's kernels for GPUs, give the stand-ins inside the block."""
    module = make()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", module)
        patch.setitem(sys.modules, "agrad.kernels.gpu", Kernels(_GPU))
        patch.setattr(kernels, "gpu", Kernels(_GPU), raising=False)
        yield module
