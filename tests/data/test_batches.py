"""Batches: whole epochs, their orders, and states that resume them."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad import nn
from agrad.data import Batches, Subset, random_split
from agrad.train import evaluate

SETTINGS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 8),
        "shuffle": st.booleans(),
        "seed": st.none() | st.integers(0, 2**70),
    }
)


def rows(batches: Any) -> list[list[int]]:
    return [batch[0].tolist() for batch in batches]


@given(examples=st.integers(1, 30), settings=SETTINGS)
def test_an_epoch_has_every_example_once_and_rows_stay_together(
    examples: int, settings: dict[str, Any]
) -> None:
    x = np.arange(examples)
    batches = Batches(x, np.stack([x, -x], axis=1), **settings)
    for epoch in range(3):
        assert batches.epoch == epoch
        epoch_batches = list(batches)
        assert len(epoch_batches) == len(batches)
        assert all(len(a) == settings["batch_size"] for a, _ in epoch_batches[:-1])
        for a, b in epoch_batches:
            np.testing.assert_array_equal(b, np.stack([a, -a], axis=1))
        order = np.concatenate([a for a, _ in epoch_batches])
        np.testing.assert_array_equal(np.sort(order), x)
        if not settings["shuffle"]:
            np.testing.assert_array_equal(order, x)


@given(examples=st.integers(1, 30), batch_size=st.integers(1, 8))
def test_drop_last_leaves_out_only_a_short_batch(examples: int, batch_size: int) -> None:
    if examples < batch_size:
        with pytest.raises(ValueError, match=f"no batch of {batch_size} in {examples} examples"):
            Batches(np.arange(examples), batch_size=batch_size, drop_last=True)
        return
    batches = Batches(np.arange(examples), batch_size=batch_size, drop_last=True)
    order = rows(batches)
    assert [len(batch) for batch in order] == [batch_size] * (examples // batch_size)
    assert len(batches) == len(order)
    assert len(set(itertools.chain(*order))) == batch_size * len(order)


@given(examples=st.integers(1, 30), settings=SETTINGS)
def test_drop_last_changes_no_order(examples: int, settings: dict[str, Any]) -> None:
    """Every epoch has the same batches as without `drop_last`, except the short one at its end."""
    size = settings["batch_size"]
    if examples < size:
        return
    settings["seed"] = settings["seed"] or 0
    whole = Batches(np.arange(examples), **settings)
    dropping = Batches(np.arange(examples), **settings, drop_last=True)
    for _ in range(3):
        assert rows(dropping) == [batch for batch in rows(whole) if len(batch) == size]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_every_epoch_has_another_order(batch_size: int, drop_last: bool) -> None:
    batches = Batches(np.arange(50), batch_size=batch_size, drop_last=drop_last, seed=0)
    orders = [rows(batches) for _ in range(4)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    batches.load_state_dict(batches.state_dict() | {"epoch": 1})
    assert rows(batches) == orders[1]


@given(
    examples=st.integers(1, 20),
    settings=SETTINGS,
    given_before=st.integers(0, 50),
    checked=st.integers(1, 30),
)
def test_a_saved_state_resumes_with_the_very_next_batch(
    examples: int, settings: dict[str, Any], given_before: int, checked: int
) -> None:
    x = np.arange(examples)
    batches = Batches(x, **settings)
    for _ in itertools.islice(batches.forever(), given_before):
        state = batches.state_dict()  # saved while the batch is in use
    if not given_before:
        state = batches.state_dict()
    resumed = Batches(x, **{**settings, "seed": 12345})
    resumed.load_state_dict(json.loads(json.dumps(state)))
    assert resumed.epoch == batches.epoch == given_before // len(batches)
    following = rows(itertools.islice(batches.forever(), checked))
    assert rows(itertools.islice(resumed.forever(), checked)) == following
    assert resumed.state_dict() == batches.state_dict()


def test_a_loop_ends_with_the_epoch_even_when_resumed() -> None:
    batches = Batches(np.arange(6), batch_size=2, shuffle=False)
    next(iter(batches))
    assert rows(batches) == [[2, 3], [4, 5]]
    assert rows(batches) == [[0, 1], [2, 3], [4, 5]]


def test_orders_depend_on_the_epoch_and_the_seed_alone() -> None:
    def orders(seed: int | None) -> list[list[list[int]]]:
        batches = Batches(np.arange(50), batch_size=50, seed=seed)
        np.random.seed(0)  # noqa: NPY002
        ag.seed(0)
        return [rows(batches) for _ in range(3)]

    found = orders(0) + orders(1)
    assert all(a != b for a, b in itertools.combinations(found, 2))
    assert orders(0) == found[:3]
    ag.seed(1)
    assert orders(0) == found[:3]


def test_the_package_seed_is_the_default() -> None:
    orders = []
    for seed in (3, 4, 3):
        ag.seed(seed)
        orders.append([rows(Batches(np.arange(50), batch_size=50)) for _ in range(2)])
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert orders[0][0] != orders[0][1]


@pytest.mark.parametrize(
    ("arrays", "settings", "error", "message"),
    [
        ([], {}, ValueError, "at least one array"),
        ([[1, 2]], {}, TypeError, "argument 0 is of type list"),
        ([np.ones(2), np.ones(())], {}, ValueError, "argument 1 is 0-d"),
        ([np.ones(2), np.ones((3, 2))], {}, ValueError, r"the arrays have \[2, 3\] examples"),
        ([np.ones((0, 2))], {}, ValueError, "no batch of 2 in 0 examples"),
        ([(np.ones(2), np.ones(()))], {}, ValueError, r"argument 0\[1\] is 0-d"),
        ([np.ones(2), {"a": [1, 2]}], {}, TypeError, r"argument 1\['a'\] is of type list"),
        ([(np.ones(2), np.ones(3)), np.ones(2)], {}, ValueError, r"the arrays have \[2, 3, 2\]"),
        ([np.ones(2)], {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ([np.ones(2)], {"batch_size": 1.0}, TypeError, "batch_size must be an integer, got float"),
        ([np.ones(2)], {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ([np.ones(2)], {"seed": "a"}, TypeError, "seed must be an integer, got str"),
        ([np.ones(2)], {"transform": 3}, TypeError, "transform must be a function, got a int"),
        ([range(2)], {"collate": "x"}, TypeError, "collate must be a function, got a str"),
        ([np.ones(2)], {"weights": "ab"}, TypeError, "weights must be numbers, got 'ab'"),
    ],
)
def test_arguments_that_make_no_batches_are_named(
    arrays: list[Any], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"Batches: {message}"):
        Batches(*arrays, **{"batch_size": 2, **settings})


class Labelled:
    """Like a column of pandas: indexed by labels, here the positions in reverse order."""

    iloc = None

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.shape = self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, labels: Any) -> Any:
        return self.values[::-1][labels]

    def to_numpy(self) -> Any:
        return self.values


def test_tables_of_pandas_are_taken_by_position() -> None:
    x, y = np.arange(10.0), Labelled(np.arange(10))
    for a, b in Batches(x, {"y": y}, batch_size=3):
        np.testing.assert_array_equal(a, b["y"])
    for a, b in random_split((x, y), [0.5, 0.5], seed=0):
        np.testing.assert_array_equal(a, b)
    assert [Subset(y, [3, 1])[i] for i in (0, 1)] == [3, 1]
    logits = np.eye(10, dtype=np.float32)
    assert evaluate(nn.Identity(), logits, y, batch_size=4).accuracy == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": 8}, "saved with examples=8, these Batches have 7"),
        ({"batch_size": 3}, "saved with batch_size=3, these Batches have 2"),
        ({"shuffle": False}, "saved with shuffle=False"),
        ({"drop_last": True}, "saved with drop_last=True"),
        ({"extra": 1}, "not a state of Batches"),
        ({"batch": 4}, "batch must be below 4, .* got 4"),
        ({"batch": -1}, "batch must be at least 0"),
        ({"epoch": -1}, "epoch must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 0.5}, "seed must be an integer"),
    ],
)
def test_a_state_of_other_batches_is_refused_and_changes_nothing(
    change: dict[str, Any], message: str
) -> None:
    batches = Batches(np.arange(7), batch_size=2)
    before = batches.state_dict()
    with pytest.raises((TypeError, ValueError), match=message):
        batches.load_state_dict({**before, "epoch": 1, "batch": 2, **change})
    assert batches.state_dict() == before
