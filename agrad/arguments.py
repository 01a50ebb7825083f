"""Checks of arguments that are numbers, made before anything is stored."""

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "exactly",
    "holds_exactly",
    "integer",
    "is_integer",
    "require",
    "require_not_negative",
    "require_real",
    "require_share",
]

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


def holds_exactly(dtype: np.dtype[Any], values: NDArray[Any]) -> Any:
    """Return whether a dtype can hold numbers as they are; a floating one may round them."""
    if dtype.kind not in "biu" or dtype == values.dtype:
        return True
    with np.errstate(invalid="ignore"):  # of NaN and infinities
        return (values.astype(dtype) == values).all()


def exactly(operation: str, name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in a dtype that can hold them, see `holds_exactly`.

    Raises:
        OverflowError: A number is out of the range of the dtype, or no integer.

    Example:
        >>> exactly("full", "fill_value", np.array(300.0), np.dtype(np.uint8))
        Traceback (most recent call last):
        OverflowError: full: fill_value 300.0 does not fit into uint8
    """
    if not holds_exactly(dtype, values):
        raise OverflowError(f"{operation}: {name} {values!s:.50} does not fit into {dtype}")
    return values.astype(dtype, copy=False)


def require_real(operation: str, name: str, dtype: np.dtype[Any]) -> None:
    """Raise a TypeError unless a dtype is of real numbers or booleans.

    A conversion would parse strings and drop imaginary parts.
    """
    if dtype.kind not in "biuf":
        raise TypeError(f"{operation}: {name} has dtype {dtype}; it must hold real numbers")


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
