"""Checks of the arguments that several functions have."""

import operator
from typing import Any

__all__ = ["check_split", "integer"]


def check_split(split: Any) -> None:
    """Raise a ValueError unless a split is one that every data set has."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')


def integer(operation: str, name: str, value: Any, least: int) -> int:
    """Return an argument as an int of at least `least`, or raise a TypeError or a ValueError."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{operation}: {name} must be an integer, got {type(value).__name__}"
        ) from None
    if value < least:
        raise ValueError(f"{operation}: {name} must be at least {least}, got {value}")
    return int(value)
