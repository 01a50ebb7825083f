"""Which array library and which kernels an array belongs to.

Operations are written against NumPy's functions; CuPy's arrays answer those themselves, by NumPy's
dispatch protocols. What is left to choose by the array's type is the kernels.
"""

from types import ModuleType
from typing import Any

import numpy as np

from agrad.kernels import cpu

__all__ = ["Array", "as_array", "kernels"]

Array = np.ndarray[Any, np.dtype[Any]]


def kernels(array: Array) -> ModuleType:
    """Return the kernels that work on `array`: `agrad.kernels.cpu` for NumPy's.

    Raises:
        TypeError: no kernels exist for arrays of that type.
    """
    if isinstance(array, np.ndarray):
        return cpu
    raise TypeError(f"agrad has no kernels for arrays of type {type(array).__name__}")


def as_array(value: Any) -> Array:
    """Return `value` as an array: NumPy's reductions give scalars where a 0-d array is meant."""
    return np.asarray(value) if isinstance(value, np.generic) else value
