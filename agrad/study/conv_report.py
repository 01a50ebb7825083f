"""The report of the convolutional study."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from agrad.study import conv
from agrad.study.figures import STYLES, loss_figure
from agrad.study.report import Rows, introduction, picture, spread, table, write_page
from agrad.study.runs import Run, at, load_whole_seeds, median_curve

__all__ = ["comparison_row", "conv_figure", "count_rows", "write_conv_report"]


def write_conv_report(results: str | os.PathLike[str]) -> list[Path]:
    """Write `report.html` and `losses.png` next to the results file and return their paths.

    Seeds with missing runs are left out, and the report says so.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The results file is incomplete, or has no seed with all its runs.
    """
    runs, left_out = load_whole_seeds(results, conv.experiments)
    study, iterations = runs[0].study, runs[0].iterations
    data = study.removeprefix("conv-")
    seeds = len({run.seed for run in runs})
    target = conv.TARGETS[data]
    figure = conv_figure(runs)
    parts = [
        introduction(
            f"agrad study conv --data {data} --seeds {seeds} --iterations {iterations}",
            runs,
            left_out,
        ),
        picture(
            figure,
            "Each method at its best learning rate, the one with the fewest iterations to a mean "
            f"training loss of {target.loss:g} over {target.window} iterations in a row. A run "
            "ends at this loss, and a curve ends when the first of its runs does.",
        ),
        table(
            "Gain: the median number of iterations to that loss of the other method, divided by "
            "that of the method; 0 if the method does not reach it. Range: the same for single "
            "seeds.",
            ["method", "learning rate", "against", "learning rate", "gain", "range"],
            [comparison_row(runs)],
        ),
        table(
            f"All runs. A run that has not reached the loss gives up after {iterations} "
            "iterations.",
            [
                *("method", "learning rate", "iterations", "range", "arrived"),
                *("test accuracy", "ms per iteration", "optimizer bytes"),
            ],
            count_rows(runs),
        ),
    ]
    title = f"{study}, {runs[0].model}: iterations to the same training loss"
    return write_page(results, title, parts, figure)


def conv_figure(runs: Sequence[Run]) -> Any:
    """Return a figure of the median training loss of each method at its best rate."""
    curves = {
        method: median_curve(runs, method, conv.best_rate(runs, method)) for method in conv.METHODS
    }
    return loss_figure({f"{runs[0].study}, {runs[0].model}": curves})


def comparison_row(runs: Sequence[Run]) -> list[str]:
    """Return a row with both methods, their rates, the gain and its range."""
    gain, gains = conv.compare(runs)
    sides = [
        cell
        for method in (conv.COMPARISON.method, conv.COMPARISON.baseline)
        for cell in (STYLES[method].label, f"{conv.best_rate(runs, method):g}, its best")
    ]
    return [*sides, f"{gain:.2f}", spread(gains, ".2f")]


def count_rows(runs: Sequence[Run]) -> Rows:
    """Return a row for each method and rate: iterations to the target, accuracy and costs."""
    rows = []
    for method in conv.METHODS:
        for lr in sorted({run.lr for run in runs if run.method == method}, reverse=True):
            group = at(runs, method, lr)
            counts = [conv.iterations_to_target(run) for run in group]
            rows.append(
                [
                    STYLES[method].label,
                    f"{lr:g}",
                    f"{median(counts):g}",
                    spread(counts, "g"),
                    f"{sum(map(math.isfinite, counts))} of {len(counts)}",
                    f"{median(run.test_accuracy[-1] for run in group):.1%}",
                    f"{1000 * median(run.seconds_per_iteration for run in group):.1f}",
                    f"{group[0].optimizer_state_bytes:,}",
                ]
            )
    return rows
