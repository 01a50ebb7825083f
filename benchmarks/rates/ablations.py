"""Compare the parts of the average gradient's step with alternatives.

    python -m benchmarks.rates.ablations --processes 2
    python -m benchmarks.rates.ablations --table

The networks have 30 hidden layers of 64 units and learn MNIST. A run makes 320 steps on batches of
128, unless stated otherwise. Seeds are paired: the same weights, the same batches. The default is
`AverageGradient` around cautious Adam with its automatic rate; each ablation changes one option.
Estimators and fractions are compared at fixed rates, each at the best of three, and every step is
measured, because an automatic rate would hide their effects. Both commands can be interrupted and
given again. Needs the extras `demo` and `bench`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from .cells import Cell, Row, key_of, load, run_cells
from .methods import ABLATIONS, AUTO, METHODS
from .tasks import TASKS, Task

RESULTS = Path("results/rates/ablations.jsonl")
ACTIVATIONS = ("tanh", "ReLU")
STEPS, BATCH_SIZE = 320, 128
BATCH_SIZES = {32: 640, 512: 240, 2048: 160}
"""The steps at other batch sizes."""
ADAM = "Adam"
GRIDS = ADAM, "cautious Adam"
GRID = (3e-4, 1e-3, 3e-3, 1e-2)
"""The rates of Adam and cautious Adam: those of the suite at which such a network trains."""


def task(activation: str, batch_size: int = BATCH_SIZE) -> Task:
    name = f"MNIST, 30x64 {activation}, batch {BATCH_SIZE}"
    found = next(each for each in TASKS if each.name == name)
    return replace(found, name=f"{activation}, batch {batch_size}", batch_size=batch_size)


def cells(seeds: list[int]) -> list[Cell]:
    """Return all cells in the order of running."""
    found = []
    for activation in ACTIVATIONS:
        for name in (AUTO, *GRIDS, *ABLATIONS):
            halved = name.startswith("half")
            batch_size, steps = (BATCH_SIZE // 2, 2 * STEPS) if halved else (BATCH_SIZE, STEPS)
            found.append((task(activation, batch_size), steps, name))
        for batch_size, steps in BATCH_SIZES.items():
            found += [(task(activation, batch_size), steps, name) for name in (AUTO, ADAM)]
    return [
        Cell(where, steps, name, rate, seed)
        for seed in seeds
        for where, steps, name in found
        for rate in (GRID if name in GRIDS else (METHODS | ABLATIONS)[name].rates)
    ]


def table(rows: list[Row]) -> Iterator[str]:
    """Yield a Markdown table: the median final loss, and the seeds on which the default is better.

    A method with a grid is shown at the rate with the lowest median.
    """
    runs: dict[tuple[str, str], dict[float | None, dict[int, float]]] = {}
    for row in rows:
        where = row["task"], row["method"]
        final = float("inf") if row["final"] is None else row["final"]
        runs.setdefault(where, {}).setdefault(row["rate"], {})[row["seed"]] = final
    best = {
        where: min(rates.items(), key=lambda found: median(found[1].values()))
        for where, rates in runs.items()
    }
    yield "| | tanh: loss | better : worse than the default | ReLU: loss | better : worse |"
    yield "| --- | --- | --- | --- | --- |"
    names = list(dict.fromkeys(name for _, name in runs))
    for batch_size in (BATCH_SIZE, *BATCH_SIZES):
        for name in names:
            parts = []
            for activation in ACTIVATIONS:
                size = BATCH_SIZE // 2 if name.startswith("half") else batch_size
                where = f"{activation}, batch {size}"
                if (where, name) not in best:
                    break
                rate, losses = best[where, name]
                fixed = f" at {rate:g}" if len(runs[where, name]) > 1 else ""
                parts.append(f"{median(losses.values()):.3f}{fixed}")
                base = best[f"{activation}, batch {batch_size}", reference(name)][1]
                paired = [(losses[seed], base[seed]) for seed in losses.keys() & base.keys()]
                wins = sum(a < b for a, b in paired)
                losses_to_it = sum(a > b for a, b in paired)
                parts.append("" if name == reference(name) else f"{wins} : {losses_to_it}")
            if len(parts) == 2 * len(ACTIVATIONS) and (
                batch_size == BATCH_SIZE or name in (AUTO, ADAM)
            ):
                size_named = "" if batch_size == BATCH_SIZE else f", batch {batch_size}"
                yield f"| {name}{size_named} | {' | '.join(parts)} |"


def reference(name: str) -> str:
    """Return the method to compare with: the unchanged step, at fixed rates or at its own."""
    return "fixed: as it is" if name.startswith("fixed") else AUTO


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.rates.ablations")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--processes", type=int, default=1, help="of one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    parser.add_argument("--table", action="store_true", help="print a table of the results")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(load(options.out)[0])))
        return
    planned = cells(options.seeds)
    known = {key_of(row) for row in load(options.out)[0]}
    left = sum(cell.key not in known for cell in planned)
    for row in run_cells(planned, options.out, options.processes):
        left -= 1
        rate = "" if row["rate"] is None else f" {row['rate']:g}"
        where = f"{row['task']}: {row['method']}{rate}, seed {row['seed']}"
        print(f"{where}: loss {row['final']}, {row['seconds']:.1f} s; {left} left", flush=True)


if __name__ == "__main__":
    main()
