"""The benchmark behind docs/when.md: its runs, and that the page shows its results."""

import json
import math
from functools import partial
from typing import Any

import pytest
import when
from rates.tasks import dense, table
from when import METHODS, RATES, SEEDS, TASKS, Task, best, load, measure, run

from agrad.errors import NonFiniteError

TINY = Task("tiny", partial(table, "iris"), partial(dense, depth=1, width=4), 8)


def test_the_page_shows_the_results() -> None:
    assert when.shown() == when.table(load())


@pytest.mark.parametrize("name", sorted({row["task"] for row in load()}))
def test_the_results_of_a_network_are_complete(name: str) -> None:
    assert name in {task.name for task in TASKS}
    rows = [row for row in load() if row["task"] == name]
    found = [(row["method"], row["rate"], row["seed"]) for row in rows]
    rates = {method: rates for method, (_, rates, _) in METHODS.items()}
    rates["longer"] = [best(rows, name, "cautious Adam")[0]["rate"]]
    expected = {(name, rate, seed) for name in rates for rate in rates[name] for seed in SEEDS}
    assert set(found) == expected
    assert len(found) == len(expected)


def test_a_method_is_measured_again_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(when, "STEPS", 10)
    monkeypatch.setattr(when, "SEEDS", (0,))
    rows: list[dict[str, Any]] = []
    measure([TINY], list(METHODS), rows)
    assert len(rows) == 3 * len(RATES) + 2
    before = [row["loss"] for row in rows]
    assert all(0 < loss < 10 for loss in before)
    measure([TINY], ["auto"], rows)
    assert [row["method"] for row in rows[-1:]] == ["auto"]
    assert sorted(before) == sorted(row["loss"] for row in rows)  # a run is reproducible
    line = when.table(rows).splitlines()[2]
    assert line.startswith("| tiny | ")
    assert line.count("|") == 8


def test_a_run_that_fails_is_the_worst() -> None:
    rows = [
        {"task": "t", "method": "Adam", "rate": rate, "seed": seed, "loss": loss}
        for rate, losses in {1.0: (None, None, 0.1), 2.0: (0.3, 0.2, 0.4)}.items()
        for seed, loss in enumerate(losses)
    ]
    assert [row["loss"] for row in best(rows, "t", "Adam")] == [0.3, 0.2, 0.4]
    assert when.finite(rows[0]) == math.inf


def test_a_loss_that_is_not_finite_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> float:
        raise NonFiniteError("the loss is nan")

    monkeypatch.setattr(when.Own, "step", fail)
    row = run(TINY, "Adam", 0.01, 0)
    assert row["loss"] is row["held_out"] is row["milliseconds"] is None
    assert json.loads(json.dumps(row)) == row
