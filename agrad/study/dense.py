"""The dense study: how many iterations a deep plain network takes, by method and learning rate."""

import os
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import active_children, get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agrad import data as data_sets
from agrad.study.measures import final_loss, gain
from agrad.study.runs import DataSet, Experiment, Run, load_runs, save_runs

__all__ = [
    "ABLATIONS",
    "AUTOMATIC",
    "COMPARISONS",
    "DATA",
    "METHODS",
    "STARTS",
    "Comparison",
    "at",
    "automatic_ratios",
    "best_rate",
    "compare",
    "experiments",
    "load_data",
    "median_curve",
    "remaining",
    "run_all",
    "split_by_completeness",
]

DATA = {
    "digits": data_sets.digits,
    "fashion-mnist": data_sets.fashion_mnist,
    "mnist": data_sets.mnist,
}
ACTIVATIONS = ("tanh", "relu")
METHODS = ("rmsprop", "adam", "average-rmsprop", "average-adam")
RATES = (3e-3, 1e-3, 3e-4)
AUTOMATIC = "average-adam-auto"
STARTS = (1e-6, 1e-5, 1e-4, 1e-3)
ABLATIONS = ("ablation-substituted", "ablation-scaled")
ABLATION_RATE = 1e-3


def load_data(name: str) -> DataSet:
    """Return the data set of that name, one of `DATA`."""
    return DataSet(DATA[name]("train"), DATA[name]("test"))


# -- its runs --------------------------------------------------------------------------------------


def experiments(
    data: str, seeds: Iterable[int], iterations: int = 320, ablations: bool = False
) -> list[Experiment]:
    """Return every run: each method at each rate, and the automatic rate from each start.

    With `ablations`, those too, at one rate.
    """
    cells = [(method, lr) for method in METHODS for lr in RATES]
    cells += [(AUTOMATIC, lr) for lr in STARTS]
    if ablations:
        cells += [(method, ABLATION_RATE) for method in ABLATIONS]
    return [
        Experiment(f"dense-{data}", activation, method, lr, seed, iterations)
        for seed in seeds
        for activation in ACTIVATIONS
        for method, lr in cells
    ]


def remaining(
    plan: Sequence[Experiment], path: str | os.PathLike[str]
) -> tuple[list[Run], list[Experiment]]:
    """Return the runs that the results file holds, and the experiments that it lacks.

    Raises:
        ValueError: it holds no runs, or those of another study, that is of other data or of
            another number of iterations.
    """
    runs = load_runs(path) if Path(path).exists() else []
    for run in runs:
        if (run.study, run.iterations) != (plan[0].study, plan[0].iterations):
            raise ValueError(
                f"{os.fspath(path)!r} holds {run.study} of {run.iterations} iterations, not "
                f"{plan[0].study} of {plan[0].iterations}; choose another folder"
            )
    known = {run.key for run in runs}
    return runs, [experiment for experiment in plan if experiment.key not in known]


def run_all(
    data: str, plan: Sequence[Experiment], path: str | os.PathLike[str], workers: int = 1
) -> Generator[Run]:
    """Make the runs that the results file lacks, and give each as it is added to the file.

    Each worker is a process of its own with one thread for the BLAS, so that results do not depend
    on how many there are. Where the loop is left early, the runs in the making are given up.

    Raises:
        ValueError: see `remaining`.
        ChildProcessError: a worker was killed from outside.
    """
    runs, todo = remaining(plan, path)
    if not todo:
        return
    others = active_children()
    pool = ProcessPoolExecutor(min(workers, len(todo)), get_context("spawn"), _one_thread)
    try:
        with _interrupts_not_inherited():
            pending = [pool.submit(_make_run, data, experiment) for experiment in todo]
        for future in as_completed(pending):
            runs.append(future.result())
            save_runs(path, runs)
            yield runs[-1]
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "dense study: a worker process was killed, perhaps for want of memory; the runs made "
            "so far are kept, try again with fewer workers"
        ) from error
    finally:
        for worker in set(active_children()) - set(others):
            worker.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_not_inherited() -> Iterator[None]:
    """Keep a Ctrl-C in the terminal from the processes started here: it is the parent's alone."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


_load_once = cache(load_data)


def _make_run(data: str, experiment: Experiment) -> Run:
    return experiment.run(_load_once(data))


# -- what they say ---------------------------------------------------------------------------------


def split_by_completeness(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs of the seeds of which the study has all, ablations aside, and the others.

    Raises:
        ValueError: there are no runs, or no whole seed; the message names a missing run then.
    """
    if not runs:
        raise ValueError("dense study: the results file holds no runs")
    data, iterations = runs[0].study.removeprefix("dense-"), runs[0].iterations
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
            f"dense study: no seed has all its runs; seed {seeds[0]} lacks {len(first)}, such as "
            f"{first[0].model} {first[0].method} at the rate {first[0].lr:g}; run the study again "
            "on the same folder to make them"
        )
    return whole, [run for run in runs if lacking[run.seed]]


@dataclass(frozen=True)
class Comparison:
    """A method against another, both at one learning rate or each at its best (None)."""

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


def at(runs: Iterable[Run], method: str, lr: float) -> list[Run]:
    """Return the runs of that method and rate, by seed.

    Raises:
        ValueError: there are none.
    """
    chosen = [run for run in runs if run.method == method and run.lr == lr]
    if not chosen:
        raise ValueError(f"dense study: there are no runs of {method} at the rate {lr:g}")
    return sorted(chosen, key=lambda run: run.seed)


def best_rate(runs: Sequence[Run], method: str) -> float:
    """Return the learning rate of the lowest median final training loss.

    Raises:
        ValueError: there are no runs of that method.
    """
    rates = sorted({run.lr for run in runs if run.method == method})
    if not rates:
        raise ValueError(f"dense study: there are no runs of {method}")
    return min(
        rates, key=lambda lr: median(final_loss(run.train_loss) for run in at(runs, method, lr))
    )


def compare(runs: Sequence[Run], comparison: Comparison) -> tuple[float, float, list[float]]:
    """Return the rates of the method and of the baseline, and the gain for each seed.

    The gain is how many times fewer iterations the method takes to the mean training loss of the
    baseline's last iterations, from the same initial weights on the same batches; 0 where it never
    gets there.

    Raises:
        ValueError: there are no such runs, or the two were not run with the same seeds.
    """
    lr, baseline_lr = (
        comparison.lr or best_rate(runs, name) for name in (comparison.method, comparison.baseline)
    )
    pairs = _paired(at(runs, comparison.method, lr), at(runs, comparison.baseline, baseline_lr))
    gains = [gain(run.train_loss, baseline.train_loss) for run, baseline in pairs]
    return lr, baseline_lr, gains


def automatic_ratios(runs: Sequence[Run], start: float) -> list[float]:
    """Return for each seed the automatic rate's final loss over that of Adam at its best rate.

    Raises:
        ValueError: there are no such runs, or the two were not run with the same seeds.
    """
    pairs = _paired(at(runs, AUTOMATIC, start), at(runs, "adam", best_rate(runs, "adam")))
    return [final_loss(run.train_loss) / final_loss(adam.train_loss) for run, adam in pairs]


def median_curve(runs: Sequence[Run], method: str, lr: float) -> NDArray[Any]:
    """Return the median over the seeds of the training loss at each iteration."""
    return np.median([run.train_loss for run in at(runs, method, lr)], axis=0)


def _paired(runs: list[Run], baselines: list[Run]) -> list[tuple[Run, Run]]:
    """Pair runs of equal seeds."""
    seeds, others = ([run.seed for run in group] for group in (runs, baselines))
    if seeds != others:
        raise ValueError(
            f"dense study: {runs[0].method} was run with the seeds {seeds}, "
            f"{baselines[0].method} with {others}; run both with the same"
        )
    return list(zip(runs, baselines))
