"""The figures of the reports."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from agrad.serialization import atomic_write
from agrad.study.measures import WINDOW, Losses, window_means

__all__ = ["STYLES", "Style", "loss_figure", "png", "run_figure", "save_figure"]


@dataclass(frozen=True)
class Style:
    """The label of a method, and the style of its curve."""

    label: str
    colour: str
    dashes: str = "-"


# The palette of M. Okabe and K. Ito, which colour-blind readers can tell apart. Dashed curves are
# methods without the average gradient.
STYLES = {
    "rmsprop": Style("RMSprop", "#7f7f7f", "--"),
    "adam": Style("Adam", "#0072b2", "--"),
    "average-rmsprop": Style("RMSprop + average gradient", "#e69f00"),
    "average-adam": Style("Adam + average gradient", "#d55e00"),
    "average-adam-auto": Style("Adam + average gradient, auto rate", "#009e73"),
    "ablation-substituted": Style("RMSprop of the average gradient", "#cc79a7"),
    "ablation-scaled": Style("average gradient over the gradient's RMS", "#56b4e9"),
}
"""The style of each method, the same in every table and figure."""


def loss_figure(panels: Mapping[str, Mapping[str, Losses]]) -> Any:
    """Return a Matplotlib figure of moving averages of training losses over the iterations.

    Args:
        panels: The curves of each panel by its title, each a dict of losses by name. Names in
            `STYLES` are drawn in that style. All panels have the same names.
    """
    figure = _figure(max(6.4, 4.8 * len(panels)), 4.2)
    longest = max(len(losses) for curves in panels.values() for losses in curves.values())
    window = _window(longest)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items()):
        for name, losses in curves.items():
            _draw(axis, losses, window, STYLES.get(name, Style(name, "#0072b2")))
        axis.set(title=title, xlabel="iterations")
        _logarithmic(axis)
    axes[0].set_ylabel(f"training loss, mean of {window} iterations")
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3 if len(panels) > 1 else 2
        )
    return figure


def run_figure(title: str, losses: Losses, rates: Losses, fractions: Losses) -> Any:
    """Return a Matplotlib figure of one training: moving averages over the iterations.

    Args:
        title: the title.
        losses: the loss of each iteration.
        rates: its learning rate.
        fractions: the share of its update that it used; NaN where none was measured. The figure has
            no panel for them if none was.
    """
    panels = {"training loss": losses, "learning rate": rates, "share of the update": fractions}
    if all(map(math.isnan, fractions)):
        del panels["share of the update"]
    figure = _figure(6.4, 1.6 + 1.8 * len(panels))
    window = _window(len(losses))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (label, values) in zip(axes, panels.items()):
        _draw(axis, values, window, Style(label, "#0072b2"))
        axis.set_ylabel(label)
        if values is fractions:
            axis.set_ylim(0, 1)
            axis.grid(alpha=0.3)
        else:
            _logarithmic(axis)
    axes[0].set_title(title)
    axes[-1].set_xlabel(f"iterations, mean of {window}")
    return figure


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _window(iterations: int) -> int:
    return min(WINDOW, max(1, iterations // 8))


def _draw(axis: Any, values: Losses, window: int, style: Style) -> None:
    means = window_means(values, window)
    axis.plot(
        range(len(values) - len(means) + 1, len(values) + 1),
        means,
        style.dashes,
        label=style.label,
        color=style.colour,
        linewidth=2,
    )


def _logarithmic(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axis.dataLim.intervaly
    if 0 < low <= high < low * (1 + 1e-6):  # equal up to rounding, which is no range of an axis
        axis.set_ylim(low / 2, high * 2)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3)


def png(figure: Any) -> bytes:
    """Return the figure as PNG."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write the figure as PNG, atomically."""
    with atomic_write(path) as file:
        file.write(png(figure))
