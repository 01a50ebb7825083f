"""The error of the average gradient to leading order, on smooth graphs and at kinks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad.core.average import average_over_nodes

Array = Any


class Jet:
    """A number at the midpoint, its two derivatives along the step, and its edges."""

    def __init__(self, x: float, dx: float, ddx: float = 0.0, edges: Sequence[Any] = ()) -> None:
        self.x, self.dx, self.ddx, self.edges = x, dx, ddx, edges

    def __add__(self, other: "Jet") -> "Jet":
        edges = [(input, 1.0, 0.0, 0.0) for input in (self, other)]
        return Jet(self.x + other.x, self.dx + other.dx, self.ddx + other.ddx, edges)

    def __mul__(self, other: "Jet") -> "Jet":
        a, b = self, other
        ddx = a.x * b.ddx + 2 * a.dx * b.dx + a.ddx * b.x
        edges = [(a, b.x, b.dx, b.ddx), (b, a.x, a.dx, a.ddx)]
        return Jet(a.x * b.x, a.x * b.dx + a.dx * b.x, ddx, edges)

    def tanh(self) -> "Jet":
        y = float(np.tanh(self.x))
        slope, bend = 1 - y * y, -2 * y * (1 - y * y)
        edges = [(self, slope, bend * self.dx, bend * self.ddx)]
        return Jet(y, slope * self.dx, slope * self.ddx + bend * self.dx**2, edges)


def constants(nodes: Sequence[Jet], leaves: int) -> Array:
    """Return the constant of the error for each leaf; the nodes are in order, the leaves first."""
    sums = {node: np.zeros(4) for node in nodes}
    sums[nodes[-1]][0] = 1.0
    for node in reversed(nodes):
        plain, bent, once, twice = sums[node]
        for source, a, da, j in node.edges:
            sums[source] += [
                a * plain,
                a * bent + j * plain,
                a * once + da * plain,
                a * twice + da * once,
            ]
    return np.array([(sums[leaf][1] - sums[leaf][3]) / 12 for leaf in nodes[:leaves]])


def random_graph(seed: int) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function that computes a random graph of three leaves, and its nodes."""
    rng = np.random.default_rng(seed)
    choices = [(rng.choice(["add", "multiply", "tanh"]), rng.random()) for _ in range(8)]

    def nodes(leaves: Sequence[Any]) -> list[Any]:
        found = list(leaves)
        for kind, place in choices:
            other = found[int(place * len(found))]
            if kind == "tanh":
                found.append(found[-1].tanh() if isinstance(other, Jet) else ag.tanh(found[-1]))
            else:
                found.append(found[-1] + other if kind == "add" else found[-1] * other)
        found.append(leaves[0] * leaves[1])  # so that the root depends on every leaf
        found.append(found[-1] + leaves[2])
        found.append(found[-1] * found[-3])
        return found

    return nodes


def average_of(loss: Callable[[], ag.Tensor], step: dict[ag.Tensor, Any]) -> Array:
    """Return the factorized average of all leaves as one vector."""
    for leaf in step:
        leaf.zero_grad()
    loss().average_backward(step)
    return joined([leaf.average_grad for leaf in step])


def joined(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(array) for array in arrays])


def gradient_at(
    t: float, loss: Callable[[], ag.Tensor], leaves: Sequence[ag.Tensor], step: Sequence[Array]
) -> Array:
    starts = [leaf.data for leaf in leaves]
    for leaf, start, move in zip(leaves, starts, step):
        leaf.data = np.asarray(start + t * move)
    grads = ag.grad(loss(), list(leaves))
    for leaf, start in zip(leaves, starts):
        leaf.data = start
    return joined([grad.data for grad in grads])


@pytest.mark.parametrize("seed", range(12))
def test_the_constant_of_the_error_on_random_graphs(seed: int) -> None:
    nodes = random_graph(seed)
    middle, direction = np.random.default_rng(seed).normal(size=(2, 3))
    rests = []
    for scale in (0.04, 0.02):
        jets = [Jet(float(m), scale * float(d)) for m, d in zip(middle, direction)]
        leaves = [ag.tensor(np.array(jet.x - jet.dx / 2), requires_grad=True) for jet in jets]
        step = {leaf: jet.dx for leaf, jet in zip(leaves, jets)}

        def loss(leaves: Sequence[Any] = leaves) -> ag.Tensor:
            root: ag.Tensor = nodes(leaves)[-1]
            return root

        true = average_over_nodes(loss, leaves, step, 12)
        error = average_of(loss, step) - joined([true[leaf] for leaf in leaves])
        expected = constants(nodes(jets), 3)
        assert np.linalg.norm(expected) > 1e-8
        rests.append(np.linalg.norm(error - expected))
        assert rests[-1] < 0.05 * np.linalg.norm(expected)
    assert rests[1] < rests[0] / 12 + 1e-13  # the fourth power, where it is above rounding


def network(depth: int) -> tuple[Callable[[], ag.Tensor], list[ag.Tensor], list[Array]]:
    rng = np.random.default_rng(0)
    weights = [ag.tensor(rng.normal(0, 0.6, (4, 4)), requires_grad=True) for _ in range(depth)]
    x = rng.normal(size=(5, 4))

    def loss() -> ag.Tensor:
        hidden: Any = x
        for weight in weights:
            hidden = np.tanh(hidden @ weight)
        total: ag.Tensor = (hidden * hidden).sum()
        return total

    return loss, weights, [0.02 * rng.normal(size=(4, 4)) for _ in weights]


def test_the_constants_of_point_rules() -> None:
    loss, weights, step = network(4)
    start, middle, end = (gradient_at(t, loss, weights, step) for t in (0, 0.5, 1))
    found = average_over_nodes(loss, weights, dict(zip(weights, step)), 12)
    true = joined([found[w] for w in weights])
    # The second derivative at the midpoint, by a difference with an error of fourth order.
    second = 4 * (start - 2 * middle + end)
    size = np.linalg.norm(second)
    assert np.linalg.norm(middle - true + second / 24) < 0.002 * size
    assert np.linalg.norm((start + end) / 2 - true - second / 12) < 0.002 * size
    assert size > 1e-3


def relu(x: ag.Tensor) -> ag.Tensor:
    return ag.maximum(x, 0.0)


def kink_errors(
    loss: Callable[..., ag.Tensor], start: Sequence[float], step: Sequence[float]
) -> dict[str, float]:
    """Return the error of each rule; 500 midpoints give the integral."""
    leaves = [ag.tensor(np.array(x), requires_grad=True) for x in start]

    def at(t: float) -> Array:
        return gradient_at(t, lambda: loss(*leaves), leaves, [np.array(d) for d in step])

    true = sum(at((i + 0.5) / 500) for i in range(500)) / 500
    rules = {
        "gradient": at(0),
        "midpoint": at(0.5),
        "trapezoid": (at(0) + at(1)) / 2,
        "average": average_of(lambda: loss(*leaves), dict(zip(leaves, step))),
    }
    return {name: float(np.linalg.norm(rule - true)) for name, rule in rules.items()}


def test_one_crossing_costs_point_rules_a_constant_and_the_average_an_order() -> None:
    def loss(w1: ag.Tensor, w2: ag.Tensor) -> ag.Tensor:
        return w2 * relu(w1 * w1 * w2 - 1)

    long, short = (kink_errors(loss, [1 - s / 4] * 2, [s, s]) for s in (0.08, 0.02))
    jump = np.hypot(2, 1)  # of the gradient, at a quarter of the way
    for name, share in {"gradient": 0.75, "midpoint": 0.25, "trapezoid": 0.25}.items():
        assert short[name] == pytest.approx(share * jump, rel=0.05)
    assert short["average"] < 0.01 * jump
    assert long["average"] / short["average"] == pytest.approx(4, rel=0.25)


def test_two_crossings_on_one_path_cost_a_constant() -> None:
    def loss(w1: ag.Tensor, w2: ag.Tensor) -> ag.Tensor:
        return relu(relu(w1) + w2)

    # The inner unit crosses zero at 1/2, the outer one at 3/5, and its chord from -0.7 to 0.8 at
    # 7/15.
    expected = np.hypot(8 / 15 / 2 - 2 / 5, 8 / 15 - 2 / 5)
    for s in (0.4, 1e-3):
        found = kink_errors(loss, [-0.5 * s, -0.7 * s], [s, s])["average"]
        assert found == pytest.approx(expected, abs=0.003)
