"""Runs of a study: what was tried, what came out, and the file that keeps both."""

import json
import math
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import agrad
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.serialization import atomic_write
from agrad.study.methods import make_optimizer
from agrad.study.networks import dense_network
from agrad.train import Step, evaluate, train

__all__ = ["DataSet", "Experiment", "Run", "load_runs", "machine", "save_runs"]

Key = tuple[str, str, str, float, int, int]


@dataclass(frozen=True)
class DataSet:
    """Images and labels for training and for testing."""

    train: tuple[Any, Any]
    test: tuple[Any, Any]


@dataclass(frozen=True)
class Experiment:
    """One training run to be made: equal seeds give equal initial weights and equal batches."""

    study: str
    activation: str
    method: str
    lr: float
    seed: int
    iterations: int = 320
    batch_size: int = 128
    depth: int = 30
    width: int = 64

    @property
    def model(self) -> str:
        """The network in words, as reports name it."""
        return f"{self.activation} {self.depth}x{self.width}"

    @property
    def key(self) -> Key:
        """What tells this run from all others of a results file."""
        return (self.study, self.model, self.method, self.lr, self.seed, self.iterations)

    def run(self, data: DataSet, on_step: Callable[[Step], object] = lambda step: None) -> "Run":
        """Train, and evaluate at the end. A loss that is no longer finite ends the run early."""
        agrad.seed(self.seed)
        images, labels = data.train
        model = dense_network(
            images[0].size,
            int(labels.max()) + 1,
            depth=self.depth,
            width=self.width,
            activation=self.activation,
        )
        optimizer = make_optimizer(self.method, model.parameters(), self.lr)
        batches = Batches(
            images, labels, batch_size=self.batch_size, seed=self.seed, drop_last=True
        )
        losses, seconds = [], []
        try:
            for step in train(model, optimizer, batches, self.iterations):
                losses.append(step.loss)
                seconds.append(step.seconds)
                on_step(step)
        except NonFiniteError:
            losses += [math.inf] * (self.iterations - len(losses))
        test = evaluate(model, *data.test)
        return Run(
            study=self.study,
            model=self.model,
            method=self.method,
            lr=self.lr,
            seed=self.seed,
            iterations=self.iterations,
            train_loss=[float(f"{loss:.5g}") for loss in losses],
            test_loss=[float(f"{test.loss:.5g}")],
            test_accuracy=[float(f"{test.accuracy:.5g}")],
            seconds=sum(seconds),
            seconds_per_iteration=median(seconds) if seconds else 0.0,
            optimizer_state_bytes=optimizer.state_bytes,
            machine=machine(),
        )


@dataclass(frozen=True)
class Run:
    """One training run that was made.

    `train_loss` has the mean loss of each mini-batch before its step, infinite from the iteration
    on at which it was no longer finite; `test_loss` and `test_accuracy` have an entry for each
    evaluation. A loss that is not finite is null in the file. `seconds` are those of training
    alone, `seconds_per_iteration` is their median.
    """

    study: str
    model: str
    method: str
    lr: float
    seed: int
    iterations: int
    train_loss: list[float]
    test_loss: list[float]
    test_accuracy: list[float]
    seconds: float
    seconds_per_iteration: float
    optimizer_state_bytes: int
    machine: dict[str, Any]

    @property
    def key(self) -> Key:
        """The key of the experiment that this is a run of."""
        return (self.study, self.model, self.method, self.lr, self.seed, self.iterations)


def machine() -> dict[str, Any]:
    """Return what a figure's reader should know of the machine: processor, cores, versions."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "agrad": agrad.__version__,
    }


def save_runs(path: str | os.PathLike[str], runs: Iterable[Run]) -> None:
    """Write the runs as one JSON list, atomically."""
    lines = ",\n".join(json.dumps(_as_json(run), allow_nan=False) for run in runs)
    with atomic_write(path) as file:
        file.write(f"[\n{lines}\n]\n".encode())


def load_runs(path: str | os.PathLike[str]) -> list[Run]:
    """Return the runs that `save_runs` wrote.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: the file holds no list of runs.
    """
    text = Path(path).read_text()
    try:
        return [_from_json(entry) for entry in json.loads(text)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"load_runs: {os.fspath(path)!r} is no whole file of runs ({error!r}); "
            "move it away, and the runs are made anew"
        ) from error


_SERIES = ("train_loss", "test_loss", "test_accuracy")


def _as_json(run: Run) -> dict[str, Any]:
    entry = asdict(run)
    for name in _SERIES:
        entry[name] = [value if math.isfinite(value) else None for value in entry[name]]
    return entry


def _from_json(entry: dict[str, Any]) -> Run:
    for name in _SERIES:
        entry[name] = [math.inf if value is None else value for value in entry[name]]
    return Run(**entry)
