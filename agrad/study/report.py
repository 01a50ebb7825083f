"""Reports of a study: a web page and a page of the docs, made from the results file alone."""

import base64
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from agrad.serialization import atomic_write
from agrad.study.claims import (
    CLAIMS,
    VARIANT,
    Claim,
    complete,
    design_of,
    findings_of,
    trainings_of,
    variant_findings_of,
)
from agrad.study.designs import Trainings
from agrad.study.figures import STYLES, curve_figure, finding_figure, png
from agrad.study.results import Results, Settings
from agrad.study.statistics import Finding, verdict
from agrad.study.tables import between, description_of, finding_table, number, tables_of

__all__ = [
    "claims_page",
    "page",
    "readme_figure",
    "readme_rows",
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
    whole = _complete(results)
    folder = Path(path).parent
    written = []
    parts = [_introduction(results, whole)]
    for claim, of in whole.items():
        findings = findings_of(claim, of)
        figures = _figures(claim, of, findings)
        written.append(folder / f"claim-{claim.name}.png")
        with atomic_write(written[-1]) as file:
            file.write(figures[0])
        parts += _chapter(claim, of, findings, figures)
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


def _complete(results: Results) -> dict[Claim, Results]:
    """Return the claims of a study that have all their jobs, with as many seeds as have them."""
    asked = [CLAIMS[name] for name in results.settings.claims]
    found = {claim: complete(claim, results) for claim in asked}
    return {claim: of for claim, of in found.items() if of is not None}


def _command(claim: Claim, settings: Settings) -> str:
    """Return the command that repeats the study of a claim."""
    return f"{replace(settings, claims=(claim.name,)).command} --out OUT"


# -- the web page ----------------------------------------------------------------------------------


def _introduction(results: Results, whole: Mapping[Claim, Results]) -> str:
    settings = results.settings
    size = (
        "This is the quick study, a first answer: smaller networks, fewer rates, iterations and "
        "seeds, as each chapter says. It settles nothing."
        if settings.quick
        else "This is the full study."
    )
    lacking = [name for name in settings.claims if CLAIMS[name] not in whole]
    missing = f"<p>Left out, because some of their runs are missing: {', '.join(lacking)}.</p>\n"
    rows = [
        [
            f"{claim.name}. {claim.text}",
            f"{of.settings.seeds}",
            _summary(findings_of(claim, of)),
        ]
        for claim, of in whole.items()
    ]
    return (
        f"<p>Made by <code>{escape(settings.command)}</code>: {len(results)} runs. {size} Runs "
        "with the same seed start from the same initial weights and see the same batches. Rates "
        "are chosen on other seeds. Intervals are those of the bootstrap over the seeds, at 95 %. "
        "Runs that end no better than 0.9 times the loss of a guess have failed; they are counted "
        "for the method, and after the colon for what it is compared with. A seed is missed if "
        "the method does not reach its target. In figures of training losses, bands are "
        "quartiles, and the line and the dots are the target and where it is reached.</p>\n"
        + (missing if lacking else "")
        + f"<p>Machine: {escape('; '.join(results.machines))}.</p>\n"
        + table("The verdicts.", ["claim", "seeds", "verdict"], rows)
    )


def _chapter(
    claim: Claim, results: Results, findings: Sequence[Finding], figures: Sequence[bytes]
) -> list[str]:
    settings = results.settings
    parts = [
        f"<h2>{escape(claim.name)}. {escape(claim.text)}</h2>",
        f"<p><strong>{escape(_summary(findings))}.</strong> {escape(claim.measured)}"
        + (f" In the quick study: {escape(claim.quick)}" if settings.quick else "")
        + f" {escape(claim.differs)}</p>",
        f"<p>{_code(description_of(claim, settings))} Scoring seeds: {settings.seeds}. "
        f"<code>{_command(claim, settings)}</code></p>",
        *(
            f"<img alt='Claim {claim.name}' src='data:image/png;base64,"
            f"{base64.b64encode(figure).decode()}'>"
            for figure in figures
        ),
        table(*finding_table("Findings.", findings)),
    ]
    if variant := variant_findings_of(claim, results):
        parts.append(table(*finding_table(f"The variant, {VARIANT}: {verdict(variant)}.", variant)))
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


def _code(text: str) -> str:
    """Return a text as HTML, with what stands between backquotes as code."""
    return re.sub("`(.*?)`", r"<code>\1</code>", escape(text))


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


def claims_page(results: Results, folder: str) -> str:
    """Return the page of the documentation about a study: claim by claim, in Markdown.

    Args:
        results: The results, for which `write_report` has made figures.
        folder: The path of their folder from the documentation's.
    """
    whole = _complete(results)
    parts = [
        "# The claims, put to the test",
        _INTRODUCTION.strip().format(folder=folder, variant=VARIANT),
        f"Machine: {'; '.join(results.machines)}.",
    ]
    rows = []
    for claim in CLAIMS.values():
        if claim not in whole:
            rows.append([claim.name, claim.text, "", "not run yet"])
            continue
        of = whole[claim]
        link = f"[{claim.name}](#claim-{claim.name})"
        found = _summary(findings_of(claim, of))
        rows.append([link, claim.text, f"{of.settings.seeds}", found])
    head = ["claim", "the abstracts say", "seeds", "verdict"]
    parts.append(_markdown(head, rows))
    for claim, of in whole.items():
        findings = findings_of(claim, of)
        parts += [
            f"(claim-{claim.name})=\n## {claim.name}. {claim.text}",
            f"**Verdict.** {_summary(findings)}.",
            f"*Measured.* {claim.measured}",
            f"*Runs.* {description_of(claim, of.settings)} Scoring seeds: {of.settings.seeds}.",
            f"*What differs from the papers.* {claim.differs}",
            f"*Command.* `{_command(claim, of.settings)}`. *File.* "
            f"[results.json]({folder}/results.json).",
            f"![Claim {claim.name}: findings]({folder}/claim-{claim.name}.png)",
        ]
        shown = [finding_table("Findings.", findings)]
        if variant := variant_findings_of(claim, of):
            caption = f"The variant, `{VARIANT}`: {verdict(variant)}."
            shown.append(finding_table(caption, variant))
        tables = tables_of(claim, of)
        shown += (each for each in tables if len(each.rows) <= _ROWS)
        for caption, head, rows in shown:
            parts += [caption, _markdown(head, rows)]
        if any(len(each.rows) > _ROWS for each in tables):
            parts.append("A longer table, of each network and method, is in the report.")
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
Each claim of the two abstracts has a study of its own. Its runs, targets and analyses are in
[agrad/study/claims.py](../agrad/study/claims.py). They were fixed before the scoring seeds of the
full study ran; later changes are listed below. All methods are tuned over the same grid by their
final training loss, on seeds that are not scored. If the best rate is at an end of the grid, the
grid grows. Seeds are
paired: the same initial weights, the same batches. The setting nearest to what the abstracts
describe, the average gradient on RMSprop at a fixed rate, is a method of its own everywhere:
`average-rmsprop`. A variant, `{variant}`, stands beside it in claims 3, 4, 7 and 11. It was chosen
on the tuning seed of the quick study. `probed-rmsprop` and `probed-adam` measure every second step,
on 32 examples.

A number is the median over the seeds, with the 95 % interval of a bootstrap. With five seeds this
interval is their whole range, and no sign test can give a p below 0.062; with nine it can give
0.0039. A finding *holds* if its median is as claimed and its interval lies on the claimed side. It
holds *partly* if only the interval does, and otherwise it *does not hold*. It is *undecided* if
neither method trains with any seed. The verdict on a claim, or on each of its parts, is what its
findings agree on, and *partly* if they do not agree.

A run that ends above 0.9 times the loss of a guess has *failed*: such runs are counted for the
method and, after the colon, for its baseline (for claim 5 at all rates). A seed is *missed* if the
method never reaches the target; its gain is 0. If only the baseline failed, the gain is infinite.
If both failed, the seed is left out. (In claim 6, only runs whose loss is not finite fail.)

Three analyses were corrected after results were known. A gain divided the baseline's whole run by
the method's iterations to its final loss; now it counts the baseline's iterations until it first
reaches that loss itself, so that a noisy run has a gain of 1 over itself. The test loss at equal
training loss was taken from the epochs that happened to end at that loss; now it is that of the
epoch in which the loss is reached. The seconds of a step that is measured every second time were
the median of quick and slow steps; now they are that of averages over four. Verdicts by part, the
peak memory in claim 6 and the comparison with cautious Adam in claim 5 were added when results were
known. The chapters name other additions.

The report beside [results.json]({folder}/results.json), `report.html`, has all tables and the
curves of the training losses.
"""


def _summary(findings: Sequence[Finding]) -> str:
    """Return the verdict on each part of a claim, with the outcomes and medians of its findings."""
    texts = []
    for part in dict.fromkeys(finding.part for finding in findings):
        found = [finding for finding in findings if finding.part == part]
        details = [f"{len(found)} finding{'s' * (len(found) > 1)}"]
        counts = {name: sum(f.outcome == name for f in found) for name in _ORDER}
        if len(found) not in counts.values():
            details = [f"{count} {name}" for name, count in counts.items() if count]
        medians = sorted(finding.median for finding in found if finding.values)
        if medians and len({finding.neutral for finding in found}) == 1:
            ends = dict.fromkeys(map(number, (medians[0], medians[-1])))
            details.append(f"median{'s' * (len(ends) > 1)} {' to '.join(ends)}")
        texts.append(f"{verdict(found)} ({', '.join(details)})")
    return "; ".join(texts)


_ORDER = ("holds", "partly", "does not hold", "undecided")


def readme_rows(results: Results) -> str:
    """Return the README's rows about iterations as a Markdown table: MNIST, tanh and ReLU.

    They come from the trainings of claim 3.

    Raises:
        ValueError: Some of them are missing.
    """
    design, of = _readme_trainings(results)
    rows = []
    for method, baseline in (
        ("average-rmsprop", "rmsprop"),
        ("average-adam", "rmsprop"),
        ("average-adam", "adam"),
    ):
        found = design.gains(of, of.settings.seeds, method, baseline, (1.0, math.inf))
        base = STYLES[method.removeprefix("average-")].label
        label = f"iterations: {STYLES[baseline].label} over average gradient on {base}"
        rows.append([label, *(f"{number(f.median)} ({between(f.interval)})" for f in found)])
    return _markdown(["ratio", "tanh", "ReLU"], rows)


def readme_figure(results: Results) -> Any:
    """Return the README's figure: the losses of the trainings in `readme_rows`.

    Raises:
        ValueError: Some of them are missing.
    """
    return curve_figure(_curves(*_readme_trainings(results)), "rmsprop", columns=2)


def _readme_trainings(results: Results) -> tuple[Trainings, Results]:
    """Return the trainings of claim 3 on MNIST, and the results with as many seeds as have them."""
    claim = CLAIMS["3"]
    of = complete(claim, results)
    if of is None:
        raise ValueError("readme: the rows and the figure need all runs of claim 3")
    design = design_of(claim, of.settings)
    cells = {name: cell for name, cell in design.cells.items() if name.startswith("MNIST")}
    return replace(design, cells=cells), of


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
