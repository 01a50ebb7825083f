"""Measure time and memory of a training step of deep convolutional networks, beside PyTorch's.

    python benchmarks/conv_step.py --threads 1 --out results/speed/conv-step/threads-1.json

The networks are those of the studies: 12 convolutions of 32 channels, on images of 28 x 28 pixels
or on texts of 200 words. agrad's and PyTorch's networks start from the same weights and get the
same batch. To measure time, all take turns in one process (see `race`). To measure memory, each
runs in its own process, on Linux. First, a step on a small batch loads everything that is loaded
once. The figure is the rise of the resident set during the next few steps. Needs the extras `demo`
and `bench`.
"""

import argparse
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from race import Contestants, race, ratios, show, write
from threadpoolctl import threadpool_limits

import agrad
from agrad import nn, optim
from agrad.study.networks import image_network, text_network
from agrad.study.runs import machine
from agrad.train import train_step


class Apply(torch.nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.forward = function


def torch_network(network: nn.Sequential) -> torch.nn.Sequential:
    """Return PyTorch's network with the same layers and weights."""
    layers = []
    for layer in network:
        name = type(layer).__name__
        weight = getattr(layer, "weight", None)
        if name == "_ChannelsFirst":
            layers.append(Apply(lambda x: x.transpose(1, 2)))
        elif name == "GlobalAvgPool1d":
            layers.append(Apply(lambda x: x.mean(dim=2)))
        elif name == "Embedding":
            layers.append(torch.nn.Embedding(*weight.shape, padding_idx=0))
        elif name == "Linear":
            layers.append(torch.nn.Linear(*weight.shape[::-1]))
        elif name in ("Conv1d", "Conv2d"):
            filters, channels, *kernel = weight.shape
            layers.append(getattr(torch.nn, name)(channels, filters, kernel, padding=1))
        elif name == "Unflatten":
            layers.append(torch.nn.Unflatten(1, (1, 28)))
        else:
            options = {"MaxPool1d": (2,), "MaxPool2d": (2,), "AdaptiveAvgPool2d": (1,)}
            layers.append(getattr(torch.nn, name)(*options.get(name, ())))
    twin = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for parameter, own in zip(twin.parameters(), network.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(np.array(own.data)))
    return twin


class Task(NamedTuple):
    """A network and a batch for it."""

    network: Callable[[], nn.Sequential]
    inputs: np.ndarray
    labels: np.ndarray


def task(name: str, batch_size: int | None = None) -> Task:
    random = np.random.default_rng(0)
    if name == "images":
        size = batch_size or 128
        inputs = random.random((size, 28, 28), dtype=np.float32)
        return Task(lambda: image_network((28, 28), 10), inputs, random.integers(10, size=size))
    size = batch_size or 64
    inputs = random.integers(5000, size=(size, 200))
    return Task(lambda: text_network(5000, 2), inputs, random.integers(2, size=size))


def agrad_step(make_optimizer: Callable) -> Callable[[Task], Callable[[], object]]:
    def contestant(task: Task) -> Callable[[], object]:
        agrad.seed(0)
        model = task.network()
        optimizer = make_optimizer(model.parameters())
        return lambda: train_step(model, optimizer, task.inputs, task.labels)

    return contestant


def torch_step(make_optimizer: Callable) -> Callable[[Task], Callable[[], object]]:
    def contestant(task: Task) -> Callable[[], object]:
        agrad.seed(0)
        model = torch_network(task.network())
        optimizer = make_optimizer(model.parameters())
        inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)

        def step() -> float:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return contestant


def rmsprop(params: Any) -> optim.RMSprop:
    return optim.RMSprop(params, lr=1e-4, alpha=0.9)


def adam(params: Any) -> optim.Adam:
    return optim.Adam(params, lr=1e-4)


CONTESTANTS = {
    "agrad RMSprop": agrad_step(rmsprop),
    "agrad Adam": agrad_step(adam),
    "agrad average gradient on RMSprop": agrad_step(lambda p: optim.AverageGradient(rmsprop(p))),
    "agrad average gradient on Adam": agrad_step(lambda p: optim.AverageGradient(adam(p))),
    "PyTorch RMSprop": torch_step(lambda p: torch.optim.RMSprop(p, lr=1e-4, alpha=0.9)),
    "PyTorch Adam": torch_step(lambda p: torch.optim.Adam(p, lr=1e-4)),
}

PAIRS = (
    ("agrad RMSprop", "PyTorch RMSprop"),
    ("agrad Adam", "PyTorch Adam"),
    ("agrad average gradient on RMSprop", "agrad RMSprop"),
    ("agrad average gradient on Adam", "agrad Adam"),
    ("agrad average gradient on RMSprop", "PyTorch RMSprop"),
)


def status(field: str) -> int:
    """Return a field of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def peak_bytes(name: str, contestant: str, steps: int = 3) -> int:
    """Return how far the resident set of this process rises during `steps` steps, in bytes."""
    CONTESTANTS[contestant](task(name, batch_size=2))()
    step = CONTESTANTS[contestant](task(name))
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM, to the present size
    for _ in range(steps):
        step()
    return status("VmHWM") - before


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="steps of each contestant in a round")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    parser.add_argument(
        "--peak", nargs=2, metavar=("TASK", "CONTESTANT"), help="print one contestant's bytes"
    )
    return parser.parse_args()


def peaks(name: str, threads: int) -> dict[str, int]:
    """Return each contestant's peak, measured in a fresh process."""
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", name]
    return {
        contestant: int(subprocess.check_output([*command, contestant], text=True))
        for contestant in CONTESTANTS
    }


def main() -> None:
    """Measure both networks, and print and write the figures."""
    options = parse()
    threadpool_limits(options.threads)
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak_bytes(*options.peak))
        return
    results = {}
    for name in ("images", "texts"):
        contestants: Contestants = {key: make(task(name)) for key, make in CONTESTANTS.items()}
        losses = {key: step() for key, step in contestants.items()}
        if np.ptp(list(losses.values())) > 1e-4:
            raise SystemExit(f"{name}: first losses differ: {json.dumps(losses)}")
        seconds = race(contestants, options.rounds, options.steps)
        compared = ratios(seconds, PAIRS)
        show(f"{name}, {options.threads} thread(s)", seconds, compared)
        memory = peaks(name, options.threads)
        memory_ratios = {f"{a} / {b}": memory[a] / memory[b] for a, b in PAIRS}
        for contestant, size in memory.items():
            print(f"  {contestant:<42} {size / 2**20:8.1f} MiB at its peak")
        for pair, ratio in memory_ratios.items():
            print(f"  memory, {pair}: {ratio:.2f}")
        results[name] = {
            "seconds_per_step_by_round": seconds,
            "ratios_median_and_quartiles": compared,
            "peak_bytes": memory,
            "peak_ratios": memory_ratios,
        }
    content = {
        "machine": machine() | {"torch": torch.__version__},
        "options": {k: v for k, v in vars(options).items() if k not in ("out", "peak")},
        "networks": results,
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
