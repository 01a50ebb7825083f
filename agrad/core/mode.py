"""Whether operations are recorded, and where: the one switch of the package."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agrad.tracing.captured import Tape

__all__ = ["active_tape", "is_grad_enabled", "no_grad", "taping"]

# Context variables, so that each thread and each asynchronous task has its own.
_grad_enabled: ContextVar[bool] = ContextVar("agrad_grad_enabled", default=True)
_tape: ContextVar["Tape | None"] = ContextVar("agrad_tape", default=None)


def is_grad_enabled() -> bool:
    """Return whether operations are recorded in this thread or task: true outside `no_grad`.

    Example:
        >>> import agrad as ag
        >>> ag.is_grad_enabled()
        True
    """
    return _grad_enabled.get()


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
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def active_tape() -> "Tape | None":
    """Return the tape of the function that is being captured, if there is one."""
    return _tape.get()


@contextmanager
def taping(tape: "Tape | None") -> Iterator[None]:
    """Send operations to `tape` inside the `with` block."""
    token = _tape.set(tape)
    try:
        yield
    finally:
        _tape.reset(token)
