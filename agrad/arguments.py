"""Checks of arguments that are numbers, made before anything is stored."""

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["integer", "is_integer", "require", "require_not_negative", "require_share"]

# A larger integer is not infinite, but its conversion to float would raise.
_LARGEST = sys.float_info.max


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


def require(owner: str, what: str, holds: Callable[[Any], bool], **arguments: Any) -> None:
    """Raise unless each argument is a finite number for which `holds`; `what` completes "must".

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of its range.
    """
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{owner}: {name} must be a number, got {type(value).__name__}")
        number = value.item() if isinstance(value, np.generic) else value
        if not (-_LARGEST <= number <= _LARGEST and holds(number)):
            raise ValueError(f"{owner}: {name} must {what}, got {value}")


def require_not_negative(owner: str, **arguments: Any) -> None:
    """Raise unless each argument is a finite number of at least 0.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is negative, infinite or NaN.
    """
    require(owner, "not be negative", lambda x: x >= 0, **arguments)


def require_share(owner: str, **arguments: Any) -> None:
    """Raise unless each argument is a share that an average keeps: at least 0 and below 1.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of this range.
    """
    require(owner, "be in [0, 1)", lambda x: 0 <= x < 1, **arguments)
