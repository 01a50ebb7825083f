"""Checks of the arguments of optimizers, made before anything is stored."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from agrad.arguments import is_integer
from agrad.core.tensor import Tensor

__all__ = [
    "checked_params",
    "listed_params",
    "require",
    "require_integer",
    "require_not_negative",
    "require_share",
    "require_trainable",
]

# A larger integer is not infinite, but its conversion to float would raise.
_LARGEST = sys.float_info.max


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


def require_integer(owner: str, **arguments: Any) -> None:
    """Raise unless each argument is an integer of at least 1.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is not an integer, or below 1.
    """
    what = "be an integer of at least 1"
    require(owner, what, lambda x: is_integer(x) and x >= 1, **arguments)


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


def listed_params(owner: str, params: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """Return one Tensor, or all Tensors of an iterable, as a list.

    Raises:
        TypeError: `params` is neither a Tensor nor an iterable of Tensors.
        ValueError: It is an iterator without elements, most likely one that was used before.
    """
    if isinstance(params, Tensor):
        return [params]
    if not isinstance(params, Iterable):
        raise TypeError(
            f"{owner}: params must be a Tensor or an iterable of Tensors, "
            f"got a {type(params).__name__}"
        )
    listed = list(params)
    if not listed and isinstance(params, Iterator):
        raise ValueError(
            f"{owner}: params is an iterator without elements; if it was used before, "
            "make a list of it first"
        )
    for i, param in enumerate(listed):
        if not isinstance(param, Tensor):
            raise TypeError(f"{owner}: params[{i}] must be a Tensor, got a {type(param).__name__}")
    return listed


def checked_params(owner: str, params: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Return the parameters: at least one leaf of floating-point numbers, and none of them twice.

    Raises:
        TypeError: `params` is not an iterable of Tensors.
        ValueError: There are no parameters, or one is given twice, or cannot be trained.
    """
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"{owner}: params must be an iterable of Tensors, got a {type(params).__name__}"
        )
    checked = tuple(params)
    seen: set[Tensor] = set()
    for i, param in enumerate(checked):
        if not isinstance(param, Tensor):
            raise TypeError(f"{owner}: params[{i}] must be a Tensor, got a {type(param).__name__}")
        if not param.is_leaf:
            raise ValueError(f"{owner}: params[{i}] is computed; only a leaf can be optimized")
        if param.dtype.kind != "f":
            raise ValueError(
                f"{owner}: params[{i}] is {param.dtype}; only floating-point numbers can be trained"
            )
        if param in seen:
            raise ValueError(f"{owner}: params[{i}] appears twice; pass each parameter once")
        seen.add(param)
    if not checked:
        raise ValueError(f"{owner}: params is empty; there is nothing to optimize")
    return checked


def require_trainable(owner: str, params: Iterable[Tensor]) -> None:
    """Raise a ValueError if all parameters are frozen."""
    if not any(param.requires_grad for param in params):
        raise ValueError(
            f"{owner}: params[0] requires no gradient, nor does any other parameter; "
            "set requires_grad=True"
        )
