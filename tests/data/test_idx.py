"""The IDX format: written arrays come back, and damaged files are refused."""

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from idx_files import write_idx

from agrad.data.idx import read_idx
from agrad.errors import CorruptDataError


@pytest.fixture(scope="module")
def idx_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "file.gz"


SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)


@given(shape=SHAPES, seed=st.integers(0, 9))
def test_idx_round_trip(idx_path: Path, shape: tuple[int, ...], seed: int) -> None:
    array = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    write_idx(idx_path, array)
    found = read_idx(idx_path, shape)
    assert (found.dtype, found.shape) == (np.uint8, shape)
    np.testing.assert_array_equal(found, array)


@given(data=st.data(), unzipped=st.booleans())
def test_a_damaged_idx_file_is_corrupt_or_of_the_same_shape(
    idx_path: Path, data: Any, unzipped: bool
) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    write_idx(idx_path, array)
    content = idx_path.read_bytes()
    content = bytearray(gzip.decompress(content) if unzipped else content)
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
    idx_path.write_bytes(gzip.compress(content) if unzipped else content)
    try:
        found = read_idx(idx_path, array.shape)
    except CorruptDataError:
        return
    assert found.shape == array.shape
    if not unzipped:  # gzip's own checksum
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "difference"),
    [
        (struct.pack(">HBB2I", 0, 8, 2, 2, 3) + b"12345", "6 bytes should follow .* only 5"),
        (struct.pack(">HBB2I", 0, 8, 2, 2, 3) + b"1234567", "6 bytes should follow .* are more"),
        (struct.pack(">HBB2I", 0, 8, 2, 3, 2) + b"123456", r"its shape is \(3, 2\), not \(2, 3\)"),
        (struct.pack(">HBB2I", 0, 8, 2, 2**32 - 1, 2**32 - 1), r"its shape is \(4294967295, 4"),
        (
            struct.pack(">HBB2I", 0, 13, 2, 2, 3) + b"123456",
            "starts with 00000d02, not with 000008",
        ),
        (struct.pack(">HBB2I", 1, 8, 2, 2, 3) + b"123456", "starts with 00010802"),
        (struct.pack(">HBBI", 0, 8, 1, 6) + b"123456", "starts with 00000801, not with 00000802"),
        (b"\0\0\x08\x02\0", "ends inside the header, after 5 bytes"),
        (b"", "ends inside the header, after 0 bytes"),
    ],
)
def test_what_differs_in_an_idx_file_is_named(
    tmp_path: Path, content: bytes, difference: str
) -> None:
    path = tmp_path / "named.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(CorruptDataError, match=f"named.gz is damaged .*{difference}"):
        read_idx(path, (2, 3))


def test_a_file_that_is_not_gzip_is_corrupt(tmp_path: Path) -> None:
    for content in (b"", b"<html>not found</html>", gzip.compress(b"x" * 99)[:-9]):
        (tmp_path / "file.gz").write_bytes(content)
        with pytest.raises(CorruptDataError):
            read_idx(tmp_path / "file.gz", (2,))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 10) + bytes(50_000_000), 1))
    tracemalloc.start()
    with pytest.raises(CorruptDataError, match="there are more"):
        read_idx(path, (10,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
