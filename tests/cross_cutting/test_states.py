"""States that do not tell the truth are refused, and nothing has changed; see also fuzz.py."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from damage import comparable, lying

import agrad as ag
from agrad import nn, optim
from agrad.checkpoint import Checkpoints, _read
from agrad.data import Batches
from agrad.errors import CorruptDataError


def make_parts() -> dict[str, Any]:
    """One of each that has a state, after some steps."""
    ag.seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1), every=2)
    parts = {
        "model": model,
        "average": optimizer,
        "rmsprop": optim.RMSprop(nn.Linear(2, 2).parameters(), centered=True),
        "schedule": optim.StepLR(optimizer, step_size=2),
        "ema": optim.EMA(model.parameters()),
        "batches": Batches(np.arange(9), batch_size=2, seed=0),
    }
    for (rows,) in parts["batches"]:
        optimizer.zero_grad()
        optimizer.step((model(np.eye(2, dtype=np.float32)) ** 2).sum() * len(rows))
        for param in parts["rmsprop"].params:
            param.grad = np.ones_like(param.data)
        parts["rmsprop"].step()
        parts["schedule"].step()
        parts["ema"].update()
    return parts


PARTS = ["model", "average", "rmsprop", "schedule", "ema", "batches"]


@pytest.mark.parametrize("name", PARTS)
def test_a_lying_state_is_refused_or_taken_up_as_it_is(name: str) -> None:
    parts = make_parts()
    assert [*parts] == PARTS
    part = parts[name]
    before = part.state_dict()
    refused = 0
    for seed in range(300):
        state = lying(Random(seed), before)
        try:
            part.load_state_dict(state)
        except (TypeError, ValueError):
            refused += 1
            assert comparable(part.state_dict()) == comparable(before)
        else:
            assert comparable(part.state_dict()) == comparable(state)
            part.load_state_dict(before)
    assert refused > 30


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan")])
def test_a_rate_beyond_all_floats_is_refused(value: Any) -> None:
    optimizer = optim.SGD([ag.tensor([1.0], requires_grad=True)], lr=0.5)
    with pytest.raises(ValueError, match="SGD: lr must"):
        optimizer.load_state_dict({"lr": value, "parameters": {}})
    assert optimizer.lr == 0.5


@pytest.mark.parametrize(
    "change",
    [
        *({key: None} for key in ("agrad", "iteration", "kinds", "random", "settings", "metrics")),
        *({"best": best} for best in (3, {}, {"iteration": "../7", "score": 0.5})),
        {"kinds": {"model": "Linear", "other": "Linear"}},
        {"more": 1},
    ],
)
@pytest.mark.parametrize("left_out", [False, True])
def test_a_record_that_lies_is_refused(
    change: dict[str, Any], left_out: bool, tmp_path: Path
) -> None:
    parts = {"model": nn.Linear(2, 2)}
    with Checkpoints(tmp_path) as checkpoints:
        path = checkpoints.save(7, parts, score=0.5)
    state = ag.load(path)
    record = state["checkpoint"] | ({"less": 1} if left_out else change)
    if left_out:
        record = {key: value for key, value in record.items() if key not in change}
    ag.save(path, state | {"checkpoint": record})
    with pytest.raises(ValueError, match=r"00000007\.safetensors"):
        _read(path).restore(parts)


def test_a_checkpoint_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    parts = {"model": nn.Linear(2, 2), "other": nn.Linear(2, 2)}
    with Checkpoints(tmp_path) as checkpoints:
        path = checkpoints.save(7, parts)
    state = ag.load(path)
    del state["other"]
    ag.save(path, state)
    with pytest.raises(CorruptDataError, match="is not the checkpoint that"):
        _read(path).restore(parts)


def test_a_parameter_that_made_no_step_has_no_state() -> None:
    part = make_parts()["rmsprop"]
    before = part.state_dict()
    state = part.state_dict()
    state["parameters"]["1"]["steps"] = 0
    with pytest.raises(ValueError, match="steps of parameter 1 must be a number of steps from 1"):
        part.load_state_dict(state)
    assert comparable(part.state_dict()) == comparable(before)
