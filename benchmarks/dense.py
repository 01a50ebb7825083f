"""Race training steps of the deep dense network, for all widths, batch sizes and thread counts.

    python benchmarks/dense.py --out results/speed/dense

Each cell has its own process (benchmarks/dense_step.py), because libraries fix their threads when
they are loaded, and its own file. A cell whose file exists is not run again, so an interrupted
command resumes at the cell it was running; to repeat a cell, remove its file. The command ends by
making the table and the figure (benchmarks/dense_report.py). ReLU is raced at width 64 only.
torch.compile, which takes up to a minute, is raced at width 64, and at 512 with batches of
128. All 30 cells take about 40 minutes on two cores; two of them (`--widths 64 512 --batch-sizes
128 --threads 1 --activations tanh`) take about 4.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

WIDTHS, BATCH_SIZES, THREADS, ACTIVATIONS = (
    (64, 128, 256, 512),
    (32, 128, 512),
    (1, 2),
    ("tanh", "relu"),
)


class Cell(NamedTuple):
    """The options of one race, which runs in its own process."""

    threads: int
    activation: str
    width: int
    batch_size: int

    @property
    def file(self) -> str:
        return f"{self.activation}-{self.width}-batch-{self.batch_size}-threads-{self.threads}.json"

    @property
    def compiled(self) -> bool:
        """Whether torch.compile takes part."""
        return self.width == 64 or (self.width, self.batch_size) == (512, 128)

    def command(self, folder: Path, seconds: float) -> list[str]:
        options = {
            "--width": self.width,
            "--batch-size": self.batch_size,
            "--activation": self.activation,
            "--threads": self.threads,
            "--seconds": seconds,
            "--out": folder / self.file,
        }
        words = [str(word) for option in options.items() for word in option]
        script = str(Path(__file__).with_name("dense_step.py"))
        return [sys.executable, script, *words, *(["--compile"] if self.compiled else [])]


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells that the options name, ReLU at width 64 only."""
    for values in product(
        options.threads, options.activations, options.widths, options.batch_sizes
    ):
        cell = Cell(*values)
        if cell.activation == "tanh" or cell.width == 64:
            yield cell


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--activations", choices=ACTIVATIONS, nargs="+", default=ACTIVATIONS)
    parser.add_argument("--seconds", type=float, default=25, help="approximate length of a race")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    todo = [cell for cell in cells(options) if not (options.out / cell.file).exists()]
    start = time.perf_counter()
    for i, cell in enumerate(todo, 1):
        subprocess.run(cell.command(options.out, options.seconds), check=True)
        minutes = (time.perf_counter() - start) / 60
        print(f"[{i} of {len(todo)} cells, {minutes:.1f} min] {cell.file}\n", flush=True)
    report = Path(__file__).with_name("dense_report.py")
    subprocess.run([sys.executable, str(report), str(options.out)], check=True)


if __name__ == "__main__":
    main()
