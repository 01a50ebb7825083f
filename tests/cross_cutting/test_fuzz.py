"""Loaders refuse damaged files with a clear error, or return valid results: see fuzz.py."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("resource")  # of POSIX
from fuzz import Finding, known_pieces, table, try_case, watch
from fuzz_loaders import FILE, LOADERS, Loader
from reliability_page import read_block, table_text

from agrad.errors import CorruptDataError


@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_file_is_refused_or_valid_in_little_memory(name: str, tmp_path: Path) -> None:
    verdicts = []
    tracemalloc.start()
    try:
        with watch():
            for number in range(400):
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                verdicts.append(try_case(LOADERS[name], tmp_path / FILE, number))
                assert tracemalloc.get_traced_memory()[1] - before < 2**23
    finally:
        tracemalloc.stop()
    assert 15 < sum(verdicts) < 385  # files always refused, or never, would test nothing


def refuse(path: Path) -> None:
    raise CorruptDataError("")


def hang(path: Path) -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("load", "finding"),
    [
        (lambda path: {}["key"], "case 7: KeyError"),
        (lambda path: bytearray(2**62), "case 7: MemoryError"),
        (hang, "case 7: _TooSlow: more than 1.0 s"),
        (lambda path: 2, "case 7: accepted, but not valid"),
        (refuse, "case 7: the error says nothing"),
    ],
)
def test_anything_else_is_a_finding(
    load: Callable[[Path], Any], finding: str, tmp_path: Path
) -> None:
    def require_one(result: Any, content: bytes) -> None:
        assert result == 1

    loader = Loader(lambda rng: rng.randbytes(4), load, require_one)
    with watch(), pytest.raises(Finding, match=finding):
        try_case(loader, tmp_path / FILE, 7)


def test_the_page_has_the_cases_of_each_loader_without_a_gap() -> None:
    for name in LOADERS:
        end = 0
        for piece in (piece for piece in known_pieces() if piece.loader == name):
            assert piece.start == end
            end += piece.cases
        assert end >= 1_000_000
    assert read_block("fuzz") == table_text(table())
