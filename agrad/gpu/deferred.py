"""Decisions, counts and draws of the host, deferred while a training step is recorded.

A CUDA graph launches a step's kernels without the Python that launched them one by one. So Python
between the launches can neither read their results nor pass them its own numbers. The engine, the
optimizers and the training step do both through the functions here, which act immediately except
inside `deferring`. There they assume that conditions hold, and note actions and numbers, which the
runner of the recorded step handles before and after each run.

Operations and rules import nothing from here. An operation states what it requires, see
`Operation.requires`, and a rule receives its numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import numpy as np

from agrad.gpu.cuda import is_array

__all__ = [
    "Deferral",
    "after",
    "as_dtype",
    "deferring",
    "each_fed",
    "fed",
    "holds",
    "is_deferring",
    "kept",
    "number",
    "values",
]

Action = Callable[..., None]


class Deferral(Protocol):
    """Collects everything that is deferred."""

    def condition(self, condition: Any) -> None:
        """Note a condition, a boolean array without axes, to check after each run."""

    def feed(self, make: Callable[[], float], dtype: type) -> Any:
        """Return an array without axes that is set to `make()` before each run."""

    def action(self, action: Action, numbers: tuple[Any, ...]) -> None:
        """Note a function to call after each run with the values of the numbers."""

    def keep(self, value: Any) -> None:
        """Keep arrays whose addresses are recorded."""


_deferral: ContextVar[Deferral | None] = ContextVar("agrad_deferral", default=None)


@contextmanager
def deferring(deferral: Deferral) -> Iterator[None]:
    """Defer to `deferral` inside the block."""
    token = _deferral.set(deferral)
    try:
        yield
    finally:
        _deferral.reset(token)


def is_deferring() -> bool:
    """Return whether questions and numbers are deferred: a CUDA graph is being recorded.

    Example:
        >>> is_deferring()
        False
    """
    return _deferral.get() is not None


def number(array: Any) -> Any:
    """Return the only element of an array as a float; deferred, as an array without axes.

    Example:
        >>> number(np.array([2.0]))
        2.0
    """
    return array.item() if _deferral.get() is None else array.reshape(())


def holds(condition: Any) -> bool:
    """Return whether a condition is true; deferred, note it for a later check and return True.

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
    """Return `make()`; deferred, an array without axes that is set to it before each run.

    Example:
        >>> fed(lambda: 0.5)
        0.5
    """
    deferral = _deferral.get()
    return make() if deferral is None else deferral.feed(make, dtype)


def each_fed(make: Callable[[], tuple[float, ...]]) -> tuple[Any, ...]:
    """Return the numbers of `make()`, each as `fed` does.

    Example:
        >>> each_fed(lambda: (0.5, 2.0))
        (0.5, 2.0)
    """
    numbers = make()
    if _deferral.get() is None:
        return numbers

    def number(i: int) -> float:
        return make()[i]

    return tuple([fed(partial(number, i)) for i in range(len(numbers))])


def after(action: Action, *numbers: Any) -> None:
    """Call `action` with the values of numbers or arrays without axes; deferred, after each run.

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
    """Return an entry of a cache; deferred, keep it in case the cache drops it.

    Example:
        >>> kept([1, 2])
        [1, 2]
    """
    deferral = _deferral.get()
    if deferral is not None:
        deferral.keep(value)
    return value


def values(numbers: tuple[Any, ...]) -> list[float]:
    """Return numbers as floats, with one wait for all of those on a GPU.

    Example:
        >>> values((np.array(2.0), 1.0))
        [2.0, 1.0]
    """
    arrays = [value for value in numbers if is_array(value)]
    read = iter(np.stack(arrays).tolist() if arrays else ())
    return [next(read) if is_array(value) else float(value) for value in numbers]


def as_dtype(value: Any, dtype: Any) -> Any:
    """Return a number from `fed` so that its product with arrays of that dtype has their dtype.

    Example:
        >>> as_dtype(0.5, np.float32)
        0.5
    """
    return value.astype(dtype) if is_array(value) else value
