"""Runs of a study: experiments, their results, and the file that holds both."""

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
from agrad.data.download import require_file
from agrad.errors import NonFiniteError
from agrad.gpu import cuda
from agrad.kernels.cpu.threads import blas_threads
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
    """The settings of one training run; equal seeds give equal initial weights and batches.

    `network` is one of `agrad.study.networks.KINDS`. If there is a `target`, the run ends as soon
    as it is reached.
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
        """The name of the network in reports."""
        return f"{self.activation} {self.depth}x{self.width}"

    @property
    def key(self) -> Key:
        """The key that identifies the run in a results file."""
        return (self.study, self.model, self.method, self.lr, self.seed, self.iterations)

    def run(self, data: DataSet, on_step: Callable[[Step], object] = lambda step: None) -> "Run":
        """Train and evaluate a network; a loss that is not finite ends the training early.

        Args:
            data: The data set.
            on_step: Called with each step.
        """
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
    """The settings and the results of one training run.

    `train_loss` has the mean loss of each mini-batch before its step. It is infinite from the first
    iteration whose loss was not finite, and ends when the run reached its target. `test_loss` and
    `test_accuracy` have an entry for each evaluation. Losses that are not finite are null in the
    file. `seconds` counts training alone; `seconds_per_iteration` is the median.
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
        """The key of the run's experiment."""
        return (self.study, self.model, self.method, self.lr, self.seed, self.iterations)


@dataclass(frozen=True)
class Comparison:
    """A method and a baseline, both at the rate `lr`, or each at its best rate if it is None."""

    method: str
    baseline: str
    lr: float | None = None


def at(runs: Iterable[Run], method: str, lr: float) -> list[Run]:
    """Return the runs of a method at a learning rate, sorted by seed.

    Raises:
        ValueError: There are none.
    """
    chosen = [run for run in runs if run.method == method and run.lr == lr]
    if not chosen:
        raise ValueError(f"study: there are no runs of {method} at the rate {lr:g}")
    return sorted(chosen, key=lambda run: run.seed)


def paired(runs: Sequence[Run], baselines: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Pair the runs of equal seeds of two results of `at`.

    Raises:
        ValueError: The seeds differ.
    """
    seeds, others = ([run.seed for run in group] for group in (runs, baselines))
    if seeds != others:
        raise ValueError(
            f"study: {runs[0].method} was run with the seeds {seeds}, "
            f"{baselines[0].method} with {others}; run both with the same seeds"
        )
    return list(zip(runs, baselines))


def median_curve(runs: Sequence[Run], method: str, lr: float) -> NDArray[Any]:
    """Return the median training loss over the seeds, for each iteration that all runs have."""
    losses = zip(*(run.train_loss for run in at(runs, method, lr)))
    median: NDArray[Any] = np.median(list(losses), axis=1)
    return median


def load_whole_seeds(
    path: str | os.PathLike[str], experiments: Callable[[str, list[int], int], list[Experiment]]
) -> tuple[list[Run], list[Run]]:
    """Return the runs of the seeds that are complete, and the runs of all other seeds.

    Args:
        path: A file that `save_runs` wrote.
        experiments: Returns the experiments of the study for the name of a data set, seeds and a
            number of iterations.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: The file is incomplete, holds no runs, or has no complete seed; in that case the
            message names a missing run.
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
            "with the same folder to add them"
        )
    return whole, [run for run in runs if lacking[run.seed]]


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the facts about the machine that matter for timings.

    Args:
        device: The device that was used.

    Returns:
        The processor, its cores, the number of BLAS threads, the system, the versions of Python,
        NumPy and agrad, and the GPU if `device` is one.
    """
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
        names = [line for line in text.splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": blas_threads(),
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
        OSError: The file is missing or cannot be read.
        ValueError: The file does not hold a list of runs.
    """
    require_file(Path(path))
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    try:
        return [_from_json(entry) for entry in json.loads(text)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"load_runs: {os.fspath(path)!r} is not a complete file of runs ({error!r}); "
            "move it away to repeat the runs"
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
