"""Threads train their own models as if alone, and lose no gradient of a shared model."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad import nn, optim
from agrad.checkpoint import Checkpoints
from agrad.data import Batches
from agrad.train import evaluate, train

STEPS = 15


def network(kind: str) -> nn.Sequential:
    if kind == "dense":
        hidden = [nn.Flatten(), nn.Linear(36, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.4)]
        return nn.Sequential(*hidden, nn.Linear(16, 3))
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def optimizer(params: Any, kind: str) -> Any:
    if kind == "dense":
        return optim.AverageGradient(optim.Adam(params, lr=1e-3), lr="auto")
    return optim.AverageGradient(optim.Muon(params, lr=1e-2), every=2, granularity="row")


def trained(kind: str, seed: int, turn: threading.Barrier, folder: Path) -> dict[str, Any]:
    """Train a network, step by step in turn with the other threads, and return all states."""
    random = np.random.default_rng(seed)
    labels = np.arange(40) % 3
    images = random.standard_normal((40, 6, 6)).astype(np.float32)
    turn.wait(20)
    ag.seed(seed)
    model = network(kind)
    rule = optimizer(model.parameters(), kind)
    batches = Batches(images, labels, batch_size=16)
    parts = {"model": model, "optimizer": rule, "batches": batches}
    with Checkpoints(folder / f"{kind}-{seed}") as checkpoints:
        for step in train(model, rule, batches, STEPS):
            turn.wait(20)
            if step.iteration % 5 == 0:  # while others record
                evaluate(model, images, labels, batch_size=8)
                checkpoints.save(step.iteration, parts)
    states = {name: part.state_dict() for name, part in parts.items()}
    return {**states, "random": ag.random.get_state()}


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def assert_equal(found: Any, expected: Any, *keys: str) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key], *keys, key)
    else:
        np.testing.assert_array_equal(found, expected, err_msg=".".join(keys))


RUNS = [("dense", 1), ("conv", 1), ("dense", 2), ("conv", 2)]


@pytest.mark.parametrize("runs", [RUNS[:2], RUNS[::2], RUNS[1::2], RUNS])
def test_threads_train_as_if_alone(
    runs: list[tuple[str, int]], frequent_switches: None, tmp_path: Path
) -> None:
    alone = [trained(*run, threading.Barrier(1), tmp_path / "alone") for run in runs]
    turn = threading.Barrier(len(runs))
    with ThreadPoolExecutor(len(runs)) as pool:
        futures = [pool.submit(trained, *run, turn, tmp_path / "together") for run in runs]
        together = [future.result() for future in futures]
    for run, found, expected in zip(runs, together, alone):
        assert_equal(found, expected, *map(str, run))


def test_a_switch_in_one_thread_does_not_affect_another() -> None:
    inside, done = threading.Barrier(2), threading.Barrier(2)

    def records_nothing() -> bool:
        with ag.no_grad():
            inside.wait(20)
            done.wait(20)
            return ag.is_grad_enabled()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(records_nothing)
        inside.wait(20)
        assert ag.is_grad_enabled()
        assert ag.exp(ag.tensor(1.0, requires_grad=True)).requires_grad
        done.wait(20)
        assert not other.result()


def in_threads(work: Callable[[int], None], count: int = 8) -> None:
    """Call `work` with each number below `count`, in threads that start together."""
    start = threading.Barrier(count)

    def call(number: int) -> None:
        start.wait(20)
        work(number)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(call, number) for number in range(count)]:
            future.result()


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_no_gradient_of_a_shared_leaf_is_lost(
    captured: bool, together: bool, frequent_switches: None
) -> None:
    weight = ag.tensor(np.zeros(3), requires_grad=True)
    bias = ag.tensor(np.zeros(3), requires_grad=True)
    if together:
        optim.SGD([weight, bias], lr=0).step(((weight + bias) * 0).sum())
        weight.zero_grad()
        bias.zero_grad()

    def function(x: ag.Tensor) -> ag.Tensor:
        return (weight * x + bias).sum()

    loss_of = ag.capture(function) if captured else function

    def sweep(number: int) -> None:
        for _ in range(100):
            loss = loss_of(ag.tensor([1.0, 2.0, 3.0]) * (number + 1))
            loss.average_backward({weight: np.ones(3)}, retain_graph=True)
            loss.backward()

    in_threads(sweep)
    for name in ("grad", "average_grad"):
        np.testing.assert_array_equal(getattr(weight, name), 100 * 36 * np.array([1.0, 2.0, 3.0]))
        np.testing.assert_array_equal(getattr(bias, name), [800.0] * 3)


def test_threads_that_capture_together_get_their_own_results(frequent_switches: None) -> None:
    weight = ag.tensor(2.0, requires_grad=True)
    for _ in range(50):
        loss_of = ag.capture(lambda x: (weight * x).sum())

        def check(number: int, loss_of: Any = loss_of) -> None:
            x = np.full(4, float(number), np.float32)
            assert loss_of(x).item() == 8 * number

        in_threads(check, 4)
