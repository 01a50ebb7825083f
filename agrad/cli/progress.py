"""Live progress: a bar in a terminal, plain lines otherwise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from agrad.cli.interrupt import lost_output_interrupts
from agrad.cli.output import say
from agrad.train import Step

__all__ = ["duration", "step_progress"]

_SECONDS_BETWEEN_LINES = 5.0
_SMOOTHING = 0.1

Show = Callable[[Step], None]


class _Status:
    """The status text of a training run: its loss, its speed and the time left.

    If the optimizer measures its steps, the text also has the rate, the share of the update that
    the last step used, and how often steps were cut. The loss is an exponential average. The first
    step may compile, so the speed leaves it out.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._loss: float | None = None
        self._cuts = 0
        self._steps = 0
        self._examples = 0
        self._seconds = 0.0

    def after(self, step: Step) -> str:
        self._cuts += step.cuts
        if self._loss is None:
            self._loss = step.loss
            return f"loss {self._loss:.4f}"
        self._loss += _SMOOTHING * (step.loss - self._loss)
        self._steps += 1
        self._examples += step.examples
        self._seconds += step.seconds
        left = (self._total - step.iteration) * self._seconds / self._steps
        words = f"{duration(left)} left" if left else "done"
        shown = [f"loss {self._loss:.4f}"]
        if step.fraction is not None:
            cuts = f", {self._cuts} cuts" if self._cuts else ""
            shown.append(f"rate {step.rate:.1e}, {step.fraction:.0%} used{cuts}")
        shown.append(f"{self._examples / self._seconds:,.0f} examples/s")
        return "  ".join([*shown, words])


def duration(seconds: float) -> str:
    """Return a time as text, in units that suit its length.

    Example:
        >>> from agrad.cli.progress import duration
        >>> duration(9.4), duration(75), duration(4000)
        ('9 s', '1 min 15 s', '1 h 6 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def step_progress(console: Console, label: str, total: int) -> Iterator[Show]:
    """Yield a function that shows the progress after each of the `total` steps of a run.

    Raises:
        Interrupted: Nobody reads the output any more.
    """
    status = _Status(total)
    if not console.is_terminal:
        yield _plain_lines(console, label, total, status)
        return
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[status]}", table_column=Column(no_wrap=True)),
    )
    with lost_output_interrupts(), Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task(label, total=total, status="")
        yield lambda step: bar.update(task, completed=step.iteration, status=status.after(step))


def _plain_lines(console: Console, label: str, total: int, status: _Status) -> Show:
    last_line = monotonic()

    def show(step: Step) -> None:
        nonlocal last_line
        words = status.after(step)
        now = monotonic()
        if step.iteration == total or now - last_line > _SECONDS_BETWEEN_LINES:
            last_line = now
            say(console, f"{label}: iteration {step.iteration}/{total}  {words}")

    return show
