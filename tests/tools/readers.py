"""Properties of every model that reads sequences of ids, with their data and loops."""

import copy
from collections.abc import Callable

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.ops.part import noting_calls, part_of
from agrad.train import capture_step

IDS = np.random.default_rng(3).integers(1, 9, (12, 7))
"""Twelve sequences of ids below 9; every other one ends with two ids of padding, 0."""
IDS[:, 5:] *= np.arange(12)[:, None] % 2
LABELS = np.arange(12) % 3

Make = Callable[[float], nn.Module]
"""Returns a classifier of three classes, with a probability of dropout."""


def require_complete_averages(make: Make, captured: bool) -> None:
    ag.seed(0)
    model = make(0.0).to("float64")
    run = ag.capture(model) if captured else model
    rng = np.random.default_rng(0)
    for _ in range(2):
        loss = F.cross_entropy(run(IDS), LABELS)
        updates = {p: 0.3 * rng.normal(size=p.shape) for p in model.parameters()}
        model.zero_grad()
        end = loss.average_backward(updates)
        change = sum((p.average_grad * updates[p]).sum() for p in model.parameters())
        assert float(end) - loss.item() == pytest.approx(change, rel=1e-10)


def require_the_same_bits_captured(make: Make) -> None:
    results = []
    for captured in (False, True):
        ag.seed(0)
        model = make(0.2)
        run = ag.capture(model) if captured else model
        for ids in (IDS, IDS[::-1].copy()):
            model.zero_grad()
            loss = F.cross_entropy(run(ids), LABELS)
            updates = {p: np.full_like(p.data, 0.01) for p in model.parameters()}
            loss.average_backward(updates, retain_graph=True)
            loss.backward()
        results.append([a for p in model.parameters() for a in (p.grad, p.average_grad)])
    for eager, captured_too in zip(*results, strict=True):
        np.testing.assert_array_equal(eager, captured_too)


def require_rows_as_in_their_batch(make: Make) -> None:
    ag.seed(0)
    model = make(0.3)
    with noting_calls() as calls:
        out = model(IDS)
    with part_of(calls):
        rows = model(IDS[:4])
    np.testing.assert_allclose(rows.data, out.data[:4], rtol=1e-5, atol=1e-6)


def require_training(make: Make, lr: float) -> None:
    ag.seed(0)
    model = make(0.1)
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=lr), probe_size=4)
    step = capture_step(model, optimizer)
    losses = [step(IDS, LABELS) for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    twin = copy.deepcopy(model).eval()
    twin.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(twin(IDS).data, model.eval()(IDS).data)
