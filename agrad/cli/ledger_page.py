"""The page of `agrad inspect`: the ledgers of a training's steps as charts and a table."""

from collections.abc import Mapping, Sequence
from html import escape

from agrad.core.ledger import LedgerRow, LossLedger
from agrad.study.report import page, table

__all__ = ["ledger_page"]

_STYLE = """<style>
.chart { --ink: #1b1b1b; --faint: #8a8a8a; --blue: #0068a8; --red: #c64600; display: block;
  width: 100%; max-width: 36rem; font: 13px system-ui, sans-serif; margin: 1rem 0 }
@media (prefers-color-scheme: dark) { .chart { --ink: #e4e4e4; --faint: #8f8f8f; --blue: #5ab4ea;
  --red: #ff8f4d } }
.chart text { fill: var(--ink) }
.chart path { fill: none; stroke-width: 2 }
</style>"""

_WIDTH, _HEIGHT = 400, 220
_LEFT, _TOP, _BOTTOM = 58, 24, 22
_ROW = 15

Ledgers = Mapping[int, LossLedger]


def ledger_page(title: str, description: str, ledgers: Ledgers) -> str:
    """Return the page.

    Args:
        title: The title.
        description: Which steps the ledgers are of, in words.
        ledgers: The ledger of each measured step by its iteration.
    """
    steps = list(ledgers.values())
    layers = _sums([row for ledger in steps for row in ledger.layers])
    promised, delivered = (sum(values) for values in zip(*(row[2:] for row in layers)))
    return page(
        title,
        [
            _STYLE,
            f"<p>{escape(description)}</p>",
            "<p>The gradient g at the start of a step promises that an update Δ changes the loss "
            "of the batch by ⟨g, Δ⟩. The average gradient ĝ delivers ⟨ĝ, Δ⟩, and over all layers "
            "that is the change itself. A layer whose promise is the larger one was moved too far "
            f"for its gradient. The measured steps promised {promised:.4g} together and delivered "
            f"{delivered:.4g}.</p>",
            "<h2>Over the training</h2>",
            _lines("Loss before the step", ledgers, [("ink", [s.start for s in steps])]),
            _lines(
                "Promised (red) and delivered (blue)",
                ledgers,
                [("red", [s.promised for s in steps]), ("blue", [s.change for s in steps])],
            ),
            "<h2>Which layers promised too much</h2>",
            _map(ledgers),
            "<p>A row for each layer, the first on top; a column for each measured step. Red cells "
            "delivered less of a fall than promised, blue cells more. The fullest colour is the "
            "largest difference.</p>",
            table(
                "All measured steps together",
                ["layer", "promised", "delivered", "share"],
                [
                    [row.name, f"{row.promised:.3g}", f"{row.delivered:.3g}", _share(row)]
                    for row in layers
                ],
            ),
        ],
    )


def _sums(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """Return a row for each name, with the sums of what it promised and delivered."""
    found: dict[str, LedgerRow] = {}
    for row in rows:
        known = found.get(row.name, row._replace(promised=0.0, delivered=0.0))
        found[row.name] = known._replace(
            promised=known.promised + row.promised, delivered=known.delivered + row.delivered
        )
    return list(found.values())


def _share(row: LedgerRow) -> str:
    return f"{row.delivered / row.promised:.0%}" if row.promised else "–"


def _lines(title: str, ledgers: Ledgers, curves: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return curves over the iterations, each a colour and its values, as SVG."""
    values = [value for _, curve in curves for value in curve]
    low, high = min(0.0, *values), max(0.0, *values)
    first, last = min(ledgers), max(ledgers)

    def down(value: float) -> float:
        span = (high - low) or 1.0
        return _TOP + (high - value) / span * (_HEIGHT - _TOP - _BOTTOM)

    def across(iteration: int) -> float:
        return _LEFT + (iteration - first) / ((last - first) or 1) * (_WIDTH - _LEFT - 8)

    parts = [f"<path stroke='var(--faint)' d='M{_LEFT} {down(0):.1f}H{_WIDTH}'/>"]
    parts += [
        _text(_LEFT - 6, down(value) + 4, f"{value:.3g}", "end")
        for value in (low, 0.0, high)
        if value == 0 or abs(down(value) - down(0)) > _ROW  # or the labels would overlap
    ]
    for colour, curve in curves:
        points = [(across(i), down(value)) for i, value in zip(ledgers, curve)]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f"<path stroke='var(--{colour})' d='M{line}'/>")
        parts += [
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5' fill='var(--{colour})'/>" for x, y in points
        ]
    return _svg(title, _HEIGHT, [*parts, *_iterations(ledgers, _HEIGHT - 4)])


def _map(ledgers: Ledgers) -> str:
    """Return a cell for each layer and step: the promise less the delivery by the colour."""
    columns = [ledger.layers for ledger in ledgers.values()]
    names = [row.name for row in columns[0]]
    excess = [[row.delivered - row.promised for row in column] for column in columns]
    most = max(abs(value) for column in excess for value in column) or 1.0
    width = (_WIDTH - _LEFT - 8) / len(columns)
    parts = [
        f"<rect x='{_LEFT + width * i:.2f}' y='{_TOP + _ROW * j}' width='{width:.2f}' "
        f"height='{_ROW}' fill='var(--{'red' if value > 0 else 'blue'})' "
        f"fill-opacity='{abs(value) / most:.3f}'/>"
        for i, column in enumerate(excess)
        for j, value in enumerate(column)
    ]
    bottom = _TOP + _ROW * len(names)
    parts += [
        _text(_LEFT - 6, _TOP + _ROW * j + 12, name.partition(" ")[0], "end")
        for j, name in enumerate(names)
    ]
    parts.append(f"<path stroke='var(--faint)' d='M{_LEFT} {_TOP}V{bottom}H{_WIDTH - 8}V{_TOP}Z'/>")
    title = "Delivered less promised, by layer and step"
    return _svg(title, bottom + _BOTTOM, [*parts, *_iterations(ledgers, bottom + 16)])


def _iterations(ledgers: Ledgers, y: float) -> list[str]:
    """Return the labels of the axis of the iterations."""
    if len(ledgers) == 1:
        return [_text((_LEFT + _WIDTH) / 2, y, f"iteration {min(ledgers)}", "middle")]
    return [
        _text(_LEFT, y, f"iteration {min(ledgers)}", "start"),
        _text(_WIDTH - 8, y, f"{max(ledgers)}", "end"),
    ]


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(words)}</text>"


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    heading = _text(_LEFT, 14, title, "start")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' class='chart' role='img' "
        f"viewBox='0 0 {_WIDTH} {height}'>\n<title>{escape(title)}</title>\n"
        + "\n".join([heading, *parts])
        + "\n</svg>"
    )
