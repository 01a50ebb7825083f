"""The report of the suite: tables, bars and curves, made from the results file alone.

Losses of a task, method and rate are medians over the seeds. A method with a grid is shown at its
best rate, over the seeds that all its rates have. Losses below 1 % of the initial one count as
equal.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from agrad.serialization import atomic_write
from agrad.study.figures import Style, save_figure

from .cells import WINDOWS, Cell, Row, key_of, load
from .methods import AUTO, METHODS, START, STARTS
from .tasks import Task

__all__ = ["Bar", "Line", "bars", "lines", "page", "ranks", "write_report"]

NO_DECAY = f"{AUTO}, no decay"
PEERS = [name for name, method in METHODS.items() if method.rates == (None,)]
GRIDS = [name for name, method in METHODS.items() if len(method.rates) > 1]
EQUAL = 0.01
# The allowed mean length of steps, relative to the median RMS of the weights.
BOUND = 0.1
ROUNDING = 1e-3  # of a quotient of results, which have four digits

Measure = Callable[[Row], float]


def final(row: Row) -> float:
    """Return the final training loss, infinite after a failure."""
    return _number(row["final"])


def validation(row: Row) -> float:
    """Return the validation loss at the end, infinite after a failure."""
    return math.inf if row["failed"] else _number(row["validation_loss"][-1])


def _number(value: float | None) -> float:
    return math.inf if value is None else value


@dataclass(frozen=True)
class Best:
    """A method's best rate, its loss, and the seeds on which it was chosen."""

    rate: float | None
    loss: float
    seeds: frozenset[int]


@dataclass(frozen=True)
class Line:
    """A line of the tables: a task, a number of steps, and the rows of its runs."""

    task: Task
    steps: int
    rows: list[Row]

    @property
    def equal(self) -> float:
        """The loss below which losses count as equal."""
        return EQUAL * median(row["initial"] for row in self.rows)

    def of(self, method: str, rate: float | None) -> list[Row]:
        """Return the rows of a method at a rate."""
        return [row for row in self.rows if (row["method"], row["rate"]) == (method, rate)]

    def best(self, method: str, measure: Measure = final) -> Best | None:
        """Return the best rate of a method, or None if no seed has all of its rates."""
        return next(iter(self.bests([method], measure)), None)

    def bests(self, methods: Sequence[str], measure: Measure = final) -> list[Best]:
        """Return the best rate of each method, on the seeds that have all rates of all methods.

        Return an empty list if there is no such seed. `measure` returns the loss of a row.
        """
        runs = {
            (method, rate): {row["seed"]: row for row in self.of(method, rate)}
            for method in methods
            for rate in METHODS[method].rates
        }
        seeds = frozenset.intersection(*map(frozenset, runs.values()))
        if not seeds:
            return []
        found = []
        for method in methods:
            losses = {
                rate: median(measure(runs[method, rate][seed]) for seed in seeds)
                for rate in METHODS[method].rates
            }
            rate = min(losses, key=losses.__getitem__)
            found.append(Best(rate, losses[rate], seeds))
        return found

    def over(self, loss: float, other: float) -> float:
        """Return the ratio of two losses, 1 if both count as equal or are infinite."""
        loss, other = max(loss, self.equal), max(other, self.equal)
        return 1.0 if loss == other else loss / other

    @property
    def judged(self) -> Measure:
        """The loss that counts: training, or validation where noise was added to the targets."""
        return validation if self.task.noisy else final

    def ratio(self, measure: Measure) -> float | None:
        """Return the automatic rate's loss over that of Adam at its best, on the same seeds."""
        bests = self.bests([AUTO, "Adam"], measure)
        return self.over(*(best.loss for best in bests)) if bests else None

    def seconds(self, method: str, rate: float | None) -> float:
        """Return the median seconds of a method's runs at a rate."""
        return median(row["seconds"] for row in self.of(method, rate))

    def unlearned(self, row: Row) -> float:
        """Return a run's final loss over the lowest median of as many consecutive steps."""
        return math.inf if row["failed"] else self.over(final(row), _number(row["lowest"]))


def lines(cells: Iterable[Cell], rows: Iterable[Row]) -> list[Line]:
    """Return a line for each task and number of steps that has rows."""
    by_key = {key_of(row): row for row in rows}
    places = sorted({(cell.task.name, cell.steps): cell.task for cell in cells}.items())
    order = {cell.task.name: i for i, cell in reversed(list(enumerate(cells)))}
    found = []
    for (name, steps), task in sorted(places, key=lambda item: (order[item[0][0]], item[0][1])):
        own = [
            by_key[cell.key]
            for cell in cells
            if (cell.task.name, cell.steps) == (name, steps) and cell.key in by_key
        ]
        if own:
            found.append(Line(task, steps, own))
    return found


def ranks(found: Sequence[Line], names: Sequence[str]) -> dict[str, list[float]]:
    """Return each method's ranks on the lines that have all of them, on the same seeds.

    Ranks are by the loss that counts; equal losses share a rank.
    """
    ranked: dict[str, list[float]] = {name: [] for name in names}
    for line in found:
        bests = line.bests(names, line.judged)
        if not bests:
            continue
        losses = [max(best.loss, line.equal) for best in bests]
        for name, loss in zip(names, losses):
            below, same = sum(other < loss for other in losses), losses.count(loss)
            ranked[name].append(below + (same + 1) / 2)
    return ranked


# -- bars ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A condition that the automatic rate must meet, and the finding."""

    text: str
    found: float | None
    holds: bool
    cases: int

    @property
    def outcome(self) -> str:
        """Whether the condition holds so far, in a word."""
        return "not run" if self.found is None else "holds" if self.holds else "fails"


def at_most(
    text: str,
    limit: float,
    values: Sequence[float],
    of: Callable[..., float],
    rounding: float = 0.0,
) -> Bar:
    """Return a bar for a statistic of values, such as their maximum."""
    found = of(values) if values else None
    holds = found is not None and found <= limit * (1 + rounding)
    return Bar(f"{text}: at most {limit:g}", found, holds, len(values))


def bars(found: Sequence[Line]) -> list[Bar]:
    """Return the bars for the automatic rate, computed from the runs so far."""
    runs = [(line, row) for line in found for row in line.rows if row["method"] == AUTO]
    constant = [(line, row) for line in found for row in line.rows if row["method"] == NO_DECAY]
    both = [row for _, row in runs + constant]
    ranges = [row for row in both if row["rate_range"] is not None]
    noisy = [line for line in found if line.task.noisy]
    ratios = _present(line.ratio(line.judged) for line in found)
    unequal = [ratio for ratio in ratios if ratio != 1]
    of_noise = _present(line.ratio(final) for line in noisy)
    result = [
        at_most("final over lowest loss, worst run", 1.5, [x.unlearned(y) for x, y in runs], max),
        at_most("the same without decay", 3, [x.unlearned(y) for x, y in constant], max),
        at_most(
            "start/10 over the least rate, worst run",
            1,
            [row["rate"] / 10 / max(row["rate_range"][0], 1e-300) for row in ranges],
            max,
            ROUNDING,
        ),
        at_most(
            "length of a step over that of a typical weight, worst 100 steps of any run",
            BOUND,
            [row["largest_share"] for row in ranges],
            max,
            ROUNDING,
        ),
        at_most(
            "runs whose loss became NaN or infinite", 0, [bool(r["failed"]) for r in both], sum
        ),
        at_most(
            "share of steps that changed nothing, worst run",
            0.05,
            [row["zero_steps"] / row["steps"] for row in both],
            max,
        ),
        at_most("loss over Adam's at its best of seven, median", 0.95, ratios, median),
        at_most("the same, without the lines that count as equal", 0.95, unequal, median),
        at_most("the same, worst task", 1.3, ratios, max),
        at_most("on training alone, where targets are noisy, median", 0.95, of_noise, median),
        at_most("the same, worst task", 1.3, of_noise, max),
    ]
    ranked = ranks(found, [AUTO, *PEERS])
    for name in PEERS:
        cases = len(ranked[name])
        gap = median(ranked[AUTO]) - median(ranked[name]) if cases else None
        text = f"median rank minus that of {name}: below 0"
        result.append(Bar(text, gap, gap is not None and gap < 0, cases))
    return result


def _present(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


# -- tables ----------------------------------------------------------------------------------------

Table = list[list[str]]


def page(cells: Sequence[Cell], rows: Sequence[Row], machines: Sequence[Row]) -> str:
    """Return the report as Markdown."""
    found = lines(cells, rows)
    known = {key_of(row) for row in rows}
    missing = [cell for cell in cells if cell.key not in known]
    failed = sum(bool(row["failed"]) for line in found for row in line.rows)
    chosen = [best.rate for best in _present(line.best("Adam") for line in found)]
    at_edge = sum(rate in (METHODS["Adam"].rates[0], METHODS["Adam"].rates[-1]) for rate in chosen)
    chapters: dict[str, Table] = {
        "What must hold of the automatic rate": bar_table(bars(found)),
        "Final training losses, with the best rate of a grid": loss_table(found, final),
        "Validation losses at the end, with the best rate of a grid by them": loss_table(
            found, validation
        ),
        "Median ranks by the loss that counts": rank_table(found),
        "The automatic rate, worst run of each task": safety_table(found),
        "The automatic rate from other starts: the loss that counts over Adam's": start_table(
            found
        ),
        "Seconds": seconds_table(found),
        "Cells that were not run": missing_table(missing),
    }
    parts = [
        "# One rate for every task",
        "Made by `python -m benchmarks.rates` and `python -m benchmarks.rates --report`. "
        f"Of {len(cells)} cells, {len(cells) - len(missing)} were run, {len(missing)} were not; in "
        f"{failed} the loss became NaN or infinite. Adam's best rate lies at an edge of its grid "
        f"on {at_edge} of {len(chosen)} lines. A final loss is the median of the "
        "last 5 % of the steps, and of the seeds. Tasks with noise added to their targets are "
        "marked by *: there the loss that counts is that of validation at the end, for a low "
        "training loss may be memory. Losses below 1 % of the initial one count as equal.",
        "\n".join(f"- {', '.join(f'{k} {v}' for k, v in each.items())}" for each in machines),
    ]
    for title, cells_of in chapters.items():
        if len(cells_of) > 1:
            parts += [f"## {title}", markdown(cells_of)]
    return "\n\n".join(parts) + "\n"


def markdown(rows: Table) -> str:
    lines_of = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines_of)


def bar_table(found: Sequence[Bar]) -> Table:
    head = ["bar", "found", "cases", "outcome"]
    return [head, *([bar.text, form(bar.found), str(bar.cases), bar.outcome] for bar in found)]


def loss_table(found: Sequence[Line], measure: Measure) -> Table:
    """Return each line's losses by method, with the rate in brackets if there is a choice."""
    head = ["task", "steps", "initial", AUTO, "over Adam", *GRIDS, *PEERS]
    table = [head]
    for line in found:
        row = [*place(line), form(median(row["initial"] for row in line.rows))]
        own = line.best(AUTO, measure)
        row += [form(own and own.loss), form(line.ratio(measure))]
        for name in (*GRIDS, *PEERS):
            best = line.best(name, measure)
            rate = f" ({best.rate:g})" if best is not None and best.rate is not None else ""
            row.append(form(best and best.loss) + rate)
        table.append(row)
    return table


def rank_table(found: Sequence[Line]) -> Table:
    """Return median ranks: of the methods that run once, and of all with grids at their best."""
    table = [["method", "of the methods that run once", "of all, grids at their best"]]
    once, every = [AUTO, *PEERS], [AUTO, *GRIDS, *PEERS]
    few, many = ranks(found, once), ranks(found, every)
    for name in every:
        columns = (few.get(name, []), many[name])
        table.append([name, *(form(median(each)) if each else "" for each in columns)])
    return table


def safety_table(found: Sequence[Line]) -> Table:
    """Return the worst behaviour of the automatic rate, over the seeds and starts of a line.

    Adam's ratio of final to lowest loss shows how much of that ratio is noise.
    """
    head = ["task", "steps", "runs", "final over lowest", "without decay", "Adam's at its best"]
    table = [[*head, "failed", "zero steps", "least rate", "largest rate", "share of the weights"]]
    for line in found:
        runs = [row for row in line.rows if row["method"] == AUTO]
        constant = line.of(NO_DECAY, START)
        adam = line.best("Adam")
        plain = line.of("Adam", adam.rate) if adam is not None else []
        ranges = [row["rate_range"] for row in runs if row["rate_range"] is not None]
        if not runs:
            continue
        table.append(
            [
                *place(line),
                str(len(runs)),
                form(max(map(line.unlearned, runs))),
                form(max(map(line.unlearned, constant), default=None)),
                form(max(map(line.unlearned, plain), default=None)),
                str(sum(bool(row["failed"]) for row in runs)),
                f"{max(row['zero_steps'] / row['steps'] for row in runs):.1%}",
                form(min((low for low, _ in ranges), default=None)),
                form(max((high for _, high in ranges), default=None)),
                form(max(_present(row["largest_share"] for row in runs), default=None)),
            ]
        )
    return table


def start_table(found: Sequence[Line]) -> Table:
    starts = sorted((START, *STARTS))
    table = [["task", "steps", *(f"from {start:g}" for start in starts)]]
    for line in found:
        adam = line.best("Adam", line.judged)
        if adam is None or not line.task.starts:
            continue
        losses = [[line.judged(row) for row in line.of(AUTO, start)] for start in starts]
        ratios = [form(line.over(median(each), adam.loss)) if each else "" for each in losses]
        table.append([*place(line), *ratios])
    return table


def seconds_table(found: Sequence[Line]) -> Table:
    """Return the seconds of runs, and to Adam's best final loss, with and without the search."""
    head = ["task", "steps", f"{AUTO}, a run", "Adam, a run", "Adam, its grid"]
    table = [[*head, f"{AUTO} to Adam's best loss", "over Adam's run", "over Adam's grid"]]
    for line in found:
        bests = line.bests(["Adam", AUTO])
        if not bests:
            continue
        adam = bests[0]
        grid = sum(line.seconds("Adam", rate) for rate in METHODS["Adam"].rates)
        run, once = line.seconds(AUTO, START), line.seconds("Adam", adam.rate)
        until = median(arrival(row, max(adam.loss, line.equal)) for row in line.of(AUTO, START))
        table.append(
            [
                *place(line),
                *map(form, (run, once, grid, until, until / once, until / grid)),
            ]
        )
    return table


def arrival(row: Row, loss: float) -> float:
    """Return the seconds until the median loss of a fortieth of the steps is at most `loss`."""
    windows = [_number(value) for value in row["windows"]]
    reached = [i for i, value in enumerate(windows, start=1) if value <= loss]
    return row["seconds"] * reached[0] / len(windows) if reached else math.inf


def missing_table(missing: Sequence[Cell]) -> Table:
    """Return the number of missing cells for each task and number of steps, by method."""
    table = [["task", "steps", "missing"]]

    def where(cell: Cell) -> tuple[str, int]:
        return cell.task.name, cell.steps

    for (name, steps), group in groupby(sorted(missing, key=where), key=where):
        counts: dict[str, int] = {}
        for cell in group:
            counts[cell.method] = counts.get(cell.method, 0) + 1
        table.append([name, str(steps), ", ".join(f"{k}: {v}" for k, v in counts.items())])
    return table


def place(line: Line) -> list[str]:
    return [f"{line.task.name}{'*' * line.task.noisy}", str(line.steps)]


def form(value: float | None) -> str:
    return "" if value is None else "∞" if value == math.inf else f"{value:.3g}"


# -- curves ----------------------------------------------------------------------------------------

# The colours of M. Okabe and K. Ito; dashed curves are those of methods at their best rates.
STYLES = {
    AUTO: Style("auto", "#009e73"),
    "Adam": Style("Adam, best of seven rates", "#0072b2", "--"),
    "RMSprop": Style("RMSprop, best of seven rates", "#7f7f7f", "--"),
    "Prodigy": Style("Prodigy", "#d55e00"),
    "D-Adaptation": Style("D-Adaptation", "#e69f00"),
    "DoG": Style("DoG", "#cc79a7"),
    "Schedule-Free": Style("Schedule-Free", "#56b4e9"),
}
COLUMNS = 5


def draw(found: Sequence[Line]) -> Any:
    """Return a figure of the losses over the steps, a panel for each line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    count = math.ceil(len(found) / COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 2.5 * count + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(count, COLUMNS, squeeze=False).ravel()
    for axis in panels[len(found) :]:
        axis.set_axis_off()
    handles: dict[str, Any] = {}
    for axis, line in zip(panels, found):
        for name, style in STYLES.items():
            best = line.best(name)
            if best is None:
                continue
            runs = line.of(name, best.rate)
            curves = [[_number(value) for value in row["windows"]] for row in runs]
            curve = np.maximum(np.median(curves, axis=0), 1e-3 * line.equal)
            steps = np.linspace(0, line.steps, len(curve) + 1)[1:]
            (handles[style.label],) = axis.plot(
                steps, curve, style.dashes, color=style.colour, linewidth=1.5
            )
        axis.axhline(line.equal, color="black", linewidth=0.5)
        axis.set_title(line.task.name, fontsize=8)
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=7)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))
    figure.suptitle(
        f"Training loss over the steps, medians of {WINDOWS} equal parts and of the seeds; below "
        "the thin line losses count as equal",
        fontsize=10,
    )
    return figure


def write_report(results: Path, cells: Sequence[Cell]) -> list[Path]:
    """Write `report.md` and `losses.png` next to the results file and return their paths.

    Raises:
        SystemExit: The file has no rows of these cells.
    """
    rows, machines = load(results)
    found = lines(cells, rows)
    if not found:
        raise SystemExit(f"{results} has no rows of these cells; run python -m benchmarks.rates")
    paths = [results.with_name("report.md"), results.with_name("losses.png")]
    with atomic_write(paths[0]) as file:
        file.write(page(cells, rows, machines).encode())
    save_figure(draw(found), paths[1])
    return paths
