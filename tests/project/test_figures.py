"""The figures of the documentation agree with their script."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
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
    """Up to two of 320 pixels may differ: the last digits of float32 depend on the processor."""
    kept, made = path.read_text(encoding="utf-8"), drawn[path.stem]().svg()
    assert NUMBER.sub("", kept) == NUMBER.sub("", made)
    places = [[float(number) for number in NUMBER.findall(text)] for text in (kept, made)]
    np.testing.assert_allclose(*places, atol=2)


def test_the_numbers_of_the_figures(drawn: dict[str, Any]) -> None:
    """The points that an optimizer reaches are where the page says."""
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


@pytest.fixture(scope="module")
def mnist() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "mnist.py"))


def test_attributions_are_drawn_red_and_blue(mnist: dict[str, Any]) -> None:
    images = np.array([[[[0.0, 0.5]]], [[[1.0, 0.0]]]])
    drawn = mnist["picture"](images, {"some": np.array([[[[-2.0, 1.0]]], [[[0.0, 0.0]]]])})
    assert drawn.shape == (2 * mnist["SCALE"], 4 * mnist["SCALE"], 4)
    pixels = drawn[:: mnist["SCALE"], :: mnist["SCALE"]].tolist()
    assert pixels[0] == [[*mnist["INK"], alpha] for alpha in (0, 255, 255, 0)]
    red, blue = mnist["RED"], mnist["BLUE"]
    assert pixels[1] == [[*blue, 255], [*red, 128], [*red, 0], [*red, 0]]


def test_the_attributions_of_a_network_are_complete(mnist: dict[str, Any]) -> None:
    images, labels = mnist["ag"].data.digits("train")
    images = images[:4, np.newaxis].repeat(4, axis=2).repeat(4, axis=3)[..., :28, :28]
    model = mnist["nn"].Sequential(mnist["nn"].Flatten(), mnist["nn"].Linear(784, 10))
    change = mnist["changes"](model, images, labels[:4])
    for found in mnist["attributions"](model, images, labels[:4]).values():
        np.testing.assert_allclose(found.sum((1, 2, 3)), change, atol=1e-5)


def test_the_numbers_on_the_page_are_those_of_the_file(mnist: dict[str, Any]) -> None:
    found = json.loads(mnist["RESULTS"].read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "attribution.md").read_text(encoding="utf-8")
    text = " ".join(page.partition("### MNIST")[2].partition("## Two methods")[0].split())
    for words in (
        f"knows {found['accuracy']:.0%}",
        f"changes by {found['mean change']:.2f} on average",
        f"by {found['factorized']['largest gap']:.0e} at most".replace("e-0", "e-"),
        f"by {found['gradient times input']['mean gap']:.2f} on average",
    ):
        assert words in text
    assert imread(FOLDER / "mnist.png").shape == (4 * 28 * 2, 10 * 28 * 2, 4)
