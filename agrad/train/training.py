"""A training in progress: what it has measured, and its callbacks."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from agrad.nn import Module
from agrad.optim import Optimizer
from agrad.optim.state import require_count, require_dict
from agrad.train.best import BestWeights
from agrad.train.evaluation import Evaluation
from agrad.train.history import History, Series
from agrad.train.loop import Step

__all__ = ["Callback", "Training"]


class Callback:
    """What happens during a `fit`, by methods to override; these do nothing.

    A callback with the methods `state_dict` and `load_state_dict` takes part in checkpoints.

    Example:
        >>> from agrad.train import Callback
        >>> class StopBelow(Callback):
        ...     def __init__(self, loss):
        ...         self.loss = loss
        ...
        ...     def on_epoch(self, training):
        ...         if training.history["loss"][-1] < self.loss:
        ...             training.stop()
    """

    def on_step(self, training: "Training", step: Step) -> None:
        """Called after each step."""

    def on_epoch(self, training: "Training") -> None:
        """Called after each epoch and its validation, before the checkpoint."""


class Training:
    """A `fit` in progress, as callbacks see it.

    Attributes:
        model: The network.
        optimizer: Its optimizer.
        epochs: The number of epochs asked for.
        epoch: The number of completed epochs.
        iteration: The number of steps made.
        best: The best weights so far.
        stopped: Whether the training ends after the present epoch.
    """

    def __init__(self, model: Module, optimizer: Optimizer, epochs: int, best: BestWeights) -> None:
        self.model = model
        self.optimizer = optimizer
        self.epochs = epochs
        self.epoch = 0
        self.iteration = 0
        self.best = best
        self.stopped = False
        self._epochs = Series()
        self._steps = Series()
        self._first = 0  # the number of steps before the present epoch
        self._examples = Series()
        self._seconds = 0.0

    @property
    def history(self) -> History:
        """What the training has measured so far."""
        epochs, steps = self._epochs.state_dict(), self._steps.state_dict()
        return History(epochs, steps, self.best.epoch, self.stopped)

    def stop(self) -> None:
        """End the training after the present epoch."""
        self.stopped = True

    def add_step(self, step: Step) -> None:
        """Record a step."""
        self.iteration = step.iteration
        self._steps.add(loss=step.loss, rate=step.rate, fraction=step.fraction)
        self._examples.add(examples=step.examples)
        self._seconds += step.seconds

    def add_epoch(self, validation: Evaluation | None) -> None:
        """Record the end of an epoch, and its validation."""
        self.epoch += 1
        recent = {name: values[self._first :] for name, values in self._steps.values.items()}
        examples = self._examples.values["examples"][self._first :]
        measured = [x for x in recent["fraction"] if not math.isnan(x)]
        self._epochs.add(
            loss=float(np.average(recent["loss"], weights=examples)),
            rate=recent["rate"][-1],
            fraction=float(np.mean(measured)) if measured else math.nan,
            seconds=self._seconds,
        )
        if validation is not None:
            found = {"loss": validation.loss, "accuracy": validation.accuracy}
            if math.isnan(validation.accuracy):
                del found["accuracy"]
            found |= validation.metrics
            self._epochs.add(**{f"validation_{name}": value for name, value in found.items()})
        self._first, self._seconds = self.iteration, 0.0

    def last(self, name: str) -> float:
        """Return the last entry of the history's array of that name.

        Raises:
            ValueError: The history has no such array, or its entries are not numbers.
        """
        if name not in self._epochs.values:
            raise ValueError(
                f"fit: nothing measured {name!r}; the history has {sorted(self._epochs.values)}"
            )
        entry = np.asarray(self._epochs.values[name][-1])
        if entry.size != 1:
            raise ValueError(
                f"fit: {name!r} is an array of shape {entry.shape}, and a number alone can be "
                "monitored"
            )
        return float(entry.item())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the training has measured."""
        return {
            "epoch": self.epoch,
            "first": self._first,
            "seconds": self._seconds,
            "stopped": self.stopped,
            "epochs": self._epochs.state_dict(),
            "steps": self._steps.state_dict(),
            "examples": self._examples.state_dict(),
            "best": self.best.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises:
            ValueError: The state does not fit; nothing has changed.
        """
        known = self.state_dict().keys()
        if require_dict("fit", "the state", state).keys() != known:
            raise ValueError(f"fit.load_state_dict: expected {sorted(known)}, got {sorted(state)}")
        epoch = require_count("fit", "epoch", state["epoch"])
        first = require_count("fit", "first", state["first"])
        for name in ("epochs", "steps", "examples"):
            require_dict("fit", name, state[name])
        self.best.load_state_dict(state["best"])
        for name in ("epochs", "steps", "examples"):
            getattr(self, f"_{name}").load_state_dict(state[name])
        self.epoch, self._first = epoch, first
        self._seconds, self.stopped = state["seconds"], state["stopped"]
