"""The tables of the reports: rows of texts, made from the results of a claim."""

import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

from agrad.study.claims import Claim, design_of
from agrad.study.designs import Design, Designs, Judgements, Races, Trainings, failures, rate
from agrad.study.estimates import DIAGONALS, ESTIMATES, Estimates
from agrad.study.figures import STYLES
from agrad.study.results import Results, Settings
from agrad.study.runs import Experiment
from agrad.study.statistics import Finding

__all__ = ["Table", "between", "description_of", "finding_table", "number", "tables_of"]


class Table(NamedTuple):
    """A table: its rows are as long as its head."""

    caption: str
    head: list[str]
    rows: list[list[str]]


def finding_table(caption: str, findings: Iterable[Finding]) -> Table:
    """Return a table with a row for each finding, without columns that would be empty."""
    head = ["finding", "median", "95 % interval", "claimed", "sign test"]
    head += ["failed", "missed", "outcome"]
    rows = [
        [
            finding.what,
            number(finding.median),
            between(finding.interval),
            _claimed(finding),
            f"p = {finding.p:.2g}" if finding.values else "",
            "" if finding.failed is None else "{} : {}".format(*finding.failed),
            "" if finding.missed is None else f"{finding.missed} of {len(finding.values)}",
            finding.outcome,
        ]
        for finding in findings
    ]
    kept = [i for i in range(len(head)) if not rows or any(row[i] for row in rows)]
    head, *rows = ([line[i] for i in kept] for line in (head, *rows))
    return Table(caption, head, rows)


def description_of(claim: Claim, settings: Settings) -> str:
    """Return in words what the study of a claim runs: networks, methods, rates and tuning seeds."""
    return _description(design_of(claim, settings))


def _description(design: Design) -> str:
    if isinstance(design, Designs):
        return " ".join(map(_description, design.parts))
    if isinstance(design, Judgements):
        networks = {replace(cell, scale=1.0) for cell in design.cells.values()}
        scales = _distinct(design.cells.values(), "scale")
        return f"{_networks(networks)}: estimates for {scales} times the update."
    if isinstance(design, Races):
        of = design.trainings
        at = f"at {_grid(of)}" if design.fixed is None else f"at a rate of {design.fixed:g}"
        return f"{_trained(of)}: interleaved races of {_names(of)}, {at}."
    assert isinstance(design, Trainings)
    scored = " Scored at every rate." if design.all_rates else ""
    return f"{_trained(design)}: {_names(design)}, at {_grid(design)}.{scored}"


def _grid(design: Trainings) -> str:
    low, high = rate(design.steps[0]), rate(design.steps[-1])
    count, seeds = len(design.steps), design.tuning_seeds
    return f"the best of {count} rates from {low:g} to {high:g} (tuning seeds: {seeds})"


def _names(design: Trainings) -> str:
    return ", ".join(f"`{method}`" for method in design.methods)


def _trained(design: Trainings) -> str:
    cells = design.cells.values()
    return f"{_networks(cells)}, in {_distinct(cells, 'iterations')} iterations"


def _networks(cells: Collection[Experiment] | Collection[Estimates]) -> str:
    kinds = dict.fromkeys(cell.network for cell in cells if isinstance(cell, Experiment))
    kind = "convolutional" if "conv" in kinds else "dense"
    depth, width, batch = (_distinct(cells, name) for name in ("depth", "width", "batch_size"))
    count = f"{len(cells)} networks" if len(cells) > 1 else "1 network"
    return f"{count}, {kind}, {depth} layers deep and {width} wide, batches of {batch}"


def _distinct(cells: Iterable[Experiment] | Iterable[Estimates], name: str) -> str:
    *others, last = (f"{value:g}" for value in sorted({getattr(cell, name) for cell in cells}))
    return f"{', '.join(others)} or {last}" if others else last


def tables_of(claim: Claim, results: Results) -> list[Table]:
    """Return the tables of what was measured, given results that hold all jobs of the claim."""
    return _tables(design_of(claim, results.settings), results)


def _tables(design: Design, results: Results) -> list[Table]:
    if isinstance(design, Designs):
        return [table for part in design.parts for table in _tables(part, results)]
    if isinstance(design, Judgements):
        return _estimates(design, results)
    if isinstance(design, Races):
        return [_races(design, results)]
    assert isinstance(design, Trainings)
    tables = [_trainings(design, results)]
    if design.all_rates:
        tables.append(_rates(design, results))
    if all(cell.evaluations for cell in design.cells.values()):
        tables.append(_tests(design, results))
    return tables


def _trainings(design: Trainings, results: Results) -> Table:
    head = ["network", "method", "best rate", "final loss", "quartiles", "failed"]
    rows = []
    for cell, method, runs in _scored(design, results):
        losses = sorted(run["curve"][-1] for run in runs)
        last = len(losses) - 1
        rows.append(
            [
                cell,
                STYLES[method].label,
                f"{design.best(results, cell, method):g}",
                number(median(losses)),
                between((losses[round(last / 4)], losses[round(3 * last / 4)])),
                f"{failures(runs)} of {len(runs)}",
            ]
        )
    return Table("Trainings at the best rate of each method.", head, rows)


def _rates(design: Trainings, results: Results) -> Table:
    """Return the median final loss at each rate of the grid, and how many runs failed."""
    head = ["network", "method", *(f"{rate(step):g}" for step in design.steps)]
    rows = []
    for cell in design.cells:
        for method in design.methods:
            texts = []
            for step in design.steps:
                runs = design.runs(results, cell, method, results.settings.seeds, rate(step))
                loss = number(median(run["curve"][-1] for run in runs))
                failed = failures(runs)
                texts.append(f"{loss} ({failed})" if failed else loss)
            rows.append([cell, STYLES[method].label, *texts])
    return Table("Final loss at each rate, medians (runs that failed).", head, rows)


def _tests(design: Trainings, results: Results) -> Table:
    """Return the medians of the test loss and accuracy at each evaluation, one an epoch."""
    rows = []
    for cell, method, runs in _scored(design, results):
        medians = [
            [median(values) for values in zip(*(run[name] for run in runs))]
            for name in ("test_loss", "test_accuracy")
        ]
        texts = [f"{number(loss)} ({100 * share:.1f} %)" for loss, share in zip(*medians)]
        rows.append([cell, STYLES[method].label, *texts])
    head = ["network", "method", *(f"epoch {i}" for i in range(1, len(rows[0]) - 1))]
    return Table("Test loss (accuracy) of each method at its best rate, medians.", head, rows)


def _scored(design: Trainings, results: Results) -> Iterable[tuple[str, str, list[dict[str, Any]]]]:
    """Yield the scored runs of each cell and method."""
    for cell in design.cells:
        for method in design.methods:
            yield cell, method, design.runs(results, cell, method, results.settings.seeds)


def _estimates(design: Judgements, results: Results) -> list[Table]:
    """Return the medians of what was measured of each estimate."""
    names = [*ESTIMATES, *DIAGONALS]
    measures = [
        ("vector", "Relative error of the vector, medians.", 1.0),
        ("change", "Relative error of the predicted change of the loss, medians.", 1.0),
    ]
    if any(cell.timed for cell in design.cells.values()):
        measures += [
            ("seconds", "Milliseconds, medians.", 1e3),
            ("peak_bytes", "Peak memory in MB, medians.", 1e-6),
        ]
    seeds = results.settings.seeds
    return [
        Table(
            caption,
            ["network and update", *names],
            [
                [
                    cell,
                    *(
                        number(unit * median(design.medians(results, cell, seeds, name, what)))
                        for name in names
                    ),
                ]
                for cell in design.cells
            ],
        )
        for what, caption, unit in measures
    ]


def _races(design: Races, results: Results) -> Table:
    head = ["network", "method", "rate", "final loss", "ms a step", "state, MB", "peak, MB"]
    rows = []
    for cell in design.trainings.cells:
        races = design.races(results, cell, results.settings.seeds)
        for method, lr in races[0].rates:
            runs = [results[race][method] for race in races]
            rows.append(
                [
                    cell,
                    STYLES[method].label,
                    f"{lr:g}",
                    number(median(run["curve"][-1] for run in runs)),
                    f"{1e3 * median(run['seconds'] for run in runs):.3g}",
                    f"{1e-6 * median(run['state_bytes'] for run in runs):.3g}",
                    f"{1e-6 * median(run['peak_bytes'] for run in runs):.3g}",
                ]
            )
    return Table("Interleaved races, medians.", head, rows)


def number(value: float) -> str:
    """Return a number to three digits, a dash for NaN."""
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.3g}"


def between(ends: tuple[float, float]) -> str:
    """Return both ends of a range."""
    return f"{number(ends[0])} to {number(ends[1])}"


def _claimed(finding: Finding) -> str:
    low, high = finding.claimed
    if math.isinf(high):
        strict = low == finding.direction[0]
        return f"{'above' if strict else 'at least'} {low:g}"
    return f"at most {high:g}" if low <= 0 else f"{low:g} to {high:g}"
