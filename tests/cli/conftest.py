"""Figures of the commands: tests look at few of them, so each kind is drawn once."""

from typing import Any

import pytest

from agrad.study import figures

_draw = figures.png
_drawn: dict[int, bytes] = {}


@pytest.fixture(autouse=True)
def each_kind_of_figure_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the first figure of each number of panels in place of all figures with that number."""

    def png(figure: Any) -> bytes:
        panels = len(figure.axes)
        if panels not in _drawn:
            _drawn[panels] = _draw(figure)
        return _drawn[panels]

    monkeypatch.setattr(figures, "png", png)
