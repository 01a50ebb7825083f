"""The dense study: iterations of a deep plain network by method and learning rate."""

from collections.abc import Iterable, Sequence
from statistics import median

from agrad.study.measures import final_loss, gain
from agrad.study.runs import Comparison, Experiment, Run, at, paired

__all__ = [
    "ABLATIONS",
    "AUTOMATIC",
    "COMPARISONS",
    "METHODS",
    "STARTS",
    "automatic_ratios",
    "best_rate",
    "compare",
    "experiments",
]

ACTIVATIONS = ("tanh", "relu")
METHODS = ("rmsprop", "adam", "average-rmsprop", "average-adam")
RATES = (3e-3, 1e-3, 3e-4)
AUTOMATIC = "average-adam-auto"
STARTS = (1e-6, 1e-5, 1e-4, 1e-3)
ABLATIONS = ("ablation-substituted", "ablation-scaled")
ABLATION_RATE = 1e-3


def experiments(
    data: str, seeds: Iterable[int], iterations: int = 320, ablations: bool = False
) -> list[Experiment]:
    """Return the experiments: each method at each rate, and the automatic rate from each start.

    With `ablations`, the ablations at one rate are included.
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


COMPARISONS = (
    Comparison("average-rmsprop", "rmsprop", 1e-3),
    Comparison("average-rmsprop", "rmsprop"),
    Comparison("average-adam", "rmsprop", 1e-3),
    Comparison("average-adam", "rmsprop"),
    Comparison("average-adam", "adam"),
)


def best_rate(runs: Sequence[Run], method: str) -> float:
    """Return the learning rate with the lowest median final training loss.

    Raises:
        ValueError: There are no runs of `method`.
    """
    rates = sorted({run.lr for run in runs if run.method == method})
    if not rates:
        raise ValueError(f"dense study: there are no runs of {method}")
    return min(
        rates, key=lambda lr: median(final_loss(run.train_loss) for run in at(runs, method, lr))
    )


def compare(runs: Sequence[Run], comparison: Comparison) -> tuple[float, float, list[float]]:
    """Return the rate of the method, the rate of the baseline, and the gain for each seed.

    The gain says how many times fewer iterations the method needs to reach the mean training loss
    of the baseline's last iterations, from the same initial weights and on the same batches. It is
    0 if the method never reaches that loss.

    Raises:
        ValueError: Runs are missing, or the two methods were run with different seeds.
    """
    lr, baseline_lr = (
        comparison.lr or best_rate(runs, name) for name in (comparison.method, comparison.baseline)
    )
    pairs = paired(at(runs, comparison.method, lr), at(runs, comparison.baseline, baseline_lr))
    gains = [gain(run.train_loss, baseline.train_loss) for run, baseline in pairs]
    return lr, baseline_lr, gains


def automatic_ratios(runs: Sequence[Run], start: float) -> list[float]:
    """Return, for each seed, the final loss of the automatic rate over that of Adam at its best.

    Raises:
        ValueError: Runs are missing, or the two methods were run with different seeds.
    """
    pairs = paired(at(runs, AUTOMATIC, start), at(runs, "adam", best_rate(runs, "adam")))
    return [final_loss(run.train_loss) / final_loss(adam.train_loss) for run, adam in pairs]
