"""The cache of a compiled kernel is dropped if damaged or if any of its sources changes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from agrad.kernels.cpu import jit

KERNEL = """
import numpy as np
from agrad.kernels.cpu.jit import kernel
from helper import factor

@kernel("const real[:], real[:]")
def scale(x, out):
    for i in range(out.size):
        out[i] = factor() * x[i]

out = np.empty(1)
scale(np.ones(1), out)
print(out[0])
"""

HELPER = """
from agrad.kernels.cpu.jit import inline

@inline
def factor():
    return {}
"""


def test_a_change_in_another_file_of_the_folder_is_noticed(tmp_path: Path) -> None:
    def run(factor: float) -> float:
        (tmp_path / "helper.py").write_text(HELPER.format(factor))
        options = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", "import scaling"]
        output = subprocess.check_output(command, env=os.environ | options, text=True)
        return float(output)

    (tmp_path / "scaling.py").write_text(KERNEL)
    assert run(2.0) == 2.0
    cached = set((tmp_path / "cache").rglob("*.nbc"))
    assert cached
    assert run(2.0) == 2.0
    assert set((tmp_path / "cache").rglob("*.nbc")) == cached  # nothing was compiled again
    assert run(3.0) == 3.0


def double(x: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = 2 * x[i]


def doubled() -> float:
    """Load or compile a kernel like a new process, and call it."""
    out = np.empty(1)
    jit.kernel("const real[:], real[:]")(double)(np.ones(1), out)
    return float(out[0])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert doubled() == 2
    (folder,) = tmp_path.iterdir()
    return folder


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "a byte": lambda content: content[:1],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "the last byte cut off": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "another object": lambda content: b"N.",
    "text": lambda content: b"cos\nabs\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_cache_is_compiled_again(
    cache: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    files = list(cache.glob(f"*.{kind}"))
    assert files
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    assert doubled() == 2
    assert doubled() == 2  # caches it again
    stamps = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert doubled() == 2
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == stamps


def test_a_disk_too_full_for_the_cache_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        assert doubled() == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert doubled() == 2


def test_an_error_of_the_kernel_itself_is_raised() -> None:
    def wrong(x: Any, out: Any) -> None:
        out[0] = x.no_such_attribute

    with pytest.raises(numba.TypingError, match="no_such_attribute"):
        _ = jit.kernel("const real[:], real[:]")(wrong).compiled


def test_the_cache_folder_is_where_numba_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    folder = jit.cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "cache"
