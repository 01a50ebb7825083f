"""Products of matrices: by CuPy or, while a CUDA graph is recorded, by cuBLAS directly.

CuPy refuses to call cuBLAS while a stream is captured. cuBLAS itself allows it, and allocates
nothing if it has been given a workspace before. So products to be recorded go by ctypes to the
library that CuPy has loaded, on a handle of their own.
"""

import ctypes
import math
import sys
import weakref
from collections.abc import Iterator
from contextvars import ContextVar, Token
from ctypes import POINTER, c_double, c_float, c_int, c_longlong, c_size_t, c_void_p
from itertools import pairwise
from typing import Any, NamedTuple, Self

import cupy
import numpy as np

__all__ = ["Recordable", "matmul", "matmul_each"]


def matmul(x1: cupy.ndarray, x2: cupy.ndarray, out: cupy.ndarray | None = None) -> cupy.ndarray:
    """Return the product of two matrices, or of each pair if there are axes before the last two.

    Arguments are those of `numpy.matmul`: an array of one axis is a row on the left and a column
    on the right, and axes before the last two broadcast. Inside `Recordable` all arrays have one
    dtype, float32 or float64, and the matrices of `out` are C-contiguous and equally far apart.

    Raises:
        ValueError: The shapes do not fit.
        TypeError: Inside `Recordable`, the dtypes differ or are not supported.
        OverflowError: Inside `Recordable`, an axis or the number of matrices exceeds 32 bits.

    Example:
        >>> matmul(cupy.arange(6.0).reshape(2, 3), cupy.ones(3))
        array([ 3., 12.])
    """
    recordable = _active.get()
    if recordable is None:
        return cupy.matmul(x1, x2, out=out)
    return recordable._matmul(x1, x2, out)


def matmul_each(x: cupy.ndarray, y: cupy.ndarray) -> cupy.ndarray:
    """Return the product of each pair of matrices (..., m, k) and (..., k, n).

    cuBLAS computes all pairs at once.

    Example:
        >>> matmul_each(cupy.ones((2, 1, 3)), cupy.ones((2, 3, 1))).ravel()
        array([3., 3.])
    """
    return matmul(x, y)


class Recordable:
    """Lets every `matmul` inside its `with` block be recorded in a CUDA graph.

    It belongs to the GPU that is current in CuPy when it is made, and uses the stream that is
    current when it is entered: enter it inside `with stream:`, as often as needed. Recorded
    products compute in its workspace, so it has to live as long as the graph. TF32 is used only if
    CuPy is told to.

    Raises:
        cupy.cuda.cublas.CUBLASError: cuBLAS fails, here or in a product.
    """

    def __init__(self) -> None:
        self._library = _cublas()
        self._workspace = cupy.empty(_workspace_bytes(), np.uint8)
        self._handle = c_void_p()
        self._library.cublasCreate_v2(self._handle)
        weakref.finalize(self, self._library.cublasDestroy_v2, self._handle)
        tf32 = cupy._core.get_compute_type(np.float32) == _CUPY_TF32
        self._library.cublasSetMathMode(self._handle, _TF32_MATH if tf32 else _DEFAULT_MATH)
        self._tokens: list[Token[Recordable | None]] = []

    def __enter__(self) -> Self:
        stream, workspace = cupy.cuda.get_current_stream(), self._workspace
        self._library.cublasSetStream_v2(self._handle, stream.ptr)
        # In this order: setting the stream resets the workspace.
        self._library.cublasSetWorkspace_v2(self._handle, workspace.data.ptr, workspace.nbytes)
        self._tokens.append(_active.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _active.reset(self._tokens.pop())

    def _matmul(self, x1: cupy.ndarray, x2: cupy.ndarray, out: cupy.ndarray | None) -> cupy.ndarray:
        if x1.dtype != x2.dtype or x1.dtype not in _REALS:
            raise TypeError(
                f"matmul: {x1.dtype} and {x2.dtype} cannot be recorded in a CUDA graph; convert "
                "both to float32 or both to float64"
            )
        batch, m, k, n = _sizes(x1.shape, x2.shape)
        shape = (*batch, *(m,)[: x1.ndim - 1], *(n,)[: x2.ndim - 1])
        if out is None:
            out = cupy.empty(shape, x1.dtype)
        elif out.shape != shape or out.dtype != x1.dtype or _own_step(out, m * n) is None:
            raise ValueError(
                f"matmul: out is a {out.dtype} array of shape {out.shape} and strides "
                f"{out.strides}; pass a {x1.dtype} one of shape {shape} whose matrices are "
                "C-contiguous and equally far apart"
            )
        elif cupy.may_share_memory(out, x1) or cupy.may_share_memory(out, x2):
            out[...] = self._matmul(x1, x2, None)
            return out
        if k == 0:
            out[...] = 0
        elif out.size:
            a = _factor(x1[np.newaxis] if x1.ndim == 1 else x1, batch)
            b = _factor(x2[:, np.newaxis] if x2.ndim == 1 else x2, batch)
            self._launch(math.prod(batch), m, k, n, a, b, out)
        return out

    def _launch(
        self, count: int, m: int, k: int, n: int, a: "_Factor", b: "_Factor", c: cupy.ndarray
    ) -> None:
        letter, real = _REALS[c.dtype]
        sizes = self._handle, b.operation, a.operation, n, m, k
        one, zero = real(1), real(0)
        # The factors are swapped: to cuBLAS a row-major matrix is its own transpose.
        if count == 1:
            gemm = getattr(self._library, f"cublas{letter}gemm_v2")
            gemm(*sizes, one, b.address, b.leading, a.address, a.leading, zero, c.data.ptr, n)
        else:
            gemm = getattr(self._library, f"cublas{letter}gemmStridedBatched")
            factors = b.address, b.leading, b.step, a.address, a.leading, a.step
            gemm(*sizes, one, *factors, zero, c.data.ptr, n, _own_step(c, m * n), count)


_active: ContextVar[Recordable | None] = ContextVar("agrad_recordable", default=None)


# -- factors ---------------------------------------------------------------------------------------

_LARGEST = 2**31 - 1
"""The largest size that cuBLAS takes."""

_PLAIN, _TRANSPOSED = 0, 1
"""CUBLAS_OP_N and CUBLAS_OP_T."""


class _Factor(NamedTuple):
    """Matrices in the form that cuBLAS takes.

    Attributes:
        array: The array that holds them.
        operation: Whether the columns, not the rows, are contiguous.
        leading: The number of elements from one row (or column) to the next.
        step: The number of elements from one matrix to the next.
    """

    array: cupy.ndarray
    operation: int
    leading: int
    step: int

    @property
    def address(self) -> int:
        address: int = self.array.data.ptr
        return address


def _factor(array: cupy.ndarray, batch: tuple[int, ...]) -> _Factor:
    """Return the matrices in place if cuBLAS can take them so, otherwise copied."""
    layout = _layout(array)
    if layout is None:
        return _factor(cupy.ascontiguousarray(array), batch)
    spread = cupy.broadcast_to(array, (*batch, *array.shape[-2:]))
    step = _step(spread)
    if step is None:
        return _factor(cupy.ascontiguousarray(spread), batch)
    return _Factor(spread, *layout, step)


def _layout(array: cupy.ndarray) -> tuple[int, int] | None:
    """Return `operation` and `leading`, or None if neither rows nor columns are contiguous."""
    for operation, (outer, inner) in (_PLAIN, (-2, -1)), (_TRANSPOSED, (-1, -2)):
        length = array.shape[inner]
        if length > 1 and array.strides[inner] != array.itemsize:
            continue
        if array.shape[outer] == 1:
            return operation, length
        leading, rest = divmod(array.strides[outer], array.itemsize)
        if not rest and length <= leading <= _LARGEST:
            return operation, leading
    return None


def _step(array: cupy.ndarray) -> int | None:
    """Return `step`, 0 for one matrix repeated, or None if it is not the same throughout."""
    axes = [axis for axis in zip(array.shape[:-2], array.strides) if axis[0] > 1]
    if any(stride != n * inner for (_, stride), (n, inner) in pairwise(axes)):
        return None
    step, rest = divmod(axes[-1][1] if axes else 0, array.itemsize)
    return None if rest or step < 0 else step


def _own_step(out: cupy.ndarray, size: int) -> int | None:
    """Return the step of C-contiguous matrices of that size, or None if they are others."""
    if out.flags.c_contiguous:
        return size
    if out.ndim < 3 or _layout(out) != (_PLAIN, out.shape[-1]):
        return None
    step = _step(out)
    return step if step and step >= size else None


def _sizes(x1: tuple[int, ...], x2: tuple[int, ...]) -> tuple[tuple[int, ...], int, int, int]:
    """Return the product's axes before its last two, and m, k, n, for the shapes of two operands.

    Raises:
        ValueError: The shapes do not fit.
        OverflowError: A size exceeds what cuBLAS takes.
    """
    summed = x1[-1:]
    try:
        batch = np.broadcast_shapes(x1[:-2], x2[:-2])
    except ValueError:
        batch = None
    if batch is None or not summed or summed != x2[-2:][:1]:
        raise ValueError(
            f"matmul: shapes {x1} and {x2} do not fit: the last axis of the first must be as long "
            "as the last but one of the second (the only one, if it has one axis), and the axes "
            "before them must broadcast"
        )
    m, k, n = x1[-2] if len(x1) > 1 else 1, *summed, x2[-1] if len(x2) > 1 else 1
    if max(math.prod(batch), m, k, n) > _LARGEST:
        raise OverflowError(
            f"matmul: shapes {x1} and {x2} have an axis, or a number of matrices, beyond "
            f"{_LARGEST}, the most that cuBLAS takes; compute the product in parts"
        )
    return batch, m, k, n


# -- the library -----------------------------------------------------------------------------------

_DEFAULT_MATH, _TF32_MATH = 0, 3
"""CUBLAS_DEFAULT_MATH and CUBLAS_TF32_TENSOR_OP_MATH."""

_CUPY_TF32 = 7
"""CuPy's number for computing in TF32, which CUPY_TF32=1 selects."""

_REALS = {np.dtype(np.float32): ("S", c_float), np.dtype(np.float64): ("D", c_double)}
"""The letter of cuBLAS's functions for a dtype, and the type of their scalars."""


def _prototypes() -> Iterator[tuple[str, list[Any]]]:
    """Yield each function's name and the types of its parameters, as in cublas_api.h."""
    yield "cublasCreate_v2", [POINTER(c_void_p)]
    yield "cublasDestroy_v2", [c_void_p]
    yield "cublasSetStream_v2", [c_void_p, c_void_p]
    yield "cublasSetWorkspace_v2", [c_void_p, c_void_p, c_size_t]
    yield "cublasSetMathMode", [c_void_p, c_int]
    for letter, real in _REALS.values():
        matrix, scalar = [c_void_p, c_int], [POINTER(real)]
        stack = [*matrix, c_longlong]
        sizes = [c_void_p, *[c_int] * 5]
        yield f"cublas{letter}gemm_v2", [*sizes, *scalar, *matrix, *matrix, *scalar, *matrix]
        name = f"cublas{letter}gemmStridedBatched"
        yield name, [*sizes, *scalar, *stack, *stack, *scalar, *stack, c_int]


def _cublas() -> ctypes.CDLL:
    """Return the library that CuPy uses; its functions raise for any status except success."""
    cupy.cuda.device.get_cublas_handle()  # loads the library, which its bare name then finds
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    windows = sys.platform == "win32"
    library = ctypes.CDLL(f"cublas64_{major}.dll" if windows else f"libcublas.so.{major}")

    def check(status: int, function: Any, arguments: tuple[Any, ...]) -> None:
        if status:
            error = cupy.cuda.cublas.CUBLASError(status)  # as CuPy's own products raise
            error.add_note(f"in {function.__name__}")
            raise error

    for name, types in _prototypes():
        function = getattr(library, name)
        function.argtypes, function.errcheck = types, check
    return library


def _workspace_bytes() -> int:
    """Return the size that NVIDIA recommends: 32 MiB from Hopper on, 4 MiB before."""
    return 2**20 * (32 if int(cupy.cuda.Device().compute_capability) >= 90 else 4)
