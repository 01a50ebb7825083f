"""The figures of the reports."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from agrad.serialization import atomic_write
from agrad.study.measures import WINDOW, Losses, window_means

__all__ = ["STYLES", "Style", "loss_figure", "png", "save_figure"]


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(max(6.4, 4.8 * len(panels)), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    longest = max(len(losses) for curves in panels.values() for losses in curves.values())
    window = min(WINDOW, max(1, longest // 8))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items()):
        for name, losses in curves.items():
            style = STYLES.get(name, Style(name, "#0072b2"))
            means = window_means(losses, window)
            first = len(losses) - len(means) + 1
            axis.plot(
                range(first, len(losses) + 1),
                means,
                style.dashes,
                label=style.label,
                color=style.colour,
                linewidth=2,
            )
        axis.set(title=title, xlabel="iterations", yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"training loss, mean of {window} iterations")
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3 if len(panels) > 1 else 2
        )
    return figure


def png(figure: Any) -> bytes:
    """Return the figure as PNG."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write the figure as PNG, atomically."""
    with atomic_write(path) as file:
        file.write(png(figure))
