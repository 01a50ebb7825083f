"""`agrad train --resume`: whatever stops a run, it continues as if nothing had."""

import errno
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad import checkpoint

pytest.importorskip("click")

from command_line import fail, invoke, lines, needs_signals, one_line, run, start, wait_for
from source_tree import ROOT

from agrad.cli import train as command
from agrad.cli.run_folder import JSONLines, RunFolder
from agrad.optim.rule_optimizer import RuleOptimizer
from agrad.study import figures

# Without a decay, the first steps of a run do not depend on its length.
TINY = ("--depth", "2", "--width", "8", "--batch-size", "64", "--decay", "0")
EVERY_RULE = ["adam", "adamw", "muon", "rmsprop", "sgd"]


def train(out: Path, *words: object) -> Any:
    result = invoke("train", *TINY, *words, "--out", out)
    assert result.exit_code == 0, result.output
    return result


def resume(out: Path, *words: object) -> Any:
    result = invoke("train", "--resume", out, *words)
    assert result.exit_code == 0, result.output
    return result


def outcome(out: Path) -> dict[str, Any]:
    """Return everything about a run that does not depend on the clock."""
    metrics = [json.loads(line) for line in lines(out / "metrics.jsonl")]
    for line in metrics:
        line.pop("seconds", None)
    settings = json.loads((out / "settings.json").read_text())
    weights = (out / "weights.safetensors").read_bytes()
    return {"metrics": metrics, "settings": settings, "weights": weights}


def checkpoints(out: Path) -> list[int]:
    return sorted(int(path.stem) for path in (out / "checkpoints").glob("*.safetensors"))


def damage(out: Path, iteration: int) -> None:
    path = out / "checkpoints" / f"{iteration:08}.safetensors"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


# -- bit for bit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", EVERY_RULE)
@pytest.mark.parametrize("rest", [[], ["--lr", "1e-3"], ["--no-average", "--lr", "1e-3"]])
def test_a_resumed_run_is_the_run(rule: str, rest: list[str], tmp_path: Path) -> None:
    words = ("--optimizer", rule, *rest)
    train(tmp_path / "whole", *words, "--iterations", 30)
    train(tmp_path / "cut", *words, "--iterations", 25)  # in the second epoch
    result = resume(tmp_path / "cut", "--iterations", 30)
    assert "Resuming after iteration 25 of 30" in result.output
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    resume(tmp_path / "cut")
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_a_run_resumed_within_its_decay_is_the_run(tmp_path: Path) -> None:
    words = ("--decay", "0.8", "--checkpoint-every", 10, "--iterations", 30)
    for name in ("whole", "cut"):
        train(tmp_path / name, *words)
    damage(tmp_path / "cut", 30)
    assert "Resuming after iteration 20 of 30" in resume(tmp_path / "cut").output
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_a_resumed_convolutional_run_is_the_run(tmp_path: Path) -> None:
    words = ("--model", "conv", "--depth", 3, "--width", 4, "--batch-size", 20)
    for name, iterations in (("whole", 4), ("cut", 2)):
        train(tmp_path / name, *words, "--iterations", iterations)
    resume(tmp_path / "cut", "--iterations", 4)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@needs_signals
@pytest.mark.parametrize(
    ("number", "every"),
    [
        (signal.SIGINT, 10**6),
        (signal.SIGTERM, 10**6),
        (getattr(signal, "SIGHUP", None), 10**6),
        (getattr(signal, "SIGKILL", None), 10),
    ],
)
def test_a_stopped_run_resumes(number: signal.Signals, every: int, tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    process = start(
        "train", *TINY, "--iterations", "1000000", "--checkpoint-every", every, "--out", out
    )
    wait_for(lambda: len(lines(out / "metrics.jsonl")) > 40, process)
    process.send_signal(number)
    process.communicate(timeout=60)
    last = checkpoints(out)[-1]
    steps = len(lines(out / "metrics.jsonl"))
    if number == signal.SIGKILL:
        assert last >= steps - 10 > 0
    else:
        assert last == steps

    resume(out, "--iterations", last + 5)
    train(whole, "--iterations", last + 5)
    assert outcome(out) == outcome(whole)
    assert not list(out.rglob(".agrad-*"))


@needs_signals
@pytest.mark.parametrize(
    ("owner", "name"), [(RuleOptimizer, "write_update"), (command, "evaluate")]
)
def test_a_step_or_a_validation_cut_short_is_in_no_checkpoint(
    owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--batch-size", 256, "--validation", 0.2, "--checkpoint-every", 2, "--iterations", 7)
    train(tmp_path / "whole", *words)
    do = getattr(owner, name)

    def do_and_interrupt(*arguments: Any, **options: Any) -> Any:
        result = do(*arguments, **options)
        if len(lines(tmp_path / "cut" / "metrics.jsonl")) > 2 or name == "evaluate":
            monkeypatch.setattr(owner, name, do)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)
        return result

    monkeypatch.setattr(owner, name, do_and_interrupt)
    stopped = invoke("train", *TINY, *words, "--out", tmp_path / "cut")
    assert stopped.exit_code == 1
    assert "to resume: agrad train --resume" in stopped.output
    assert checkpoints(tmp_path / "cut") == [0, 2]
    resume(tmp_path / "cut")
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@needs_signals
def test_two_signals_before_the_first_checkpoint_leave_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = RunFolder.save_checkpoint

    def interrupt_and_save(folder: RunFolder) -> None:
        monkeypatch.setattr(RunFolder, "save_checkpoint", save)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)

    monkeypatch.setattr(RunFolder, "save_checkpoint", interrupt_and_save)
    assert invoke("train", *TINY, "--iterations", 3, "--out", tmp_path).exit_code == 1
    assert checkpoints(tmp_path) == [0]
    resume(tmp_path)


@needs_signals
def test_a_run_killed_again_and_again_loses_nothing() -> None:
    faults = ROOT / "tests" / "tools" / "faults.py"
    result = subprocess.run(
        [sys.executable, faults, "--kills", "8", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    further = re.search(r"(\d+) lives saved a further checkpoint", first)
    assert further is not None
    assert int(further[1]) >= 4  # every second life waits for one
    assert second.endswith("weights and losses are those of a run left alone")


# -- a disk that fails -----------------------------------------------------------------------------


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Make every write beyond `size` fail as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        (4_000, "00000000.safetensors"),
        (22_400, "00000100.safetensors"),
        (29_000, "metrics.jsonl"),
        (25_000, "loss.png"),
    ],
)
def test_a_run_on_a_full_disk_says_so_and_resumes(
    limit: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "loss.png":  # the one that is drawn takes less than a checkpoint
        monkeypatch.setattr(figures, "png", lambda figure: bytes(limit + 1))
    out, whole = tmp_path / "run", tmp_path / "whole"
    words = ("--depth", 0, "--checkpoint-every", 50, "--iterations")
    iterations = 100 if name == "loss.png" else 200
    with files_limited_to(limit):
        failed = invoke("train", *TINY, *words, iterations, "--out", out)
    assert isinstance(failed.exception, OSError)
    assert f"File too large: '{out}" in str(failed.exception)
    assert name in str(failed.exception)
    assert not list(out.rglob(".agrad-*"))
    if checkpoints(out):
        assert str(failed.exception).endswith(f"; to resume: agrad train --resume {out}")
        steps = [json.loads(line) for line in lines(out / "metrics.jsonl")]
        assert len(steps) >= checkpoints(out)[-1] > 0
        resume(out)
    else:
        train(out, *words, iterations)
    train(whole, *words, iterations)
    assert outcome(out) == outcome(whole)


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = JSONLines(path)
    metrics.append({"loss": 0.5})
    with (
        files_limited_to(path.stat().st_size + 5),
        pytest.raises(OSError, match=f"File too large: '{path}'"),
    ):
        metrics.append({"loss": 0.25})
    assert path.read_text() == '{"loss": 0.5}\n'
    metrics.append({"loss": 0.25})
    assert path.read_text() == '{"loss": 0.5}\n{"loss": 0.25}\n'
    metrics.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_no_space_on_the_device() -> None:
    metrics = JSONLines(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left on device: '/dev/full'") as caught:
        metrics.append({"loss": 0.5})
    assert caught.value.errno == errno.ENOSPC
    metrics.close()


def test_a_damaged_checkpoint_is_reported_and_skipped(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, "--iterations", 25, "--checkpoint-every", 10)
    expected = outcome(out)
    damage(out, 25)
    result = resume(out)
    message = "damaged and renamed: {0}/00000025.safetensors; resuming from {0}/00000020"
    assert message.format(out / "checkpoints") in result.output
    assert "Resuming after iteration 20 of 25" in result.output
    assert outcome(out) == expected


def test_where_all_checkpoints_are_damaged_they_are_named(tmp_path: Path) -> None:
    train(tmp_path, "--iterations", 2)
    for iteration in (0, 2):
        damage(tmp_path, iteration)
    result = run("train", "--resume", tmp_path)
    assert one_line(result, "all checkpoints are damaged", "00000000", "00000002")


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "1e-3"], "--lr cannot be combined with --resume"),
        (["--seed", "0"], "--seed cannot be combined with --resume"),
        (["--no-average"], "--average cannot be combined with --resume"),
        (["--epochs", "1"], "--epochs cannot be combined with --resume"),
        (["--out", "b"], "give either --out FOLDER or --resume FOLDER"),
        (["--keep", "0"], "--keep"),
        (["--checkpoint-every", "0"], "--checkpoint-every"),
    ],
)
def test_options_that_cannot_be_combined_with_resume(
    words: list[str], message: str, tmp_path: Path
) -> None:
    result = invoke("train", "--resume", tmp_path, *words)
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["missing", "empty", "begun"])
def test_a_folder_without_a_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    result = run("train", "--resume", tmp_path / name)
    assert one_line(result, f"'{tmp_path / name}' holds no run", "--out")


def test_a_different_number_of_threads_is_reported(tmp_path: Path) -> None:
    train(tmp_path, "--iterations", 3)
    path = tmp_path / "checkpoints" / "00000003.safetensors"
    state = ag.load(path)
    assert state["checkpoint"]["threads"] == 1
    assert json.loads((tmp_path / "settings.json").read_text())["machine"]["threads"] == 1
    state["checkpoint"]["threads"] = 2
    ag.save(path, state)
    result = resume(tmp_path, "--iterations", 4)
    assert "saved with 2 BLAS threads, this process has 1" in result.output
    assert "OMP_NUM_THREADS" in result.output


def test_fewer_iterations_than_made(tmp_path: Path) -> None:
    train(tmp_path, "--iterations", 3)
    result = run("train", "--resume", tmp_path, "--iterations", 2)
    assert one_line(result, "the run has 3 iterations")


def test_a_folder_with_only_checkpoints_counts_as_a_run(tmp_path: Path) -> None:
    train(tmp_path, "--iterations", 3)
    for path in tmp_path.iterdir():
        if path.is_file():
            path.unlink()
    result = run("train", *TINY, "--out", tmp_path)
    assert one_line(result, "already holds a run", "resume it with --resume")
    resume(tmp_path)
    assert (tmp_path / "weights.safetensors").exists()


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, "--iterations", 3)
    monkeypatch.setattr(checkpoint, "_VERSION", "9.9.9")
    result = invoke("train", "--resume", tmp_path)
    assert f"was saved by agrad {ag.__version__}, this is 9.9.9" in str(result.exception)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda settings, metrics: settings.clear(), "activation"),
        (lambda settings, metrics: settings.update(colour="red"), "colour"),
        (lambda settings, metrics: settings.pop("depth"), "depth"),
        (lambda settings, metrics: settings.update(depth="deep"), "depth"),
        (lambda settings, metrics: settings.update(depth=-1), "depth"),
        (lambda settings, metrics: settings.update(depth=None), "depth"),
        (lambda settings, metrics: settings.update(depth=[1]), "depth"),
        (lambda settings, metrics: settings.update(width=8.5), "width"),
        (lambda settings, metrics: settings.update(data=7), "data"),
        (lambda settings, metrics: settings.update(optimizer="lion"), "optimizer"),
        (lambda settings, metrics: settings.update(lr="fast"), "lr"),
        (lambda settings, metrics: settings.update(average="yes"), "average"),
        (lambda settings, metrics: settings.update(iterations=None), "iterations"),
        (lambda settings, metrics: metrics.clear(), "metrics"),
        (lambda settings, metrics: metrics.update(loss=np.ones(2)), "metrics"),
        (lambda settings, metrics: metrics.update(loss="none"), "metrics"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change: Any, wrong: str, tmp_path: Path) -> None:
    train(tmp_path, "--iterations", 3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    path = tmp_path / "checkpoints" / "00000003.safetensors"
    state = ag.load(path)
    change(state["checkpoint"]["settings"], state["checkpoint"]["metrics"])
    ag.save(path, state)
    result = fail("train", "--resume", tmp_path)
    assert one_line(result, str(path), "not saved by this version of agrad train", wrong)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@needs_signals
def test_the_second_of_two_runs_in_one_folder_is_refused(tmp_path: Path) -> None:
    process = start("train", *TINY, "--iterations", "1000000", "--out", tmp_path)
    wait_for(lambda: lines(tmp_path / "metrics.jsonl"), process)
    try:
        assert one_line(run("train", "--resume", tmp_path), "another run writes to", "wait for")
        assert one_line(run("train", *TINY, "--out", tmp_path), "already holds a run")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


# -- divergence ------------------------------------------------------------------------------------


def test_a_lost_run_names_the_cause_and_keeps_its_checkpoints(tmp_path: Path) -> None:
    words = "--no-average --optimizer sgd --lr 1e10 --activation relu --checkpoint-every 1 --keep 9"
    result = run("train", *TINY, *words.split(), "--out", tmp_path)
    assert one_line(result, "(iteration ", "first, ", " gave a result with ", "operands: float32[")
    steps = lines(tmp_path / "metrics.jsonl")
    assert f"(iteration {len(steps) + 1})" in result.stderr
    assert checkpoints(tmp_path)[0] == 0
    assert len(steps) >= checkpoints(tmp_path)[-1]
    for iteration in checkpoints(tmp_path):
        weights = ag.load(tmp_path / "checkpoints" / f"{iteration:08}.safetensors")["model"]
        assert all(np.isfinite(array).all() for array in weights.values())
    again = run("train", "--resume", tmp_path)
    assert again.stderr == result.stderr
