"""The command `agrad`."""

import sys
from importlib.util import find_spec

from agrad.cli.interrupt import Interrupted, interrupts_raise

__all__ = ["main"]

# Packages of the extra `demo`. Some are imported only after a training, which is too late to fail.
_NEEDED = ("click", "matplotlib", "pooch", "rich", "sklearn")


def main() -> int:
    """Run the command line and return its exit code.

    0: success. 1: failure, with one line on standard error that says why. 2: wrong usage. 130 and
    143: stopped by Ctrl-C or SIGTERM, with the progress so far saved.
    """
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
            from agrad.cli.app import run

            return run()
        except Interrupted as interrupt:
            print("agrad: interrupted", file=sys.stderr)
            return interrupt.exit_code
