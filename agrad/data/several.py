"""Several arrays in place of one: the inputs of a model that takes more than one.

They are a tuple of arrays or Tensors, which a model takes by position, or a dict of them, which it
takes by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "call",
    "each_named",
    "examples",
    "is_several",
    "mapped",
    "packed",
    "positional",
    "unpacked",
]

Names = tuple[str, ...] | None
"""The names of several arrays, none for a tuple; None for a single array."""


def is_several(value: Any) -> bool:
    """Return whether `value` is a dict, or a tuple of arrays or Tensors, and not empty."""
    if isinstance(value, tuple):
        return bool(value) and all(hasattr(part, "shape") for part in value)
    return isinstance(value, Mapping) and bool(value)


def unpacked(value: Any) -> tuple[Names, list[Any]]:
    """Return the names of several arrays, None for a single array, and a list of the arrays."""
    if not is_several(value):
        return None, [value]
    if isinstance(value, Mapping):
        return tuple(value), list(value.values())
    return (), list(value)


def packed(names: Names, arrays: Sequence[Any]) -> Any:
    """Return the value that `unpacked` splits into these names and arrays."""
    if names is None:
        return arrays[0]
    return dict(zip(names, arrays)) if names else tuple(arrays)


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to an array, or to each of several."""
    names, arrays = unpacked(value)
    return packed(names, [function(array) for array in arrays])


def each_named(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to targets, or to each of a dict of them; a tuple is a single array."""
    if isinstance(value, Mapping):
        return {name: function(array) for name, array in value.items()}
    return function(value)


def positional(array: Any) -> Any:
    """Return a table or column of pandas, which indexes by labels, as a NumPy array."""
    return array.to_numpy() if hasattr(array, "iloc") else array


def call(function: Callable[..., Any], value: Any) -> Any:
    """Call a function with a single array, with several by position, or with several by name."""
    if not is_several(value):
        return function(value)
    return function(**value) if isinstance(value, Mapping) else function(*value)


def examples(owner: str, value: Any, what: str = "inputs") -> int:
    """Return the length of the first axis, which several arrays must share.

    Args:
        owner: The function, for the message.
        value: The array, or several.
        what: What they are, for the message.

    Raises:
        ValueError: Their lengths differ.
    """
    names, arrays = unpacked(value)
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) != 1:
        given = dict(zip(names, lengths)) if names else lengths
        raise ValueError(
            f"{owner}: the {what} have {given} examples; their first axes must have equal length"
        )
    return lengths[0]
