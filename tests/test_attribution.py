"""Attributions: complete and symmetric, the rescale rule, and integrated gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.errors import NonFiniteError

FEATURES, OUTPUTS = 8, 3
METHODS = ("factorized", "integrated")
Function = Callable[[ag.Tensor], ag.Tensor]

LAYERS: dict[str, Function] = {
    "tanh": np.tanh,
    "relu": F.relu,
    "product": lambda h: h * ag.roll(h, 1, 1),
    "softmax": lambda h: F.softmax(h, 1),
    "max pooling": lambda h: ag.repeat(h.reshape(-1, FEATURES // 2, 2).max(2), 2, 1),
    "log softmax": lambda h: F.log_softmax(h, 1),
}


def weights_of(rng: np.random.Generator, depth: int) -> list[ag.Tensor]:
    shapes = [(FEATURES, FEATURES)] * depth + [(FEATURES, OUTPUTS)]
    return [ag.tensor(rng.normal(0, 0.6, shape), requires_grad=True) for shape in shapes]


def network(weights: list[ag.Tensor], kinds: list[str]) -> Function:
    def model(x: ag.Tensor) -> ag.Tensor:
        for weight, kind in zip(weights, kinds, strict=False):
            x = LAYERS[kind](x @ weight)
        return x @ weights[-1]

    return model


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(LAYERS)) -> tuple[Any, ...]:
    """Draw the layers, their weights, five examples, their baselines, and their targets."""
    layers = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-6, 1.0, 3.0]))
    x = rng.normal(size=(5, FEATURES))
    baseline = x + scale * rng.normal(size=x.shape)
    return layers, weights_of(rng, len(layers)), x, baseline, rng.integers(OUTPUTS, size=5)


def selected(model: Function, x: Any, target: Any) -> Any:
    return model(ag.tensor(x)).data[np.arange(len(x)), target]


@given(cases())
def test_sums_are_the_changes_of_the_outputs_and_swapping_changes_the_sign(case: Any) -> None:
    kinds, weights, x, baseline, target = case
    model = network(weights, kinds)
    found = ag.attribute(model, x, baseline, target=target)
    assert found.shape == x.shape
    change = selected(model, x, target) - selected(model, baseline, target)
    size = 1 + np.abs(found).sum(1)
    assert (np.abs(found.sum(1) - change) <= 1e-10 * size).all()
    back = ag.attribute(model, baseline, x, target=target)
    assert (np.abs(found + back) <= 1e-10 * size[:, None]).all()
    assert all(weight.grad is None and weight.average_grad is None for weight in weights)


def chord(kind: str, first: Any, last: Any) -> Any:
    """Return the slope of an activation's chord."""
    if kind == "tanh":  # for short chords, where digits cancel, the derivative in the middle
        far = np.abs(last - first) > 1e-6
        middle = 1 - np.tanh((first + last) / 2) ** 2
        return np.divide(np.tanh(last) - np.tanh(first), last - first, out=middle, where=far)
    slope = np.where(first > 0, 1.0, 0.0)
    rise = np.maximum(last, 0) - np.maximum(first, 0)
    return np.divide(rise, last - first, out=slope, where=last != first)


def rescale_rule(weights: list[Any], kinds: list[str], x: Any, baseline: Any, target: Any) -> Any:
    """Return DeepLIFT's attributions: each activation has the slope of its chord."""
    ends, chords = (baseline, x), []
    for weight, kind in zip(weights, kinds, strict=False):
        inputs = [end @ weight for end in ends]
        chords.append(chord(kind, *inputs))
        ends = tuple(np.tanh(z) if kind == "tanh" else np.maximum(z, 0) for z in inputs)
    multipliers = weights[-1].T[target]
    for weight, slope in zip(weights[-2::-1], chords[::-1], strict=True):
        multipliers = (multipliers * slope) @ weight.T
    return multipliers * (x - baseline)


@given(cases(("tanh", "relu")))
def test_dense_networks_have_the_attributions_of_the_rescale_rule(case: Any) -> None:
    kinds, weights, x, baseline, target = case
    found = ag.attribute(network(weights, kinds), x, baseline, target=target)
    by_hand = rescale_rule([weight.data for weight in weights], kinds, x, baseline, target)
    np.testing.assert_allclose(found, by_hand, rtol=1e-6, atol=1e-9)


def test_integrated_gradients_are_the_integral() -> None:
    rng = np.random.default_rng(0)
    kinds = ["tanh", "product", "softmax"]
    weights = weights_of(rng, len(kinds))
    x, baseline = rng.normal(size=(2, 5, FEATURES))
    target = rng.integers(OUTPUTS, size=5)
    model = network(weights, kinds)
    integral = 0
    nodes, shares = np.polynomial.legendre.leggauss(40)
    for node, share in zip((nodes + 1) / 2, shares / 2):
        leaf = ag.tensor(baseline + node * (x - baseline), requires_grad=True)
        model(leaf)[np.arange(5), target].sum().backward()
        integral = integral + share * leaf.grad
    for weight in weights:
        weight.zero_grad()
    found = ag.attribute(model, x, baseline, method="integrated", target=target)
    np.testing.assert_allclose(found, integral * (x - baseline), rtol=1e-4, atol=1e-6)
    assert all(weight.grad is None for weight in weights)


@pytest.mark.parametrize("method", METHODS)
def test_a_convolutional_module_in_float32(method: Any) -> None:
    ag.seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(36, 4),
        nn.Softmax(1),
    )
    x = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    found = ag.attribute(model, x, method=method, target=2)
    assert all(module.training for module in model.modules())
    assert all((before[name] == array).all() for name, array in model.state_dict().items())
    assert (found.dtype, found.shape) == (np.float32, x.shape)
    model.eval()
    with ag.no_grad():
        change = (model(x) - model(0 * x)).data[:, 2]
    # Sums of 64 float32 numbers below 1, or the quadrature's tolerance for all six together.
    tolerance = 1e-6 if method == "factorized" else 3e-3
    np.testing.assert_allclose(found.sum((1, 2, 3)), change, atol=tolerance)


def test_a_target_selects_an_output_of_each_example() -> None:
    x = np.arange(1.0, 7.0).reshape(2, 3)
    assert ag.attribute(np.square, x, target=1).tolist() == [[0, 4, 0], [0, 25, 0]]
    assert ag.attribute(np.square, x, target=[2, 0]).tolist() == [[0, 0, 9], [16, 0, 0]]
    assert ag.attribute(np.square, x, target=ag.tensor([2, 0])).tolist() == [[0, 0, 9], [16, 0, 0]]
    column = ag.attribute(lambda x: np.square(x).sum(1, keepdims=True), x)
    assert column.tolist() == (x * x).tolist()
    assert ag.attribute(lambda x: np.square(x).sum(1), x, target=0).tolist() == column.tolist()
    assert ag.attribute(np.square, x[:0], target=1).shape == (0, 3)


def test_baselines_broadcast_and_nothing_is_changed() -> None:
    x, baseline = ag.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), [1, 0]
    with ag.no_grad():
        found = ag.attribute(lambda x: (x * x).sum(1), x, baseline)
    assert found.tolist() == [[0, 4], [8, 16]]
    assert found.dtype == np.float32
    assert x.grad is None
    assert x.average_grad is None


x23 = np.ones((2, 3))
constant = ag.tensor(np.ones((2, 3)), requires_grad=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((np.square, np.ones((2, 3), int)), {}, TypeError, "x has dtype int64"),
        ((np.square, 1.0), {}, ValueError, r"x has shape \(\)"),
        ((np.square, x23, [1j] * 3), {}, TypeError, "baseline has dtype complex128"),
        ((np.square, x23, np.ones((3, 3))), {}, ValueError, r"baseline has shape \(3, 3\).*\(2, 3"),
        ((np.square, x23[0], x23), {}, ValueError, r"baseline has shape \(2, 3\).*\(3,\)"),
        ((lambda x: x.data, x23), {}, TypeError, "model returned a ndarray"),
        ((lambda x: x.sum(), x23), {}, ValueError, r"returned shape \(\) for 2 examples"),
        ((lambda x: x.sum(0), x23), {}, ValueError, r"returned shape \(3,\) for 2 examples"),
        ((np.square, x23), {}, ValueError, r"shape \(2, 3\); target must say which of the 3"),
        ((np.square, x23), {"target": 1.0}, TypeError, "target has dtype float64"),
        ((np.square, x23), {"target": [1]}, ValueError, r"target has shape \(1,\).*\(2,\)"),
        ((np.square, x23), {"target": [0, 3]}, ValueError, "from 0 to 2 .* got 0 to 3"),
        ((np.square, x23), {"target": -1}, ValueError, "from 0 to 2 .* got -1 to -1"),
        ((lambda x: constant * 2, x23), {"target": 0}, ValueError, r"depend on x, of shape \(2, 3"),
        ((lambda x: x.detach() * 2, x23), {"target": 0}, ValueError, "does not depend on x"),
    ],
)
def test_errors(method: Any, arguments: Any, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=f"^attribute: .*{words}"):
        ag.attribute(*arguments, method=method, **options)


def test_an_unknown_method_and_values_without_an_attribution() -> None:
    wrong: Any = "exact"
    with pytest.raises(ValueError, match=r"attribute: method must be .* got 'exact'"):
        ag.attribute(np.square, x23, method=wrong, target=0)
    with pytest.raises(NonFiniteError), np.errstate(invalid="ignore"):
        ag.attribute(np.sqrt, -x23, 1.0, target=0)
    mask = [[False], [True]]  # hides the NaN of the output, not that of the average
    x = np.array([[-1.0], [4.0]])
    words = r"attribute: .* shape \(2, 1\), have NaN"
    with pytest.raises(NonFiniteError, match=words), np.errstate(all="ignore"):
        ag.attribute(lambda x: ag.where(mask, np.sqrt(x), 0.0), x, 1.0)
