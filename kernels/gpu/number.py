"""Numbers passed by the host or by address, in the layout of `struct Given` in number.cuh."""

from typing import Any

import cupy
import numpy as np
from numpy.typing import NDArray

__all__ = ["GIVEN", "given"]

GIVEN = {"Number": np.dtype(np.float64), "Key": np.dtype(np.int64)}
"""The dtype of the number in each of the CUDA structures."""


def given(kernel: str, dtype: np.dtype[Any], value: Any) -> NDArray[np.void]:
    """Return a structure with a number, or with the address of an array without axes.

    A number on the device is read when the kernel runs, without waiting; the caller keeps it alive.

    Raises:
        TypeError: An array with axes, or of another dtype.
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
