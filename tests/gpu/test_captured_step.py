"""Captured training steps: one CUDA graph on a GPU, here on a stand-in that can fail."""

import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import fake_cupy
import fake_graphs
import fake_memory
import numpy as np
import pytest
from small_trainings import OPTIMIZERS, in_groups, network

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.backend import kernels, move
from agrad.data import Batches, digits
from agrad.errors import NonFiniteError
from agrad.gpu import cuda
from agrad.gpu.deferred import is_deferring
from agrad.ops import pooling
from agrad.optim import average_gradient
from agrad.study.networks import dense_network
from agrad.tracing import dense as dense_layers
from agrad.tracing.dense import StackStep
from agrad.train import CapturedStep, capture_step, train, train_step


@pytest.fixture(scope="module", autouse=True)
def cupy() -> Iterator[Any]:
    with fake_cupy.installed() as module:
        yield module


@pytest.fixture(autouse=True)
def layers_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacks of layers round otherwise than the eager steps that others are compared with."""
    monkeypatch.setattr(dense_layers, "_LARGEST_WEIGHT", 0)


@pytest.fixture
def in_stacks(layers_one_by_one: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_layers, "_LARGEST_WEIGHT", 60_000)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs launched, in order."""
    return noted(monkeypatch, fake_graphs.Graph, "launch")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One element for each captured step that ran eagerly."""
    return noted(monkeypatch, CapturedStep, "_eager")


def noted(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> list[Any]:
    """Return a list of the objects whose method has been called."""
    called: list[Any] = []
    method = getattr(kind, name)

    def call(self: Any, *arguments: Any) -> Any:
        called.append(self)
        return method(self, *arguments)

    monkeypatch.setattr(kind, name, call)
    return called


def batches(count: int, device: str = "cuda", size: int = 32) -> list[tuple[Any, Any]]:
    images, labels = digits()
    parts = [slice(start, start + size) for start in range(0, count * size, size)]
    return [(move(images[part], device), move(labels[part], device)) for part in parts]


def dense(seed: int = 0) -> nn.Sequential:
    ag.seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)
    )


def with_dropout() -> nn.Sequential:
    return nn.Sequential(*dense(), nn.Dropout(0.5), nn.Linear(10, 10))


def average(params: Any, **options: Any) -> optim.AverageGradient:
    return optim.AverageGradient(optim.RMSprop(params, lr=1e-3), **options)


def state_of(*parts: Any) -> Any:
    """Return copies on the host of all that a step changes."""
    return on_host([*(part.state_dict() for part in parts), ag.random.get_state()])


def on_host(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: on_host(value) for key, value in state.items()}
    if isinstance(state, list):
        return list(map(on_host, state))
    return state.get() if isinstance(state, fake_cupy.ndarray) else state


def assert_same(states: list[Any]) -> None:
    first, second = map(flat, states)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


def flat(state: Any, name: str = "") -> dict[str, Any]:
    if isinstance(state, dict | list):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, part in pairs for k, v in flat(part, f"{name}/{key}").items()}
    return {} if isinstance(state, str) else {name: state}


Losses = list[float]


def both(
    steps: Callable[[Callable[[Any, Any], float], Any, Any], Losses],
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[[Any], Any],
    **options: Any,
) -> None:
    """Run `steps` with ordinary and with captured steps, and compare the final states."""
    states = []
    for captured in (False, True):
        model = make_model().to("cuda")
        optimizer = make_optimizer(model.parameters())
        if captured:
            step: Any = capture_step(model, optimizer, **options)
        else:
            step = lambda x, y, m=model, o=optimizer: train_step(m, o, x, y, **options)  # noqa: E731
        losses = steps(step, model, optimizer)
        states.append([losses, *state_of(model, optimizer)])
    assert_same(states)


# -- what a captured step does ---------------------------------------------------------------------


@pytest.mark.parametrize("make_model", [dense, network])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_captured_step_does_what_a_step_does(
    name: str,
    make_model: Any,
    launches: list[Any],
    others: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        return [step(*batch) for batch in batches(12)]

    # With the average gradient, every other step measures, here after the first four.
    monkeypatch.setattr(average_gradient, "CLIMB", 4)
    kinds = 2 if "average" in name else 1
    both(steps, make_model, OPTIMIZERS[name])
    assert len(others) == kinds
    assert len(launches) == 12 - 2 * kinds  # a step of each kind is eager, and one recorded
    assert len(set(map(id, launches))) == kinds


@pytest.mark.usefixtures("in_stacks")
@pytest.mark.parametrize("name", ["RMSprop", "average", "average on a probe", "in groups"])
def test_stacks_of_layers_are_the_cpus(name: str, launches: list[Any]) -> None:
    makes: dict[str, Callable[[Any], Any]] = {
        "RMSprop": lambda p: optim.RMSprop(p, lr=1e-3),
        "average": average,
        "average on a probe": lambda p: average(p, probe_size=8),
        "in groups": lambda p: optim.AdamW(in_groups(p), lr=0.01),
    }
    states = []
    for device in ("cpu", "cuda"):
        model = dense().to(device)
        optimizer = makes[name](model.parameters())
        step = capture_step(model, optimizer)
        losses = [step(*batch) for batch in batches(6, device)]
        states.append([losses, *state_of(model, optimizer)])
        program = step._step.models.on_batch.last.program
        assert [type(s) for s in program.steps if s.needs[0] or len(s.slots) > 2] == [StackStep]
    assert_same(states)
    assert len(launches) == 4


@pytest.mark.parametrize("named", [False, True])
def test_a_model_of_several_inputs(named: bool, launches: list[Any]) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            ag.seed(0)
            self.one, self.other = nn.Linear(64, 10), nn.Linear(8, 10)

        def forward(self, image: ag.Tensor, row: ag.Tensor) -> ag.Tensor:
            return self.one(image) - self.other(row).tanh()

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for images, labels in batches(5):
            flat, row = images.reshape(-1, 64), images[:, 3]
            losses.append(step({"row": row, "image": flat} if named else (flat, row), labels))
        return losses

    both(steps, Two, lambda params: average(params, probe_size=8))
    assert launches


def test_on_the_cpu_it_is_the_step_of_a_captured_model() -> None:
    states = []
    for captured in (False, True):
        model = dense()
        optimizer = average(model.parameters())
        forward = ag.capture(model)
        step = capture_step(model, optimizer)
        for x, y in batches(4, "cpu"):
            if captured:
                step(x, y)
            else:
                train_step(forward, optimizer, x, y)
        states.append(state_of(model, optimizer))
    np.testing.assert_equal(*states)


def test_a_step_waits_once() -> None:
    model = dense().to("cuda")
    step = capture_step(model, average(model.parameters()))
    *before, last = batches(4)
    for batch in before:
        step(*batch)
    with fake_cupy.waits() as noted:
        step(*last)
    assert [what for what in noted if what != "set"] == ["tolist"]


def test_dropout_draws_new_masks_in_each_step(launches: list[Any], others: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        same = batches(1) * 8  # only masks differ, at a rate of next to nothing
        return [step(*batch) for batch in same]

    def make(params: Any) -> Any:
        return average(params, every=2, probe_size=8)

    both(steps, with_dropout, make)
    assert (len(launches), len(others)) == (4, 2)


def test_the_rate_is_followed(others: list[Any]) -> None:
    """The rate is set by hand, by a schedule, and by the optimizer itself."""

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        schedule = optim.CosineAnnealingLR(optimizer, 12)
        losses = []
        for i, batch in enumerate(batches(12)):
            if i == 6:
                optimizer.lr = 3e-3
            losses.append(step(*batch))
            schedule.step()
        return losses

    both(steps, dense, lambda p: optim.AdamW(p, lr=1e-3))
    both(steps, dense, lambda p: average(p, lr="auto"))
    # One of them is the first with a schedule's factor, one the first after the rate is confirmed.
    assert len(others) == 4


@pytest.mark.parametrize("averaged", [False, True])
def test_groups_are_followed(averaged: bool, launches: list[Any]) -> None:
    """Rates are fed to the graph; each set of options has its own graph."""

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        schedule = optim.StepLR(optimizer, 3)
        first, second = optimizer.param_groups
        losses = []
        for i, batch in enumerate(batches(26)):
            if i == 4:
                second["lr"] = 0.001
            if i in (6, 11):  # there and back again
                first["weight_decay"] = 0.3 if i == 6 else 0.01
            if i in (13, 16):
                second["params"][0].requires_grad = i == 16
            losses.append(step(*batch))
            schedule.step()
        return losses

    def make(params: Any) -> optim.Optimizer:
        base = optim.AdamW(in_groups(params), lr=0.01)
        return optim.AverageGradient(base, lr="auto", every=1) if averaged else base

    both(steps, dense, make)
    assert len(launches) >= 10


def test_an_added_group_is_recorded(launches: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for i, batch in enumerate(batches(10)):
            if i == 5:
                model[1].weight.requires_grad = True
                optimizer.add_param_group({"params": model[1].weight, "lr": 0.02})
            losses.append(step(*batch))
        return losses

    def model() -> nn.Sequential:
        model = dense()
        model[1].weight.requires_grad = False
        return model

    def make(params: Any) -> optim.Optimizer:
        return optim.Adam([param for param in params if param.requires_grad], lr=0.01)

    both(steps, model, make)
    assert len(launches) >= 5


def test_a_share_that_changes_after_the_first_step(others: list[Any]) -> None:
    """SGD's dampening, where some parameters take their first step later."""

    class Late(nn.Module):
        def __init__(self) -> None:
            self.dense, self.weight = dense(), nn.Parameter(np.ones((10, 10), np.float32))

        def forward(self, x: Any) -> ag.Tensor:
            out = self.dense(x)
            return out @ self.weight if self.training else out

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for i, batch in enumerate(batches(10)):
            model.train(i >= 4)
            losses.append(step(*batch))
        return losses

    both(steps, Late, lambda p: optim.SGD(p, lr=0.02, momentum=0.9, dampening=0.5))


def test_a_users_own_rule(launches: list[Any]) -> None:
    @dataclass(frozen=True)
    class Fading(optim.Rule):
        """Gradient descent at a rate that falls as 1 / √steps."""

        def numbers(self, rate: float, steps: int) -> tuple[float, ...]:
            return (-rate / steps**0.5,)

        def update(
            self, out: Any, grad: Any, values: Any, state: Any, numbers: tuple[Any, ...]
        ) -> None:
            kernels(out).optimizer.scale(out, grad, numbers[0])

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        return [step(*batch) for batch in batches(6)]

    def make(params: Any) -> optim.Optimizer:
        return optim.AverageGradient(optim.RuleOptimizer(params, lr=0.5, rule=Fading()))

    both(steps, dense, make)
    assert len(launches) == 4


def test_shapes_take_turns(launches: list[Any], others: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        small, large = batches(6, size=8), batches(6, size=32)
        return [step(*batch) for pair in zip(small, large) for batch in pair]

    both(steps, dense, lambda p: average(p, every=2))
    assert len(set(map(id, launches))) == 2
    assert len(others) == 2


def test_another_loss_function_can_be_used(launches: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        targets = move(np.ones((32, 10), np.float32), "cuda")
        return [step(x, targets) for x, _ in batches(5)]

    both(steps, dense, average, loss_function=F.mse_loss)
    assert len(launches) == 3


def smoothed(logits: Any, target: Any) -> ag.Tensor:
    return F.cross_entropy(logits, target, label_smoothing=0.1)


def negative_log_likelihood(logits: Any, target: Any) -> ag.Tensor:
    return F.nll_loss(F.log_softmax(logits, 1), target)


@pytest.mark.parametrize("loss_function", [smoothed, negative_log_likelihood])
def test_losses_of_classes(loss_function: Any, launches: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        return [step(*batch) for batch in batches(5)]

    both(steps, dense, average, loss_function=loss_function)
    assert len(launches) == 3


@pytest.mark.parametrize("at", [0, 1, 2, 4])
def test_a_probe_without_labels_is_the_whole_batch(at: int, launches: list[Any]) -> None:
    """In the first step, in the one that records, and in those that launch."""

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for i, (x, y) in enumerate(batches(6)):
            if i == at:
                y = y.copy()
                y[:8] = -100
            losses.append(step(x, y))
        assert np.isfinite(losses).all()
        return losses

    both(steps, dense, partial(average, probe_size=8))
    assert launches


def test_lists_are_put_beside_the_inputs(launches: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        return [step(x, y.tolist()) for x, y in batches(5)]

    both(steps, dense, average)
    assert len(launches) == 3


@pytest.mark.usefixtures("in_stacks")
@pytest.mark.parametrize(
    ("make_optimizer", "most"), [(optim.RMSprop, 19), (average, 56)], ids=["RMSprop", "average"]
)
def test_how_many_launches_a_graph_has(make_optimizer: Any, most: int, launches: list[Any]) -> None:
    """Launches dominate the time of a step of small layers; docs/gpu.md gives the numbers."""
    ag.seed(0)
    model = dense_network(784, 10, width=64).to("cuda")
    step = capture_step(model, make_optimizer(model.parameters()))
    x, y = move(np.ones((128, 784), np.float32), "cuda"), move(np.zeros(128, np.int64), "cuda")
    for _ in range(3):
        step(x, y)
    assert len(launches[0]._recorded.calls) == most


def test_no_gradients_are_left() -> None:
    model = dense().to("cuda")
    step = capture_step(model, optim.RMSprop(model.parameters()))
    first, *others = batches(4)
    step(*first)
    for batch in others:
        step(*batch)
        assert {p.grad is None for p in model.parameters()} == {True}


# -- what decides the recording --------------------------------------------------------------------


def test_what_has_changed_is_recorded_again(launches: list[Any], others: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for i, batch in enumerate(batches(24, size=16)):
            if i == 4:  # an option
                optimizer.base.alpha = 0.5
            if i == 8:  # the values, in other arrays
                values = {name: p.data * 0.5 for name, p in model.named_parameters()}
                model.load_state_dict(model.state_dict() | values)
            if i == 11:  # the states, in other arrays
                optimizer.load_state_dict(on_host(optimizer.state_dict()))
            if i == 14:  # a mode
                model.eval()
            if i == 17:  # which parameters are trained
                next(model.parameters()).requires_grad = False
            if i == 20:  # an option of the average gradient's
                optimizer.verify = False
            losses.append(step(*batch))
        return losses

    def model() -> nn.Sequential:
        ag.seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))

    both(steps, model, average)
    assert len(launches) >= 8
    assert len(set(map(id, launches))) >= 5
    assert len(others) == 3  # for the options too


def test_a_graph_that_needs_the_values_keeps_them(launches: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses, gradients = [], []
        for x, y in batches(6):
            loss = F.cross_entropy(model(ag.tensor(x)), y)
            losses.append(step(x, y))
            optimizer.zero_grad()
            loss.backward()
            gradients += [float((p.grad * p.grad).sum()) for p in model.parameters()]
        return losses + gradients

    both(steps, dense, average)


def test_other_uses_of_the_parameters_in_between(launches: list[Any], others: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        ema = optim.EMA(model.parameters(), decay=0.5)
        losses = []
        for x, y in batches(10):
            losses.append(step(x, y))
            ema.update()
            if len(losses) % 4 == 0:
                with ema.averaged():
                    losses.append(F.cross_entropy(model(ag.tensor(x)), y).item())
        return losses

    both(steps, dense, average)
    assert launches
    assert len(others) == 1


def test_a_gradient_taken_in_between_stays_what_it_was() -> None:
    """A graph writes into its own memory."""
    model = dense().to("cuda")
    optimizer = optim.RMSprop(model.parameters())
    step = capture_step(model, optimizer)
    (x, y), *others = batches(6)
    for batch in others:
        step(*batch)
    forward = ag.capture(model)
    for _ in range(2):  # from the second call on side by side, where others have been before
        optimizer.zero_grad()
        F.cross_entropy(forward(ag.tensor(x)), y).backward()
    seen = [p.grad for p in model.parameters()]
    before = [grad.get() for grad in seen]
    for batch in others:
        step(*batch)
    for grad, known in zip(seen, before):
        np.testing.assert_array_equal(grad.get(), known)


def test_what_a_cache_drops_is_kept(launches: list[Any], others: list[Any]) -> None:
    def model() -> nn.Sequential:
        ag.seed(0)
        image = nn.Unflatten(1, (1, 8))
        return nn.Sequential(image, nn.AvgPool2d(3, 2, 1), nn.Flatten(), nn.Linear(16, 10))

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for batch in batches(6):
            losses.append(step(*batch))
            pooling._windows.__wrapped__.cache_clear()
        return losses

    both(steps, model, average)
    assert (len(launches), len(others)) == (4, 1)


def test_launches_take_no_memory() -> None:
    model = with_dropout().to("cuda")
    step = capture_step(model, average(model.parameters(), every=2, lr="auto"))
    batch = batches(1)[0]
    taken = []
    for _ in range(3):
        for _ in range(24):  # the first sixteen measure
            step(*batch)
        gc.collect()
        taken.append(sum(memory.freed is None for memory in fake_memory._known.values()))
    assert taken[1] == taken[2]


@pytest.mark.parametrize("largest", [0, 60_000])
def test_everything_is_freed_with_the_step(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers one by one, and in stacks."""
    monkeypatch.setattr(dense_layers, "_LARGEST_WEIGHT", largest)
    gc.collect()  # what other tests have left
    freed = noted(monkeypatch, fake_memory.MemoryPool, "free_all_blocks")
    used, computing_on = [], cuda.computing_on
    monkeypatch.setattr(
        cuda, "computing_on", lambda stream, pool: used.append(pool) or computing_on(stream, pool)
    )
    model = dense().to("cuda")
    step = capture_step(model, average(model.parameters()))
    for batch in batches(4):
        step(*batch)
    recorded, rehearsed, recorded_again = used
    assert recorded is recorded_again is not rehearsed
    assert freed == [rehearsed]
    assert sum(memory.root.nbytes for memory in rehearsed.left) < 100  # cached numbers
    reference = weakref.ref(step)
    del step
    gc.collect()
    assert reference() is None
    assert freed == [rehearsed, recorded]
    assert recorded.left == []


# -- what fails ------------------------------------------------------------------------------------


def ready(make_optimizer: Any, make_model: Any = dense) -> tuple[Any, Any, Any]:
    """Return a model and an optimizer on the device, and their step, with its graph recorded."""
    model = make_model().to("cuda")
    optimizer = make_optimizer(model.parameters())
    step = capture_step(model, optimizer)
    for batch in batches(4):
        step(*batch)
    return model, optimizer, step


@pytest.mark.parametrize("make_optimizer", [optim.Adam, average])
@pytest.mark.parametrize("warm", [1, 4])
def test_a_wrong_label_changes_nothing(make_optimizer: Any, warm: int) -> None:
    """This holds in the step that records and in one that launches."""
    model = network().to("cuda")
    optimizer = make_optimizer(model.parameters())
    step = capture_step(model, optimizer)
    for batch in batches(warm):
        step(*batch)
    before = state_of(model, optimizer)
    x, y = batches(1)[0]
    wrong = y.copy()
    wrong[3] = 10
    with pytest.raises(ValueError, match="target has class 10, outside 0 to 9"):
        step(x, wrong)
    np.testing.assert_equal(state_of(model, optimizer), before)
    step(x, y)


@pytest.mark.parametrize("make_optimizer", [optim.Adam, average])
def test_an_infinite_loss_changes_nothing(make_optimizer: Any) -> None:
    model, optimizer, step = ready(make_optimizer)
    before = state_of(model, optimizer)
    x, y = batches(1)[0]
    wrong = x.copy()
    wrong[0] = np.nan
    with pytest.raises(NonFiniteError, match="before any operation the inputs had a NaN"):
        step(wrong, y)
    np.testing.assert_equal(state_of(model, optimizer), before)


def test_updates_are_cut_where_the_loss_at_their_end_is_infinite(
    launches: list[Any], others: list[Any]
) -> None:
    def make(params: Any) -> Any:
        return optim.AverageGradient(optim.SGD(params, lr=1e-3))

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = [step(*batch) for batch in batches(4)]
        optimizer.lr = 1e28
        losses.append(step(*batches(1)[0]))
        assert optimizer.fraction < 1e-9
        return losses

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of averages that are not finite
        both(steps, with_dropout, make)
    assert (len(launches), len(others)) == (3, 2)  # the first step and the one that is cut


def test_a_step_much_longer_than_the_last_measured_one_is_cut(launches: list[Any]) -> None:
    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for i, (x, y) in enumerate(batches(12)):
            losses.append(step(1000 * x if i == 9 else x, y))
        assert optimizer.cuts == 1
        return losses

    def make(params: Any) -> Any:
        return optim.AverageGradient(optim.SGD(params, lr=1e-3), every=2)

    both(steps, dense, make)
    assert len(launches) == 8
    losses = []
    for device in ("cpu", "cuda"):
        model = dense().to(device)
        step = partial(train_step, model, make(model.parameters()))
        losses.append([step(*batch) for batch in batches(9, device)])
    np.testing.assert_allclose(*losses, rtol=1e-5)  # of rounding, over nine steps


def test_a_step_that_cannot_be_recorded_runs_eagerly(launches: list[Any]) -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter(np.full((64, 10), 0.01, np.float32))

        def forward(self, x: Any) -> ag.Tensor:
            return np.einsum("nij,ijc->nc", x, self.weight.reshape(8, 8, 10))

    messages = falls_back(Sums)
    assert "cuBLAS API during stream capture" in str(messages[0])
    assert not launches


def test_a_step_that_cannot_be_rehearsed_runs_eagerly(launches: list[Any]) -> None:
    """A part of it has run by then, and leaves no trace."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            self.dense = dense()
            self.norm = nn.BatchNorm1d(64)

        def forward(self, x: Any) -> ag.Tensor:
            return self.dense(self.norm(x.reshape(-1, 64)).astype(np.float64))

    messages = falls_back(Mixed)
    assert "float64 and float32 cannot be recorded" in str(messages[0])
    assert not launches


def test_a_step_over_ranks_is_made_as_it_is(
    launches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CapturedStep, "_eager", lambda self, *batch: 0.0)
    model = dense().to("cuda")
    optimizer = optim.Adam(model.parameters())
    optimizer.ranks = SimpleNamespace()
    step = capture_step(model, optimizer)
    with pytest.warns(RuntimeWarning, match="it waits for other ranks") as noted:
        assert [step(*batch) for batch in batches(3)] == [0, 0, 0]
    assert [warning.filename for warning in noted] == [__file__]
    assert not launches


def test_a_step_that_cannot_be_recorded_is_one_of_its_shapes(launches: list[Any]) -> None:
    def loss(logits: Any, target: Any) -> ag.Tensor:
        if len(target) == 8:
            float(target.sum())
        return F.cross_entropy(logits, target)

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        small, large = batches(5, size=8), batches(5, size=32)
        return [step(*batch) for pair in zip(small, large) for batch in pair]

    def adam(params: Any) -> optim.Optimizer:
        return optim.Adam(params, lr=1e-3)

    with pytest.warns(RuntimeWarning, match="on such a batch .* float while capturing") as noted:
        both(steps, dense, adam, loss_function=loss)
    assert len(noted) == 1
    assert len(launches) == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("when", ["rehearsal", "recording"])
def test_where_memory_lacks_others_graphs_give_theirs(
    when: str, cupy: Any, launches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = noted(monkeypatch, fake_memory.MemoryPool, "free_all_blocks")
    failed = []

    def loss(logits: Any, target: Any) -> ag.Tensor:
        capturing = fake_graphs._capturing is not None
        now = is_deferring() and capturing == (when == "recording")
        if now and len(target) == 32 and not failed:
            failed.append(None)
            raise cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 512 bytes")
        return F.cross_entropy(logits, target)

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        small, large = batches(4, size=8), batches(4, size=32)
        return [step(*batch) for batch in [*small, *large, *small]]

    both(steps, with_dropout, lambda p: optim.Adam(p, lr=1e-3), loss_function=loss)
    assert failed
    assert fake_memory.get_default_memory_pool() in freed
    assert len(launches) == 2 + 2 + 3  # that of small batches was recorded again
    assert len(set(map(id, launches))) == 3


def test_graphs_without_room_beside_each_other_are_not_recorded_in_turn(
    cupy: Any, launches: list[Any]
) -> None:
    attempts = []

    def loss(logits: Any, target: Any) -> ag.Tensor:
        if fake_graphs._capturing is not None:
            attempts.append(len(target))
            if len(attempts) % 2:  # until all others have been freed
                raise cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 512 bytes")
        return F.cross_entropy(logits, target)

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        small, large = batches(5, size=8), batches(5, size=32)
        return [step(*batch) for pair in zip(small, large) for batch in pair]

    with pytest.warns(RuntimeWarning, match="lacks memory for it beside others") as noted:
        both(steps, dense, lambda p: optim.Adam(p, lr=1e-3), loss_function=loss)
    assert [warning.filename for warning in noted] == [__file__]
    assert attempts == [8, 8, 32, 32, 8, 8, 32, 32]
    assert len(launches) == 2


@pytest.mark.filterwarnings("error")
def test_another_thread_computes_while_a_step_is_recorded(launches: list[Any]) -> None:
    seen = []

    def compute() -> None:
        x = move(np.arange(4.0), "cuda")
        seen.append((x @ x).item())

    def loss(logits: Any, target: Any) -> ag.Tensor:
        if fake_graphs._capturing is not None:
            thread = threading.Thread(target=compute)
            thread.start()
            thread.join()
        return F.cross_entropy(logits, target)

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        return [step(*batch) for batch in batches(4)]

    both(steps, dense, lambda p: optim.Adam(p, lr=1e-3), loss_function=loss)
    assert seen == [14.0]
    assert len(launches) == 2


def falls_back(make_model: Any) -> list[Warning]:
    """Run a few steps, and return the one warning."""
    messages: list[Any] = []

    def steps(step: Any, model: Any, optimizer: Any) -> Losses:
        losses = []
        for batch in batches(5):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                losses.append(step(*batch))
            messages.extend((len(losses), warning) for warning in caught)
        return losses

    both(steps, make_model, average)
    ((when, warning),) = messages
    assert (when, warning.filename) == (2, __file__)
    return [warning.message]


# -- where it is used ------------------------------------------------------------------------------


def test_train_captures(launches: list[Any]) -> None:
    losses = []
    for capture in (False, True):
        model = dense().to("cuda")
        optimizer = average(model.parameters())
        images, labels = (move(array[:64], "cuda") for array in digits())
        loader = Batches(images, labels, batch_size=16, seed=0)
        losses.append([s.loss for s in train(model, optimizer, loader, 8, capture=capture)])
    assert_same(losses)
    assert len(launches) == 6
