"""`agrad study`: the experiments behind the README's figures."""

from pathlib import Path

import click
from rich.console import Console

from agrad.cli.output import require_writable
from agrad.study.dense import DATA, experiments, run_all
from agrad.study.measures import final_loss
from agrad.study.report import write_dense_report

__all__ = ["study"]


@click.group()
def study() -> None:
    """Make the studies' runs and their reports."""


@study.command()
@click.option("--data", type=click.Choice(sorted(DATA)), default="mnist", show_default=True)
@click.option("--seeds", default=5, show_default=True, help="Paired seeds, from 0.")
@click.option("--iterations", default=320, show_default=True, help="Training steps of each run.")
@click.option("--workers", default=1, show_default=True, help="Processes, of one thread each.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results.json, report.html and losses.png; runs it holds are not made again.",
)
def dense(data: str, seeds: int, iterations: int, workers: int, out: Path) -> None:
    """Compare methods and learning rates on 30 hidden layers of 64 units, tanh and ReLU."""
    for name, value in (("seeds", seeds), ("iterations", iterations), ("workers", workers)):
        if value < 1:
            raise click.BadParameter("must be at least 1", param_hint=f"--{name}")
    require_writable(out)
    console = Console()
    plan = experiments(data, range(seeds), iterations)
    for run in run_all(data, plan, out / "results.json", workers):
        console.print(
            f"{run.model}  {run.method:<18} lr {run.lr:<6g} seed {run.seed}  "
            f"final loss {final_loss(run.train_loss):.3f}",
            highlight=False,
        )
    command = f"agrad study dense --data {data} --seeds {seeds} --iterations {iterations}"
    for path in write_dense_report(out / "results.json", command):
        console.print(f"Wrote {path}", highlight=False, soft_wrap=True)
