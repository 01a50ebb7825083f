"""Time agrad and PyTorch to the same training loss, in the dense study's network on MNIST.

    python benchmarks/time_to_loss.py --out results/speed/time-to-loss/results.json

All runs of a seed start from the same weights and get the same batches in the same order, with one
thread. First each method runs at each learning rate. Its best rate has the lowest median final
loss, the mean of the last 40 of 320 iterations. Then the methods race, each at its best rate, in
turns of a few iterations, to the final loss of PyTorch's RMSprop with that seed. A run arrives at
the end of the first 40 consecutive iterations whose mean loss is at most the target. Its time is
the sum of the seconds of its steps until then; a step begins with its batch in memory and ends when
the weights are updated and the loss is known. A run that needs more than twice the iterations never
arrives. About half an hour for tanh and ReLU. Needs the extras `demo` and `bench`.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from race import pin, refuse_other_threads, write

BASELINE = "PyTorch RMSprop"
RATES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # those of the study, and one more at either end

TURN = 10
WINDOW = 40

Step = Callable[[Any, Any], float]
Rates = dict[str, float]


class Arrival(NamedTuple):
    """The iterations and seconds of a run to its target."""

    iterations: float
    seconds: float


class Run:
    """A training that can be continued, with the losses and seconds of its steps so far."""

    def __init__(self, step: Step, batches: Iterable) -> None:
        self.step = step
        self.batches = batches
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def advance(
        self, iterations: int, arrived: Callable[[list[float]], bool] = lambda losses: False
    ) -> None:
        """Make `iterations` steps, or fewer if the run arrives.

        After the first loss that is not finite, all losses count as infinite.
        """
        for images, labels in islice(self.batches, iterations):
            if arrived(self.losses):
                break
            start = time.perf_counter()
            loss = self.step(images, labels) if math.inf not in self.losses[-1:] else math.inf
            self.seconds.append(time.perf_counter() - start)
            self.losses.append(loss if math.isfinite(loss) else math.inf)


def agrad_methods() -> dict[str, Callable]:
    from agrad import optim

    def rmsprop(params: Any, lr: float) -> optim.RMSprop:
        return optim.RMSprop(params, lr=lr, alpha=0.9)

    def average(base: optim.Optimizer, every: int = 1) -> optim.AverageGradient:
        return optim.AverageGradient(base, every=every)

    return {
        "agrad RMSprop": rmsprop,
        "agrad Adam": lambda p, lr: optim.Adam(p, lr=lr),
        "agrad average gradient on RMSprop": lambda p, lr: average(rmsprop(p, lr)),
        "agrad average gradient on RMSprop, every 2": lambda p, lr: average(rmsprop(p, lr), 2),
        "agrad average gradient on Adam": lambda p, lr: average(optim.Adam(p, lr=lr)),
        "agrad average gradient on Adam, every 2": lambda p, lr: average(optim.Adam(p, lr=lr), 2),
    }


def torch_methods() -> dict[str, Callable]:
    import torch

    return {
        BASELINE: lambda p, lr: torch.optim.RMSprop(p, lr=lr, alpha=0.9),
        "PyTorch Adam": lambda p, lr: torch.optim.Adam(p, lr=lr),
    }


def agrad_step(model: Any, optimizer: Any) -> Step:
    """Return a captured step in agrad."""
    import agrad
    from agrad.errors import NonFiniteError
    from agrad.train import train_step

    forward = agrad.capture(model)

    def step(images: Any, labels: Any) -> float:
        try:
            return train_step(forward, optimizer, images, labels)
        except NonFiniteError:
            return math.inf

    return step


def torch_step(model: Any, optimizer: Any) -> Step:
    """Return an eager step in PyTorch."""
    import torch

    def step(images: Any, labels: Any) -> float:
        optimizer.zero_grad()
        logits = model(torch.from_numpy(images))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


class Task(NamedTuple):
    """A data set, a network and the options of its trainings."""

    activation: str
    images: Any
    labels: Any
    options: argparse.Namespace

    def runs(self, rates: Rates, seed: int) -> dict[str, Run]:
        """Return a run of each method at its rate, from the same weights on the same batches."""
        from peers import torch_network

        import agrad
        from agrad.data import Batches
        from agrad.study.networks import dense_network

        own, other = agrad_methods(), torch_methods()
        made = {}
        for name, lr in rates.items():
            agrad.seed(seed)
            model = dense_network(self.images.shape[1], 10, activation=self.activation)
            if name in own:
                step = agrad_step(model, own[name](model.parameters(), lr))
            else:
                twin = torch_network([p.data for p in model.parameters()], self.activation)
                step = torch_step(twin, other[name](twin.parameters(), lr))
            batches = Batches(self.images, self.labels, batch_size=128, seed=seed, drop_last=True)
            made[name] = Run(step, batches.forever())
        return made

    def search(self) -> dict[str, dict[float, list[float]]]:
        """Return the final loss by method, rate and seed."""
        from agrad.study.measures import final_loss

        losses: dict = {name: {} for name in (*torch_methods(), *agrad_methods())}
        for lr in self.options.rates:
            for seed in range(self.options.seeds):
                for name, run in self.runs(dict.fromkeys(losses, lr), seed).items():
                    run.advance(self.options.iterations)
                    losses[name].setdefault(lr, []).append(final_loss(run.losses))
            print(f"{self.activation}: all methods have run at the rate {lr:g}", flush=True)
        return losses

    def race(self, rates: Rates, seed: int, target: float) -> dict[str, Arrival]:
        """Run the methods in turns, and return when each reaches the target."""
        from agrad.study.measures import Target

        goal = Target(target, WINDOW)
        contestants = self.runs(rates, seed)
        names = list(contestants)
        for i in range(2 * self.options.iterations // TURN):
            for name in names[i % len(names) :] + names[: i % len(names)]:
                contestants[name].advance(TURN, goal.is_reached)
        return {name: arrival_of(run, goal.is_reached) for name, run in contestants.items()}


def arrival_of(run: Run, arrived: Callable[[list[float]], bool]) -> Arrival:
    """Return the iterations and seconds of a run, infinite if it has not arrived."""
    if not arrived(run.losses):
        return Arrival(math.inf, math.inf)
    return Arrival(len(run.losses), sum(run.seconds))


def best_rates(losses: dict[str, dict[float, list[float]]]) -> Rates:
    """Return each method's rate with the lowest median final loss."""
    return {
        name: min(by_rate, key=lambda lr: median(by_rate[lr])) for name, by_rate in losses.items()
    }


def summary(races: Sequence[dict[str, Arrival]]) -> dict[str, dict[str, list[float]]]:
    """Return the median, the least and the most of each method's figures over the seeds."""

    def spread(values: Sequence[float]) -> list[float]:
        return [median(values), min(values), max(values)]

    return {
        name: {
            "iterations": spread([race[name].iterations for race in races]),
            "seconds": spread([race[name].seconds for race in races]),
            f"seconds over {BASELINE}'s": spread(
                [race[name].seconds / race[BASELINE].seconds for race in races]
            ),
        }
        for name in races[0]
    }


def show(activation: str, rates: Rates, of_methods: dict[str, dict[str, list[float]]]) -> None:
    print(f"{activation}, median (least to most) of the seeds")
    for name, found in of_methods.items():
        parts = [
            f"{key} {values[0]:.4g} ({values[1]:.4g} to {values[2]:.4g})"
            for key, values in found.items()
        ]
        print(f"  {name:<42} at {rates[name]:g}: {', '.join(parts)}", flush=True)


def finite(value: Any) -> Any:
    """Return the value with None in place of infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if value == math.inf else value


def compare(task: Task) -> dict[str, Any]:
    """Search the rates, race the seeds, print a summary and return all figures."""
    losses = task.search()
    rates = best_rates(losses)
    targets = losses[BASELINE][rates[BASELINE]]
    races = [task.race(rates, seed, target) for seed, target in enumerate(targets)]
    of_methods = summary(races)
    show(task.activation, rates, of_methods)
    return {
        "final_losses_by_rate_and_seed": losses,
        "best_rates": rates,
        "target_by_seed": targets,
        "arrivals_by_seed": [
            {name: arrival._asdict() for name, arrival in race.items()} for race in races
        ],
        "median_least_most": of_methods,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activations", nargs="+", default=["tanh", "relu"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=320)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def main() -> None:
    options = parse()
    pin(1)
    import numpy as np
    import torch

    from agrad.data import mnist
    from agrad.study.runs import machine

    torch.set_num_threads(1)
    refuse_other_threads(1)
    images, labels = mnist("train")
    data = images.reshape(len(images), -1), labels.astype(np.int64)
    content = {
        "machine": machine() | {"torch": torch.__version__},
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "activations": {
            activation: compare(Task(activation, *data, options))
            for activation in options.activations
        },
    }
    write(options.out, finite(content))


if __name__ == "__main__":
    main()
