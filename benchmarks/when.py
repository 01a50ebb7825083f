"""Train small networks with Adam and AverageGradient, to see where the average gradient pays off.

python benchmarks/when.py                    # everything, and the table in docs/when.md
python benchmarks/when.py --methods auto     # this method again, beside the others as they were
python benchmarks/when.py --table            # the table alone, from the results

Each method runs at five rates, the automatic one from a single start; all rates decay alike. The
loss of a run is the median over its last tenth of steps, on the training batches. The best rate has
the lowest median over the seeds. "longer" is cautious Adam at its best rate, with more steps: as
many as take the time of AverageGradient's.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rates.methods import START, Own, decay
from rates.tasks import Data, dense, images

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.extras import optional_import
from agrad.train import evaluate

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "when" / "results.json"
PAGE = ROOT / "docs" / "when.md"

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = (0, 1, 2)
STEPS = 100
LONGER = 2.5  # as measured in docs/speed.md for deep dense networks

Row = dict[str, Any]


# -- networks --------------------------------------------------------------------------------------


class Block(nn.Module):
    """Layer normalization, two dense layers, and the input added."""

    def __init__(self, width: int) -> None:
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, x: Any) -> Any:
        return x + self.layers(x)


def residual(data: Data, blocks: int = 15, width: int = 64) -> nn.Module:
    size = data.train[0][0].size
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(size, width),
        *(Block(width) for _ in range(blocks)),
        nn.LayerNorm(width),
        nn.Linear(width, data.outputs),
    )


class Transformer(nn.Module):
    """A causal transformer that predicts the next character."""

    def __init__(self, data: Data, width: int = 32, layers: int = 2) -> None:
        self.embedding = nn.Embedding(data.outputs, width)
        self.positions = nn.PositionalEncoding(width, batch_first=True)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width))
        self.head = nn.Linear(width, data.outputs)

    def forward(self, ids: Any) -> Any:
        x = self.encoder(self.positions(self.embedding(ids)), is_causal=True)
        return self.head(x).swapaxes(1, 2)


@lru_cache(1)
def characters(length: int = 16) -> Data:
    """Return windows of the texts about scikit-learn's data sets; the last tenth is held out."""
    datasets = optional_import("sklearn.datasets")
    names = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
    text = "\n".join(getattr(datasets, f"load_{name}")().DESCR for name in names)
    letters, ids = np.unique(list(text), return_inverse=True)
    split = len(ids) * 9 // 10
    parts = []
    for part, stride in ((ids[:split], 4), (ids[split:], length)):
        windows = np.lib.stride_tricks.sliding_window_view(part, length + 1)[::stride]
        parts.append((windows[:, :-1], windows[:, 1:]))
    return Data(*parts, len(letters))


@dataclass(frozen=True)
class Task:
    """A network, what it learns, and the size of its batches."""

    name: str
    data: Callable[[], Data]
    network: Callable[[Data], nn.Module]
    batch_size: int


DIGITS = partial(images, "digits")
DEEP, SHALLOW = (partial(dense, depth=depth, width=64) for depth in (30, 2))
TASKS = [
    Task("dense, 30x64 tanh", DIGITS, partial(DEEP, activation="tanh"), 64),
    Task("dense, 30x64 ReLU", DIGITS, partial(DEEP, activation="relu"), 64),
    Task("residual, 15 blocks of 64 with layer norm", DIGITS, residual, 64),
    Task("transformer, 2 layers of 32", characters, Transformer, 8),
    Task("dense, 2x64 ReLU", DIGITS, partial(SHALLOW, activation="relu"), 64),
]


# -- methods ---------------------------------------------------------------------------------------


def averaged(params: Any, lr: float) -> optim.Optimizer:
    return optim.AverageGradient(optim.Adam(params, lr=lr))


def automatic(params: Any, lr: float) -> optim.Optimizer:
    return optim.AverageGradient(optim.Adam(params, lr=lr, cautious=True), lr="auto")


CAUTIOUS = partial(optim.Adam, cautious=True)
METHODS: dict[str, tuple[Callable[..., optim.Optimizer], Sequence[float], float]] = {
    "Adam": (optim.Adam, RATES, 1),
    "cautious Adam": (CAUTIOUS, RATES, 1),
    "AverageGradient": (averaged, RATES, 1),
    "auto": (automatic, (START,), 1),
    "longer": (CAUTIOUS, (), LONGER),
}
"""By name: the optimizer, its rates, and how many times the steps; "longer" takes the best rate."""


def run(task: Task, method: str, rate: float, seed: int) -> Row:
    """Train, and return the losses; one that is not finite is None."""
    make, _, times = METHODS[method]
    count = round(STEPS * times)
    data = task.data()
    ag.seed(seed)
    model = task.network(data)
    own = Own(model, F.cross_entropy, make(model.parameters(), lr=rate))
    batches = Batches(*data.train, batch_size=task.batch_size, seed=seed, drop_last=True)
    losses, seconds = [], []
    row: Row = {"task": task.name, "method": method, "rate": rate, "seed": seed}
    try:
        for step, batch in enumerate(islice(batches.forever(), count), start=1):
            start = time.process_time()
            losses.append(own.step(*batch, decay(step, count)))
            seconds.append(time.process_time() - start)
        held_out = evaluate(model, *data.validation).loss
        loss = median(losses[-max(1, count // 10) :])
    except NonFiniteError:
        loss = held_out = None
    milliseconds = 1000 * median(seconds) if seconds else None
    numbers = {"loss": loss, "held_out": held_out, "milliseconds": milliseconds}
    return row | {
        name: None if value is None else float(f"{value:.4g}") for name, value in numbers.items()
    }


def best(rows: Sequence[Row], task: str, method: str) -> list[Row]:
    """Return the runs at a method's best rate."""
    by_rate: dict[float, list[Row]] = {}
    for row in rows:
        if (row["task"], row["method"]) == (task, method):
            by_rate.setdefault(row["rate"], []).append(row)
    return min(by_rate.values(), key=lambda runs: median(map(finite, runs)))


def finite(row: Row, name: str = "loss") -> float:
    """Return a number of a run, infinity if the run failed."""
    return float("inf") if row[name] is None else row[name]


def measure(tasks: Sequence[Task], methods: Sequence[str], rows: list[Row]) -> None:
    """Run these tasks and methods again, and replace their results."""
    for task in tasks:
        for method in methods:
            rows[:] = [row for row in rows if (row["task"], row["method"]) != (task.name, method)]
            rates = METHODS[method][1] or [best(rows, task.name, "cautious Adam")[0]["rate"]]
            for rate in rates:
                rows += [run(task, method, rate, seed) for seed in SEEDS]
            print(f"{task.name}: {method}", flush=True)


# -- the table -------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """Return the table: losses of all methods at their best rates, and the time of a step."""
    heads = [
        "network",
        "Adam",
        "cautious Adam",
        "its steps × 2.5",
        "AverageGradient",
        '`lr="auto"`',
        "time of a step",
    ]
    lines = [heads, ["---"] * len(heads)]
    for task in dict.fromkeys(row["task"] for row in rows):
        cells = []
        for method in ("Adam", "cautious Adam", "longer", "AverageGradient", "auto"):
            runs = best(rows, task, method)
            losses = sorted(map(finite, runs))
            spread = f"{median(losses):.2g} ({losses[0]:.2g} to {losses[-1]:.2g})"
            held_out = median(finite(run, "held_out") for run in runs)
            cells.append(f"{spread}; {held_out:.2g}")
        plain, average = (
            median(finite(row, "milliseconds") for row in best(rows, task, method))
            for method in ("cautious Adam", "AverageGradient")
        )
        lines.append([task, *cells, f"× {average / plain:.1f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_BLOCK = re.compile(r"(<!-- made by benchmarks/when\.py -->\n\n)(.*?)(\n<!-- end -->)", re.DOTALL)


def shown() -> str:
    """Return the table in the page."""
    found = _BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE} has no table of this script"
    return found[2]


def show(rows: Sequence[Row]) -> None:
    """Put the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    changed = _BLOCK.sub(lambda match: f"{match[1]}{table(rows)}{match[3]}", page)
    PAGE.write_text(changed, encoding="utf-8")


def load() -> list[Row]:
    """Return the runs in the results."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    names = [task.name for task in TASKS]
    parser.add_argument("--networks", nargs="*", choices=names, default=names)
    parser.add_argument("--table", action="store_true", help="only make the table")
    options = parser.parse_args()
    rows = load()
    if not options.table:
        for task in (task for task in TASKS if task.name in options.networks):
            measure([task], options.methods, rows)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            text = ",\n".join(json.dumps(row) for row in rows)
            RESULTS.write_text(f"[\n{text}\n]\n", encoding="utf-8")
    if PAGE.exists():
        show(rows)


if __name__ == "__main__":
    main()
