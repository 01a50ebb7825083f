"""Checks of arguments that are integers."""

import operator
from typing import Any

import numpy as np

__all__ = ["integer", "is_integer"]


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of Python or NumPy; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def integer(operation: str, name: str, value: Any, least: int) -> int:
    """Return `value` as an int.

    Raises:
        TypeError: `value` is not an integer; the message names `operation` and argument `name`.
        ValueError: `value` is below `least`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{operation}: {name} must be an integer, got {type(value).__name__}")
    if number < least:
        raise ValueError(f"{operation}: {name} must be at least {least}, got {number}")
    return number
