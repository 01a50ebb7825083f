"""`agrad inspect`: what each layer's updates promised over a training, and what they delivered."""

from pathlib import Path
from time import perf_counter
from typing import Any

import click
from click.core import ParameterSource

from agrad.checkpoint import read_checkpoints
from agrad.cli.interrupt import interrupts_between_steps
from agrad.cli.ledger_page import ledger_page
from agrad.cli.output import (
    batch_size_option,
    make_console,
    require_writable,
    say,
    seed_option,
    single_threaded,
)
from agrad.cli.progress import step_progress
from agrad.cli.run_folder import CHECKPOINTS
from agrad.cli.train import OPTIMIZERS, prepare, require_same
from agrad.core.ledger import LossLedger, loss_ledger
from agrad.nn import Module
from agrad.optim import Optimizer
from agrad.serialization import atomic_write
from agrad.study.data import IMAGES
from agrad.study.networks import ACTIVATIONS
from agrad.train import Step, train_step
from agrad.train.loop import decay_factor
from agrad.train.step import LossFunction

__all__ = ["inspect", "ledgers_of_run", "measured_step"]

_FIXED = {
    "model": "dense",
    "init": None,
    "probe": 64,
    "decay": 0.0,
    "momentum": None,
    "cautious": False,
    "epochs": None,
    "device": "cpu",
}


@click.command(short_help="Show what each layer's updates promise and deliver.")
@click.argument(
    "run", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--data", type=click.Choice(IMAGES), default="digits", show_default=True, help="Data set."
)
@click.option(
    "--depth",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    help="Number of hidden layers.",
)
@click.option(
    "--width", type=click.IntRange(1), default=64, show_default=True, help="Units per layer."
)
@click.option(
    "--activation",
    type=click.Choice(sorted(ACTIVATIONS)),
    metavar="NAME",
    default="tanh",
    show_default=True,
    help=f"One of {', '.join(sorted(ACTIVATIONS))}.",
)
@click.option(
    "--optimizer",
    type=click.Choice(sorted(OPTIMIZERS)),
    default="adam",
    show_default=True,
    help="Base rule, which proposes each update.",
)
@click.option(
    "--average/--no-average",
    default=False,
    show_default=True,
    help="Shorten each update as the average gradient suggests, or apply it in full.",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Learning rate.",
)
@batch_size_option
@click.option(
    "--iterations",
    type=click.IntRange(1),
    default=320,
    show_default=True,
    help="Number of steps.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Measure each so-many-th step, from the first on.",
)
@seed_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="agrad-ledger.html",
    show_default=True,
    help="HTML page to write.",
)
@click.pass_context
def inspect(
    context: click.Context, /, run: Path | None, out: Path, every: int, **settings: Any
) -> None:
    """Write a page with the ledger of a training: what each layer promised and delivered.

    Without RUN, the command trains a dense network and measures its steps. With the folder RUN of
    agrad train, it measures the step that follows each checkpoint in it, and changes nothing
    there; of the options it takes --out alone. For more columns, train with --checkpoint-every and
    --keep. The page is one file that needs no network.
    """
    if run is not None:
        _require_no_options(context)
    require_writable(out.parent)
    console = make_console()
    with single_threaded():
        if run is None:
            settings |= _FIXED
            description = (
                f"A training of {settings['iterations']} steps. One in {every} was measured, on "
                f"its own batch of {settings['batch_size']}."
            )
            ledgers = _of_training(settings, every, console)
        else:
            settings, ledgers = ledgers_of_run(run)
            description = (
                f"The step that follows each checkpoint of the run {run.name}, measured on its own "
                f"batch of {settings['batch_size']}."
            )
    named = settings | {
        "data": Path(settings["data"]).name,
        "average": " with average gradients" if settings["average"] else "",
    }
    title = "Ledger of {data}, {model} {activation} {depth}x{width}, {optimizer}{average}, lr {lr}"
    content = ledger_page(title.format(**named), description, ledgers)
    with atomic_write(out) as file:
        file.write(content.encode())
    say(console, f"Ledger of {len(ledgers)} steps: {out}")


def _require_no_options(context: click.Context) -> None:
    for name in context.params:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("run", "out"):
            raise click.UsageError(
                f"--{name.replace('_', '-')} cannot be combined with RUN, which was trained with "
                "options of its own"
            )


def _of_training(settings: dict[str, Any], every: int, console: Any) -> dict[int, LossLedger]:
    """Train, and return the ledgers of the first step and of each `every`-th after it."""
    problem, parts = prepare(settings)
    model, optimizer = parts["model"], parts["optimizer"]
    ledgers = {}
    iterations = range(1, settings["iterations"] + 1)
    with (
        interrupts_between_steps() as check,
        step_progress(console, settings["data"], len(iterations)) as show,
    ):
        for iteration, (inputs, targets) in zip(iterations, parts["batches"].forever()):
            start = perf_counter()
            if (iteration - 1) % every:
                loss = train_step(model, optimizer, inputs, targets, problem.loss)
            else:
                ledger = measured_step(model, optimizer, problem.loss, inputs, targets)
                ledgers[iteration] = ledger
                loss = ledger.start
            seconds = perf_counter() - start
            show(Step(iteration, loss, seconds, len(inputs), optimizer.rate, None, 0))
            check()
    return ledgers


def ledgers_of_run(folder: Path) -> tuple[dict[str, Any], dict[int, LossLedger]]:
    """Return the settings of a run, and the ledger of the step after each of its checkpoints."""
    if not (folder / CHECKPOINTS).is_dir():
        raise FileNotFoundError(f"the folder {str(folder)!r} holds no run; start one with train")
    ledgers = {}
    settings: dict[str, Any] = {}
    for checkpoint in read_checkpoints(folder / CHECKPOINTS):
        settings = checkpoint.settings
        if missing := _FIXED.keys() - settings.keys():
            raise ValueError(
                f"{str(checkpoint.path)!r} was not saved by agrad train, as it has no "
                f"{', '.join(sorted(missing))}"
            )
        problem, parts = prepare(settings)
        require_same(folder, problem.described, settings["data"])
        iteration = checkpoint.restore(parts) + 1
        optimizer = parts["optimizer"]
        if settings["decay"]:
            last = max(iteration, settings["iterations"])
            optimizer.scale = decay_factor(iteration, last, settings["decay"])
        batch = next(parts["batches"].forever())
        ledgers[iteration] = measured_step(parts["model"], optimizer, problem.loss, *batch)
    if not ledgers:
        raise FileNotFoundError(f"the folder {str(folder)!r} holds no checkpoints")
    return settings, ledgers


def measured_step(
    model: Module, optimizer: Optimizer, loss_function: LossFunction, inputs: Any, targets: Any
) -> LossLedger:
    """Make a step, and return the ledger of the update that it made."""
    parameters = list(model.parameters())
    starts = [p.data.copy() for p in parameters]
    train_step(model, optimizer, inputs, targets, loss_function)
    ends = [p.data.copy() for p in parameters]
    for p, start in zip(parameters, starts):
        p.writable()[...] = start
    updates: dict[Any, Any] = {p: end - start for p, start, end in zip(parameters, starts, ends)}
    ledger = loss_ledger(loss_function(model(inputs), targets), updates, _names(model))
    for p, end in zip(parameters, ends):
        p.writable()[...] = end
    return ledger


def _names(model: Module) -> list[tuple[str, Any]]:
    """Return the parameters with names that say which layer they belong to, such as "1 Linear"."""
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    found = []
    for name, parameter in model.named_parameters():
        layer, _, own = name.rpartition(".")
        found.append((f"{layer} {kinds[layer]}.{own}", parameter))
    return found
