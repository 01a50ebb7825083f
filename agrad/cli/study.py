"""`agrad study`: the experiments behind the figures in the README."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic

import click

from agrad.cli.output import device_option, make_console, require_writable, say
from agrad.cli.progress import duration
from agrad.study import conv as conv_study
from agrad.study import dense as dense_study
from agrad.study.conv_report import write_conv_report
from agrad.study.data import IMAGES, load_data
from agrad.study.dense_report import write_dense_report
from agrad.study.figures import STYLES
from agrad.study.measures import final_loss
from agrad.study.pool import remaining, run_all
from agrad.study.runs import Experiment

__all__ = ["study"]

_seeds = click.option(
    "--seeds", type=click.IntRange(1), default=5, show_default=True, help="Number of seeds, from 0."
)
_workers = click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of parallel runs, each in a process with one thread.",
)
_out = click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for results.json, report.html and losses.png.",
)


@click.group(short_help="Compare methods over rates and seeds, with a report.")
def study() -> None:
    """Run the experiments of a study and write a report."""


@study.command(short_help="30 hidden layers of 64 units, tanh and ReLU.")
@click.option("--data", type=click.Choice(IMAGES), default="mnist", show_default=True)
@_seeds
@click.option(
    "--iterations",
    type=click.IntRange(1),
    default=320,
    show_default=True,
    help="Training steps for each run.",
)
@click.option("--ablations", is_flag=True, help="Include other uses of the average gradient.")
@_workers
@device_option
@_out
def dense(
    data: str,
    seeds: int,
    iterations: int,
    ablations: bool,
    workers: int,
    device: str,
    out: Path,
) -> None:
    """Compare methods and learning rates on 30 hidden layers of 64 units, tanh and ReLU.

    Each run is written to results.json as soon as it ends. Runs that are already in the folder are
    not repeated, so an interrupted study continues where it stopped, and seeds can be added later.
    """
    plan = dense_study.experiments(data, range(seeds), iterations, ablations)
    results = _make_runs(data, plan, workers, device, out)
    _announce(write_dense_report(results))


@study.command(short_help="12 convolutions, on film reviews or images.")
@click.option("--data", type=click.Choice(conv_study.DATA), default="imdb", show_default=True)
@_seeds
@click.option(
    "--iterations",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Training steps after which a run gives up.",
)
@_workers
@device_option
@_out
def conv(data: str, seeds: int, iterations: int, workers: int, device: str, out: Path) -> None:
    """Compare how many iterations methods take to a given training loss: 12 convolutions, ReLU.

    Results are kept, and an interrupted study continues, as for `agrad study dense`.
    """
    plan = conv_study.experiments(data, range(seeds), iterations)
    results = _make_runs(data, plan, workers, device, out)
    _announce(write_conv_report(results))


def _make_runs(data: str, plan: Sequence[Experiment], workers: int, device: str, out: Path) -> Path:
    """Run the experiments of `plan` that the folder lacks, and return its results file."""
    require_writable(out)
    plan = [replace(experiment, device=device) for experiment in plan]
    console = make_console()
    results = out / "results.json"
    known, todo = remaining(plan, results)
    if known:
        say(console, f"{results} holds {len(known)} runs; {len(todo)} are left")
    load_data(data)  # download, or fail, once here rather than in every worker
    start = monotonic()
    with closing(run_all(data, plan, results, workers)) as runs:
        for made, run in enumerate(runs, 1):
            left = duration((monotonic() - start) / made * (len(todo) - made))
            say(
                console,
                f"{made}/{len(todo)}  {run.model}, {STYLES[run.method].label}, lr {run.lr:g}, "
                f"seed {run.seed}: final loss {final_loss(run.train_loss):.3f} after "
                f"{len(run.train_loss)} iterations, {run.seconds:.1f} s; {left} left",
            )
    return results


def _announce(paths: Sequence[Path]) -> None:
    for path in paths:
        say(make_console(), f"Wrote {path}")
