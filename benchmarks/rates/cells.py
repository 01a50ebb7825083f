"""The cells of the suite: single runs, their order, and the file that holds their results.

A results file has one JSON object per line. A line with a `machine` describes the machine that made
the following lines; any other line is the result of a cell. Each line is written as soon as its
cell ends, so that a kill loses only the cells in progress. Numbers have four digits.
"""

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import numpy as np

import agrad
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.extras import optional_import
from agrad.study.runs import machine
from agrad.train import evaluate

from .methods import ABLATIONS, AUTO, METHODS, STARTS, decay
from .tasks import Data, Task

__all__ = ["Cell", "Row", "estimate", "key_of", "load", "plan", "run_cells"]

Row = dict[str, Any]

WINDOWS = 40  # of 2.5 % of the steps each
TAIL = 0.05  # the share of the steps whose median loss is the final one
EVALUATIONS = 10
EXAMPLES = 1000  # of the initial loss
POINTS = 100  # of the automatic rate's trace
PACKAGES = {
    "torch": "torch",
    "dadaptation": "dadaptation",
    "dog": "dog-optimizer",
    "prodigyopt": "prodigyopt",
    "schedulefree": "schedulefree",
}


@dataclass(frozen=True)
class Cell:
    """A run of the suite; `rate` is None for a package's default."""

    task: Task
    steps: int
    method: str
    rate: float | None
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        """The values that identify the cell in a results file."""
        return (self.task.name, self.steps, self.method, self.rate, self.seed)

    def run(self) -> Row:
        """Train, and return the results; a loss that is not finite is one of them.

        Returns:
            The key's parts, and `failed`, the error that ended the run or None; `initial`, the loss
            before the first step; `final`, the median loss of the last 5 % of the steps, and
            `lowest`, the lowest median of as many consecutive ones; `windows`, the medians of 40
            equal parts; `validation_loss` and `validation_accuracy` after each tenth of the steps;
            `seconds_per_step`, a median, and `seconds`, the sum, of the steps' CPU time, which for
            one thread is the time on an idle machine. For the automatic rate also what `Watch`
            sees. A value that is not finite is None.
        """
        method, data = (METHODS | ABLATIONS)[self.method], self.task.data()
        agrad.seed(self.seed)
        model = self.task.network(data)
        # Random examples, because some sets are sorted by their labels.
        some = np.random.default_rng(0).permutation(len(data.train[1]))[:EXAMPLES]
        initial = self._evaluated(model, [part[some] for part in data.train]).loss
        model.train()
        run = method.start(model, self.task.loss_function, self.rate)
        watch = Watch(run.optimizer, model) if self.method.startswith(AUTO) else None
        batches = Batches(
            *data.train, batch_size=self.task.batch_size, seed=self.seed, drop_last=True
        )
        losses, used, seconds, validation = [], [], [], []
        failed = None
        for step, batch in enumerate(islice(batches.forever(), self.steps), start=1):
            if method.averages and step > self.steps - _tail(self.steps):
                with run.evaluating():
                    used.append(run.loss(*batch))
            factor = decay(step, self.steps) if method.decays else 1.0
            start = time.process_time()
            try:
                losses.append(run.step(*batch, factor))
            except NonFiniteError as error:
                failed = f"{error} (step {step})"
                break
            seconds.append(time.process_time() - start)
            if watch is not None:
                watch.see()
            if step * EVALUATIONS // self.steps > (step - 1) * EVALUATIONS // self.steps:
                with run.evaluating():
                    validation.append(self._evaluated(model, data.validation))
        lost = [math.inf] * (self.steps - len(losses))
        row = {
            **dict(zip(("task", "steps", "method", "rate", "seed"), self.key)),
            "failed": failed,
            "initial": initial,
            **summary(losses + lost, () if failed else used),
            "validation_loss": [each.loss for each in validation],
            "validation_accuracy": [each.accuracy for each in validation],
            "seconds_per_step": median(seconds) if seconds else None,
            "seconds": sum(seconds),
            **(watch.seen() if watch is not None else {}),
        }
        return {name: _rounded(value) for name, value in row.items()}

    def _evaluated(self, model: Any, examples: Sequence[Any]) -> Any:
        return evaluate(model, *examples, loss_function=self.task.loss_function)


class Watch:
    """Watches the automatic rate from outside, step by step.

    It counts the steps that changed no parameter at all. It divides the length of each step, the
    RMS over all coordinates, by that of a typical weight, the median over the weights.
    """

    def __init__(self, optimizer: Any, model: Any) -> None:
        self._optimizer = optimizer
        self._params = list(model.parameters())
        self._before = [param.numpy().copy() for param in self._params]
        self._rates: list[float] = []
        self._fractions: list[float] = []
        self._shares: list[float] = []
        self._zeros = 0

    def see(self) -> None:
        """Look at the optimizer and the parameters after a step."""
        now = [param.numpy().copy() for param in self._params]
        squares = [np.sum(np.square(a - b)) for a, b in zip(now, self._before)]
        moved = math.sqrt(sum(squares) / sum(array.size for array in now))
        self._zeros += all(map(np.array_equal, now, self._before))
        self._before = now
        fraction = self._optimizer.fraction
        self._rates.append(self._optimizer.lr)
        self._fractions.append(math.nan if fraction is None else fraction)
        sizes = [math.sqrt(np.mean(np.square(array))) for array in now if array.ndim > 1]
        self._shares.append(moved / median(sizes))

    def seen(self) -> Row:
        """Return the rates' range, the longest steps, zero steps and traces."""
        windows = [self._shares[i : i + 100] for i in range(0, len(self._shares), 100)]
        chosen = np.linspace(0, len(self._rates) - 1, min(POINTS, len(self._rates))).astype(int)
        return {
            "rate_range": [min(self._rates), max(self._rates)] if self._rates else None,
            "largest_share": max(
                (math.sqrt(np.mean(np.square(window))) for window in windows), default=None
            ),
            "zero_steps": self._zeros,
            "rates": [self._rates[i] for i in chosen],
            "fractions": [self._fractions[i] for i in chosen],
        }


def summary(losses: Sequence[float], used: Sequence[float] = ()) -> Row:
    """Return the final loss, the lowest one and the windows of a run.

    Args:
        losses: Of each step, on its batch.
        used: The losses on the batches of the last 5 % of the steps with the weights to use, if
            these differ from the weights to train.
    """
    values, size = np.array(losses), _tail(len(losses))
    values[len(values) - len(used) :] = used
    tails = np.lib.stride_tricks.sliding_window_view(values, size)
    return {
        "final": float(np.median(tails[-1])),
        "lowest": float(np.median(tails, axis=1).min()),
        "windows": [
            float(np.median(part)) for part in np.array_split(values, min(WINDOWS, len(values)))
        ],
    }


def _tail(steps: int) -> int:
    return max(1, round(TAIL * steps))


def _rounded(value: Any) -> Any:
    """Return the value with its floats rounded to four digits, None where they are not finite."""
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


# -- the plan --------------------------------------------------------------------------------------


def plan(tasks: Iterable[Task], methods: Iterable[str], seeds: Iterable[int]) -> list[Cell]:
    """Return all cells in the order of running.

    The automatic rate and Adam's grid with the first seed come first. The other methods and initial
    rates with that seed follow, and then the other seeds, each in the same order.
    """
    tasks, methods, seeds = list(tasks), list(methods), list(seeds)
    first = [name for name in methods if name in (AUTO, "Adam")]
    rounds = first, [name for name in methods if name not in first]
    chosen = [
        Cell(task, steps, name, rate, seed)
        for seed in seeds
        for names in rounds
        for task in tasks
        for steps in task.horizons
        for name in names
        for rate in METHODS[name].rates
    ]
    others = [
        Cell(task, steps, AUTO, start, seed)
        for seed in seeds
        for task in tasks
        for steps in task.horizons
        for start in STARTS
        if task.starts and AUTO in methods
    ]
    return sorted(chosen + others, key=lambda cell: seeds.index(cell.seed))


def estimate(cells: Sequence[Cell]) -> dict[tuple[str, str], float]:
    """Return the seconds of the cells by task and method, from a few steps of each."""
    found: dict[tuple[str, str], float] = {}
    each: dict[tuple[str, str], tuple[float, float]] = {}
    for cell in cells:
        where = cell.task.name, cell.method
        if where not in each:
            each[where] = _costs(cell)
        step, evaluation = each[where]
        seconds = cell.steps * step + (EVALUATIONS + 1) * evaluation
        found[where] = found.get(where, 0.0) + seconds
    return found


def _costs(cell: Cell) -> tuple[float, float]:
    """Return the seconds of a step and of an evaluation."""
    data: Data = cell.task.data()
    model = cell.task.network(data)
    run = METHODS[cell.method].start(model, cell.task.loss_function, cell.rate)
    batches = Batches(*data.train, batch_size=cell.task.batch_size, seed=0, drop_last=True)
    seconds = []
    for batch in islice(batches.forever(), 10):
        start = time.process_time()
        run.step(*batch, 1.0)
        seconds.append(time.process_time() - start)
    start = time.process_time()
    evaluate(model, *data.validation, loss_function=cell.task.loss_function)
    return median(seconds), time.process_time() - start


# -- the results file ------------------------------------------------------------------------------


def load(path: Path) -> tuple[list[Row], list[Row]]:
    """Return the rows of a results file, and its machines; without a file there are none.

    Raises:
        ValueError: A line other than a last incomplete one is not JSON.
    """
    if not path.exists():
        return [], []
    entries = [json.loads(line) for line in _complete(path).decode().splitlines()]
    machines = [entry["machine"] for entry in entries if "machine" in entry]
    return [entry for entry in entries if "machine" not in entry], machines


def key_of(row: Row) -> tuple[Any, ...]:
    """Return the key of the row's cell."""
    return tuple(row[name] for name in ("task", "steps", "method", "rate", "seed"))


def run_cells(cells: Sequence[Cell], path: Path, processes: int = 1) -> Iterator[Row]:
    """Run the cells that the file lacks; add each row to the file and yield it.

    Each process has one thread, and ends with the process that started it.
    """
    rows, machines = load(path)
    known = {key_of(row) for row in rows}
    todo = [cell for cell in cells if cell.key not in known]
    if not todo:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    complete = _complete(path) if path.exists() else b""
    here = json.loads(json.dumps(_machine()))
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(len(complete))
        file.seek(0, os.SEEK_END)
        if machines[-1:] != [here]:
            _add(file, {"machine": here})
        others = active_children()
        pool = ProcessPoolExecutor(min(processes, len(todo)), get_context("spawn"), _prepare)
        try:
            for future in as_completed([pool.submit(cell.run) for cell in todo]):
                row = future.result()
                _add(file, row)
                yield row
        finally:
            for worker in set(active_children()) - set(others):
                worker.terminate()
            pool.shutdown(cancel_futures=True)


def _machine() -> Row:
    """Return the facts about the machine, for one thread, and the versions of installed peers."""
    packages = {name: version(name) for module, name in PACKAGES.items() if find_spec(module)}
    return machine() | {"threads": 1} | packages


def _add(file: Any, entry: Row) -> None:
    file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
    file.flush()


def _complete(path: Path) -> bytes:
    """Return the file's complete lines; a kill may have left a partial one at the end."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _prepare() -> None:
    """Compute in one thread, and end when the process that started this one ends."""
    optional_import("threadpoolctl").threadpool_limits(1)
    Thread(target=_end_with, args=[parent_process()], daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
