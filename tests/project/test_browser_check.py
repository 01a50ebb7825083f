"""The check of pages in a browser: the faults that it reports, and what the browser finds."""

import shutil
from pathlib import Path

import pytest
from browser_check import VIEWS, faults, open_page

WHOLE = {"overflow": 0, "raw": [], "cut": [], "errors": 0, "contrast": 0.9}


def test_a_whole_page_has_no_faults() -> None:
    assert faults(WHOLE) == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({"overflow": 12}, "scrolls sideways by 12 pixels"),
        ({"raw": [r"\frac", "$x$"]}, r"shows TeX: \frac"),
        ({"cut": ["a long one"]}, "cuts off a formula in: a long one"),
        ({"errors": 2}, "has 2 formulas with errors"),
        ({"contrast": 0.2}, "has ink and paper 0.20 apart"),
    ],
)
def test_faults_are_named(found: dict, fault: str) -> None:
    assert faults(WHOLE | found) == [fault]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_the_browser_sees_them(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<body style='margin: 0'><p>of $x_1$ and <code>$y$</code></p>"
        "<div style='width: 900px'>wide &amp; \\frac12</div>",
        encoding="utf-8",
    )
    found = dict(zip(VIEWS, open_page(page, tmp_path), strict=True))
    assert found[380, "light"]["overflow"] == 520
    assert found[1280, "dark"]["overflow"] == 0
    assert all(view["raw"] == ["$x_1$", r"\frac"] for view in found.values())
