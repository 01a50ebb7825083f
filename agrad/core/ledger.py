"""A ledger of a loss's change: what the gradient promises of each update, and what it delivers."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array, beside
from agrad.core.derivatives import grad
from agrad.core.tensor import Tensor, averages_along, plain

__all__ = ["LedgerRow", "LossLedger", "loss_ledger"]


class LedgerRow(NamedTuple):
    """The share of a parameter, or of a whole layer, in the change of a loss.

    Attributes:
        name: The name of the parameter or the layer.
        size: The number of elements.
        promised: What the gradient promises, ⟨g, Δ⟩.
        delivered: What the average gradient finds, ⟨ĝ, Δ⟩.
    """

    name: str
    size: int
    promised: float
    delivered: float


@dataclass(frozen=True)
class LossLedger:
    """What `loss_ledger` returns. Its `str` is a table; notebooks show `to_html`.

    Attributes:
        rows: A row for each parameter.
        start, end: The loss before and after the updates.
    """

    rows: tuple[LedgerRow, ...]
    start: float
    end: float

    @property
    def change(self) -> float:
        """The change of the loss, which is the sum of what the rows deliver."""
        return self.end - self.start

    @property
    def promised(self) -> float:
        """The change that the gradient promises."""
        return sum(row.promised for row in self.rows)

    @property
    def layers(self) -> tuple[LedgerRow, ...]:
        """A row for each layer: the parameters whose names agree up to the last dot."""
        found: dict[str, LedgerRow] = {}
        for row in self.rows:
            name = row.name.rpartition(".")[0] or row.name
            known = found.get(name, LedgerRow(name, 0, 0.0, 0.0))
            size, promised = known.size + row.size, known.promised + row.promised
            found[name] = LedgerRow(name, size, promised, known.delivered + row.delivered)
        return tuple(found.values())

    def __str__(self) -> str:
        width = max(len(row.name) for row in (*self.rows, self._total))
        lines = [f"{'parameter':{max(width, 9)}}  {'promised':>11}  {'delivered':>11}"]
        for row in (*self.rows, self._total):
            lines.append(f"{row.name:{max(width, 9)}}  {row.promised:11.4g}  {row.delivered:11.4g}")
        return "\n".join(lines)

    def to_html(self) -> str:
        """Return a table and its bar chart, which load nothing from the network."""
        head = "<tr><th>parameter</th><th>promised</th><th>delivered</th></tr>"
        body = "".join(
            f"<tr><td>{html.escape(row.name)}</td><td>{row.promised:.4g}</td>"
            f"<td>{row.delivered:.4g}</td></tr>"
            for row in (*self.rows, self._total)
        )
        return f"<div><table>{head}{body}</table>{_bars(self.rows)}</div>"

    _repr_html_ = to_html

    @property
    def _total(self) -> LedgerRow:
        delivered = sum(row.delivered for row in self.rows)
        return LedgerRow("total", sum(row.size for row in self.rows), self.promised, delivered)


def loss_ledger(
    loss: Tensor,
    updates: Mapping[Tensor, ArrayLike],
    names: Iterable[tuple[str, Tensor]] | None = None,
) -> LossLedger:
    """Return how much each parameter's update promises to change the loss, and how much it does.

    The gradient g promises ⟨g, Δ⟩, to first order. The average gradient ĝ delivers ⟨ĝ, Δ⟩, and the
    sum over all parameters is the change of the loss, exactly up to rounding. So the rows in which
    the two differ tell which updates are too large for the gradient. Neither the values of the
    parameters nor their gradients change, and the graph stays.

    Args:
        loss: A Tensor of a single element.
        updates: The update of each leaf that moves, of the leaf's shape, as `average_backward`
            takes it.
        names: The leaves' names, such as `model.named_parameters()`; by default "updates[0]" and so
            on.

    Raises:
        ValueError: There are no updates; and as for `Tensor.average_backward`.
        TypeError, AverageUndefinedError, ChoiceChangedError, DeviceError: As for
            `Tensor.average_backward`.
        NonFiniteError: The loss at the end of the updates is NaN or infinite.

    Example:
        >>> import agrad as ag
        >>> w1 = ag.tensor(1.0, requires_grad=True)
        >>> w2 = ag.tensor(2.0, requires_grad=True)
        >>> ledger = ag.loss_ledger(w1 * w1 * w2, {w1: 1.0, w2: -1.0}, [("w1", w1), ("w2", w2)])
        >>> print(ledger)
        parameter     promised    delivered
        w1                   4          4.5
        w2                  -1         -2.5
        total                3            2
        >>> ledger.change
        2.0
    """
    if not updates:
        raise ValueError("loss_ledger: updates is empty; there is nothing to account for")
    end, averages = averages_along(loss, updates, retain_graph=True)
    leaves = list(updates)
    slopes = grad(loss, leaves, retain_graph=True)
    known = {leaf: name for name, leaf in names or ()}
    rows = []
    for i, (leaf, slope) in enumerate(zip(leaves, slopes)):
        update = beside("loss_ledger", f"updates[{i}]", plain(updates[leaf]), leaf.data, leaf.dtype)
        average = averages.get(leaf, np.zeros_like(slope.data))
        products = [_inner(slope.data, update), _inner(average, update)]
        rows.append(LedgerRow(known.get(leaf, f"updates[{i}]"), leaf.size, *products))
    return LossLedger(tuple(rows), float(loss.item()), float(end))


def _inner(x: Array, y: Array) -> float:
    return float((x.astype(np.float64) * y).sum())


_HEIGHT, _LETTER, _BARS = 26, 7, 250  # pixels of a row, of a letter, and of the longest bars


def _bars(rows: Sequence[LedgerRow]) -> str:
    """Return a bar chart as SVG: for each row what was promised, above what was delivered."""
    values = [value for row in rows for value in (row.promised, row.delivered)]
    low, high = min(0.0, *values), max(0.0, *values)
    scale = _BARS / ((high - low) or 1.0)
    labels = _LETTER * max(len(row.name) for row in rows) + 8
    width = labels + _BARS

    def bar(value: float, top: float, colour: str) -> str:
        left = labels + scale * (min(value, 0.0) - low)
        return (
            f'<rect x="{left:.1f}" y="{top}" width="{scale * abs(value):.1f}" height="9" '
            f'fill="{colour}"/>'
        )

    parts: list[Any] = []
    for i, row in enumerate(rows):
        top = _HEIGHT * i + 3
        parts.append(
            f'<text x="{labels - 8}" y="{top + 13}" text-anchor="end" fill="currentColor">'
            f"{html.escape(row.name)}</text>"
        )
        parts += [bar(row.promised, top, "#999999"), bar(row.delivered, top + 10, "#2277cc")]
    zero = labels - scale * low
    height = _HEIGHT * len(rows)
    parts.append(
        f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{height}" stroke="currentColor"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" style="max-width: 100%" font-size="12" role="img">'
        "<title>promised (grey) and delivered (blue)</title>" + "".join(parts) + "</svg>"
    )
