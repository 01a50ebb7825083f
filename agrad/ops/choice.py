"""Choices by comparison, which an average pass must find as they were.

The outcome of `x > 0` has no derivative, and the averages of what it chooses between hold only if
the outcome is the same at both ends. So a `Choice` keeps its outcome, compares it with the one at
the end of the updates, and reports a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from agrad.backend import Array, as_array
from agrad.errors import ChoiceChangedError
from agrad.ops.operation import Operation

__all__ = ["Choice", "noting_changes", "require_unchanged"]

Change = tuple[str, Array]  # the name of a function, and where its outcome is another

_changes: ContextVar[list[Change] | None] = ContextVar("agrad_changes", default=None)


class Choice(Operation):
    """A comparison or a logical function. Every later run returns the first outcome."""

    differentiable = False

    def __init__(self, function: Any) -> None:
        self.function = function
        self.outcome: Array | None = None

    def for_call(self, *inputs: Array) -> Operation:
        return Choice(self.function)

    def forward(self, *inputs: Array) -> Array:
        outcome = as_array(self.function(*inputs))
        if self.outcome is None:
            self.outcome = outcome
        else:
            require_unchanged(self.function.__name__, outcome != self.outcome)
        return self.outcome


def require_unchanged(name: str, changed: Array) -> None:
    """Raise a ChoiceChangedError if a choice has changed anywhere, or note it if that is wanted."""
    changes = _changes.get()
    if changes is None:
        _refuse(name, changed)
    else:
        changes.append((name, changed))


@contextmanager
def noting_changes() -> Iterator[list[Change]]:
    """Note changed outcomes inside the block, in the list that it gives, rather than raise."""
    changes: list[Change] = []
    token = _changes.set(changes)
    try:
        yield changes
    finally:
        _changes.reset(token)


def _refuse(name: str, changed: Array) -> None:
    if changed.any():
        first = tuple(map(int, np.argwhere(changed)[0]))
        raise ChoiceChangedError(
            f"average_backward: the outcome of {name}, of shape {changed.shape}, changes along the "
            f"updates, first at {list(first)}, so the average of what it chooses is unknown; use "
            "an operation that chooses by itself (np.maximum, np.minimum, np.clip, np.abs, F.relu, "
            "F.leaky_relu), or shorten the updates"
        )
