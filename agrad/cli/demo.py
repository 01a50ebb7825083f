"""`agrad demo`: the average gradient beside RMSprop and Adam, in less than a minute."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agrad.cli.output import require_writable, single_threaded
from agrad.cli.progress import step_progress
from agrad.serialization import atomic_write
from agrad.study.dense import load_data
from agrad.study.figures import STYLES, loss_figure, save_figure
from agrad.study.measures import final_loss, iterations_to
from agrad.study.runs import Experiment, Run, machine

__all__ = ["demo"]

_METHODS = (
    ("rmsprop", 1e-3),
    ("adam", 1e-3),
    ("average-adam", 1e-3),
    ("average-adam-auto", 1e-4),
)


@click.command()
@click.option("--iterations", default=320, show_default=True, help="Training steps of each method.")
@click.option("--seed", default=0, show_default=True, help="Of initial weights and batch order.")
@click.option(
    "--figure",
    default="agrad-demo.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the loss curves go, as PNG.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the table's figures to this file as well.",
)
def demo(iterations: int, seed: int, figure: Path, json_path: Path | None) -> None:
    """Train a network of 30 hidden layers on handwritten digits, four ways.

    A plain tanh network without skip connections learns scikit-learn's digits (no download) with
    RMSprop, with Adam, and with the average gradient on Adam at a fixed and at an automatic
    learning rate: from the same initial weights, on the same batches. Ends with a table and a
    figure of the losses. BLAS uses one thread, which is the fastest for layers this small.
    """
    if iterations < 1:
        raise click.BadParameter("must be at least 1", param_hint="--iterations")
    for path in filter(None, (figure, json_path)):
        require_writable(path.parent)
    console = Console()
    data = load_data("digits")
    runs = []
    with single_threaded():
        for method, lr in _METHODS:
            label = STYLES[method][0]
            with step_progress(console, label, iterations) as show:
                experiment = Experiment("demo", "tanh", method, lr, seed, iterations)
                runs.append(experiment.run(data, show))

    rows = [_row(run, target=final_loss(runs[0].train_loss)) for run in runs]
    console.print(_table(rows))
    curves = {run.method: run.train_loss for run in runs}
    save_figure(loss_figure({f"digits, {runs[0].model}": curves}, "training loss"), figure)
    console.print(f"Loss curves: {figure}", highlight=False, soft_wrap=True)
    if json_path is not None:
        with atomic_write(json_path) as file:
            content = {"machine": machine(), "methods": rows}
            file.write((json.dumps(content, indent=2) + "\n").encode())


def _row(run: Run, target: float) -> dict[str, Any]:
    return {
        "method": run.method,
        "lr": run.lr,
        "target_train_loss": target,
        "iterations_to_target": iterations_to(run.train_loss, target),
        "final_train_loss": final_loss(run.train_loss),
        "test_accuracy": run.test_accuracy[-1],
        "seconds_per_iteration": run.seconds_per_iteration,
        "optimizer_state_bytes": run.optimizer_state_bytes,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    target = rows[0]["target_train_loss"]
    table = Table(title="30 hidden tanh layers on digits")
    table.add_column("method")
    for heading in (
        "learning rate",
        f"iterations to loss {target:.3g}",
        "final loss",
        "test accuracy",
        "ms per iteration",
        "optimizer state, bytes",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        reached = row["iterations_to_target"]
        start = "from " if row["method"].endswith("auto") else ""
        table.add_row(
            STYLES[row["method"]][0],
            f"{start}{row['lr']:g}",
            "not reached" if reached is None else str(reached),
            f"{row['final_train_loss']:.3f}",
            f"{row['test_accuracy']:.1%}",
            f"{1000 * row['seconds_per_iteration']:.1f}",
            f"{row['optimizer_state_bytes']:,}",
        )
    return table
