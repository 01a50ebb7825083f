"""Numbers that the host gives, or that lie on the device, as CUDA's `struct Given` takes them."""

from typing import Any

import cupy
import numpy as np
from numpy.typing import NDArray

__all__ = ["GIVEN", "given"]

GIVEN = {"Number": np.dtype(np.float64), "Key": np.dtype(np.int64)}
"""The types of CUDA's structures, and what their numbers are."""


def given(kernel: str, dtype: np.dtype[Any], value: Any) -> NDArray[np.void]:
    """Return a number as the structure that has it, or an array without axes as one that finds it.

    What lies on the device is read when the kernel runs, and not waited for; the caller keeps it.

    Raises:
        TypeError: an array with axes, or of another dtype.
    """
    structure = np.dtype([("value", dtype), ("at", np.uintp)])
    if not isinstance(value, cupy.ndarray):
        return np.array((value, 0), structure)
    if value.ndim or value.dtype != dtype:
        raise TypeError(
            f"{kernel}: {value.dtype} array of shape {value.shape} where a number, or a {dtype} "
            "array without axes, is taken; convert it"
        )
    return np.array((0, value.data.ptr), structure)
