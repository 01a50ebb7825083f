"""NVIDIA GPUs, as CuPy gives them: which there are, what goes to them and back, what can fail.

CuPy is imported when a GPU is asked for, never before: where it has not been imported, no array can
be one of its own.
"""

import ctypes
import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from agrad.errors import DeviceError, DeviceLostError, DeviceMemoryError

__all__ = [
    "Gpu",
    "advice",
    "computing_on",
    "driver_version",
    "explain",
    "failures_explained",
    "gpus",
    "is_array",
    "new_pool",
    "new_stream",
    "number_of",
    "record",
    "require_current",
    "to_device",
    "to_host",
]


def is_array(value: Any) -> bool:
    """Return whether `value` is an array of CuPy's."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def number_of(device: str) -> int:
    """Return the number of the GPU that "cuda:1", say, names; "cuda" is CuPy's current one.

    Raises:
        DeviceError: no such GPU can be used; the message says what is missing.
    """
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise DeviceError(f'device {device!r}: must be "cpu", "cuda", or "cuda:0" and so on')
    count = _count(device)
    number = _cupy(device).cuda.Device().id if match[1] is None else int(match[1])
    if number >= count:
        raise DeviceError(f"device {device!r}: the GPUs here are numbered from 0 to {count - 1}")
    return int(number)


def to_device(array: Any, device: str) -> Any:
    """Return an array of NumPy's or CuPy's on a GPU: itself, if it is there already.

    Raises:
        DeviceError: no such GPU can be used.
        DeviceMemoryError: it has no room.
    """
    number = number_of(device)
    if is_array(array) and array.device.id == number:
        return array
    cupy = _cupy(device)
    with failures_explained(), cupy.cuda.Device(number):
        return cupy.asarray(array)


def to_host(array: Any) -> Any:
    """Return a copy of a GPU's array as one of NumPy's.

    Raises:
        DeviceLostError: the GPU has failed.
    """
    with failures_explained():
        return array.get()


def require_current(operation: str, array: Any) -> None:
    """Raise a DeviceError unless `array` is on the GPU on which CuPy computes at present."""
    current = _cupy("cuda").cuda.Device().id
    if array.device.id != current:
        raise DeviceError(
            f"{operation}: its arrays are on cuda:{array.device.id}, while CuPy computes on "
            f"cuda:{current}; compute inside `with cupy.cuda.Device({array.device.id}):`"
        )


def new_stream() -> Any:
    """Return a stream of the current GPU, on which launches can be recorded."""
    return _cupy("cuda").cuda.Stream()


def new_pool() -> Any:
    """Return a pool of memory of the current GPU."""
    return _cupy("cuda").cuda.MemoryPool()


@contextmanager
def computing_on(stream: Any, pool: Any) -> Iterator[None]:
    """Compute inside the `with` block on that stream, on memory of that pool, apart from others."""
    allocator = _cupy("cuda").cuda.using_allocator(pool.malloc)
    _cupy("cuda").cuda.runtime.deviceSynchronize()
    with stream, allocator:
        yield
    stream.synchronize()


_recording: ContextVar[bool] = ContextVar("agrad_recording", default=False)


def record(stream: Any, launch: Callable[[], None]) -> Any:
    """Return the CUDA graph of what a function launches on the stream, which is the current one.

    Raises:
        RuntimeError, NotImplementedError: the function does what a graph cannot have.
    """
    gc.collect()  # what is freed while recording may wait for the device, as cuBLAS' handles do
    stream.begin_capture()
    token = _recording.set(True)
    try:
        launch()
    except BaseException:
        with suppress(RuntimeError):  # what has been spoilt cannot be ended without
            stream.end_capture()
        raise
    finally:
        _recording.reset(token)
    return stream.end_capture()


@contextmanager
def failures_explained() -> Iterator[None]:
    """Let `explain` speak of what fails inside the `with` block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        explain(error)
        raise


def explain(error: Exception) -> None:
    """Raise, in place of a GPU's failure, an error that says what it means; else do nothing.

    Raises:
        DeviceMemoryError: it has no room.
        DeviceLostError: it can compute nothing more for this process.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None or _recording.get():  # where nothing can be waited for
        return
    if isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        message = (
            f"the GPU has no room: {error}; take smaller batches, or drop what still holds arrays "
            "(graphs kept by retain_graph=True, results of earlier steps)"
        )
        raise _with_notes(DeviceMemoryError(message), error) from error
    if isinstance(error, cupy.cuda.runtime.CUDARuntimeError | cupy.cuda.driver.CUDADriverError):
        try:
            # An error that a kernel left behind comes back at every call from then on.
            cupy.cuda.runtime.deviceSynchronize()
        except cupy.cuda.runtime.CUDARuntimeError:
            message = (
                f"the GPU has failed ({error}), and what it held is lost to this process; start it "
                "again and go on from what was saved"
            )
            raise _with_notes(DeviceLostError(message), error) from error


def _with_notes(failure: DeviceError, error: Exception) -> DeviceError:
    for note in getattr(error, "__notes__", ()):
        failure.add_note(note)
    return failure


# -- what there is ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpu:
    """A GPU's name, its compute capability such as "9.0", and its memory in bytes."""

    name: str
    compute_capability: str
    free_bytes: int
    total_bytes: int


def gpus() -> list[Gpu]:
    """Return what each GPU is, in the order of their numbers.

    Raises:
        DeviceError: none can be used.
    """
    count = _count("cuda")
    cuda = _cupy("cuda").cuda
    found = []
    for number in range(count):
        with cuda.Device(number):
            free, total = cuda.runtime.memGetInfo()
        properties = cuda.runtime.getDeviceProperties(number)
        capability = f"{properties['major']}.{properties['minor']}"
        found.append(Gpu(properties["name"].decode(), capability, free, total))
    return found


def driver_version() -> tuple[int, int] | None:
    """Return the newest CUDA version that the driver supports; None where there is no driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def advice() -> str:
    """Return what to install for an NVIDIA GPU to be used, in one sentence."""
    driver = driver_version()
    if driver is None:
        return "this machine has no NVIDIA driver: install one, if it has such a GPU"
    supported = "the driver supports CUDA {}.{}".format(*driver)
    if driver[0] < 12:
        return f"{supported}, and 12 is needed: install a newer driver"
    extra = "cuda13x" if driver[0] >= 13 else "cuda12x"
    return f'{supported}: pip install "agrad[{extra}]", and no other CuPy beside it'


def _count(device: str) -> int:
    """Return how many GPUs there are, at least one."""
    runtime = _cupy(device).cuda.runtime
    try:
        return int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        raise DeviceError(f"device {device!r}: CuPy finds no GPU ({error}); {advice()}") from error


def _cupy(device: str) -> Any:
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(
            f"device {device!r}: CuPy cannot be imported ({error}); {advice()}"
        ) from error
    return cupy
