"""The folder of a training run: settings, metrics, weights, plot and checkpoints."""

import json
import math
import os
from collections.abc import Iterable, Mapping
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
from agrad.study.figures import run_figure, save_figure
from agrad.study.runs import machine
from agrad.train import Evaluation, Step
from agrad.train.best import BestWeights

__all__ = ["CHECKPOINTS", "FILES", "SERIES", "JSONLines", "RunFolder"]

FILES = ("settings.json", "metrics.jsonl", "weights.safetensors", "loss.png")
CHECKPOINTS = "checkpoints"
SERIES = ("loss", "seconds", "rate", "fraction", "cuts")


class RunFolder:
    """The output of a run, written step by step, so that it survives however the run ends.

    A checkpoint includes the metrics, so a resumed run can rewrite the metrics file as it was at
    the checkpoint. The first checkpoint is saved before the first step, so every run can be
    resumed.

    Args:
        path: The folder.
        checkpoints: The checkpoints of the run.
        settings: The options of the run.
        parts: The states to save in checkpoints; "model" is one of them.
        last: The checkpoint that `parts` were restored from, if the run is resumed.
        described: What else is needed to rebuild the network, for the file of the settings.
    """

    def __init__(
        self,
        path: Path,
        checkpoints: Checkpoints,
        settings: Mapping[str, Any],
        parts: Mapping[str, Stateful],
        last: Checkpoint | None,
        described: Mapping[str, Any],
    ) -> None:
        self.path = path
        self._described = dict(described)
        self._checkpoints = checkpoints
        self._settings = settings
        self._parts = parts
        self._model: Module = parts["model"]  # type: ignore[assignment]
        self._before = self._after = self._model.state_dict()
        metrics = last.metrics if last else {}
        self._series = {name: np.asarray(metrics.get(name, ())).tolist() for name in SERIES}
        self._validations: list[dict[str, Any]] = list(metrics.get("validations", ()))
        self._score: float | None = None
        self._lines: JSONLines | None = None

    def __enter__(self) -> "RunFolder":
        return self

    def begin(self) -> None:
        """Write the files so that they match the state of the run."""
        remove_leftovers(self.path)
        self.save_checkpoint()
        write_json(
            self.path / "settings.json",
            {
                **self._settings,
                **self._described,
                "machine": machine(self._settings["device"]),
            },
        )
        metrics = self.path / "metrics.jsonl"
        with atomic_write(metrics) as file:
            validations = {entry["iteration"]: entry for entry in self._validations}
            for i, values in enumerate(zip(*self._series.values()), 1):
                file.write(_line(_entry(i, values)))
                if i in validations:
                    file.write(_line(validations[i]))
        self._lines = JSONLines(metrics)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lines is not None:
            self._lines.close()

    @property
    def iteration(self) -> int:
        """The number of steps so far."""
        return len(self._series["loss"])

    def add(self, step: Step) -> None:
        """Record the metrics and the weights after `step`."""
        values = [getattr(step, name) for name in SERIES]
        for name, value in zip(SERIES, values):
            self._series[name].append(math.nan if value is None else value)
        self._before, self._after = self._after, self._model.state_dict()
        self._append(_entry(step.iteration, values))

    def add_validation(self, validation: Evaluation) -> None:
        """Record the validation after the last step."""
        found = {"loss": validation.loss, "accuracy": validation.accuracy, **validation.metrics}
        entry: dict[str, Any] = {"iteration": self.iteration}
        entry |= {
            f"validation_{name}": value if math.isfinite(value) else None
            for name, value in found.items()
            if not math.isnan(value)
        }
        self._validations.append(entry)
        self._append(entry)

    def use_best(self, best: BestWeights) -> None:
        """Make the best weights those of the model and of the run, if there are any."""
        if best.epoch is not None:
            best.restore()
            self._after = self._model.state_dict()

    def add_test(self, test: Evaluation) -> None:
        """Record the final test metrics."""
        self._append({"test_loss": test.loss, "test_accuracy": test.accuracy})

    def _append(self, entry: Mapping[str, Any]) -> None:
        assert self._lines is not None, "begin comes first"
        self._lines.append(entry)

    def fall_back(self) -> None:
        """Discard the weights of the last step, which gave a loss that is not finite."""
        self._after = self._before

    def save_checkpoint(self) -> None:
        """Save a checkpoint unless this iteration has one already.

        Its score is the mean loss since the previous checkpoint.
        """
        if self._checkpoints.last == self.iteration:
            return
        losses = self._series["loss"][self._checkpoints.last :]
        self._score = fmean(losses) if losses else None
        self._checkpoints.save(
            self.iteration,
            self._parts,
            settings=self._settings,
            metrics={
                **{name: np.asarray(values) for name, values in self._series.items()},
                **({"validations": self._validations} if self._validations else {}),
            },
            score=self._score,
        )

    def better(self) -> str | None:
        """Say which checkpoint has better weights than the last one; None if none has."""
        best, least = self._checkpoints.best, self._checkpoints.best_score
        if best is None or least is None or self._score is None or self._score <= least:
            return None
        return (
            f"The last weights are not the best: their score, the mean loss of the steps before "
            f"them, is {self._score:.4f}; it is {least:.4f} in {os.fspath(best)}"
        )

    def save_outcome(self) -> None:
        """Write the weights, and after at least one step the plot."""
        agrad.save(self.path / "weights.safetensors", self._after)
        if self.iteration:
            named = {**self._settings, "data": Path(self._settings["data"]).name}
            title = "{data}, {model} {activation} {depth}x{width}".format(**named)
            series = (self._series[name] for name in ("loss", "rate", "fraction"))
            save_figure(run_figure(title, *series), self.path / "loss.png")


def _entry(iteration: int, values: Iterable[float | None]) -> dict[str, Any]:
    """Return a line of the metrics; a fraction that was not measured is null."""
    known = (None if value is None or math.isnan(value) else value for value in values)
    return {"iteration": iteration, **dict(zip(SERIES, known))}


class JSONLines:
    """A file of JSON lines that only ever holds whole lines, even if the disk is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append an entry.

        Raises:
            OSError: The entry cannot be written; the error names the file, which is unchanged.
        """
        end = self._file.seek(0, os.SEEK_END)
        rest = _line(entry)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):  # a device or a pipe cannot be truncated
                self._file.truncate(end)
            raise OSError(error.errno, error.strerror, os.fspath(self._path)) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(entry) + "\n").encode()
