"""Argument checks shared by the functions of this package."""

from typing import Any

__all__ = ["check_split"]


def check_split(split: Any) -> None:
    """Raise a ValueError unless `split` is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
