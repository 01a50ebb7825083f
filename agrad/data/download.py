"""The folder of the data sets, and downloads into it."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agrad.errors import CorruptDataError
from agrad.extras import optional_import
from agrad.serialization import atomic_write

__all__ = [
    "DownloadError",
    "corrupt",
    "fetch",
    "folder",
    "require_file",
    "user_cache",
]


class DownloadError(OSError):
    """No mirror served the published file."""


def user_cache() -> Path:
    """Return agrad's folder in the user's cache."""
    return Path(optional_import("pooch").os_cache("agrad"))


def folder() -> Path:
    """Return the folder that `AGRAD_DATA` names, or else the user's cache folder."""
    return Path(os.environ.get("AGRAD_DATA") or user_cache())


def fetch(name: str, md5: str, mirrors: Sequence[str]) -> Path:
    """Return the path of a published file; download it if it is missing.

    The file lies below the folder named by the environment variable `AGRAD_DATA`, or below the
    user's cache folder if the variable is not set. An existing file is used without a check.

    Args:
        name: The file's path below that folder, such as "mnist/train-labels-idx1-ubyte.gz".
        md5: The checksum of the published file.
        mirrors: URLs of folders that publish the file, each ending in "/"; they are tried in turn.

    Raises:
        DownloadError: No mirror served a file with that checksum.
        OSError: The file cannot be written.
        ImportError: pooch or rich is not installed.
    """
    path = folder() / name
    if path.exists():
        require_file(path)
        return path
    failures = []
    for mirror in mirrors:
        url = mirror + path.name
        try:
            _download(url, path, md5)
        except (optional_import("requests").RequestException, CorruptDataError) as error:
            failures.append(f"{url}: {error}")
        except OSError as error:
            advice = "missing and cannot be written; make the folder writable or set AGRAD_DATA"
            raise OSError(error.errno, f"{error.strerror}, {advice}", str(path)) from error
        else:
            return path
    raise DownloadError(
        f"{path} is missing and could not be downloaded; put the file there, or set AGRAD_DATA to "
        "a folder that has it:\n" + "\n".join(failures)
    )


def require_file(path: Path) -> None:
    """Raise an OSError if a path is a folder, a device or a pipe, whose reader might wait forever.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from agrad.data.download import require_file
        >>> require_file(Path(tempfile.mkdtemp()))
        Traceback (most recent call last):
        OSError: [Errno 22] Not a regular file: ...
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def corrupt(path: Path, reason: str) -> CorruptDataError:
    """Return the error for a data file that cannot be used for the given reason."""
    return CorruptDataError(
        f"{path} is damaged or belongs to another data set: {reason}; "
        "delete it, and the next call downloads it again"
    )


def _download(url: str, path: Path, md5: str) -> None:
    pooch, progress = optional_import("pooch"), optional_import("rich.progress")
    console = optional_import("rich.console").Console(stderr=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file, progress.Progress(console=console) as display:
        bar = _ProgressBar(display, path.name)
        pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16)(url, file, None)
        found = pooch.file_hash(file.name, alg="md5")
        if found != md5:
            raise CorruptDataError(f"the MD5 of the download is {found}, it should be {md5}")


class _ProgressBar:
    """A progress bar of rich with the interface that pooch expects."""

    def __init__(self, display: Any, label: str) -> None:
        self._display = display
        self._task = display.add_task(label, total=None)

    @property
    def total(self) -> float | None:
        total: float | None = self._display.tasks[self._task].total
        return total

    @total.setter
    def total(self, size: int) -> None:
        self._display.update(self._task, total=size)

    def update(self, amount: int) -> None:
        self._display.advance(self._task, amount)

    def reset(self) -> None:
        self._display.reset(self._task)

    def close(self) -> None:
        """Do nothing: the display closes its bars itself."""
