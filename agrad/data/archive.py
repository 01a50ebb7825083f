"""Read files from an untrusted tar.gz archive without extracting it."""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from agrad.data.download import corrupt

__all__ = ["read_members"]

_BLOCK = 512
_CHUNK = 1 << 20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENDED_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)


def read_members(
    path: Path, pattern: re.Pattern[str], max_size: int, max_total: int
) -> Iterator[tuple[re.Match[str], bytes]]:
    """Yield the match and the content of each file whose name matches `pattern`, in archive order.

    Nothing is written to disk, and at most one such file is in memory at a time. All other members
    are skipped, extended headers included, so only names in plain headers (up to 255 bytes) are
    found.

    Args:
        path: The archive.
        pattern: Must match the whole name, such as "folder/file.txt".
        max_size: The largest allowed size of a matching file, in bytes.
        max_total: The largest allowed size of the unzipped archive, in bytes.

    Raises:
        CorruptDataError: The archive is truncated or fails its checksum; exceeds `max_size` or
            `max_total`; or has a member whose path is absolute or contains "..", or that is a link,
            a device or anything else but a file or a folder.
        OSError: The archive cannot be read.
    """
    with gzip.open(path) as file:
        stream = _Stream(path, file, max_total)
        while (header := stream.read(_BLOCK, may_end=True)).strip(b"\0"):
            member = _parse(path, header)
            _require_safe(path, member)
            match = pattern.fullmatch(member.name) if member.type in _FILES else None
            size = 0 if member.isdir() else member.size
            if match is None:
                stream.skip(size)
            elif size > max_size:
                raise corrupt(path, f"{member.name!r} has {size} bytes, more than {max_size}")
            else:
                yield match, stream.read(size)
            stream.skip(-size % _BLOCK)
        stream.drain()


class _Stream:
    """A gzip file that may unzip to a limited total size."""

    def __init__(self, path: Path, file: gzip.GzipFile, max_total: int) -> None:
        self._path = path
        self._file = file
        self._max_total = self._left = max_total

    def read(self, size: int, may_end: bool = False) -> bytes:
        """Return the next `size` bytes; if `may_end`, return none at the end of the file."""
        if size > self._left:
            raise corrupt(self._path, f"it unzips to more than {self._max_total} bytes")
        self._left -= size
        try:
            content = self._file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise corrupt(self._path, f"it is not a complete gzip file ({error})") from error
        if len(content) < size and not (may_end and not content):
            raise corrupt(self._path, "it ends inside a member")
        return content

    def skip(self, size: int) -> None:
        """Skip `size` bytes."""
        while size > 0:
            size -= len(self.read(min(size, _CHUNK)))

    def drain(self) -> None:
        """Read the padding to the end of the file, where gzip verifies the checksum."""
        while self.read(_BLOCK, may_end=True):
            pass


def _parse(path: Path, header: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise corrupt(path, f"the header of a member is invalid ({error})") from error


def _require_safe(path: Path, member: tarfile.TarInfo) -> None:
    name = PureWindowsPath(member.name)  # understands drives and both slashes
    if name.anchor or ".." in name.parts:
        raise corrupt(path, f"the path {member.name!r} leaves the folder")
    if member.type not in (*_FILES, tarfile.DIRTYPE, *_EXTENDED_HEADERS):
        raise corrupt(path, f"{member.name!r} is a link, a device or of unknown type")
    if member.size < 0:
        raise corrupt(path, f"{member.name!r} has a negative size")
