"""Save and load states in the safetensors format, and write files atomically.

agrad does not use pickle: an untrusted file can hold arrays and plain values, but no code.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from agrad.backend import require_no_mask
from agrad.errors import CorruptDataError
from agrad.gpu import cuda

__all__ = ["atomic_write", "load", "remove_leftovers", "save"]

_DTYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
# The metadata entry that holds the nesting, the order and the plain values, together with a
# checksum over them and the arrays. It is JSON: a dict is an object, an array is its name in the
# file, and any other value is a list that contains just this value. There is a single entry because
# safetensors writes several in random order, and equal states should give equal files.
_OUTLINE = "agrad"
# How the entry begins, by which a damaged entry name differs from a file by another writer.
_SEALED = re.compile(r'\{"sha256": "[0-9a-f]{64}", "state": ')
# The name of atomic_write's temporary files.
_TEMPORARY = ".agrad-{}.tmp"
# Raised by safetensors for dtypes that NumPy lacks, or here for outlines that `save` did not write.
_NOT_OURS = (AttributeError, KeyError, RecursionError, TypeError, ValueError)


def save(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Save a nested dict of arrays and plain values as one safetensors file, atomically.

    An array is named by its keys joined with ".", so that other readers of the format find
    `model.0.weight`. `load` returns an equal dict: nesting, order, plain values, and dtype, shape
    and values of each array. A checksum protects all of it. Other processes see either the old file
    or the complete new one.

    Args:
        path: The file to write or replace.
        state: A dict with string keys. Values may be dicts of the same form; arrays of booleans,
            integers, float16, float32 or float64 of any shape and on any device; objects with a
            method `.numpy()`, such as tensors; None, booleans, integers, floats and strings; and
            lists of these plain values, or of lists and dicts of them. Arrays must be in dicts.
            NumPy scalars are loaded as 0-d arrays.

    Raises:
        TypeError: A key, a value or a dtype cannot be saved; nothing is written.
        ValueError: Two arrays have the same joined name; nothing is written.
        OSError: The file cannot be written; an existing file is unchanged.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import agrad as ag
        >>> path = tempfile.mkdtemp() + "/state.safetensors"
        >>> ag.save(path, {"model": {"0.weight": np.eye(2, dtype="float32")}, "step": 7})
        >>> ag.load(path)
        {'model': {'0.weight': array([[1., 0.], [0., 1.]], dtype=float32)}, 'step': 7}
    """
    import safetensors.numpy

    if not isinstance(state, Mapping):
        raise TypeError(f"save: state must be a dict, got {type(state).__name__}")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    outline = _outline(state, (), arrays)
    sealed = json.dumps({"sha256": _digest(outline, arrays), "state": outline})
    content = safetensors.numpy.save(arrays, metadata={_OUTLINE: sealed})
    with atomic_write(path) as file:
        file.write(content)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the state that `save` wrote.

    For any other safetensors file, return its arrays by name.

    Raises:
        FileNotFoundError: The file does not exist.
        CorruptDataError: The file is truncated, damaged or of another format, or has arrays of a
            dtype that `save` does not write.

    Example:
        >>> import tempfile
        >>> import agrad as ag
        >>> path = tempfile.mkdtemp() + "/state.safetensors"
        >>> ag.save(path, {"step": 7})
        >>> ag.load(path)
        {'step': 7}
    """
    import safetensors

    if not Path(path).is_file():
        raise FileNotFoundError(f"load: there is no file {os.fspath(path)!r}")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if strange := {array.dtype.name for array in arrays.values()} - _DTYPES:
            raise ValueError(f"it holds arrays of {', '.join(sorted(strange))}")
        if _OUTLINE not in metadata:
            if any(map(_SEALED.match, metadata.values())):
                raise ValueError("the name of its checksum is damaged")
            return arrays
        sealed = json.loads(metadata[_OUTLINE])
        outline = sealed["state"]
        if sealed["sha256"] != _digest(outline, arrays):
            raise ValueError("its checksum does not match")
        state = _restore(outline, arrays)
        if arrays or not isinstance(state, dict):
            raise ValueError("its outline does not match its arrays")
    except (safetensors.SafetensorError, *_NOT_OURS) as error:
        raise CorruptDataError(
            f"load: {os.fspath(path)!r} is not an intact file written by agrad.save ({error}); "
            "use an earlier copy or save it again"
        ) from error
    return state


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a binary file whose content appears at `path` completely or not at all.

    The content goes to a temporary file in the same folder, which is synced to disk and then
    renamed. If the block raises, the temporary file is removed. Only a killed process leaves it
    behind; `remove_leftovers` then removes it. Symbolic links are followed, as by `open`. The new
    file takes the permissions of the file it replaces, and its owner and group as far as the
    process may set them.

    Raises:
        OSError: The file cannot be written, or is a device or a pipe. The error names `path`, and
            an existing file is unchanged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from agrad.serialization import atomic_write
        >>> path = Path(tempfile.mkdtemp(), "notes.txt")
        >>> with atomic_write(path) as file:
        ...     count = file.write(b"whole")
        >>> path.read_bytes()
        b'whole'
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, _TEMPORARY.format(secrets.token_hex(8)))
    try:
        old = _replaced(target)
        with open(temporary, "xb", opener=_create if old is None else _create_private) as file:
            if old is not None:
                _take_permissions(temporary, old)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(folder)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary) and error.strerror:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove temporary files left by killed processes in a folder that nobody else writes to.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from agrad.serialization import remove_leftovers
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".agrad-0123.tmp").touch()
        >>> remove_leftovers(folder)
        >>> list(folder.iterdir())
        []
    """
    for path in Path(folder).glob(_TEMPORARY.format("*")):
        path.unlink()


def _replaced(target: str) -> os.stat_result | None:
    """Return the status of the file to replace, or None if there is none.

    Raises:
        OSError: It is a device, a pipe or a socket, which a rename would remove.
    """
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    return old


def _create(path: str, flags: int) -> int:
    return os.open(path, flags, 0o666)


def _create_private(path: str, flags: int) -> int:
    """Open a new file that nobody else can read, not even for a moment."""
    return os.open(path, flags, 0o600)


def _take_permissions(path: str, old: os.stat_result) -> None:
    """Give a new file the owner, the group and the permissions of the file it will replace."""
    mode = old.st_mode & 0o777
    if os.name != "nt":  # Windows has no owners and groups of this kind
        for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
            with suppress(PermissionError):
                os.chown(path, owner, group)
        if os.stat(path).st_gid != old.st_gid:
            # The new group is another one, so it gets only what both the old group and all others
            # had.
            mode &= ~0o070 | mode << 3
    os.chmod(path, mode)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # Windows cannot open folders; its file system journals renames
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(outline: Any, arrays: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the outline and of each array's name, dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps(outline).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(little_endian.ravel().view(np.uint8))
    return digest.hexdigest()


def _outline(value: Any, keys: tuple[str, ...], arrays: dict[str, Any]) -> Any:
    """Return the outline of `value`, and add its arrays to `arrays`."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(
                    f"save: {_where(keys)} has the key {key!r}; keys must be strings, "
                    f"not {type(key).__name__}"
                )
        return {key: _outline(item, (*keys, key), arrays) for key, item in value.items()}
    require_no_mask("save", _where(keys), value)
    if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "numpy"):
        value = (value.cpu() if hasattr(value, "cpu") else value).numpy()
    elif cuda.is_array(value):
        value = cuda.to_host(value)
    if not isinstance(value, np.ndarray | np.generic):
        _check_plain(value, keys)
        return [value]
    if value.dtype.name not in _DTYPES:
        raise TypeError(
            f"save: {_where(keys)} is an array of {value.dtype}; "
            "only booleans, integers and float16, float32 and float64 can be saved"
        )
    name = ".".join(keys)
    if name in arrays or name == "__metadata__":
        raise ValueError(f"save: the name {name!r} is reserved or occurs twice; rename a key")
    arrays[name] = np.asarray(value, order="C")
    return name


def _check_plain(value: Any, keys: tuple[str, ...]) -> None:
    """Raise a TypeError unless JSON can represent `value` exactly."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            _check_plain(item, (*keys, str(position)))
    elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _check_plain(item, (*keys, key))
    elif value is not None and type(value) not in (bool, int, float, str):
        raise TypeError(
            f"save: {_where(keys)} is of type {type(value).__name__}; a list may hold None, bool, "
            "int, float, str, and lists and dicts of these; keep arrays in dicts"
        )


def _where(keys: tuple[str, ...]) -> str:
    return repr(".".join(keys)) if keys else "the state"


def _restore(outline: Any, arrays: dict[str, Any]) -> Any:
    """Return the value that `outline` describes, and remove its arrays from `arrays`."""
    if isinstance(outline, dict):
        return {key: _restore(item, arrays) for key, item in outline.items()}
    if isinstance(outline, str):
        return arrays.pop(outline)
    (value,) = outline
    return value
