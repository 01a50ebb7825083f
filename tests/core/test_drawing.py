"""Drawings of recorded graphs."""

import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import agrad as ag
from agrad.core.drawing import Drawing
from agrad.errors import FreedGraphError


def edges(drawing: Drawing) -> list[tuple[str, str]]:
    """Return the edges between labels, sorted."""
    labels = dict(re.findall(r'(n\d+) \[label="((?:[^"\\]|\\.)*)"', drawing.dot))
    pairs = re.findall(r"(n\d+) -> (n\d+);", drawing.dot)
    return sorted((labels[source], labels[end]) for source, end in pairs)


def loss_and_leaves() -> tuple[ag.Tensor, list[tuple[str, ag.Tensor]]]:
    w = ag.tensor(np.ones((3, 4)), requires_grad=True)
    b = ag.tensor(np.ones(4), requires_grad=True)
    hidden = np.tanh(np.ones((2, 3)) @ w)
    return (hidden * hidden - b).sum(), [("w", w), ("b", b)]


def test_edges_lead_from_inputs_to_operations() -> None:
    loss, names = loss_and_leaves()
    expected = [
        (r"Matmul\n(2, 4)", r"Tanh\n(2, 4)"),
        (r"Multiply\n(2, 4)", r"Subtract\n(2, 4)"),
        (r"Subtract\n(2, 4)", r"Sum\n()"),
        (r"Tanh\n(2, 4)", r"Multiply\n(2, 4)"),
        (r"Tanh\n(2, 4)", r"Multiply\n(2, 4)"),
        (r"b\n(4,)", r"Subtract\n(2, 4)"),
        (r"constant\n(2, 3)", r"Matmul\n(2, 4)"),
        (r"w\n(3, 4)", r"Matmul\n(2, 4)"),
    ]
    assert edges(loss.draw(names)) == expected
    unnamed = edges(loss.draw())
    assert (r"leaf\n(3, 4)", r"Matmul\n(2, 4)") in unnamed
    loss.backward()  # the graph stays


def test_a_leaf_that_is_used_twice_is_drawn_once() -> None:
    w = ag.tensor(2.0, requires_grad=True)
    drawing = (w * w * 3.0).draw([('"w" \\', w)])
    assert drawing.dot.count("leaf") == 0
    assert drawing.dot.count("ellipse") == 2
    assert edges(drawing).count((r"\"w\" \\\n()", r"Multiply\n()")) == 2
    assert str(drawing) == repr(drawing) == drawing.dot


def test_leaves_show_the_gradients_that_they_have() -> None:
    w = ag.tensor(2.0, requires_grad=True)
    v = ag.tensor(np.array([3.0, 4.0]), requires_grad=True)
    loss = (w * v).sum()
    loss.average_backward({w: 2.0, v: [0.0, 0.0]}, retain_graph=True)
    assert r'"w\n()\nĝ = 7"' in loss.draw([("w", w)]).dot
    assert r'"leaf\n(2,)\n‖ĝ‖ = 4.24"' in loss.draw().dot
    loss.backward(retain_graph=True)
    assert r'"w\n()\ng = 7, ĝ = 7"' in loss.draw([("w", w)]).dot
    assert r'"leaf\n(2,)\n‖g‖ = 2.83, ‖ĝ‖ = 4.24"' in loss.draw().dot
    assert r'"Sum\n()"' in loss.draw().dot


def test_with_updates_nodes_show_their_ends_and_their_share() -> None:
    """The table of docs/tiny.md: y = w₂w₁², from (1, 1) to (2, 3)."""
    w1, w2 = (ag.tensor(1.0, requires_grad=True) for _ in range(2))
    y = w1 * w1 * w2
    y.backward(retain_graph=True)
    dot = y.draw([("w1", w1), ("w2", w2)], {w1: 1.0, w2: 2.0}).dot
    labels = [label.split(r"\n")[2:] for label in re.findall(r'\[label="(.*?)"', dot)]
    assert labels == [
        ["1 → 2, λ = 6, λδ = 6", "g = 2"],
        ["1 → 4, λ = 2, λδ = 6"],
        ["1 → 3, λ = 2.5, λδ = 5", "g = 1"],
        ["1 → 12, λ = 1, λδ = 11"],
    ]
    assert w1.average_grad is None
    assert w1.item() == 1.0
    y.backward()  # the graph stays


def test_the_leaves_shares_sum_to_the_change() -> None:
    loss, names = loss_and_leaves()
    updates = {leaf: np.linspace(-1, 1, leaf.size).reshape(leaf.shape) for _, leaf in names}
    ledger = ag.loss_ledger(loss, updates, names)
    drawing = loss.draw(names, updates)
    shares = {
        label.split(r"\n")[0]: float(label.rpartition("= ")[2])
        for label in re.findall(r'\[label="(.*?)"', drawing.dot)
        if "λ" in label
    }
    assert shares["w"] == pytest.approx(ledger.rows[0].delivered, rel=5e-3)
    assert shares["b"] == pytest.approx(ledger.rows[1].delivered, rel=5e-3)
    assert shares["Sum"] == pytest.approx(ledger.change, rel=5e-3)
    assert shares["Tanh"] == pytest.approx(shares["w"])  # all of it goes through tanh
    assert r"constant\n(2, 3)" in [label for label, _ in edges(drawing)]


def test_a_node_whose_gradient_vanishes_has_no_share() -> None:
    """An element that max pooling does not choose, and its nodes, get no λ or zeros."""
    w = ag.tensor([1.0, 5.0], requires_grad=True)
    first, second = np.tanh(w[:1]), w[1:]
    dot = np.maximum(first, second).sum().draw([("w", w)], {w: [0.5, 0.5]}).dot
    assert r"Tanh\n(1,)\n0.762 → 0.905, λ = 0, λδ = 0" in dot


def test_errors() -> None:
    loss, names = loss_and_leaves()
    with pytest.raises(ValueError, match=r"draw: .* reduce it with sum\(\) or mean\(\)"):
        np.exp(names[0][1]).draw(names, {names[0][1]: np.zeros((3, 4))})
    with pytest.raises(ValueError, match=r"update 0 has shape \(4,\), its tensor \(3, 4\)"):
        loss.draw(names, {names[0][1]: np.zeros(4)})
    with pytest.raises(ValueError, match=r"draw: the tensor, of shape \(4,\), is a leaf"):
        names[1][1].draw()
    with pytest.raises(ValueError, match="draw: the tensor depends on no tensor"):
        ag.tensor(1.0).draw()
    loss.backward()
    with pytest.raises(FreedGraphError):
        loss.draw()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Install a command `dot` that runs a Python program."""
    folder.joinpath("dot").write_text(f"#!{sys.executable}\n{program}\n", encoding="utf-8")
    folder.joinpath("dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_graphviz_is_given_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, _ = loss_and_leaves()
    drawing = loss.draw()
    install(tmp_path, monkeypatch, "import sys; print(sys.argv[1:], sys.stdin.read(), 'λ')")
    monkeypatch.setenv("PYTHONUTF8", "1")
    assert drawing.to_svg() == f"['-Tsvg'] {drawing.dot} λ\n"
    assert drawing._repr_svg_() == drawing.to_svg()
    install(tmp_path, monkeypatch, "raise SystemExit('syntax error in line 3')")
    with pytest.raises(RuntimeError, match="to_svg: dot failed: syntax error in line 3"):
        drawing.to_svg()


def test_without_graphviz_notebooks_show_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, _ = loss_and_leaves()
    monkeypatch.setenv("PATH", "")
    assert loss.draw()._repr_svg_() is None
    with pytest.raises(FileNotFoundError, match="to_svg: Graphviz' command dot is not installed"):
        loss.draw().to_svg()


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_every_node() -> None:
    loss, names = loss_and_leaves()
    tree = ElementTree.fromstring(loss.draw(names).to_svg())
    groups = [g.get("class") for g in tree.iter("{http://www.w3.org/2000/svg}g")]
    assert (groups.count("node"), groups.count("edge")) == (8, 8)
