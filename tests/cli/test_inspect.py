"""`agrad inspect`: the ledgers of a training, and of the checkpoints of a run."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.checkpoint import Checkpoints
from agrad.train import train_step

pytest.importorskip("click")

from command_line import fail, invoke, lines, one_line

from agrad.cli.inspect import ledgers_of_run, measured_step
from agrad.cli.ledger_page import ledger_page
from agrad.cli.output import single_threaded
from agrad.core.ledger import LedgerRow, LossLedger

SVG = "{http://www.w3.org/2000/svg}"
TINY = ("--depth", "1", "--width", "8", "--iterations", "4")


def problem() -> tuple[nn.Module, optim.Optimizer, Any, Any]:
    ag.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.05))
    rng = np.random.default_rng(0)
    return model, optimizer, rng.normal(size=(9, 3)).astype("f4"), rng.integers(2, size=9)


def test_a_measured_step_is_the_step_itself() -> None:
    measured, plain = problem(), problem()
    for _ in range(3):
        before = {name: array.copy() for name, array in plain[0].state_dict().items()}
        loss = train_step(*plain)
        ledger = measured_step(*measured[:2], F.cross_entropy, *measured[2:])
        after = plain[0].state_dict()
        assert ledger.start == loss
        end = F.cross_entropy(plain[0](plain[2]), plain[3]).item()
        assert ledger.end == pytest.approx(end, abs=1e-6)  # of start + (end - start) in float32
        for name, array in measured[0].state_dict().items():
            assert (array == after[name]).all()
            assert (array != before[name]).any()
        assert sum(row.delivered for row in ledger.rows) == pytest.approx(ledger.change, abs=1e-6)
        assert [row.name for row in ledger.layers] == ["0 Linear", "2 Linear"]


def ledger(promised: tuple[float, float], delivered: tuple[float, float]) -> LossLedger:
    rows = zip(("1 <Linear>.weight", "3 Linear.weight"), promised, delivered)
    return LossLedger(tuple(LedgerRow(n, 6, p, d) for n, p, d in rows), 1.0, 1.0 + sum(delivered))


def parsed(page: str) -> list[ElementTree.Element]:
    """The charts of a page."""
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_the_page_shows_the_numbers() -> None:
    steps = {1: ledger((-4.0, -1.0), (-1.0, -2.0)), 6: ledger((-2.0, -1.0), (-2.0, 0.5))}
    page = ledger_page("a & b", "two steps", steps)
    assert "promised -8 together and delivered -4.5" in page
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", page)
    assert [row.split("</td><td>") for row in rows] == [
        ["1 &lt;Linear&gt;", "-6", "-3", "50%"],
        ["3 Linear", "-2", "-1.5", "75%"],
    ]
    loss, changes, cells = parsed(page)
    heights = [float(dot.attrib["cy"]) for dot in changes.iter(SVG + "circle")]
    # Promised -5 and -3, delivered -3 and -1.5, on an axis from -5 to 0.
    np.testing.assert_allclose(heights, 24 + np.array([5, 3, 3, 1.5]) / 5 * 174, atol=0.06)
    across = [float(dot.attrib["cx"]) for dot in loss.iter(SVG + "circle")]
    assert across == [58.0, 392.0]
    shades = [(r.attrib["fill"], float(r.attrib["fill-opacity"])) for r in cells.iter(SVG + "rect")]
    red, blue = "var(--red)", "var(--blue)"
    assert shades == [(red, 1.0), (blue, 0.333), (blue, 0.0), (red, 0.5)]
    for scheme in ("color-scheme: light dark", "prefers-color-scheme: dark"):
        assert scheme in page
    assert re.findall(r"(?:src|href)=", page) == []


def test_nothing_moved() -> None:
    page = ledger_page("still", "one step", {1: ledger((0.0, 0.0), (0.0, 0.0))})
    assert "–" in page
    assert len(parsed(page)) == 3


def test_the_command_trains_and_writes_one_page(tmp_path: Path) -> None:
    out = tmp_path / "pages" / "ledger.html"
    result = invoke("inspect", *TINY, "--every", "2", "--lr", "0.01", "--average", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"Ledger of 2 steps: {out}\n")
    page = out.read_text(encoding="utf-8")
    title = "Ledger of digits, dense tanh 1x8, adam with average gradients, lr 0.01"
    assert f"<title>{title}</title>" in page
    assert "iteration 1" in page
    assert len(parsed(page)) == 3
    assert list(tmp_path.rglob("*.*")) == [out]


def test_a_run_has_the_ledger_of_the_step_after_each_checkpoint(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "ledger.html"
    options = ("--checkpoint-every", "2", "--keep", "9", "--validation", "0.2")
    options += ("--batch-size", "256")  # four batches
    assert invoke("train", *TINY, *options, "--out", run).exit_code == 0
    before = {path: path.read_bytes() for path in run.rglob("*.*")}
    with single_threaded():
        settings, ledgers = ledgers_of_run(run)
    assert settings["depth"] == 1
    assert list(ledgers) == [1, 3, 5]
    losses = [json.loads(line).get("loss") for line in lines(run / "metrics.jsonl")]
    assert [ledgers[i].start for i in (1, 3)] == [losses[0], losses[2]]
    result = invoke("inspect", run, "--out", out)
    assert result.exit_code == 0, result.output
    assert "each checkpoint of the run run" in out.read_text(encoding="utf-8")
    assert {path: path.read_bytes() for path in run.rglob("*.*")} == before

    wrong = invoke("inspect", run, "--lr", "0.1", "--out", out)
    assert wrong.exit_code == 2
    assert "--lr cannot be combined with RUN" in wrong.output


def test_a_run_is_inspected_while_it_goes_on_and_no_file_is_made_there(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "ledger.html"
    assert invoke("train", *TINY, "--out", run).exit_code == 0
    with Checkpoints(run / "checkpoints"):
        result = invoke("inspect", run, "--out", out)
        assert result.exit_code == 0, (result.output, result.exception)
    (run / "checkpoints" / ".lock").unlink()
    before = sorted(run.rglob("*"))
    assert invoke("inspect", run, "--out", out).exit_code == 0
    assert sorted(run.rglob("*")) == before


def test_folders_without_a_run(tmp_path: Path) -> None:
    out = tmp_path / "ledger.html"
    assert one_line(fail("inspect", tmp_path, "--out", out), "holds no run")
    (tmp_path / "checkpoints").mkdir()
    assert one_line(fail("inspect", tmp_path, "--out", out), "holds no checkpoints")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(0, {"model": nn.Linear(1, 1)})
    assert one_line(fail("inspect", tmp_path, "--out", out), "not saved by agrad train")
    assert not out.exists()
