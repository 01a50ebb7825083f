"""Reports of a study: a web page and a page of the docs, made from the results file alone."""

import base64
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from agrad.serialization import atomic_write
from agrad.study.claims import (
    CLAIMS,
    SEEDS,
    VARIANT,
    Claim,
    design_of,
    findings_of,
    trainings_of,
    variant_findings_of,
)
from agrad.study.designs import Trainings
from agrad.study.figures import STYLES, curve_figure, finding_figure, png
from agrad.study.results import Results, Settings
from agrad.study.statistics import Finding, sign_test, verdict
from agrad.study.tables import between, finding_table, number, tables_of

__all__ = [
    "claims_page",
    "page",
    "readme_figure",
    "readme_rows",
    "studies_of",
    "table",
    "write_report",
]

Rows = list[list[str]]

_PANELS = 4
"""With more cells than this, a figure of their curves says less than a table."""

_ROWS = 60
"""Longer tables are in the report alone, not on the page of the documentation."""

_STYLE = """
:root { color-scheme: light dark; --line: #ddd; --head: #888 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { line-height: 1.2 }
p, h1, h2 { overflow-wrap: anywhere }
.scroll { overflow-x: auto; margin: 1rem 0 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .3rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .8rem; text-align: right }
th { border-bottom-color: var(--head); vertical-align: bottom }
th:first-child, td:first-child { text-align: left; padding-left: 0; min-width: 11rem }
td:last-child { min-width: 6rem }
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


def write_report(path: str | os.PathLike[str]) -> list[Path]:
    """Write `report.html` and `claim-NAME.png` next to a results file and return their paths.

    Claims with missing runs are left out, and the report says so.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The file does not hold results.
    """
    results = Results.load(path)
    whole, lacking = _claims(results)
    folder = Path(path).parent
    written = []
    parts = [_introduction(results, whole, lacking)]
    for claim in whole:
        findings = findings_of(claim, results)
        figures = _figures(claim, results, findings)
        written.append(folder / f"claim-{claim.name}.png")
        with atomic_write(written[-1]) as file:
            file.write(figures[0])
        parts += _chapter(claim, results, findings, figures)
    with atomic_write(folder / "report.html") as file:
        file.write(page("The claims of the papers, put to the test", parts).encode())
    return [folder / "report.html", *written]


def page(title: str, parts: Iterable[str]) -> str:
    """Return a self-contained HTML page: a heading, then the parts."""
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return (
        "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width'>\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _claims(results: Results) -> tuple[list[Claim], list[str]]:
    """Return the claims whose jobs are all done, and the names of the others."""
    seeds = results.settings.seeds
    asked = [CLAIMS[name] for name in results.settings.claims]
    whole = [
        claim
        for claim in asked
        if not results.missing(design_of(claim, results.settings).jobs(results, seeds))
    ]
    return whole, [claim.name for claim in asked if claim not in whole]


# -- the web page ----------------------------------------------------------------------------------


def _introduction(results: Results, whole: Sequence[Claim], lacking: Sequence[str]) -> str:
    settings = results.settings
    size = (
        "This is the quick study, a first answer: smaller networks, fewer rates, iterations and "
        "seeds, as each chapter says. It settles nothing."
        if settings.quick
        else "This is the full study."
    )
    missing = f"<p>Left out, because some of their runs are missing: {', '.join(lacking)}.</p>\n"
    rows = [
        [f"{claim.name}. {claim.text}", verdict(found), _summary(found)]
        for claim in whole
        for found in [findings_of(claim, results)]
    ]
    return (
        f"<p>Made by <code>{escape(settings.command)}</code>: {len(results)} runs, "
        f"{settings.seeds} scoring seeds. {size} Runs with the same seed start from the same "
        "initial weights and see the same batches. Rates are chosen on other seeds. Intervals are "
        "those of the bootstrap over the seeds, at 95 %; failures are runs that end no better than "
        "0.9 times the loss of a guess, of the method and of what it is compared with.</p>\n"
        + (missing if lacking else "")
        + f"<p>Machine: {escape('; '.join(results.machines))}.</p>\n"
        + table("The verdicts.", ["claim", "verdict", "findings"], rows)
    )


def _chapter(
    claim: Claim, results: Results, findings: Sequence[Finding], figures: Sequence[bytes]
) -> list[str]:
    settings = results.settings
    parts = [
        f"<h2>{escape(claim.name)}. {escape(claim.text)}</h2>",
        f"<p><strong>{verdict(findings)}</strong>. {escape(claim.measured)}"
        + (f" In the quick study: {escape(claim.quick)}" if settings.quick else "")
        + f" {escape(claim.differs)}</p>",
        *(
            f"<img alt='Claim {claim.name}' src='data:image/png;base64,"
            f"{base64.b64encode(figure).decode()}'>"
            for figure in figures
        ),
        table(*finding_table("Findings.", findings)),
    ]
    if variant := variant_findings_of(claim, results):
        parts.append(table(*finding_table(f"The variant {VARIANT}.", variant)))
    return [*parts, *(table(*each) for each in tables_of(claim, results))]


def _figures(claim: Claim, results: Results, findings: Sequence[Finding]) -> list[bytes]:
    """Return the figure of the findings, and those of training losses, as PNG."""
    figures = [finding_figure(findings)]
    for design in trainings_of(design_of(claim, results.settings)):
        if len(design.cells) <= _PANELS:
            figures.append(curve_figure(_curves(design, results), "rmsprop"))
    return [png(figure) for figure in figures]


def _curves(design: Trainings, results: Results) -> dict[str, dict[str, list[Any]]]:
    """Return the losses of each method's scored runs, for each cell."""
    seeds = results.settings.seeds
    return {
        cell: {
            method: [run["curve"] for run in design.runs(results, cell, method, seeds)]
            for method in design.methods
        }
        for cell in design.cells
    }


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a box that scrolls if it is too wide; each row is as long as `head`."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = "\n".join([line("th", head), *(line("td", row) for row in rows)])
    return (
        "<div class='scroll'>\n<table>\n"
        f"<caption>{escape(caption)}</caption>\n{lines}\n</table>\n</div>"
    )


# -- the documentation -----------------------------------------------------------------------------


Study = tuple[Results, str]
"""Results, and the path of their folder from the documentation's."""


def studies_of(folders: Sequence[str], docs: Path) -> list[Study]:
    """Load the results in some folders, named by their paths from the documentation's."""
    return [(Results.load(docs / folder / "results.json"), folder) for folder in folders]


def claims_page(studies: Sequence[Study]) -> str:
    """Return the page of the documentation about studies: claim by claim, in Markdown.

    Each claim is taken from the first study that has all its runs.

    Args:
        studies: Studies for whose results `write_report` has made figures.
    """
    chosen = _chosen(studies)
    parts = ["# The claims, put to the test"]
    quick = [results for results, _ in chosen.values() if results.settings.quick]
    if quick:
        parts.append(_quick_words(quick[0]).strip())
    parts.append(_INTRODUCTION.strip())
    for results, _ in studies:
        parts += [
            f"Made by `{results.settings.command} --out OUT`. Timed studies had the machine to "
            "themselves.",
            f"Machine: {'; '.join(results.machines)}.",
        ]
    rows = []
    for claim in CLAIMS.values():
        if claim.name not in chosen:
            rows.append([claim.name, claim.text, "", "not run yet", ""])
            continue
        results, _ = chosen[claim.name]
        found = findings_of(claim, results)
        size = f"{'quick' if results.settings.quick else 'full'}, seeds: {results.settings.seeds}"
        link = f"[{claim.name}](#claim-{claim.name})"
        rows.append([link, claim.text, size, f"**{verdict(found)}**", _summary(found)])
    head = ["claim", "the abstracts say", "study", "verdict", "findings"]
    parts.append(_markdown(head, rows))
    for name, (results, folder) in chosen.items():
        claim, settings = CLAIMS[name], results.settings
        findings = findings_of(claim, results)
        one = replace(settings, claims=(name,)).command
        parts += [
            f"(claim-{name})=\n## {name}. {claim.text}",
            f"**Verdict: {verdict(findings)}.** {_summary(findings, named=True)}",
            f"*Measured.* {claim.measured}"
            + (f" In this quick study: {claim.quick}" if settings.quick else ""),
            f"*What differs from the papers.* {claim.differs}",
            f"*Command.* `{one} --out OUT`. *File.* [results.json]({folder}/results.json).",
            f"![Claim {name}: findings]({folder}/claim-{name}.png)",
        ]
        shown = [finding_table("Findings.", findings)]
        if variant := variant_findings_of(claim, results):
            caption = f"Beside it a variant, `{VARIANT}`, fixed on the tuning seeds."
            shown.append(finding_table(caption, variant))
        shown += (each for each in tables_of(claim, results) if len(each.rows) <= _ROWS)
        for caption, head, rows in shown:
            parts += [caption, _markdown(head, rows)]
    return "\n\n".join(parts) + "\n"


def _chosen(studies: Sequence[Study]) -> dict[str, Study]:
    """Return the first study that has all runs of a claim, by the claim's name."""
    whole = [{claim.name for claim in _claims(results)[0]} for results, _ in studies]
    return {
        name: next(study for study, names in zip(studies, whole) if name in names)
        for name in CLAIMS
        if any(name in names for names in whole)
    }


_INTRODUCTION = """\
Each claim of the two abstracts has a study of its own. Its targets and analyses are in
[agrad/study/claims.py](../agrad/study/claims.py), fixed before anything ran. Every method is tuned
over the same grid by its final training loss, on seeds that are not scored; where the best rate is
an end of the grid, the grid grows. Seeds are paired: the same initial weights, the same batches. A
number is the median over the seeds, with the 95 % interval of a bootstrap. A run that ends above
0.9 times the loss of a guess has failed; "failed" counts such runs of the method and the baseline,
at all rates where the claim is about them. A method that does not reach the target has a gain of 0.

A claim *holds* if the median is as claimed and the interval lies on the claimed side, *partly* if
only the interval does, or if findings disagree. The setting nearest to what the abstracts describe,
the average gradient on RMSprop at a fixed rate, is a method of its own everywhere:
`average-rmsprop`. `probed-rmsprop` and `probed-adam` measure every second step, on 32 examples.
"""

_QUICK = """\
**Where the table says "quick", the figures come from {seeds} seeds, small networks and few rates: a
first answer that settles nothing.** With {seeds} seeds no sign test can have p below {least}. The
full study (`agrad study all --out OUT`) begins with {full:,} runs, {factor:.1f} times the {runs:,}
here, and most of them are larger; [the study](study.md) says how long they take and how to spread
them over machines.
"""


def _quick_words(results: Results) -> str:
    """Return what the page says about a quick study, and what the full one would take."""
    seeds = SEEDS[False]
    none = Results(Settings(tuple(CLAIMS), quick=False, seeds=seeds))
    jobs = (
        job
        for claim in CLAIMS.values()
        for job in design_of(claim, none.settings).jobs(none, seeds)
    )
    full = len(none.missing(jobs))
    return _QUICK.format(
        seeds=results.settings.seeds,
        least=f"{sign_test(results.settings.seeds, 0):g}",
        full=full,
        factor=full / len(results),
        runs=len(results),
    )


def _summary(findings: Sequence[Finding], named: bool = False) -> str:
    """Return the counts of the outcomes, and the least and the largest median."""
    counts = {name: sum(f.outcome == name for f in findings) for name in _ORDER}
    text = ", ".join(f"{count} × {name}" for name, count in counts.items() if count)
    decided = sorted((f for f in findings if f.values), key=lambda f: f.median)
    if not decided:
        return text
    ends = decided[:1] if len(decided) == 1 else [decided[0], decided[-1]]
    shown = [f"{number(f.median)} ({between(f.interval)})" for f in ends]
    if named:
        shown = [f"{number}, {f.what}" for number, f in zip(shown, ends)]
    spread = ("; to " if named else " to ").join(shown)
    return f"{text}. {'From ' * (len(ends) > 1)}{spread}."


_ORDER = ("holds", "partly", "does not hold", "undecided")


def readme_rows(studies: Sequence[Study]) -> str:
    """Return the README's rows about iterations as a Markdown table: MNIST, tanh and ReLU.

    They come from the trainings of claim 3, in the first study that has all of them.

    Raises:
        ValueError: No study has them.
    """
    design, results = _readme_trainings(studies)
    rows = []
    for method, baseline in (
        ("average-rmsprop", "rmsprop"),
        ("average-adam", "rmsprop"),
        ("average-adam", "adam"),
    ):
        found = design.gains(results, results.settings.seeds, method, baseline, (1.0, math.inf))
        base = STYLES[method.removeprefix("average-")].label
        label = f"iterations: {STYLES[baseline].label} over average gradient on {base}"
        rows.append([label, *(f"{number(f.median)} ({between(f.interval)})" for f in found)])
    return _markdown(["ratio", "tanh", "ReLU"], rows)


def readme_figure(studies: Sequence[Study]) -> Any:
    """Return the README's figure: the losses of the trainings in `readme_rows`.

    Raises:
        ValueError: No study has them.
    """
    return curve_figure(_curves(*_readme_trainings(studies)), "rmsprop", columns=2)


def _readme_trainings(studies: Sequence[Study]) -> tuple[Trainings, Results]:
    """Return the trainings of claim 3 on MNIST and the results that hold them."""
    chosen = _chosen(studies)
    if "3" not in chosen:
        raise ValueError("readme: the rows and the figure need all runs of claim 3")
    results, _ = chosen["3"]
    design = design_of(CLAIMS["3"], results.settings)
    cells = {name: cell for name, cell in design.cells.items() if name.startswith("MNIST")}
    return replace(design, cells=cells), results


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
