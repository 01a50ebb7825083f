"""Compare what gradients, average gradients and their rivals say about a step with the truth."""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import agrad
import agrad.nn.functional as F
from agrad import optim
from agrad.core.tensor import Tensor
from agrad.data import Batches
from agrad.nn import Module
from agrad.study.networks import make_network
from agrad.study.runs import load_once, rounded

__all__ = ["DIAGONALS", "ESTIMATES", "Estimates"]

Vector = NDArray[np.float64]

_NODES = 32
"""The nodes of the Gauss-Legendre quadrature that is taken as the truth."""


@dataclass(frozen=True)
class Estimates:
    """Estimates of the average gradient of RMSprop's own updates, along a training in float64.

    Attributes:
        at: The iterations, from 1, whose updates are judged.
        scale: The factor on these updates.
        timed: Whether to measure seconds and memory too.
    """

    data: str
    activation: str
    seed: int
    at: tuple[int, ...]
    depth: int = 30
    width: int = 64
    batch_size: int = 128
    lr: float = 1e-3
    scale: float = 1.0
    timed: bool = False

    def result(self) -> dict[str, Any]:
        """Return for each estimate its errors, relative to the truth, at each update judged.

        `vector` is the error of the average gradient itself, against a quadrature. `change` is the
        error of the change of the loss that it predicts. If `timed`, there are also the median
        `seconds` and the `peak_bytes` of NumPy's arrays. Both cover all that an estimate needs,
        such as the gradient at the start.
        """
        data = load_once(self.data)
        options = {"depth": self.depth, "width": self.width, "activation": self.activation}
        agrad.seed(self.seed)
        model, still = (make_network("dense", data, **options).to("float64") for _ in range(2))
        optimizer = optim.RMSprop(model.parameters(), lr=self.lr, alpha=0.9)
        batches = Batches(*data.train, batch_size=self.batch_size, seed=self.seed, drop_last=True)
        found: dict[str, dict[str, Any]] = {
            name: {"vector": [], "change": []} for name in ESTIMATES | DIAGONALS
        }
        for iteration, (inputs, labels) in zip(range(1, max(self.at) + 1), batches.forever()):
            inputs = inputs.astype(np.float64)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            if iteration in self.at:
                still.load_state_dict(model.state_dict())
                before = optimizer.state_dict()
                updates = [self.scale * update for update in optimizer.propose().values()]
                optimizer.load_state_dict(before)
                self._judge(Update(still, inputs, labels, updates, self.seed), found)
            optimizer.step()
        for entry in found.values():
            entry.update({name: rounded(entry[name]) for name in ("vector", "change")})
            if self.timed:
                entry["seconds"] = rounded([median(entry["seconds"])])[0]
                entry["peak_bytes"] = max(entry["peak_bytes"])
        return found

    def _judge(self, update: "Update", found: dict[str, dict[str, Any]]) -> None:
        truth = update.quadrature(_NODES)
        change = update.loss_at(1).item() - update.loss_at(0).item()
        for name, estimate in (ESTIMATES | DIAGONALS).items():
            start = perf_counter()
            value = estimate(update)
            seconds = perf_counter() - start
            error = np.linalg.norm(value - truth) / np.linalg.norm(truth)
            found[name]["vector"].append(float(error))
            found[name]["change"].append(abs(float(value @ update.vector) - change) / abs(change))
            if self.timed:
                found[name].setdefault("seconds", []).append(seconds)
                found[name].setdefault("peak_bytes", []).append(_peak_bytes(estimate, update))


class Update:
    """An update of a network's weights, and gradients along it."""

    def __init__(
        self, model: Module, inputs: Any, labels: Any, updates: list[Any], seed: int
    ) -> None:
        self.model = model
        self.params = list(model.parameters())
        self.inputs = inputs
        self.labels = labels
        self.updates = updates
        self.vector = _vector(updates)
        self.random = np.random.default_rng(seed)
        self._start = [param.data.copy() for param in self.params]

    def loss_at(self, share: float, labels: Any = None) -> Tensor:
        """Return the loss after a share of the update, with its graph."""
        for param, start, update in zip(self.params, self._start, self.updates):
            param.data = start + share * update
            param.zero_grad()
        return F.cross_entropy(self.model(self.inputs), self.labels if labels is None else labels)

    def gradient(self, share: float, labels: Any = None) -> Vector:
        """Return the gradient after a share of the update."""
        self.loss_at(share, labels).backward()
        return _vector([param.grad for param in self.params])

    def average(self, extrapolate: bool = False) -> Vector:
        """Return the factorized average gradient."""
        loss = self.loss_at(0)
        loss.average_backward(dict(zip(self.params, self.updates)), extrapolate=extrapolate)
        return _vector([param.average_grad for param in self.params])

    def quadrature(self, nodes: int) -> Vector:
        """Return the integral of the gradient by Gauss-Legendre quadrature."""
        places, weights = np.polynomial.legendre.leggauss(nodes)
        total: Vector = sum(
            (w / 2 * self.gradient((t + 1) / 2) for t, w in zip(places, weights)),
            np.zeros_like(self.vector),
        )
        return total

    def hessian_product(self, vectors: list[Any]) -> tuple[Vector, Vector]:
        """Return the gradient at the start, and the Hessian's product with vectors."""
        loss = self.loss_at(0)
        product = agrad.hvp(loss, self.params, vectors, retain_graph=True)
        loss.backward()
        return _vector([p.grad for p in self.params]), _vector([part.data for part in product])

    def second_order(self) -> Vector:
        """Return g + HΔ/2."""
        gradient, product = self.hessian_product(self.updates)
        return gradient + product / 2

    def hutchinson(self) -> Vector:
        """Return g + DΔ/2 with AdaHessian's D = z ⊙ Hz, before its averages over steps and space.

        Yao et al., "ADAHESSIAN: an adaptive second order optimizer for machine learning", 2021.
        """
        signs = [self.random.choice([-1.0, 1.0], update.shape) for update in self.updates]
        gradient, product = self.hessian_product(signs)
        return gradient + _vector(signs) * product * self.vector / 2

    def gauss_newton_bartlett(self) -> Vector:
        """Return g + DΔ/2 with Sophia's D = B·s ⊙ s, where s is the gradient for B drawn labels.

        Liu et al., "Sophia: a scalable stochastic second-order optimizer for language model
        pre-training", 2024.
        """
        with agrad.no_grad():
            shares = F.softmax(self.model(self.inputs), 1).numpy().cumsum(1)
        drawn = (self.random.random((len(shares), 1)) > shares).sum(1)
        labels = np.minimum(drawn, shares.shape[1] - 1)
        diagonal = len(labels) * self.gradient(0, labels) ** 2
        return self.gradient(0) + diagonal * self.vector / 2


ESTIMATES: dict[str, Callable[[Update], Vector]] = {
    "gradient": lambda update: update.gradient(0),
    "average gradient": lambda update: update.average(),
    "average gradient, extrapolated": lambda update: update.average(extrapolate=True),
    "trapezoid of two gradients": lambda update: (update.gradient(0) + update.gradient(1)) / 2,
    "gradient at the midpoint": lambda update: update.gradient(0.5),
    "Hessian-vector product": Update.second_order,
    "quadrature with three nodes": lambda update: update.quadrature(3),
}
DIAGONALS: dict[str, Callable[[Update], Vector]] = {
    "diagonal of AdaHessian": Update.hutchinson,
    "diagonal of Sophia": Update.gauss_newton_bartlett,
}


def _vector(parts: list[Any]) -> Vector:
    return np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])


def _peak_bytes(estimate: Callable[[Update], Vector], update: Update) -> int:
    tracemalloc.start()
    try:
        estimate(update)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
