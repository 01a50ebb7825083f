"""Captured functions give the function's results bit for bit, or are refused.

Runs of dense layers sum products in another order than single layers. The tests at the end cover
them; all others run without them.
"""

import copy
import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.core.flat import Flat
from agrad.core.tensor import apply
from agrad.data import Batches
from agrad.errors import AnomalyError, AverageUndefinedError, CaptureError, FreedGraphError
from agrad.ops.operation import Operation
from agrad.testing.strategies import OPERATIONS, operations
from agrad.tracing import dense
from agrad.tracing.captured import Captured
from agrad.tracing.dense import StackStep
from agrad.train import capture_step, train

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(3, size=(6, 8))
VECTORS = RANDOM.random((6, 8, 12), np.float32)
IMAGES = RANDOM.random((6, 8, 1, 8, 8), np.float32)
IDS = RANDOM.integers(20, size=(6, 8, 6))

MODELS: dict[str, tuple[Callable[[], nn.Module], NDArray[Any]]] = {
    "dense": (
        lambda: nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 9), nn.ReLU()),
        VECTORS,
    ),
    "dropout and batch_norm": (
        lambda: nn.Sequential(
            nn.Linear(12, 9),
            nn.BatchNorm1d(9, momentum=None),
            nn.Dropout(0.4),
            nn.SiLU(),
            nn.Dropout(0.2),
        ),
        VECTORS,
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 9),
        ),
        IMAGES,
    ),
    "embedding": (
        lambda: nn.Sequential(
            nn.Embedding(20, 5), nn.Flatten(), nn.LayerNorm(30), nn.Linear(30, 9)
        ),
        IDS,
    ),
}

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-2),
    "Adam": lambda p: optim.Adam(p, lr=1e-2),
    "AdamW": lambda p: optim.AdamW(p, lr=1e-2),
    "average on RMSprop": lambda p: optim.AverageGradient(optim.RMSprop(p, lr=1e-2)),
    "average by rows every 2": lambda p: optim.AverageGradient(
        optim.Adam(p, lr=1e-2), granularity="row", every=2
    ),
    "automatic": lambda p: optim.AverageGradient(optim.Adam(p, lr=1e-3), lr="auto"),
}


@contextmanager
def single_layers() -> Iterator[None]:
    """Capture functions without fusing runs of dense layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_LARGEST_WEIGHT", 0)
        yield


@pytest.fixture
def no_stacks() -> Iterator[None]:
    with single_layers():
        yield


def trained(
    model: nn.Module, inputs: Any, make_optimizer: Callable[[Any], Any], captured: bool
) -> list[Any]:
    """Return the losses of a training, and the final state of the model."""
    optimizer = make_optimizer(model.parameters())
    schedule = optim.StepLR(optimizer, step_size=2, gamma=0.5)
    forward = ag.capture(model) if captured else model
    losses = []
    for batch, labels in zip(inputs, LABELS):
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(batch), labels)
        losses.append(loss.data)
        if isinstance(optimizer, optim.AverageGradient):
            optimizer.step(loss)
        else:
            loss.backward()
            optimizer.step()
        schedule.step()
    return [*losses, *(tensor.copy() for tensor in model.state_dict().values())]


def assert_same(left: list[Any], right: list[Any]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.usefixtures("no_stacks")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", MODELS)
def test_training_is_bit_identical(kind: str, optimizer: str) -> None:
    make, inputs = MODELS[kind]
    results = []
    for captured in False, True:
        ag.seed(1)
        results.append(trained(make(), inputs, OPTIMIZERS[optimizer], captured))
    assert_same(*results)


LINEAR, NO_BIAS, TANH, RELU = ("linear", 0, True), ("linear", 0, False), ("tanh", 0), ("relu", 0)

# Steps, each on a value counted back from the last, and the result, also counted back.
DENSE: dict[str, tuple[list[Any], int]] = {
    "a layer": ([LINEAR, TANH], 0),
    "two layers": ([LINEAR, TANH, LINEAR, RELU], 0),
    "without a bias": ([NO_BIAS, TANH, NO_BIAS, RELU], 0),
    "what is between is used again": ([LINEAR, TANH, ("add", 0, 1)], 0),
    "what is between is used before": ([LINEAR, ("add", 0, 0), ("tanh", 1), ("add", 0, 1)], 0),
    "two activations of one layer": ([LINEAR, TANH, ("relu", 1), ("add", 0, 1)], 0),
    "what is between is the result": ([LINEAR, TANH], 1),
    "an activation of no layer": ([TANH, LINEAR, ("add", 0, 0), RELU], 0),
    "nobody uses the activation": ([LINEAR, TANH, ("linear", 2, True)], 0),
    "another operation of three inputs": ([("layer_norm", 0), TANH, LINEAR, RELU], 0),
}
FLOATS = [np.float32, np.float64]
AVERAGES = (False, True, True, False)
LEAVES = 5  # the argument, and weight and bias of two layers


@pytest.mark.parametrize("case", DENSE)
@pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 3), (2, 2, 3)], ids=str)
def test_dense_layers_are_bit_identical_whatever_uses_them(case: str, shape: Any) -> None:
    steps, result = DENSE[case]
    for dtypes in product(FLOATS, repeat=3):
        assert_captured_alike(steps, result, shape, dtypes, [True] * LEAVES)
    for dtype in np.float16, np.int32:  # which nothing differentiates
        if case != "another operation of three inputs":
            assert_captured_alike(steps, result, shape, [dtype] * 3, [False] * LEAVES)
    for frozen in range(LEAVES):
        wanted = [i != frozen for i in range(LEAVES)]
        assert_captured_alike(steps, result, shape, [np.float32] * 3, wanted)


backwards = st.sampled_from([0, 0, 0, 1, 2])
dense_steps = st.lists(
    st.one_of(
        st.tuples(st.just("linear"), backwards, st.booleans()),
        st.tuples(st.sampled_from(["tanh", "relu", "layer_norm"]), backwards),
        st.tuples(st.just("add"), backwards, backwards),
    ),
    min_size=2,
    max_size=7,
)


@given(
    steps=dense_steps,
    result=backwards,
    shape=st.sampled_from([(4, 3), (3,), (2, 2, 3)]),
    dtypes=st.sampled_from([[np.float32] * 3, [np.float64] * 3, [np.float32, *[np.float64] * 2]]),
    wanted=st.lists(st.sampled_from([True, True, False]), min_size=LEAVES, max_size=LEAVES),
)
def test_programs_of_dense_layers_are_bit_identical(
    steps: list[Any], result: int, shape: Any, dtypes: Any, wanted: list[bool]
) -> None:
    assert_captured_alike(steps, result, shape, dtypes, wanted)


def assert_captured_alike(
    steps: list[Any], result: int, shape: Any, dtypes: Sequence[Any], wanted: Sequence[bool]
) -> None:
    """Compare values and both gradients with and without capture, call after call."""
    rng = np.random.default_rng(0)
    argument, *layers = dtypes
    sizes = zip((shape, (3, 3), (3,), (3, 3), (3,)), (argument, *np.repeat(layers, 2)), wanted)
    leaves = [
        ag.tensor(rng.normal(size=size).astype(dtype), requires_grad=wants)
        for size, dtype, wants in sizes
    ]
    x, *parameters = leaves
    moves = {leaf: rng.normal(size=leaf.shape) for leaf in leaves if leaf.requires_grad}

    def function(x: ag.Tensor) -> ag.Tensor:
        values = [x]
        layers = 0
        for kind, i, *rest in steps:
            value = values[-1 - i % len(values)]
            if kind == "linear":
                weight, bias = parameters[2 * (layers % 2) :][:2]
                layers += 1
                values.append(F.linear(value, weight, bias if rest[0] else None))
            elif kind == "add":
                values.append(value + values[-1 - rest[0] % len(values)])
            elif kind == "layer_norm":
                values.append(F.layer_norm(value, 3, parameters[1], parameters[3]))
            else:
                values.append(getattr(F, kind)(value))
        return values[-1 - result % len(values)]

    def outcome(forward: Any, average: bool) -> list[Any]:
        for leaf in leaves:
            leaf.zero_grad()
        out = forward(x)
        arrays = [out.data.copy()]
        if out.requires_grad:
            loss = (out * out).sum()
            loss.backward(retain_graph=True)
            reached = {leaf: move for leaf, move in moves.items() if leaf.grad is not None}
            if average:
                arrays.append(loss.average_backward(reached))
        for leaf in leaves:
            arrays += [grad for grad in (leaf.grad, leaf.average_grad) if grad is not None]
        return [*arrays, np.array([leaf.grad is None for leaf in leaves])]

    expected = [outcome(function, average) for average in AVERAGES]
    with single_layers():
        captured = ag.capture(function)
        for average, results in zip(AVERAGES, expected):
            assert_same(outcome(captured, average), results)
    captured = ag.capture(function)
    outcome(captured, False)
    if has_stacks(captured):
        for average, results in zip(AVERAGES, expected):
            assert_close(outcome(captured, average), results)


def has_stacks(captured: Captured) -> bool:
    return any(isinstance(step, StackStep) for step in captured.last.program.steps)


def assert_close(left: list[Any], right: list[Any]) -> None:
    """Compare arrays up to a few roundings of their largest elements."""
    assert len(left) == len(right)
    for a, b in zip(left, right):
        scale = float(np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale)


CLASS_WEIGHT = ag.tensor([0.5, 2.0, 0.0])


@pytest.mark.usefixtures("no_stacks")
@pytest.mark.parametrize(
    "loss",
    [
        F.cross_entropy,
        lambda x, y: F.cross_entropy(x, y, CLASS_WEIGHT, ignore_index=1),
        lambda x, y: F.cross_entropy(x, y, reduction="none").sum(),
        lambda x, y: F.cross_entropy(x, y, CLASS_WEIGHT, ignore_index=1, label_smoothing=0.1),
        lambda x, y: F.nll_loss(F.log_softmax(x, 1), y, CLASS_WEIGHT, ignore_index=1),
        lambda x, y: F.nll_loss(F.log_softmax(x, 1), y),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "average"])
def test_the_loss_may_be_captured_too(loss: Callable[..., ag.Tensor], kind: str) -> None:
    results = []
    for captured in False, True:
        ag.seed(1)
        model = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 3))
        base = optim.RMSprop(model.parameters(), lr=1e-2)
        optimizer: Any = optim.AverageGradient(base) if kind == "average" else base

        def step(x: Any, y: Any, model: nn.Module = model) -> ag.Tensor:
            return loss(model(x), y)

        forward, losses = ag.capture(step) if captured else step, []
        for batch, labels in zip(VECTORS, LABELS):
            optimizer.zero_grad()
            value = forward(batch, labels)
            losses.append(value.data)
            if kind == "average":
                optimizer.step(value)
            else:
                value.backward()
                optimizer.step()
        results.append([*losses, *(p.data.copy() for p in model.parameters())])
    assert_same(*results)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_checked_in_every_call_of_a_captured_loss(smoothing: float) -> None:
    loss = ag.capture(lambda x, y: F.cross_entropy(x, y, label_smoothing=smoothing))
    logits = ag.tensor(np.zeros((2, 3)), requires_grad=True)
    for _ in range(2):
        assert loss(logits, [0, 2]).item() == pytest.approx(np.log(3))
    with pytest.raises(ValueError, match="target has class 3, outside 0 to 2"):
        loss(logits, [0, 3])


def test_the_training_loop_captures_where_asked_to() -> None:
    results = []
    for capture in False, True:
        ag.seed(2)
        model = nn.Sequential(nn.Linear(12, 9), nn.Dropout(0.5), nn.Tanh(), nn.Linear(9, 3))
        called = []
        model.forward = lambda x, call=model.forward, called=called: called.append(x) or call(x)
        batches = Batches(VECTORS[0], LABELS[0], batch_size=4, seed=0)
        optimizer = optim.AverageGradient(optim.Adam(model.parameters()))
        losses = [step.loss for step in train(model, optimizer, batches, 6, capture=capture)]
        assert len(called) == (1 if capture else 6)
        results.append([np.array(losses), *(p.data for p in model.parameters())])
    assert_same(*results)


changes = st.fixed_dictionaries(
    {
        "size": st.integers(2, 4),
        "dtype": st.sampled_from([np.float32, np.float64]),
        "training": st.booleans(),
        "recording": st.booleans(),
        "frozen": st.booleans(),
        "argument": st.booleans(),
    }
)


@given(st.lists(changes, min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_the_conditions_of_a_recording_may_change_at_every_call(
    calls: list[Any], seed: int
) -> None:
    def outcome(captured: bool) -> list[Any]:
        ag.seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Tanh())
        forward = ag.capture(model) if captured else model
        arrays = []
        for call in calls:
            values = ag.random.generator().normal(size=(call["size"], 3)).astype(call["dtype"])
            x = ag.tensor(values, requires_grad=call["argument"])
            model.to(call["dtype"]).train(call["training"]).zero_grad()
            model[0].weight.requires_grad = not call["frozen"]
            if call["recording"]:
                out = forward(x)
                (out * out).sum().backward()
            else:
                with ag.no_grad():
                    out = forward(x)
            assert out.requires_grad == call["recording"]
            grads = [tensor.grad for tensor in (x, *model.parameters())]
            arrays += [out.data, *(np.array(grad) for grad in grads if grad is not None)]
            arrays.append(np.array([grad is None for grad in grads]))
        return [*arrays, *(array.copy() for array in model.state_dict().values())]

    assert_same(outcome(False), outcome(True))


def test_python_runs_once_for_each_kind_of_call() -> None:
    calls = []

    def function(x: ag.Tensor) -> ag.Tensor:
        calls.append(x.shape)
        return x * x

    captured = ag.capture(function)
    for size in 2, 3, 2, 3, 2:
        np.testing.assert_array_equal(captured(np.full(size, 3.0)).data, 9.0)
    assert calls == [(2,), (3,)]
    for size in range(100):
        captured(np.zeros(size))
        captured(np.zeros(size))
    plans = captured._plans.values()
    assert len(plans) == 16
    assert sum(bool(plan.kept) for plan in plans) <= 1


def test_other_tensors_have_their_present_values() -> None:
    scale = ag.tensor([2.0, 3.0], requires_grad=True)
    captured = ag.capture(lambda x: x * scale)
    assert captured([1.0, 1.0]).tolist() == [2.0, 3.0]
    scale.data = [5.0, 7.0]
    assert captured([1.0, 1.0]).tolist() == [5.0, 7.0]
    with ag.no_grad():
        scale[0] = 1.0
    assert captured([1.0, 1.0]).tolist() == [1.0, 7.0]


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_arrays_that_the_graph_of_a_call_needs_cannot_be_changed_in_place(calls: int) -> None:
    scale, constant = ag.tensor([2.0, 3.0], requires_grad=True), ag.tensor([1.0, -1.0])
    captured = ag.capture(lambda x: ag.tanh(x * scale) * constant)
    for _ in range(calls):
        argument = ag.tensor([0.5, 0.25], requires_grad=True)
        out = captured(argument)
    for tensor in (argument, scale, constant, out):
        with pytest.raises(ValueError, match="read-only"):
            tensor.data[0] = 9.0
    del out
    for tensor in (argument, scale, constant):
        tensor.data[0] = 9.0


ALIASES: dict[str, Callable[[ag.Tensor], ag.Tensor]] = {
    "detached": lambda x: x.detach(),
    "turned": ag.no_grad()(lambda x: x[::-1]),
}


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_view_whose_source_changes_has_the_values_of_the_call(alias: str, calls: int) -> None:
    weight, x, y = (ag.tensor([1.0, 2.0], requires_grad=True) for _ in range(3))
    argument, leaf = ALIASES[alias](x), ALIASES[alias](y)
    captured = ag.capture(lambda argument: weight * argument * leaf)
    for _ in range(calls):
        out = captured(argument)
    expected = argument.data * leaf.data
    x.data[:] = y.data[:] = 0
    out.sum().backward()
    np.testing.assert_array_equal(weight.grad, expected)
    assert not captured(argument).data.any()


def test_inside_detect_anomaly_the_functions_own_operation_is_named() -> None:
    captured = ag.capture(lambda x: ag.sqrt(ag.exp(x) - 1.0))
    for _ in range(2):
        captured([1.0])
    with pytest.raises(AnomalyError, match="backward pass of Sqrt gave"), ag.detect_anomaly():
        captured(ag.tensor([0.0], requires_grad=True)).sum().backward()


def test_constants_follow_the_dtype_of_other_tensors() -> None:
    layer = nn.Linear(1, 1)
    captured = ag.capture(lambda x: x * (layer.weight * 0.1))
    for dtype in np.float32, np.float64:
        layer.to(dtype).weight.data = [[1.0]]
        assert captured([1.0]).data == layer.weight.data * 0.1


def test_calls_have_graphs_of_their_own() -> None:
    weight = ag.tensor([2.0], requires_grad=True)
    captured = ag.capture(lambda x: ag.tanh(x * weight) * weight)
    function = captured.function
    results = []
    for f in function, captured, captured:
        weight.zero_grad()
        first, second = f(ag.tensor([0.5])), f(ag.tensor([0.25]))
        (f(first) + second).sum().backward()
        results.append(weight.grad)
    assert results[1] == results[2]
    # Each call first sums its own shares of the gradient, which rounds differently.
    np.testing.assert_allclose(results[0], results[1], rtol=4 * np.finfo(np.float32).eps)
    loss = captured([1.0]).sum()
    loss.backward()
    with pytest.raises(FreedGraphError):
        loss.backward()


@pytest.mark.usefixtures("no_stacks")
@pytest.mark.parametrize("options", [{}, {"segments": 3}, {"extrapolate": True}])
def test_average_gradients_are_bit_identical(options: dict[str, Any]) -> None:
    ag.seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Softmax(1))
    x = RANDOM.normal(size=(3, 4)).astype(np.float32)
    # The first layer does not move, so it is not averaged.
    updates = {p: 0.1 * np.ones_like(p.data) for p in model[2].parameters()}
    results = []
    for forward in model, ag.capture(model):
        for _ in range(2):
            model.zero_grad()
            loss = (forward(x) ** 3).sum()
            ends = [loss.average_backward(updates, retain_graph=True, **options)]
            ends.append(loss.average_backward(updates, **options))
            results.append([*ends, *(p.average_grad for p in model.parameters())])
    for other in results[1:]:
        assert_same(results[0], other)


def test_values_computed_without_gradients_are_constants_of_the_graph() -> None:
    weight = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)

    def function(x: ag.Tensor) -> ag.Tensor:
        with ag.no_grad():
            scale = weight * 2
        return (weight * scale * x).sum()

    captured = ag.capture(function)
    for call in function, captured, captured:
        weight.zero_grad()
        loss = call(ag.tensor(np.ones(2)))
        assert loss.average_backward({weight: np.array([0.5, 0.5])}) == 13
        np.testing.assert_array_equal(weight.average_grad, [2, 4])


def test_the_values_at_an_end_are_kept_no_longer_than_a_sweep() -> None:
    x = ag.tensor([1.0], requires_grad=True)
    out = ag.capture(ag.exp)(x)
    for _ in range(3):
        out.average_backward({x: [1.0]}, retain_graph=True)
    assert len(out.node.operation.runs) == 1


def test_an_average_gradient_is_complete() -> None:
    ag.seed(4)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).to(np.float64)
    forward = ag.capture(model)
    for _ in range(2):
        loss = forward(np.ones((2, 4))).sum()
        updates = {p: np.full_like(p.data, 0.3) for p in model.parameters()}
        model.zero_grad()
        end = loss.average_backward(updates)
        change = sum(np.vdot(p.average_grad, delta) for p, delta in updates.items())
        np.testing.assert_allclose(change, end - loss.data, rtol=1e-12)


class Kindless(Operation):
    def forward(self, x: Any) -> Any:
        return x * 1

    def backward(self, grad: Any, needs: Any, out: Any, x: Any) -> Any:
        return (grad,)


def test_an_operation_without_a_kind_is_refused_before_anything_changes() -> None:
    weight = ag.tensor([1.0], requires_grad=True)
    captured = ag.capture(lambda x: apply(Kindless(), ag.tanh(x * weight)))
    base = optim.RMSprop([weight], lr=0.1)
    for _ in range(2):
        with pytest.raises(AverageUndefinedError, match="Kindless"):
            optim.AverageGradient(base).step(captured([2.0]).sum())
        weight.zero_grad()
    assert base.state_bytes == 0
    assert weight.tolist() == [1.0]


OUTSIDE = ag.tensor([1.0], requires_grad=True)
CONSTANT = ag.tensor([1.0])
MASK = np.array([True])

REFUSED: dict[str, tuple[Callable[[ag.Tensor], Any], str]] = {
    "branch": (lambda x: x if x.sum() > 0 else -x, "looks at the values"),
    "truth": (lambda x: x if x.sum() else -x, "looks at the values"),
    "item": (lambda x: x * x.sum().item(), "looks at the values"),
    "data": (lambda x: x * x.data, "looks at the values"),
    "numpy": (lambda x: np.asarray(x), "looks at the values"),
    "number of another": (lambda x: x * CONSTANT.item(), "looks at the values"),
    "float of another": (lambda x: x * float(CONSTANT), "looks at the values"),
    "truth of another": (lambda x: x if CONSTANT else -x, "looks at the values"),
    "array of another": (lambda x: x * np.asarray(CONSTANT), "looks at the values"),
    "list of another": (lambda x: x * CONSTANT.tolist()[0], "looks at the values"),
    "slope": (lambda x: F.leaky_relu(x, CONSTANT), "looks at the values"),
    "np function": (lambda x: x * np.sign(x), "looks at the values"),
    "array": (lambda x: x * np.ones(1), "takes a ndarray"),
    "list": (lambda x: x * [2.0], "takes a (list|ndarray)"),
    "list of Tensors and arrays": (lambda x: x * [x, [2.0]], "takes a (list|ndarray)"),
    "array in F": (lambda x: F.tanh(MASK) * x, "makes a Tensor from a (list|ndarray)"),
    "target": (lambda x: F.mse_loss(x, [1.0]), "makes a Tensor from a (list|ndarray)"),
    "weight": (lambda x: F.linear(x, np.ones((1, 1))), "makes a Tensor from a (list|ndarray)"),
    "method": (lambda x: ag.sum([1.0]) * x, "makes a Tensor from a (list|ndarray)"),
    "matmul": (lambda x: ag.matmul(x, [1.0]), "makes a Tensor from a (list|ndarray)"),
    "outer": (lambda x: ag.outer(x, MASK), "makes a Tensor from a (list|ndarray)"),
    "concatenate": (lambda x: ag.concatenate([x, MASK]), "makes a Tensor from a (list|ndarray)"),
    "new Tensor": (lambda x: x * ag.tensor(MASK), "makes a Tensor from a (list|ndarray)"),
    "copy of a Tensor": (lambda x: x * ag.tensor(OUTSIDE), "makes a Tensor from a Tensor"),
    "detached": (lambda x: x * OUTSIDE.detach(), "would be frozen"),
    "new values": (lambda x: setattr(OUTSIDE, "data", [2.0]) or x * OUTSIDE, "changes a Tensor"),
    "bound of a slice": (lambda x: x[np.array(0) :], "GetItem holds an array of shape"),
    "axis": (lambda x: x.sum(np.array([0])), "Sum holds an array of shape"),
    "operator in place": (lambda x: x.__iadd__(1.0), "changes an argument of shape"),
    "operator in place on another": (lambda x: x * CONSTANT.__iadd__(1.0), "changes a Tensor"),
    "result from outside": (lambda x, y=OUTSIDE * 2: x * y, "computed outside"),
    "mask": (lambda x: ag.where(MASK, x, -x), "looks at the values"),
    "index": (lambda x: x[np.array([0])], "GetItem holds an array of shape"),
    "targets": (lambda x: F.mse_loss(x, x) + F.cross_entropy(x, x), "looks at the values"),
    "change in place": (lambda x: x * OUTSIDE.writable(), "changes a Tensor of shape"),
    "no tensor": (lambda x: 3.0, "returned a float"),
    "constant": (lambda x: OUTSIDE, "returned a Tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_actions_that_a_replay_would_not_repeat_are_refused(case: str) -> None:
    function, message = REFUSED[case]
    captured = ag.capture(function)
    for _ in range(2):
        with pytest.raises(CaptureError, match=f"^capture: .*{message}"):
            captured(ag.tensor([1.0]))
    assert (OUTSIDE * 1).tolist() == [1.0]  # nothing is being captured any more


def test_arguments_without_a_gradient_may_be_compared() -> None:
    """Masks are computed from the ids of each call."""

    @ag.capture
    def function(ids: ag.Tensor, scores: ag.Tensor) -> ag.Tensor:
        weights = (~(ids == 0) & (ids < 7)).astype(np.float32)
        return (scores * weights).sum()

    scores = ag.tensor([1.0, 10.0, 100.0], requires_grad=True)
    for ids, expected in [([1, 0, 7], 1), ([0, 3, 4], 110), ([7, 0, 8], 0)]:
        loss = function(ids, scores)
        assert loss.item() == expected
        end = loss.average_backward({scores: np.ones(3)})
        assert end.item() - expected == np.count_nonzero((np.array(ids) > 0) & (np.array(ids) < 7))
    with pytest.raises(CaptureError, match="looks at the values"):
        ag.capture(lambda x: x * (x > 0))(scores)


every_operation = pytest.mark.parametrize("name", OPERATIONS)


@every_operation
@settings(max_examples=10)
@given(data=st.data())
def test_an_array_is_refused_and_any_other_option_is_frozen(name: str, data: Any) -> None:
    """A replay would freeze the array, whichever operation takes it, as an input or an option."""
    case = data.draw(operations(name))
    frozen = data.draw(st.sets(st.integers(0, len(case.inputs) - 1), min_size=1))

    def function(*traced: ag.Tensor) -> ag.Tensor:
        return case(*[case.inputs[i] if i in frozen else x for i, x in enumerate(traced)])

    with pytest.raises(CaptureError):
        ag.capture(function)(*case.inputs)

    captured = ag.capture(case)
    options = [*case.options.values()]
    arrays: Any = np.ndarray | np.bool
    if name == "indexing":  # with lists, which become arrays
        options = options[0] if isinstance(options[0], tuple) else options
        arrays |= list
    if any(isinstance(option, arrays) for option in options):
        with pytest.raises(CaptureError):
            captured(*case.inputs)
    else:
        expected = case(*map(ag.tensor, case.inputs)).data
        for _ in range(2):
            assert_same([captured(*case.inputs).data], [expected])


def test_shapes_and_dtypes_may_be_looked_at() -> None:
    def function(x: ag.Tensor) -> ag.Tensor:
        assert (len(x), x.ndim, x.size, x.dtype) == (2, 2, 6, np.float32)
        return sum(row for row in x.swapaxes(0, 1).reshape(3, 1, 2).squeeze(1)) / x.shape[1]

    captured = ag.capture(function)
    for _ in range(2):
        assert captured([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).tolist() == [2.0, 5.0]


def test_numbers_and_tensors_made_outside_are_the_constants_of_a_captured_function() -> None:
    table = ag.tensor(np.arange(2.0))

    def function(x: ag.Tensor) -> ag.Tensor:
        zeros = ag.broadcast_to(0.0, x.shape)
        result = ag.concatenate([x + table, zeros])
        result *= ag.tensor(2) * np.float64(3)
        return result + ag.mean([x, x])

    captured = ag.capture(function)
    for _ in range(3):
        assert_same([captured([1.0, 3.0]).data], [function(ag.tensor([1.0, 3.0])).data])
        table.data = table.data + 1


def test_a_loss_with_class_weights_can_be_captured() -> None:
    weight = np.array([0.5, 2.0, 0.0], np.float32)
    for module in nn.CrossEntropyLoss(weight), nn.NLLLoss(weight.tolist()):
        captured = ag.capture(module)
        for x, y in zip(VECTORS[:3, :, :3], LABELS):
            assert_same([captured(x, y).data], [module(x, y).data])


def test_a_view_that_a_captured_function_returns_is_freed_without_an_error() -> None:
    """With warnings as errors, an exception in a destructor fails the test."""
    captured = ag.capture(lambda x: x.reshape(2, 2))
    x = ag.tensor(np.ones(4), requires_grad=True)
    for _ in range(2):
        out = captured(x)
        with pytest.raises(ValueError, match="read-only"):
            out.data[0] = 2.0
        del out
        x.data[0] = 2.0


def test_captured_functions_nest_and_may_return_an_argument() -> None:
    inner = ag.capture(lambda x: 2 * x)
    outer = ag.capture(lambda x: inner(x) + 1)
    same = ag.capture(lambda x: x)
    for value in 1.0, 2.0:
        assert outer([value]).tolist() == [2 * value + 1]
        x = ag.tensor([value], requires_grad=True)
        (3 * same(x)).sum().backward()
        assert x.grad.tolist() == [3.0]


def test_ids_are_checked_at_every_call() -> None:
    captured = ag.capture(nn.Embedding(3, 2))
    captured([0, 2])
    with pytest.raises(ValueError, match="embedding: input has the id 3"):
        captured([0, 3])


@pytest.mark.parametrize("steps", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow(steps: int) -> None:
    model = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 3))
    optimizer = optim.AverageGradient(optim.RMSprop(model.parameters()))
    forward = ag.capture(model)

    def train(count: int) -> int:
        for _ in range(count):
            optimizer.zero_grad()
            optimizer.step(F.cross_entropy(forward(VECTORS[0]), LABELS[0]))
        arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
        statistics = tracemalloc.take_snapshot().filter_traces([arrays]).statistics("filename")
        return sum(statistic.size for statistic in statistics)

    gc.collect()
    gc.disable()  # what a step leaves goes without the collector's help
    tracemalloc.start()
    try:
        before = train(20)
        assert train(steps) == before
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_step_replaces_the_arrays_of_the_last_one_by_one() -> None:
    """A whole pass beside the last one would take a second set of a kind of arrays."""
    rows, width, depth = 500, 20, 20
    model = network(*[width] * (depth + 1), dtype=np.float64)  # no stack, but layers by themselves
    optimizer = optim.AverageGradient(optim.RMSprop(model.parameters()), verify=False)
    forward = ag.capture(model)
    x = RANDOM.normal(size=(rows, width))

    def step() -> None:
        optimizer.zero_grad()
        optimizer.step((forward(x) ** 2).mean())

    tracemalloc.start()
    try:
        for _ in range(3):
            step()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - kept < 8 * rows * width * depth / 2


def test_a_freed_graph_frees_the_values_of_the_call() -> None:
    captured = ag.capture(lambda x: ag.tanh(ag.exp(x)))
    out = captured(ag.tensor([1.0], requires_grad=True))
    replay = weakref.ref(out.node.operation)
    out.sum().backward()
    assert replay() is None


def test_arguments_by_name_are_those_of_the_function() -> None:
    function = ag.capture(lambda x, y, z: (x - 2 * y) * z)
    x, y, z = RANDOM.random((3, 4), np.float32)
    for a, b, c in ((x, y, z), (z, x, y)):
        expected = (a - 2 * b) * c
        for _ in range(2):
            np.testing.assert_array_equal(function(a, z=c, y=b).data, expected)
            np.testing.assert_array_equal(function(y=b, x=a, z=c).data, expected)
            np.testing.assert_array_equal(function(a, b, c).data, expected)


# -- runs of dense layers --------------------------------------------------------------------------


def network(*widths: int, dtype: Any = np.float32) -> nn.Sequential:
    """Return dense layers with tanh and ReLU in turn, the last one without an activation."""
    ag.seed(5)
    layers: list[nn.Module] = []
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m), nn.ReLU() if len(layers) % 4 else nn.Tanh()]
    return nn.Sequential(*layers[:-1]).to(dtype)


def kinds(captured: Captured) -> list[str]:
    return [type(step).__name__ for step in captured.last.program.steps]


def test_a_run_of_dense_layers_is_one_step() -> None:
    x = RANDOM.normal(size=(7, 4)).astype(np.float32)
    captured = ag.capture(network(4, 6, 5, 3))
    captured(x)
    assert kinds(captured) == ["StackStep"]
    with ag.no_grad():
        captured(x)
    assert kinds(captured) == ["StackStep"]
    again = ag.capture(lambda x: model(x) + model[4](model[:4](x) * 2))
    model = network(4, 6, 5, 3)
    again(x)
    assert kinds(again).count("StackStep") == 2


ALONE: dict[str, Callable[[], tuple[nn.Sequential, Any]]] = {
    "double precision": lambda: (network(4, 6, 5, 3, dtype=np.float64), np.ones((7, 4))),
    "more axes": lambda: (network(4, 6, 5, 3), np.ones((2, 7, 4), np.float32)),
    "no rows": lambda: (network(4, 6, 5, 3), np.ones((0, 4), np.float32)),
    "wide": lambda: (network(300, 300, 300), np.ones((2, 300), np.float32)),
    "what is between is used": lambda: (Skipping(4), np.ones((7, 4), np.float32)),
}


class Skipping(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))

    def forward(self, x: Any) -> ag.Tensor:
        first = self[1](self[0](x))
        return self[2](first) + first


@pytest.mark.parametrize("case", ALONE)
def test_other_layers_stay_single(case: str) -> None:
    model, x = ALONE[case]()
    captured = ag.capture(model)
    captured(x)
    assert not has_stacks(captured)


def test_frozen_layers_do_not_join_a_run() -> None:
    model = network(4, 6, 5, 6, 5, 3)
    model[0].weight.requires_grad = model[4].bias.requires_grad = False
    captured = ag.capture(model)
    captured(np.ones((7, 4), np.float32))
    assert kinds(captured) == ["DenseStep", "DenseStep", "DenseStep", "StackStep"]


def test_a_frozen_layer_gets_no_gradient_and_does_not_join_the_run_above_it() -> None:
    model = network(4, 6, 5, 3)
    model[0].weight.requires_grad = model[0].bias.requires_grad = False
    captured = ag.capture(model)
    captured(np.ones((7, 4), np.float32)).sum().backward()
    assert kinds(captured) == ["DenseStep", "StackStep"]
    assert [p.grad is None for p in model.parameters()] == [True, True, *[False] * 4]


def test_a_weight_that_is_also_used_outside_its_run_gets_both_gradients() -> None:
    results = []
    for capture in ag.capture, lambda function: function:
        model = network(4, 6, 5, 3)
        optimizer = optim.AverageGradient(optim.SGD(model.parameters(), lr=0.1))
        weight = model[2].weight
        # This use is above the run, so that the sweep reaches it first.
        forward = capture(lambda x: ((model(x) ** 2).sum() * weight).sum())  # noqa: B023
        for _ in range(3):
            optimizer.zero_grad()
            optimizer.step(forward(np.ones((7, 4), np.float32)))
        results.append([p.data for p in model.parameters()])
    assert_close(*results)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_runs_of_layers_train_like_single_ones(optimizer: str) -> None:
    make, inputs = MODELS["dense"]
    results = []
    for captured in False, True, True:
        ag.seed(1)
        results.append(trained(make(), inputs, OPTIMIZERS[optimizer], captured))
    assert_same(*results[1:])
    assert_close(*results[:2])


def test_the_first_call_gives_what_later_calls_give() -> None:
    """This holds although the recording computes layer by layer."""
    model = network(4, 9, 8, 3)
    x = RANDOM.normal(size=(20, 4)).astype(np.float32)
    updates = {p: 0.1 * np.ones_like(p.data) for p in model.parameters()}
    captured = ag.capture(lambda x: F.dropout(model(x), 0.5))
    results = []
    for _ in range(3):
        model.zero_grad()
        ag.seed(2)
        loss = (captured(x) ** 2).sum()
        loss.backward(retain_graph=True)
        end = loss.average_backward(updates)
        grads = [grad for p in model.parameters() for grad in (p.grad, p.average_grad)]
        results.append([loss.data, end, *grads])
    for other in results[1:]:
        assert_same(results[0], other)


def test_graphs_of_several_calls_keep_their_values() -> None:
    model = network(4, 9, 8, 3)
    captured = ag.capture(model)
    inputs = [RANDOM.normal(size=(20, 4)).astype(np.float32) for _ in range(5)]

    def gradient(loss: ag.Tensor) -> list[Any]:
        model.zero_grad()
        loss.backward()
        return [p.grad for p in model.parameters()]

    expected = [gradient(captured(x).sum()) for x in inputs]
    losses = [captured(x).sum() for x in inputs]
    for loss, grads in zip(losses, expected):
        assert_same(gradient(loss), grads)


def test_the_memory_of_a_run_is_used_again_once_its_graph_is_freed() -> None:
    captured = ag.capture(network(4, 9, 8, 3))
    x = np.ones((20, 4), np.float32)

    def memory() -> int:
        (step,) = captured.last.program.steps
        return captured.last.kept["start"][step.between].passed.values.after.ctypes.data

    outs = [captured(x) for _ in range(2)]
    del outs[:]
    first = memory()
    out = captured(x)
    assert memory() == first
    other = captured(x)
    assert memory() != first
    del out, other


def test_layers_below_the_first_that_moves_are_not_averaged() -> None:
    model = network(4, 9, 8, 3)
    captured = ag.capture(model)
    x = RANDOM.normal(size=(20, 4)).astype(np.float32)
    for _ in range(2):
        model.zero_grad()
        loss = captured(x).sum()
        loss.backward(retain_graph=True)
        loss.average_backward({p: np.ones_like(p.data) for p in [model[4].bias]})
        for p in model.parameters():
            np.testing.assert_array_equal(p.grad, p.average_grad)
    for moved in model[2].weight, model[2].bias:
        loss = captured(x).sum()
        model.zero_grad()
        loss.backward(retain_graph=True)
        loss.average_backward({moved: np.ones_like(moved.data)})
        assert (model[0].weight.grad != model[0].weight.average_grad).any()
        np.testing.assert_array_equal(model[4].bias.grad, model[4].bias.average_grad)


def test_average_gradients_of_runs_are_complete() -> None:
    model = network(4, 9, 8, 1)
    captured = ag.capture(model)
    x = RANDOM.normal(size=(20, 4)).astype(np.float32)
    for _ in range(2):
        model.zero_grad()
        loss = captured(x).sum()
        updates = {p: np.full_like(p.data, 0.3) for p in model.parameters()}
        end = loss.average_backward(updates)
        terms = [p.average_grad * delta for p, delta in updates.items()]
        change = sum(term.sum(dtype=np.float64) for term in terms)
        scale = sum(abs(term).sum() for term in terms) + abs(end) + abs(loss.data)
        assert abs(change - (end - loss.data)) < 4 * np.finfo(np.float32).eps * scale


def gradients_along(captured: Callable[..., ag.Tensor], model: nn.Module, **options: Any) -> Any:
    """Return the loss, the value at the end of an update, and both gradients, from three calls."""
    x = np.random.default_rng(7).normal(size=(20, 4)).astype(np.float32)
    results: list[list[Any]] = []
    for _ in range(3):
        model.zero_grad()
        loss = (captured(x) ** 2).sum()
        loss.backward(retain_graph=True)
        end = loss.average_backward({p: 0.1 + 0 * p.data for p in model.parameters()}, **options)
        grads = [grad for p in model.parameters() for grad in (p.grad, p.average_grad)]
        results.append([loss.data, end, *grads])
    for other in results[1:]:
        assert_same(results[0], other)
    return results[0]


@pytest.mark.parametrize("where", ["one array", "two arrays", "another order", "other strides"])
def test_the_place_of_parameters_does_not_change_the_results_of_runs(where: str) -> None:
    model = network(4, 9, 8, 3)
    expected = gradients_along(ag.capture(model), model)
    parameters = list(model.parameters())
    if where == "other strides":
        for parameter in parameters:
            parameter.data = parameter.data.T.copy().T
    else:
        parts = [parameters[::2], parameters[1::2]] if where == "two arrays" else [parameters]
        step = -1 if where == "another order" else 1
        flats = [Flat(part[::step]) for part in parts]  # they keep the leaves' values together
        assert [flat.adopt().base for flat in flats] == [None] * len(parts)
    assert_same(gradients_along(ag.capture(model), model), expected)


@pytest.mark.parametrize("options", [{}, {"segments": 3}, {"segments": 2, "extrapolate": True}])
def test_runs_have_the_averages_of_single_layers(options: dict[str, Any]) -> None:
    model = network(4, 9, 8, 3)
    captured = ag.capture(model)
    assert_close(
        gradients_along(captured, model, **options), gradients_along(model, model, **options)
    )
    assert kinds(captured) == ["StackStep"]


def test_runs_inside_detect_anomaly_are_the_function_itself() -> None:
    model = network(4, 9, 8, 3)
    captured = ag.capture(model)
    x = np.ones((5, 4), np.float32)
    captured(x)
    with ag.detect_anomaly():
        np.testing.assert_array_equal(captured(x).data, model(x).data)
    model[2].weight.data[0, 0] = np.nan
    with pytest.raises(AnomalyError), ag.detect_anomaly():
        captured(x)


def test_steps_with_a_probe_use_runs_and_continue_from_a_copy() -> None:
    """Both batch and probe use them; a copy captures again, and its steps have the same bits."""
    batches = np.random.default_rng(3).normal(size=(6, 20, 4)).astype(np.float32)
    labels = np.arange(20) % 3

    def made_step(model: nn.Module) -> tuple[Any, Any]:
        rule = optim.Adam(model.parameters(), lr=1e-3, cautious=True)
        optimizer = optim.AverageGradient(rule, lr="auto", probe_size=7)
        return optimizer, capture_step(model, optimizer)

    model = network(4, 9, 8, 3)
    optimizer, step = made_step(model)
    for batch in batches[:3]:
        step(batch, labels)
    assert [kinds(forward) for forward in step._step.models[:2]] == [["StackStep"]] * 2
    twin = copy.deepcopy(model)
    restored, other_step = made_step(twin)
    restored.load_state_dict(optimizer.state_dict())
    for batch in batches[3:]:
        assert step(batch, labels) == other_step(batch, labels)
    assert_same(*([p.data for p in each.parameters()] for each in (model, twin)))
