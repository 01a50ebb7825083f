"""Estimates of the average gradient, in cases with known errors."""

import numpy as np
import pytest

import agrad as ag
from agrad import nn
from agrad.study.data import DataSet
from agrad.study.estimates import DIAGONALS, ESTIMATES, Estimates, Update


@pytest.fixture
def update():
    ag.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to("float64")
    random = np.random.default_rng(0)
    updates = [random.normal(0, 0.3, p.shape) for p in model.parameters()]
    return Update(model, random.normal(size=(5, 3)), np.arange(5) % 3, updates, 0)


def hessian(update):
    """Return the Hessian by central differences of gradients."""
    rows = []
    for unit in np.eye(update.vector.size):
        parts = np.split(unit, np.cumsum([u.size for u in update.updates])[:-1])
        update.updates, before = (
            [p.reshape(u.shape) for p, u in zip(parts, update.updates)],
            update.updates,
        )
        rows.append((update.gradient(1e-5) - update.gradient(-1e-5)) / 2e-5)
        update.updates = before
    return np.array(rows)


def test_estimates_by_their_formulas(update):
    g, matrix = update.gradient(0), hessian(update)
    close = {"rtol": 1e-7, "atol": 1e-9}
    np.testing.assert_allclose(update.second_order(), g + matrix @ update.vector / 2, **close)
    signs = np.random.default_rng(0)
    z = np.concatenate([signs.choice([-1.0, 1.0], u.shape).ravel() for u in update.updates])
    np.testing.assert_allclose(
        update.hutchinson(), g + z * (matrix @ z) * update.vector / 2, **close
    )


def test_the_average_gradient_is_complete_and_quadrature_true(update):
    change = update.loss_at(1).item() - update.loss_at(0).item()
    assert update.average() @ update.vector == pytest.approx(change, rel=1e-12)
    assert update.average(extrapolate=True) @ update.vector == pytest.approx(change, rel=1e-12)
    assert update.quadrature(16) @ update.vector == pytest.approx(change, rel=1e-10)


def test_the_labels_that_sophia_draws_have_the_model_s_shares(update):
    """The mean over draws of B·s ⊙ s is the diagonal of the Gauss-Newton matrix times 1/B sums."""
    g = update.gradient(0)
    draws = [2 * (update.gauss_newton_bartlett() - g) / update.vector for _ in range(400)]
    update.loss_at(0)
    shares = np.exp(update.model(update.inputs).data)
    shares /= shares.sum(1, keepdims=True)
    rows = np.arange(5)
    expected = np.zeros_like(g)
    for i in rows:
        for label in range(3):
            labels = update.labels.copy()
            update.inputs, whole = update.inputs[i : i + 1], update.inputs
            expected += shares[i, label] * update.gradient(0, labels[:1] * 0 + label) ** 2 / 5
            update.inputs = whole
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.mean(draws, axis=0), expected, atol=0.15 * scale)


def test_a_judgement_along_a_training(monkeypatch):
    random = np.random.default_rng(0)
    data = DataSet((random.random((64, 3, 3), np.float32), np.arange(64) % 4), (None, None))
    monkeypatch.setattr("agrad.study.estimates.load_once", lambda name: data)
    job = Estimates("tiny", "tanh", 0, (1, 3), depth=3, width=8, batch_size=16, timed=True)
    found = job.result()
    assert found.keys() == (ESTIMATES | DIAGONALS).keys()
    assert all(len(entry["vector"]) == len(entry["change"]) == 2 for entry in found.values())
    assert max(found["average gradient"]["change"]) < 1e-9
    assert max(found["average gradient"]["vector"]) < min(found["gradient"]["vector"])
    assert all(entry["seconds"] > 0 < entry["peak_bytes"] for entry in found.values())
    untimed = Estimates("tiny", "tanh", 0, (1, 3), depth=3, width=8, batch_size=16).result()
    assert untimed["gradient"] == {k: found["gradient"][k] for k in ("vector", "change")}
