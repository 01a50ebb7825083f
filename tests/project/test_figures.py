"""The figures of the documentation are those that their script makes."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_tree import ROOT

FOLDER = ROOT / "docs" / "figures"
NUMBER = re.compile(r"-?\d+\.\d")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    figures: dict[str, Any] = runpy.run_path(str(FOLDER / "make.py"))["FIGURES"]
    return figures


def test_every_figure_is_drawn_and_shown(drawn: dict[str, Any]) -> None:
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")]
    shown = [name for page in pages for name in re.findall(r"\(figures/(\w+)\.svg\)", page)]
    files = sorted(path.stem for path in FOLDER.glob("*.svg"))
    assert files == sorted(drawn) == sorted(shown)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.svg")), ids=lambda path: path.stem)
def test_the_files_are_what_the_script_draws(path: Path, drawn: dict[str, Any]) -> None:
    """Up to two of 320 pixels: the digits of float32 depend on the processor."""
    kept, made = path.read_text(encoding="utf-8"), drawn[path.stem]().svg()
    assert NUMBER.sub("", kept) == NUMBER.sub("", made)
    places = [[float(number) for number in NUMBER.findall(text)] for text in (kept, made)]
    np.testing.assert_allclose(*places, atol=2)


def test_the_numbers_of_the_figures(drawn: dict[str, Any]) -> None:
    """The points that an optimizer chose lie where the page says."""
    make = runpy.run_path(str(FOLDER / "make.py"))
    losses = {}
    hessian = np.array([[1.0, 0.93], [0.93, 2.2]])
    canvas, points = make["landscape"](
        "",
        hessian,
        (0.2, -0.1),
        lambda x: make["optim"].RMSprop([x], lr=1.0, alpha=0.0),
        ((-1, 1),) * 2,
    )
    for name, point in {"start": (0.2, -0.1), **points}.items():
        losses[name] = 0.5 * np.array(point) @ hessian @ np.array(point)
    assert losses["model"] < losses["start"] < losses["element"]
    assert points["end"] == pytest.approx((-0.8, 0.9), abs=1e-6)
    assert canvas.place((-1.0, -1.0)) == (make["MARGIN"], make["HEIGHT"] - make["MARGIN"])
