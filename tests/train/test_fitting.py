"""`fit`: training data, metrics, early stopping, the best weights and resumption."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.checkpoint import Checkpoints
from agrad.data import Batches, Prefetch
from agrad.errors import NonFiniteError
from agrad.train import Callback, Step, Training, evaluate, fit, train, train_step

Arrays = tuple[np.ndarray, np.ndarray]


def points(count: int = 60, seed: int = 0) -> Arrays:
    """Return points of the plane, and whether their coordinates have the same sign."""
    x = np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def network(dropout: float = 0.0) -> nn.Sequential:
    ag.seed(0)
    layers = [nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2)]
    return nn.Sequential(*layers)


def automatic(model: nn.Module) -> optim.Optimizer:
    return optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-3), lr="auto")


def adam(model: nn.Module) -> optim.Optimizer:
    return optim.Adam(model.parameters(), lr=0.02)


def run(
    model: nn.Module, optimizer: optim.Optimizer, data: Any, **options: Any
) -> ag.train.History:
    return fit(model, optimizer, data, **{"epochs": 4, "progress": False, **options})


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


# -- what it does is what `train` and `evaluate` do ------------------------------------------------


@pytest.mark.parametrize("make", [adam, automatic])
@pytest.mark.parametrize("capture", [False, True])
def test_it_trains_as_the_loop_does(make: Any, capture: bool) -> None:
    model, data = network(0.3), points()
    optimizer = make(model)
    batches = Batches(*data, batch_size=16, seed=3)
    steps = list(train(model, optimizer, batches, 12, capture=True))
    other = network(0.3)
    history = run(
        other,
        make(other),
        Batches(*data, batch_size=16, seed=3),
        epochs=3,
        capture=capture,
    )
    assert same(model.state_dict(), other.state_dict())
    assert history.steps["loss"].tolist() == [step.loss for step in steps]
    assert history["rate"].tolist() == [steps[i].rate for i in (3, 7, 11)]
    sizes = [16, 16, 16, 12]
    expected = [np.average([s.loss for s in steps[i : i + 4]], weights=sizes) for i in (0, 4, 8)]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-12)
    measured = make is automatic
    assert np.isnan(history["fraction"]).all() != measured


def test_arrays_batches_and_lists_of_batches_are_the_same_data() -> None:
    x, y = points()
    found = []
    listed = list(Batches(x, y, batch_size=16, shuffle=False))
    for data in ((x, y), Batches(x, y, batch_size=16, shuffle=False), listed):
        model = network()
        options = {"batch_size": len(x)} if isinstance(data, tuple) else {}
        run(model, adam(model), data, **options)
        found.append(model.state_dict())
    assert same(found[1], found[2])
    assert not same(found[0], found[1])  # whole batches


class Product(nn.Module):
    """Two networks of one coordinate each, and a head on their product."""

    def __init__(self) -> None:
        ag.seed(0)
        self.one, self.other = nn.Linear(1, 8), nn.Linear(1, 8)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(8, 2)

    def forward(self, x: ag.Tensor, z: ag.Tensor) -> ag.Tensor:
        return self.head(self.dropout((self.one(x) * self.other(z)).tanh()))


class Coordinates:
    """The points as a user's data set, with two inputs by position or by name."""

    def __init__(self, named: bool) -> None:
        (self.x, self.y), self.named = points(), named

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> Any:
        x, z = self.x[i, :1], self.x[i, 1:]
        return ({"z": z, "x": x} if self.named else (x, z)), self.y[i]


def both_inputs(named: bool) -> Any:
    x, y = points()
    return ({"x": x[:, :1], "z": x[:, 1:]} if named else (x[:, :1], x[:, 1:])), y


@pytest.mark.parametrize("named", [False, True])
def test_a_model_of_several_inputs_trains_as_that_of_one(named: bool) -> None:
    class OfOne(Product):
        def forward(self, both: ag.Tensor) -> ag.Tensor:  # type: ignore[override]
            return super().forward(both[:, :1], both[:, 1:])

    def trained(make: Any, data: Any, **options: Any) -> tuple[dict[str, Any], list[float]]:
        model = make()
        rule = optim.Adam(model.parameters(), lr=0.01)
        history = run(model, optim.AverageGradient(rule, probe_size=8), data, **options)
        return model.state_dict(), history["validation_loss"].tolist()

    inputs, targets = both_inputs(named)
    several = {"validation": (inputs, targets), "metrics": ["accuracy"]}
    weights, losses = trained(
        OfOne, Batches(*points(), batch_size=16, seed=1), validation=points(), capture=False
    )
    kinds = {
        "arrays": Batches(inputs, targets, batch_size=16, seed=1),
        "data set": Batches(Coordinates(named), batch_size=16, seed=1),
        "thread": Prefetch(Batches(Coordinates(named), batch_size=16, seed=1)),
    }
    for data in kinds.values():
        found, again = trained(Product, data, **several)
        assert same(found, weights)
        assert again == losses
    ag.seed(3)
    pair, _ = trained(Product, (inputs, targets), batch_size=16, **several)
    ag.seed(3)
    eager, _ = trained(Product, (inputs, targets), batch_size=16, capture=False, **several)
    assert same(pair, eager)


@pytest.mark.parametrize("use", [evaluate, lambda m, x, y: train_step(m, adam(m), x, y)])
def test_several_inputs_that_do_not_fit_are_named(use: Any) -> None:
    (x, z), y = both_inputs(named=False)
    with pytest.raises(ValueError, match=r"the inputs have \[60, 5\] examples"):
        use(Product(), (x, z[:5]), y)
    with pytest.raises(ValueError, match=r"the inputs have {'x': 60, 'z': 5} examples"):
        use(Product(), {"x": x, "z": z[:5]}, y)


def test_errors_of_several_inputs_name_the_one() -> None:
    (x, z), y = both_inputs(named=False)
    for inputs, name in (((x, z * np.nan), "1"), ({"x": x, "z": z * np.nan}, "'z'")):
        model = Product()
        with pytest.raises(NonFiniteError, match=f"the input {name} had a NaN"):
            train_step(model, adam(model), inputs, y)
    with pytest.raises(TypeError, match="evaluate: labels are missing"):
        evaluate(Product(), (x, z))
    only = Batches({"x": x, "z": z}, batch_size=8)
    with pytest.raises(ValueError, match="train: a batch must be a pair of inputs and targets"):
        next(train(Product(), adam(Product()), only, 1))


def test_an_iterable_without_a_length_is_iterated_once_an_epoch() -> None:
    class Stream:
        turns = 0

        def __iter__(self) -> Any:
            self.turns += 1
            yield from Batches(*points(), batch_size=16, shuffle=False)

    model, stream = network(), Stream()
    history = run(model, automatic(model), stream, epochs=3)
    assert (stream.turns, len(history.steps["loss"])) == (3, 12)
    with pytest.raises(ValueError, match=r"fit: decay=0.5 needs train_data that has a length"):
        run(model, adam(model), stream, decay=0.5)


def test_validation_is_an_evaluation_after_each_epoch() -> None:
    model, held_out = network(), points(30, seed=1)
    seen = []

    class Evaluates(Callback):
        def on_epoch(self, training: Training) -> None:
            seen.append(evaluate(model, *held_out, metrics=["f1", "confusion_matrix"]))
            assert not model.training or model.train()

    history = run(
        model,
        adam(model),
        points(),
        validation=held_out,
        metrics=["f1", "confusion_matrix"],
        callbacks=[Evaluates()],
    )
    assert history["validation_loss"].tolist() == [e.loss for e in seen]
    assert history["validation_accuracy"].tolist() == [e.accuracy for e in seen]
    assert history["validation_f1"].tolist() == [e.metrics["f1"] for e in seen]
    assert history["validation_confusion_matrix"].shape == (4, 2, 2)
    batches = Batches(*held_out, batch_size=7, shuffle=False)
    by_batches = evaluate(model, batches)
    assert by_batches.loss == pytest.approx(evaluate(model, *held_out).loss, rel=1e-6)
    assert by_batches.accuracy == evaluate(model, *held_out).accuracy


# -- the best epoch, and the last ------------------------------------------------------------------


@pytest.mark.parametrize("restore", [False, True])
def test_it_stops_and_ends_with_the_best_weights(restore: bool) -> None:
    model, held_out = network(), points(30, seed=1)
    weights = []

    class Keeps(Callback):
        def on_epoch(self, training: Training) -> None:
            weights.append(model.state_dict())

    history = run(
        model,
        optim.SGD(model.parameters(), lr=2.0),  # too high to go on improving
        points(),
        validation=held_out,
        epochs=50,
        patience=3,
        restore_best=restore,
        callbacks=[Keeps()],
    )
    losses = history["validation_loss"]
    best = int(np.argmin(losses))
    assert history.best_epoch == best + 1
    assert history.stopped
    assert len(losses) == best + 4 < 50
    assert same(model.state_dict(), weights[best if restore else -1])
    assert not same(weights[best], weights[-1])


def test_an_accuracy_is_better_if_it_is_higher_and_by_more_than_min_delta() -> None:
    model, held_out = network(), points(30, seed=1)
    history = run(
        model,
        adam(model),
        points(),
        validation=held_out,
        epochs=12,
        monitor="accuracy",
        min_delta=0.1,
    )
    best, epoch = -math.inf, 0
    for i, accuracy in enumerate(history["validation_accuracy"], 1):
        if accuracy > best + 0.1:
            best, epoch = accuracy, i
    assert history.best_epoch == epoch
    assert evaluate(model, *held_out).accuracy == history["validation_accuracy"][epoch - 1]


def test_without_validation_a_patience_watches_the_training_loss() -> None:
    model = network()
    history = run(model, optim.SGD(model.parameters(), lr=0.0), points(), epochs=50, patience=2)
    assert history.stopped
    assert len(history["loss"]) < 50
    assert history.best_epoch == int(np.argmin(history["loss"])) + 1
    assert run(model, adam(model), points()).best_epoch is None


def test_a_users_own_metric_is_a_function_of_outputs_and_targets() -> None:
    def wrong(outputs: Any, targets: Any) -> int:
        return int((outputs.argmax(1) != targets).sum())

    model, held_out = network(), points(30, seed=1)
    options = {"validation": held_out, "metrics": [wrong], "monitor": "wrong"}
    with pytest.raises(ValueError, match=r"mode must be .* to monitor 'wrong', got None"):
        run(model, adam(model), points(), **options)
    history = run(model, adam(model), points(), **options, mode="min")
    np.testing.assert_array_equal(
        history["validation_wrong"], np.round(30 * (1 - history["validation_accuracy"]))
    )


# -- schedules and callbacks -----------------------------------------------------------------------


def test_a_schedule_is_stepped_after_each_step() -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    schedule = optim.OneCycleLR(optimizer, 0.1, total_steps=8)
    expected = [0.01 * schedule.factor(i) for i in range(8)]
    history = run(model, optimizer, points(), schedule=schedule, epochs=2, batch_size=16)
    np.testing.assert_allclose(history.steps["rate"], expected, rtol=1e-12)
    assert schedule.steps == 8


@pytest.mark.parametrize("with_validation", [False, True])
def test_a_plateau_is_stepped_after_each_epoch(with_validation: bool) -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=2.0)
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    by_hand = optim.ReduceLROnPlateau(optim.SGD([nn.Parameter(1.0)], lr=2.0), "min", 0.5, 0)
    optimizer.scale_source = schedule
    validation = points(30, seed=1) if with_validation else None
    history = run(model, optimizer, points(), schedule=schedule, epochs=12, validation=validation)
    rates = []
    for loss in history["validation_loss" if with_validation else "loss"]:
        rates.append(by_hand.optimizer.rate)
        by_hand.step(loss)
    assert history["rate"].tolist() == rates
    assert rates[-1] < 2.0


def test_callbacks_see_each_step_and_can_stop() -> None:
    seen = []

    class Watches(Callback):
        def on_step(self, training: Training, step: Step) -> None:
            assert training.iteration == step.iteration
            seen.append(step.iteration)
            if step.iteration == 5:
                training.stop()

    model = network()
    history = run(model, adam(model), points(), batch_size=20, callbacks=[Watches()])
    assert seen == [1, 2, 3, 4, 5, 6]
    assert history.stopped
    assert len(history["loss"]) == 2


# -- checkpoints -----------------------------------------------------------------------------------


class Dies(Exception):
    """Ends a training as a crash would."""


class DiesAfter(Callback):
    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_step(self, training: Training, step: Step) -> None:
        if step.iteration == self.iteration:
            raise Dies


def pieces(kind: str) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Return the arguments of `fit` for a training of each kind."""
    model = network(0.3)
    optimizer = automatic(model) if kind == "automatic" else adam(model)
    options: dict[str, Any] = {"validation": points(30, seed=1), "epochs": 5, "patience": 3}
    if kind == "cycle":
        options["schedule"] = optim.OneCycleLR(optimizer, 0.05, total_steps=20)
    if kind == "plateau":
        options["schedule"] = optim.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    if kind == "batches":
        options["validation"] = Batches(*points(30, seed=1), batch_size=7)
    return model, optimizer, options


@pytest.mark.parametrize("kind", ["automatic", "cycle", "plateau", "batches"])
def test_a_training_that_died_repeatedly_equals_an_undisturbed_one(
    kind: str, tmp_path: Path
) -> None:
    whole, optimizer, options = pieces(kind)
    expected = run(whole, optimizer, points(), batch_size=16, **options)
    for death in (3, 4, 6, 9, 12, 14, 99):  # 4 and 12 end an epoch
        model, optimizer, options = pieces(kind)
        called = [DiesAfter(death)]
        try:
            history = run(
                model,
                optimizer,
                points(),
                batch_size=16,
                checkpoints=tmp_path,
                checkpoint_every=2,
                callbacks=called,
                **options,
            )
        except Dies:
            continue
    assert same(model.state_dict(), whole.state_dict())
    for name in expected:
        if name != "seconds":
            np.testing.assert_array_equal(history[name], expected[name], err_msg=name)
    for name in expected.steps:
        np.testing.assert_array_equal(history.steps[name], expected.steps[name], err_msg=name)
    assert history.best_epoch == expected.best_epoch
    # A finished training is read from its checkpoint, including its best score.
    model, optimizer, options = pieces(kind)
    again = run(model, optimizer, points(), checkpoints=tmp_path, batch_size=16, **options)
    assert same(model.state_dict(), whole.state_dict())
    assert again["loss"].tolist() == expected["loss"].tolist()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() is not None
        assert checkpoints.best_score == expected["validation_loss"].min()


@pytest.mark.parametrize("thread", [False, True])
def test_augmented_data_resume_with_and_without_a_thread(thread: bool, tmp_path: Path) -> None:
    def noise(x: np.ndarray) -> np.ndarray:
        return (x + 0.1 * ag.random.generator().standard_normal(x.shape)).astype(np.float32)

    def data() -> Any:
        batches = Batches(*points(), batch_size=16, seed=2, transform=noise)
        return Prefetch(batches) if thread else batches

    whole = network(0.3)
    expected = run(whole, adam(whole), Batches(*points(), batch_size=16, seed=2, transform=noise))
    for death in (3, 7, 11, 99):
        model = network(0.3)
        options = {"checkpoints": tmp_path, "checkpoint_every": 2, "callbacks": [DiesAfter(death)]}
        try:
            history = run(model, adam(model), data(), **options)
        except Dies:
            continue
    assert history.steps["loss"].tolist() == expected.steps["loss"].tolist()
    assert same(model.state_dict(), whole.state_dict())


def test_more_epochs_continue_a_training(tmp_path: Path) -> None:
    model = network()
    run(model, adam(model), points(), epochs=2, checkpoints=tmp_path)
    model = network()
    history = run(model, adam(model), points(), epochs=5, checkpoints=tmp_path)
    whole = network()
    expected = run(whole, adam(whole), points(), epochs=5)
    assert history["loss"].tolist() == expected["loss"].tolist()
    assert same(model.state_dict(), whole.state_dict())


def test_a_callback_with_a_state_resumes_with_it(tmp_path: Path) -> None:
    class Average(Callback):
        def __init__(self, model: nn.Module) -> None:
            self.ema = optim.EMA(model.parameters())
            self.state_dict = self.ema.state_dict
            self.load_state_dict = self.ema.load_state_dict

        def on_step(self, training: Training, step: Step) -> None:
            self.ema.update()

    averages = []
    for epochs in ((4,), (2, 4)):
        for each in epochs:
            model = network()
            average = Average(model)
            run(
                model,
                adam(model),
                points(),
                epochs=each,
                callbacks=[average],
                checkpoints=tmp_path / str(epochs),
            )
        averages.append(average.ema.state_dict()["averages"])
    assert same(*averages)


# -- what it prints and refuses --------------------------------------------------------------------


def test_it_prints_a_line_for_each_epoch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    run(model, adam(model), points(), validation=points(30, seed=1), epochs=2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "validation accuracy 0." in lines[1]
    assert "nan" not in lines[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    run(model, adam(model), points(), epochs=1, progress=True)
    assert "epoch 1/1  step 1/2  loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (None, {"epochs": -1}, ValueError, "epochs must be at least 0, got -1"),
        (None, {"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        (None, {"checkpoint_every": 5}, ValueError, "needs a folder of checkpoints"),
        (None, {"metrics": ["f1"]}, ValueError, "metrics need validation data"),
        (None, {"monitor": "f1"}, ValueError, r"monitor must be one of \['loss'\], got 'f1'"),
        (
            None,
            {"validation": points(), "metrics": ["f2"]},
            ValueError,
            "metrics must be of .*, got 'f2'",
        ),
        (None, {"validation": points(), "metrics": [3]}, TypeError, "a metric must be a name"),
        (None, {"decay": 2.0}, ValueError, r"decay must be in \[0, 1\]"),
        (7, {}, TypeError, "train_data must be a pair of arrays or an iterable of .* got a int"),
        (np.ones(3), {}, TypeError, "train_data must be .* got a ndarray"),
        (iter([points()]), {}, ValueError, "an iterator, which yields its batches once, not 4"),
        ([], {}, ValueError, "train_data has no batch in epoch 1"),
        ([points()], {"batch_size": 3}, ValueError, "batch_size=3 needs train_data of a pair"),
        ([points()[:1]], {}, ValueError, "a batch must be a pair of inputs and targets, got a tup"),
        ([points()[0]], {}, ValueError, "must be a pair of inputs and targets, got a ndarray"),
        ([points()], {"checkpoints": "x"}, ValueError, "checkpoints need train_data that can"),
        (None, {"loss": "mse"}, TypeError, "fit: loss must be a function of .* got a str"),
        (None, {"schedule": "cosine"}, TypeError, "fit: schedule must be an agrad Schedule"),
        (None, {"callbacks": Callback()}, TypeError, "callbacks must be a list .* got a Callback"),
        (None, {"callbacks": [print]}, TypeError, "callbacks must be a list .* got a builtin"),
        (None, {"validation": points(), "metrics": None}, TypeError, "metrics must be a list of"),
        (None, {"validation": 0.2}, TypeError, "validation must be a pair of .* got a float"),
        (
            None,
            {"validation": points()[0]},
            TypeError,
            "validation must be a pair .* got a ndarray",
        ),
        (None, {"validation": (*points(), 1)}, ValueError, "validation: a batch must be a pair"),
        (None, {"validation": [*points()]}, ValueError, "validation: a batch must be a pair"),
        (
            None,
            {"validation": (points()[0], points()[1][1:])},
            ValueError,
            "validation has 60 inputs and 59 targets",
        ),
        (None, {"validation": iter([points()])}, ValueError, "validation is an iterator, .* not 4"),
    ],
)
def test_what_does_not_fit_is_named(
    data: Any,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = network()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        run(model, adam(model), points() if data is None else data, **options)
    assert same(model.state_dict(), before)
    assert not list(tmp_path.iterdir())


def test_a_schedule_must_be_of_the_optimizer_and_the_mode() -> None:
    model = network()
    optimizer = adam(model)
    with pytest.raises(ValueError, match="the schedule belongs to another optimizer"):
        run(model, optimizer, points(), schedule=optim.StepLR(adam(model), 3))
    schedule = optim.ReduceLROnPlateau(optimizer, "max")
    with pytest.raises(ValueError, match=r"the schedule's mode is 'max', that of .* 'min'"):
        run(model, optimizer, points(), schedule=schedule)


def test_models_and_optimizers_of_another_library_are_named() -> None:
    model = network()
    with pytest.raises(TypeError, match="fit: model must be an agrad Module, got a function"):
        run(lambda x: x, adam(model), points())
    with pytest.raises(TypeError, match="fit: optimizer must be an agrad Optimizer, got a str"):
        run(model, "adam", points())


def test_a_loss_that_returns_nothing_is_named() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="train: loss_function returned None"):
        run(model, adam(model), points(), loss=lambda out, y: None)


def test_a_metric_that_is_not_a_number_is_named() -> None:
    model = network()
    options = {"validation": points(), "monitor": "m", "mode": "max"}
    for metric, error, message in [
        (lambda out, y: None, TypeError, "evaluate: the metric 'm' must return a number .* None"),
        (lambda out, y: "high", TypeError, "evaluate: the metric 'm' must return a number"),
        (lambda out, y: out[0], ValueError, r"fit: 'validation_m' is an array of shape \(2,\)"),
    ]:
        with pytest.raises(error, match=message):
            run(model, adam(model), points(), metrics={"m": metric}, **options)


def test_an_accuracy_of_a_regression_cannot_be_monitored() -> None:
    x, y = points()
    model = nn.Linear(2, 1)
    data = x, y[:, None].astype(np.float32)
    with pytest.raises(ValueError, match="nothing measured 'validation_accuracy'"):
        run(model, adam(model), data, validation=data, monitor="accuracy", loss=F.mse_loss)


def test_the_best_weights_survive_an_error() -> None:
    class Stop(Callback):
        def on_step(self, training: Training, step: Step) -> None:
            if training.epoch == 2:
                raise KeyboardInterrupt

    model, data = network(), points()
    best: list[Any] = []

    class Keep(Callback):
        def on_epoch(self, training: Training) -> None:
            if training.best.epoch == training.epoch:
                best[:] = [model.state_dict()]

    with pytest.raises(KeyboardInterrupt):
        run(model, adam(model), data, validation=points(20, 1), callbacks=[Keep(), Stop()])
    assert same(model.state_dict(), best[0])


def test_metrics_of_a_generator_are_measured_in_each_epoch() -> None:
    model = network()
    history = run(
        model,
        adam(model),
        points(),
        validation=points(20, 1),
        metrics=(name for name in ["accuracy"]),
    )
    assert len(history["validation_accuracy"]) == 4


def test_a_plateau_of_infinite_losses_can_be_resumed(tmp_path: Path) -> None:
    x, y = np.full((4, 1), 1e30, np.float32), np.zeros((4, 1), np.float32)
    for epochs in (1, 2):
        model = nn.Linear(1, 1)
        optimizer = optim.SGD(model.parameters(), lr=1e-3)
        history = run(
            model,
            optimizer,
            (0 * x, y),
            epochs=epochs,
            validation=(x, y),
            loss=F.mse_loss,
            schedule=optim.ReduceLROnPlateau(optimizer),
            checkpoints=tmp_path,
        )
    assert history["validation_loss"].tolist() == [math.inf, math.inf]
