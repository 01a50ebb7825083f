"""Checkpoints: training resumes from them bit for bit, and no fault of the disk loses one."""

import builtins
import errno
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agrad.kernels.cpu.threads import blas_threads
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import agrad as ag
from agrad import checkpoint, nn, optim
from agrad.checkpoint import Checkpoints, read_checkpoints
from agrad.data import Batches
from agrad.errors import CorruptDataError, FolderInUseError, NonFiniteError
from agrad.train import train

ITERATIONS = 12
RULES: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda params: optim.SGD(params, lr=0.1),
    "sgd, momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda params: optim.RMSprop(params, lr=3e-3),
    "rmsprop, all": lambda params: optim.RMSprop(
        params, lr=3e-3, momentum=0.9, centered=True, weight_decay=1e-3
    ),
    "adam": lambda params: optim.Adam(params, lr=3e-3),
    "adamw": lambda params: optim.AdamW(params, lr=3e-3),
    "muon": lambda params: optim.Muon(params, lr=1e-2),
}
AROUND: dict[str, Callable[[optim.Optimizer], Any]] = {
    "plain": lambda rule: rule,
    "average": lambda rule: optim.AverageGradient(rule),
    "automatic": lambda rule: optim.AverageGradient(rule, lr="auto"),
    "kept": lambda rule: optim.AverageGradient(rule, every=3, granularity="row"),
    "tensor": lambda rule: optim.AverageGradient(rule, every=2, granularity="tensor"),
}


def data(count: int = 30) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = np.eye(3)[labels][:, :, None, None] + 0.3 * random.standard_normal((count, 3, 4, 4))
    return images.astype(np.float32), labels


def make_parts(rule: str = "adam", around: str = "plain", seed: int = 0) -> dict[str, Any]:
    """Return every part that has a state; the network has dropout and batch normalization."""
    ag.seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )
    nn.init.orthogonal_(model[5].weight)
    optimizer = AROUND[around](RULES[rule](model.parameters()))
    return {
        "model": model,
        "optimizer": optimizer,
        "batches": Batches(*data(), batch_size=7),
        "schedule": optim.SequentialLR(
            optimizer,
            [optim.LinearLR(optimizer, total_iters=5), optim.CosineAnnealingLR(optimizer, T_max=9)],
            milestones=[5],
        ),
        "ema": optim.EMA(model.parameters(), decay=0.9),
    }


def steps(parts: dict[str, Any], last: int, start: int = 0) -> Iterator[int]:
    """Train up to the iteration `last`, and yield each iteration."""
    model, optimizer, batches = (parts[name] for name in ("model", "optimizer", "batches"))
    for step in train(model, optimizer, batches, last, start=start):
        parts["schedule"].step()
        parts["ema"].update()
        yield step.iteration


def state(parts: dict[str, Any]) -> dict[str, Any]:
    parts["model"].eval()
    whole = {name: part.state_dict() for name, part in parts.items()}
    return {"random": ag.random.get_state(), "rate": parts["optimizer"].rate, **whole}


def assert_equal(found: Any, expected: Any, *keys: str) -> None:
    """Bit for bit."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), keys
        for key in expected:
            assert_equal(found[key], expected[key], *keys, key)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, keys
        assert found.tobytes() == expected.tobytes(), keys
    else:
        assert found == expected, keys


def flip(path: Path, position: int, bits: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bits
    path.write_bytes(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def small() -> dict[str, Any]:
    """Return parts with small states."""
    model = nn.Linear(2, 2)
    return {"model": model, "optimizer": optim.SGD(model.parameters(), lr=0.1, momentum=0.5)}


# -- resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=2)
@given(
    every=st.integers(1, 4),
    crashes=st.lists(st.integers(1, ITERATIONS - 1), min_size=1, max_size=3).map(sorted),
)
def test_with_and_without_interruptions_the_weights_are_the_same(
    rule: str, around: str, every: int, crashes: list[int], tmp_path_factory: Any
) -> None:
    alone = make_parts(rule, around)
    list(steps(alone, ITERATIONS))
    expected = state(alone)

    folder = tmp_path_factory.mktemp("run")
    for life, end in enumerate([*crashes, ITERATIONS]):
        parts = make_parts(rule, around, seed=life)  # other weights, masks and orders but at first
        with Checkpoints(folder, keep=2) as checkpoints:
            last = checkpoints.latest()
            start = last.restore(parts) if last else 0
            if last is None:
                parts = make_parts(rule, around)
            for iteration in steps(parts, end, start):
                if iteration % every == 0:
                    checkpoints.save(iteration, parts)
    assert_equal(state(parts), expected)


def test_settings_and_metrics_come_back(tmp_path: Path) -> None:
    parts = small()
    settings = {"lr": 0.1, "activation": "tanh", "nested": {"betas": [0.9, 0.999]}, "init": None}
    metrics = {"loss": np.array([2.0, 1.5])}
    with Checkpoints(tmp_path) as checkpoints:
        path = checkpoints.save(2, parts, settings=settings, metrics=metrics)
        last = checkpoints.latest()
    assert last is not None
    assert (last.path, last.iteration, last.settings) == (path, 2, settings)
    assert_equal(last.metrics, metrics)
    assert_equal(ag.load(path)["model"], parts["model"].state_dict())


def test_a_folder_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "a" / "run") as checkpoints:
        assert checkpoints.latest() is None
        assert checkpoints.best is None
    assert names(tmp_path / "a" / "run") == []


# -- files that are kept ---------------------------------------------------------------------------


def test_the_last_and_the_best_stay(tmp_path: Path) -> None:
    parts = small()
    found = []
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for iteration, score in enumerate([None, 3.0, 2.0, 2.0, 5.0, 6.0, 1.0, 7.0]):
            checkpoints.save(iteration, parts, score=score)
            best = checkpoints.best
            found.append([best and int(best.stem), [int(name[:8]) for name in names(tmp_path)]])
    assert found == [
        [None, [0]],
        [1, [0, 1]],
        [2, [1, 2]],
        [2, [2, 3]],
        [2, [2, 3, 4]],
        [2, [2, 4, 5]],
        [6, [5, 6]],
        [6, [6, 7]],
    ]
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.latest()
        assert checkpoints.best == tmp_path / "00000006.safetensors"
        checkpoints.save(8, parts, score=1.5)
    assert names(tmp_path) == ["00000006.safetensors", "00000008.safetensors"]


def test_a_best_whose_file_is_gone_is_forgotten(tmp_path: Path) -> None:
    parts = small()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for iteration, score in enumerate([5.0, 1.0, 4.0, 3.0]):
            checkpoints.save(iteration, parts, score=score)
        best = checkpoints.best
    assert best == tmp_path / "00000001.safetensors"
    best.unlink()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.latest()
        assert checkpoints.best is None
        better = checkpoints.save(4, parts, score=2.0)
        assert checkpoints.best == better
        for iteration in (5, 6, 7):
            checkpoints.save(iteration, parts, score=2.5)
        assert checkpoints.best == better
    assert names(tmp_path) == [f"0000000{i}.safetensors" for i in (4, 6, 7)]


def test_order_is_by_number(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for iteration in (99_999_999, 100_000_000, 100_000_001):
            checkpoints.save(iteration, small())
        last = checkpoints.latest()
    assert last is not None
    assert last.iteration == 100_000_001
    assert names(tmp_path) == ["100000000.safetensors", "100000001.safetensors"]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for name in ("weights", "2024"):
        ag.save(tmp_path / f"{name}.safetensors", {})
    others = sorted(["2024.safetensors", "notes.txt", "weights.safetensors"])
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.latest() is None
        for iteration in range(3):
            checkpoints.save(iteration, small())
    assert names(tmp_path) == ["00000002.safetensors", *others]


# -- refusals --------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(FolderInUseError, match=f"another run writes to '{tmp_path}'; wait"):
            Checkpoints(tmp_path)
        checkpoints.save(0, small())
    Checkpoints(tmp_path).close()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    code = "import sys; from agrad.checkpoint import Checkpoints; c = Checkpoints(sys.argv[1]); "
    code += "print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(FolderInUseError):
            Checkpoints(tmp_path)
        process.send_signal(signal.SIGKILL)
    Checkpoints(tmp_path).close()


def test_a_closed_folder_is_not_written(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        pass
    with pytest.raises(ValueError, match="is closed"):
        checkpoints.save(0, small())
    with pytest.raises(ValueError, match="is closed"):
        checkpoints.latest()


def test_an_iteration_may_be_an_integer_of_numpy(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for iteration, score in ((5, 9.0), (np.int64(10), 1.0), (15, 2.0)):
            checkpoints.save(iteration, small(), score=score)
    with Checkpoints(tmp_path) as checkpoints:
        last = checkpoints.latest()
    assert last is not None
    assert (last.iteration, type(last.iteration)) == (15, int)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match="iteration must be at least 0, got -1"):
            checkpoints.save(-1, small())
        with pytest.raises(TypeError, match="iteration must be an integer, got float"):
            checkpoints.save(10.0, small())
        with pytest.raises(ValueError, match="the name 'checkpoint' is reserved"):
            checkpoints.save(0, {"checkpoint": nn.Linear(2, 2)})
        checkpoints.save(3, small())
        with pytest.raises(ValueError, match="iteration 3 must be more than 3"):
            checkpoints.save(3, small())
    assert names(tmp_path) == ["00000003.safetensors"]


def test_runs_are_not_mixed(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, small())
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match=r"holds the checkpoints of a run; resume from latest"):
            checkpoints.save(5, small())
        checkpoints.latest()
        checkpoints.save(5, small())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(value: float, tmp_path: Path) -> None:
    parts = small()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, parts)
        with pytest.raises(NonFiniteError, match=r"the score is .* \(iteration 2\)"):
            checkpoints.save(2, parts, score=value)
        parts["model"].weight.writable()[1, 0] = value
        with pytest.raises(NonFiniteError, match=r"the parameter weight of the model is not fin"):
            checkpoints.save(2, parts)
    assert names(tmp_path) == ["00000001.safetensors"]


def other_model(parts: dict[str, Any]) -> None:
    parts["model"] = nn.Linear(2, 3)


def other_layer(parts: dict[str, Any]) -> None:
    parts["model"] = nn.Sequential(nn.Linear(2, 2))


def other_rule(parts: dict[str, Any]) -> None:
    parts["optimizer"] = optim.RMSprop(parts["model"].parameters())


def averaged(parts: dict[str, Any]) -> None:
    parts["optimizer"] = optim.AverageGradient(parts["optimizer"])


def other_options(parts: dict[str, Any]) -> None:
    parts["optimizer"] = optim.SGD(parts["model"].parameters(), lr=0.1)


def another_part(parts: dict[str, Any]) -> None:
    parts["ema"] = optim.EMA(parts["model"].parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_model, r"weight is float32\[2, 2\] in the state, float32\[3, 2\] in the module"),
        (other_layer, "the model is of type Linear, but parts has Sequential"),
        (other_rule, "the optimizer is of type SGD, but parts has RMSprop"),
        (averaged, r"the optimizer is of type SGD, but parts has AverageGradient\(SGD\)"),
        (other_options, "the optimizer in .* does not fit: SGD.load_state_dict"),
        (another_part, r"has the parts \['model', 'optimizer'\], not \['ema', 'model', 'opt"),
    ],
)
def test_what_differs_is_named_and_nothing_changes(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    parts = small()
    parts["model"](np.ones((3, 2), np.float32)).sum().backward()
    parts["optimizer"].step()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, parts)
        last = checkpoints.latest()
    other = small()
    change(other)
    before = {name: part.state_dict() for name, part in other.items()}
    draws = ag.random.get_state()
    assert last is not None
    with pytest.raises(ValueError, match=message):
        last.restore(other)
    assert_equal({name: part.state_dict() for name, part in other.items()}, before)
    assert ag.random.get_state() == draws


@pytest.mark.parametrize("wrong", ["first", "second", "third", "fourth", "random"])
def test_every_part_is_restored_when_any_does_not_fit(wrong: str, tmp_path: Path) -> None:
    layers = {name: nn.Linear(2, 2) for name in ("first", "second", "third", "fourth")}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, layers)
        last = checkpoints.latest()
    assert last is not None
    parts = {name: nn.Linear(2, 3 if name == wrong else 2) for name in layers}
    if wrong == "random":
        last.record["random"] = {}
    before = {name: part.state_dict() for name, part in parts.items()}
    draws = ag.random.get_state()
    name = "random generator" if wrong == "random" else wrong
    with pytest.raises(ValueError, match=rf"Checkpoint\.restore: the {name} in .* does not fit"):
        last.restore(parts)
    assert_equal({name: part.state_dict() for name, part in parts.items()}, before)
    assert ag.random.get_state() == draws


@pytest.mark.parametrize("threads", [1, 2])
def test_a_different_number_of_blas_threads_is_reported(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not every BLAS has two threads, so the number is given.
    def having(count: int) -> AbstractContextManager[Any]:
        monkeypatch.setattr(checkpoint, "blas_threads", lambda: count)
        return nullcontext()

    with threadpool_limits(1, "blas"):
        assert blas_threads() == 1
    with Checkpoints(tmp_path) as checkpoints:
        with having(threads):
            checkpoints.save(1, small())
            last = checkpoints.latest()
            assert last is not None
            assert last.record["threads"] == threads
            last.restore(small())  # without a warning
        message = rf"saved with {threads} BLAS threads, this process has {3 - threads}.*"
        message += rf"set OMP_NUM_THREADS={threads} to"
        with (
            having(3 - threads),
            pytest.warns(RuntimeWarning, match=message),
        ):
            assert last.restore(small()) == 1


def test_a_checkpoint_without_a_number_of_threads_is_restored(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        path = checkpoints.save(1, small())
        states = ag.load(path)
        assert states["checkpoint"].pop("threads") == blas_threads()
        ag.save(path, states)
        last = checkpoints.latest()
        assert last is not None
        assert last.restore(small()) == 1
        states["checkpoint"]["threads"] = "two"
        ag.save(path, states)
        with pytest.raises(CorruptDataError):
            checkpoints.latest()


def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoint, "_VERSION", "0.0.7")
        path = checkpoints.save(1, small())
        monkeypatch.undo()
        message = f"00000001.safetensors' was saved by agrad 0.0.7, this is {ag.__version__}"
        with pytest.raises(ValueError, match=message):
            checkpoints.latest()
    assert names(tmp_path) == [path.name]


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints of a run, with different weights."""
    parts = small()
    with Checkpoints(tmp_path) as checkpoints:
        older = checkpoints.save(1, parts)
        parts["model"].weight.writable()[...] += 1
        return older, checkpoints.save(2, parts)


def test_every_changed_byte_is_found(two: tuple[Path, Path]) -> None:
    older, newer = two
    expected = ag.load(newer)
    content = newer.read_bytes()
    passed_over = 0
    with Checkpoints(newer.parent) as checkpoints, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for position in range(len(content)):
            flip(newer, position, 1 << position % 8)
            last = checkpoints.latest()
            assert last is not None
            if last.path == older:
                passed_over += 1
            else:  # the padding
                assert_equal({"checkpoint": last.record, **last.states}, expected)
            newer.write_bytes(content)
    assert passed_over > len(content) - 8


def test_every_length_is_found(two: tuple[Path, Path]) -> None:
    older, newer = two
    content = newer.read_bytes()
    with Checkpoints(newer.parent) as checkpoints:
        for length in range(len(content)):
            newer.write_bytes(content[:length])
            with pytest.warns(RuntimeWarning, match="damaged and renamed"):
                last = checkpoints.latest()
            assert last is not None
            assert last.path == older


def test_the_one_before_a_damaged_one_is_used(tmp_path: Path) -> None:
    expected = make_parts()
    list(steps(expected, ITERATIONS))

    parts = make_parts()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for iteration in steps(parts, 9):
            checkpoints.save(iteration, parts, score=float(9 - iteration))
    flip(tmp_path / "00000009.safetensors", 2000)
    parts = make_parts(seed=1)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        with pytest.warns(RuntimeWarning, match=r"00000009.*; resuming from .*00000008"):
            last = checkpoints.latest()
        assert last is not None
        assert checkpoints.best == last.path
        assert names(tmp_path) == ["00000008.safetensors", "00000009.safetensors.damaged"]
        for iteration in steps(parts, ITERATIONS, last.restore(parts)):
            checkpoints.save(iteration, parts)
    assert_equal(state(parts), state(expected))


def test_a_file_under_another_name_counts_as_damaged(two: tuple[Path, Path]) -> None:
    older, newer = two
    older.replace(newer)
    with (
        Checkpoints(newer.parent) as checkpoints,
        pytest.raises(CorruptDataError, match=r"are damaged: .*holds another checkpoint than"),
    ):
        checkpoints.latest()


def test_where_all_are_damaged_all_are_named_and_stay(two: tuple[Path, Path]) -> None:
    for path in two:
        flip(path, 100)
    with (
        Checkpoints(two[0].parent) as checkpoints,
        pytest.raises(CorruptDataError, match=r"all .* damaged: .*00000002.*00000001"),
    ):
        checkpoints.latest()
    assert names(two[0].parent) == [path.name for path in two]


# -- a disk that fails -----------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the death of the process: nothing runs after it."""


@contextmanager
def failing_call(number: int, error: BaseException, for_ever: bool) -> Iterator[list[str]]:
    """Make one call that changes the disk fail, or all calls from that number on if `for_ever`."""
    calls: list[str] = []

    def count(name: str) -> None:
        calls.append(name)
        if len(calls) == number or (for_ever and len(calls) > number):
            raise error

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count(name)
            return function(*arguments, **options)

        return call

    class File:
        """A file opened for writing that counts calls; a failing write writes a half."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "File":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            try:
                count("write")
            except BaseException:
                self.file.write(content[: len(content) // 2])
                self.file.flush()
                raise
            self.file.write(content)

        def flush(self) -> None:
            count("flush")
            self.file.flush()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "x" not in mode:
            return real_open(path, mode, *rest, **options)
        count("open")
        return File(real_open(path, mode, *rest, **options))

    real_open = builtins.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", opened)
        for name in ("fsync", "replace", "unlink"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield calls


def failure_of(function: Callable[[], object]) -> BaseException | None:
    try:
        function()
    except (OSError, Killed) as error:
        return error
    return None


FAULTS = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device"), False),
    "full disk for good": (OSError(errno.ENOSPC, "No space left on device"), True),
    "read-only folder": (PermissionError(errno.EACCES, "Permission denied"), True),
    "failing disk": (OSError(errno.EIO, "Input/output error"), True),
    "kill": (Killed(), True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_loses_nothing(fault: str, tmp_path: Path) -> None:
    error, for_ever = FAULTS[fault]
    parts = small()
    for number in range(1, 100):
        folder = tmp_path / str(number)
        with Checkpoints(folder, keep=1) as checkpoints:
            checkpoints.save(1, parts)
            known = ag.load(folder / "00000001.safetensors")
            parts["model"].weight.writable()[...] += 1
            with failing_call(number, error, for_ever) as calls:
                failure = failure_of(lambda: checkpoints.save(2, parts))
        if failure is None:
            break
        assert type(failure) is type(error)
        with Checkpoints(folder, keep=1) as checkpoints:
            last = checkpoints.latest()
            assert last is not None
            assert not list(folder.glob(".agrad-*"))
            if last.iteration == 1:
                assert_equal({"checkpoint": last.record, **last.states}, known)
            else:
                assert_equal(last.states["model"], parts["model"].state_dict())
            checkpoints.save(3, parts)
        assert names(folder) == ["00000003.safetensors"]
    assert calls == ["open", "write", "flush", "fsync", "replace", "fsync", "unlink"]
    assert number == len(calls) + 1


def test_a_checkpoint_that_was_not_written_is_neither_the_last_nor_the_best(tmp_path: Path) -> None:
    parts = small()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, parts, score=5.0)
        with failing_call(2, OSError(errno.ENOSPC, "No space left on device"), True):
            assert failure_of(lambda: checkpoints.save(2, parts, score=1.0)) is not None
        assert (checkpoints.last, checkpoints.best) == (1, tmp_path / "00000001.safetensors")
        checkpoints.save(2, parts, score=3.0)
        assert (checkpoints.last, checkpoints.best) == (2, tmp_path / "00000002.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="needs limits on processes")
def test_a_disk_that_is_full_at_any_byte_loses_nothing(tmp_path: Path) -> None:
    import resource

    parts = small()
    with Checkpoints(tmp_path) as checkpoints:
        path = checkpoints.save(1, parts)
        size = path.stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in range(0, size, 7):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                with pytest.raises(OSError, match=r"File too large: .*00000002.safetensors"):
                    checkpoints.save(2, parts)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert names(tmp_path) == [path.name]
        assert checkpoints.latest() is not None
        checkpoints.save(2, parts)


READ_ONLY = """
import os, sys, tempfile
from agrad import nn
from agrad.checkpoint import Checkpoints

parts = {"model": nn.Linear(2, 2)}
with tempfile.TemporaryDirectory() as folder:
    if os.geteuid() == 0:  # whom nothing stops
        import safetensors.numpy, threadpoolctl  # root's alone may be the environment
        os.chown(folder, 65534, 65534)
        os.setgid(65534)
        os.setuid(65534)
    fsync = os.fsync
    def lock_folder(handle):
        os.chmod(folder, 0o500)
        fsync(handle)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, parts)
        os.fsync = lock_folder
        try:
            checkpoints.save(2, parts)
        except PermissionError as error:
            print(os.path.basename(error.filename))
    os.fsync = fsync
    os.chmod(folder, 0o700)
    with Checkpoints(folder) as checkpoints:
        print(checkpoints.latest().iteration, len(os.listdir(folder)))
        checkpoints.save(2, parts)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs permissions")
def test_a_folder_that_becomes_read_only_in_mid_write_loses_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-c", READ_ONLY], capture_output=True, text=True, cwd="/", timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["00000002.safetensors", "1", "2"]


def test_a_damaged_checkpoint_is_not_read_as_another(two: tuple[Path, Path]) -> None:
    two[1].write_bytes(b"")
    found = read_checkpoints(two[0].parent)
    assert next(found).iteration == 1
    with pytest.raises(CorruptDataError):
        next(found)


def test_checkpoints_are_read_beside_the_run_that_saves_them(two: tuple[Path, Path]) -> None:
    folder = two[0].parent
    with Checkpoints(folder):
        unfinished = folder / ".agrad-0123.tmp"
        unfinished.touch()
        assert [checkpoint.iteration for checkpoint in read_checkpoints(folder)] == [1, 2]
        found = read_checkpoints(folder)
        assert next(found).iteration == 1
        two[1].unlink()
        assert list(found) == []
        assert unfinished.exists()
