"""The report of a study: one HTML page, made from its results file alone."""

import base64
import os
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from agrad.serialization import atomic_write
from agrad.study import dense
from agrad.study.figures import STYLES, loss_figure, save_figure
from agrad.study.measures import WINDOW, final_loss
from agrad.study.runs import Run, load_runs

__all__ = ["comparison_rows", "dense_figure", "write_dense_report"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { border: 1px solid #ccc; padding: .3rem .7rem; text-align: right }
th:first-child, td:first-child { text-align: left }
img { max-width: 100% }
"""


def write_dense_report(results: str | os.PathLike[str], command: str) -> list[Path]:
    """Write `report.html` and `losses.png` beside the results file and return their paths."""
    folder = Path(results).parent
    runs = load_runs(results)
    figure = dense_figure(runs)
    paths = [folder / "report.html", folder / "losses.png"]
    with atomic_write(paths[0]) as file:
        file.write(_page(runs, figure, command).encode())
    save_figure(figure, paths[1])
    return paths


def by_model(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs of each model, in the order in which the models appear."""
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
            for method in STYLES
            if any(run.method == method for run in group)
        }
    return loss_figure(panels, f"training loss, mean of {WINDOW} iterations")


def comparison_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return a row of words for each of the study's comparisons of one model."""
    rows = []
    for comparison in dense.COMPARISONS:
        lr, baseline_lr, gains = dense.compare(runs, comparison)
        rows.append(
            [
                STYLES[comparison.method][0],
                f"{lr:g}",
                STYLES[comparison.baseline][0],
                f"{baseline_lr:g}",
                "each at its best rate" if comparison.lr is None else "same rate",
                f"{median(gains):.2f}",
                f"{min(gains):.2f} to {max(gains):.2f}",
            ]
        )
    return rows


def automatic_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return for each start of the automatic rate its final loss, and that over Adam's best."""
    rows = []
    for start in dense.STARTS:
        losses = [final_loss(run.train_loss) for run in dense.at(runs, "average-adam-auto", start)]
        ratios = dense.automatic_ratios(runs, start)
        rows.append(
            [
                f"{start:g}",
                f"{median(losses):.3f}",
                f"{median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        )
    return rows


def final_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return for each method and rate the final training loss, the accuracy and the step's time."""
    rows = []
    for method, lr in sorted({(run.method, -run.lr) for run in runs}):
        group = dense.at(runs, method, -lr)
        losses = [final_loss(run.train_loss) for run in group]
        rows.append(
            [
                STYLES[method][0],
                f"{-lr:g}",
                f"{median(losses):.3f}",
                f"{min(losses):.3f} to {max(losses):.3f}",
                f"{median(run.test_accuracy[-1] for run in group):.1%}",
                f"{1000 * median(run.seconds_per_iteration for run in group):.1f}",
                f"{group[0].optimizer_state_bytes:,}",
            ]
        )
    return rows


def _page(runs: Sequence[Run], figure: Any, command: str) -> str:
    image = BytesIO()
    figure.savefig(image, format="png", dpi=120)
    seeds = sorted({run.seed for run in runs})
    parts = [
        f"<h1>{escape(runs[0].study)}: iterations to a training loss</h1>",
        f"<p>Made by <code>{escape(command)}</code>. {len(runs)} runs of {runs[0].iterations} "
        f"iterations, seeds {seeds[0]} to {seeds[-1]}, paired: equal seeds have equal initial "
        "weights and batches.</p>",
        f"<p>Machine: {escape(', '.join(f'{k} {v}' for k, v in runs[0].machine.items()))}.</p>",
        f"<img alt='training losses' src='data:image/png;base64,"
        f"{base64.b64encode(image.getvalue()).decode()}'>",
        "<p>A method's gain over another: the other's iterations, over those in which the method "
        f"first has {WINDOW} iterations in a row of at most the other's final training loss (the "
        f"mean of its last {WINDOW}). 0: not reached. A method's best rate is the one of its "
        "lowest median final training loss.</p>",
    ]
    for model, group in by_model(runs).items():
        parts += [
            f"<h2>{escape(model)}</h2>",
            _html_table(
                ["method", "rate", "against", "rate", "", "gain, median", "range"],
                comparison_rows(group),
            ),
            _html_table(
                ["automatic rate from", "final loss, median", "over Adam's best", "range"],
                automatic_rows(group),
            ),
            _html_table(
                [
                    "method",
                    "rate",
                    "final loss, median",
                    "range",
                    "test accuracy",
                    "ms per iteration",
                    "optimizer state, bytes",
                ],
                final_rows(group),
            ),
        ]
    body = "\n".join(parts)
    return (
        "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n<title>"
        f"{escape(runs[0].study)}</title>\n<style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(["<table>", line("th", head), *(line("td", row) for row in rows), "</table>"])
