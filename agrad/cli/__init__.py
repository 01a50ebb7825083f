"""The command `agrad`."""

import sys
from importlib.util import find_spec

from agrad.cli.interrupt import Interrupted, interrupts_raise

__all__ = ["main"]

# What the extra `demo` brings and a command imports, perhaps only after the training.
_NEEDED = ("click", "matplotlib", "pooch", "rich", "sklearn")


def main() -> int:
    """Run the command line and return its exit code.

    0: done. 1: it could not be done, and a line on standard error says why. 2: the command's words
    were wrong. 130 and 143: interrupted by Ctrl-C or terminated, and what was reached is saved.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"agrad: the command line needs {', '.join(missing)}; install all that it needs with "
            'pip install "agrad[demo]"',
            file=sys.stderr,
        )
        return 1

    with interrupts_raise():
        try:
            from agrad.cli.app import run

            return run()
        except Interrupted as interrupt:
            print("agrad: interrupted", file=sys.stderr)
            return interrupt.exit_code
