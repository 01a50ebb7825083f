"""Time a training step of the deep dense network: agrad's beside PyTorch's eager one.

    python benchmarks/dense_step.py --width 64 --batch-size 128 --threads 1 --out results.json

All contestants share one process, the same initial weights, the same batch and the same number of
threads, and take turns: each round times a few steps of each, in an order that rotates. Reported
are the medians over the rounds of each round's median and of the ratios within a round, with the
quartiles beside them. Needs the extras `demo` and `bench`.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import agrad
from agrad import optim
from agrad.study.networks import dense_network
from agrad.study.runs import machine
from agrad.train import train_step


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--activation", choices=("tanh", "relu"), default="tanh")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=10, help="steps of each contestant in a round")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def agrad_steps(options: argparse.Namespace, images: np.ndarray, labels: np.ndarray) -> dict:
    """Return agrad's contestants and the initial weights of their networks."""

    def network():
        agrad.seed(0)
        return dense_network(
            images.shape[1],
            10,
            depth=options.depth,
            width=options.width,
            activation=options.activation,
        )

    def contestant(make_optimizer: Callable, captured: bool = False) -> Callable[[], object]:
        model = network()
        optimizer = make_optimizer(model.parameters())
        forward = agrad.capture(model) if captured else model
        return lambda: train_step(forward, optimizer, images, labels)

    def rmsprop(params):
        return optim.RMSprop(params, lr=1e-4, alpha=0.9)

    def adam(params):
        return optim.Adam(params, lr=1e-4)

    methods = {
        "agrad RMSprop": rmsprop,
        "agrad Adam": adam,
        "agrad average gradient on RMSprop": lambda p: optim.AverageGradient(rmsprop(p)),
        "agrad average gradient on Adam": lambda p: optim.AverageGradient(adam(p)),
        "agrad average gradient every 2": lambda p: optim.AverageGradient(rmsprop(p), every=2),
    }
    return {
        name + suffix: contestant(method, captured=bool(suffix))
        for suffix in ("", ", captured")
        for name, method in methods.items()
    }, [parameter.data for parameter in network().parameters()]


def torch_steps(
    options: argparse.Namespace, weights: list, images: np.ndarray, labels: np.ndarray
) -> dict:
    """Return PyTorch's contestants, on a network of the same weights."""
    activation = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[options.activation]
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)

    def contestant(make_optimizer: Callable) -> Callable[[], object]:
        layers: list[torch.nn.Module] = []
        features = images.shape[1]
        for _ in range(options.depth):
            layers += [torch.nn.Linear(features, options.width), activation()]
            features = options.width
        model = torch.nn.Sequential(*layers, torch.nn.Linear(features, 10))
        with torch.no_grad():
            for parameter, values in zip(model.parameters(), weights):
                parameter.copy_(torch.from_numpy(np.array(values)))
        optimizer = make_optimizer(model.parameters())

        def step() -> float:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return {
        "PyTorch RMSprop": contestant(lambda p: torch.optim.RMSprop(p, lr=1e-4, alpha=0.9)),
        "PyTorch RMSprop, foreach": contestant(
            lambda p: torch.optim.RMSprop(p, lr=1e-4, alpha=0.9, foreach=True)
        ),
        "PyTorch Adam": contestant(lambda p: torch.optim.Adam(p, lr=1e-4)),
        "PyTorch Adam, foreach": contestant(lambda p: torch.optim.Adam(p, lr=1e-4, foreach=True)),
    }


def race(contestants: dict[str, Callable[[], object]], rounds: int, steps: int) -> dict:
    """Return for each contestant its median seconds a step in each round."""
    names = list(contestants)
    for name in names:
        for _ in range(max(3, steps // 2)):
            contestants[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times = []
            for _ in range(steps):
                start = time.perf_counter()
                contestants[name]()
                times.append(time.perf_counter() - start)
            seconds[name].append(float(np.median(times)))
    return seconds


RATIOS = (
    ("agrad RMSprop", "PyTorch RMSprop"),
    ("agrad RMSprop", "PyTorch RMSprop, foreach"),
    ("agrad Adam", "PyTorch Adam"),
    ("agrad Adam", "PyTorch Adam, foreach"),
    ("agrad average gradient on RMSprop", "agrad RMSprop"),
    ("agrad average gradient on Adam", "agrad Adam"),
    ("agrad average gradient on RMSprop", "PyTorch RMSprop"),
    ("agrad RMSprop, captured", "agrad RMSprop"),
    ("agrad RMSprop, captured", "PyTorch RMSprop"),
    ("agrad Adam, captured", "PyTorch Adam"),
    ("agrad average gradient on RMSprop, captured", "agrad RMSprop, captured"),
    ("agrad average gradient on Adam, captured", "agrad Adam, captured"),
    ("agrad average gradient on RMSprop, captured", "PyTorch RMSprop"),
)


def main() -> None:
    options = parse()
    threadpool_limits(options.threads)
    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    images = random.random((options.batch_size, 784), dtype=np.float32)
    labels = random.integers(10, size=options.batch_size)
    contestants, weights = agrad_steps(options, images, labels)
    contestants |= torch_steps(options, weights, images, labels)
    seconds = race(contestants, options.rounds, options.steps)

    print(
        f"{options.depth} x {options.width}, {options.activation}, batch {options.batch_size}, ",
        end="",
    )
    print(f"{options.threads} thread(s), {options.rounds} rounds of {options.steps} steps")
    for name, times in seconds.items():
        low, middle, high = 1e3 * np.quantile(times, (0.25, 0.5, 0.75))
        print(f"  {name:<46} {middle:7.2f} ms   ({low:.2f} to {high:.2f})")
    ratios = {}
    for name, other in RATIOS:
        ratio = np.array(seconds[name]) / np.array(seconds[other])
        low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
        ratios[f"{name} / {other}"] = [middle, low, high]
        print(f"  {name} / {other}: {middle:.2f}   ({low:.2f} to {high:.2f})")
    if options.out is not None:
        content = {
            "machine": machine() | {"torch": torch.__version__},
            "options": {k: v for k, v in vars(options).items() if k != "out"},
            "seconds_per_step_by_round": seconds,
            "ratios_median_and_quartiles": ratios,
        }
        options.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
