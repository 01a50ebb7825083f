"""The study's measures by hand, its networks, and its trainings."""

import math
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import agrad as ag
from agrad import nn
from agrad.study.data import DataSet
from agrad.study.figures import (
    STYLES,
    curve_figure,
    finding_figure,
    loss_figure,
    png,
    save_figure,
)
from agrad.study.measures import (
    POINTS,
    Target,
    curve,
    final_loss,
    gain,
    iterations_to,
    seconds_per_step,
    window_means,
)
from agrad.study.methods import METHODS, make_optimizer
from agrad.study.networks import (
    ACTIVATIONS,
    INITS,
    dense_network,
    image_network,
    make_network,
    text_network,
)
from agrad.study.races import Race
from agrad.study.runs import TUNING, Experiment
from agrad.study.statistics import Finding
from agrad.train import evaluate

# -- measures --------------------------------------------------------------------------------------


def test_window_means():
    np.testing.assert_array_equal(window_means([4, 3, 2, 1], window=2), [3.5, 2.5, 1.5])
    np.testing.assert_array_equal(window_means([4, 2], window=3), [3.0])
    with pytest.raises(ValueError, match="no losses"):
        window_means([])


def test_a_loss_is_reached_at_the_end_of_the_first_window_of_at_most_it():
    losses = [9.0, 1.0, 9.0, 2.0, 2.0, 1.0]  # one low loss does not make a low mean
    assert iterations_to(losses, 2.0, window=2) == 5
    assert iterations_to(losses, 5.0, window=2) == 2
    assert iterations_to(losses, 1.4, window=2) is None


def test_the_window_is_forty_iterations():
    losses = [2.0] * 100 + [1.0] * 220
    assert final_loss(losses) == 1.0
    assert iterations_to(losses, 1.0) == 140
    assert iterations_to(losses, 1.5) == 120
    assert gain(losses, [1.5] * 320) == 40 / 120


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
    first = min(window, 10) if target < math.inf else math.inf  # of the baseline
    assert gain(losses, [target] * 10, window) == (first / min(ends) if ends else 0.0)
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
    noisy = [4.0, 2.0, 2.0, 4.0, 2.0, 2.0]  # has its final loss after three iterations
    assert gain([4.0, 4.0, 4.0, 4.0, 2.0, 2.0], noisy, window=2) == 3 / 6


@pytest.mark.parametrize("seed", range(20))
def test_a_run_has_a_gain_of_one_over_itself(seed):
    losses = np.random.default_rng(seed).random(320)
    assert gain(losses, losses) == 1.0


def test_a_target_is_reached_by_a_whole_window():
    target = Target(1.0, window=2)
    assert not target.is_reached([1.0])
    assert not target.is_reached([0.0, 0.0, 3.0])
    assert target.is_reached([9.0, 0.5, 1.5])
    assert not target.is_reached([0.5, math.inf])


def test_the_curve_by_hand():
    assert curve([5.0, 4.0, 3.0, 2.0], points=4) == [5.0, 4.0, 3.0, 2.0]
    losses = [2.0] * 100 + [1.0] * 220  # windows of 40
    assert curve(losses, points=32) == [2.0] * 10 + [1.75, 1.5, 1.25] + [1.0] * 19
    assert curve([1.0, 2.0], points=4) == [1.0, 1.0, 2.0, 2.0]
    assert curve([1.0, math.inf], points=2) == [1.0, math.inf]


def test_infinite_losses():
    lost = [2.0] * 50 + [math.inf] * 50
    assert final_loss(lost) == math.inf
    assert iterations_to(lost, 2.0) == 40
    assert gain(lost, [1.0] * 100) == 0.0
    assert gain([1.0] * 100, lost) == math.inf
    assert gain([math.inf] * 100, lost) == 0.0


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
    assert run.experiment == experiment
    assert run.train_loss == again.train_loss == [pytest.approx(s.loss, rel=1e-4) for s in steps]
    assert (run.test_loss, run.test_accuracy) == (again.test_loss, again.test_accuracy)
    assert len(run.train_loss) == 6
    assert len(run.test_loss) == len(run.test_accuracy) == 1
    assert 0 < run.seconds_per_iteration <= run.seconds
    parameters = sum(p.size for p in dense_network(4, 4, depth=2, width=8).parameters())
    # The last are where it started, and the curvature and its weight.
    kept = "auto" in method or "probed" in method
    buffers = ("adam" in method or "momentum" in method) + 1 + ("auto" in method) + 2 * kept
    assert run.optimizer_state_bytes == 4 * buffers * parameters


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


def test_a_lost_run_has_infinite_losses_to_its_end(data):
    run = Experiment("tiny", "relu", "adam", 1e38, 0, 8, evaluations=4, **TINY).run(data)
    assert len(run.train_loss) == 8
    assert math.isfinite(run.train_loss[0])
    assert run.train_loss[-1] == math.inf
    assert len(run.test_loss) == len(run.test_accuracy) == 4


def test_evaluations_at_equal_distances(data):
    experiment = Experiment("tiny", "relu", "adam", 1e-2, 0, 8, evaluations=4, **TINY)
    whole, half = experiment.run(data), replace(experiment, iterations=4, evaluations=2).run(data)
    assert whole.test_loss[:2] == half.test_loss
    assert len(set(whole.test_loss)) == 4
    assert replace(experiment, evaluations=0).run(data).test_loss == []


def test_of_a_tuning_seed_only_the_final_loss_is_kept(data, monkeypatch):
    monkeypatch.setattr("agrad.study.runs.load_once", lambda name: data)
    for seed, points in ((0, POINTS), (TUNING - 1, POINTS), (TUNING, 1), (TUNING + 1, 1)):
        job = Experiment("tiny", "tanh", "adam", 1e-2, seed, 9, evaluations=0, **TINY)
        assert job.result()["curve"] == curve(job.run(data).train_loss)[-points:]


def test_a_race_trains_as_runs_do_whoever_takes_part(data, monkeypatch):
    monkeypatch.setattr("agrad.study.races.load_once", lambda name: data)
    experiment = Experiment("tiny", "tanh", "", 0.0, 3, 9, evaluations=0, **TINY)
    rates = (("rmsprop", 1e-3), ("average-rmsprop", 1e-2), ("adam", 1e38))
    found = Race(experiment, rates).result()
    for method, lr in rates:
        alone = replace(experiment, method=method, lr=lr).run(data)
        assert found[method]["curve"] == curve(alone.train_loss)
        assert found[method]["state_bytes"] == alone.optimizer_state_bytes
    assert found["adam"]["curve"][-1] == math.inf
    assert 0 < found["rmsprop"]["peak_bytes"] < found["average-rmsprop"]["peak_bytes"]
    assert found["rmsprop"]["seconds"] > 0


def test_the_peak_of_a_method_is_that_of_a_step_that_measures(data, monkeypatch):
    monkeypatch.setattr("agrad.study.races.load_once", lambda name: data)
    small = {**TINY, "batch_size": 32, "width": 64}  # a probe of 32 is the whole batch
    experiment = Experiment("tiny", "tanh", "", 0.0, 3, 9, evaluations=0, **small)
    rates = (("average-rmsprop", 1e-3), ("probed-rmsprop", 1e-3))
    found = Race(experiment, rates).result()
    assert found["probed-rmsprop"]["peak_bytes"] > found["average-rmsprop"]["peak_bytes"]


def test_a_method_that_is_lost_at_once_has_no_peak(data, monkeypatch):
    monkeypatch.setattr("agrad.study.races.load_once", lambda name: data)
    experiment = Experiment("tiny", "relu", "", 0.0, 0, 8, evaluations=0, **TINY)
    found = Race(experiment, (("adam", 1e38), ("rmsprop", 1e-3))).result()
    assert found["adam"]["peak_bytes"] == math.inf > found["rmsprop"]["peak_bytes"] > 0


@pytest.mark.parametrize("every", [1, 2, 4])
def test_the_seconds_of_a_step_are_those_of_all_kinds_of_steps(every):
    # The first step records. Now and then another program is in the way.
    seconds = [10.0] + [1.0 + (i % every == 0) for i in range(1, 40)]
    seconds[21] += 5
    assert seconds_per_step(seconds) == 1 + 1 / every


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
        ("dense", seen, images, 4),
        ("conv", seen, images, 4),
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
    for method in ("ablation-substituted", "ablation-scaled"):
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


def test_figures_of_runs_of_any_length(tmp_path):
    for length in (1, 5, 41, 400):
        figure = loss_figure({"a": {"adam": [1.0] * length}, "b": {"adam": [2.0] * length}})
        (line,) = figure.axes[0].get_lines()
        assert line.get_xdata()[-1] == length
        assert line.get_label() == "Adam"
        save_figure(figure, tmp_path / "figure.png")
    assert len({style.colour for style in STYLES.values()}) == len(STYLES)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 1)])
def test_the_legend_of_curves_covers_no_label(count, columns):
    curves = {name: [[2.0, 1.0, 0.5]] for name in ("rmsprop", "adam", "average-rmsprop")}
    figure = curve_figure({f"{i}": curves for i in range(count)}, "rmsprop", columns)
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    labels = [text.get_window_extent() for text in figure.texts]
    assert not any(map(box.overlaps, [*labels, *(axis.get_tightbbox() for axis in figure.axes)]))


def test_a_rare_colour_survives_the_palette():
    """One outcome among many others keeps its colour, though the picture has few colours."""
    up = {"claimed": (1.0, math.inf), "direction": (1.0, math.inf)}
    many = [Finding(f"finding {i}", (1.5 + 0.01 * i, 2.0, 2.5), **up) for i in range(40)]
    picture = Image.open(BytesIO(png(finding_figure([*many, Finding("last", (0.5, 0.6), **up)]))))
    colours = np.asarray(picture.convert("RGB"), int).reshape(-1, 3)
    for colour in ((0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00)):  # that hold, and that do not
        assert np.abs(colours - colour).max(axis=1).min() <= 2
