"""Argument checks shared by the functions of this package."""

import operator
from typing import Any

__all__ = ["check_split", "integer"]


def check_split(split: Any) -> None:
    """Raise a ValueError unless `split` is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')


def integer(operation: str, name: str, value: Any, least: int) -> int:
    """Return `value` as an int.

    Raises:
        TypeError: `value` is not an integer; the message names `operation` and argument `name`.
        ValueError: `value` is below `least`.
    """
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{operation}: {name} must be an integer, got {type(value).__name__}"
        ) from None
    if value < least:
        raise ValueError(f"{operation}: {name} must be at least {least}, got {value}")
    return int(value)
