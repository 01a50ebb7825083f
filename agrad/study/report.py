"""Helpers that the reports share: HTML pages made from nothing but a results file."""

import base64
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from agrad.serialization import atomic_write
from agrad.study.figures import png, save_figure
from agrad.study.runs import Run

__all__ = [
    "Rows",
    "by_model",
    "introduction",
    "page",
    "picture",
    "spread",
    "table",
    "write_page",
]

_STYLE = """
:root { color-scheme: light dark; --line: #ddd; --head: #888 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { line-height: 1.2 }
p, h1 { overflow-wrap: anywhere }
.scroll { overflow-x: auto; margin: 1rem 0 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .3rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .8rem; text-align: right }
th { border-bottom-color: var(--head); vertical-align: bottom }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
img { max-width: 100% }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a3a3a; --head: #888 }
  body { background: #131416; color: #d8d8d8 }
  img { filter: invert(1) hue-rotate(180deg) }
}
@media print {
  .scroll { overflow: visible }
  table { font-size: 9pt }
}
"""

Rows = list[list[str]]


def page(title: str, parts: Iterable[str]) -> str:
    """Return an HTML page that needs nothing but itself: a heading, then the parts."""
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return (
        "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width'>\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def write_page(
    results: str | os.PathLike[str], title: str, parts: Iterable[str], figure: Any
) -> list[Path]:
    """Write `report.html` and `losses.png` next to the results file and return their paths.

    Raises:
        OSError: A file cannot be written.
    """
    folder = Path(results).parent
    paths = [folder / "report.html", folder / "losses.png"]
    with atomic_write(paths[0]) as file:
        file.write(page(title, parts).encode())
    save_figure(figure, paths[1])
    return paths


def introduction(command: str, runs: Sequence[Run], left_out: Sequence[Run]) -> str:
    """Return paragraphs on the command, the runs and seeds, and the machine."""
    seeds = len({run.seed for run in runs})
    machines = {", ".join(f"{k} {v}" for k, v in run.machine.items()) for run in runs}
    parts = [
        f"<p>Made by <code>{escape(command)}</code>: {len(runs)} runs, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}. Runs with the same seed start from the same "
        "initial weights and see the same batches. Numbers are medians over the seeds.</p>"
    ]
    if left_out:
        words = ", ".join(map(str, sorted({run.seed for run in left_out})))
        parts.append(f"<p>Left out because some of their runs are missing: seeds {words}.</p>")
    return "\n".join([*parts, f"<p>Machine: {escape('; '.join(sorted(machines)))}.</p>"])


def picture(figure: Any, caption: str) -> str:
    """Return an image with the figure embedded, and a paragraph with its caption."""
    source = f"data:image/png;base64,{base64.b64encode(png(figure)).decode()}"
    return (
        "<img alt='Training losses of each method at its best learning rate' "
        f"src='{source}'>\n<p>{escape(caption)}</p>"
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a box that scrolls if it is too wide; each row is as long as `head`."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = "\n".join([line("th", head), *(line("td", row) for row in rows)])
    return (
        "<div class='scroll'>\n<table>\n"
        f"<caption>{escape(caption)}</caption>\n{lines}\n</table>\n</div>"
    )


def by_model(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs of each model, tanh first."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.model, []).append(run)
    return dict(sorted(models.items(), reverse=True))


def spread(values: Sequence[float], form: str) -> str:
    """Return the smallest and the largest value as text, each in the format `form`."""
    return f"{min(values):{form}} to {max(values):{form}}"
