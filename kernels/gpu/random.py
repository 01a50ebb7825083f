"""Random numbers as a function of a key and of an element's index."""

import math

import cupy

from .launch import Kernel, over

__all__ = ["uniform"]

_uniform = Kernel("random.cu", "uniform", "real*, int64, Key")


def uniform(shape: tuple[int, ...], key: int | cupy.ndarray) -> cupy.ndarray:
    """Return float32 numbers on [0, 1), multiples of 2^-24, by Philox4x32-10.

    Element i, in C order, is a function of the key and of i alone.

    Args:
        shape: The shape of the result.
        key: From -2^63 to 2^63 - 1, or an int64 array without axes, read when the kernel runs.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

    Example:
        >>> uniform((4,), 0).round(4)
        array([0.399 , 0.8805, 0.7357, 0.6055], dtype=float32)
        >>> bool((uniform((2, 2), cupy.array(0)).ravel() == uniform((4,), 0)).all())
        True
    """
    out = cupy.empty(shape, cupy.float32)
    count = math.prod(shape)
    _uniform(over(-(-count // 4)), out, count, key)
    return out
