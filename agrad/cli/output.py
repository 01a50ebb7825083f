"""Helpers that the commands share: options, output and the number of BLAS threads."""

import errno
import json
import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from agrad.cli.interrupt import lost_output_interrupts
from agrad.gpu import cuda
from agrad.serialization import atomic_write

__all__ = [
    "batch_size_option",
    "device_option",
    "make_console",
    "printable",
    "require_writable",
    "say",
    "seed_option",
    "single_threaded",
    "write_json",
]


def _usable(context: click.Context, option: click.Parameter, device: str) -> str:
    if device != "cpu":
        cuda.number_of(device)
    return device


device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    callback=_usable,
    help="Device to compute on; cuda is an NVIDIA GPU, see agrad doctor.",
)

batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Examples per step.",
)

seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the initial weights and the batch order.",
)


class _Console(Console):
    """A console that lets the caller handle a broken pipe, where Rich would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def make_console() -> Console:
    """Return a console on standard output, 100 columns wide unless it is a terminal."""
    console = _Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    return console


def say(console: Console, line: str) -> None:
    """Print a line without wrapping or markup, so that a path in it can be copied.

    Raises:
        Interrupted: Nobody reads the output any more.
    """
    with lost_output_interrupts():
        console.print(printable(line), markup=False, soft_wrap=True)


def printable(text: str) -> str:
    r"""Escape line ends and terminal sequences, which a path may hold.

    Example:
        >>> from agrad.cli.output import printable
        >>> print(printable("été\x1b[2J"))
        été\x1b[2J
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def require_writable(folder: Path) -> None:
    """Create `folder` and check that it can be written, before any work depends on it.

    Raises:
        OSError: The folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise OSError(
            f"cannot write to the folder {str(folder)!r} ({error.strerror}); choose another"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` to the file as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def single_threaded() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread inside the block."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
