"""Time a training step of the deep dense network: agrad's beside other frameworks'.

    python benchmarks/dense_step.py --width 64 --batch-size 128 --threads 1 --out results.json

The contestants start from the same weights on the same batch: agrad as recorded and captured,
PyTorch eager, JAX jitted, MyGrad, with --compile also torch.compile (a minute more), and the step's
matrix products alone through NumPy, which no framework on the same BLAS can be faster than. How the
figures are taken: see benchmarks/race.py; what each peer does: benchmarks/peers.py. Needs the
extras `demo` and `bench`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from race import Contestants, pin, race, ratios, show, write

PLAIN, AVERAGE = "agrad RMSprop", "agrad average gradient on RMSprop"
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
    ("agrad average gradient every 2, captured", f"{PLAIN}, captured"),
    ("agrad average gradient on Adam, captured", "agrad Adam, captured"),
    (AVERAGE, "PyTorch RMSprop"),
    (f"{AVERAGE}, captured", "PyTorch RMSprop"),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--activation", choices=("tanh", "relu"), default="tanh")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="race torch.compile too")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=10, help="steps of each contestant in a round")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def agrad_steps(options: argparse.Namespace, images, labels) -> tuple[Contestants, list]:
    """Return agrad's contestants and the initial weights of their networks."""
    import agrad
    from agrad import optim
    from agrad.study.networks import dense_network
    from agrad.train import train_step

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
        forward = agrad.capture(model) if captured else model
        return lambda: train_step(forward, optimizer, images, labels)

    def rmsprop(params):
        return optim.RMSprop(params, lr=1e-4, alpha=0.9)

    def adam(params):
        return optim.Adam(params, lr=1e-4)

    methods = {
        PLAIN: rmsprop,
        "agrad Adam": adam,
        AVERAGE: lambda p: optim.AverageGradient(rmsprop(p)),
        "agrad average gradient on Adam": lambda p: optim.AverageGradient(adam(p)),
        "agrad average gradient every 2": lambda p: optim.AverageGradient(rmsprop(p), every=2),
    }
    contestants = {
        name + suffix: contestant(method, captured=bool(suffix))
        for suffix in ("", ", captured")
        for name, method in methods.items()
    }
    return contestants, [parameter.data for parameter in network().parameters()]


def main() -> None:
    options = parse()
    pin(options.threads)
    import jax
    import mygrad
    import numpy as np
    import torch
    from peers import gemm_steps, jax_steps, mygrad_steps, torch_steps

    from agrad.study.runs import machine

    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    images = random.random((options.batch_size, 784), dtype=np.float32)
    labels = random.integers(10, size=options.batch_size)
    contestants, weights = agrad_steps(options, images, labels)
    network = weights, images, labels, options.activation
    contestants |= torch_steps(*network, compiled=options.compile)
    contestants |= jax_steps(*network) | mygrad_steps(*network) | gemm_steps(weights, images)
    seconds = race(contestants, options.rounds, options.steps)

    title = (
        f"{options.depth} x {options.width}, {options.activation}, batch {options.batch_size}, "
        f"{options.threads} thread(s), {options.rounds} rounds of {options.steps} steps"
    )
    compared = ratios(seconds, RATIOS)
    show(title, seconds, compared)
    versions = {"torch": torch.__version__, "jax": jax.__version__, "mygrad": mygrad.__version__}
    content = {
        "machine": machine() | versions,
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "seconds_per_step_by_round": seconds,
        "ratios_median_and_quartiles": compared,
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
