"""The command `agrad`."""

import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from agrad.cli.interrupt import Interrupted, interrupts_raise, lost_output_interrupts

__all__ = ["main"]

# Packages of the extra `demo`. Some are imported only after a training, which is too late to fail.
_NEEDED = ("click", "matplotlib", "pooch", "rich", "sklearn")


def main() -> int:
    """Run the command line and return its exit code.

    0: success. 1: failure, with one line on standard error that says why. 2: wrong usage. 129, 130,
    141 and 143: stopped by a closed terminal, Ctrl-C, a pipe that nobody reads, or SIGTERM; `train`
    and `study` have then saved their progress so far.
    """
    for stream in (sys.stdout, sys.stderr):
        _print_anything(stream)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"agrad: the command line needs {', '.join(missing)}; install everything it needs with "
            'pip install "agrad[demo]"',
            file=sys.stderr,
        )
        return 1

    with interrupts_raise():
        try:
            with lost_output_interrupts():
                from agrad.cli.app import run

                code = run()
                sys.stdout.flush()
                return code
        except Interrupted as interrupt:
            with suppress(OSError):  # there may be no terminal any more
                print("agrad: interrupted", file=sys.stderr)
            if isinstance(interrupt.__cause__, OSError):
                _drop_output()
            return interrupt.exit_code


def _print_anything(stream: Any) -> None:
    """Make a stream escape characters that its encoding lacks, rather than fail after the work."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Discard the remaining output, so that Python does not fail to print it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
