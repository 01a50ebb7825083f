"""The report of a study: one HTML page, made from its results file alone."""

import base64
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from agrad.serialization import atomic_write
from agrad.study import dense
from agrad.study.figures import STYLES, loss_figure, png, save_figure
from agrad.study.measures import WINDOW, final_loss
from agrad.study.runs import Run, load_runs

__all__ = [
    "automatic_rows",
    "by_model",
    "comparison_rows",
    "dense_figure",
    "final_rows",
    "write_dense_report",
]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 2rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .3rem }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .8rem; text-align: right }
th { border-bottom-color: #888; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
img { max-width: 100% }
"""

Rows = list[list[str]]


def write_dense_report(results: str | os.PathLike[str]) -> list[Path]:
    """Write `report.html` and `losses.png` beside the results file and return their paths.

    Seeds of which the file does not have all runs are left out, and the report says so.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the results are not a whole file of runs, or have no whole seed.
    """
    runs, left_out = dense.split_by_completeness(load_runs(results))
    figure = dense_figure(runs)
    folder = Path(results).parent
    paths = [folder / "report.html", folder / "losses.png"]
    with atomic_write(paths[0]) as file:
        file.write(_page(runs, left_out, figure).encode())
    save_figure(figure, paths[1])
    return paths


def by_model(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs of each model, tanh first."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.model, []).append(run)
    return dict(sorted(models.items(), reverse=True))


def dense_figure(runs: Sequence[Run]) -> Any:
    """Return the median training losses of each method at its best rate, a panel for each model."""
    panels = {}
    for model, group in by_model(runs).items():
        panels[model] = {
            method: dense.median_curve(group, method, dense.best_rate(group, method))
            for method in (*dense.METHODS, dense.AUTOMATIC)
        }
    return loss_figure(panels)


# -- rows of its tables, from the runs of one model ------------------------------------------------


def comparison_rows(runs: Sequence[Run]) -> Rows:
    """Return for each of the study's comparisons both methods with their rates, and the gain."""
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
                _spread(gains, ".2f"),
            ]
        )
    return rows


def automatic_rows(runs: Sequence[Run]) -> Rows:
    """Return for each start of the automatic rate its final loss, and that over Adam's best."""
    rows = []
    for start in dense.STARTS:
        losses = [final_loss(run.train_loss) for run in dense.at(runs, dense.AUTOMATIC, start)]
        ratios = dense.automatic_ratios(runs, start)
        rows.append(
            [
                f"{start:g}",
                f"{median(losses):.3f}",
                f"{median(ratios):.2f}",
                _spread(ratios, ".2f"),
            ]
        )
    return rows


def final_rows(runs: Sequence[Run], methods: Sequence[str]) -> Rows:
    """Return for each of the methods and its rates what the runs came to, and what they cost."""
    rows = []
    for method in methods:
        for lr in sorted({run.lr for run in runs if run.method == method}, reverse=True):
            group = dense.at(runs, method, lr)
            losses = [final_loss(run.train_loss) for run in group]
            start = "from " if method == dense.AUTOMATIC else ""
            rows.append(
                [
                    STYLES[method].label,
                    f"{start}{lr:g}",
                    f"{median(losses):.3f}",
                    _spread(losses, ".3f"),
                    f"{median(run.test_accuracy[-1] for run in group):.1%}",
                    f"{1000 * median(run.seconds_per_iteration for run in group):.1f}",
                    f"{group[0].optimizer_state_bytes:,}",
                ]
            )
    return rows


def _spread(values: Sequence[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


# -- the page --------------------------------------------------------------------------------------

_FINAL_HEAD = [
    "method",
    "learning rate",
    "final loss",
    "range",
    "test accuracy",
    "ms per iteration",
    "optimizer bytes",
]


def _page(runs: Sequence[Run], left_out: Sequence[Run], figure: Any) -> str:
    study, iterations = runs[0].study, runs[0].iterations
    seeds = len({run.seed for run in runs})
    ablations = any(run.method in dense.ABLATIONS for run in runs)
    command = (
        f"agrad study dense --data {study.removeprefix('dense-')} --seeds {seeds} "
        f"--iterations {iterations}{' --ablations' if ablations else ''}"
    )
    machines = {", ".join(f"{k} {v}" for k, v in run.machine.items()) for run in runs}
    parts = [
        f"<h1>{escape(study)}: iterations to the same training loss</h1>",
        f"<p>Made by <code>{escape(command)}</code>: {len(runs)} runs of {iterations} iterations, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}. Runs of one seed start from the same "
        "initial weights and take the same batches. Figures are medians over the seeds.</p>",
    ]
    if left_out:
        words = ", ".join(map(str, sorted({run.seed for run in left_out})))
        parts.append(f"<p>Left out, since some of their runs are missing: seeds {words}.</p>")
    parts += [
        f"<p>Machine: {escape('; '.join(sorted(machines)))}.</p>",
        f"<img alt='Training losses of each method at its best learning rate' "
        f"src='data:image/png;base64,{base64.b64encode(png(figure)).decode()}'>",
        "<p>Each method at its best learning rate, that of its lowest final loss. A final loss is "
        f"the mean training loss of the last {WINDOW} iterations.</p>",
    ]
    for model, group in by_model(runs).items():
        parts += [
            f"<h2>{escape(model)}</h2>",
            _table(
                f"Gain: {iterations} over the iterations at whose end the method first has "
                f"{WINDOW} in a row with a mean loss of at most the other's final loss; 0 where "
                "it never has.",
                ["method", "learning rate", "against", "learning rate", "gain", "range"],
                comparison_rows(group),
            ),
            _table(
                "The automatic learning rate around Adam, by where it starts, against Adam at its "
                "best.",
                ["start", "final loss", "over Adam's", "range"],
                automatic_rows(group),
            ),
            _table("All runs.", _FINAL_HEAD, final_rows(group, (*dense.METHODS, dense.AUTOMATIC))),
        ]
        if ablations:
            parts.append(
                _table(
                    "Other uses of the average gradient around RMSprop.",
                    _FINAL_HEAD,
                    final_rows(group, dense.ABLATIONS),
                )
            )
    body = "\n".join(parts)
    return (
        "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width'>\n"
        f"<title>{escape(study)}</title>\n<style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = (line("td", row) for row in rows)
    return "\n".join(
        ["<table>", f"<caption>{escape(caption)}</caption>", line("th", head), *lines, "</table>"]
    )
