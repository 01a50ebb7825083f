"""How benchmarks/gpu.py runs and kills commands and keeps figures, without a GPU."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_cupy
import gpu
import pytest
from gpu_speed import Missing

pytestmark = pytest.mark.skipif(os.name == "nt", reason="process groups of POSIX")


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    with fake_cupy.installed() as module:
        yield module


def soon() -> float:
    return time.monotonic() + 60


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_output_and_the_exit_code_of_a_command() -> None:
    words = "import os; print(os.environ['WORD']); raise SystemExit(3)"
    outcome = gpu.run([sys.executable, "-c", words], soon(), 60, {"WORD": "said"})
    assert outcome == {"exit_code": 3, "output": ["said"], "failed": "see output"}


STARTS_ANOTHER = """
import subprocess, time
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
@pytest.mark.parametrize("last", ["time.sleep(60)", "raise SystemExit(1)"])
def test_no_process_of_a_command_outlives_it(last: str) -> None:
    """compute-sanitizer starts such a process, which holds the pipe of its output."""
    start = time.monotonic()
    command = [sys.executable, "-S", "-c", STARTS_ANOTHER + last]
    outcome = gpu.run(command, time.monotonic() + 2, 60)
    assert time.monotonic() - start < 30
    assert "not done after" in outcome["failed"]
    (child,) = outcome["output"]  # output before the kill is kept
    while is_alive(int(child)):  # a killed process takes a moment
        assert time.monotonic() - start < 30
        time.sleep(0.01)


def test_the_figures_of_a_part_that_fails_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.json"
    on_the_way = []

    def fails(deadline: float, out: Path, note: gpu.Note) -> None:
        note("first", 1.5)
        on_the_way.append(json.loads(out.read_text()))
        raise ArithmeticError("wrong")

    def lacks(deadline: float, out: Path, note: gpu.Note) -> None:
        raise Missing("a tool")

    monkeypatch.setattr(gpu, "PARTS", {"fails": fails, "lacks": lacks})
    content: dict[str, Any] = {"machine": "this"}
    assert not gpu.make("fails", soon(), out, content)
    assert gpu.make("lacks", soon(), out, content)
    assert on_the_way == [{"machine": "this", "fails": {"first": 1.5}}]
    known = json.loads(out.read_text())
    assert all(known[name].pop("seconds") >= 0 for name in ("fails", "lacks"))
    assert known["fails"] == {"first": 1.5, "failed": "ArithmeticError('wrong')"}
    assert known["lacks"] == {"missing": "a tool"}


def test_the_sanitizer_runs_each_tool_without_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "compute-sanitizer"
    tool.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    runs = {}

    def run(
        command: list[str], deadline: float, most: float, environment: dict[str, str]
    ) -> dict[str, Any]:
        runs[command[2]] = command, environment
        return {"failed": "see output"} if command[2] == "racecheck" else {}

    monkeypatch.setattr(gpu, "run", run)
    noted: dict[str, Any] = {}
    gpu.sanitizer(soon(), tmp_path, noted.__setitem__)
    assert list(runs) == ["memcheck", "racecheck", "initcheck", "synccheck"]
    assert noted == {name: {} for name in runs} | {
        "racecheck": {"failed": "see output"},
        "failed": "racecheck",
    }
    for command, environment in runs.values():
        assert command[command.index("-p") + 1] == "without_pool"
        assert (Path(environment["PYTHONPATH"]) / "without_pool.py").exists()
