"""The convolutional study: its plan, what it compares, and its report."""

import math
from dataclasses import replace

import numpy as np
import pytest

from agrad.study import conv
from agrad.study.conv_report import comparison_row, count_rows, write_conv_report
from agrad.study.data import DataSet, load_data
from agrad.study.figures import STYLES
from agrad.study.networks import make_network
from agrad.study.runs import Run, load_runs, save_runs


def made(experiment, count, losses=None):
    """A run that reaches the target of the film reviews after `count` iterations."""
    losses = [100.0] * (count - 60) + [0.4] * 60 if losses is None else losses
    return Run(
        study=experiment.study,
        model=experiment.model,
        method=experiment.method,
        lr=experiment.lr,
        seed=experiment.seed,
        iterations=experiment.iterations,
        train_loss=losses,
        test_loss=[0.5],
        test_accuracy=[0.8],
        seconds=3.2,
        seconds_per_iteration=0.01,
        optimizer_state_bytes=1000,
        machine={"cores": 2},
    )


def whole_study(seeds=range(3)):
    """RMSprop is best at 1e-3 and the average gradient at 3e-3, where it needs half as many."""
    best = {"rmsprop": 1e-3, "average-rmsprop": 3e-3}
    runs = []
    for e in conv.experiments("imdb", seeds):
        count = (400 if e.method == "rmsprop" else 200) + 40 * e.seed
        runs.append(made(e, count if e.lr == best[e.method] else 700))
    return runs


def test_the_plan():
    for data, width in (("imdb", 32), ("mnist", 16), ("fashion-mnist", 16)):
        plan = conv.experiments(data, range(5))
        assert len({e.key for e in plan}) == len(plan) == 5 * 2 * 4
        assert {(e.network, e.depth, e.width, e.batch_size) for e in plan} == {
            ("conv", 12, width, 64)
        }
        assert {e.activation for e in plan} == {"relu"}
        assert {e.target for e in plan} == {conv.TARGETS[data]}
    assert (conv.TARGETS["imdb"].loss, conv.TARGETS["imdb"].window) == (0.45, 60)
    assert {e.lr for e in plan} == {1e-2, 3e-3, 1e-3, 3e-4}


def test_iterations_to_the_target():
    (first, *_) = conv.experiments("imdb", [0])
    assert conv.iterations_to_target(made(first, 0, [0.44] * 80)) == 60
    assert conv.iterations_to_target(made(first, 0, [0.46] * 80)) == math.inf
    assert conv.iterations_to_target(made(first, 0, [0.4] * 59 + [0.6, 0.4])) == 60
    clothes = replace(first, study="conv-fashion-mnist")
    assert conv.iterations_to_target(made(clothes, 0, [0.59] * 80)) == 60


def test_the_gain_is_of_medians_at_the_best_rates():
    runs = whole_study()
    assert conv.best_rate(runs, "rmsprop") == 1e-3
    assert conv.best_rate(runs, "average-rmsprop") == 3e-3
    gain, gains = conv.compare(runs)
    assert gain == 440 / 240
    assert gains == [400 / 200, 440 / 240, 480 / 280]
    with pytest.raises(ValueError, match="no runs of adam"):
        conv.best_rate(runs, "adam")


def test_a_method_that_does_not_arrive_gains_nothing():
    lost = [
        replace(run, train_loss=[0.9] * 1000) if run.method == "average-rmsprop" else run
        for run in whole_study()
    ]
    assert conv.compare(lost) == (0.0, [0.0] * 3)
    lost = [
        replace(run, train_loss=[0.9] * 1000) if run.method == "rmsprop" else run
        for run in whole_study()
    ]
    assert conv.compare(lost)[0] == math.inf


def test_rows_of_the_report():
    runs = whole_study()
    assert comparison_row(runs) == [
        *(STYLES["average-rmsprop"].label, "0.003, its best"),
        *("RMSprop", "0.001, its best", "1.83", "1.71 to 2.00"),
    ]
    rows = count_rows(runs)
    assert len(rows) == 8
    assert rows[2] == [
        *("RMSprop", "0.001", "440", "400 to 480", "3 of 3", "80.0%", "10.0", "1,000")
    ]


def test_the_report_is_made_from_the_results_alone(tmp_path):
    path = tmp_path / "results.json"
    save_runs(path, whole_study())
    page, figure = write_conv_report(path)
    text = page.read_text()
    assert "agrad study conv --data imdb --seeds 3 --iterations 1000" in text
    assert "0.45 over 60 iterations" in text
    assert text.count("<table>") == 2
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_seeds_that_are_not_whole_are_left_out(tmp_path):
    path = tmp_path / "results.json"
    save_runs(path, whole_study()[:-1])
    text = write_conv_report(path)[0].read_text()
    assert "Left out because some of their runs are missing: seeds 2." in text
    save_runs(path, whole_study([0])[:-1])
    with pytest.raises(ValueError, match="seed 0 lacks 1, such as relu 12x32 average-rmsprop"):
        write_conv_report(path)
    save_runs(path, [])
    with pytest.raises(ValueError, match="holds no runs"):
        write_conv_report(path)


@pytest.mark.parametrize("method", conv.METHODS)
def test_an_experiment_with_words(method, tmp_path):
    random = np.random.default_rng(0)
    ids = random.integers(1, 20, (96, 16)).astype(np.int32)
    labels = (ids[:, 0] > 9).astype(np.int64)
    data = DataSet((ids[:64], labels[:64]), (ids[64:], labels[64:]), vocabulary=20)
    plan = conv.experiments("imdb", [0], iterations=3)
    (experiment, *_) = [e for e in plan if e.method == method]
    run = replace(experiment, depth=4, width=4, batch_size=16).run(data)
    assert len(run.train_loss) == 3
    parameters = sum(p.size for p in make_network("conv", data, depth=4, width=4).parameters())
    assert run.optimizer_state_bytes == 4 * parameters
    save_runs(tmp_path / "results.json", [run])
    assert load_runs(tmp_path / "results.json") == [run]


@pytest.mark.slow
@pytest.mark.usefixtures("data_path")
def test_one_pair_of_runs_on_the_film_reviews():
    """One seed, at rates near the best ones: a lead, how large the study says."""
    data = load_data("imdb")
    plan = conv.experiments("imdb", [0])
    counts = {
        e.method: conv.iterations_to_target(e.run(data))
        for e in plan
        if (e.method, e.lr) in (("rmsprop", 1e-3), ("average-rmsprop", 3e-3))
    }
    assert counts["average-rmsprop"] * 1.2 < counts["rmsprop"] < math.inf
