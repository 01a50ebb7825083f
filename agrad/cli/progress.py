"""Live progress: a bar in a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from agrad.train import Step

__all__ = ["StepProgress", "step_progress"]

_SECONDS_BETWEEN_LINES = 5.0
_SMOOTHING = 0.1


class StepProgress:
    """Shows the steps of one training run as they are made.

    The loss shown is an exponential average; the rate is that of all steps so far.
    """

    def __init__(self, console: Console, bar: Progress | None, label: str, total: int) -> None:
        self._console = console
        self._bar = bar
        self._label = label
        self._total = total
        self._task = bar.add_task(label, total=total, status="") if bar else None
        self._loss: float | None = None
        self._seconds = 0.0
        self._examples = 0
        self._last_line = monotonic()

    def __call__(self, step: Step) -> None:
        """Show that `step` has been made."""
        known = step.loss if self._loss is None else self._loss
        self._loss = known + _SMOOTHING * (step.loss - known)
        self._seconds += step.seconds
        self._examples += step.examples
        rate = self._examples / self._seconds if self._seconds else 0.0
        status = f"loss {self._loss:7.4f}  {rate:8,.0f} examples/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step.iteration, status=status)
        elif (
            step.iteration == self._total or monotonic() - self._last_line > _SECONDS_BETWEEN_LINES
        ):
            self._last_line = monotonic()
            left = (self._total - step.iteration) * self._seconds / step.iteration
            self._console.print(
                f"{self._label}: iteration {step.iteration}/{self._total}  {status}"
                f"  {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )


@contextmanager
def step_progress(console: Console, label: str, total: int) -> Iterator[StepProgress]:
    """Show the progress of a training run of `total` steps inside the `with` block."""
    if not console.is_terminal:
        yield StepProgress(console, None, label, total)
        return
    columns = (
        TextColumn("{task.description:<42}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield StepProgress(console, bar, label, total)
