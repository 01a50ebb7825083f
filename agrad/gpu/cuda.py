"""NVIDIA GPUs through CuPy: the devices, copies to and from them, and their failures.

CuPy is imported only when a GPU is requested: until then, no array can be a CuPy array.
"""

import ctypes
import gc
import re
import sys
import time
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
    "free_memory",
    "gpus",
    "is_array",
    "new_pool",
    "new_stream",
    "number_of",
    "record",
    "require_current",
    "require_libraries",
    "to_device",
    "to_host",
]


def is_array(value: Any) -> bool:
    """Return whether `value` is a CuPy array."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def number_of(device: str) -> int:
    """Return the number of a GPU: 1 for "cuda:1", and that of CuPy's current GPU for "cuda".

    Raises:
        DeviceError: The GPU does not exist or cannot be used; the message says why.
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
    """Return a NumPy or CuPy array on a GPU: itself, if it is already there.

    Raises:
        DeviceError: The GPU does not exist or cannot be used.
        DeviceMemoryError: The GPU is out of memory.
    """
    number = number_of(device)
    if is_array(array) and array.device.id == number:
        return array
    cupy = _cupy(device)
    with failures_explained(), cupy.cuda.Device(number):
        return cupy.asarray(array)


def to_host(array: Any) -> Any:
    """Return a NumPy copy of a GPU's array.

    Raises:
        DeviceLostError: The GPU has failed.
    """
    with failures_explained():
        return array.get()


def require_current(operation: str, array: Any) -> None:
    """Raise a DeviceError unless `array` is on CuPy's current GPU."""
    current = _cupy("cuda").cuda.Device().id
    if array.device.id != current:
        raise DeviceError(
            f"{operation}: its arrays are on cuda:{array.device.id}, while CuPy computes on "
            f"cuda:{current}; compute inside `with cupy.cuda.Device({array.device.id}):`"
        )


def new_stream() -> Any:
    """Return a stream of the current GPU that can record launches.

    Neither it nor the default stream waits for the other: otherwise work that another thread puts
    on the default stream would fail while this one records, and so would the recording.
    """
    return _cupy("cuda").cuda.Stream(non_blocking=True)


def synchronize() -> None:
    """Wait for everything that has been launched on the current stream."""
    _cupy("cuda").cuda.get_current_stream().synchronize()


def new_pool() -> Any:
    """Return a memory pool of the current GPU."""
    return _cupy("cuda").cuda.MemoryPool()


def free_memory() -> None:
    """Give back the memory that only CuPy's pool refers to."""
    gc.collect()
    _cupy("cuda").get_default_memory_pool().free_all_blocks()


@contextmanager
def computing_on(stream: Any, pool: Any) -> Iterator[None]:
    """Compute on `stream`, with memory of `pool`, inside the block; wait for the GPU around it."""
    allocator = _cupy("cuda").cuda.using_allocator(pool.malloc)
    _cupy("cuda").cuda.runtime.deviceSynchronize()
    with stream, allocator:
        try:
            yield
        finally:
            stream.synchronize()


_recording: ContextVar[bool] = ContextVar("agrad_recording", default=False)


def record(stream: Any, launch: Callable[[], None]) -> Any:
    """Return the CUDA graph of what a function launches on the current stream, `stream`.

    Raises:
        RuntimeError, NotImplementedError: A CUDA graph cannot record what the function does.
    """
    gc.collect()  # freeing may wait for the device, as it does for cuBLAS' handles
    stream.begin_capture()
    token = _recording.set(True)
    try:
        launch()
    except BaseException:
        with suppress(RuntimeError):  # raised if an operation invalidated the capture
            stream.end_capture()
        raise
    finally:
        _recording.reset(token)
    return stream.end_capture()


@contextmanager
def failures_explained() -> Iterator[None]:
    """Explain GPU failures raised inside the block."""
    try:
        yield
    except Exception as error:
        explain(error)
        raise


def explain(error: Exception) -> None:
    """Raise an error that explains a GPU's failure; do nothing if `error` is another error.

    Raises:
        DeviceMemoryError: The GPU is out of memory.
        DeviceLostError: The GPU cannot compute anything more for this process.
        DeviceError: CuPy lacks a library or a header of CUDA.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None or _recording.get():  # waiting is not allowed while recording
        return
    if _is_of_a_missing_file(error):
        message = f"CuPy lacks a part of CUDA ({error}); {advice()}"
        raise _with_notes(DeviceError(message), error) from error
    # CuPy loads cuBLAS when it is first used, and has no such errors before.
    cublas = sys.modules.get("cupy_backends.cuda.libs.cublas")
    is_cublas = cublas is not None and isinstance(error, cublas.CUBLASError)
    if isinstance(error, cupy.cuda.memory.OutOfMemoryError) or (
        is_cublas and error.status == _ALLOCATION_FAILED  # type: ignore[attr-defined]
    ):
        message = (
            f"the GPU is out of memory: {error}; use smaller batches, or release arrays (graphs "
            "kept by retain_graph=True, results of earlier steps)"
        )
        raise _with_notes(DeviceMemoryError(message), error) from error
    cuda = cupy.cuda
    if is_cublas or isinstance(error, cuda.runtime.CUDARuntimeError | cuda.driver.CUDADriverError):
        try:
            # After a kernel has failed, every call returns its error.
            cuda.runtime.deviceSynchronize()
        except cuda.runtime.CUDARuntimeError:
            message = (
                f"the GPU has failed ({error}), and what it held is lost to this process; restart "
                "it and resume from a checkpoint"
            )
            raise _with_notes(DeviceLostError(message), error) from error


_ALLOCATION_FAILED = 3
"""CUBLAS_STATUS_ALLOC_FAILED."""


def _is_of_a_missing_file(error: Exception) -> bool:
    """Return whether CuPy has not found a library or a header of CUDA's.

    cuda.pathfinder, by which CuPy 14 looks for libraries, raises an error of its own, which CuPy
    makes an ImportError for some of them. The compiler reports headers.
    """
    pathfinder = sys.modules.get("cuda.pathfinder")
    if pathfinder is not None:
        lacking = pathfinder.DynamicLibNotFoundError
        if isinstance(error, lacking) or isinstance(error.__cause__, lacking):
            return True
    compiler = sys.modules["cupy"].cuda.compiler
    return isinstance(error, compiler.CompileException) and "open source file" in str(error)


def _with_notes(failure: DeviceError, error: Exception) -> DeviceError:
    for note in getattr(error, "__notes__", ()):
        failure.add_note(note)
    return failure


# -- devices and drivers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpu:
    """A GPU's name, its compute capability such as "9.0", and its memory in bytes."""

    name: str
    compute_capability: str
    free_bytes: int
    total_bytes: int


def gpus() -> list[Gpu]:
    """Return the GPUs in the order of their numbers.

    Raises:
        DeviceError: No GPU can be used.
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


def require_libraries(number: int) -> None:
    """Compile and run a kernel on a GPU, and make a handle of cuBLAS.

    Raises:
        DeviceError: CuPy lacks a part of CUDA, or the GPU fails.
    """
    cupy = _cupy("cuda")
    # CuPy does not compile the same source twice.
    text = f"#include <cuda_fp16.h>\n// {time.time_ns()}\n{_KERNEL}"
    try:
        with failures_explained(), cupy.cuda.Device(number):
            cupy.RawModule(code=text).get_function("nothing")((1,), (1,), ())
            cupy.cuda.device.get_cublas_handle()
            cupy.cuda.runtime.deviceSynchronize()
    except DeviceError:
        raise
    except Exception as error:
        message = f"cuda:{number}: CuPy cannot compute there ({type(error).__name__}: {error})"
        raise DeviceError(f"{message}; {advice()}") from error


_KERNEL = 'extern "C" __global__ void nothing() {}'


def driver_version() -> tuple[int, int] | None:
    """Return the newest CUDA version that the driver supports; None without a driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def advice() -> str:
    """Return in one sentence what to install to use an NVIDIA GPU."""
    driver = driver_version()
    if driver is None:
        return "this machine has no NVIDIA driver: install one, if it has such a GPU"
    supported = "the driver supports CUDA {}.{}".format(*driver)
    if driver[0] < 12:
        return f"{supported}, and 12 is needed: install a newer driver"
    extra = "cuda13x" if driver[0] >= 13 else "cuda12x"
    return f'{supported}: pip install "agrad[{extra}]", with no other CuPy installed'


def _count(device: str) -> int:
    """Return the number of GPUs, at least one."""
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
