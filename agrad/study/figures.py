"""The figures of the reports."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from agrad.serialization import atomic_write
from agrad.study.measures import WINDOW, Losses, window_means
from agrad.study.statistics import Finding

__all__ = [
    "STYLES",
    "Style",
    "curve_figure",
    "finding_figure",
    "loss_figure",
    "png",
    "run_figure",
    "save_figure",
]


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
    "momentum-rmsprop": Style("RMSprop with momentum", "#000000", "--"),
    "adam": Style("Adam", "#0072b2", "--"),
    "cautious-adam": Style("cautious Adam", "#56b4e9", "--"),
    "average-rmsprop": Style("RMSprop + average gradient", "#e69f00"),
    "average-adam": Style("Adam + average gradient", "#d55e00"),
    "average-momentum-rmsprop": Style("RMSprop with momentum + average gradient", "#117733"),
    "average-cautious-adam": Style("cautious Adam + average gradient", "#882255"),
    "verified-rmsprop": Style("RMSprop + average gradient, verified", "#44aa99"),
    "probed-rmsprop": Style("RMSprop + average gradient of 32, every second step", "#b8860b"),
    "probed-adam": Style("Adam + average gradient of 32, every second step", "#8b2500"),
    "average-adam-auto": Style("Adam + average gradient, auto rate", "#009e73"),
    "ablation-substituted": Style("RMSprop of the average gradient", "#cc79a7"),
    "ablation-scaled": Style("average gradient over the gradient's RMS", "#6a3d9a"),
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
        title: The title.
        losses: The loss of each iteration.
        rates: Its learning rate.
        fractions: The share of its update that it used; NaN where none was measured. The figure has
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


def curve_figure(
    panels: Mapping[str, Mapping[str, Sequence[Losses]]], baseline: str, columns: int = 1
) -> Any:
    """Return a Matplotlib figure of training losses: medians over the seeds, and quartiles.

    The target, a line, is the median loss at which the baseline ends. A dot marks where the median
    of a method first reaches the target.

    Args:
        panels: For each panel by its title, the curves of each method, one for each seed.
        baseline: The method whose final loss is the target, where a panel has it.
        columns: The number of panels in a row; it must divide their total.
    """
    lines = len(panels) // columns
    figure = _figure(6.4 if columns == 1 else 4.8 * columns, 0.6 + 3.0 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (title, methods) in zip(axes, panels.items()):
        middles = {}
        for method, curves in methods.items():
            style = STYLES[method]
            values = np.asarray(curves, np.float64)
            # Matplotlib draws NaN as a gap, and a failed run should leave one.
            values[~np.isfinite(values)] = np.nan
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
            shares = np.arange(1, len(middle) + 1) / len(middle)
            axis.fill_between(shares, low, high, color=style.colour, alpha=0.15, linewidth=0)
            axis.plot(shares, middle, style.dashes, label=style.label, color=style.colour)
            middles[method] = middle
        if baseline in middles:
            target = middles[baseline][-1]
            axis.axhline(target, color="black", linewidth=0.7)
            for method, middle in middles.items():
                reached = np.flatnonzero(middle <= target)
                if len(reached):
                    place = (reached[0] + 1) / len(middle)
                    axis.plot(place, middle[reached[0]], "o", color=STYLES[method].colour)
        axis.set(title=title, ylabel="training loss")
        _logarithmic(axis)
    for axis in axes[-columns:]:
        axis.set_xlabel("share of the iterations")
    handles, labels = axes[0].get_legend_handles_labels()
    title = "bands: quartiles; line and dots: the target"
    figure.legend(handles, labels, loc="outside lower center", ncols=columns + 1, title=title)
    return figure


def finding_figure(findings: Sequence[Finding]) -> Any:
    """Return a Matplotlib figure of findings: seeds, medians, intervals and the claims."""
    figure = _figure(6.4, 0.8 + 0.5 * len(findings))
    axis = figure.subplots()
    shown = [v for f in findings for v in f.values if math.isfinite(v)]
    low, high = min([0.0, *shown]), max([1.0, *shown])
    if high > 20 and low >= 0:
        axis.set_xscale("symlog", linthresh=1)
    high *= 1.05
    for row, finding in enumerate(findings):
        colour = _OUTCOMES[finding.outcome]
        left, right = (min(max(value, low), high) for value in finding.claimed)
        axis.barh(row, right - left, left=left, height=0.3, color="#009e73", alpha=0.12)
        axis.plot([finding.neutral] * 2, [row - 0.2, row + 0.2], color="black", linewidth=0.7)
        values = [min(value, high) for value in finding.values]
        axis.plot(values, [row] * len(values), "|", color=colour, alpha=0.6)
        if values:
            ends = [min(value, high) for value in finding.interval]
            axis.plot(ends, [row, row], color=colour, linewidth=2)
            axis.plot(min(finding.median, high), row, "o", color=colour)
        axis.text(0, row - 0.32, finding.what, fontsize=7, transform=axis.get_yaxis_transform())
    axis.set_ylim(len(findings) - 0.4, -0.8)
    axis.set_yticks([])
    axis.set_xlabel("dots: medians; bars: 95 % intervals; ticks: seeds; green: what is claimed")
    axis.grid(alpha=0.3, axis="x")
    return figure


# From the palette above; undecided claims are grey.
_OUTCOMES = {
    "holds": "#009e73",
    "partly": "#e69f00",
    "does not hold": "#d55e00",
    "undecided": "#7f7f7f",
}


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
    if 0 < low <= high < low * (1 + 1e-6):  # equal up to rounding, so not a range for an axis
        axis.set_ylim(low / 2, high * 2)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3)


def png(figure: Any) -> bytes:
    """Return the figure as PNG."""
    from PIL import Image  # Matplotlib needs it too

    drawn, content = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    # A palette takes a third of the bytes: a report holds some twenty figures. The octree keeps
    # rare colours, which tell outcomes apart.
    octree, plain = Image.Quantize.FASTOCTREE, Image.Dither.NONE
    palette = Image.open(drawn).convert("RGB").quantize(64, method=octree, dither=plain)
    palette.save(content, "PNG", optimize=True)
    return content.getvalue()


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write the figure as PNG, atomically."""
    with atomic_write(path) as file:
        file.write(png(figure))
