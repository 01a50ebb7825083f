"""The best weights, and the number of epochs since then."""

import math

import numpy as np
import pytest

from agrad import nn
from agrad.train.best import BestWeights


def test_the_patience_starts_again_at_each_better_score() -> None:
    model = nn.Linear(1, 1, bias=False)
    best = BestWeights(model, min_delta=0.1)
    found = []
    for epoch, score in enumerate([3.0, 3.5, math.nan, 2.0, 1.95, 1.8, 9.0], 1):
        nn.init.constant_(model.weight, epoch)
        found.append((best.update(epoch, score), best.epoch, best.stale))
    assert found == [
        (True, 1, 0),
        (False, 1, 1),
        (False, 1, 2),
        (True, 4, 0),
        (False, 4, 1),
        (True, 6, 0),
        (False, 6, 1),
    ]
    assert best.score == 1.8
    best.restore()
    assert model.weight.item() == 6


def test_nothing_is_restored_before_a_score() -> None:
    model = nn.Linear(1, 1, bias=False)
    best = BestWeights(model, "max")
    before = model.weight.item()
    assert not best.update(1, math.nan)
    best.restore()
    assert model.weight.item() == before
    assert best.update(2, -math.inf)


def test_an_interrupted_update_leaves_no_epoch_without_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Linear(1, 1)
    best = BestWeights(model)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "state_dict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        best.update(1, 0.5)
    assert best.epoch is None
    best.restore()


def test_a_state_is_a_copy_and_is_checked() -> None:
    model = nn.Linear(2, 1)
    best = BestWeights(model)
    best.update(1, 0.5)
    state = best.state_dict()
    other = BestWeights(model)
    other.load_state_dict(state)
    state["weights"]["weight"][:] = 7
    assert not (other.state_dict()["weights"]["weight"] == 7).any()
    before = other.state_dict()
    for change in ({"epoch": 0}, {"epoch": None}, {"score": "a"}, {"stale": -1}, {"weights": {}}):
        with pytest.raises(ValueError, match="state"):
            other.load_state_dict({**before, **change})
    with pytest.raises(ValueError, match=r"expected .*epoch"):
        other.load_state_dict({})
    np.testing.assert_equal(other.state_dict(), before)
    for arguments, message in (
        ({"mode": "best"}, "mode must be"),
        ({"min_delta": -1}, "min_delta"),
    ):
        with pytest.raises(ValueError, match=message):
            BestWeights(model, **arguments)
