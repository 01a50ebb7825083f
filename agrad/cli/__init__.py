"""The command `agrad`."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line and return its exit code.

    0: done. 1: it could not be done, and a line on standard error says why. 2: the command's words
    were wrong. 130: interrupted, what was reached is saved.
    """
    try:
        from agrad.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("agrad"):
            raise
        print(
            f"agrad: the command line needs {error.name}; install it with "
            'pip install "agrad[demo]"',
            file=sys.stderr,
        )
        return 1
    return run()
