"""`agrad demo`: compare the average gradient with RMSprop and Adam on digits."""

from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from agrad.cli.interrupt import interrupts_between_steps, lost_output_interrupts
from agrad.cli.output import (
    make_console,
    require_writable,
    say,
    seed_option,
    single_threaded,
    write_json,
)
from agrad.cli.progress import step_progress
from agrad.study.data import DataSet, load_data
from agrad.study.figures import STYLES, loss_figure, save_figure
from agrad.study.measures import final_loss, iterations_to
from agrad.study.runs import Experiment, Run, machine
from agrad.train import Step

__all__ = ["demo"]

_METHODS = (
    ("rmsprop", 1e-3),
    ("adam", 1e-3),
    ("average-adam", 1e-3),
    ("average-adam-auto", 1e-4),
)


@click.command(short_help="Compare four methods on handwritten digits. Start here.")
@click.option(
    "--iterations",
    type=click.IntRange(1),
    default=320,
    show_default=True,
    help="Training steps for each method.",
)
@seed_option
@click.option(
    "--figure",
    default="agrad-demo.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG file for the loss curves.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the numbers in the table to this file.",
)
def demo(iterations: int, seed: int, figure: Path, json_path: Path | None) -> None:
    """Train a network of 30 hidden layers on handwritten digits with four methods.

    A plain tanh network without skip connections learns scikit-learn's digits (no download) with
    RMSprop, with Adam, and with the average gradient around Adam, at a fixed and at an automatic
    learning rate. All four start from the same weights and see the same batches. The command
    prints a table and saves a figure of the losses. BLAS uses one thread, which is fastest for
    layers this small.
    """
    for path in filter(None, (figure, json_path)):
        require_writable(path.parent)
    console = make_console()
    data = load_data("digits")
    with single_threaded():
        runs = [
            _run(console, Experiment("demo", "tanh", method, lr, seed, iterations), data)
            for method, lr in _METHODS
        ]

    target = final_loss(runs[0].train_loss)
    rows = [_row(run, target) for run in runs]
    with lost_output_interrupts():
        console.print()
        console.print(_table(rows, target))
        console.print()
    curves = {run.experiment.method: run.train_loss for run in runs}
    save_figure(loss_figure({f"digits, {runs[0].experiment.model}": curves}), figure)
    say(console, f"Loss curves: {figure}")
    if json_path is not None:
        write_json(json_path, {"machine": machine(), "methods": rows})
        say(console, f"Numbers as JSON: {json_path}")


def _run(console: Console, experiment: Experiment, data: DataSet) -> Run:
    label = STYLES[experiment.method].label
    with (
        interrupts_between_steps() as check,
        step_progress(console, label, experiment.iterations) as show,
    ):

        def on_step(step: Step) -> None:
            show(step)
            check()

        return experiment.run(data, on_step)


def _row(run: Run, target: float) -> dict[str, Any]:
    return {
        "method": run.experiment.method,
        "lr": run.experiment.lr,
        "automatic_lr": run.experiment.method.endswith("auto"),
        "target_train_loss": target,
        "iterations_to_target": iterations_to(run.train_loss, target),
        "final_train_loss": final_loss(run.train_loss),
        "test_accuracy": run.test_accuracy[-1],
        "seconds_per_iteration": run.seconds_per_iteration,
        "optimizer_state_bytes": run.optimizer_state_bytes,
    }


def _table(rows: list[dict[str, Any]], target: float) -> Table:
    table = Table(
        title="30 hidden tanh layers on digits; iterations to RMSprop's final training loss",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("method")
    for heading in (
        "learning\nrate",
        f"iterations\nto {target:.3g}",
        "final\nloss",
        "test\naccuracy",
        "ms per\niteration",
        "optimizer\nbytes",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        reached = row["iterations_to_target"]
        table.add_row(
            STYLES[row["method"]].label,
            "auto" if row["automatic_lr"] else f"{row['lr']:g}",
            "never" if reached is None else str(reached),
            f"{row['final_train_loss']:.3f}",
            f"{row['test_accuracy']:.1%}",
            f"{1000 * row['seconds_per_iteration']:.1f}",
            f"{row['optimizer_state_bytes']:,}",
        )
    return table
