"""The study: measures by hand, what is compared with what, its results file and its report."""

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import active_children
from time import monotonic

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad import nn
from agrad.study import dense, pool
from agrad.study.data import DataSet, load_data
from agrad.study.dense_report import (
    automatic_rows,
    comparison_rows,
    final_rows,
    write_dense_report,
)
from agrad.study.figures import STYLES, loss_figure, save_figure
from agrad.study.measures import Target, final_loss, gain, iterations_to, window_means
from agrad.study.methods import METHODS, make_optimizer
from agrad.study.networks import (
    ACTIVATIONS,
    INITS,
    dense_network,
    image_network,
    make_network,
    text_network,
)
from agrad.study.runs import Experiment, Run, load_runs, median_curve, save_runs
from agrad.train import evaluate

# -- measures --------------------------------------------------------------------------------------


def test_window_means():
    np.testing.assert_array_equal(window_means([4, 3, 2, 1], window=2), [3.5, 2.5, 1.5])
    np.testing.assert_array_equal(window_means([4, 2], window=3), [3.0])
    with pytest.raises(ValueError, match="no losses"):
        window_means([])


def test_a_loss_is_reached_at_the_end_of_the_first_window_of_at_most_it():
    losses = [9.0, 1.0, 9.0, 2.0, 2.0, 1.0]  # one low loss is no low mean
    assert iterations_to(losses, 2.0, window=2) == 5
    assert iterations_to(losses, 5.0, window=2) == 2
    assert iterations_to(losses, 1.4, window=2) is None


def test_the_window_is_forty_iterations():
    losses = [2.0] * 100 + [1.0] * 220
    assert final_loss(losses) == 1.0
    assert iterations_to(losses, 1.0) == 140
    assert iterations_to(losses, 1.5) == 120
    assert gain(losses, [1.5] * 320) == 320 / 120


LOSSES = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf, math.nan]), min_size=1, max_size=8)


@given(
    losses=LOSSES,
    target=st.sampled_from([0.0, 1.0, 1.5, 3.0, math.inf]),
    window=st.integers(1, 9),
)
def test_only_a_finite_mean_reaches_a_target(losses, target, window):
    window = min(window, len(losses))
    ends = [
        end
        for end in range(window, len(losses) + 1)
        if math.isfinite(mean := sum(losses[end - window : end]) / window) and mean <= target
    ]
    assert iterations_to(losses, target, window) == min(ends, default=None)
    assert gain(losses, [target] * 10, window) == (10 / min(ends) if ends else 0.0)
    if target < math.inf:
        reached = [
            n for n in range(1, len(losses) + 1) if Target(target, window).is_reached(losses[:n])
        ]
        assert reached == ends


def test_gain_by_hand():
    baseline = [4.0, 3.0, 2.0, 2.0]
    assert gain([4.0, 2.0, 1.0, 1.0], baseline, window=2) == 4 / 3
    assert gain([2.0, 2.0, 2.0, 2.0], baseline, window=2) == 2.0
    assert gain([4.0, 4.0, 4.0, 2.0], baseline, window=2) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_a_run_reaches_its_own_final_loss(seed):
    losses = np.random.default_rng(seed).random(320)[::-1]
    assert gain(losses, losses) >= 1.0


def test_a_target_is_reached_by_a_whole_window():
    target = Target(1.0, window=2)
    assert not target.is_reached([1.0])
    assert not target.is_reached([0.0, 0.0, 3.0])
    assert target.is_reached([9.0, 0.5, 1.5])
    assert not target.is_reached([0.5, math.inf])


def test_infinite_losses():
    lost = [2.0] * 50 + [math.inf] * 50
    assert final_loss(lost) == math.inf
    assert iterations_to(lost, 2.0) == 40
    assert gain(lost, [1.0] * 100) == 0.0
    assert gain([1.0] * 100, lost) == 100 / 40
    assert gain([math.inf] * 100, lost) == 0.0


# -- comparisons -----------------------------------------------------------------------------------


def made(method, lr, seed, losses, model="tanh 30x64"):
    return Run(
        study="dense-digits",
        model=model,
        method=method,
        lr=lr,
        seed=seed,
        iterations=len(losses),
        train_loss=list(losses),
        test_loss=[0.5],
        test_accuracy=[0.9],
        seconds=3.2,
        seconds_per_iteration=0.01,
        optimizer_state_bytes=1000,
        machine={"cores": 2},
    )


def falling(reached, to=1.0, start=2.0):
    """320 losses that fall so that their means reach `to` at `reached`."""
    return [start] * (reached - 40) + [to] * (360 - reached)


def test_the_best_rate_is_that_of_the_lowest_median():
    finals = {3e-3: (1.0, 5.0, 6.0), 1e-3: (3.0, 3.0, 9.0), 3e-4: (4.0, 4.0, 4.0)}
    runs = [
        made("adam", lr, seed, [loss] * 320)
        for lr, losses in finals.items()
        for seed, loss in enumerate(losses)
    ]
    assert dense.best_rate(runs, "adam") == 1e-3
    with pytest.raises(ValueError, match="no runs of rmsprop"):
        dense.best_rate(runs, "rmsprop")


def test_methods_are_compared_seed_by_seed():
    runs = []
    for seed, (reached, base) in enumerate([(80, 1.0), (160, 0.5), (320, 0.25)]):
        runs.append(made("average-adam", 1e-3, seed, falling(reached, to=base)))
        runs.append(made("rmsprop", 1e-3, seed, [base] * 320))
    found = dense.compare(runs[::-1], dense.Comparison("average-adam", "rmsprop", 1e-3))
    assert found == (1e-3, 1e-3, [4.0, 2.0, 1.0])


def test_the_best_rates_of_both_are_compared():
    runs = [
        made("average-adam", 3e-3, 0, falling(80)),
        made("average-adam", 1e-3, 0, [3.0] * 320),
        made("adam", 3e-3, 0, [9.0] * 320),
        made("adam", 1e-3, 0, falling(300, to=1.5)),
    ]
    comparison = dense.Comparison("average-adam", "adam", None)
    # 1.5 is the mean of 20 losses of 2 and 20 of 1.
    assert dense.compare(runs, comparison) == (3e-3, 1e-3, [320 / 60])


def test_the_automatic_rate_is_measured_against_adam_at_its_best():
    runs = [
        made("adam", 1e-3, 0, [2.0] * 320),
        made("adam", 1e-3, 1, [4.0] * 320),
        made("adam", 3e-3, 0, [3.0] * 320),
        made("adam", 3e-3, 1, [8.0] * 320),
        made("average-adam-auto", 1e-6, 0, [1.0] * 320),
        made("average-adam-auto", 1e-6, 1, [6.0] * 320),
    ]
    assert dense.automatic_ratios(runs, 1e-6) == [0.5, 1.5]
    with pytest.raises(ValueError, match=r"no runs of average-adam-auto at the rate 0\.001"):
        dense.automatic_ratios(runs, 1e-3)


def test_runs_of_other_seeds_are_not_compared():
    comparison = dense.Comparison("average-adam", "rmsprop", 1e-3)
    method = [made("average-adam", 1e-3, seed, [1.0] * 320) for seed in (0, 1)]
    for others in ((0, 2), (0,), (0, 1, 2)):
        baseline = [made("rmsprop", 1e-3, seed, [1.0] * 320) for seed in others]
        with pytest.raises(ValueError, match=r"average-adam was run with the seeds \[0, 1\]"):
            dense.compare(method + baseline, comparison)


def test_the_median_curve():
    runs = [made("adam", 1e-3, seed, [loss, 2 * loss]) for seed, loss in enumerate((1.0, 9.0, 2.0))]
    np.testing.assert_array_equal(median_curve(runs, "adam", 1e-3), [2.0, 4.0])


def test_the_plan():
    plan = dense.experiments("mnist", range(5))
    assert len({experiment.key for experiment in plan}) == len(plan) == 5 * 2 * (4 * 3 + 4)
    assert {(e.depth, e.width, e.batch_size, e.iterations) for e in plan} == {(30, 64, 128, 320)}
    more = dense.experiments("mnist", range(5), ablations=True)
    assert {e.method for e in set(more) - set(plan)} == set(dense.ABLATIONS)
    assert {e.method for e in more} == set(METHODS) == set(STYLES)


# -- runs ------------------------------------------------------------------------------------------

TINY = {"batch_size": 16, "depth": 2, "width": 8}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    labels = np.arange(96) % 4
    images = np.eye(4, dtype=np.float32)[labels] + 0.1 * random.random((96, 4), np.float32)
    return DataSet((images[:64], labels[:64]), (images[64:], labels[64:]))


@pytest.mark.parametrize("method", METHODS)
def test_an_experiment_gives_the_same_run_twice(method, data):
    experiment = Experiment("tiny", "tanh", method, 1e-3, 0, iterations=6, **TINY)
    steps = []
    run, again = experiment.run(data, steps.append), experiment.run(data)
    assert run.key == experiment.key
    assert run.train_loss == again.train_loss == [pytest.approx(s.loss, rel=1e-4) for s in steps]
    assert (run.test_loss, run.test_accuracy) == (again.test_loss, again.test_accuracy)
    assert len(run.train_loss) == 6
    assert len(run.test_loss) == len(run.test_accuracy) == 1
    assert 0 < run.seconds_per_iteration <= run.seconds
    parameters = sum(p.size for p in dense_network(4, 4, depth=2, width=8).parameters())
    buffers = ("adam" in method) + 1 + ("auto" in method)  # the last is where it started
    assert run.optimizer_state_bytes == 4 * buffers * parameters
    assert {"processor", "cores", "python", "numpy", "agrad"} <= run.machine.keys()


def test_paired_runs_start_alike(data):
    losses = [
        Experiment("tiny", "relu", method, 1e-3, 3, iterations=2, **TINY).run(data).train_loss[0]
        for method in METHODS
    ]
    assert len(set(losses)) == 1


def test_other_seeds_have_other_weights_and_other_batches(data):
    def first_loss(seed, batch_size):
        options = {**TINY, "batch_size": batch_size}
        return Experiment("tiny", "relu", "adam", 1e-3, seed, 1, **options).run(data).train_loss[0]

    assert abs(first_loss(0, 64) - first_loss(1, 64)) > 1e-2  # the batch is the whole set
    ag.seed(0)
    model = dense_network(4, 4, depth=2, width=8, activation="relu")
    whole = evaluate(model, *data.train).loss
    assert first_loss(0, 64) == pytest.approx(whole, rel=1e-4)
    assert first_loss(0, 16) != pytest.approx(whole, rel=1e-3)


def test_a_lost_run_has_infinite_losses_to_its_end(data, tmp_path):
    run = Experiment("tiny", "relu", "adam", 1e38, 0, iterations=8, **TINY).run(data)
    assert len(run.train_loss) == 8
    assert math.isfinite(run.train_loss[0])
    assert run.train_loss[-1] == math.inf
    save_runs(tmp_path / "results.json", [run])
    entry = json.loads((tmp_path / "results.json").read_text())[0]
    assert entry["train_loss"][-1] is None
    assert load_runs(tmp_path / "results.json")[0].train_loss == run.train_loss


def test_a_run_ends_at_its_target(data):
    experiment = Experiment("tiny", "tanh", "adam", 1e-2, 0, iterations=40, **TINY)
    whole = experiment.run(data).train_loss
    target = Target(1.001 * float(np.mean(whole[10:13])), window=3)  # above what rounding loses
    run = replace(experiment, target=target).run(data)
    assert run.train_loss == whole[: iterations_to(whole, target.loss, 3)]
    assert 3 <= len(run.train_loss) < 40
    assert run.key == experiment.key


def test_runs_come_back_from_their_file(tmp_path):
    runs = [made("adam", 1e-3, 0, [2.0, math.inf]), made("rmsprop", 3e-4, 1, [1.0, 0.5])]
    path = tmp_path / "results.json"
    save_runs(path, runs)
    assert load_runs(path) == runs
    fields = "study model method lr seed iterations train_loss test_loss test_accuracy seconds "
    fields += "seconds_per_iteration optimizer_state_bytes machine"
    assert set(json.loads(path.read_text())[0]) == set(fields.split())


@pytest.mark.parametrize("content", ["", "[1, 2]", "{}x", '[{"study": "dense"}]', '{"a": 1}'])
def test_a_file_that_holds_no_runs_is_refused(content, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="not a complete file of runs"):
        load_runs(path)


def test_only_missing_runs_remain(tmp_path):
    plan = dense.experiments("digits", range(2), iterations=320)
    path = tmp_path / "results.json"
    assert pool.remaining(plan, path) == ([], plan)
    runs = [made(e.method, e.lr, e.seed, [1.0] * 320, e.model) for e in plan[:5]]
    save_runs(path, runs)
    assert pool.remaining(plan, path) == (runs, plan[5:])
    for other in (dense.experiments("digits", [0], 10), dense.experiments("mnist", [0], 320)):
        with pytest.raises(ValueError, match="dense-digits of 320 iterations, not dense-"):
            pool.remaining(other, path)


def test_workers_make_runs_as_this_process_does(tmp_path):
    plan = [
        Experiment("dense-digits", "tanh", method, 1e-3, seed, iterations=3, depth=2, width=8)
        for method in ("adam", "average-adam")
        for seed in (0, 1)
    ]
    path = tmp_path / "results.json"
    save_runs(path, [plan[0].run(load_data("digits"))])
    runs = list(pool.run_all("digits", plan, path, workers=2))
    assert {run.key for run in runs} == {experiment.key for experiment in plan[1:]}
    assert {run.key for run in load_runs(path)} == {experiment.key for experiment in plan}
    (run,) = [run for run in runs if run.key == plan[-1].key]
    assert run.train_loss == plan[-1].run(load_data("digits")).train_loss
    assert list(pool.run_all("digits", plan, path, workers=2)) == []


def test_a_loop_that_is_left_gives_up_the_runs_in_the_making(tmp_path):
    quick, endless = (
        Experiment("dense-digits", "tanh", "adam", 1e-3, seed, iterations=20, depth=depth)
        for seed, depth in enumerate((2, 20_000))
    )
    runs = pool.run_all("digits", [quick, endless], tmp_path / "results.json", workers=2)
    assert next(runs).key == quick.key
    start = monotonic()
    runs.close()
    assert monotonic() - start < 5
    assert not active_children()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs POSIX signals")
def test_workers_leave_interrupts_to_their_parent():
    code = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with pool._interrupts_not_inherited():
        inside = subprocess.check_output([sys.executable, "-c", code], text=True)
    outside = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "SIGINT" in inside
    assert "SIGINT" not in outside


def test_a_killed_worker_is_an_error_that_keeps_the_runs(tmp_path):
    plan = [replace(e, depth=2) for e in dense.experiments("digits", [0], iterations=3)]
    path = tmp_path / "results.json"

    def kill_after_one_run():
        for _ in pool.run_all("digits", plan, path):
            for worker in active_children():
                worker.kill()

    with pytest.raises(ChildProcessError, match="fewer workers"):
        kill_after_one_run()
    assert 0 < len(load_runs(path)) < len(plan)


def test_methods_and_networks_refuse_unknown_names():
    with pytest.raises(ValueError, match=r"method must be one of .*'rmsprop'.* got 'sgdd'"):
        make_optimizer("sgdd", [], 0.1)
    for options in ({"activation": "sine"}, {"init": "zero"}, {"depth": -1}, {"width": 0}):
        with pytest.raises(ValueError, match=f"dense_network: {next(iter(options))} must be"):
            dense_network(4, 4, **options)
        with pytest.raises(ValueError, match=f"image_network: {next(iter(options))} must be"):
            image_network((8, 8), 4, **options)
        with pytest.raises(ValueError, match=f"text_network: {next(iter(options))} must be"):
            text_network(10, 2, **options)
    with pytest.raises(ValueError, match="image_network: height must be at least 8, got 7"):
        image_network((7, 8), 4)


def test_image_networks_are_as_deep_as_asked():
    images = np.random.default_rng(0).standard_normal((5, 8, 9)).astype(np.float32)
    for depth in (0, 1, 2, 3, 7):
        network = image_network((8, 9), 4, depth=depth, width=6)
        kinds = [type(layer).__name__ for layer in network]
        assert kinds.count("Conv2d") == kinds.count("ReLU") == depth
        assert kinds.count("MaxPool2d") == 3
        assert network(images).shape == (5, 4)
    deviation = image_network((8, 8), 4, depth=2, width=64)[5].weight.data.std()
    assert deviation == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.05)  # He's, of 36,864 draws


def test_text_networks_are_as_deep_as_asked():
    texts = np.random.default_rng(0).integers(0, 50, (5, 16))
    for depth in (0, 1, 2, 5, 12):
        ag.seed(0)
        network = text_network(50, 3, depth=depth, width=6)
        kinds = [type(layer).__name__ for layer in network]
        assert kinds.count("Conv1d") == kinds.count("ReLU") == depth
        assert kinds.count("MaxPool1d") == 4
        assert network(texts).shape == (5, 3)
    words = text_network(5000, 2, depth=1)[0].weight.numpy()
    assert words[1:].std() == pytest.approx(0.1, rel=0.02)  # of 159,968 draws
    assert not words[0].any()


def test_the_network_suits_the_data():
    images = np.zeros((2, 8, 9), np.float32)
    seen = DataSet((images, np.array([0, 3])), (images, np.array([0, 1])))
    ids = np.zeros((2, 16), np.int32)
    read = DataSet((ids, np.array([0, 1])), (ids, np.array([0, 1])), vocabulary=7)
    for kind, data, inputs, classes in (
        *(("dense", seen, images, 4), ("conv", seen, images, 4)),
        ("conv", read, ids, 2),
    ):
        network = make_network(kind, data, depth=2, width=5)
        assert network(inputs).shape == (2, classes)
        assert any(isinstance(layer, nn.Conv1d | nn.Conv2d) for layer in network) == (
            kind == "conv"
        )
    with pytest.raises(ValueError, match="kind must be 'conv' for texts, got 'dense'"):
        make_network("dense", read)
    with pytest.raises(ValueError, match=r"kind must be one of .*'conv'.* got 'recurrent'"):
        make_network("recurrent", seen)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_of_every_activation_and_init(activation):
    images = np.random.default_rng(0).standard_normal((64, 2, 32)).astype(np.float32)
    for init in (None, *INITS):
        model = dense_network(64, 10, depth=4, width=64, activation=activation, init=init)
        assert model(images).shape == (64, 10)
        assert not any(layer.bias.numpy().any() for layer in model if isinstance(layer, nn.Linear))
    assert len(dense_network(64, 10, depth=0)) == 2


@pytest.mark.parametrize(
    ("activation", "variance"),
    [("relu", 2 / 400), ("gelu", 2 / 400), ("selu", 1 / 400), ("tanh", 2 / 500)],
)
def test_the_init_suits_the_activation(activation, variance):
    ag.seed(0)
    layer = dense_network(400, 10, depth=1, width=100, activation=activation)[1]
    # 40,000 weights: their variance scatters by about 1 %.
    assert layer.weight.numpy().var() == pytest.approx(variance, rel=0.05)


def test_the_ablations_by_their_formulas():
    """Two steps, of f(w) = cosh w: ĝ is the divided difference of cosh, there is nothing else."""
    for method in dense.ABLATIONS:
        w, v = np.array([0.5, -1.0]), np.zeros(2)
        param = ag.tensor(w, requires_grad=True)
        optimizer = make_optimizer(method, [param], 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            optimizer.step(((ag.exp(param) + ag.exp(-param)) / 2).sum())
            grad = np.sinh(w)
            by_grad = 0.9 * v + 0.1 * grad**2
            delta = -0.1 * grad / (np.sqrt(by_grad) + 1e-8)
            average = (np.cosh(w + delta) - np.cosh(w)) / delta
            v = by_grad if method == "ablation-scaled" else 0.9 * v + 0.1 * average**2
            w = w - 0.1 * average / (np.sqrt(v) + 1e-8)
            np.testing.assert_allclose(param.numpy(), w, rtol=1e-10)


# -- the report ------------------------------------------------------------------------------------


def whole_study(seeds, ablations=False):
    """Runs whose losses fall by methods: the average gradient reaches in 160 what takes 320."""
    runs = []
    for e in dense.experiments("digits", seeds, 320, ablations):
        slow = not e.method.startswith("average")
        runs.append(made(e.method, e.lr, e.seed, falling(320 if slow else 160), e.model))
    return runs


def test_rows_of_the_report():
    runs = [run for run in whole_study([0, 1, 2]) if run.model.startswith("tanh")]
    rows = comparison_rows(runs)
    assert len(rows) == len(dense.COMPARISONS)
    assert rows[0] == [
        STYLES["average-rmsprop"].label,
        "0.001",
        "RMSprop",
        "0.001",
        "2.00",
        "2.00 to 2.00",
    ]
    assert rows[1][1] == rows[1][3] == "0.0003, its best"
    assert automatic_rows(runs)[0] == ["1e-06", "1.000", "1.00", "1.00 to 1.00"]
    assert final_rows(runs, ["adam"])[0] == [
        *("Adam", "0.003", "1.000", "1.000 to 1.000", "90.0%", "10.0", "1,000")
    ]


def test_the_report_is_made_from_the_results_alone(tmp_path):
    path = tmp_path / "results.json"
    save_runs(path, whole_study([0, 1], ablations=True))
    page, figure = write_dense_report(path)
    text = page.read_text()
    command = "agrad study dense --data digits --seeds 2 --iterations 320 --ablations"
    assert command in text
    assert text.count("<table>") == text.count("<div class='scroll'>\n<table>") == 8
    assert "prefers-color-scheme: dark" in text
    assert "tanh 30x64" in text
    assert "relu 30x64" in text
    assert "Left out" not in text
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_report_says_which_seeds_are_left_out(tmp_path):
    runs = whole_study([0, 1, 2])
    path = tmp_path / "results.json"
    save_runs(path, [run for run in runs if (run.seed, run.method, run.lr) != (1, "adam", 1e-3)])
    text = write_dense_report(path)[0].read_text()
    assert "Left out because some of their runs are missing: seeds 1." in text
    assert "64 runs" in text


def test_a_report_without_a_whole_seed_names_what_is_missing(tmp_path):
    runs = [run for run in whole_study([0]) if run.key[1:4] != ("relu 30x64", "adam", 1e-3)]
    save_runs(tmp_path / "results.json", runs)
    with pytest.raises(ValueError, match=r"seed 0 lacks 1, such as relu 30x64 adam .* 0.001; run"):
        write_dense_report(tmp_path / "results.json")
    save_runs(tmp_path / "results.json", [])
    with pytest.raises(ValueError, match="holds no runs"):
        write_dense_report(tmp_path / "results.json")


def test_a_report_shows_lost_runs(tmp_path):
    lost = [2.0] * 10 + [math.inf] * 310
    runs = [replace(r, train_loss=lost) if r.lr == 3e-3 else r for r in whole_study([0])]
    save_runs(tmp_path / "results.json", runs)
    assert "<td>inf</td>" in write_dense_report(tmp_path / "results.json")[0].read_text()


def test_figures_of_runs_of_any_length(tmp_path):
    for length in (1, 5, 41, 400):
        figure = loss_figure({"a": {"adam": [1.0] * length}, "b": {"adam": [2.0] * length}})
        (line,) = figure.axes[0].get_lines()
        assert line.get_xdata()[-1] == length
        assert line.get_label() == "Adam"
        save_figure(figure, tmp_path / "figure.png")
    assert len({style.colour for style in STYLES.values()}) == len(STYLES)


# -- the study itself ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("data_path")
def test_one_seed_of_the_study_on_mnist():
    """Single seeds scatter: gains only have to show a lead, the study itself takes five."""
    data = load_data("mnist")
    plan = dense.experiments("mnist", [0])
    for model in ("tanh 30x64", "relu 30x64"):
        runs = [
            experiment.run(data)
            for experiment in plan
            if experiment.model == model
            and (experiment.lr == 1e-3 or experiment.key[2:4] == ("average-adam-auto", 1e-4))
        ]
        for comparison in dense.COMPARISONS:
            if comparison.lr is not None:
                (found,) = dense.compare(runs, comparison)[2]
                assert 1.4 < found < 8
        assert dense.automatic_ratios(runs, 1e-4)[0] < 1.3
