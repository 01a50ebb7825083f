"""`agrad train`: one network, one method, and everything that came of it in one folder."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import agrad
from agrad import optim
from agrad.cli.output import require_writable, single_threaded
from agrad.cli.progress import step_progress
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.serialization import atomic_write
from agrad.study.dense import DATA, load_data
from agrad.study.figures import loss_figure, save_figure
from agrad.study.networks import ACTIVATIONS, INITS, dense_network
from agrad.study.runs import machine
from agrad.train import evaluate
from agrad.train import train as train_model

__all__ = ["train"]

_WITH_MOMENTUM = {"muon": optim.Muon, "rmsprop": optim.RMSprop, "sgd": optim.SGD}
_WITHOUT_MOMENTUM = {"adam": optim.Adam, "adamw": optim.AdamW}
_OPTIMIZERS = {**_WITH_MOMENTUM, **_WITHOUT_MOMENTUM}
_AUTO_START = 1e-4


class _LearningRate(click.ParamType):
    name = "FLOAT|auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        if value == "auto":
            return "auto"
        try:
            rate = float(value)
        except ValueError:
            rate = -1.0
        if not 0 < rate < float("inf"):
            self.fail(f"must be a positive number or auto, got {value!r}", param, ctx)
        return rate


@click.command()
@click.option("--data", type=click.Choice(sorted(DATA)), default="digits", show_default=True)
@click.option("--depth", default=30, show_default=True, help="Hidden layers.")
@click.option("--width", default=64, show_default=True, help="Units of a hidden layer.")
@click.option(
    "--activation", type=click.Choice(sorted(ACTIVATIONS)), default="tanh", show_default=True
)
@click.option(
    "--init", type=click.Choice(sorted(INITS)), help="Default: what suits the activation."
)
@click.option(
    "--optimizer",
    type=click.Choice(sorted(_OPTIMIZERS)),
    default="adam",
    show_default=True,
    help="The rule that proposes updates.",
)
@click.option(
    "--average/--no-average",
    default=True,
    show_default=True,
    help="Whether the average gradient shortens what the rule proposes.",
)
@click.option(
    "--lr",
    type=_LearningRate(),
    default="auto",
    show_default=True,
    help=f"Learning rate; auto, with --average only, finds its own from {_AUTO_START:g}.",
)
@click.option(
    "--momentum", type=float, help=f"Of the optimizers {', '.join(sorted(_WITH_MOMENTUM))}."
)
@click.option("--batch-size", default=128, show_default=True, help="Examples in a step.")
@click.option("--iterations", type=int, help="Training steps.  [default: 320]")
@click.option("--epochs", type=int, help="Passes over the data, instead of --iterations.")
@click.option("--seed", default=0, show_default=True, help="Of initial weights and batch order.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for metrics.jsonl, settings.json, weights.safetensors and loss.png.",
)
def train(out: Path, **settings: Any) -> None:
    """Train a plain dense network.

    Metrics are written as training goes on, one JSON line for each iteration. Ctrl-C stops the
    training and saves what was reached. BLAS uses one thread.
    """
    _check(settings)
    if (out / "metrics.jsonl").exists():
        raise click.UsageError(f"{str(out)!r} holds a run already; choose another --out")
    require_writable(out)
    console = Console()
    with single_threaded():
        _train(out, settings, console)


def _check(settings: dict[str, Any]) -> None:
    if settings["iterations"] is not None and settings["epochs"] is not None:
        raise click.UsageError("--iterations and --epochs exclude each other")
    least = {"depth": 0, "width": 1, "batch_size": 1, "iterations": 1, "epochs": 1, "seed": 0}
    for name, bound in least.items():
        if settings[name] is not None and settings[name] < bound:
            option = "--" + name.replace("_", "-")
            raise click.BadParameter(f"must be at least {bound}", param_hint=option)
    if settings["momentum"] is not None and settings["optimizer"] not in _WITH_MOMENTUM:
        raise click.UsageError(f"--momentum does not go with --optimizer {settings['optimizer']}")
    if settings["lr"] == "auto" and not settings["average"]:
        raise click.UsageError("--lr auto needs --average; give a number")


def _train(out: Path, settings: dict[str, Any], console: Console) -> None:
    data = load_data(settings["data"])
    images, labels = data.train
    agrad.seed(settings["seed"])
    model = dense_network(
        images[0].size,
        int(labels.max()) + 1,
        depth=settings["depth"],
        width=settings["width"],
        activation=settings["activation"],
        init=settings["init"],
    )
    optimizer = _optimizer(model.parameters(), settings)
    batches = Batches(
        images, labels, batch_size=settings["batch_size"], seed=settings["seed"], drop_last=True
    )
    iterations = settings["iterations"] or 320
    if settings["epochs"] is not None:
        iterations = settings["epochs"] * len(batches)

    losses: list[float] = []
    _write_json(out / "settings.json", {**settings, "machine": machine()})
    try:
        with (
            (out / "metrics.jsonl").open("w", buffering=1) as metrics,
            step_progress(console, settings["data"], iterations) as show,
        ):
            for step in train_model(model, optimizer, batches, iterations):
                losses.append(step.loss)
                entry = {"iteration": step.iteration, "loss": step.loss, "seconds": step.seconds}
                metrics.write(json.dumps(entry) + "\n")
                show(step)
    except (KeyboardInterrupt, NonFiniteError) as stopped:
        _save(out, model, losses, console)
        if isinstance(stopped, NonFiniteError):
            raise
        console.print(f"Interrupted after {len(losses)} of {iterations} iterations.")
        raise
    test = evaluate(model, *data.test)
    _save(out, model, losses, console)
    console.print(f"Test loss {test.loss:.4f}, accuracy {test.accuracy:.2%}", highlight=False)


def _optimizer(params: Any, settings: dict[str, Any]) -> Any:
    automatic = settings["lr"] == "auto"
    options = {"lr": _AUTO_START if automatic else settings["lr"]}
    if settings["momentum"] is not None:
        options["momentum"] = settings["momentum"]
    rule = _OPTIMIZERS[settings["optimizer"]](params, **options)
    if not settings["average"]:
        return rule
    return optim.AverageGradient(rule, lr="auto" if automatic else None)


def _save(out: Path, model: Any, losses: list[float], console: Console) -> None:
    agrad.save(out / "weights.safetensors", model.state_dict())
    if losses:
        save_figure(loss_figure({"training": {"loss": losses}}, "training loss"), out / "loss.png")
    console.print(f"Weights, metrics and plot: {out}", highlight=False, soft_wrap=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
