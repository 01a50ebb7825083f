"""Compare agrad's attributions with those of Captum, PyTorch's library for attribution.

    python benchmarks/deeplift.py --out results/attribution/captum.json

On random dense networks with ReLU and tanh, the factorized average should equal DeepLift's rescale
rule. On those with tanh alone, the integrated average should equal IntegratedGradients. The figures
are the largest differences of two attributions, relative to the largest attribution of the network.
On networks with a product, a softmax or max pooling, the figures are the largest gaps between an
example's attributions and the change of its output, relative to the largest change. Everything is
in float64. Needs the extra `bench`, and also:

    pip install captum
"""

import argparse
import importlib.metadata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from captum.attr import DeepLift, IntegratedGradients
from race import write

import agrad as ag

Array = np.ndarray
Build = Callable[[Any], Any]
"""Builds a network from torch.nn or agrad.nn, whose modules have the same names."""

INPUTS, OUTPUTS, EXAMPLES = 8, 3, 5


def dense(activations: list[str]) -> Build:
    """Return the builder of a network with a hidden layer for each activation."""

    def build(nn: Any) -> Any:
        hidden = [layer for name in activations for layer in (nn.Linear(8, 8), getattr(nn, name)())]
        return nn.Sequential(*hidden, nn.Linear(8, OUTPUTS))

    return build


def product(nn: Any) -> Any:
    """Return a network that multiplies two layers."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.last = (nn.Linear(8, n) for n in (8, 8, OUTPUTS))

        def forward(self, x: Any) -> Any:
            return self.last(self.one(x) * self.other(x))

    return Product()


def softmax(nn: Any) -> Any:
    """Return a network that ends in a softmax."""
    return nn.Sequential(nn.Linear(INPUTS, OUTPUTS), nn.Softmax(1))


def pooling(nn: Any) -> Any:
    """Return a convolutional network with max pooling."""
    return nn.Sequential(nn.Conv1d(1, 4, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, OUTPUTS))


def pooling_after_relu(nn: Any) -> Any:
    """Return a network in which elements that pooling selects may stay at 0."""
    return nn.Sequential(
        nn.Conv1d(1, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, OUTPUTS)
    )


class Case:
    """One network in both libraries, with inputs, baselines and an output for each example."""

    def __init__(self, build: Build, seed: int, shape: tuple[int, ...] = (INPUTS,)) -> None:
        torch.manual_seed(seed)
        self.theirs = build(torch.nn).double()
        self.ours = build(ag.nn).to("float64")
        self.ours.load_state_dict({k: v.numpy() for k, v in self.theirs.state_dict().items()})
        rng = np.random.default_rng(seed)
        self.x, self.baseline = 2 * rng.normal(size=(2, EXAMPLES, *shape))
        self.target = rng.integers(OUTPUTS, size=EXAMPLES)

    def by_agrad(self, method: Literal["factorized", "integrated"]) -> Array:
        """Return agrad's attributions."""
        return ag.attribute(self.ours, self.x, self.baseline, method=method, target=self.target)

    def by_captum(self, explainer: type, **options: Any) -> Array:
        """Return Captum's attributions."""
        x, baseline, target = map(torch.tensor, (self.x, self.baseline, self.target))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DeepLift announces its hooks
            found = explainer(self.theirs).attribute(x, baseline, target=target, **options)
        return found.detach().numpy()

    def missed(self, attributions: Array) -> float:
        """Return by how much attributions miss the change of an output, at most."""
        with torch.no_grad():
            ends = [self.theirs(torch.tensor(z)).numpy() for z in (self.x, self.baseline)]
        start, end = (values[np.arange(EXAMPLES), self.target] for values in ends[::-1])
        sums = attributions.reshape(EXAMPLES, -1).sum(1)
        return float(np.abs(sums - (end - start)).max() / np.abs(end - start).max())


def difference(ours: Array, theirs: Array) -> float:
    """Return the largest difference, relative to the largest attribution."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def main() -> None:
    """Print the figures, and write them to the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=100, help="dense networks of each sort")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    rescale, integrated = [], []
    for seed in range(options.networks):
        depth = 1 + seed % 4
        names = np.random.default_rng(seed).choice(["ReLU", "Tanh"], depth).tolist()
        case = Case(dense(names), seed)
        rescale.append(difference(case.by_agrad("factorized"), case.by_captum(DeepLift)))
        case = Case(dense(["Tanh"] * depth), seed)
        found = case.by_captum(IntegratedGradients, n_steps=40, method="gausslegendre")
        integrated.append(difference(case.by_agrad("integrated"), found))
    figures: dict[str, Any] = {
        "versions": {name: importlib.metadata.version(name) for name in ("captum", "torch")},
        "networks": options.networks,
        "largest difference": {
            "factorized and DeepLift": max(rescale),
            "integrated and IntegratedGradients": max(integrated),
        },
        "missed": {
            name: {
                "agrad": case.missed(case.by_agrad("factorized")),
                "DeepLift": case.missed(case.by_captum(DeepLift)),
            }
            for name, case in (
                ("product", Case(product, 0)),
                ("softmax", Case(softmax, 0)),
                ("max pooling", Case(pooling, 0, (1, INPUTS))),
                ("max pooling after ReLU", Case(pooling_after_relu, 0, (1, INPUTS))),
            )
        },
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    write(options.out, figures)


if __name__ == "__main__":
    main()
