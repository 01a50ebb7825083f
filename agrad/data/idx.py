"""The IDX format of MNIST and its relatives: a header followed by an array of bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agrad.data.download import corrupt

__all__ = ["read_idx"]

_UNSIGNED_BYTES = 0x08


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a gzip-compressed IDX file of unsigned bytes.

    At most one byte more than the file should hold is read, whatever the header says.

    Args:
        path: The file.
        shape: The shape that the file must have.

    Returns:
        A read-only uint8 array of that shape.

    Raises:
        CorruptDataError: The file is not a complete gzip file, or its header or length is wrong.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
    """
    header_size = 4 + 4 * len(shape)
    size = math.prod(shape)
    try:
        with gzip.open(path) as file:
            header = file.read(header_size)
            content = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise corrupt(path, f"it is not a complete gzip file ({error})") from error
    if len(header) < header_size:
        raise corrupt(path, f"it ends inside the header, after {len(header)} bytes")
    zeros, dtype, ndim = struct.unpack(">HBB", header[:4])
    if (zeros, dtype, ndim) != (0, _UNSIGNED_BYTES, len(shape)):
        expected = struct.pack(">HBB", 0, _UNSIGNED_BYTES, len(shape))
        raise corrupt(path, f"it starts with {header[:4].hex()}, not with {expected.hex()}")
    dims = struct.unpack(f">{ndim}I", header[4:])
    if dims != shape:
        raise corrupt(path, f"its shape is {dims}, not {shape}")
    if len(content) != size:
        found = "more" if len(content) > size else f"only {len(content)}"
        raise corrupt(path, f"{size} bytes should follow its header, but there are {found}")
    return np.frombuffer(content, np.uint8).reshape(shape)
