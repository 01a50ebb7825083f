"""Folders that one run at a time may write to."""

import errno
import os
import sys
from pathlib import Path
from typing import BinaryIO

from agrad.errors import FolderInUseError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["locked"]


def locked(owner: str, folder: Path) -> BinaryIO:
    """Return an open file that locks the folder until it is closed or its process ends.

    Raises:
        FolderInUseError: Another run holds the lock.
    """
    file = (folder / ".lock").open("ab")
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise FolderInUseError(
            f"{owner}: another run writes to {os.fspath(folder)!r}; wait for it to end or "
            "choose another folder"
        ) from error
    return file
