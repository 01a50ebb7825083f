"""Whether and how operations are recorded in this thread or task.

Each setting is a context variable, so that every thread and asynchronous task has its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = [
    "Recorder",
    "enable_grad",
    "grad_enabled",
    "is_grad_enabled",
    "no_grad",
    "recorder",
    "recording",
    "remembering",
    "remembering_choices",
]


class Recorder(Protocol):
    """Receives the operations while a function is captured."""

    def record(self, operation: Any, inputs: tuple[Any, ...]) -> Any:
        """Compute an operation, record it, and return its result."""

    def traces(self, values: Any) -> bool:
        """Return whether any of the values will be known only in the replays."""

    def enter(self, module: Any) -> None:
        """Note that a module is called."""


grad_enabled: ContextVar[bool] = ContextVar("agrad_grad_enabled", default=True)
remembering: ContextVar[bool] = ContextVar("agrad_remembering", default=False)
recorder: ContextVar[Recorder | None] = ContextVar("agrad_recorder", default=None)


def is_grad_enabled() -> bool:
    """Return whether operations are recorded in this thread or task: true outside `no_grad`.

    Example:
        >>> import agrad as ag
        >>> ag.is_grad_enabled()
        True
    """
    return grad_enabled.get()


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside the `with` block, or inside the function it decorates.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> with ag.no_grad():
        ...     y = 2 * x
        >>> y.requires_grad
        False
    """
    token = grad_enabled.set(False)
    try:
        yield
    finally:
        grad_enabled.reset(token)


@contextmanager
def enable_grad() -> Iterator[None]:
    """Record inside the `with` block, or inside the function it decorates, despite `no_grad`.

    A function that needs gradients uses it so that it works inside its caller's `no_grad`, too.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor(3.0, requires_grad=True)
        >>> with ag.no_grad():
        ...     with ag.enable_grad():
        ...         y = x * x
        ...     slope = ag.grad(y, x)[0]
        >>> slope
        tensor(6.)
    """
    token = grad_enabled.set(True)
    try:
        yield
    finally:
        grad_enabled.reset(token)


@contextmanager
def remembering_choices() -> Iterator[None]:
    """Make every result inside the block remember the choices that it comes from.

    The first steps of a recorded backward pass compute with constants and choices alone.
    """
    token = remembering.set(True)
    try:
        yield
    finally:
        remembering.reset(token)


@contextmanager
def recording(to: Recorder | None) -> Iterator[None]:
    """Send operations to a recorder inside the `with` block; None stops recording."""
    token = recorder.set(to)
    try:
        yield
    finally:
        recorder.reset(token)
