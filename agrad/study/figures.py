"""Figures of the reports."""

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from agrad.serialization import atomic_write
from agrad.study.measures import WINDOW

__all__ = ["STYLES", "loss_figure", "save_figure", "smoothed"]

STYLES: dict[str, tuple[str, str]] = {
    "rmsprop": ("RMSprop", "#8c8c8c"),
    "adam": ("Adam", "#4477aa"),
    "average-rmsprop": ("average gradient on RMSprop", "#ee9944"),
    "average-adam": ("average gradient on Adam", "#cc3311"),
    "average-adam-auto": ("average gradient on Adam, automatic rate", "#228833"),
}
"""Label and colour of each method, the same in every figure."""


def smoothed(losses: Sequence[float], window: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """Return the iterations at which a whole window ends, and the mean loss over each window."""
    window = min(window, len(losses))
    means = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    return np.arange(window, len(losses) + 1), means


def loss_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str) -> Any:
    """Return a Matplotlib figure of training losses: for each panel's title its curves by label.

    A label that is one of `STYLES` is drawn in that method's colour.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items()):
        for method, losses in curves.items():
            label, colour = STYLES.get(method, (method, None))
            axis.plot(*smoothed(losses), label=label, color=colour)
        axis.set(title=title, xlabel="iterations", yscale="log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    axes[0].set_ylabel(ylabel)
    return figure


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write the figure as PNG, atomically."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(content.getvalue())
