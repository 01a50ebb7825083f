"""The convolutional study: iterations of deep plain networks to a given training loss."""

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
"""The training loss that runs should reach. Fashion-MNIST takes too long to reach 0.45."""
DATA = tuple(TARGETS)
_DEPTH = 12
_WIDTHS = {"imdb": 32, "mnist": 16, "fashion-mnist": 16}
_BATCH_SIZE = 64


def experiments(data: str, seeds: Iterable[int], iterations: int = 1000) -> list[Experiment]:
    """Return the experiments: each method at each learning rate, for each seed.

    Args:
        data: One of `DATA`. It determines the network: 12 convolutions over the words of a text or
            the pixels of an image, each followed by ReLU.
        seeds: The seeds; equal seeds give equal initial weights and equal batches.
        iterations: The number of iterations after which a run gives up if it has not reached the
            target.
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
"""Both methods at their best learning rates."""


def iterations_to_target(run: Run) -> float:
    """Return the number of iterations to the target; infinity if the run does not reach it."""
    target = TARGETS[run.study.removeprefix("conv-")]
    return iterations_to(run.train_loss, target.loss, target.window) or math.inf


def best_rate(runs: Sequence[Run], method: str) -> float:
    """Return the learning rate with the lowest median number of iterations to the target.

    Raises:
        ValueError: There are no runs of `method`.
    """
    rates = sorted({run.lr for run in runs if run.method == method})
    if not rates:
        raise ValueError(f"study: there are no runs of {method}")
    return min(rates, key=lambda lr: median(map(iterations_to_target, at(runs, method, lr))))


def compare(runs: Sequence[Run]) -> tuple[float, list[float]]:
    """Return the baseline's iterations to the target divided by the method's.

    Returns:
        The ratio of the medians, and a list of the ratios for each seed. A ratio is 0 if the
        method does not reach the target.

    Raises:
        ValueError: Runs are missing, or the two methods were run with different seeds.
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
