"""Where data sets are kept, and their download into it."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from agrad.errors import CorruptDataError
from agrad.serialization import atomic_write

__all__ = ["DownloadError", "corrupt", "fetch", "folder", "require", "user_cache"]


class DownloadError(OSError):
    """No mirror gave the published file."""


def require(module: str) -> Any:
    """Import one of the optional packages that the data sets need."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f'the data sets of agrad need {module.partition(".")[0]}: pip install "agrad[demo]"'
        ) from error


def user_cache() -> Path:
    """Return the user's cache folder of agrad."""
    return Path(require("pooch").os_cache("agrad"))


def folder() -> Path:
    """Return the folder that `AGRAD_DATA` names, else the user's cache folder."""
    return Path(os.environ.get("AGRAD_DATA") or user_cache())


def fetch(name: str, md5: str, mirrors: Sequence[str]) -> Path:
    """Return the path of a published file, downloaded at the first call.

    It is kept below the folder that the environment variable `AGRAD_DATA` names, else below the
    user's cache folder. A file found there is used as it is.

    Args:
        name: The file's path below that folder, such as "mnist/train-labels-idx1-ubyte.gz".
        md5: The published file's checksum.
        mirrors: Folders, as URLs ending in "/", that publish it; tried in turn.

    Raises:
        DownloadError: no mirror gave a file with that checksum.
        OSError: the file cannot be written.
        ImportError: pooch or rich is missing.
    """
    path = folder() / name
    if path.exists():
        return path
    failures = []
    for mirror in mirrors:
        url = mirror + path.name
        try:
            _download(url, path, md5)
        except (require("requests").RequestException, CorruptDataError) as error:
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


def corrupt(path: Path, reason: str) -> CorruptDataError:
    """Return the error that says why a file that was found or fetched cannot be used."""
    return CorruptDataError(
        f"{path} is damaged or of another data set: {reason}; "
        "delete it and it is downloaded again at the next call"
    )


def _download(url: str, path: Path, md5: str) -> None:
    pooch, progress = require("pooch"), require("rich.progress")
    console = require("rich.console").Console(stderr=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file, progress.Progress(console=console) as display:
        bar = _ProgressBar(display, path.name)
        pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16)(url, file, None)
        found = pooch.file_hash(file.name, alg="md5")
        if found != md5:
            raise CorruptDataError(f"what came has the MD5 {found}, the published file has {md5}")


class _ProgressBar:
    """A bar of rich's, driven as pooch drives one."""

    def __init__(self, display: Any, label: str) -> None:
        self._display = display
        self._task = display.add_task(label, total=None)

    @property
    def total(self) -> float | None:
        return self._display.tasks[self._task].total

    @total.setter
    def total(self, size: int) -> None:
        self._display.update(self._task, total=size)

    def update(self, amount: int) -> None:
        self._display.advance(self._task, amount)

    def reset(self) -> None:
        self._display.reset(self._task)

    def close(self) -> None:
        """The display closes its bars itself."""
