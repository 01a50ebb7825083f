"""Time a training step of the deep dense network in agrad and in other frameworks.

    python benchmarks/dense_step.py --width 64 --batch-size 128 --threads 1 --out cell.json

The contestants start from the same weights on the same batch: agrad as recorded and captured,
PyTorch eager, JAX jitted, MyGrad, with --compile also torch.compile (up to a minute more), and the
least a step can cost (benchmarks/floor.py). They must begin with the same loss. A step is what a
user of the framework would write, without the checks of `agrad.train`. benchmarks/race.py describes
how the figures are measured, benchmarks/peers.py what each peer does. Steps are timed two at a
time, so that a pair with `every=2` counts as a whole. Their number depends on the time given to the
race. benchmarks/dense.py runs this script for all widths, batches and threads. Needs the extras
`demo` and `bench`.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

from race import Contestants, Figures, pin, plan, race, ratios, refuse_other_threads, show, write

PLAIN, AVERAGE = "agrad RMSprop", "agrad average gradient on RMSprop"
EVERY_2 = "agrad average gradient every 2"
PEERS = ("PyTorch RMSprop", "PyTorch RMSprop, foreach", "PyTorch RMSprop, compiled", "JAX RMSprop")
RATIOS = (
    *((f"{PLAIN}{captured}", peer) for captured in ("", ", captured") for peer in PEERS),
    (PLAIN, "MyGrad RMSprop"),
    (f"{PLAIN}, captured", PLAIN),
    (f"{PLAIN}, captured", "GEMMs alone"),
    *((f"agrad Adam{captured}", "PyTorch Adam") for captured in ("", ", captured")),
    ("agrad Adam, captured", "PyTorch Adam, fused"),
    ("agrad Adam, captured", "JAX Adam"),
    (AVERAGE, PLAIN),
    (f"{AVERAGE}, captured", f"{PLAIN}, captured"),
    (f"{EVERY_2}, captured", f"{PLAIN}, captured"),
    ("agrad average gradient on Adam, captured", "agrad Adam, captured"),
    (AVERAGE, "PyTorch RMSprop"),
    (f"{AVERAGE}, captured", "PyTorch RMSprop"),
    (f"{EVERY_2}, captured", "PyTorch RMSprop"),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--activation", choices=("tanh", "relu"), default="tanh")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="race torch.compile too")
    parser.add_argument("--seconds", type=float, default=25, help="approximate length of the race")
    parser.add_argument("--cpu", action="store_true", help="CPU times, for a busy machine")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def agrad_steps(options: argparse.Namespace, images, labels) -> tuple[Contestants, list]:
    """Return agrad's contestants and the initial weights of their networks."""
    import agrad
    import agrad.nn.functional as F
    from agrad import optim
    from agrad.study.networks import dense_network

    inputs, targets = agrad.tensor(images), agrad.tensor(labels)

    def network():
        agrad.seed(0)
        return dense_network(
            images.shape[1],
            10,
            depth=options.depth,
            width=options.width,
            activation=options.activation,
        )

    def contestant(make_optimizer: Callable, captured: bool) -> Callable[[], object]:
        model = network()
        optimizer = make_optimizer(model.parameters())

        def loss_of(inputs: agrad.Tensor, targets: agrad.Tensor) -> agrad.Tensor:
            return F.cross_entropy(model(inputs), targets)

        compute = agrad.capture(loss_of) if captured else loss_of

        def step() -> float:
            optimizer.zero_grad()
            loss = compute(inputs, targets)
            if isinstance(optimizer, optim.AverageGradient):
                optimizer.step(loss)
            else:
                loss.backward()
                optimizer.step()
            return loss.item()

        return step

    def rmsprop(params):
        return optim.RMSprop(params, lr=1e-4, alpha=0.9)

    def adam(params):
        return optim.Adam(params, lr=1e-4)

    methods = {
        PLAIN: rmsprop,
        "agrad Adam": adam,
        AVERAGE: lambda p: optim.AverageGradient(rmsprop(p)),
        "agrad average gradient on Adam": lambda p: optim.AverageGradient(adam(p)),
        EVERY_2: lambda p: optim.AverageGradient(rmsprop(p), every=2),
    }
    contestants = {
        name + suffix: contestant(method, captured=bool(suffix))
        for suffix in ("", ", captured")
        for name, method in methods.items()
    }
    return contestants, [parameter.data for parameter in network().parameters()]


def refuse_other_losses(contestants: Contestants) -> None:
    """Make one step of each contestant, and exit if their losses differ."""
    losses = {name: loss for name, step in contestants.items() if (loss := step()) is not None}
    middle = sorted(losses.values())[len(losses) // 2]
    others = {
        name: loss for name, loss in losses.items() if not math.isclose(loss, middle, rel_tol=1e-4)
    }
    if others:
        raise SystemExit(f"first losses differ from {middle:.6g}: {others}")


def race_pairs(contestants: Contestants, seconds: float, clock: Callable[[], float]) -> Figures:
    """Return each contestant's seconds per step in each round, from steps timed two at a time."""

    def twice(step: Callable[[], object]) -> Callable[[], object]:
        def pair() -> None:
            step()
            step()

        return pair

    pairs = {name: twice(step) for name, step in contestants.items()}
    times = race(pairs, *plan(pairs, seconds), clock)
    return {name: [float(f"{value / 2:.5g}") for value in values] for name, values in times.items()}


def main() -> None:
    options = parse()
    pin(options.threads)
    import jax
    import mygrad
    import numpy as np
    import torch
    from floor import copy_steps, gemm_steps, step_bytes
    from peers import jax_steps, mygrad_steps, torch_steps

    from agrad.study.runs import machine

    torch.set_num_threads(options.threads)
    refuse_other_threads(options.threads)
    random = np.random.default_rng(0)
    images = random.random((options.batch_size, 784), dtype=np.float32)
    labels = random.integers(10, size=options.batch_size)
    contestants, weights = agrad_steps(options, images, labels)
    network = weights, images, labels, options.activation
    contestants |= torch_steps(*network, compiled=options.compile)
    contestants |= jax_steps(*network) | mygrad_steps(*network)
    refuse_other_losses(contestants)
    moved = step_bytes([weight.shape for weight in weights[::2]], options.batch_size)
    contestants |= gemm_steps(weights, images) | copy_steps(moved["RMSprop"])
    clock = time.process_time if options.cpu else time.perf_counter
    seconds = race_pairs(contestants, options.seconds, clock)

    title = (
        f"{options.depth} x {options.width}, {options.activation}, batch {options.batch_size}, "
        f"{options.threads} thread(s), {len(seconds[PLAIN])} rounds"
    )
    compared = ratios(seconds, RATIOS)
    show(title, seconds, compared)
    versions = {"torch": torch.__version__, "jax": jax.__version__, "mygrad": mygrad.__version__}
    content = {
        "machine": machine() | versions,
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "seconds_per_step_by_round": seconds,
        "ratios_median_and_quartiles": compared,
        "bytes_that_must_move": moved,
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
