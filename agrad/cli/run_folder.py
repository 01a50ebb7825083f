"""The folder of a training run: settings, metrics, weights, plot and checkpoints."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any

import numpy as np

import agrad
from agrad.checkpoint import Checkpoint, Checkpoints, Stateful
from agrad.cli.output import write_json
from agrad.nn import Module
from agrad.serialization import atomic_write, remove_leftovers
from agrad.study.figures import loss_figure, save_figure
from agrad.study.runs import machine
from agrad.train import Evaluation, Step

__all__ = ["CHECKPOINTS", "FILES", "JSONLines", "RunFolder"]

FILES = ("settings.json", "metrics.jsonl", "weights.safetensors", "loss.png")
CHECKPOINTS = "checkpoints"
_SERIES = ("loss", "seconds")


class RunFolder:
    """What a run leaves behind, step by step and however it ends.

    A checkpoint has the metrics in it, so that a run that goes on after one can write the file of
    metrics as it was then. The first is made before the first step: from then on, every run can go
    on.

    Args:
        path: the folder.
        checkpoints: its checkpoints.
        settings: what the run was asked for.
        parts: what takes part in its training; `model` among them.
        last: the checkpoint that it goes on after, which the parts have been restored from.
    """

    def __init__(
        self,
        path: Path,
        checkpoints: Checkpoints,
        settings: Mapping[str, Any],
        parts: Mapping[str, Stateful],
        last: Checkpoint | None,
    ) -> None:
        self.path = path
        self._checkpoints = checkpoints
        self._settings = settings
        self._parts = parts
        self._model: Module = parts["model"]  # type: ignore[assignment]
        self._before = self._after = self._model.state_dict()
        metrics = last.metrics if last else {}
        self._series = {name: np.asarray(metrics.get(name, ())).tolist() for name in _SERIES}

    def __enter__(self) -> "RunFolder":
        """Bring the files to where the run stands."""
        remove_leftovers(self.path)
        self.save_checkpoint()
        write_json(
            self.path / "settings.json",
            {**self._settings, "machine": machine(self._settings["device"])},
        )
        metrics = self.path / "metrics.jsonl"
        with atomic_write(metrics) as file:
            for i, values in enumerate(zip(*self._series.values()), 1):
                file.write(_line({"iteration": i, **dict(zip(_SERIES, values))}))
        self._lines = JSONLines(metrics)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()

    @property
    def iteration(self) -> int:
        """The number of steps made."""
        return len(self._series["loss"])

    def add(self, step: Step) -> None:
        """Write down what `step` has led to."""
        self._series["loss"].append(step.loss)
        self._series["seconds"].append(step.seconds)
        self._before, self._after = self._after, self._model.state_dict()
        self._lines.append(
            {"iteration": step.iteration, "loss": step.loss, "seconds": step.seconds}
        )

    def add_test(self, test: Evaluation) -> None:
        """Write down how the run has ended."""
        self._lines.append({"test_loss": test.loss, "test_accuracy": test.accuracy})

    def fall_back(self) -> None:
        """Give up the last step, whose weights gave a loss that is not finite."""
        self._after = self._before

    def save_checkpoint(self) -> None:
        """Save a checkpoint unless there is one of this iteration.

        Its score is the mean loss since the one before.
        """
        if self._checkpoints.last == self.iteration:
            return
        losses = self._series["loss"][self._checkpoints.last :]
        self._checkpoints.save(
            self.iteration,
            self._parts,
            settings=self._settings,
            metrics={name: np.asarray(values) for name, values in self._series.items()},
            score=fmean(losses) if losses else None,
        )

    def save_outcome(self) -> None:
        """Write the weights, and the plot if a step has been made."""
        agrad.save(self.path / "weights.safetensors", self._after)
        if self.iteration:
            title = "{data}, {model} {activation} {depth}x{width}".format(**self._settings)
            figure = loss_figure({title: {"loss": self._series["loss"]}})
            save_figure(figure, self.path / "loss.png")


class JSONLines:
    """A file to which whole lines of JSON are added, or none where the disk is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry.

        Raises:
            OSError: naming the file, which is as it was.
        """
        end = self._file.seek(0, os.SEEK_END)
        rest = _line(entry)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):  # what is no file on a disk cannot be cut
                self._file.truncate(end)
            raise OSError(error.errno, error.strerror, os.fspath(self._path)) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(entry) + "\n").encode()
