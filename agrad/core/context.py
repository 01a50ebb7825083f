"""Whether and how operations are recorded in this thread or task.

Each setting is a context variable, so that every thread and asynchronous task has its own.
"""

from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar, Token
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, Protocol, TypeVar

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


_Function = TypeVar("_Function", bound=Callable[..., Any])

_LATE = isgeneratorfunction, iscoroutinefunction, isasyncgenfunction


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


class _GradMode(ContextDecorator):
    """Sets whether operations are recorded, for a `with` block or each call of a function."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._tokens: list[Token[bool]] = []

    def _recreate_cm(self) -> "_GradMode":
        """Return what a call of a decorated function enters: its own, as calls may overlap."""
        return _GradMode(self._enabled)

    def __call__(self, func: _Function) -> _Function:
        if any(runs_late(func) for runs_late in _LATE):
            raise TypeError(
                f"{'enable_grad' if self._enabled else 'no_grad'}: cannot decorate "
                f"{func.__name__}, which runs after its call has returned; use a with block in it"
            )
        return super().__call__(func)

    def __enter__(self) -> None:
        self._tokens.append(grad_enabled.set(self._enabled))

    def __exit__(self, *error: object) -> None:
        grad_enabled.reset(self._tokens.pop())


def no_grad() -> _GradMode:
    """Record nothing inside the `with` block, or inside the function it decorates.

    Raises:
        TypeError: It decorates a generator or a coroutine, which runs after its call has returned.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> with ag.no_grad():
        ...     y = 2 * x
        >>> y.requires_grad
        False
    """
    return _GradMode(enabled=False)


def enable_grad() -> _GradMode:
    """Record inside the `with` block, or inside the function it decorates, despite `no_grad`.

    A function that needs gradients uses it so that it works inside its caller's `no_grad`, too.

    Raises:
        TypeError: It decorates a generator or a coroutine, which runs after its call has returned.

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
    return _GradMode(enabled=True)


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
