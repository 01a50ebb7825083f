"""Time the automatic rate and Adam, with and without its search, to Adam's final loss.

    python benchmarks/automatic_time.py --out results/speed/automatic-time/results.json

The networks have 30 hidden layers of 64 units and learn MNIST, in 320 iterations with batches of
128 or in 240 with batches of 1,024. Adam and cautious Adam run at five rates, `AverageGradient`
around cautious Adam with its automatic rate from 1e-4; its trainings also run on 3/4 and on half of
the iterations. All rates decay to 0 over the last 40 % of a training. All runs of a seed start from
the same weights, get the same batches, and take turns of a few iterations, with one thread.

A final loss is the mean over the last 5 % of the iterations. A rule's best rate has the lowest
median final loss over the seeds. The target of a seed is Adam's final loss at its best rate; a run
arrives with the first 5 % of consecutive iterations whose mean is at most the target. Its seconds
are those of its steps until then. The time of a step is the mean over all steps, and over those
after the first sixteen, all of which an automatic rate measures. Takes about 10 minutes. Needs the
extras `demo` and `bench`.
"""

import argparse
import math
from itertools import count
from pathlib import Path
from statistics import mean, median
from typing import Any

from race import pin, refuse_other_threads, write
from time_to_loss import Run, finite

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SHARES = (1.0, 0.75, 0.5)
TURN = 10
FIRST = 16
SETTINGS = {128: 320, 1024: 240}
"""The number of iterations for each batch size."""

Name = tuple[str, float]


def contestants(activation: str, batch_size: int, images: Any, labels: Any, seed: int) -> Any:
    """Return runs and their iterations by method, and by rate or share of iterations."""
    from rates.methods import AUTO, METHODS, START, decay

    import agrad
    import agrad.nn.functional as F
    from agrad.data import Batches
    from agrad.errors import NonFiniteError
    from agrad.study.networks import dense_network

    def made(method: str, rate: float, steps: int) -> tuple[Run, int]:
        agrad.seed(seed)
        model = dense_network(images.shape[1], 10, depth=30, width=64, activation=activation)
        own = METHODS[method].start(model, F.cross_entropy, rate)
        counted = count(1)

        def step(x: Any, y: Any) -> float:
            try:
                return own.step(x, y, decay(next(counted), steps))
            except NonFiniteError:
                return math.inf

        batches = Batches(images, labels, batch_size=batch_size, seed=seed, drop_last=True)
        return Run(step, batches.forever()), steps

    steps = SETTINGS[batch_size]
    plain = {(m, lr): made(m, lr, steps) for m in ("Adam", "cautious Adam") for lr in RATES}
    return plain | {(AUTO, s): made(AUTO, START, round(s * steps)) for s in SHARES}


def race(runs: dict[Name, tuple[Run, int]]) -> None:
    """Run all methods to their ends, in turns."""
    names = list(runs)
    for i in range(max(steps for _, steps in runs.values()) // TURN):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            run, steps = runs[name]
            run.advance(min(TURN, steps - len(run.losses)))


def final(run: Run) -> float:
    return mean(run.losses[-max(1, len(run.losses) // 20) :])


def arrival(run: Run, target: float, window: int) -> float:
    """Return the seconds until the mean loss of a window is at most the target."""
    ends = range(window, len(run.losses) + 1)
    end = next((i for i in ends if mean(run.losses[i - window : i]) <= target), None)
    return math.inf if end is None else sum(run.seconds[:end])


def compare(activation: str, batch_size: int, images: Any, labels: Any, seeds: int) -> Any:
    """Race all methods over the seeds, print a summary and return all figures."""
    raced = []
    for seed in range(seeds):
        runs = contestants(activation, batch_size, images, labels, seed)
        race(runs)
        raced.append({name: run for name, (run, _) in runs.items()})
    finals = {name: [final(runs[name]) for runs in raced] for name in raced[0]}
    best = {
        rule: min(RATES, key=lambda lr: median(finals[rule, lr]))
        for rule in ("Adam", "cautious Adam")
    }
    chosen = list(best.items()) + [n for n in finals if n[0] == "auto"]
    window = SETTINGS[batch_size] // 20
    rows = {}
    for name in chosen:
        row: dict[str, Any] = {"final": finals[name], "over": {}, "step": [], "later step": []}
        for rule in best:
            row["over"][rule], row["over"][f"search of {rule}"] = [], []
        for runs, target in zip(raced, finals["Adam", best["Adam"]]):
            seconds = arrival(runs[name], target, window)
            row["step"].append(mean(runs[name].seconds))
            row["later step"].append(mean(runs[name].seconds[FIRST:]))
            for rule, lr in best.items():
                theirs = arrival(runs[rule, lr], target, window)
                searched = sum(sum(runs[rule, rate].seconds) for rate in RATES)
                row["over"][rule].append(seconds / theirs)
                row["over"][f"search of {rule}"].append(seconds / searched)
        rows[" ".join(map(str, name))] = row
        parts = [f"{key} {spread(ratios)}" for key, ratios in row["over"].items()]
        step, later = (1000 * median(row[key]) for key in ("step", "later step"))
        print(
            f"{activation} {batch_size}: {name[0]} {name[1]:g}: final {spread(row['final'])}, "
            f"{step:.2f} ms a step, {later:.2f} a later one, seconds over {'; '.join(parts)}",
            flush=True,
        )
    return {"best_rates": best, "finals": {f"{m} {x}": v for (m, x), v in finals.items()}} | rows


def spread(values: list[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activations", nargs="+", default=["tanh", "relu"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    options = parser.parse_args()
    pin(1)
    from agrad.data.datasets import mnist
    from agrad.study.runs import machine

    refuse_other_threads(1)
    images, labels = mnist("train")
    images = images.reshape(len(images), -1)
    figures = {
        f"{activation} {batch_size}": compare(activation, batch_size, images, labels, options.seeds)
        for batch_size in options.batch_sizes
        for activation in options.activations
    }
    write(options.out, {"machine": machine(), "seeds": options.seeds, "figures": finite(figures)})


if __name__ == "__main__":
    main()
