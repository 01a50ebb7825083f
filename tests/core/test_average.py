"""The average backward pass: of every operation, and of random whole graphs.

Completeness, ⟨ĝ, Δ⟩ = change of the loss, is necessary but proves little. It is one equation for
any number of elements: a ĝ that puts all of the change on one element is complete. So is the naive
quotient (f(b) - f(a)) / (b - a), which for a small step is pure rounding error. So the tests also
check ĝ itself: against quadrature of the gradient, against float64, against the gradient for tiny
steps, by its symmetry in start and end, and by the order at which it approaches the true average.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.backend import Array
from agrad.core.average import average_over_nodes
from agrad.core.program import topological_order
from agrad.core.tensor import apply
from agrad.errors import AverageUndefinedError, NonFiniteError
from agrad.ops import activation, arithmetic, pooling, reduction
from agrad.ops.loss import Huber
from agrad.ops.operation import Elementwise, Linear, Multilinear, Operation, Selection
from agrad.testing import check_average_gradients, measure_order
from agrad.testing.order import measure_orders
from agrad.testing.strategies import (
    INSTRUCTIONS,
    OPERATIONS,
    Case,
    Model,
    Program,
    models,
    operations,
    programs,
    seeds,
    updates,
)

every_operation = pytest.mark.parametrize("name", OPERATIONS)
linear_operations = pytest.mark.parametrize(
    "name", [name for name, entry in OPERATIONS.items() if issubclass(entry.operation, Linear)]
)
several = settings(max_examples=10)
few = settings(max_examples=6)
both_dtypes = st.sampled_from([np.float32, np.float64])
sizes = st.floats(-12, 1).map(lambda exponent: 10.0**exponent)
"""The sizes of updates: log-uniform from 1e-12 to 10."""

KINKED = (
    activation.ReLU,
    activation.LeakyReLU,
    activation.ELU,
    activation.SELU,
    activation.Softsign,
    arithmetic.Absolute,
    arithmetic.Clip,
    arithmetic.Maximum,
    arithmetic.Minimum,
    reduction.Max,
    reduction.Min,
    pooling.MaxPool,
    Huber,
)

Leaves = Sequence[ag.Tensor]


class Step:
    """An operation in a loss ⟨cotangent, f(x)⟩, and a step of its inputs inside their domains."""

    def __init__(self, case: Case, size: float, seed: int, dtype: Any = np.float64) -> None:
        rng = np.random.default_rng(seed)
        self.case = case
        self.starts = [x.astype(dtype) for x in case.inputs]
        # The rounded sum of start and update, so that the update is exactly the step between them.
        self.ends = [
            domain.step(x, (size * rng.uniform(-1, 1, x.shape)).astype(dtype))
            for x, domain in zip(self.starts, case.domains, strict=True)
        ]
        with ag.no_grad():
            out = case(*map(ag.tensor, self.starts))
        self.cotangent = rng.normal(size=out.shape).astype(dtype)

    def loss(self, leaves: Leaves) -> ag.Tensor:
        return (self.case(*leaves) * self.cotangent).sum()

    def gradient(self) -> list[Array]:
        leaves = [ag.tensor(x, requires_grad=True) for x in self.starts]
        self.loss(leaves).backward()
        return [leaf.grad for leaf in leaves]

    def average(self, starts: Sequence[Array], ends: Sequence[Array]) -> list[Array]:
        leaves = [ag.tensor(x, requires_grad=True) for x in starts]
        updates = {leaf: end - leaf.data for leaf, end in zip(leaves, ends, strict=True)}
        self.loss(leaves).average_backward(updates)
        return [leaf.average_grad for leaf in leaves]

    def operations(self) -> list[Operation]:
        leaves = [ag.tensor(x, requires_grad=True) for x in self.starts]
        return [n.operation for n in topological_order(self.case(*leaves).node)]


def absolute_sum(*pairs: tuple[Array, Array]) -> float:
    return sum(float(np.abs(x * y).sum(dtype=np.float64)) for x, y in pairs)


def inner(gradients: Sequence[Array], updates: Sequence[Array]) -> float:
    pairs = zip(gradients, updates, strict=True)
    return sum(float((g.astype(np.float64) * u).sum()) for g, u in pairs)


def largest(*arrays: Array) -> float:
    return max((float(np.abs(array).max(initial=0)) for array in arrays), default=0.0)


def assert_close(results: Sequence[Array], references: Sequence[Array], tolerance: float) -> None:
    for result, reference in zip(results, references, strict=True):
        assert largest(result - reference) <= tolerance


# -- single operations ---------------------------------------------------------------------------


@every_operation
@several
@given(data=st.data(), size=sizes, seed=seeds, dtype=both_dtypes)
def test_operation_is_complete(name: str, data: Any, size: float, seed: int, dtype: Any) -> None:
    """To 1e-12 in float64 and 64 eps in float32, relative to a sum of absolute terms.

    The terms are |cotangent · y| of the values that are subtracted, and |ĝ · x|, as the end is
    rounded.
    """
    step = Step(data.draw(operations(name)), size, seed, dtype)
    leaves = [ag.tensor(x, requires_grad=True) for x in step.starts]
    updates = {leaf: end - leaf.data for leaf, end in zip(leaves, step.ends, strict=True)}
    loss = step.loss(leaves)
    end = loss.average_backward(updates)
    averages = [leaf.average_grad for leaf in leaves]
    with ag.no_grad():
        values = [step.case(*map(ag.tensor, inputs)).data for inputs in (step.starts, step.ends)]
    scale = absolute_sum(
        *[(step.cotangent, value) for value in values],
        *zip(averages, step.starts, strict=True),
        *zip(averages, step.ends, strict=True),
    )
    change = inner([step.cotangent], [values[1].astype(np.float64) - values[0]])
    tolerance = 1e-12 if dtype == np.float64 else 64 * np.finfo(dtype).eps
    assert abs(inner(averages, list(updates.values())) - change) <= tolerance * scale
    assert abs(float(end) - float(loss.data) - change) <= tolerance * scale


@every_operation
@several
@given(data=st.data(), size=sizes, seed=seeds)
def test_operation_agrees_with_quadrature(name: str, data: Any, size: float, seed: int) -> None:
    """With a single nonlinear operation, ĝ is the average gradient itself, not an approximation.

    Quadrature of a step function is off by the weight of a node, 0.024 with 64 nodes, for each
    jump. Eight nodes are exact for products, and for short steps without jumps: domains keep inputs
    0.3 from the nearest pole, so eight nodes err by less than 1e-16 along a step of at most 0.05.
    """
    step = Step(data.draw(operations(name)), size, seed)
    curved = [op for op in step.operations() if not isinstance(op, Linear)]
    exact = (Linear, Multilinear, Elementwise, Selection, pooling.MaxPool)
    kinked = any(isinstance(op, KINKED) for op in curved)
    nodes, precision = 64, 0.1 if kinked else 1e-9
    if len(curved) > 1 or not all(averages_as(op, exact) for op in curved):
        size_limit, precision = 1e-3, 1e-3  # beyond which ĝ, right to second order, may differ
        nodes = 64 if kinked else 8
        step.ends = [
            x + (end - x) * min(1, size_limit / size)
            for x, end in zip(step.starts, step.ends, strict=True)
        ]
    elif all(averages_as(op, (Linear, Multilinear)) for op in curved) or (
        size <= 0.05 and not kinked
    ):
        nodes = 8
    leaves = [ag.tensor(x, requires_grad=True) for x in step.starts]
    updates = {leaf: end - leaf.data for leaf, end in zip(leaves, step.ends, strict=True)}
    reference = average_over_nodes(lambda: step.loss(leaves), leaves, updates, nodes=nodes)
    averages = step.average(step.starts, step.ends)
    references = [reference[leaf] for leaf in leaves]
    assert_close(averages, references, precision * (largest(*references, step.cotangent)))


def averages_as(operation: Operation, kinds: tuple[type[Operation], ...]) -> bool:
    """Return whether the operation inherits the averaged Jacobian of its kind."""
    return type(operation).average_backward in [kind.average_backward for kind in kinds]


@every_operation
@few
@given(data=st.data(), size=sizes, seed=seeds)
def test_start_and_end_may_be_exchanged(name: str, data: Any, size: float, seed: int) -> None:
    step = Step(data.draw(operations(name)), size, seed)
    there = step.average(step.starts, step.ends)
    back = step.average(step.ends, step.starts)
    assert_close(there, back, 1e-9 * largest(*there, step.cotangent))


@every_operation
@few
@given(
    data=st.data(),
    size=st.just(0.0) | st.floats(-12, -9).map(lambda exponent: 10.0**exponent),
    seed=seeds,
    dtype=both_dtypes,
)
def test_a_tiny_step_gives_the_gradient(
    name: str, data: Any, size: float, seed: int, dtype: Any
) -> None:
    step = Step(data.draw(operations(name)), size, seed, dtype)
    averages, gradients = step.average(step.starts, step.ends), step.gradient()
    scale = largest(*gradients, step.cotangent)
    assert_close(averages, gradients, max(64 * np.finfo(dtype).eps, 1e3 * size) * scale)


@linear_operations
@few
@given(data=st.data(), size=sizes, seed=seeds)
def test_linear_operations_give_the_gradient_for_any_step(
    name: str, data: Any, size: float, seed: int
) -> None:
    step = Step(data.draw(operations(name)), size, seed)
    if all(isinstance(op, Linear) for op in step.operations()):
        for average, gradient in zip(
            step.average(step.starts, step.ends), step.gradient(), strict=True
        ):
            np.testing.assert_array_equal(average, gradient)


@every_operation
@few
@given(data=st.data(), size=sizes, seed=seeds)
def test_float32_average_agrees_with_float64(name: str, data: Any, size: float, seed: int) -> None:
    """Within 64 times the effect of rounding start, end and cotangent: see test_gradients.

    The naive quotient is off by eps / size here.
    """
    step = Step(data.draw(operations(name)), size, seed, np.float32)
    results = step.average(step.starts, step.ends)
    rng, eps = np.random.default_rng(seed), np.finfo(np.float32).eps
    cotangent = step.cotangent.astype(np.float64)

    def in_float64(perturbation: float) -> list[Array]:
        def near(x: Array) -> Array:
            return x * (1 + perturbation * rng.choice([-1.0, 1.0], x.shape))

        step.cotangent = near(cotangent)
        return step.average([*map(near, step.starts)], [*map(near, step.ends)])

    references = in_float64(0.0)
    perturbed = [in_float64(eps) for _ in range(4)]
    for i, (result, reference) in enumerate(zip(results, references, strict=True)):
        spread = max(largest(other[i] - reference) for other in perturbed)
        assert largest(result - reference) <= 64 * (spread + eps * largest(reference))


@every_operation
@settings(max_examples=3)
@given(data=st.data(), size=st.floats(-3, 0).map(lambda exponent: 10.0**exponent), seed=seeds)
def test_operation_passes_the_check(name: str, data: Any, size: float, seed: int) -> None:
    step = Step(data.draw(operations(name)), size, seed)
    leaves = [ag.tensor(x, requires_grad=True) for x in step.starts]
    moves = {leaf: end - leaf.data for leaf, end in zip(leaves, step.ends, strict=True)}
    check_average_gradients(step.case, leaves, moves, seed=seed)


@pytest.mark.parametrize("factors", [5, 6, 16])
@pytest.mark.parametrize("operation", ["prod", "einsum"])
def test_products_of_many_factors_are_averaged_exactly(operation: str, factors: int) -> None:
    """A polynomial of that degree takes more than two nodes, and unequal weights."""
    rng = np.random.default_rng(0)
    x = ag.tensor(rng.uniform(0.5, 1.5, factors), requires_grad=True)
    subscripts = ",".join(["i"] * factors) + "->"

    def f() -> ag.Tensor:
        if operation == "prod":
            return ag.prod(x)
        return ag.einsum(subscripts, *[x[i : i + 1] for i in range(factors)])

    updates = {x: rng.uniform(-2, 2, factors)}
    f().average_backward(updates)
    truth = ag.average_gradient(f, [x], updates, nodes=16)[x]
    assert_close([x.average_grad], [truth], 1e-13 * largest(truth))


# -- random whole graphs -------------------------------------------------------------------------


@settings(max_examples=250)
@given(
    program=programs(),
    data=st.data(),
    dtype=both_dtypes,
    path=st.sampled_from([{}, {}, {"segments": 3}, {"extrapolate": True}]),
)
def test_random_graphs_are_complete(
    program: Program, data: Any, dtype: Any, path: dict[str, Any]
) -> None:
    """To 1e-12 in float64 and 256 eps in float32, relative to a sum of absolute terms.

    The terms are |ĝ v| for all values v of the graph, at start and end: each was rounded, and its ĝ
    tells how its rounding error changes the loss. Probes, zeros added to each value, give that ĝ.
    """
    leaves = program.leaves(dtype)
    moves = data.draw(updates(leaves))
    with ag.no_grad():
        shapes = [value.shape for value in program.run(leaves)[len(leaves) :]]
    probes = [ag.tensor(np.zeros(shape, dtype), requires_grad=True) for shape in shapes]
    values = program.run(leaves, probes)
    loss = program.loss(values)
    end = loss.average_backward(moves, **path)

    with ag.no_grad():
        moved = [ag.tensor(leaf.data + moves.get(leaf, dtype(0))) for leaf in leaves]
        end_values = program.run(moved)
        end_loss = program.loss(end_values).data
    averages = [tensor.average_grad for tensor in (*leaves, *probes)]
    scale = sum(
        absolute_sum((average, before.data), (average, after.data))
        for average, before, after in zip(averages, values, end_values, strict=True)
    )
    got = inner([leaf.average_grad for leaf in moves], list(moves.values()))
    tolerance = 1e-12 if dtype == np.float64 else 256 * np.finfo(dtype).eps
    assert abs(float(end) - float(end_loss)) <= tolerance * scale
    assert abs(got - (float(end) - float(loss.data))) <= tolerance * scale


@settings(max_examples=60)
@given(program=programs(smooth=True), data=st.data(), size=st.sampled_from([1e-300, 1e-12, 1e-10]))
def test_random_graphs_have_the_gradient_for_a_tiny_step(
    program: Program, data: Any, size: float
) -> None:
    leaves = program.leaves()
    loss = program(*leaves)
    moves = data.draw(updates(leaves, smallest=size, largest=size))
    loss.average_backward(moves, retain_graph=True)
    loss.backward()
    gradients = [leaf.grad for leaf in leaves]
    assert_close(
        [leaf.average_grad for leaf in leaves], gradients, 1e-6 * (1 + largest(*gradients))
    )


@settings(max_examples=15)
@given(model=models(), data=st.data(), seed=seeds)
def test_models_pass_the_check(model: Model, data: Any, seed: int) -> None:
    moves = data.draw(updates(list(model.module.parameters()), smallest=1e-3, largest=1.0))
    check_average_gradients(model.module, [ag.tensor(model.input)], moves, seed=seed)


def error(
    f: Callable[[], ag.Tensor], leaves: Leaves, updates: dict[Any, Array], **path: Any
) -> float:
    """Return the largest error of the factorized average gradient."""
    for leaf in leaves:
        leaf.zero_grad()
    f().average_backward(updates, **path)
    reference = average_over_nodes(f, leaves, updates, nodes=8)
    return largest(*[leaf.average_grad - reference[leaf] for leaf in leaves])


def test_random_graphs_have_the_order_promised() -> None:
    """Most graphs do: a few may still be far from the limit, or have errors that change sign."""
    orders: dict[str, list[float]] = {"one segment": [], "extrapolated": []}

    @settings(max_examples=25, derandomize=True, database=None)
    @given(program=programs(smooth=True, min_steps=10, max_steps=16), data=st.data())
    def measure(program: Program, data: Any) -> None:
        leaves = program.leaves()
        moves = data.draw(updates(leaves, smallest=0.4, largest=0.4))
        paths = [{}, {"extrapolate": True}]
        measured = measure_orders(lambda: program(*leaves), leaves, moves, paths)
        for name, order in zip(orders, measured, strict=True):
            assert order is not None
            orders[name].append(order)

    measure()
    for name, least in ("one segment", 1.8), ("extrapolated", 3.5):
        measured = [value for value in orders[name] if value < math.inf]
        assert len(measured) >= 10
        assert np.mean([value >= least for value in measured]) >= 0.9
        assert np.median(measured) == pytest.approx(round(least), abs=0.1)


@pytest.mark.parametrize("name", [i.name for i in INSTRUCTIONS if i.smooth])
def test_each_instruction_has_the_order_promised(name: str) -> None:
    """Between curved functions: inputs move on curves, and the output's gradient moves."""
    instruction = next(i for i in INSTRUCTIONS if i.name == name)
    rng = np.random.default_rng(1)
    leaves = [ag.tensor(rng.uniform(-1, 1, (3, 3)), requires_grad=True) for _ in range(2)]
    moves = {leaf: 0.2 * rng.uniform(-1, 1, (3, 3)) for leaf in leaves}
    weights = rng.normal(size=(3, 3))

    def f() -> ag.Tensor:
        x, y = leaves
        inputs = [ag.exp(x * y), ag.sin(x + y)][: instruction.operands]
        out = instruction.function(*inputs)
        return (ag.tanh(out) * x * weights[: out.shape[0], : out.shape[1]]).sum()

    order, extrapolated = measure_orders(f, leaves, moves, [{}, {"extrapolate": True}])
    assert order >= 1.8
    assert extrapolated >= 3.5


# -- how near an averaged Jacobian is to the integral ----------------------------------------------


ROWS = {
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "logsumexp": lambda x: ag.logsumexp(x, axis=1),
    "cross_entropy": lambda x: F.cross_entropy(x, [0, 2], reduction="none"),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
}
COMPOSED = {
    "divide": lambda x: x[0] / (3 + x[1]),
    "power": lambda x: (3 + x[0]) ** x[1],
    "std": lambda x: ag.std(x, axis=1),
}


def distances_from_the_integral(f: Callable[[Any], ag.Tensor], sizes: Sequence[float]) -> Array:
    """Return the largest errors of ĝ for steps of these sizes in one direction."""
    rng = np.random.default_rng(3)
    start, direction = rng.uniform(-1, 1, (2, 2, 4))
    out = f(ag.tensor(start))
    cotangent = rng.normal(size=out.shape)
    found = []
    for size in sizes:
        # The midpoint stays, so that the error is an even function of the size.
        x = ag.tensor(start - 0.5 * size * direction, requires_grad=True)
        updates = {x: size * direction}

        def loss(x: ag.Tensor = x) -> ag.Tensor:
            return (f(x) * cotangent).sum()

        loss().average_backward(updates)
        reference = average_over_nodes(loss, [x], updates, nodes=24)[x]
        found.append(largest(x.average_grad - reference))
    return np.array(found)


@pytest.mark.parametrize("name", ROWS)
def test_a_corrected_quadrature_errs_by_the_sixth_power_of_the_step(name: str) -> None:
    errors = distances_from_the_integral(ROWS[name], [2, 1, 0.5])
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composition_errs_by_the_square_of_the_step(name: str) -> None:
    errors = distances_from_the_integral(COMPOSED[name], [0.1, 0.05, 0.025])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2, atol=0.02)


@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "layer_norm"])
def test_a_classifier_has_the_order_promised(normalized: bool) -> None:
    """Corrected quadratures average its loss and its normalization."""
    rng = np.random.default_rng(0)
    w1, w2 = (ag.tensor(rng.normal(size=shape), requires_grad=True) for shape in ((5, 4), (4, 3)))
    x, labels = rng.normal(size=(6, 5)), rng.integers(0, 3, 6)

    def f() -> ag.Tensor:
        hidden = ag.tanh(ag.tensor(x) @ w1)
        return F.cross_entropy((F.layer_norm(hidden, 4) if normalized else hidden) @ w2, labels)

    moves = {w: 0.3 * rng.normal(size=w.shape) for w in (w1, w2)}
    assert measure_order(f, [w1, w2], moves) == pytest.approx(2, abs=0.1)
    assert measure_order(f, [w1, w2], moves, extrapolate=True) == pytest.approx(4, abs=0.3)


class Turned(Multilinear):
    """x₀ x₁. Its average adds p p₀ / |d| to the Jacobian at the midpoint, with p orthogonal to d.

    That is complete, symmetric and consistent, but has a kink where start and end are equal.
    """

    def forward(self, x: Array) -> Array:
        return x[0] * x[1]

    def backward(self, grad: Array, needs: Any, out: Array, x: Array) -> Any:
        return (grad * x[::-1],)

    def average_backward(self, grad: Array, needs: Any, start: Any, end: Any) -> Any:
        (average,) = super().average_backward(grad, needs, start, end)
        d = end.inputs[0] - start.inputs[0]
        length = np.hypot(*d)
        p = np.array([-d[1], d[0]])
        return (average + grad * p * p[0] / (length if length else 1),)


def test_an_average_with_a_kink_at_equal_ends_is_of_first_order_only() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        start, step = rng.normal(size=(2, 2))
        averages = []
        for first, delta in (start, step), (start + step, -step), (start, 0 * step):
            x = ag.tensor(first, requires_grad=True)
            loss = apply(Turned(), x)
            change = loss.average_backward({x: delta}) - loss.item()
            assert x.average_grad @ delta == pytest.approx(change, abs=1e-14)
            averages.append(x.average_grad)
        there, back, still = averages
        np.testing.assert_allclose(there, back, rtol=1e-13)
        np.testing.assert_array_equal(still, start[::-1])
        x = ag.tensor(start, requires_grad=True)
        order = measure_order(lambda x=x: apply(Turned(), x), [x], {x: step})
        assert order == pytest.approx(1, abs=1e-6)


def test_elu_has_second_order_though_its_second_derivative_jumps() -> None:
    """All inputs of the first ELU cross its kink: the error is not an even function, but O(Δ²)."""
    x = ag.tensor(np.zeros(4), requires_grad=True)
    direction = np.random.default_rng(0).normal(size=4)

    def f() -> ag.Tensor:
        return (F.elu(x) * F.elu(x[::-1]) * np.arange(1.0, 5)).sum()

    errors = []
    for size in (0.1, 0.05, 0.025):
        x.zero_grad()
        f().average_backward({x: size * direction})
        true = average_over_nodes(f, [x], {x: size * direction}, nodes=24)[x]
        errors.append(largest(x.average_grad - true))
    for before, after in itertools.pairwise(errors):
        assert math.log2(before / after) == pytest.approx(2, abs=0.1)


def test_a_segment_that_lies_in_a_kink_is_complete() -> None:
    """The field that backward returns there is conservative, so its integral is complete."""
    u, v = (ag.tensor(np.array([0.5, -1.0]), requires_grad=True) for _ in range(2))
    updates = {u: np.array([1.0, 2.0]), v: np.array([1.0, 2.0])}

    def f() -> ag.Tensor:
        return (3 * F.relu(u - v) + ag.maximum(u, v) * u + ag.abs(u - v)).sum()

    loss = f()
    change = loss.average_backward(updates) - loss.item()
    true = ag.average_gradient(f, [u, v], updates)
    assert inner([u.average_grad, v.average_grad], [*updates.values()]) == pytest.approx(change)
    assert inner([true[u], true[v]], [*updates.values()]) == pytest.approx(change)


# -- examples ------------------------------------------------------------------------------------


def test_the_average_of_a_product_is_not_the_product_of_averages() -> None:
    w1, w2 = (ag.tensor(np.array(0.0), requires_grad=True) for _ in range(2))

    def f() -> ag.Tensor:
        return w1 * w1 * w2

    updates = {w1: 1.0, w2: 1.0}
    assert f().average_backward(updates) == 1
    assert (w1.average_grad, w2.average_grad) == (0.5, 0.5)
    true = ag.average_gradient(f, [w1, w2], updates)
    np.testing.assert_allclose([true[w1], true[w2]], [2 / 3, 1 / 3], rtol=1e-14)


@pytest.fixture
def network() -> tuple[Callable[[], ag.Tensor], list[ag.Tensor], dict[Any, Array]]:
    """Six tanh layers, their weights, and an update about as large as they are."""
    rng = np.random.default_rng(0)
    weights = [ag.tensor(rng.normal(0, 1 / 4, (16, 16)), requires_grad=True) for _ in range(6)]
    x, target = rng.normal(size=(2, 8, 16))

    def f() -> ag.Tensor:
        hidden = ag.tensor(x)
        for weight in weights:
            hidden = ag.tanh(hidden @ weight)
        return ((hidden - target) * (hidden - target)).sum()

    return f, weights, {weight: rng.normal(0, 1 / 4, (16, 16)) for weight in weights}


def norm(arrays: Sequence[Array]) -> float:
    return math.sqrt(sum(float((a * a).sum()) for a in arrays))


def test_six_tanh_layers(network: Any) -> None:
    """The errors against quadrature, and completeness, as the update is halved."""
    f, weights, update = network
    errors: dict[str, list[float]] = {"gradient": [], "factorized": [], "extrapolated": []}
    for halvings in range(5):
        shorter = {weight: delta / 2**halvings for weight, delta in update.items()}
        reference = ag.average_gradient(f, weights, shorter, nodes=24)
        for name in errors:
            for weight in weights:
                weight.zero_grad()
            loss = f()
            if name == "gradient":
                loss.backward()
                found = [weight.grad for weight in weights]
            else:
                end = loss.average_backward(shorter, extrapolate=name == "extrapolated")
                found = [weight.average_grad for weight in weights]
                change = float(end) - float(loss.data)
                scale = absolute_sum(*zip(found, shorter.values(), strict=True))
                scale += abs(float(end)) + abs(float(loss.data))
                assert abs(inner(found, list(shorter.values())) - change) <= 1e-14 * scale
            truth = [reference[weight] for weight in weights]
            errors[name].append(
                norm([a - b for a, b in zip(found, truth, strict=True)]) / norm(truth)
            )
    for name, expected in ("gradient", 1), ("factorized", 2), ("extrapolated", 4):
        assert math.log2(errors[name][-2] / errors[name][-1]) == pytest.approx(expected, abs=0.2)
    assert errors["extrapolated"][-1] < errors["factorized"][-1] < errors["gradient"][-1]


def test_segments_reduce_the_error_quadratically_and_stay_complete(network: Any) -> None:
    f, weights, update = network
    errors = [error(f, weights, update, segments=n) for n in (4, 8, 16)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)
    loss = f()
    for weight in weights:
        weight.zero_grad()
    end = loss.average_backward(update, segments=5)
    change = inner([weight.average_grad for weight in weights], list(update.values()))
    assert change == pytest.approx(float(end) - float(loss.data), rel=1e-12)


def test_a_linear_model_gives_the_gradient_for_any_update() -> None:
    rng = np.random.default_rng(0)
    weight = ag.tensor(rng.normal(size=(3, 4)), requires_grad=True)
    bias = ag.tensor(rng.normal(size=3), requires_grad=True)
    loss = ((ag.tensor(rng.normal(size=(5, 4))) @ weight.T + bias) * rng.normal(size=3)).mean()
    updates = {weight: rng.normal(0, 100, (3, 4)), bias: rng.normal(0, 1e-9, 3)}
    loss.average_backward(updates, retain_graph=True)
    loss.backward()
    for leaf in (weight, bias):
        np.testing.assert_allclose(leaf.average_grad, leaf.grad, rtol=1e-14)


def test_leaves_that_do_not_move_get_an_average_too() -> None:
    x, y = (ag.tensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
    (x * y).sum().average_backward({x: [2.0, 2.0]})
    np.testing.assert_array_equal(y.average_grad, [2, 3])
    np.testing.assert_array_equal(x.average_grad, [1, 2])


BASES, EXPONENTS = (0.0, 1e-3, 1.0, 20.0), (-3.0, -1.0, 0.0, 0.5, 3.0)


@pytest.mark.parametrize("x0", BASES)
@pytest.mark.parametrize("y0", EXPONENTS)
def test_a_power_is_averaged_on_a_path_where_it_is_finite(x0: float, y0: float) -> None:
    for x1, y1 in itertools.product(BASES, EXPONENTS):
        with np.errstate(all="ignore"):
            start, end, *corners = np.power([x0, x1, x1, x0], [y0, y1, y0, y1])
        if x0 == x1 == 0 or not np.isfinite([start, end]).all() or not np.isfinite(corners).any():
            continue
        x, y = (ag.tensor(np.array(value), requires_grad=True) for value in (x0, y0))
        (x**y).average_backward({x: x1 - x0, y: y1 - y0})
        parts = [x.average_grad * (x1 - x0), y.average_grad * (y1 - y0)]
        scale = max(start, end, *np.where(np.isfinite(corners), corners, 0))
        np.testing.assert_allclose(sum(parts), end - start, rtol=0, atol=1e-11 * scale)


def test_a_power_from_a_negative_exponent_to_zero_to_the_power_of_zero() -> None:
    x, y = (ag.tensor(np.array(value), requires_grad=True) for value in (20.0, -1.0))
    (x**y).average_backward({x: -20.0, y: 1.0})
    assert (x.average_grad, y.average_grad) == (0, 0.95)


def test_no_update_at_all_gives_the_gradient() -> None:
    x = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
    loss = ag.tanh(x * x).sum()
    assert loss.average_backward({}, retain_graph=True) == loss.data
    loss.backward()
    np.testing.assert_array_equal(x.average_grad, x.grad)


@settings(max_examples=40)
@given(program=programs(), dtype=both_dtypes, segments=st.integers(1, 3))
def test_where_nothing_moves_it_is_the_gradient_bit_for_bit(
    program: Program, dtype: Any, segments: int
) -> None:
    leaves = program.leaves(dtype)
    loss = program(*leaves)
    assert loss.average_backward({}, segments=segments, retain_graph=True) == loss.data
    loss.backward()
    for leaf in leaves:
        total = sum([leaf.grad] * (segments - 1), leaf.grad)
        expected = total / segments if segments > 1 else total
        np.testing.assert_array_equal(leaf.average_grad, expected)


class Unkind(Operation):
    """A function without an averaged Jacobian."""

    def forward(self, x: Array) -> Array:
        return x * x

    def backward(self, grad, needs, out, x):
        return (2 * x * grad,)


@pytest.mark.parametrize("update", [{}, [1.0, 1.0]], ids=["nothing moves", "it moves"])
def test_an_operation_without_a_kind_raises_and_is_named(update: Any) -> None:
    x = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
    loss = ag.tanh(apply(Unkind(), x)).sum()
    with pytest.raises(AverageUndefinedError, match="Unkind"):
        loss.average_backward({x: update} if update else {})
    assert x.average_grad is None


# -- average_gradient ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", [{}, {"segments": 3}, {"extrapolate": True}])
@pytest.mark.parametrize(
    "outside",
    [
        np.sqrt,
        np.log,
        lambda x: 1.0 / (1.0 + np.exp(x * -3000.0)),  # which overflows
        lambda x: x**0.5,
    ],
)
def test_a_nan_beside_a_finite_value_raises(outside: Any, path: Any, dtype: Any) -> None:
    still = ag.tensor(np.ones(2, dtype), requires_grad=True)
    x = ag.tensor(np.array([4.0, 1.0], dtype), requires_grad=True)
    with np.errstate(all="ignore"):
        loss = (ag.where(np.array([True, False]), outside(x), 0.0) * still).sum() + x.sum()
        update = {x: np.array([-1.0, -3.0])}
        with pytest.raises(
            NonFiniteError, match=r"a leaf of shape \(2,\) has NaN, although the va"
        ):
            loss.average_backward(update, **path)
    assert x.average_grad is None
    assert still.average_grad is None


def test_an_infinite_slope_is_not_nan() -> None:
    x = ag.tensor([0.0], requires_grad=True)
    with np.errstate(divide="ignore"):
        np.sqrt(x).sum().average_backward({x: [0.0]})
    assert x.average_grad == np.inf


@pytest.mark.parametrize("pack", [list, tuple, iter, lambda params: (p for p in params)])
def test_average_gradient_takes_any_iterable_of_parameters(pack: Any) -> None:
    x, y = (ag.tensor(1.0, requires_grad=True) for _ in range(2))
    found = ag.average_gradient(lambda: x * y, pack([x, y]), {x: 1.0})
    assert {p: float(grad) for p, grad in found.items()} == {x: 1.0, y: 1.5}


def test_average_gradient_takes_a_parameter_but_not_none() -> None:
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    found = ag.average_gradient(lambda: (x * x).sum(), x, {x: [2.0, 0.0]})
    np.testing.assert_allclose(found[x], [4, 4])
    used_up = iter([x])
    list(used_up)
    with pytest.raises(ValueError, match="average_gradient: params is empty"):
        ag.average_gradient(lambda: (x * x).sum(), used_up, {})


def test_average_gradient_restores_values_and_gradients() -> None:
    x = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
    bystander = ag.tensor(np.array([3.0, 4.0]), requires_grad=True)
    array, seen = x.data, []

    def f() -> ag.Tensor:
        seen.append(x.data.copy())
        return (x * x * bystander).sum()

    (average,) = ag.average_gradient(f, [x], {x: [1.0, -1.0]}, nodes=2).values()
    np.testing.assert_allclose(average, [3 * 3, 4 * 3], rtol=1e-15)
    assert x.data is array
    assert x.grad is bystander.grad is x.average_grad is None
    np.testing.assert_allclose(np.mean(seen, axis=0), [1.5, 1.5])

    def broken() -> ag.Tensor:
        raise KeyError

    with pytest.raises(KeyError):
        ag.average_gradient(broken, [x], {x: [1.0, -1.0]})
    assert x.data is array
    x.data[0] = 5


def test_average_gradient_is_exact_to_degree_twice_nodes() -> None:
    x = ag.tensor(np.array(0.5), requires_grad=True)
    average = ag.average_gradient(lambda: x**6, [x], {x: 1.0}, nodes=3)[x]
    assert average == pytest.approx(1.5**6 - 0.5**6, rel=1e-14)
    rough = ag.average_gradient(lambda: x**8, [x], {x: 1.0}, nodes=3)[x]
    assert rough != pytest.approx(1.5**8 - 0.5**8, rel=1e-6)


def test_average_gradient_sums_in_float64() -> None:
    x = ag.tensor(1.0, requires_grad=True)
    average = ag.average_gradient(lambda: x * 3.3, [x], {x: 0.5}, nodes=100)[x]
    assert average.dtype == np.float32
    assert average == np.float32(3.3)


def relu_network(dtype: type) -> tuple[Callable[[], ag.Tensor], list[ag.Tensor]]:
    """A deep ReLU network, along whose updates the gradient jumps hundreds of times."""
    ag.seed(1)
    layers = [layer for _ in range(8) for layer in (nn.Linear(16, 16), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(16, 4)).to(dtype)
    rng = np.random.default_rng(0)
    x, classes = rng.normal(size=(64, 16)).astype(dtype), rng.integers(4, size=64)
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return lambda: F.cross_entropy(model(x), classes), list(model.parameters())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("step", [1e-3, 3e-2])
def test_average_gradient_across_kinks(step: float, dtype: type) -> None:
    f, params = relu_network(dtype)
    rng = np.random.default_rng(2)
    update = {p: step * np.sign(rng.normal(size=p.shape)).astype(dtype) for p in params}

    def flat(grads: dict[ag.Tensor, Array]) -> Array:
        return np.concatenate([grads[p].ravel() for p in params]).astype(np.float64)

    # Within 5e-4 of the result with 1500 nodes: a jump costs about the weight of a node.
    true = flat(average_over_nodes(f, params, update, nodes=400))
    average = ag.average_gradient(f, params, update)
    assert np.linalg.norm(flat(average) - true) < 3e-3 * np.linalg.norm(true)


def test_average_gradient_warns_of_its_error() -> None:
    x = ag.tensor(np.linspace(-1, 1, 101), requires_grad=True)

    def f() -> ag.Tensor:
        return (ag.maximum(0, ag.sin(300 * x)) * ag.absolute(x)).sum()

    start = f().item()
    update = {x: np.linspace(0.3, 3, 101)}
    with pytest.warns(UserWarning, match="estimated error of .* an incompleteness of") as caught:
        average = ag.average_gradient(f, [x], update, tolerance=1e-6)
    x.data = x.data + update[x]
    gap = abs((average[x] * update[x]).sum() - (f().item() - start))
    assert f"an incompleteness of {gap:.1e}" in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="the result has an incompleteness .* leave out nodes"):
        ag.average_gradient(f, [x], update, nodes=2)


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
@pytest.mark.parametrize("nodes", [None, 3])
@pytest.mark.parametrize("f", [np.sqrt, lambda w: w / (w + 1) ** 2])
def test_average_gradient_warns_of_what_is_not_finite(f: Any, nodes: int | None) -> None:
    w = ag.tensor(1.0, requires_grad=True)
    with pytest.warns(UserWarning, match="average_gradient: the result has an .*incompleteness"):
        ag.average_gradient(lambda: f(w), [w], {w: -2.0}, nodes=nodes)


def test_average_gradient_of_a_smooth_loss_takes_one_piece() -> None:
    w, calls = ag.tensor(np.array([0.5, 1.0]), requires_grad=True), []

    def f() -> ag.Tensor:
        calls.append(None)
        return ag.tanh(w).sum() ** 2

    average = ag.average_gradient(f, [w], {w: [1.0, -2.0]})[w]
    assert len(calls) == 15 + 2
    expected = average_over_nodes(f, [w], {w: np.array([1.0, -2.0])}, nodes=64)[w]
    np.testing.assert_allclose(average, expected, rtol=1e-9)


def test_average_gradient_whose_parts_cancel() -> None:
    w = ag.tensor(np.array([-1.0, 2.0]), requires_grad=True)
    average = ag.average_gradient(lambda: ag.absolute(w).sum(), [w], {w: [2.0, -4.0]})[w]
    np.testing.assert_allclose(average, 0, atol=1e-12)


def test_average_gradient_of_leaves_that_do_not_move() -> None:
    x, y = (ag.tensor(np.array(value), requires_grad=True) for value in (2.0, 3.0))
    average = ag.average_gradient(lambda: x * y, [x, y], {x: 2.0})
    np.testing.assert_allclose([average[x], average[y]], [3, 3], rtol=1e-15)


def test_average_gradient_of_a_leaf_itself() -> None:
    x, constant = ag.tensor(2.0, requires_grad=True), ag.tensor(1.0)
    assert ag.average_gradient(lambda: x, [x], {x: 1.0})[x] == 1
    with pytest.raises(ValueError, match=r"does not depend on params\[0\]"):
        ag.average_gradient(lambda: constant, [x], {x: 1.0})


def test_each_parameter_that_the_loss_does_not_depend_on_is_named() -> None:
    x, y = (ag.tensor(np.ones(2), requires_grad=True) for _ in range(2))
    for params in ([x, y], [y, x]):
        number = [param is y for param in params].index(True)
        with pytest.raises(ValueError, match=rf"does not depend on params\[{number}\]"):
            ag.average_gradient(lambda: (x * x).sum(), params, {})


def test_average_gradient_keeps_arrays_of_other_graphs_protected() -> None:
    x = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
    first = (x * x).sum()
    ag.average_gradient(lambda: (x * x).sum(), [x], {x: [1.0, 1.0]})
    second = (x * x).sum()
    del first
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 5
    second.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])
    x.data[0] = 5
