"""Handle Ctrl-C and SIGTERM: at once by default, but between two steps during a training."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "interrupts_between_steps", "interrupts_raise"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM asked the command to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Raise `Interrupted` as soon as a signal arrives inside the block."""
    with _handled_by(_raise):
        yield


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Delay signals inside the block until the function that it yields is called.

    No signal then interrupts a step, and the saved weights are those of a whole number of steps. A
    signal raises `Interrupted` at the end of the block at the latest; a second signal raises it at
    once.
    """
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            raise Interrupted(number)
        held.append(number)

    def check() -> None:
        if held:
            raise Interrupted(held[0])

    with _handled_by(hold):
        yield check
    check()


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
