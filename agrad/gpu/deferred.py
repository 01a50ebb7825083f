"""What the host decides, counts and draws in a training step, put off while the step is recorded.

A CUDA graph launches a step's kernels without the Python that launched them one by one. Python
between them may then neither look at what they compute nor give them numbers of its own. What a
step needs of either goes through the functions here. They do at once what they say, except
inside `deferring`: there conditions are taken to hold, actions and numbers are noted, and whoever
runs the recorded step sees to them before and after each run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np

from agrad.gpu.cuda import is_array

__all__ = [
    "Deferral",
    "after",
    "as_dtype",
    "deferring",
    "fed",
    "holds",
    "kept",
    "number",
    "values",
]

Action = Callable[..., None]


class Deferral(Protocol):
    """What notes the decisions that are put off."""

    def condition(self, condition: Any) -> None:
        """Note what has to hold, a boolean array without axes."""

    def feed(self, make: Callable[[], float], dtype: type) -> Any:
        """Return an array without axes that has what `make` returns before each run."""

    def action(self, action: Action, numbers: tuple[Any, ...]) -> None:
        """Note what is to be called after each run, with the values that the numbers have then."""

    def keep(self, value: Any) -> None:
        """Hold on to arrays, whose addresses are noted."""


_deferral: ContextVar[Deferral | None] = ContextVar("agrad_deferral", default=None)


@contextmanager
def deferring(deferral: Deferral) -> Iterator[None]:
    """Let `deferral` note inside the `with` block what would be done at once outside."""
    token = _deferral.set(deferral)
    try:
        yield
    finally:
        _deferral.reset(token)


def number(array: Any) -> Any:
    """Return the element of an array that has one: as a float, or deferred as an array.

    Example:
        >>> number(np.array([2.0]))
        2.0
    """
    return array.item() if _deferral.get() is None else array.reshape(())


def holds(condition: Any) -> bool:
    """Return whether a condition is true, or deferred that it is, to be looked at after the run.

    Example:
        >>> holds(np.array(1.0) < 0)
        False
    """
    deferral = _deferral.get()
    if deferral is None or not is_array(condition):
        return bool(condition)
    deferral.condition(condition)
    return True


def fed(make: Callable[[], float], dtype: type = np.float64) -> Any:
    """Return what `make` returns, or deferred an array without axes that has it in each run.

    Example:
        >>> fed(lambda: 0.5)
        0.5
    """
    deferral = _deferral.get()
    return make() if deferral is None else deferral.feed(make, dtype)


def after(action: Action, *numbers: Any) -> None:
    """Call `action` with the values of numbers, which may be arrays without axes, or do so later.

    Example:
        >>> after(print, np.array(2.0), 1.0)
        2.0 1.0
    """
    deferral = _deferral.get()
    if deferral is None:
        action(*values(numbers))
    else:
        deferral.action(action, numbers)


def kept(value: Any) -> Any:
    """Return what others may drop from a cache, or deferred hold on to it as well.

    Example:
        >>> kept([1, 2])
        [1, 2]
    """
    deferral = _deferral.get()
    if deferral is not None:
        deferral.keep(value)
    return value


def values(numbers: tuple[Any, ...]) -> list[float]:
    """Return numbers as floats; those of a GPU are waited for once.

    Example:
        >>> values((np.array(2.0), 1.0))
        [2.0, 1.0]
    """
    arrays = [value for value in numbers if is_array(value)]
    read = iter(np.stack(arrays).tolist() if arrays else ())
    return [next(read) if is_array(value) else float(value) for value in numbers]


def as_dtype(value: Any, dtype: Any) -> Any:
    """Return what `fed` gave for a product with arrays of that dtype, which it keeps.

    Example:
        >>> as_dtype(0.5, np.float32)
        0.5
    """
    return value.astype(dtype) if is_array(value) else value
