"""Streams of an imaginary device, and CUDA graphs of the work on them.

All work goes through `perform`. A capturing stream records a call, with the memory that it reads
and writes, instead of running it. A launch runs the recorded calls on the present contents of that
memory. Whatever a device or CuPy refuses during a capture is refused here, and memory that was
reused meanwhile is spoiled, as on a device.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import numpy as np
from fake_memory import Memory, hand_on, memory_of, placed, root_of


class CUDARuntimeError(RuntimeError):
    pass


# -- looks of the host -----------------------------------------------------------------------------

_noted: list[str] | None = None


@contextmanager
def waits() -> Iterator[list[str]]:
    """Note, inside the block, why Python waits for the device or copies to it."""
    global _noted
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None


def _note(what: str) -> None:
    if _noted is not None:
        _noted.append(what)


def look(what: str) -> None:
    """Note that the host waits for the device, which invalidates a capture.

    Raises:
        CUDARuntimeError: The current stream is capturing a graph.
    """
    capture = _capture()
    if capture is not None:
        raise capture.spoiled(f"cudaErrorStreamCaptureUnsupported: {what} while capturing")
    _note(what)


def copy_from_host(what: str) -> None:
    """Note that something is copied to the device.

    Raises:
        RuntimeError: The current stream is capturing a graph.
    """
    if _capture() is not None:
        raise RuntimeError(
            f"{what}: the current stream is capturing, so H2D transfers are disallowed"
        )
    _note(what)


def call_library(name: str) -> None:
    """Refuse to call a library of NVIDIA where CuPy refuses.

    Raises:
        NotImplementedError: The current stream is capturing a graph.
    """
    if _capture() is not None:
        raise NotImplementedError(
            f"calling {name} API during stream capture is currently unsupported"
        )


def synchronize_device() -> None:
    """Wait for all streams.

    Raises:
        CUDARuntimeError: One of them captures.
    """
    if _capturing is not None:
        raise _capturing.spoiled("cudaErrorStreamCaptureUnsupported: deviceSynchronize")
    _note("deviceSynchronize")


# -- streams ---------------------------------------------------------------------------------------


class Stream:
    """A stream that waits for the default stream, which waits for it, unless `non_blocking`."""

    def __init__(self, *, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking

    def __enter__(self) -> "Stream":
        _current.streams.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _current.streams.pop()

    def synchronize(self) -> None:
        """Wait for the work on the stream."""
        with self:
            look("synchronize")

    def begin_capture(self, mode: int | None = None) -> None:
        """Record the work issued on this stream from now on."""
        global _capturing
        if self is _DEFAULT:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if _capturing is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: a stream is capturing")
        _capturing = Capture(self)

    def end_capture(self) -> "Graph":
        """Return what was recorded."""
        global _capturing
        capture = _capturing
        if capture is None or capture.stream is not self:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream is not capturing")
        _capturing = None
        capture.require_valid()
        gc.collect()  # sooner or later it is
        return Graph(capture)

    def is_capturing(self) -> bool:
        """Return whether this stream records."""
        if _capturing is None or _capturing.stream is not self:
            return False
        _capturing.require_valid()
        return True


_DEFAULT = Stream()
"""The default stream, of all threads."""


class _Current(threading.local):
    """The default stream, then those that this thread made current; the last one is current."""

    def __init__(self) -> None:
        self.streams = [_DEFAULT]


_current = _Current()

_capturing: "Capture | None" = None


def get_current_stream() -> Stream:
    return _current.streams[-1]


def _capture() -> "Capture | None":
    """Return the capture that records the work on the current stream, or None if it runs at once.

    Raises:
        CUDARuntimeError: The default stream is current and would have to wait for a capturing
            stream; or the capture is invalid.
    """
    stream = get_current_stream()
    if _capturing is None or stream not in (_DEFAULT, _capturing.stream):
        return None
    if stream is _DEFAULT:
        if _capturing.stream.non_blocking:
            return None
        raise _capturing.spoiled("cudaErrorStreamCaptureImplicit: work on the default stream")
    _capturing.require_valid()
    return _capturing


# -- graphs ----------------------------------------------------------------------------------------


def perform(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any] | None = None,
    changes: bool = False,
) -> Any:
    """Return a function's results on device arrays: computed now, or by a later launch.

    Args:
        function: Returns NumPy arrays or numbers, lists or tuples of them, or values without any.
        arguments: Its arguments; all arrays in them, including those in lists, tuples and dicts,
            are the device's.
        options: Arguments by name.
        changes: Whether it may change its arguments in place.
    """
    capture = _capture()
    if capture is None:
        return function(*arguments, **options or {})
    return capture.record(function, arguments, options or {}, changes)


_VALUES = np.ndarray, np.generic


def mapped(kind: Any, change: Callable[[Any], Any], value: Any) -> Any:
    """Return `value` with every object of that kind changed, including those in containers."""
    if isinstance(value, kind):
        return change(value)
    type_ = type(value)
    if type_ is tuple or type_ is list:
        return type_([mapped(kind, change, part) for part in value])
    if isinstance(value, tuple) and type_.__module__.startswith("numpy.linalg"):
        # a named tuple; CuPy's has no names
        return tuple([mapped(kind, change, part) for part in value])
    if isinstance(value, dict):
        return {key: mapped(kind, change, part) for key, part in value.items()}
    return value


class Capture:
    """The recording of a stream.

    Attributes:
        calls: The recorded calls, which run the requested work.
        memories: The memory that they read and write, by the ids of the roots.
        workspaces: Weak references to workspaces that must exist at a launch.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.calls: list[Callable[[], None]] = []
        self.memories: dict[int, Memory] = {}
        self.workspaces: list[ref[Any]] = []
        self._invalid = False

    def record(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        changes: bool,
    ) -> Any:
        """Record a call, and return arrays like its results: views, or unfilled arrays."""
        trial = Trial()
        with np.errstate(all="ignore"):
            result = function(*trial.copied(arguments), **trial.copied(options))
        result = mapped(_VALUES, trial.original, result)
        outputs = trial.outputs
        if changes or any(output is not None for output in outputs):
            self.memories |= trial.memories
            self.calls.append(lambda: _compute(function, arguments, options, outputs))
        return result

    def spoiled(self, message: str) -> CUDARuntimeError:
        """Invalidate the recording and return an error."""
        self._invalid = True
        return CUDARuntimeError(message)

    def require_valid(self) -> None:
        """Raise an error if the recording is invalid."""
        if self._invalid:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: by a previous error")


def _compute(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    outputs: list[np.ndarray | None],
) -> None:
    """Call a function and write its results to the recorded outputs."""
    values: list[Any] = []
    mapped(_VALUES, values.append, function(*arguments, **options))
    for output, value in zip(outputs, values, strict=True):
        if output is not None:
            output[...] = value


class Trial:
    """Copies of all memory of a call's arguments, which reveal its results without its effects.

    They hold zeros, which are valid numbers and indices, because the values are not known yet.

    Attributes:
        memories: The memory of the arguments and of new arrays, by the ids of the roots.
        outputs: The device arrays that the call returns; None for views of arguments.
    """

    def __init__(self) -> None:
        self.memories: dict[int, Memory] = {}
        self.outputs: list[np.ndarray | None] = []
        self._made: set[int] = set()
        self._copies: dict[int, np.ndarray] = {}
        self._aliases: dict[int, np.ndarray] = {}
        """Arrays over the whole memory of a root, by the root's id; results are views of them."""
        self._originals: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        """Copies and originals, by the copies' ids."""

    def copied(self, value: Any) -> Any:
        """Return a copy of `value` for the trial call."""
        return mapped(np.ndarray, self._copy, value)

    def _copy(self, array: np.ndarray) -> np.ndarray:
        root = root_of(array)
        if id(root) not in self._copies:
            self._copies[id(root)] = self._pair(np.zeros_like(root), root)
            self.memories[id(root)] = memory_of(root)
        base = array.base if isinstance(array.base, np.ndarray) else array
        if base is not root:
            self._aliases[id(root)] = base
        return self._pair(placed(array, root, self._copies[id(root)]), array)

    def original(self, value: np.ndarray | np.generic) -> np.ndarray:
        """Return the device array that corresponds to a trial result, or a new one."""
        result = np.asarray(value)
        root = root_of(result)
        if id(root) not in self._originals:
            self._make(root)
        _, device_root = self._originals[id(root)]
        if id(result) not in self._originals:
            base = self._aliases.get(id(device_root), device_root)
            self._pair(result, placed(result, root, base))
        _, array = self._originals[id(result)]
        self.outputs.append(array if id(device_root) in self._made else None)
        return array

    def _make(self, root: np.ndarray) -> None:
        """Allocate unfilled memory for an array that the call has created."""
        memory = memory_of(np.empty_like(root))
        memory.spoil()
        self.memories[id(memory.root)] = memory
        self._made.add(id(memory.root))
        self._pair(root, memory.root)

    def _pair(self, copy: np.ndarray, original: np.ndarray) -> np.ndarray:
        self._originals[id(copy)] = copy, original
        return copy


class Graph:
    """Recorded work that each launch runs on the same memory."""

    def __init__(self, capture: Capture) -> None:
        self._recorded = capture

    def launch(self, stream: Stream | None = None) -> None:
        """Run all calls in their order.

        Raises:
            CUDARuntimeError: A stream is capturing, or memory has been returned.
        """
        recorded = self._recorded
        if _capturing is not None:
            raise _capturing.spoiled("cudaErrorStreamCaptureUnsupported: a graph in a graph")
        gone = any(workspace() is None for workspace in recorded.workspaces)
        if gone or not hand_on(list(recorded.memories.values())):
            raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access")
        with np.errstate(all="ignore"):
            for call in recorded.calls:
                call()


# -- products --------------------------------------------------------------------------------------


class Recordable:
    """Like that of `agrad.kernels.gpu.product`: its `with` blocks record products."""

    def __enter__(self) -> "Recordable":
        _entered.recordables.append((self, get_current_stream()))
        return self

    def __exit__(self, *error: object) -> None:
        _entered.recordables.pop()


class _Entered(threading.local):
    """The blocks that this thread has entered, with their streams."""

    def __init__(self) -> None:
        self.recordables: list[tuple[Recordable, Stream]] = []


_entered = _Entered()


def matmul(x1: np.ndarray, x2: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Multiply like `agrad.kernels.gpu.product.matmul`, as a kernel."""
    if not _entered.recordables:
        call_library("cuBLAS")
        return np.matmul(x1, x2, out=out)
    recordable, stream = _entered.recordables[-1]
    if stream is not get_current_stream():
        raise RuntimeError("matmul: it would be on the stream on which Recordable was entered")
    if x1.dtype != x2.dtype or x1.dtype not in (np.float32, np.float64):
        raise TypeError(f"matmul: {x1.dtype} and {x2.dtype} cannot be recorded in a CUDA graph")
    if out is not None and not out.flags.c_contiguous:
        raise ValueError("matmul: out is not C-contiguous")
    capture = _capture()
    if capture is not None:
        capture.workspaces.append(ref(recordable))
    return np.matmul(x1, x2, out=out)
