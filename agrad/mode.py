"""Whether operations are recorded: the one switch of the package."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["is_grad_enabled", "no_grad"]

# A context variable, so that each thread and each asynchronous task has its own.
_grad_enabled: ContextVar[bool] = ContextVar("agrad_grad_enabled", default=True)


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
