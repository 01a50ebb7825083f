"""The suite of learning rates: tasks, methods, resumption and report."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rates import ablations, cells, report
from rates.__main__ import parse
from rates.cells import Cell, Watch, estimate, key_of, load, plan, run_cells, summary
from rates.methods import ABLATIONS, AUTO, METHODS, RATES, STARTS, Own, Peer, decay
from rates.report import Line, bars, lines, page, ranks, write_report
from rates.tasks import TASKS, Data, Task, badly_scaled, dense, housing, images, linear, table
from source_tree import ROOT

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim

TINY = Task("tiny", partial(table, "iris"), partial(dense, depth=1, width=4), 8, (20,))

# -- tasks -----------------------------------------------------------------------------------------


def test_the_tasks_cover_what_they_promise() -> None:
    assert 24 <= len(TASKS) == len({task.name for task in TASKS}) <= 30
    assert {len(task.horizons) for task in TASKS} == {1, 2}
    assert {task.batch_size for task in TASKS} >= {1, 8, 128, 1024}
    steps = [steps for task in TASKS for steps in task.horizons]
    assert (min(steps), max(steps)) == (240, 10_000)
    assert sum(task.starts for task in TASKS) == 6
    assert sum(task.loss_function is F.mse_loss for task in TASKS) >= 4
    activations = {type(layer) for task in TASKS[:16] for layer in task.network(task.data())}
    assert len(activations & {nn.Tanh, nn.ReLU, nn.ELU, nn.GELU, nn.Softsign, nn.Sigmoid}) == 6


def test_a_share_of_the_training_labels_is_random() -> None:
    clean, noisy = images("digits"), images("digits", 0.3)
    wrong = np.mean(clean.train[1] != noisy.train[1])
    assert wrong == pytest.approx(0.3 * 0.9, abs=0.03)  # a tenth of the random labels is right
    np.testing.assert_array_equal(clean.validation[1], noisy.validation[1])
    np.testing.assert_array_equal(clean.train[0], noisy.train[0])


def test_the_validation_loss_of_the_linear_regression_is_the_excess_risk() -> None:
    data = linear(noise=0.5)
    solution = np.linalg.lstsq(data.validation[0], data.validation[1], rcond=None)[0]
    assert np.mean((data.validation[0] @ solution - data.validation[1]) ** 2) < 1e-10
    residual = data.train[0] @ solution - data.train[1]
    assert residual.std() == pytest.approx(0.5, rel=0.05)


def test_the_scales_of_bad_inputs() -> None:
    scales = badly_scaled().train[0].std(axis=0)
    np.testing.assert_allclose(scales, np.logspace(-2, 2, 10), rtol=0.01)


@pytest.mark.parametrize("make", [housing, partial(table, "diabetes"), partial(table, "wine")])
def test_tables_are_standardized_and_split(make: Any) -> None:
    data: Data = make()
    inputs, targets = data.train
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(inputs.std(axis=0), 1, rtol=1e-4)
    if targets.dtype.kind == "f":
        assert targets.shape == (len(inputs), 1)
        assert targets.std() == pytest.approx(1, rel=1e-4)
    total = len(inputs) + len(data.validation[0])
    assert len(data.validation[0]) == len(data.validation[1]) == total // 5
    np.testing.assert_array_equal(inputs, make().train[0])


# -- methods ---------------------------------------------------------------------------------------


def test_the_decay_by_hand() -> None:
    factors = [decay(step, 10) for step in range(1, 11)]
    np.testing.assert_allclose(factors, [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def make_batches(count: int) -> list[tuple[Any, Any]]:
    inputs, labels = table("iris").train
    return [(inputs[i : i + 8], labels[i : i + 8]) for i in range(0, 8 * count, 8)]


def make_model() -> nn.Module:
    ag.seed(0)
    return TINY.network(TINY.data())


def test_a_peer_steps_the_arrays_of_agrad() -> None:
    torch = pytest.importorskip("torch")
    own_model, peer_model = make_model(), make_model()
    own = Own(own_model, F.cross_entropy, optim.SGD(own_model.parameters(), lr=0.5))
    peer = Peer(peer_model, F.cross_entropy, partial(torch.optim.SGD, lr=0.5))
    batches = make_batches(3)
    before = peer.loss(*batches[0])
    for batch, factor in zip(batches, (1.0, 0.5, 0.0)):
        loss = own.step(*batch, factor)
        assert peer.step(*batch, factor) == pytest.approx(loss, rel=1e-5)
    for mine, theirs in zip(own_model.parameters(), peer_model.parameters()):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-7)
    assert peer.loss(*batches[0]) < before


def test_a_loss_that_is_not_finite_stops_a_peer() -> None:
    torch = pytest.importorskip("torch")
    model = make_model()
    run = Peer(model, F.cross_entropy, partial(torch.optim.SGD, lr=0.1))
    before = [param.numpy().copy() for param in model.parameters()]
    inputs, labels = make_batches(1)[0]
    with pytest.raises(ag.errors.NonFiniteError, match="the loss is nan"):
        run.step(inputs * np.float32("nan"), labels, 1.0)
    assert all(map(np.array_equal, before, (param.numpy() for param in model.parameters())))


def test_weights_to_use_are_those_of_the_evaluation() -> None:
    torch = pytest.importorskip("torch")

    class Averaged(torch.optim.SGD):
        """The weights to use are 1 above those to train."""

        in_use = False

        def eval(self) -> None:
            self._move(1.0)

        def train(self) -> None:
            if self.in_use:
                self._move(-1.0)

        @torch.no_grad()
        def _move(self, by: float) -> None:
            self.in_use = not self.in_use
            for group in self.param_groups:
                for param in group["params"]:
                    param += by

    model = make_model()
    run = Peer(model, F.cross_entropy, partial(Averaged, lr=0.1))
    before = [param.numpy().copy() for param in model.parameters()]
    with run.evaluating():
        used = [param.numpy().copy() for param in model.parameters()]
    for old, new, param in zip(before, used, model.parameters()):
        np.testing.assert_array_equal(new, old + np.float32(1))
        np.testing.assert_allclose(param.numpy(), old, atol=1e-6)
    assert not run.optimizer.in_use


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("Prodigy", "prodigyopt"),
        ("D-Adaptation", "dadaptation"),
        ("DoG", "dog"),
        ("Schedule-Free", "schedulefree"),
    ],
)
def test_the_peers_train(name: str, package: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip(package)
    assert report.PEERS == ["Prodigy", "D-Adaptation", "DoG", "Schedule-Free"]
    row = Cell(replace(TINY, horizons=(200,)), 200, name, None, seed=0).run()
    assert row["failed"] is None
    assert row["final"] < row["initial"]


# -- cells -----------------------------------------------------------------------------------------


def test_every_task_first_gets_one_seed_of_the_automatic_rate_and_of_adam() -> None:
    tasks = [replace(TINY, name="a", horizons=(20, 40)), replace(TINY, name="b", starts=True)]
    found = plan(tasks, METHODS, range(3))
    keys = [cell.key for cell in found]
    assert len(keys) == len(set(keys))
    first = found[: 3 * (1 + len(RATES))]
    assert {(cell.method, cell.seed) for cell in first} == {(AUTO, 0), ("Adam", 0)}
    assert [cell.task.name for cell in first] == ["a"] * 16 + ["b"] * 8
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)
    assert {cell.method for cell in found if cell.seed == 0} == set(METHODS)
    others = [cell for cell in found if cell.method == AUTO and cell.rate in STARTS]
    assert {cell.task.name for cell in others} == {"b"}
    assert len(others) == 3 * len(STARTS)
    assert not set(others) & set(first)


def test_a_run_and_its_numbers() -> None:
    cell = Cell(TINY, 20, AUTO, 1e-4, seed=3)
    row, again = cell.run(), cell.run()
    assert key_of(row) == cell.key == ("tiny", 20, AUTO, 1e-4, 3)
    timed = ("seconds", "seconds_per_step")
    assert {k: v for k, v in row.items() if k not in timed} == {
        k: v for k, v in again.items() if k not in timed
    }
    assert row["failed"] is None
    assert len(row["windows"]) == 20
    assert row["final"] == row["windows"][-1]
    assert row["lowest"] == min(row["windows"])
    assert len(row["validation_loss"]) == len(row["validation_accuracy"]) == 10
    assert row["rate_range"] == [min(row["rates"]), max(row["rates"])]
    assert len(row["fractions"]) == 20
    assert row["zero_steps"] == 0
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert Cell(TINY, 20, AUTO, 1e-4, seed=4).run()["final"] != row["final"]


def test_the_initial_loss_is_that_of_any_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images("digits")
    order = np.argsort(data.train[1], kind="stable")
    sorted_data = replace(data, train=tuple(part[order] for part in data.train))
    task = replace(TINY, data=lambda: sorted_data, network=partial(dense, depth=0))
    monkeypatch.setattr(cells, "EXAMPLES", 200)
    some = Cell(task, 1, "Adam", 1e-3, 0).run()["initial"]
    monkeypatch.setattr(cells, "EXAMPLES", 10_000)
    every = Cell(task, 1, "Adam", 1e-3, 0).run()["initial"]
    assert some != every
    assert some == pytest.approx(every, rel=0.05)


def test_the_rate_decays_with_the_steps_of_the_run() -> None:
    rows = [Cell(TINY, 20, name, 1e-4, 0).run() for name in (AUTO, f"{AUTO}, no decay")]
    assert rows[0]["windows"][:8] == rows[1]["windows"][:8]
    assert rows[0]["windows"][-1] != rows[1]["windows"][-1]


def test_a_loss_that_is_not_finite_is_a_result() -> None:
    row = Cell(TINY, 20, "Adam", 1e38, seed=0).run()
    assert "(step 2)" in row["failed"]
    assert row["final"] is None
    assert row["windows"][1:] == [None] * 19
    assert row["validation_loss"] == []


def test_the_automatic_rate_is_seen_from_outside() -> None:
    weight = ag.tensor([[3.0, 4.0]], requires_grad=True)
    bias = ag.tensor([100.0], requires_grad=True)
    optimizer = SimpleNamespace(lr=0.5, fraction=None)
    watch = Watch(optimizer, SimpleNamespace(parameters=lambda: iter([weight, bias])))
    watch.see()
    bias.writable()[...] += 1
    optimizer.lr, optimizer.fraction = 0.25, 0.75
    watch.see()
    seen = watch.seen()
    assert seen["zero_steps"] == 1
    assert seen["rates"] == [0.5, 0.25]
    assert seen["rate_range"] == [0.25, 0.5]
    moved = math.sqrt(1 / 3)  # by the second of two steps, over the median RMS of the weights
    assert seen["largest_share"] == pytest.approx(moved / math.sqrt(12.5) / math.sqrt(2))
    assert math.isnan(seen["fractions"][0])
    assert seen["fractions"][1] == 0.75


def test_summaries_by_hand() -> None:
    losses = [5.0] * 20 + [1.0, 2.0, 1.0] + [3.0] * 57
    found = summary(losses)
    assert (found["final"], found["lowest"]) == (3.0, 1.5)  # medians of 4
    assert found["windows"][:12] == [5.0] * 10 + [1.5, 2.0]
    assert len(found["windows"]) == 40
    assert summary(losses, used=[7.0] * 4)["final"] == 7.0
    assert summary([1.0, math.inf])["final"] == math.inf


def test_the_estimate_counts_steps_and_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_costs", lambda cell: (2.0, 1.0))
    found = estimate(plan([TINY], [AUTO, "Adam"], [0]))
    assert found == {("tiny", AUTO): 51.0, ("tiny", "Adam"): 7 * 51.0}


def test_the_cost_of_a_cell_is_measured() -> None:
    step, evaluation = cells._costs(Cell(TINY, 20, "Adam", 1e-3, 0))
    assert 0 < step < 1
    assert 0 < evaluation < 1


# -- the results file ------------------------------------------------------------------------------


def test_an_interrupted_suite_loses_only_the_cell_in_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "results.jsonl"
    regression = replace(TINY, data=partial(linear, 0.5), loss_function=F.mse_loss)
    wanted = plan([regression], ["Adam"], [0])[:3]
    running = run_cells(wanted, path)
    first = next(running)
    running.close()
    assert load(path)[0] == [first]
    with path.open("ab") as file:
        file.write(b'{"task": "tin')  # as a kill may leave it
    assert load(path)[0] == [first]
    # The rest runs in this process, which starts faster than another one.
    monkeypatch.setattr(cells, "ProcessPoolExecutor", lambda n, *_: ThreadPoolExecutor(n))
    rest = list(run_cells(wanted, path))
    rows, machines = load(path)
    assert rows == [first, *rest]
    assert [key_of(row) for row in rows] == [cell.key for cell in wanted]
    assert [machine["threads"] for machine in machines] == [1]
    assert list(run_cells(wanted, path)) == []


def test_a_damaged_results_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert load(path) == ([], [])
    path.write_bytes(b'{"machine": {}}\n{"task"\n')
    with pytest.raises(ValueError, match="Expecting"):
        load(path)


def test_options_choose_tasks_by_a_text() -> None:
    assert [task.name[:4] for task in parse(["--tasks", "IRIS", "wine"]).tasks] == ["iris", "wine"]
    assert parse([]).tasks == TASKS
    with pytest.raises(SystemExit):
        parse(["--estimate", "--report"])


# -- the report ------------------------------------------------------------------------------------

NOISY = replace(TINY, name="noisy", noisy=True, starts=True)


def row_of(
    method: str, rate: float | None, loss: float | None, seed: int = 0, **changed: Any
) -> dict[str, Any]:
    """Return a made-up row of a run of 20 steps from a loss of 2."""
    row = {
        "task": "tiny",
        "steps": 20,
        "method": method,
        "rate": rate,
        "seed": seed,
        "failed": None,
        "initial": 2.0,
        "final": loss,
        "lowest": loss,
        "windows": [2.0, 2.0, loss, loss],
        "validation_loss": [loss],
        "validation_accuracy": [0.5],
        "seconds_per_step": 0.5,
        "seconds": 10.0,
    }
    if method.startswith(AUTO):
        row |= {"rate_range": [1e-5, 1e-2], "largest_share": 0.05, "zero_steps": 1}
    return row | changed


def grid(best: float, seed: int = 0, **changed: Any) -> list[dict[str, Any]]:
    """Return Adam's rows, with the best loss at 1e-2."""
    losses = [1.0, 1.0, 1.0, 1.0, best, 1.0, None]
    return [row_of("Adam", rate, loss, seed, **changed) for rate, loss in zip(RATES, losses)]


def line_of(rows: list[dict[str, Any]], task: Task = TINY) -> Line:
    return Line(task, 20, rows)


def test_the_best_rate_is_chosen_on_seeds_that_have_all_rates() -> None:
    rows = [*grid(0.5), *grid(0.7, seed=1), *grid(0.1, seed=2)[1:], row_of(AUTO, 1e-4, 0.3)]
    best = line_of(rows).best("Adam")
    assert best is not None
    assert (best.rate, best.loss, best.seeds) == (1e-2, 0.6, {0, 1})
    paired, _ = line_of(rows).bests(["Adam", AUTO])
    assert (paired.loss, paired.seeds) == (0.5, {0})
    assert line_of(rows).ratio(report.final) == pytest.approx(0.6)
    assert line_of(rows[:-1]).ratio(report.final) is None
    assert line_of(rows).best("Prodigy") is None


def test_losses_below_a_hundredth_of_the_initial_one_are_equal() -> None:
    line = line_of([*grid(1e-5), row_of(AUTO, 1e-4, 0.01)])
    assert line.equal == 0.02
    assert line.ratio(report.final) == 1.0
    assert line.over(0.03, 1e-5) == pytest.approx(1.5)
    assert line.over(math.inf, math.inf) == 1.0
    assert line.over(math.inf, 1.0) == math.inf


def test_equal_losses_share_a_rank() -> None:
    rows = [
        row_of(AUTO, 1e-4, 0.01),
        row_of("Prodigy", None, 0.001),
        row_of("D-Adaptation", None, None, failed="lost"),
        row_of("DoG", None, 0.5),
        row_of("Schedule-Free", None, 0.4),
    ]
    names = [AUTO, *report.PEERS]
    alone = row_of(AUTO, 1e-4, 2.0, seed=1)  # a seed that the others lack does not count
    assert ranks([line_of([*rows, alone]), line_of(rows[1:])], names) == {
        AUTO: [1.5],
        "Prodigy": [1.5],
        "Schedule-Free": [3.0],
        "DoG": [4.0],
        "D-Adaptation": [5.0],
    }


def outcomes(rows: list[dict[str, Any]], task: Task = NOISY) -> list[str]:
    return [bar.outcome for bar in bars([line_of(rows, task)])]


def test_the_bars() -> None:
    peers = [row_of(name, None, 0.5) for name in report.PEERS]
    good = [*grid(0.4), row_of(AUTO, 1e-4, 0.3), row_of("auto, no decay", 1e-4, 0.3), *peers]
    assert outcomes(good) == ["holds"] * 15
    assert outcomes(good, TINY)[9:11] == ["not run"] * 2
    training = [*grid(0.4), row_of(AUTO, 1e-4, 0.53), *good[-5:]]
    assert outcomes(training, TINY)[6:9] == ["fails"] * 3
    assert outcomes(grid(0.4))[:9] == ["not run"] * 9
    equal = [*grid(1e-4), row_of(AUTO, 1e-4, 2e-4)]
    assert outcomes(equal, TINY)[6:9] == ["fails", "not run", "holds"]
    for fails, changed in (
        ({0}, {"lowest": 0.19}),
        ({2}, {"rate_range": [0.9e-5, 1e-2]}),
        ({3}, {"largest_share": 0.101}),
        ({5}, {"zero_steps": 2}),
        ({6, 7}, {"validation_loss": [0.2, 0.39]}),
        ({6, 7, 8, 11, 12, 13, 14}, {"validation_loss": [0.2, 0.53]}),
        ({9, 10}, {"final": 0.53, "lowest": 0.53}),
    ):
        bad = [*grid(0.4), row_of(AUTO, 1e-4, 0.3, **changed), *good[-5:]]
        found = outcomes(bad)
        assert {i for i, outcome in enumerate(found) if outcome == "fails"} == fails
    lost = row_of("auto, no decay", 1e-4, None, failed="lost", rate_range=None)
    assert {i for i, word in enumerate(outcomes([*good[:8], lost])) if word == "fails"} == {1, 4}


def test_a_run_arrives_at_a_loss_in_seconds() -> None:
    row = row_of(AUTO, 1e-4, 0.5)
    assert report.arrival(row, 0.5) == 7.5
    assert report.arrival(row, 0.4) == math.inf
    (head, values) = report.seconds_table([line_of([*grid(0.5), row])])
    assert values == ["tiny", "20", "10", "10", "70", "7.5", "0.75", "0.107"]
    assert len(head) == len(values)


def test_the_page_says_what_was_not_run() -> None:
    wanted = plan([TINY, NOISY], METHODS, [0, 1])
    rows = [*grid(0.5), row_of(AUTO, 1e-4, 0.25), row_of("Adam", 1e-3, 0.1, task="gone")]
    found = lines(wanted, rows)
    assert [(line.task.name, len(line.rows)) for line in found] == [("tiny", 8)]
    text = page(wanted, rows, [{"processor": "P", "cores": 2}])
    assert f"Of {len(wanted)} cells, 8 were run, {len(wanted) - 8} were not; in 0" in text
    assert "| tiny | 20 | 2 | 0.25 | 0.5 | 0.5 (0.01) |" in text
    assert (
        "| loss over Adam's at its best of seven, median: at most 0.95 | 0.5 | 1 | holds |" in text
    )
    assert "| noisy | 20 | auto: 10," in text
    assert "- processor P, cores 2" in text
    widths: dict[str, set[int]] = {}
    for part in text.split("\n\n"):
        if part.startswith("|"):
            widths[part] = {line.count(" | ") for line in part.splitlines()}
    assert all(len(counts) == 1 for counts in widths.values())


def test_the_report_is_written_beside_the_results(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    wanted = plan([NOISY], METHODS, [0])
    with pytest.raises(SystemExit, match="has no rows of these cells"):
        write_report(path, wanted)
    rows = [*grid(0.5, task="noisy"), *(row_of(AUTO, s, 0.2, task="noisy") for s in (1e-4, 1e-6))]
    path.write_text("".join(json.dumps(row) + "\n" for row in [{"machine": {}}, *rows]))
    page_path, figure_path = write_report(path, wanted)
    text = page_path.read_text()
    assert "| noisy* | 20 | 0.4 |  | 0.4 |  |  |" in text  # from 1e-6 and 1e-4
    assert figure_path.read_bytes().startswith(b"\x89PNG")


# -- ablations -------------------------------------------------------------------------------------


def test_every_ablation_runs_at_all_its_rates() -> None:
    planned: dict[str, set[float | None]] = {}
    for cell in ablations.cells([0]):
        if cell.task.name == "ReLU, batch 128":
            planned.setdefault(cell.method, set()).add(cell.rate)
    halved = {cell.method for cell in ablations.cells([0]) if cell.task.name == "tanh, batch 64"}
    assert planned.keys() | halved == {AUTO, *ablations.GRIDS, *ABLATIONS}
    for name in planned.keys() & ABLATIONS.keys():
        assert planned[name] == set(ABLATIONS[name].rates)


def test_the_table_of_ablations_by_hand() -> None:
    def rows(method: str, rate: float, *losses: float | None) -> list[Any]:
        return [
            {"task": task, "method": method, "rate": rate, "seed": seed, "final": loss}
            for task in ("tanh, batch 128", "ReLU, batch 128")
            for seed, loss in enumerate(losses)
        ]

    found = [
        *rows(AUTO, 1e-4, 0.3, 0.2, 0.4),
        *rows("Adam", 1e-3, 0.5, 0.1, 0.4),
        *rows("Adam", 1e-2, 0.1, None, None),
    ]
    *_, auto, adam = ablations.table(found)
    assert auto == "| auto | 0.300 |  | 0.300 |  |"
    # A run that failed has an infinite loss; where losses are equal, neither is better.
    assert adam == "| Adam | 0.400 at 0.001 | 1 : 1 | 0.400 at 0.001 | 1 : 1 |"


def test_the_page_has_the_table_of_the_committed_ablations() -> None:
    page = (ROOT / "docs" / "optimizer.md").read_text(encoding="utf-8")
    rows, _ = load(ROOT / "results" / "rates" / "ablations.jsonl")
    assert "\n".join(ablations.table(rows)) in page
