"""`agrad predict` and `agrad evaluate`: a network rebuilt from the folder of its run."""

import csv
import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import click
import numpy as np

import agrad
from agrad import nn, train
from agrad.cli.interrupt import lost_output_interrupts
from agrad.cli.output import make_console, say
from agrad.cli.own_data import Format, have_changed, load_own_data
from agrad.serialization import atomic_write
from agrad.study.data import NAMES, load_data
from agrad.study.networks import dense_network, image_network, text_network
from agrad.train import Evaluation

__all__ = ["Trained", "described", "evaluate", "own_data_arguments", "predict"]

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_DATA = click.Path(exists=True, path_type=Path)


class Trained:
    """The network of a run, with its best weights.

    Args:
        folder: The folder of the run.

    Attributes:
        settings: The options of the run.
        format: The format of data of the user's own; None for a named data set.
        model: The network, in evaluation mode.

    Raises:
        FileNotFoundError: The folder has no finished run.
        ValueError: Its files do not fit each other.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "settings.json"
        if not path.exists() or not (folder / "weights.safetensors").exists():
            raise FileNotFoundError(f"the folder {str(folder)!r} holds no run that has ended")
        try:
            self.settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{str(path)!r} is damaged: {error}") from error
        self.format = (
            Format.from_json(self.settings["format"]) if "format" in self.settings else None
        )
        weights = agrad.load(folder / "weights.safetensors")
        self.model = self._network(weights).eval()
        self.model.load_state_dict(weights)

    def _network(self, weights: dict[str, Any]) -> nn.Module:
        """Return a network of the run's kind, whose sizes are those of the weights."""
        settings = self.settings
        options = {name: settings[name] for name in ("depth", "width", "activation", "init")}
        first, last = next(iter(weights.values())), list(weights.values())[-1]
        if settings["model"] == "dense":
            return dense_network(first.shape[1], len(last), **options)
        if settings["data"] == "imdb" or (self.format and self.format.words is not None):
            return text_network(len(first), len(last), **options)
        # The sizes of images do not decide those of weights.
        return image_network((8, 8), len(last), **options)

    def evaluated(self, path: Path | None) -> tuple[str, Evaluation]:
        """Return what the network is evaluated on, in words, and the evaluation.

        Args:
            path: A file with targets; by default the test set of a named data set, or what the run
                has held out, or the training data.
        """
        if self.format is None:
            if path is not None:
                raise ValueError("a run on a named data set is evaluated on its test set alone")
            return "test set", train.evaluate(self.model, *load_data(self.settings["data"]).test)
        form = self.format
        if path is not None:
            content = form.read(path)
            name = str(path)
            data: Any = form.inputs(content, path), form.targets(content, path)
        else:
            own = load_own_data(*own_data_arguments(self.settings))
            if have_changed(own.described(), self.settings):
                raise ValueError(
                    f"the data in {self.settings['data']!r} have changed since the run; name a "
                    "FILE to evaluate on"
                )
            name, data = "validation", own.validation
            if data is None:
                name, data = "training data", own.train
        inputs, targets = data
        return name, train.evaluate(
            self.model, inputs, targets, loss_function=form.loss, metrics=form.metrics
        )


def own_data_arguments(settings: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of `load_own_data` in the settings of a run."""
    validation = settings.get("validation")
    if isinstance(validation, str):
        validation = Path(validation)
    return (
        Path(settings["data"]),
        settings.get("target"),
        settings.get("text"),
        settings.get("task"),
        validation,
        settings["seed"],
    )


def described(evaluation: Evaluation) -> str:
    """Return an evaluation in words."""
    words = [f"loss {evaluation.loss:.4f}"]
    if evaluation.accuracy == evaluation.accuracy:
        words.append(f"accuracy {evaluation.accuracy:.2%}")
    words += [f"{name} {value:.4f}" for name, value in evaluation.metrics.items()]
    return ", ".join(words)


def _text(label: Any) -> str:
    whole = isinstance(label, float) and label.is_integer()
    return f"{label:.0f}" if whole else str(label)


@click.command(short_help="Evaluate the network of a run.")
@click.argument("run", type=_FOLDER)
@click.argument("file", type=_DATA, required=False)
def evaluate(run: Path, file: Path | None) -> None:
    """Evaluate the network of a RUN: its loss, and its accuracy or R².

    FILE has the form of the training data. Without it, a run on a named data set is evaluated on
    the test set; a run on data of your own on what it has held out, or else on the training data.
    """
    name, found = Trained(run).evaluated(file)
    say(make_console(), f"{name}: {described(found)}")


@click.command(short_help="Predict with the network of a run.")
@click.argument("run", type=_FOLDER)
@click.argument("file", type=_DATA)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file for the predictions.  [default: standard output]",
)
def predict(run: Path, file: Path, out: Path | None) -> None:
    """Predict with the network of a RUN for each example of a FILE.

    The file has the form of the training data; it needs no targets. The predictions are a CSV
    table: of a regression the column "prediction", of a classification also the "probability".
    """
    trained = Trained(run)
    form = trained.format
    if form is None:
        raise ValueError(
            f"the run {str(run)!r} was trained on a named data set, one of {', '.join(NAMES)}; "
            "predictions need a run on data of your own"
        )
    outputs = train.predict(trained.model, form.inputs(form.read(file), file))
    if form.classes is None:
        numbers = outputs[:, 0].astype(np.float64) * form.deviation + form.mean
        table = [["prediction"], *([f"{number:.7g}"] for number in numbers)]
    else:
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        chosen = shares.argmax(axis=1)
        table = [["prediction", "probability"]]
        table += [
            [_text(form.classes[i]), f"{row[i]:.4f}"] for i, row in zip(chosen.tolist(), shares)
        ]
    if out is None:
        with lost_output_interrupts():
            csv.writer(sys.stdout, lineterminator="\n").writerows(table)
        return
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    with atomic_write(out) as stream:
        stream.write(text.getvalue().encode())
