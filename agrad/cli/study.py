"""`agrad study`: the experiments behind the README's figures."""

from contextlib import closing
from pathlib import Path
from time import monotonic

import click

from agrad.cli.output import make_console, require_writable, say
from agrad.cli.progress import duration
from agrad.study.dense import DATA, experiments, load_data, remaining, run_all
from agrad.study.figures import STYLES
from agrad.study.measures import final_loss
from agrad.study.report import write_dense_report

__all__ = ["study"]


@click.group(short_help="Compare methods over rates and seeds, with a report.")
def study() -> None:
    """Make the runs of a study and the report on them."""


@study.command(short_help="30 hidden layers of 64 units, tanh and ReLU.")
@click.option("--data", type=click.Choice(sorted(DATA)), default="mnist", show_default=True)
@click.option(
    "--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many, from seed 0."
)
@click.option(
    "--iterations",
    type=click.IntRange(1),
    default=320,
    show_default=True,
    help="Training steps of each run.",
)
@click.option("--ablations", is_flag=True, help="Other uses of the average gradient as well.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Runs made at a time, each in a process of one thread.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where results.json, report.html and losses.png go.",
)
def dense(data: str, seeds: int, iterations: int, ablations: bool, workers: int, out: Path) -> None:
    """Compare methods and learning rates on 30 hidden layers of 64 units, tanh and ReLU.

    Each run is written to results.json as it ends. Runs that the folder holds already are not made
    again, so an interrupted study goes on where it stopped, and seeds can be added.
    """
    require_writable(out)
    console = make_console()
    results = out / "results.json"
    plan = experiments(data, range(seeds), iterations, ablations)
    known, todo = remaining(plan, results)
    if known:
        say(console, f"{results} holds {len(known)} runs; {len(todo)} are to be made")
    load_data(data)  # a download, or its failure, belongs here and not into each worker
    start = monotonic()
    with closing(run_all(data, plan, results, workers)) as runs:
        for made, run in enumerate(runs, 1):
            left = duration((monotonic() - start) / made * (len(todo) - made))
            say(
                console,
                f"{made}/{len(todo)}  {run.model}, {STYLES[run.method].label}, lr {run.lr:g}, "
                f"seed {run.seed}: final loss {final_loss(run.train_loss):.3f}, "
                f"{run.seconds:.1f} s; {left} left",
            )
    for path in write_dense_report(results):
        say(console, f"Wrote {path}")
