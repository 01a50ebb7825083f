"""A CuPy without a GPU, which shows on any machine that arrays stay on their device.

Its arrays hold NumPy arrays and allow only what CuPy's arrays allow: no implicit conversion, no
writable flag, no mixing with host arrays, no function that CuPy lacks, and no argument that its
functions lack (`cupy_signatures`). The CPU kernels do the work. Streams and graphs are in
`fake_graphs`, the memory in `fake_memory`.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import FunctionType, SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import fake_graphs
import numpy as np
import pytest
from agrad.kernels.cpu.jit import Kernel
from cupy_signatures import METHODS, SIGNATURES, signature
from fake_graphs import call_library, copy_from_host, look, mapped, perform, waits
from fake_memory import MemoryPool, get_default_memory_pool, memory_of, using_allocator

from agrad import kernels

__all__ = ["installed", "make", "ndarray", "waits"]

_FROM_HOST = {"array", "asarray", "ascontiguousarray"}
_WAITING = {"array_equal", "flatnonzero", "item", "tobytes", "tolist"}
_ALLOCATING = {"empty", "empty_like"}
_JOINING = {"concatenate", "stack"}
_CHANGING = {"put_along_axis"}
_PRODUCTS = {"dot", "einsum", "matmul", "tensordot"}
_PLAIN_ARGUMENTS = {"pad", "split"}
"""Functions for which CuPy accepts NumPy arrays as arguments other than the array."""

_BOUND = {name: signature(text) for name, text in SIGNATURES.items()}
_BOUND_METHODS = {name: signature(text) for name, text in METHODS.items()}
_accepted: set[Any] = set()


def _require_accepted(signatures: Any, name: str, args: Any, options: Any) -> None:
    """Raise a TypeError unless CuPy's function accepts the arguments and options."""
    form = signatures is _BOUND, name, len(args), *options
    if form not in _accepted:  # binding takes longer than most of the calls
        signatures[name].bind(*args, **options)
        _accepted.add(form)


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


_OWNERS: WeakValueDictionary[int, "ndarray"] = WeakValueDictionary()


def _owner(host: Any) -> "ndarray":
    known = _OWNERS.get(id(host))
    return known if known is not None and known.host is host else ndarray(host)


class MemoryPointer:
    """The `data` of an array: its address, and a reference that keeps its memory alive."""

    def __init__(self, owner: "ndarray") -> None:
        self.owner = owner

    @property
    def ptr(self) -> int:
        """The address."""
        return self.owner.host.ctypes.data


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """A host array that stands for an array on the current device.

    Like CuPy's, it can also be constructed from a shape, a dtype and existing memory, all of which
    it uses.
    """

    def __init__(self, host: Any, dtype: Any = None, memptr: MemoryPointer | None = None) -> None:
        if memptr is not None:
            shape, host = host, np.frombuffer(memoryview(memptr.owner.host), dtype)
            assert shape == host.shape
        self.host = np.asarray(host)
        self.device = Device()
        own = memptr is None and self.host.base is None
        self.base = None if own or memptr is not None else _owner(self.host.base)
        """The array that owns the memory of a view, and lives as long as the view."""
        _OWNERS[id(self.host)] = self
        if own:
            memory_of(self.host).belong_to(self)
        self._memory = memptr

    @property
    def data(self) -> MemoryPointer:
        """The memory; the pointer keeps it alive."""
        return self._memory or MemoryPointer(self)

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self.host.flags.c_contiguous))
    T = property(lambda self: ndarray(self.host.T))
    mT = property(lambda self: ndarray(self.host.mT))

    def get(self) -> Any:
        look("get")
        return self.host.copy()

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.host.flags.c_contiguous or self.host.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        with stream or fake_graphs.get_current_stream():
            copy_from_host("set")
        self.host[...] = arr

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or not options.keys() <= {"out", "dtype", "casting"}:
            raise TypeError(f"{ufunc.__name__}.{method}: wrong arguments {sorted(options)}")
        return _called(ufunc.__name__, ufunc, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if not {ndarray, np.ndarray}.issuperset(types):
            return NotImplemented  # as CuPy does, whichever argument comes first
        name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
        if name not in SIGNATURES:
            raise TypeError(f"{name}: look whether CuPy has it, then add it to SIGNATURES")
        _require_accepted(_BOUND, name, args, options)
        if name in _FROM_HOST and not isinstance(args[0], ndarray):
            copy_from_host(f"copy by {name}")
            args = [_given(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        if name.endswith("_like") and options.get("shape") == ():
            del options["shape"]  # CuPy takes it for none
        if name in _JOINING and len(args[0]) > 8 and len({array.dtype for array in args[0]}) == 1:
            copy_from_host(f"addresses for {name}")
        if name == "put_along_axis" and not isinstance(args[2], ndarray):
            copy_from_host("copy of a value to put")
        if name in _PLAIN_ARGUMENTS:
            args = [arg.tolist() if isinstance(arg, np.ndarray) else arg for arg in args]
        return _called(name, function, args, options)

    def __getitem__(self, index: Any) -> "ndarray":
        return _given(perform(_get, (self.host, _index(index))))

    def __setitem__(self, index: Any, value: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, ndarray) for part in parts) and not isinstance(value, ndarray):
            copy_from_host("copy of a value")
        perform(_set, (self.host, _index(index), _taken(value)), changes=True)

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator["ndarray"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        look("bool")
        return bool(self.host)

    def __int__(self) -> int:
        look("int")
        return int(self.host)

    def __float__(self) -> float:
        look("float")
        return float(self.host)

    def __format__(self, specification: str) -> str:
        look("format")
        return format(self.host, specification)


def _method(name: str) -> Callable[..., Any]:
    def call(self: ndarray, *args: Any, **options: Any) -> Any:
        _require_accepted(_BOUND_METHODS, name, args, options)
        return _called(name, getattr(np.ndarray, name), (self, *args), options)

    return call


for _name in METHODS.keys() - vars(ndarray).keys():
    setattr(ndarray, _name, _method(_name))


def _called(name: str, function: Any, args: Any, options: Any) -> Any:
    """Return the result of a NumPy function, and imitate the effects of CuPy's."""
    arguments, options = _taken(tuple(args)), _taken(options)
    if name in _ALLOCATING:
        array = _given(function(*arguments, **options))
        memory_of(array.host).spoil()
        return array
    if name in _WAITING:
        look(name)
    if name in _PRODUCTS:
        call_library("cuBLAS")
    if name == "take":
        options["mode"] = "wrap"  # as CuPy always does
    changes = name in _CHANGING or options.get("out") is not None
    return _given(perform(function, arguments, options, changes))


def _taken(value: Any) -> Any:
    """Return a value as an argument for NumPy, and refuse a host array."""
    return mapped((ndarray, np.ndarray), _host_of, value)


def _host_of(array: Any) -> np.ndarray:
    if isinstance(array, np.ndarray):
        raise TypeError(f"Unsupported type {type(array)}")
    return array.host


def _given(result: Any) -> Any:
    """Return NumPy's result as CuPy would, with arrays even for single numbers."""
    return mapped((np.ndarray, np.generic), _owner, result)


def _index(index: Any) -> Any:
    """Return an index for the host array; CuPy copies indices from the host to the device.

    With an ellipsis a single element is a view too, as CuPy's are.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, np.ndarray | list) for part in parts):
        copy_from_host("copy of an index")
    if any(isinstance(part, ndarray) and part.dtype.kind == "b" for part in parts):
        look("index by booleans")
    ellipsis = () if any(part is Ellipsis for part in parts) else (Ellipsis,)
    return *(part.host if isinstance(part, ndarray) else part for part in parts), *ellipsis


def _get(array: np.ndarray, index: tuple[Any, ...]) -> Any:
    return array[_wrapped(array, index)]


def _set(array: np.ndarray, index: tuple[Any, ...], value: Any) -> None:
    array[_wrapped(array, index)] = value


def _wrapped(array: np.ndarray, index: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an index as CuPy reads it: arrays out of range wrap around."""
    axis, parts = 0, []
    spans = [_span(part) for part in index]
    for part, span in zip(index, spans):
        if isinstance(part, np.ndarray) and part.dtype.kind in "iu":
            part = part % array.shape[axis]
        axis += array.ndim - sum(spans) if part is Ellipsis else span
        parts.append(part)
    return tuple(parts)


def _span(part: Any) -> int:
    """Return the number of axes that a part of an index covers."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1


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
        return partial(_launch, found)


def _launch(kernel: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    call = partial(_call, kernel, _numbers_of(kernel))
    return _given(perform(call, _taken(arguments), _taken(options), changes=True))


def _call(
    kernel: Callable[..., Any], numbers: frozenset[int], *arguments: Any, **options: Any
) -> Any:
    """Call a CPU kernel, with numbers where a GPU kernel may read them on the device."""
    given = [
        argument.item() if i in numbers and _is_single(argument) else argument
        for i, argument in enumerate(arguments)
    ]
    return _left(kernel(*given, **options))


def _is_single(argument: Any) -> bool:
    return isinstance(argument, np.ndarray) and argument.ndim == 0


@cache
def _numbers_of(kernel: Callable[..., Any]) -> frozenset[int]:
    """Return which arguments of a kernel are numbers if they have no axes.

    Compiled kernels take no arrays without axes; the annotations of other kernels tell.
    """
    if not isinstance(kernel, FunctionType | Kernel):
        return frozenset()
    parameters = enumerate(inspect.signature(kernel).parameters.values())
    return frozenset(i for i, p in parameters if p.annotation in (p.empty, bool, int, float))


def _left(result: Any) -> Any:
    """Return a kernel's result; GPU kernels leave single numbers on the device."""
    if isinstance(result, tuple):
        return tuple(map(_left, result))
    return np.asarray(result) if isinstance(result, bool | int | float) else result


def _uniform(shape: tuple[int, ...], key: Any) -> np.ndarray:
    return np.random.Generator(np.random.Philox(int(key))).random(shape, np.float32)


class Stack:
    """The kernels for stacks of layers, whose arrays are the device's."""

    def __init__(self, widths: Any, activations: Any) -> None:
        self._own = kernels.cpu.stack.Stack(widths, activations)
        self._inputs, self._units = widths[0], sum(widths[1:])
        self.size = self._own.size

    def forward(self, x: Any, parameters: Any, keep: bool, spare: Any = None) -> Any:
        """Compute into given memory: the CPU kernels look at the alignment of values in it."""
        lanes = kernels.cpu.stack.LANES
        rows, more = -(-len(x) // lanes) * lanes, lanes * (lanes + 1)
        after = np.empty_like(x, shape=(rows * (self._inputs + self._units) + more,))
        before = np.empty_like(x, shape=(rows * self._units + more if keep else 0,))

        def forward(x: Any, parameters: Any, *values: Any) -> Any:
            out, _ = self._own.forward(x, parameters, keep, kernels.cpu.stack.Values(*values))
            return out

        arrays = x, parameters, after, before
        out = _given(perform(forward, _taken(arrays), changes=True))
        return out, kernels.cpu.stack.Pass(parameters, kernels.cpu.stack.Values(after, before))

    def backward(
        self, grad: Any, start: Any, end: Any, moved: int, gradient: Any, x_grad: Any = None
    ) -> None:
        def backward(grad: Any, here: Any, there: Any, gradient: Any, x_grad: Any) -> None:
            passes = [
                kernels.cpu.stack.Pass(parameters, kernels.cpu.stack.Values(*values))
                for parameters, *values in (here, there)
            ]
            self._own.backward(grad, *passes, moved, gradient, x_grad)

        arrays = [(one.parameters, *one.values) for one in (start, end)]
        perform(backward, _taken((grad, *arrays, gradient, x_grad)), changes=True)


_STACK = SimpleNamespace(Stack=Stack)
_PRODUCT = SimpleNamespace(
    Recordable=fake_graphs.Recordable,
    matmul=fake_graphs.matmul,
    matmul_each=fake_graphs.matmul,
)
_RANDOM = SimpleNamespace(uniform=_uniform)
_GPU = SimpleNamespace(
    **vars(kernels.cpu) | {"product": _PRODUCT, "random": _RANDOM, "stack": _STACK}
)
"""The CPU kernels, and those that only GPUs have."""


def _asarray(array: Any) -> ndarray:
    if not isinstance(array, ndarray):
        copy_from_host("copy by asarray")
        return ndarray(array.copy())
    here = array.device.id == Device.current
    return array if here else _given(perform(np.copy, (array.host,)))


class CompileException(Exception):
    pass


class RawModule:
    """CUDA C that is compiled and does nothing."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self.code = code

    def get_function(self, name: str) -> Callable[..., None]:
        return lambda grid, block, arguments: None


def make() -> SimpleNamespace:
    """Return a replacement for the module `cupy`, with two GPUs."""
    runtime = SimpleNamespace(
        CUDARuntimeError=fake_graphs.CUDARuntimeError,
        deviceSynchronize=fake_graphs.synchronize_device,
        driverGetVersion=lambda: 13000,
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda number: {"name": b"Stand-in", "major": 9, "minor": 0},
        memGetInfo=lambda: (3 * 2**30, 4 * 2**30),
    )
    return SimpleNamespace(
        __version__="14.2.0",
        ndarray=ndarray,
        asarray=_asarray,
        get_default_memory_pool=get_default_memory_pool,
        RawModule=RawModule,
        cuda=SimpleNamespace(
            Device=Device,
            MemoryPool=MemoryPool,
            Stream=fake_graphs.Stream,
            compiler=SimpleNamespace(CompileException=CompileException),
            device=SimpleNamespace(get_cublas_handle=lambda: 1),
            driver=SimpleNamespace(CUDADriverError=type("CUDADriverError", (RuntimeError,), {})),
            get_current_stream=fake_graphs.get_current_stream,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=runtime,
            using_allocator=using_allocator,
        ),
    )


@contextmanager
def installed() -> Iterator[SimpleNamespace]:
    """Make `import cupy` and agrad's kernels for GPUs the stand-ins inside the block."""
    module = make()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", module)
        patch.setitem(sys.modules, "agrad.kernels.gpu", Kernels(_GPU))
        patch.setattr(kernels, "gpu", Kernels(_GPU), raising=False)
        yield module
