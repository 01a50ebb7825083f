"""The ledger of a loss: what each update promised, and what it delivered."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.errors import NonFiniteError

SVG = "{http://www.w3.org/2000/svg}"


def network() -> tuple[nn.Module, ag.Tensor, dict[ag.Tensor, Any]]:
    ag.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to("float64")
    rng = np.random.default_rng(0)
    loss = F.cross_entropy(model(rng.normal(size=(6, 3))), rng.integers(2, size=6))
    return model, loss, {p: 0.3 * rng.normal(size=p.shape) for p in model.parameters()}


def test_the_rows_are_the_products_with_both_gradients() -> None:
    model, loss, updates = network()
    ledger = ag.loss_ledger(loss, updates, model.named_parameters())
    assert all(p.grad is None and p.average_grad is None for p in updates)
    loss.backward(retain_graph=True)  # the graph stays
    end = loss.average_backward(updates)
    assert [row.name for row in ledger.rows] == [name for name, _ in model.named_parameters()]
    for row, (p, update) in zip(ledger.rows, updates.items(), strict=True):
        assert row.size == p.size
        assert row.promised == pytest.approx(np.vdot(p.grad, update), rel=1e-12)
        assert row.delivered == pytest.approx(np.vdot(p.average_grad, update), rel=1e-12)
    assert (ledger.start, ledger.end) == (loss.item(), float(end))
    assert ledger.change == float(end) - loss.item()
    assert sum(row.delivered for row in ledger.rows) == pytest.approx(ledger.change, rel=1e-11)
    assert ledger.promised == sum(row.promised for row in ledger.rows)


def test_layers_sum_their_parameters() -> None:
    model, loss, updates = network()
    ledger = ag.loss_ledger(loss, updates, model.named_parameters())
    assert [layer.name for layer in ledger.layers] == ["0", "2"]
    assert [layer.size for layer in ledger.layers] == [16, 10]
    for layer, first in zip(ledger.layers, (0, 2)):
        pair = ledger.rows[first : first + 2]
        assert layer.promised == sum(row.promised for row in pair)
        assert layer.delivered == sum(row.delivered for row in pair)
    unnamed = ag.loss_ledger(loss, updates)
    assert [row.name for row in unnamed.layers] == [f"updates[{i}]" for i in range(4)]


def test_it_is_printed_and_drawn() -> None:
    _, loss, updates = network()
    names = [("<a> & b", next(iter(updates)))]
    ledger = ag.loss_ledger(loss, updates, names)
    lines = str(ledger).splitlines()
    assert len(lines) == 6
    assert float(lines[-1].split()[-1]) == pytest.approx(ledger.change, rel=1e-3)
    tree = ElementTree.fromstring(ledger.to_html())  # escaped, or it would not be well-formed
    cells = [cell.text for cell in tree.iter("td")]
    assert cells[0] == "<a> & b"
    assert cells[-1] == f"{ledger.change:.4g}"
    bars = [rect.attrib for rect in tree.iter(SVG + "rect")]
    values = [value for row in ledger.rows for value in (row.promised, row.delivered)]
    widths = np.array([float(bar["width"]) for bar in bars])
    np.testing.assert_allclose(
        widths / widths.max(), np.abs(values) / np.abs(values).max(), atol=1e-3
    )
    (line,) = tree.iter(SVG + "line")
    for bar, value in zip(bars, values, strict=True):
        side = float(bar["x"]) + float(bar["width"]) / 2 - float(line.attrib["x1"])
        assert np.sign(round(side, 1)) in (0, np.sign(value))
    assert 'width="0.0"' in ag.loss_ledger(loss, {p: 0 * u for p, u in updates.items()}).to_html()


def test_errors() -> None:
    _, loss, updates = network()
    first, other = next(iter(updates)), ag.tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="loss_ledger: updates is empty"):
        ag.loss_ledger(loss, {})
    with pytest.raises(ValueError, match="not in the graph"):
        ag.loss_ledger(loss, {other: 1.0})
    with pytest.raises(ValueError, match="update 0 has shape"):
        ag.loss_ledger(loss, {first: np.zeros(7)})
    with pytest.raises(NonFiniteError):
        ag.loss_ledger(loss, {first: np.full(first.shape, np.nan)})
    loss.backward()
