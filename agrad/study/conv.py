"""The convolutional study: the iterations that deep plain networks take to one training loss."""

import math
from collections.abc import Iterable, Sequence
from statistics import median

from agrad.study.measures import Target, iterations_to
from agrad.study.runs import Comparison, Experiment, Run, at, paired

__all__ = [
    "COMPARISON",
    "DATA",
    "METHODS",
    "TARGETS",
    "best_rate",
    "compare",
    "experiments",
    "iterations_to_target",
]

METHODS = ("rmsprop", "average-rmsprop")
RATES = (1e-2, 3e-3, 1e-3, 3e-4)
TARGETS = {
    "imdb": Target(0.45, window=60),
    "mnist": Target(0.45, window=60),
    "fashion-mnist": Target(0.6, window=60),
}
"""The training loss that runs are to reach. Clothes take long to 0.45."""
DATA = tuple(TARGETS)
_DEPTH = 12
_WIDTHS = {"imdb": 32, "mnist": 16, "fashion-mnist": 16}
_BATCH_SIZE = 64


def experiments(data: str, seeds: Iterable[int], iterations: int = 1000) -> list[Experiment]:
    """Return every run, each method at each rate, which ends at the target or after `iterations`.

    Args:
        data: one of `DATA`, which decides the network: 12 convolutions over the words of a text,
            or over the pixels of an image, each followed by ReLU.
        seeds: equal ones give equal initial weights and equal batches.
        iterations: after how many a run gives up.
    """
    return [
        Experiment(
            study=f"conv-{data}",
            activation="relu",
            method=method,
            lr=lr,
            seed=seed,
            iterations=iterations,
            batch_size=_BATCH_SIZE,
            network="conv",
            depth=_DEPTH,
            width=_WIDTHS[data],
            target=TARGETS[data],
        )
        for seed in seeds
        for method in METHODS
        for lr in RATES
    ]


COMPARISON = Comparison("average-rmsprop", "rmsprop")
"""Each at its best learning rate."""


def iterations_to_target(run: Run) -> float:
    """Return the iterations to the target, infinite where the run does not get there."""
    target = TARGETS[run.study.removeprefix("conv-")]
    return iterations_to(run.train_loss, target.loss, target.window) or math.inf


def best_rate(runs: Sequence[Run], method: str) -> float:
    """Return the learning rate of the fewest iterations to the target, as medians.

    Raises:
        ValueError: there are no runs of that method.
    """
    rates = sorted({run.lr for run in runs if run.method == method})
    if not rates:
        raise ValueError(f"study: there are no runs of {method}")
    return min(rates, key=lambda lr: median(map(iterations_to_target, at(runs, method, lr))))


def compare(runs: Sequence[Run]) -> tuple[float, list[float]]:
    """Return the baseline's iterations to the target over the method's, and the same by seed.

    The first is of their medians. 0 where the method does not get there.

    Raises:
        ValueError: there are no such runs, or the two were not run with the same seeds.
    """
    group, baselines = (
        at(runs, name, best_rate(runs, name)) for name in (COMPARISON.method, COMPARISON.baseline)
    )
    counts, others = ([iterations_to_target(run) for run in g] for g in (group, baselines))
    gains = [
        _ratio(iterations_to_target(baseline), iterations_to_target(run))
        for run, baseline in paired(group, baselines)
    ]
    return _ratio(median(others), median(counts)), gains


def _ratio(baseline: float, count: float) -> float:
    return baseline / count if count < math.inf else 0.0
