"""Runs of a study: what was tried, what came out, and the file that keeps both."""

import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import agrad
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.gpu import cuda
from agrad.serialization import atomic_write
from agrad.study.data import DataSet
from agrad.study.measures import Target
from agrad.study.methods import make_optimizer
from agrad.study.networks import make_network
from agrad.train import Step, evaluate, train

__all__ = [
    "Comparison",
    "Experiment",
    "Run",
    "at",
    "load_runs",
    "load_whole_seeds",
    "machine",
    "median_curve",
    "paired",
    "save_runs",
]

Key = tuple[str, str, str, float, int, int]


@dataclass(frozen=True)
class Experiment:
    """One training run to be made: equal seeds give equal initial weights and equal batches.

    `network` is one of `agrad.study.networks.KINDS`. A run that has a `target` ends where it
    reaches it.
    """

    study: str
    activation: str
    method: str
    lr: float
    seed: int
    iterations: int = 320
    batch_size: int = 128
    network: str = "dense"
    depth: int = 30
    width: int = 64
    target: Target | None = None
    device: str = "cpu"

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
        data = data.to(self.device)
        model = make_network(
            self.network, data, depth=self.depth, width=self.width, activation=self.activation
        ).to(self.device)
        optimizer = make_optimizer(self.method, model.parameters(), self.lr)
        batches = Batches(*data.train, batch_size=self.batch_size, seed=self.seed, drop_last=True)
        losses, seconds = [], []
        try:
            for step in train(model, optimizer, batches, self.iterations, capture=True):
                losses.append(step.loss)
                seconds.append(step.seconds)
                on_step(step)
                if self.target is not None and self.target.is_reached(losses):
                    break
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
            machine=machine(self.device),
        )


@dataclass(frozen=True)
class Run:
    """One training run that was made.

    `train_loss` has the mean loss of each mini-batch before its step, infinite from the iteration
    on at which it was no longer finite; it ends where the run reached its target. `test_loss` and
    `test_accuracy` have an entry for each evaluation. A loss that is not finite is null in the
    file. `seconds` are those of training alone, `seconds_per_iteration` is their median.
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


@dataclass(frozen=True)
class Comparison:
    """A method against another, both at one learning rate or each at its best (None)."""

    method: str
    baseline: str
    lr: float | None = None


def at(runs: Iterable[Run], method: str, lr: float) -> list[Run]:
    """Return the runs of that method and rate, by seed.

    Raises:
        ValueError: there are none.
    """
    chosen = [run for run in runs if run.method == method and run.lr == lr]
    if not chosen:
        raise ValueError(f"study: there are no runs of {method} at the rate {lr:g}")
    return sorted(chosen, key=lambda run: run.seed)


def paired(runs: Sequence[Run], baselines: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Pair runs of equal seeds, both as `at` returns them.

    Raises:
        ValueError: they were not run with the same seeds.
    """
    seeds, others = ([run.seed for run in group] for group in (runs, baselines))
    if seeds != others:
        raise ValueError(
            f"study: {runs[0].method} was run with the seeds {seeds}, "
            f"{baselines[0].method} with {others}; run both with the same"
        )
    return list(zip(runs, baselines))


def median_curve(runs: Sequence[Run], method: str, lr: float) -> NDArray[Any]:
    """Return the median over the seeds of the training loss at each iteration that all made."""
    return np.median(list(zip(*(run.train_loss for run in at(runs, method, lr)))), axis=1)


def load_whole_seeds(
    path: str | os.PathLike[str], experiments: Callable[[str, list[int], int], list[Experiment]]
) -> tuple[list[Run], list[Run]]:
    """Return the file's runs of the seeds of which it has all of a study's, and the others.

    Args:
        path: of a file that `save_runs` wrote.
        experiments: the study's, for the name of the data, seeds, and the number of iterations.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: the file is not a whole one, or holds no runs, or no whole seed; the message
            names a missing run then.
    """
    runs = load_runs(path)
    if not runs:
        raise ValueError(f"study: {os.fspath(path)!r} holds no runs")
    data, iterations = runs[0].study.partition("-")[2], runs[0].iterations
    known = {run.key for run in runs}
    seeds = sorted({run.seed for run in runs})
    lacking = {
        seed: [e for e in experiments(data, [seed], iterations) if e.key not in known]
        for seed in seeds
    }
    whole = [run for run in runs if not lacking[run.seed]]
    if not whole:
        first = lacking[seeds[0]]
        raise ValueError(
            f"study: no seed has all its runs; seed {seeds[0]} lacks {len(first)}, such as "
            f"{first[0].model} {first[0].method} at the rate {first[0].lr:g}; run the study again "
            "on the same folder to make them"
        )
    return whole, [run for run in runs if lacking[run.seed]]


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return what a figure's reader should know of the machine: processor, cores, versions.

    And, where it was used, the GPU.
    """
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
        **({} if device == "cpu" else {"gpu": cuda.gpus()[cuda.number_of(device)].name}),
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
