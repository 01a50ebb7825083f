"""The dense study: how many iterations a deep plain network takes, by method and learning rate."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np

from agrad import data as data_sets
from agrad.study.measures import final_loss, gain
from agrad.study.runs import DataSet, Experiment, Run, load_runs, save_runs

__all__ = [
    "COMPARISONS",
    "DATA",
    "Comparison",
    "at",
    "automatic_ratios",
    "best_rate",
    "compare",
    "experiments",
    "load_data",
    "median_curve",
    "run_all",
]

DATA = {
    "digits": data_sets.digits,
    "fashion-mnist": data_sets.fashion_mnist,
    "mnist": data_sets.mnist,
}
RATES = (3e-3, 1e-3, 3e-4)
STARTS = (1e-6, 1e-5, 1e-4, 1e-3)
ACTIVATIONS = ("tanh", "relu")
METHODS = ("rmsprop", "adam", "average-rmsprop", "average-adam")


def load_data(name: str) -> DataSet:
    """Return the data set of that name, one of `DATA`."""
    return DataSet(DATA[name]("train"), DATA[name]("test"))


def experiments(data: str, seeds: Sequence[int], iterations: int = 320) -> list[Experiment]:
    """Return every run: each method at each rate, and the automatic rate from each start."""
    cells = [(method, lr) for method in METHODS for lr in RATES]
    cells += [("average-adam-auto", lr) for lr in STARTS]
    return [
        Experiment(f"dense-{data}", activation, method, lr, seed, iterations)
        for seed in seeds
        for activation in ACTIVATIONS
        for method, lr in cells
    ]


def run_all(
    data: str, plan: Sequence[Experiment], path: str | os.PathLike[str], workers: int = 1
) -> Iterator[Run]:
    """Make the runs that the results file does not hold yet, and give each as it is added to it.

    Each worker is a process of its own with one thread for the BLAS, so that results do not depend
    on how many there are.
    """
    runs = load_runs(path) if Path(path).exists() else []
    known = {(run.study, run.model, run.method, run.lr, run.seed, run.iterations) for run in runs}
    todo = [
        e for e in plan if (e.study, e.model, e.method, e.lr, e.seed, e.iterations) not in known
    ]
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        pending = [pool.submit(_make_run, data, experiment) for experiment in todo]
        try:
            for future in as_completed(pending):
                runs.append(future.result())
                save_runs(path, runs)
                yield runs[-1]
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


_load_once = cache(load_data)


def _make_run(data: str, experiment: Experiment) -> Run:
    return experiment.run(_load_once(data))


@dataclass(frozen=True)
class Comparison:
    """A method against another, each at a learning rate of its own or at its best (None)."""

    method: str
    baseline: str
    lr: float | None


COMPARISONS = (
    Comparison("average-rmsprop", "rmsprop", 1e-3),
    Comparison("average-rmsprop", "rmsprop", None),
    Comparison("average-adam", "rmsprop", 1e-3),
    Comparison("average-adam", "rmsprop", None),
    Comparison("average-adam", "adam", None),
)


def best_rate(runs: Sequence[Run], method: str) -> float:
    """Return the learning rate of the lowest median final training loss."""
    rates = sorted({run.lr for run in runs if run.method == method})
    return min(
        rates, key=lambda lr: median(final_loss(run.train_loss) for run in at(runs, method, lr))
    )


def at(runs: Sequence[Run], method: str, lr: float) -> list[Run]:
    """Return the runs of that method and rate, by seed."""
    chosen = [run for run in runs if run.method == method and run.lr == lr]
    return sorted(chosen, key=lambda run: run.seed)


def compare(runs: Sequence[Run], comparison: Comparison) -> tuple[float, float, list[float]]:
    """Return the rates of the method and of the baseline, and the gain for each seed.

    The gain is how many times fewer iterations the method takes to the mean training loss of the
    baseline's last iterations, from the same initial weights on the same batches.
    """
    rates = [
        comparison.lr or best_rate(runs, name) for name in (comparison.method, comparison.baseline)
    ]
    pairs = zip(at(runs, comparison.method, rates[0]), at(runs, comparison.baseline, rates[1]))
    gains = []
    for run, baseline in pairs:
        if run.seed != baseline.seed:
            raise ValueError(
                f"compare: {comparison.method} and {comparison.baseline} were run with other seeds"
            )
        gains.append(gain(run.train_loss, baseline.train_loss))
    return rates[0], rates[1], gains


def automatic_ratios(runs: Sequence[Run], start: float) -> list[float]:
    """Return for each seed the automatic rate's final loss over that of Adam at its best rate."""
    adam = at(runs, "adam", best_rate(runs, "adam"))
    return [
        final_loss(run.train_loss) / final_loss(baseline.train_loss)
        for run, baseline in zip(at(runs, "average-adam-auto", start), adam, strict=True)
    ]


def median_curve(runs: Sequence[Run], method: str, lr: float) -> np.ndarray:
    """Return the median over the seeds of the training loss at each iteration."""
    return np.median([run.train_loss for run in at(runs, method, lr)], axis=0)
