"""The memory kept between training steps, and at the peak of a step, in units of the parameters.

    python benchmarks/memory.py

tracemalloc counts parameters, gradients, the optimizer's state, and activations, in float32, for a
network of 30 hidden layers with tanh on images of 784 pixels, in batches of 128.
"""

import argparse
import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np

from agrad import nn, optim
from agrad.train import train_step

OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "RMSprop": lambda model: optim.RMSprop(model.parameters(), 1e-3),
    "Adam": lambda model: optim.Adam(model.parameters(), 1e-3),
    "average gradient on RMSprop, whole batch": lambda model: optim.AverageGradient(
        optim.RMSprop(model.parameters(), 1e-3), probe_size=None
    ),
    "average gradient on RMSprop, probe of 64": lambda model: optim.AverageGradient(
        optim.RMSprop(model.parameters(), 1e-3), probe_size=64
    ),
    "average gradient on cautious Adam, automatic": lambda model: optim.AverageGradient(
        optim.Adam(model.parameters(), 1e-4, cautious=True), lr="auto"
    ),
}


def network(depth: int, width: int) -> nn.Module:
    """Return a plain network with tanh for ten classes."""
    sizes = [784, *[width] * depth]
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def measure(optimizer: str, depth: int, width: int, batch: int) -> tuple[float, float]:
    """Return the state and the peak of a step, as multiples of the parameters' bytes.

    The peak counts the parameters, their gradients, the state, and all that the step allocates.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, 784)).astype(np.float32)
    y = rng.integers(0, 10, batch)

    def trained(depth: int, width: int) -> tuple[nn.Module, optim.Optimizer]:
        model = network(depth, width)
        chosen = OPTIMIZERS[optimizer](model)
        for _ in range(2):  # the state exists after the first step
            train_step(model, chosen, x, y)
        return model, chosen

    trained(1, 8)  # imports and compiles
    tracemalloc.start()
    try:
        model, chosen = trained(depth, width)
        tracemalloc.reset_peak()
        train_step(model, chosen, x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    unit = sum(param.data.nbytes for param in model.parameters())
    return chosen.state_bytes / unit, peak / unit


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    for width in options.widths:
        print(f"{options.depth} hidden layers of {width}, batches of {options.batch}")
        for name in OPTIMIZERS:
            state, peak = measure(name, options.depth, width, options.batch)
            print(f"  {name:<42} state {state:.2f}, peak {peak:.2f}")


if __name__ == "__main__":
    main()
