"""Live progress of `fit`: a line for each epoch, and in a terminal one that follows the steps."""

import sys
from time import monotonic

from agrad.train.loop import Step
from agrad.train.training import Training

__all__ = ["Progress"]

_SECONDS_BETWEEN_UPDATES = 0.1
_SMOOTHING = 0.1


class Progress:
    """Prints the progress of a training on standard output.

    Args:
        training: The training.
        length: The number of batches in an epoch; None if it is unknown.
    """

    def __init__(self, training: Training, length: int | None) -> None:
        self._training = training
        self._length = length
        self._loss: float | None = None
        self._shown = 0.0
        self._width = 0
        self._steps = 0

    def step(self, step: Step) -> None:
        """Show a step, if a terminal can replace the line and the last one is not too fresh."""
        before = step.loss if self._loss is None else self._loss
        self._loss = before + _SMOOTHING * (step.loss - before)
        self._steps += 1
        if sys.stdout.isatty() and monotonic() - self._shown > _SECONDS_BETWEEN_UPDATES:
            self._shown = monotonic()
            of = "" if self._length is None else f"/{self._length}"
            text = f"{self._epoch(self._training.epoch + 1)}  step {self._steps}{of}"
            self._print(f"{text}  loss {self._loss:.4g}", end="")

    def epoch(self) -> None:
        """Print the line of an epoch that has ended."""
        training = self._training
        self._steps = 0
        words = [self._epoch(training.epoch)]
        for name, values in training.history.items():
            unknown = values.ndim > 1 or values[-1] != values[-1]
            if name != "seconds" and not unknown:
                words.append(f"{name.replace('_', ' ')} {values[-1]:.4g}")
        words.append(f"{training.last('seconds'):.3g} s")
        if training.best.epoch == training.epoch:
            words.append("best")
        self._print("  ".join(words), end="\n")

    def _epoch(self, number: int) -> str:
        total = str(self._training.epochs)
        return f"epoch {number:{len(total)}}/{total}"

    def _print(self, text: str, end: str) -> None:
        """Print over the line of the last step."""
        start = "\r" if self._width else ""
        print(start + text.ljust(self._width), end=end, flush=True)
        self._width = 0 if end else len(text)
