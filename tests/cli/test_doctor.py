"""`agrad doctor`: where compiled kernels are cached, and who else can write there."""

import os
from pathlib import Path

import numba
import pytest

pytest.importorskip("click")

from agrad.kernels.cpu import jit
from command_line import invoke

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for kernels; nobody else can write to it or to its parents."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(root / "cache"))
    folder = jit.cache_folder()
    assert folder is not None
    assert folder.parent == root / "cache"
    for path in (folder, folder.parent, root):
        path.chmod(0o755)
    return folder


def warnings_about(folder: Path) -> list[str]:
    """Return the doctor's warnings about a folder and its contents, but not about its parents."""
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert f"kernels  cached in {folder}" in lines
    root = folder.parent.parent
    return [line for line in lines if line.startswith(f"WARNING  {root}")]


def test_a_private_folder_gives_no_warning(cache: Path) -> None:
    assert warnings_about(cache) == []


@pytest.mark.parametrize("height", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o733])
def test_a_world_writable_folder_is_reported(cache: Path, height: int, mode: int) -> None:
    path = (cache, *cache.parents)[height]
    path.chmod(mode)
    (line,) = warnings_about(cache)
    assert f"{path} can be written by" in line
    assert "NUMBA_CACHE_DIR" in line


def test_the_sticky_bit_guards_what_is_there_but_not_what_is_added(cache: Path) -> None:
    cache.parent.chmod(0o1777)
    assert warnings_about(cache) == []
    cache.chmod(0o1777)
    assert len(warnings_about(cache)) == 1


def test_a_group_is_reported_unless_it_has_no_other_members(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    me = pwd.getpwuid(os.geteuid())
    cache.chmod(0o775)

    def group(members: list[str]) -> grp.struct_group:
        return grp.struct_group(("own", "x", cache.stat().st_gid, members))

    monkeypatch.setattr(pwd, "getpwall", lambda: [me])
    monkeypatch.setattr(grp, "getgrgid", lambda number: group([me.pw_name]))
    assert warnings_about(cache) == []
    other = pwd.struct_passwd(("other", "x", me.pw_uid + 1, cache.stat().st_gid, "", "", ""))
    monkeypatch.setattr(pwd, "getpwall", lambda: [me, other])
    assert f"can be written by group {cache.stat().st_gid}" in warnings_about(cache)[0]

    def unknown(number: int) -> grp.struct_group:
        raise KeyError(number)

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert len(warnings_about(cache)) == 1


def test_a_folder_of_another_user_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = warnings_about(cache)
    if os.getuid():
        assert all(f"belongs to user {os.getuid()}" in line for line in found)
        assert found
    else:  # root can write anywhere
        assert found == []


def test_a_missing_cache_folder_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrad.cli.doctor.cache_folder", lambda: None)
    result = invoke("doctor")
    assert "kernels  cached nowhere" in result.output
