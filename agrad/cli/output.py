"""Where commands write, and with how many threads they compute."""

import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

__all__ = ["require_writable", "single_threaded"]


def require_writable(folder: Path) -> None:
    """Make `folder` and see that a file can be written there, before any work is done for it.

    Raises:
        ClickException: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise click.ClickException(
            f"cannot write to {os.fspath(folder)!r} ({error.strerror}); choose another folder"
        ) from error


def single_threaded() -> AbstractContextManager[Any]:
    """Limit the BLAS to one thread inside the `with` block."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)
