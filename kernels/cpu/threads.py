"""Parts of a batch processed at the same time, in as many threads as NumPy's BLAS would use."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = ["blas_threads", "in_parallel"]

Result = TypeVar("Result")

_LEAST_PRODUCTS = 2_000_000
"""The fewest products worth a thread: fewer take no longer to compute than to hand over."""


def in_parallel(work: Callable[[slice], Result], count: int, products: int) -> list[Result]:
    """Return the results of `work` for equal parts of a batch, in order.

    Kernels release the GIL, so threads do run them at the same time. The number of threads is the
    BLAS's (`OMP_NUM_THREADS`, threadpoolctl), so that one setting limits all.

    Args:
        work: Called with each part of the batch.
        count: The number of examples in the batch.
        products: The number of multiplications; a batch with few of them is not divided.

    Example:
        >>> in_parallel(lambda part: sum(range(10)[part]), 10, products=10)
        [45]
    """
    parts = min(count, products // _LEAST_PRODUCTS)
    if parts > 1:
        parts = min(parts, blas_threads())
    if parts <= 1:
        return [work(slice(0, count))]
    slices = [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]
    others = [_pool(os.getpid()).submit(work, part) for part in slices[1:]]
    try:
        first = work(slices[0])
    finally:
        wait(others)  # after an error too: they write to arrays that are used again
    return [first, *(other.result() for other in others)]


def blas_threads() -> int:
    """Return how many threads NumPy's BLAS uses now."""
    return max((library.num_threads for library in _blas_libraries()), default=1)


@functools.cache
def _blas_libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    # SciPy has its own BLAS, which ignores limits that were set before it was loaded.
    site = Path(np.__file__).parent.parent
    folders = {site / "numpy", site / "numpy.libs"}
    own = [library for library in libraries if folders & {*Path(library.filepath).parents}]
    return own or libraries


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process: a forked one does not have its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="agrad")
