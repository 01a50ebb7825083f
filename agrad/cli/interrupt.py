"""Handle Ctrl-C, SIGTERM and a closed terminal: at once, but between two steps in a training."""

import errno
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "interrupts_between_steps", "interrupts_raise", "lost_output_interrupts"]

# Windows has no SIGHUP and no SIGPIPE; the numbers are those of POSIX.
_HANGUP = 1
_BROKEN_PIPE = 13
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to stop, or nobody reads its output any more.

    Args:
        number: The signal's number, or the one that a lost output stands for.

    Attributes:
        exit_code: What a shell reports for a process that the signal ends.
        in_step: Whether it may have come in the middle of a step.
    """

    def __init__(self, number: int, in_step: bool = False) -> None:
        names = {known.value: known.name for known in signal.Signals}
        super().__init__(names.get(number, f"signal {number}"))
        self.exit_code = 128 + number
        self.in_step = in_step


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Raise `Interrupted` as soon as a signal arrives inside the block."""
    with _handled_by(_raise):
        yield


@contextmanager
def interrupts_between_steps(
    agree: Callable[[int], int] = int,
) -> Iterator[Callable[[], None]]:
    """Delay signals inside the block until the function that it yields is called.

    No signal then interrupts a step, and the saved weights are those of a whole number of steps. A
    signal raises `Interrupted` at the end of the block at the latest; a second signal raises it at
    once, perhaps in the middle of a step.

    Args:
        agree: Takes the number of the signal that has arrived, 0 for none, and returns that to act
            on, so that several processes stop after the same step.
    """
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            raise Interrupted(number, in_step=True)
        held.append(number)

    def check() -> None:
        number = agree(held[0] if held else 0)
        if number:
            raise Interrupted(number)

    with _handled_by(hold):
        yield check
    check()


@contextmanager
def lost_output_interrupts() -> Iterator[None]:
    """Raise `Interrupted` if the block cannot print: the terminal is closed, or the pipe broken.

    A closed terminal sends SIGHUP too, but a line printed to it may fail before the signal arrives.
    """
    try:
        yield
    except OSError as error:
        number = {errno.EIO: _HANGUP, errno.EPIPE: _BROKEN_PIPE}.get(error.errno or 0)
        if number is None or error.filename is not None:  # that of a file, as opposed to the output
            raise
        raise Interrupted(number) from error


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # A signal that is ignored, as nohup ignores SIGHUP, stays ignored.
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
