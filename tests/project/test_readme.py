"""The README's Python code runs unchanged, and its times are those of their file."""

import json
import math
import re
from statistics import median

import pytest
from source_tree import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_examples() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    session: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), session)
    assert session["loss"].item() < 2.5  # type: ignore[attr-defined]
    assert session["optimizer"].fraction is not None  # type: ignore[attr-defined]


def test_files_exist() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("row", "over"),
    [
        (
            "seconds to Adam's final loss: automatic rate over Adam at the best of five rates",
            "Adam",
        ),
        ("the same over Adam's five trainings", "search of Adam"),
    ],
)
def test_the_times_of_the_automatic_rate(row: str, over: str) -> None:
    file = ROOT / "results" / "speed" / "automatic-time" / "results.json"
    figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
    cells = []
    for network in ("tanh 128", "relu 128"):
        ratios = figures[network]["auto 1.0"]["over"][over]
        ratios = [math.inf if ratio is None else ratio for ratio in ratios]
        ends = (f"{value:.2f}" for value in (median(ratios), min(ratios), max(ratios)))
        cells.append("{} ({} to {})".format(*ends).replace("inf", "∞"))
    assert f"| {row} ² | {' | '.join(cells)} |" in README
