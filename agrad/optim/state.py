"""Checks of saved states, which may come from any file and are checked in full before use.

Each check raises a ValueError that names the owner of the state and the fault.
"""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from agrad.backend import Array, require_no_mask

__all__ = ["owned", "require_array", "require_count", "require_dict"]


def owned(array: Array) -> Array:
    """Return an unpickled array to change in place: a copy if it is mapped from a read-only file.

    joblib maps large arrays into the memory of its workers.
    """
    mapped = isinstance(array, np.ndarray) and not array.flags.writeable
    return np.array(array) if mapped else array


def require_dict(owner: str, name: str, saved: Any) -> Mapping[str, Any]:
    """Return the saved value if it is a dict, with any keys."""
    if not isinstance(saved, Mapping):
        raise ValueError(f"{owner}.load_state_dict: {name} must be a dict, got {_described(saved)}")
    return saved


def require_array(owner: str, name: str, saved: Any, like: Array) -> None:
    """Raise unless the saved value is an array with the shape and dtype of `like`."""
    require_no_mask(f"{owner}.load_state_dict", name, saved)
    if (getattr(saved, "shape", None), getattr(saved, "dtype", None)) != (like.shape, like.dtype):
        raise ValueError(
            f"{owner}.load_state_dict: {name} must be {_described(like)}, "
            f"the state has {_described(saved)}"
        )


def require_count(owner: str, name: str, saved: Any, least: int = 0) -> int:
    """Return the saved value if it is a number of steps, `least` or more."""
    try:
        count = operator.index(saved)
    except TypeError:
        count = -1
    if not least <= count < 2**63 or isinstance(saved, bool):
        raise ValueError(
            f"{owner}.load_state_dict: {name} must be a number of steps, at least {least}, "
            f"got {_described(saved)}"
        )
    return count


def _described(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return f"{value!r:.50}"
