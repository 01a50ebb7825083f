"""False states are refused, and nothing changes; see also fuzz.py."""

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


def make_parts(seed: int = 0, epochs: int = 1) -> dict[str, Any]:
    """One of each kind of part that has a state, after some steps."""
    ag.seed(seed)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    base = optim.Adam(model.parameters(), lr=0.1 * (1 + seed))
    optimizer = optim.AverageGradient(base, every=2)
    parts = {
        "model": model,
        "average": optimizer,
        "rmsprop": optim.RMSprop(nn.Linear(2, 2).parameters(), lr=0.01 + seed, centered=True),
        "schedule": optim.StepLR(optimizer, step_size=2),
        "plateau": optim.ReduceLROnPlateau(optim.SGD(nn.Linear(2, 2).parameters()), patience=1),
        "ema": optim.EMA(model.parameters()),
        "batches": Batches(np.arange(9), batch_size=2, seed=seed),
    }
    for _ in range(epochs):
        advance(parts)
    return parts


PARTS = ["model", "average", "rmsprop", "schedule", "plateau", "ema", "batches"]


def advance(parts: dict[str, Any]) -> None:
    """Make the steps of an epoch."""
    model, optimizer, rmsprop = (parts[name] for name in ("model", "average", "rmsprop"))
    for (rows,) in parts["batches"]:
        optimizer.zero_grad()
        optimizer.step((model(np.eye(2, dtype=np.float32)) ** 2).sum() * len(rows))
        for param in rmsprop.params:
            param.grad = np.ones_like(param.data)
        rmsprop.step()
        parts["schedule"].step()
        parts["plateau"].step(float(len(rows)))
        parts["ema"].update()


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("other", [False, True])
def test_a_false_state_is_refused_or_loaded_as_given(name: str, other: bool) -> None:
    """Whether the state is otherwise the part's own or that of another part."""
    parts = make_parts()
    assert [*parts] == PARTS
    part = parts[name]
    before = part.state_dict()
    told = make_parts(seed=1, epochs=2)[name].state_dict() if other else before
    refused = 0
    for seed in range(300):
        state = lying(Random(seed), told)
        try:
            part.load_state_dict(state)
        except (TypeError, ValueError):
            refused += 1
            assert comparable(part.state_dict()) == comparable(before)
        else:
            assert comparable(part.state_dict()) == comparable(state)
            part.load_state_dict(before)
    assert refused > 30


def test_a_state_is_a_copy() -> None:
    """Later steps change neither what was returned nor what was loaded."""
    source, target = make_parts(), make_parts(seed=1)
    states = {name: part.state_dict() for name, part in source.items()}
    before = comparable(states)
    advance(source)
    assert comparable(states) == before
    for name, part in target.items():
        part.load_state_dict(states[name])
    advance(target)
    assert comparable(states) == before
    for name, part in target.items():
        assert comparable(part.state_dict()) == comparable(source[name].state_dict())


@pytest.mark.parametrize("name", PARTS)
def test_whoever_changes_a_state_changes_no_part(name: str) -> None:
    part = make_parts()[name]
    state = part.state_dict()
    before = comparable(state)
    scribble(state)
    assert comparable(part.state_dict()) == before
    state = make_parts(seed=1, epochs=2)[name].state_dict()
    loaded = comparable(state)
    part.load_state_dict(state)
    scribble(state)
    assert comparable(part.state_dict()) == loaded


def scribble(state: Any) -> None:
    """Change every array of nested dicts in place."""
    for value in state.values():
        if isinstance(value, dict):
            scribble(value)
        elif isinstance(value, np.ndarray):
            value[...] = 7


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
    with pytest.raises(CorruptDataError, match="holds another checkpoint than"):
        _read(path).restore(parts)


def test_a_parameter_that_made_no_step_has_no_state() -> None:
    part = make_parts()["rmsprop"]
    before = part.state_dict()
    state = part.state_dict()
    state["parameters"]["1"]["steps"] = 0
    with pytest.raises(ValueError, match="parameter 1 must be a number of steps, at least 1"):
        part.load_state_dict(state)
    assert comparable(part.state_dict()) == comparable(before)
