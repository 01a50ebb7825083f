"""The history's text, table and plot."""

import numpy as np
import pytest

from agrad.train import History


def example() -> History:
    epochs = {
        "loss": [2.0, 1.0],
        "rate": [0.1, 0.1],
        "fraction": [np.nan, np.nan],
        "seconds": [1.0, 1.0],
        "validation_loss": [3.0, 2.5],
        "validation_matrix": np.zeros((2, 3, 3)),
    }
    return History(epochs, {"loss": [2.0, 2.0, 1.0, 1.0]}, best_epoch=2)


def test_a_table_of_the_numbers() -> None:
    table = example()._repr_html_()
    assert table.count("<tr") == 3
    assert "<th>validation_loss</th>" in table
    assert "matrix" not in table
    assert table.index("font-weight") > table.index("<td>1</td>")  # the best is the second


def test_a_plot_has_a_panel_for_each_kind() -> None:
    pytest.importorskip("matplotlib")
    figure = example().plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "rate"]
    curves = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines[:2]}
    assert curves == {"training": [2.0, 1.0], "validation": [3.0, 2.5]}
    image = example()._repr_png_()
    assert image is not None
    assert image.startswith(b"\x89PNG")
    assert History({}, {})._repr_png_() is None
