"""Ctrl-C and termination: at once while nothing is at stake, between two steps in a training."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "interrupts_between_steps", "interrupts_raise"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """One of the signals that ask a command to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Let the signals raise `Interrupted` inside the `with` block."""
    with _handled_by(_raise):
        yield


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Hold the signals back inside the `with` block to where the function it gives is called.

    So none tears a step apart, and the weights that are saved are those of a whole number of steps.
    A signal raises `Interrupted` at the end of the block at the latest, a second one at once.
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
