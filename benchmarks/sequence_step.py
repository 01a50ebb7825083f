"""Time a training step of an LSTM and of attention, in agrad and in eager PyTorch.

    python benchmarks/sequence_step.py --width 64 --threads 1 --out cell.json

A step takes a batch of 32 sequences of 100 vectors. It computes the mean squared error of the
layer's outputs, its gradient, and Adam's update. The layers are an LSTM and multi-head
self-attention with four heads, both of the given width. agrad's steps are those of `train_step`
(recorded) and of `capture_step` (captured, as `fit` does by default); all start from the same
weights, and must begin with the same loss. benchmarks/race.py describes how the figures are
measured. On a busy machine, --cpu compares the CPU time of all threads of the process instead.
Needs the extra `bench`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from race import Contestants, pin, plan, race, ratios, refuse_other_threads, show, write

SEQUENCES, LENGTH, HEADS = 32, 100, 4
LAYERS = ("LSTM", "attention")
RATIOS = [
    (f"agrad {layer}, {kind}", f"PyTorch {layer}")
    for layer in LAYERS
    for kind in ("captured", "recorded")
]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20, help="approximate length of a race")
    parser.add_argument("--cpu", action="store_true", help="compare CPU time")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def contestants(layer: str, width: int) -> Contestants:
    import numpy as np
    import torch

    import agrad as ag
    import agrad.nn.functional as F
    from agrad import nn, optim
    from agrad.train import capture_step, train_step

    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, SEQUENCES, LENGTH, width)).astype(np.float32)
    inputs, targets = torch.tensor(x), torch.tensor(y)

    def output(module, x):
        if layer == "LSTM":
            return module(x)[0]
        return module(x, x, x, need_weights=False)[0]

    def module(of):
        if layer == "LSTM":
            return of.LSTM(width, width, batch_first=True)
        return of.MultiheadAttention(width, HEADS, batch_first=True)

    torch.manual_seed(0)
    theirs = module(torch.nn)
    weights = {name: array.numpy().copy() for name, array in theirs.state_dict().items()}
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-4)

    def pytorch() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(output(theirs, inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    class Layer(nn.Module):
        def __init__(self) -> None:
            self.module = module(nn)
            self.module.load_state_dict(weights)

        def forward(self, x: ag.Tensor) -> ag.Tensor:
            return output(self.module, x)

    def agrad(captured: bool) -> Callable[[], float]:
        model = Layer()
        own = optim.Adam(model.parameters(), lr=1e-4)
        if captured:
            step = capture_step(model, own, F.mse_loss)
            return lambda: step(x, y)
        return lambda: train_step(model, own, x, y, F.mse_loss)

    steps = {
        f"agrad {layer}, captured": agrad(True),
        f"agrad {layer}, recorded": agrad(False),
        f"PyTorch {layer}": pytorch,
    }
    losses = [step() for step in steps.values()]
    if max(losses) - min(losses) > 1e-4 * min(losses):
        raise SystemExit(f"the contestants' losses differ: {dict(zip(steps, losses))}")
    return steps


def main() -> None:
    options = parse()
    pin(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu else time.perf_counter
    found = {}
    for layer in LAYERS:
        steps = contestants(layer, options.width)
        refuse_other_threads(options.threads)
        seconds = race(steps, *plan(steps, options.seconds), clock)
        pairs = [pair for pair in RATIOS if pair[1] == f"PyTorch {layer}"]
        of_ratios = ratios(seconds, pairs)
        title = f"{layer}, width {options.width}, {options.threads} thread(s)"
        show(title, seconds, of_ratios)
        found[layer] = {"seconds": seconds, "ratios": of_ratios}
    write(options.out, {"options": {**vars(options), "out": None}, "layers": found})


if __name__ == "__main__":
    main()
