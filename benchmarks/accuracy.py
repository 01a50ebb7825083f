"""Map the error of five estimates of the average gradient over depth and step.

    python benchmarks/accuracy.py

writes results/accuracy/map.json. Plain networks with 16 units per layer take a step in a random
direction; their loss is over 16 examples. The estimates are compared with the integral. Errors are
relative to its length, and are medians over the seeds. Takes a few minutes on one core.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import agrad as ag
from agrad.core.average import average_over_nodes

DEPTHS = (1, 4, 10, 30)
STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SEEDS = (0, 1, 2)
WIDTH, EXAMPLES, NODES, PIECES = 16, 16, 40, 200
ACTIVATIONS: dict[str, tuple[Callable[..., Any], float]] = {
    "tanh": (ag.tanh, 1.0),
    "relu": (lambda x: ag.maximum(x, 0.0), 2.0),
}
"""The function, and the variance of the weights times the width."""

FILE = Path(__file__).parents[1] / "results" / "accuracy" / "map.json"


class Network:
    """A plain network with a squared error, and a direction as long as its vector of weights."""

    def __init__(self, activation: str, depth: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.function, variance = ACTIVATIONS[activation]
        size = depth, WIDTH, WIDTH
        self.x = rng.normal(size=(EXAMPLES, WIDTH))
        self.target = rng.normal(size=(EXAMPLES, WIDTH))
        weights = rng.normal(0, np.sqrt(variance / WIDTH), size)
        directions = rng.normal(size=size)
        directions *= np.linalg.norm(weights) / np.linalg.norm(directions)
        self.weights = [ag.tensor(w, requires_grad=True) for w in weights]
        self.directions = list(directions)

    def loss(self) -> ag.Tensor:
        """Return the loss."""
        hidden: Any = self.x
        for weight in self.weights:
            hidden = self.function(hidden @ weight)
        return ((hidden - self.target) ** 2).mean()

    def mean(self, step: float, nodes: list[tuple[float, float]]) -> Any:
        """Return the gradient's weighted mean over positions of the step."""
        starts = [w.data for w in self.weights]
        total: Any = 0.0
        for position, share in nodes:
            for w, start, d in zip(self.weights, starts, self.directions):
                w.data = start + position * step * d
            total = total + share * joined([g.data for g in ag.grad(self.loss(), self.weights)])
        for w, start in zip(self.weights, starts):
            w.data = start
        return total

    def factorized(self, step: float, **options: Any) -> Any:
        """Return the factorized average gradient."""
        for w in self.weights:
            w.zero_grad()
        updates = {w: step * d for w, d in zip(self.weights, self.directions)}
        self.loss().average_backward(updates, **options)
        return joined([w.average_grad for w in self.weights])

    def errors(self, step: float) -> dict[str, float]:
        """Return the relative error of each estimate."""
        integral = self.integral(step)
        estimates = {
            "gradient": self.mean(step, [(0.0, 1.0)]),
            "midpoint": self.mean(step, [(0.5, 1.0)]),
            "trapezoid": self.mean(step, [(0.0, 0.5), (1.0, 0.5)]),
            "factorized": self.factorized(step),
            "extrapolated": self.factorized(step, extrapolate=True),
        }
        size = np.linalg.norm(integral)
        return {k: float(np.linalg.norm(v - integral) / size) for k, v in estimates.items()}

    def integral(self, step: float) -> Any:
        """Return the average gradient, by Gauss-Legendre if smooth, else by many small pieces."""
        if self.function is ag.tanh:
            updates = {w: step * d for w, d in zip(self.weights, self.directions)}
            found = average_over_nodes(self.loss, self.weights, updates, NODES)
            return joined([found[w] for w in self.weights])
        positions = (np.arange(PIECES) + 0.5) / PIECES
        return self.mean(step, [(float(p), 1 / PIECES) for p in positions])


def joined(arrays: list[Any]) -> Any:
    """Return one vector of all arrays."""
    return np.concatenate([array.ravel() for array in arrays])


def measure(activation: str, depth: int, seeds: tuple[int, ...] = SEEDS) -> dict[str, list[float]]:
    """Return each estimate's median errors over the steps."""
    networks = [Network(activation, depth, seed) for seed in seeds]
    found = [[network.errors(step) for network in networks] for step in STEPS]
    return {
        name: [float(f"{np.median([e[name] for e in errors]):.3g}") for errors in found]
        for name in found[0][0]
    }


def main() -> None:
    """Measure the errors and write the file."""
    content = {
        "steps": STEPS,
        "depths": DEPTHS,
        "errors": {a: {str(d): measure(a, d) for d in DEPTHS} for a in ACTIVATIONS},
    }
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
