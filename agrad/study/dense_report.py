"""The report of the dense study."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from agrad.study import dense
from agrad.study.figures import STYLES, loss_figure
from agrad.study.measures import WINDOW, final_loss
from agrad.study.report import Rows, by_model, introduction, picture, spread, table, write_page
from agrad.study.runs import Run, at, load_whole_seeds, median_curve

__all__ = [
    "automatic_rows",
    "comparison_rows",
    "dense_figure",
    "final_rows",
    "write_dense_report",
]


def write_dense_report(results: str | os.PathLike[str]) -> list[Path]:
    """Write `report.html` and `losses.png` next to the results file and return their paths.

    Seeds with missing runs are left out, and the report says so.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The results file is incomplete, or has no seed with all its runs.
    """
    runs, left_out = load_whole_seeds(results, dense.experiments)
    study, iterations = runs[0].study, runs[0].iterations
    data = study.removeprefix("dense-")
    ablations = any(run.method in dense.ABLATIONS for run in runs)
    seeds = len({run.seed for run in runs})
    command = (
        f"agrad study dense --data {data} --seeds {seeds} "
        f"--iterations {iterations}{' --ablations' if ablations else ''}"
    )
    figure = dense_figure(runs)
    parts = [
        introduction(command, runs, left_out),
        picture(
            figure,
            "Each method at its best learning rate, the one with the lowest final loss. The final "
            f"loss is the mean training loss of the last {WINDOW} iterations.",
        ),
    ]
    for model, group in by_model(runs).items():
        parts += _chapter(model, group, iterations, ablations)
    return write_page(results, f"{study}: iterations to the same training loss", parts, figure)


def dense_figure(runs: Sequence[Run]) -> Any:
    """Return a figure of each method's median training loss at its best rate, a panel per model."""
    panels = {}
    for model, group in by_model(runs).items():
        panels[model] = {
            method: median_curve(group, method, dense.best_rate(group, method))
            for method in (*dense.METHODS, dense.AUTOMATIC)
        }
    return loss_figure(panels)


# -- rows of the tables, from the runs of one model ------------------------------------------------


def comparison_rows(runs: Sequence[Run]) -> Rows:
    """Return a row for each comparison: both methods, their rates, the gain and its range."""
    rows = []
    for comparison in dense.COMPARISONS:
        lr, baseline_lr, gains = dense.compare(runs, comparison)
        best = ", its best" if comparison.lr is None else ""
        rows.append(
            [
                STYLES[comparison.method].label,
                f"{lr:g}{best}",
                STYLES[comparison.baseline].label,
                f"{baseline_lr:g}{best}",
                f"{median(gains):.2f}",
                spread(gains, ".2f"),
            ]
        )
    return rows


def automatic_rows(runs: Sequence[Run]) -> Rows:
    """Return a row for each start of the automatic rate: its final loss, and that over Adam's."""
    rows = []
    for start in dense.STARTS:
        losses = [final_loss(run.train_loss) for run in at(runs, dense.AUTOMATIC, start)]
        ratios = dense.automatic_ratios(runs, start)
        rows.append(
            [
                f"{start:g}",
                f"{median(losses):.3f}",
                f"{median(ratios):.2f}",
                spread(ratios, ".2f"),
            ]
        )
    return rows


def final_rows(runs: Sequence[Run], methods: Sequence[str]) -> Rows:
    """Return a row for each method and rate: final loss, accuracy and costs."""
    rows = []
    for method in methods:
        for lr in sorted({run.lr for run in runs if run.method == method}, reverse=True):
            group = at(runs, method, lr)
            losses = [final_loss(run.train_loss) for run in group]
            start = "from " if method == dense.AUTOMATIC else ""
            rows.append(
                [
                    STYLES[method].label,
                    f"{start}{lr:g}",
                    f"{median(losses):.3f}",
                    spread(losses, ".3f"),
                    f"{median(run.test_accuracy[-1] for run in group):.1%}",
                    f"{1000 * median(run.seconds_per_iteration for run in group):.1f}",
                    f"{group[0].optimizer_state_bytes:,}",
                ]
            )
    return rows


_FINAL_HEAD = [
    "method",
    "learning rate",
    "final loss",
    "range",
    "test accuracy",
    "ms per iteration",
    "optimizer bytes",
]


def _chapter(model: str, runs: Sequence[Run], iterations: int, ablations: bool) -> list[str]:
    parts = [
        f"<h2>{model}</h2>",
        table(
            f"Gain: {iterations} divided by the number of iterations after which the mean loss "
            f"of the method's last {WINDOW} iterations is first at most the other's final loss; "
            "0 if it never is.",
            ["method", "learning rate", "against", "learning rate", "gain", "range"],
            comparison_rows(runs),
        ),
        table(
            "The automatic learning rate around Adam, by its initial value, against Adam at its "
            "best rate.",
            ["start", "final loss", "over Adam's", "range"],
            automatic_rows(runs),
        ),
        table("All runs.", _FINAL_HEAD, final_rows(runs, (*dense.METHODS, dense.AUTOMATIC))),
    ]
    if ablations:
        parts.append(
            table(
                "Other uses of the average gradient around RMSprop.",
                _FINAL_HEAD,
                final_rows(runs, dense.ABLATIONS),
            )
        )
    return parts
