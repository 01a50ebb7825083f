"""Copied and pickled models and optimizers train like the originals, and independently of them."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_trainings import in_groups

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import Batches
from agrad.optim.sgd import SGDRule
from agrad.train import capture_step

WAYS: dict[str, Callable[[Any], Any]] = {"deepcopy": copy.deepcopy} | {
    f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(  # type: ignore[misc]
        pickle.dumps(value, protocol)
    )
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))

Params = Any
OPTIMIZERS: dict[str, Callable[[Params], optim.Optimizer]] = {
    "SGD": lambda params: optim.SGD(params, lr=0.05, momentum=0.5),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.01, momentum=0.5, centered=True),
    "Adam": lambda params: optim.Adam(params, lr=0.01, amsgrad=True),
    "AdamW": lambda params: optim.AdamW(params, lr=0.01),
    "Muon": lambda params: optim.Muon(params, lr=0.01),
    "groups": lambda params: optim.AdamW(in_groups(params), lr=0.01),
    "own rule": lambda params: optim.RuleOptimizer(params, 0.05, SGDRule(0.5, 0.0, 0.1, False)),
    "average": lambda params: optim.AverageGradient(optim.Adam(params, lr=0.01)),
    "average, automatic": lambda params: optim.AverageGradient(
        optim.RMSprop(params, lr=0.01), lr="auto", every=2
    ),
    "average, rows": lambda params: optim.AverageGradient(
        optim.Muon(params, lr=0.01), granularity="row", every=3
    ),
}
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=list(OPTIMIZERS))


class Net(nn.Module):
    """A network with each kind of layer that holds arrays, a frozen and an unused parameter."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(7, 4, padding_idx=0)
        self.conv = nn.Conv1d(4, 5, 2)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 3)
        self.frozen = nn.Parameter([2.0], requires_grad=False)
        self.unused = nn.Parameter([1.0, 2.0])
        self.fast_head = ag.capture(self.classify)

    def classify(self, x: ag.Tensor) -> ag.Tensor:
        return self.head(F.dropout(F.tanh(x), 0.1, self.training)) * self.frozen

    def forward(self, ids: np.ndarray) -> ag.Tensor:
        hidden = self.norm(self.conv(self.embedding(ids).swapaxes(1, 2)))
        return self.fast_head(hidden.max(axis=2))


class Training:
    """Owns all parts of a training."""

    def __init__(self, make: Callable[[Params], optim.Optimizer]) -> None:
        ag.seed(0)
        self.model = Net()
        params = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = make(params)
        self.schedule = optim.SequentialLR(
            self.optimizer,
            [optim.LinearLR(self.optimizer), optim.CosineAnnealingLR(self.optimizer, 9)],
            [3],
        )
        self.ema = optim.EMA(params, decay=0.5)
        rng = np.random.default_rng(1)
        self.batches = Batches(
            rng.integers(0, 7, (12, 4)), rng.integers(0, 3, 12), batch_size=5, seed=2
        )

    def run(self, steps: int) -> list[float]:
        ag.seed(3)
        losses = []
        for _, (ids, labels) in zip(range(steps), self.batches.forever()):
            self.optimizer.zero_grad()
            losses.append(self.optimizer.step(F.cross_entropy(self.model(ids), labels)))
            self.schedule.step()
            self.ema.update()
        return losses

    def state(self) -> list[np.ndarray]:
        with self.ema.averaged():
            averaged = self.model.state_dict()
        return [*self.model.state_dict().values(), *averaged.values()]


def assert_equal(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@each_optimizer
@each_way
def test_a_copied_training_continues_independently_bit_for_bit(
    way: Callable[[Any], Any], make: Callable[[Params], optim.Optimizer]
) -> None:
    original = Training(make)
    original.run(5)
    before = original.state()
    twin = way(original)
    assert_equal(twin.state(), before)
    losses = twin.run(7)
    assert any((a != b).any() for a, b in zip(twin.state(), before))
    assert_equal(original.state(), before)
    assert original.run(7) == losses
    assert_equal(original.state(), twin.state())


@each_optimizer
@each_way
def test_a_pair_of_model_and_optimizer_stays_a_pair(
    way: Callable[[Any], Any], make: Callable[[Params], optim.Optimizer]
) -> None:
    model = nn.Linear(2, 1)
    pair = model, make(model.parameters())

    def step(model: nn.Module, optimizer: optim.Optimizer) -> float:
        optimizer.zero_grad()
        return optimizer.step(F.mse_loss(model([[1.0, 2.0]]), [[9.0]]))

    step(*pair)
    twins = way(pair)
    for _ in range(3):
        assert step(*twins) == step(*pair)
    assert_equal([p.data for p in twins[0].parameters()], [p.data for p in model.parameters()])
    assert not any(
        np.may_share_memory(a.data, b.data) for a in model.parameters() for b in twins[1].params
    )


@each_way
def test_a_captured_step_is_copied_with_its_parts(way: Callable[[Any], Any]) -> None:
    ag.seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.05))
    parts = model, optimizer, capture_step(model, optimizer)
    inputs, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
    parts[2](inputs, labels)
    twin, _, step = way(parts)
    assert [step(inputs, labels) for _ in range(3)] == [parts[2](inputs, labels) for _ in range(3)]
    assert_equal([*twin.state_dict().values()], [*model.state_dict().values()])


class Named(ag.Tensor):
    """A Tensor with further attributes."""

    __slots__ = ("name",)


class Tagged(Named):
    """A Tensor with a dict."""


@pytest.mark.parametrize("kind", [ag.Tensor, nn.Parameter, Named, Tagged])
@pytest.mark.parametrize("way", [*WAYS.values(), copy.copy], ids=[*WAYS, "copy"])
def test_a_leaf_is_copied_with_its_gradients_and_attributes(
    way: Callable[[Any], Any], kind: type[ag.Tensor]
) -> None:
    leaf = kind(np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    loss = (leaf * leaf).sum()
    loss.backward(retain_graph=True)
    loss.average_backward({leaf: np.ones((2, 2))})
    if isinstance(leaf, Named):
        leaf.name = "weight"
    if isinstance(leaf, Tagged):
        leaf.tag = [1, 2]
    twin = way(leaf)
    assert type(twin) is kind
    assert twin.requires_grad
    assert twin.is_leaf
    for name in "data", "grad", "average_grad":
        np.testing.assert_array_equal(getattr(twin, name), getattr(leaf, name))
    assert twin.data.flags.f_contiguous
    assert getattr(twin, "name", "weight") == "weight"
    assert getattr(twin, "tag", [1, 2]) == [1, 2]
    with pytest.raises(ValueError, match="not of this loss alone"):
        optim.SGD([twin]).step((twin * 3.0).sum())
    (twin * 3.0).sum().backward()
    np.testing.assert_array_equal(twin.grad, leaf.grad + 3.0)


@pytest.mark.parametrize("changed", ["leaf", "copy"])
def test_a_change_in_place_does_not_reach_the_graph_of_a_shallow_copy(changed: str) -> None:
    """Once no graph needs the one's values, they may change, though a graph needs the other's."""
    leaf = ag.tensor([1.0, 2.0], requires_grad=True)
    leaf_loss = (leaf * leaf).sum()
    twin = copy.copy(leaf)
    twin_loss = (twin * twin).sum()
    kept, loss = (twin, twin_loss) if changed == "leaf" else (leaf, leaf_loss)
    del leaf_loss, twin_loss
    with ag.no_grad():
        (leaf if changed == "leaf" else twin)[0] = 9.0
    loss.backward()
    np.testing.assert_array_equal(kept.grad, [2, 4])


def test_a_shallow_copy_of_a_result_has_its_graph() -> None:
    leaf = ag.tensor([1.0, 2.0], requires_grad=True)
    copy.copy(leaf * 3.0).sum().backward()
    np.testing.assert_array_equal(leaf.grad, [3, 3])


@each_way
def test_a_result_is_not_copied_without_its_graph(way: Callable[[Any], Any]) -> None:
    loss = (ag.tensor([1.0], requires_grad=True) * 2.0).sum()
    with pytest.raises(TypeError, match=r"a computed tensor, here of shape \(\), can be neither"):
        way({"loss": loss})
    assert way(loss.detach()).item() == 2


def train_in_another_process(training: Training) -> tuple[Training, list[float]]:
    losses = training.run(4)
    return training, losses


def test_a_training_goes_to_a_spawned_process_and_back() -> None:
    training = Training(OPTIMIZERS["average, automatic"])
    training.run(2)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        back, losses = pool.apply(train_in_another_process, (training,))
    assert training.run(4) == losses
    assert_equal(back.state(), training.state())
    assert training.run(3) == back.run(3)


@each_optimizer
def test_a_training_goes_through_joblib(
    make: Callable[[Params], optim.Optimizer], tmp_path: Any
) -> None:
    """joblib maps large arrays into the workers' memory, where they are read-only."""
    joblib = pytest.importorskip("joblib")
    training = Training(make)
    training.run(2)
    joblib.dump(training, tmp_path / "training")
    again = joblib.load(tmp_path / "training", mmap_mode="r")
    mapped = joblib.load(tmp_path / "training", mmap_mode="r")
    losses = training.run(4)
    assert again.run(4) == losses
    assert_equal(again.state(), training.state())
    if make is OPTIMIZERS["Adam"]:
        jobs = [joblib.delayed(train_in_another_process)(mapped) for _ in range(2)]
        results = joblib.Parallel(n_jobs=2, max_nbytes=1)(jobs)
        assert [result[1] for result in results] == [losses, losses]
        assert_equal(results[0][0].state(), training.state())
