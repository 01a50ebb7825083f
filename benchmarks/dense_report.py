"""Make the table and the figure of the race of the dense network from its files.

    python benchmarks/dense_report.py results/speed/dense

Writes table.md and times.png beside the files of the cells (benchmarks/dense.py). Reads nothing
else.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from race import Figures, quartiles, ratios

from agrad.study.figures import Style, save_figure

BASELINE = "PyTorch RMSprop"
PLAIN = "agrad RMSprop, captured"
AVERAGE = "agrad average gradient on RMSprop, captured"
EVERY_2 = "agrad average gradient every 2, captured"

# The colours of M. Okabe and K. Ito; solid lines are agrad's.
STYLES = {
    AVERAGE: Style("agrad average gradient, captured", "#d55e00"),
    EVERY_2: Style("agrad average gradient every 2, captured", "#e69f00"),
    PLAIN: Style("agrad RMSprop, captured", "#0072b2"),
    "MyGrad RMSprop": Style("MyGrad RMSprop", "#56b4e9", "--"),
    "PyTorch RMSprop, compiled": Style("PyTorch RMSprop, compiled", "#cc79a7", "none"),
    "JAX RMSprop": Style("JAX RMSprop, jitted", "#009e73", "--"),
    "GEMMs alone": Style("a plain step's matrix products alone", "#7f7f7f", ":"),
}

TIMES = {
    "PyTorch": BASELINE,
    "PyTorch foreach": "PyTorch RMSprop, foreach",
    "PyTorch compiled": "PyTorch RMSprop, compiled",
    "JAX": "JAX RMSprop",
    "MyGrad": "MyGrad RMSprop",
    "agrad": "agrad RMSprop",
    "agrad captured": PLAIN,
    "average, captured": AVERAGE,
    "average every 2, captured": EVERY_2,
    "GEMMs alone": "GEMMs alone",
}

RATIOS = {
    "captured / PyTorch": (PLAIN, BASELINE),
    "captured / compiled": (PLAIN, "PyTorch RMSprop, compiled"),
    "captured / JAX": (PLAIN, "JAX RMSprop"),
    "captured / GEMMs": (PLAIN, "GEMMs alone"),
    "average / PyTorch": (AVERAGE, BASELINE),
    "average / captured": (AVERAGE, PLAIN),
    "every 2 / captured": (EVERY_2, PLAIN),
    "Adam captured / PyTorch Adam": ("agrad Adam, captured", "PyTorch Adam"),
}

# A step's products over those of a plain step, and the name of its bytes in the files.
FLOORS = {
    PLAIN: (1.0, "RMSprop"),
    AVERAGE: (2.0, "average gradient on RMSprop"),
    EVERY_2: (1.5, "average gradient every 2"),
}


class Cell(NamedTuple):
    """The figures of one race."""

    activation: str
    threads: int
    batch_size: int
    width: int
    seconds: Figures
    bytes: dict[str, int]

    def median(self, name: str) -> float:
        return quartiles(self.seconds[name])[0]

    def ratio(self, name: str, other: str) -> list[float] | None:
        """Return the median and quartiles of the ratios within a round, if both took part."""
        return next(iter(ratios(self.seconds, [(name, other)]).values()), None)


def load(folder: Path) -> list[Cell]:
    """Return the cells in the folder, in the order of the table."""
    found = []
    for path in folder.glob("*-threads-*.json"):
        content = json.loads(path.read_text())
        chosen = content["options"]
        where = (chosen[name] for name in ("activation", "threads", "batch_size", "width"))
        figures = content["seconds_per_step_by_round"], content["bytes_that_must_move"]
        found.append(Cell(*where, *figures))
    if not found:
        raise SystemExit(f"{folder} has no files of cells; run benchmarks/dense.py")
    return sorted(found, key=lambda cell: (cell.activation != "tanh", *cell[:4]))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def place(cell: Cell) -> list[str]:
    return [cell.activation, *map(str, (cell.threads, cell.batch_size, cell.width))]


def times_row(cell: Cell) -> Iterator[str]:
    for name in TIMES.values():
        yield f"{1e3 * cell.median(name):.3g}" if name in cell.seconds else ""


def ratios_row(cell: Cell) -> Iterator[str]:
    for pair in RATIOS.values():
        found = cell.ratio(*pair)
        yield "{:.2f} ({:.2f} to {:.2f})".format(*found) if found else ""


def floor_row(cell: Cell) -> Iterator[str]:
    products, copying = cell.median("GEMMs alone"), cell.median("Bytes alone")
    rate = cell.bytes["RMSprop"] / copying
    yield f"{rate / 1e9:.1f}"
    for name, (count, key) in FLOORS.items():
        computing, moving = count * products, cell.bytes[key] / rate
        yield f"{cell.bytes[key] / 1e6:.1f}"
        for floor in (max(computing, moving), computing + moving):
            yield f"{1e3 * floor:.3g} ({cell.median(name) / floor:.2f})"


def page(cells: Sequence[Cell]) -> str:
    """Return the tables: times, ratios, and the least a step can cost."""
    where = ["activation", "threads", "batch", "width"]
    least = ["copied GB/s"]
    for name in ("captured", "average", "every 2"):
        least += [f"{name}: MB", "larger, ms (step over it)", "sum, ms (step over it)"]
    chapters = {
        "Milliseconds of a step, medians; RMSprop unless stated": (TIMES, times_row),
        "Ratios within a round, medians and quartiles": (RATIOS, ratios_row),
        "The least a step can cost: its products, and a copy of the bytes that it must move": (
            least,
            floor_row,
        ),
    }
    parts = ["# A training step of 30 hidden layers"]
    for title, (headings, row) in chapters.items():
        rows = [[*place(cell), *row(cell)] for cell in cells]
        parts += [f"## {title}", table([*where, *headings], rows)]
    return "\n\n".join(parts) + "\n"


def draw(cells: Sequence[Cell]) -> Any:
    """Return a figure of times over PyTorch's, a panel for each batch size and thread count."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    batches = sorted({cell.batch_size for cell in cells})
    threads = sorted({cell.threads for cell in cells})
    size = (max(6.4, 4.0 * len(batches)), 1.2 + 3.2 * len(threads))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(threads), len(batches), sharex=True, sharey=True, squeeze=False)
    widths = sorted({cell.width for cell in cells})
    for i, count in enumerate(threads):
        for j, batch in enumerate(batches):
            axis = axes[i, j]
            group = [c for c in cells if (c.threads, c.batch_size) == (count, batch)]
            draw_panel(axis, group)
            axis.set_title(f"batch {batch}, {count} thread{'s' * (count > 1)}")
            axis.set_xticks(widths, map(str, widths))
    for axis in axes[-1]:
        axis.set_xlabel("width")
    for axis in axes[:, 0]:
        axis.set_ylabel("step time over PyTorch RMSprop's")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(batches))
    return figure


def draw_panel(axis: Any, cells: Sequence[Cell]) -> None:
    """Draw each contestant's ratios and quartiles over the widths, shifted a little sideways."""
    from matplotlib.ticker import NullFormatter

    axis.set(xscale="log", yscale="log")
    axis.axhline(1, color="black", linewidth=1, label="PyTorch RMSprop, eager")
    for k, (name, style) in enumerate(STYLES.items()):
        points = [(c.width, ratio) for c in cells if (ratio := c.ratio(name, BASELINE))]
        if not points:
            continue
        x = [width * 1.02 ** (k - len(STYLES) / 2) for width, _ in points]
        middle, low, high = zip(*(ratio for _, ratio in points))
        spread = [
            [m - q for m, q in zip(middle, low)],
            [q - m for m, q in zip(middle, high)],
        ]
        axis.errorbar(
            x,
            middle,
            spread,
            label=style.label,
            color=style.colour,
            linestyle=style.dashes,
            linewidth=2,
            marker="o",
            markersize=4,
            capsize=2,
        )
    axis.set_yticks((0.125, 0.25, 0.5, 1, 2, 4), ("0.125", "0.25", "0.5", "1", "2", "4"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    axis.grid(alpha=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    cells = load(folder)
    (folder / "table.md").write_text(page(cells))
    save_figure(draw([cell for cell in cells if cell.activation == "tanh"]), folder / "times.png")
    print(f"{folder / 'table.md'} and {folder / 'times.png'}: {len(cells)} cells")


if __name__ == "__main__":
    main()
