"""Compare the cost of a training step on two ranks of MPI with that in one process.

mpiexec -n 2 python benchmarks/scaling.py

First come the two constants of the model in docs/distributed.md: the cost of an exchange, and of
each byte that a rank sends. Then follows a line for each method, width and batch, in milliseconds:
steps of rank 0 alone on the whole batch, while the other ranks wait; steps of rank 0 alone on its
share; steps of all ranks; the model's prediction for these; and the speedup. They take turns. A
figure is the shortest time, since other work of the machine can only lengthen it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np

import agrad as ag
from agrad import optim
from agrad.core.flat import Flat
from agrad.distributed import Ranks
from agrad.study.networks import dense_network
from agrad.train import CapturedStep, capture_step

EXCHANGES = {"adam": (3, 1), "average": (8, 3)}
"""The numbers and the gradients that a step exchanges; `average` verifies each step once."""


def shortest(ranks: Ranks, seconds: float, *actions: Callable[[], object]) -> list[float]:
    """Return the seconds of each action's fastest call; they are called in turns for `seconds`."""
    best = [float("inf")] * len(actions)
    end = time.monotonic() + seconds
    while not ranks.largest("whether the time is over", time.monotonic() > end):
        for i, action in enumerate(actions):
            start = time.perf_counter()
            action()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def constants(ranks: Ranks, seconds: float) -> tuple[float, float]:
    """Return the seconds of an exchange of numbers, and of each byte that a rank sends."""
    sizes = 1_000, 500_000
    flats = [Flat([ag.tensor(np.zeros(size, np.float32))]) for size in sizes]
    sums = []
    for flat in flats:  # as a captured step leaves them
        flat.adopt()
        grad = flat.buffer().views[0]
        grad[...] = 0
        sums.append(partial(ranks.summed, flat.tensors, {flat.tensors[0]: grad}))
    # Each is timed alone: after a long action, ranks are not ready at the same moment.
    number = partial(ranks.largest, "a number", 0)
    small, short, long = (shortest(ranks, seconds, action)[0] for action in (number, *sums))
    sent = 2 * (ranks.size - 1) / ranks.size * 4 * (sizes[1] - sizes[0])
    return small, (long - short) / sent


def stepping(method: str, width: int) -> tuple[CapturedStep, optim.Optimizer]:
    """Return a step of a network with 30 hidden layers, and its optimizer."""
    ag.seed(0)
    model = dense_network(784, 10, width=width)
    rule = optim.Adam(model.parameters(), lr=1e-5)
    optimizer = optim.AverageGradient(rule) if method == "average" else rule
    return capture_step(model, optimizer), optimizer


def steps(ranks: Ranks, method: str, width: int, batch: int, seconds: float) -> Iterator[float]:
    """Yield the seconds of a step on the batch alone, on a share of it, and on all ranks."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, 784)).astype(np.float32), rng.integers(0, 10, batch)
    (alone, _), (part, _), (shared, optimizer) = (stepping(method, width) for _ in range(3))
    optimizer.ranks = ranks
    share = x[ranks.rows].copy(), y[ranks.rows].copy()

    def by_rank_0(step: CapturedStep, *data: object) -> Callable[[], float]:
        return lambda: step(*data) if ranks.rank == 0 else 0.0

    def together() -> float:
        ranks.largest("ready", 0)
        return shared(x, y)

    yield from shortest(ranks, seconds, by_rank_0(alone, x, y), by_rank_0(part, *share), together)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="for each line of the table")
    seconds = parser.parse_args().seconds
    with ag.distributed.ranks() as ranks:
        exchange, byte = constants(ranks, seconds / 3)
        if ranks.rank == 0:
            print(f"exchange {exchange * 1e6:.1f} us, byte {byte * 1e9:.3f} ns, {ranks.size} ranks")
        for method, (width, batch) in product(EXCHANGES, [(64, 128), (64, 1024), (256, 1024)]):
            alone, part, shared = steps(ranks, method, width, batch, seconds)
            numbers, gradients = EXCHANGES[method]
            size = sum(p.size for p in dense_network(784, 10, width=width).parameters())
            sent = 2 * (ranks.size - 1) / ranks.size * 4 * size
            model = part + (numbers + 2 * gradients) * exchange + gradients * sent * byte
            if ranks.rank == 0:
                times = " ".join(f"{1e3 * t:8.2f}" for t in (alone, part, shared, model))
                print(f"{method:8} {width:4} {batch:5} {times}  {alone / shared:.2f}", flush=True)


if __name__ == "__main__":
    main()
