"""`agrad train`: one network, one method, and everything that came of it in one folder."""

import json
import math
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import agrad
from agrad import optim
from agrad.cli.interrupt import interrupts_between_steps
from agrad.cli.output import (
    make_console,
    require_writable,
    say,
    seed_option,
    single_threaded,
    write_json,
)
from agrad.cli.progress import step_progress
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.nn import Module
from agrad.study.data import NAMES, load_data
from agrad.study.figures import loss_figure, save_figure
from agrad.study.networks import ACTIVATIONS, INITS, KINDS, make_network
from agrad.study.runs import machine
from agrad.train import Step, evaluate
from agrad.train import train as train_model

__all__ = ["train"]

_WITH_MOMENTUM = {"muon": optim.Muon, "rmsprop": optim.RMSprop, "sgd": optim.SGD}
_WITHOUT_MOMENTUM = {"adam": optim.Adam, "adamw": optim.AdamW}
_OPTIMIZERS = {**_WITH_MOMENTUM, **_WITHOUT_MOMENTUM}
_AUTO_START = 1e-4
_ITERATIONS = 320
_FILES = ("settings.json", "metrics.jsonl", "weights.safetensors", "loss.png")
_SIZES = {"dense": {"depth": 30, "width": 64}, "conv": {"depth": 12, "width": 32}}


class _LearningRate(click.ParamType):
    name = "learning rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        if value == "auto":
            return "auto"
        try:
            rate = float(value)
        except ValueError:
            rate = -1.0
        if not 0 < rate < float("inf"):
            self.fail(f"{value!r} is neither a positive number nor auto", param, ctx)
        return rate


@click.command(short_help="Train one network by one method.")
@click.option(
    "--data",
    type=click.Choice(NAMES),
    default="digits",
    show_default=True,
    help="What to learn; digits needs no download, imdb needs --model conv.",
)
@click.option(
    "--model",
    type=click.Choice(KINDS),
    default="dense",
    show_default=True,
    help="What the hidden layers are: dense, or convolutions with pooling between them.",
)
@click.option("--depth", type=click.IntRange(0), help="Hidden layers.  [default: 30; conv: 12]")
@click.option(
    "--width",
    type=click.IntRange(1),
    help="Units or channels of a layer.  [default: 64; conv: 32]",
)
@click.option(
    "--activation",
    type=click.Choice(sorted(ACTIVATIONS)),
    metavar="NAME",
    default="tanh",
    show_default=True,
    help=f"One of {', '.join(sorted(ACTIVATIONS))}.",
)
@click.option(
    "--init",
    type=click.Choice(sorted(INITS)),
    help="How weights are drawn.  [default: what suits the activation]",
)
@click.option(
    "--optimizer",
    type=click.Choice(sorted(_OPTIMIZERS)),
    default="adam",
    show_default=True,
    help="The base rule, which proposes each update.",
)
@click.option(
    "--average/--no-average",
    default=True,
    show_default=True,
    help="Shorten each update to where the average gradient says, or take it whole.",
)
@click.option(
    "--lr",
    type=_LearningRate(),
    metavar="NUMBER|auto",
    help=f"Learning rate; auto finds it as training goes on, from {_AUTO_START:g}, and needs "
    "--average.  [default: auto]",
)
@click.option(
    "--momentum",
    type=click.FloatRange(0, 1, max_open=True),
    help=f"For {', '.join(sorted(_WITH_MOMENTUM))}.  [default: the rule's own]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Examples in a step.",
)
@click.option(
    "--iterations", type=click.IntRange(1), help=f"Steps to make.  [default: {_ITERATIONS}]"
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data, for --iterations.")
@seed_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help=f"Where {', '.join(_FILES)} go.",
)
def train(out: Path, **settings: Any) -> None:
    """Train a plain network on small images, or on film reviews.

    Metrics are written as training goes on, one JSON line for each iteration. Ctrl-C ends the
    training after the step at hand and saves what was reached. BLAS uses one thread, which is the
    fastest for narrow layers.
    """
    _check(settings)
    if any((out / name).exists() for name in _FILES):
        raise FileExistsError(f"the folder {str(out)!r} holds a run already; choose another --out")
    require_writable(out)
    with single_threaded():
        _train(out, settings, make_console())


def _check(settings: dict[str, Any]) -> None:
    """Fill in the defaults that depend on other options, and refuse words that do not go together.

    Raises:
        UsageError: they do not.
    """
    if settings["iterations"] is not None and settings["epochs"] is not None:
        raise click.UsageError("--iterations and --epochs exclude each other")
    if settings["momentum"] is not None and settings["optimizer"] not in _WITH_MOMENTUM:
        raise click.UsageError(f"--momentum does not go with --optimizer {settings['optimizer']}")
    if settings["data"] == "imdb" and settings["model"] == "dense":
        raise click.UsageError("--data imdb needs --model conv")
    if not settings["average"] and settings["lr"] in (None, "auto"):
        raise click.UsageError("--no-average needs a learning rate, such as --lr 1e-3")
    settings["lr"] = settings["lr"] or "auto"
    for name, size in _SIZES[settings["model"]].items():
        settings[name] = size if settings[name] is None else settings[name]
    if settings["epochs"] is None:
        settings["iterations"] = settings["iterations"] or _ITERATIONS


def _train(out: Path, settings: dict[str, Any], console: Console) -> None:
    data = load_data(settings["data"])
    agrad.seed(settings["seed"])
    options = {name: settings[name] for name in ("depth", "width", "activation", "init")}
    model = make_network(settings["model"], data, **options)
    optimizer = _optimizer(model.parameters(), settings)
    batches = Batches(
        *data.train, batch_size=settings["batch_size"], seed=settings["seed"], drop_last=True
    )
    iterations = settings["iterations"] or settings["epochs"] * len(batches)

    write_json(out / "settings.json", {**settings, "iterations": iterations, "machine": machine()})
    title = "{data}, {model} {activation} {depth}x{width}".format(**settings)
    reached = _Reached(model, title)
    with (out / "metrics.jsonl").open("w", buffering=1) as metrics:
        try:
            with (
                interrupts_between_steps() as check,
                step_progress(console, settings["data"], iterations) as show,
            ):
                for step in train_model(model, optimizer, batches, iterations, capture=True):
                    line = {"iteration": step.iteration, "loss": step.loss, "seconds": step.seconds}
                    metrics.write(json.dumps(line) + "\n")
                    reached.add(step)
                    show(step)
                    check()
            test = evaluate(model, *data.test)
            if not math.isfinite(test.loss):
                raise NonFiniteError(f"the test loss is {test.loss}; lower the learning rate")
        except KeyboardInterrupt:
            reached.save(out)
            say(console, f"Stopped after iteration {len(reached.losses)} of {iterations}: {out}")
            raise
        except NonFiniteError as error:
            reached.fall_back()
            reached.save(out)
            raise NonFiniteError(f"{error}; metrics and the last good weights: {out}") from error
        line = {"test_loss": test.loss, "test_accuracy": test.accuracy}
        metrics.write(json.dumps(line) + "\n")
    reached.save(out)
    say(console, f"Test loss {test.loss:.4f}, accuracy {test.accuracy:.2%}")
    say(console, f"Settings, metrics, weights and plot: {out}")


def _optimizer(params: Any, settings: dict[str, Any]) -> Any:
    automatic = settings["lr"] == "auto"
    options = {"lr": _AUTO_START if automatic else settings["lr"]}
    if settings["momentum"] is not None:
        options["momentum"] = settings["momentum"]
    rule = _OPTIMIZERS[settings["optimizer"]](params, **options)
    if not settings["average"]:
        return rule
    return optim.AverageGradient(rule, lr="auto" if automatic else None)


class _Reached:
    """What a training run has come to, to be saved however it ends."""

    def __init__(self, model: Module, title: str) -> None:
        self.losses: list[float] = []
        self._title = title
        self._model = model
        self._before = self._after = model.state_dict()

    def add(self, step: Step) -> None:
        """Keep what `step` has led to."""
        self.losses.append(step.loss)
        self._before, self._after = self._after, self._model.state_dict()

    def fall_back(self) -> None:
        """Give up the last step, whose weights gave a loss that is not finite."""
        self._after = self._before

    def save(self, out: Path) -> None:
        """Write the weights, and the plot if a step has been made."""
        agrad.save(out / "weights.safetensors", self._after)
        if self.losses:
            save_figure(loss_figure({self._title: {"loss": self.losses}}), out / "loss.png")
