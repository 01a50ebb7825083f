"""Run the suite of learning rates, and report on it.

    python -m benchmarks.rates --processes 2
    python -m benchmarks.rates --report

The first command runs the cells that the results file lacks: a cell is a task, a method, a rate, a
number of steps and a seed. The second writes a report beside that file. Both commands can be
interrupted or killed and given again. Every task first gets one seed of the automatic rate and of
Adam's grid, then one seed of the other methods, then the other seeds. Needs the extras `demo` and
`bench`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .cells import Cell, estimate, key_of, load, plan, run_cells
from .methods import METHODS
from .report import write_report
from .tasks import TASKS

RESULTS = Path("results/rates/results.jsonl")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.rates", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--tasks", nargs="+", metavar="TEXT", help="tasks whose names have a text")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--processes", type=int, default=1, help="of one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--estimate", action="store_true", help="print how long they will take")
    what.add_argument("--report", action="store_true", help="write report.md and losses.png")
    options = parser.parse_args(words)
    options.tasks = [
        task
        for task in TASKS
        if options.tasks is None or any(text.lower() in task.name.lower() for text in options.tasks)
    ]
    return options


def main() -> None:
    options = parse()
    cells = plan(options.tasks, options.methods, options.seeds)
    if options.report:
        for path in write_report(options.out, cells):
            print(path)
        return
    rows, _ = load(options.out)
    print(f"{len(cells)} cells, {len(rows)} rows in {options.out}", flush=True)
    if options.estimate:
        known = {key_of(row) for row in rows}
        show_estimate([cell for cell in cells if cell.key not in known])
        return
    for row in run_cells(cells, options.out, options.processes):
        where = f"{row['task']}, {row['steps']} steps: {row['method']}"
        rate = "" if row["rate"] is None else f" {row['rate']:g}"
        print(
            f"{where}{rate}, seed {row['seed']}: loss {row['final']}, {row['seconds']:.1f} s",
            flush=True,
        )


def show_estimate(cells: Sequence[Cell]) -> None:
    """Print the seconds of each task and method on one core, and the total hours."""
    found = estimate(cells)
    for kind in (0, 1):
        sums: dict[str, float] = {}
        for where, seconds in found.items():
            sums[where[kind]] = sums.get(where[kind], 0.0) + seconds
        for name, seconds in sums.items():
            print(f"{seconds:10.0f} s  {name}")
    print(f"{sum(found.values()) / 3600:.1f} h on one core")


if __name__ == "__main__":
    main()
