"""`agrad train`: train one network with one method and keep all results in one folder."""

import json
import math
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from rich.console import Console

import agrad
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.checkpoint import Checkpoint, Checkpoints
from agrad.cli.interrupt import interrupts_between_steps
from agrad.cli.output import (
    batch_size_option,
    device_option,
    make_console,
    printable,
    require_writable,
    say,
    seed_option,
    single_threaded,
)
from agrad.cli.own_data import have_changed, load_own_data
from agrad.cli.progress import step_progress
from agrad.cli.run_folder import CHECKPOINTS, FILES, SERIES, RunFolder
from agrad.cli.trained import described, own_data_arguments
from agrad.data import Batches, random_split
from agrad.distributed import Ranks, launched
from agrad.distributed import ranks as ranks_of_mpi
from agrad.errors import FolderInUseError, NonFiniteError
from agrad.study.data import NAMES, load_data
from agrad.study.networks import (
    ACTIVATIONS,
    INITS,
    KINDS,
    dense_network,
    image_network,
    make_network,
    text_network,
)
from agrad.train import DECAY, Evaluation, Step, evaluate
from agrad.train import train as train_model
from agrad.train.best import BestWeights

__all__ = ["OPTIMIZERS", "Problem", "prepare", "require_same", "train"]

_Maker = Callable[..., optim.RuleOptimizer]

_WITH_MOMENTUM: dict[str, _Maker] = {"muon": optim.Muon, "rmsprop": optim.RMSprop, "sgd": optim.SGD}
_WITHOUT_MOMENTUM: dict[str, _Maker] = {"adam": optim.Adam, "adamw": optim.AdamW}
OPTIMIZERS = {**_WITH_MOMENTUM, **_WITHOUT_MOMENTUM}
_NEED_MOMENTUM = ("rmsprop", "sgd")  # to be cautious; the others have momentum by default
_AUTO_START = 1e-4
_ITERATIONS = 320
_MAY_BE_NONE = ("init", "momentum", "epochs")
_MAY_BE_PATHS = ("data", "validation")
_IF_GIVEN = ("target", "text", "task", "validation", "patience")  # in the settings only then
_WITH_RESUME = ("iterations", "checkpoint_every", "keep")  # options allowed with --resume
_SIZES = {"dense": {"depth": 30, "width": 64}, "conv": {"depth": 12, "width": 32}}


class _LearningRate(click.ParamType["float | str"]):
    name = "learning rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        if value == "auto":
            return "auto"
        try:
            rate = float(value)
        except ValueError:
            rate = -1.0
        if not 0 < rate < float("inf"):
            self.fail(f"{value!r} is neither a positive number nor auto", param, ctx)
        return rate


class _Data(click.ParamType[str]):
    name = "data"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if value not in NAMES and not Path(value).exists():
            self.fail(
                f"{value!r} is neither one of {', '.join(NAMES)} nor a file or folder", param, ctx
            )
        return value if value in NAMES else str(Path(value).resolve())


class _Validation(click.ParamType["float | str"]):
    name = "validation"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        try:
            share = float(value)
        except ValueError:
            if not Path(value).exists():
                self.fail(f"{value!r} is neither a number nor a file or folder", param, ctx)
            return str(Path(value).resolve())
        if not 0 < share < 1:
            self.fail(f"{value!r} must be between 0 and 1", param, ctx)
        return share


@click.command(short_help="Train one network with one method.")
@click.option(
    "--data",
    type=_Data(),
    metavar="NAME|PATH",
    default="digits",
    show_default=True,
    help=f"Data set: {', '.join(NAMES)} (digits needs no download, imdb needs --model conv); or a "
    "table (.csv, .tsv, .parquet) with --target; or a .npz file with arrays x and y; or a folder "
    "with a folder of images, or of .txt files, for each class. Texts need --model conv.",
)
@click.option("--target", metavar="COLUMN", help="Column of a table to predict.")
@click.option(
    "--text",
    metavar="COLUMN",
    help="Column of a table that holds texts, from which alone to predict; needs --model conv.",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "regression"]),
    help="For data of your own.  [default: regression for numbers, and classification for words, "
    "for integers of a .npz file, and for folders of images or texts]",
)
@click.option(
    "--validation",
    type=_Validation(),
    metavar="SHARE|PATH",
    help="Share of the training data to hold out, or other data of your own, to evaluate after "
    "each epoch; the run ends with the best weights.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    metavar="EPOCHS",
    help="Epochs without a lower validation loss after which the training stops.",
)
@click.option(
    "--model",
    type=click.Choice(KINDS),
    default="dense",
    show_default=True,
    help="Type of the hidden layers: dense, or convolutions with pooling between them.",
)
@click.option(
    "--depth", type=click.IntRange(0), help="Number of hidden layers.  [default: 30; conv: 12]"
)
@click.option(
    "--width",
    type=click.IntRange(1),
    help="Units or channels per layer.  [default: 64; conv: 32]",
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
    "--init",
    type=click.Choice(sorted(INITS)),
    help="Weight initialization.  [default: chosen to suit the activation]",
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
    default=True,
    show_default=True,
    help="Shorten each update as the average gradient suggests, or apply it in full.",
)
@click.option(
    "--lr",
    type=_LearningRate(),
    metavar="NUMBER|auto",
    help=f"Learning rate; auto adapts it during training, from {_AUTO_START:g}, and needs "
    "--average.  [default: auto]",
)
@click.option(
    "--probe",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Examples of each batch on which --average measures.",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help=f"Share of the training, at its end, over which the step falls to 0.  [default: {DECAY} "
    "with --lr auto, otherwise 0]",
)
@click.option(
    "--momentum",
    type=click.FloatRange(0, 1, max_open=True),
    help=f"For {', '.join(sorted(_WITH_MOMENTUM))}.  [default: the rule's own]",
)
@click.option(
    "--cautious/--no-cautious",
    default=None,
    help="Leave out the parts of each update that go against the batch's gradient.  [default: with "
    "--lr auto, if the rule has momentum]",
)
@batch_size_option
@click.option(
    "--iterations", type=click.IntRange(1), help=f"Number of steps.  [default: {_ITERATIONS}]"
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs, instead of --iterations.")
@device_option
@seed_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help=f"Folder for {', '.join(FILES)} and {CHECKPOINTS}.  [required, unless --resume is given]",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Resume the run in that folder, bit for bit, after its last checkpoint. The only other "
    "options allowed are --iterations, --checkpoint-every and --keep.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Steps between checkpoints.",
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Number of latest checkpoints to keep, besides the one with the lowest mean loss.",
)
@click.pass_context
def train(
    context: click.Context,
    /,
    out: Path | None,
    resume: Path | None,
    checkpoint_every: int,
    keep: int,
    **settings: Any,
) -> None:
    """Train a plain network on small images, on film reviews, or on data of your own.

    Metrics are written during training, one JSON line per iteration. Ctrl-C ends the training
    after the current step and saves its state. However else a training ends, it can be resumed
    after its last checkpoint. BLAS uses one thread, which is fastest for narrow layers.
    """
    settings = {
        name: value
        for name, value in settings.items()
        if name not in _IF_GIVEN or value is not None
    }
    with _ranks() as ranks:
        if ranks is not None and ranks.rank:
            _follow(ranks)
        else:
            _lead(context, ranks, out, resume, checkpoint_every, keep, settings)


def _lead(
    context: click.Context,
    ranks: Ranks | None,
    out: Path | None,
    resume: Path | None,
    checkpoint_every: int,
    keep: int,
    settings: dict[str, Any],
) -> None:
    """Do what the command says, as the only process or as rank 0 of several."""
    problems = [] if resume else _completed(settings)
    if (out is None) == (resume is None):
        problems.insert(0, "give either --out FOLDER or --resume FOLDER")
    if problems:
        raise click.UsageError("; ".join(problems))
    console = make_console()
    if resume is not None:
        _check_resumed(context, resume)
        with single_threaded(), Checkpoints(resume / CHECKPOINTS, keep) as checkpoints:
            last = _latest(checkpoints, console)
            settings = _resumed(context, settings, last, resume)
            _train(ranks, resume, checkpoints, last, settings, checkpoint_every, console)
    elif out is not None:
        _require_no_run(out)
        with _removed_unless_used(out):
            require_writable(out)
            with single_threaded(), Checkpoints(out / CHECKPOINTS, keep) as checkpoints:
                if _latest(checkpoints, console):
                    raise _held(out)
                _train(ranks, out, checkpoints, None, settings, checkpoint_every, console)


def _ranks() -> AbstractContextManager[Ranks | None]:
    """Return a context of the ranks that mpiexec has started; of None if it has not."""
    if launched() == 1:
        return nullcontext()

    def report(error: BaseException) -> None:
        if isinstance(error, click.ClickException | ImportError | OSError | ValueError):
            print("agrad:", printable(" ".join(str(error).split())), file=sys.stderr)
        else:
            traceback.print_exception(error)

    return ranks_of_mpi(report)


def _follow(ranks: Ranks) -> None:
    """Make the steps of the run that rank 0 leads."""
    settings, start, end = ranks.broadcast(None)
    problem, parts = prepare(settings)
    ranks.share(parts)
    signals = partial(ranks.largest, "signals")
    # These end all ranks at the same step, and rank 0 reports them.
    with (
        suppress(NonFiniteError, KeyboardInterrupt),
        single_threaded(),
        interrupts_between_steps(signals) as check,
    ):
        for _ in _steps(ranks, problem, parts, settings, start, end, check):
            pass


@contextmanager
def _removed_unless_used(folder: Path) -> Iterator[None]:
    """Remove the folders that the block has made, if it ends before anything is saved there."""
    made = [path for path in (folder / CHECKPOINTS, folder, *folder.parents) if not path.exists()]
    try:
        yield
    except FolderInUseError:  # the folder belongs to another run
        raise
    except BaseException:
        if not any((folder / CHECKPOINTS).glob("*.safetensors")):
            with suppress(OSError):  # nothing was made, or somebody else has put something there
                (folder / CHECKPOINTS / ".lock").unlink(missing_ok=True)
                for path in filter(Path.exists, made):
                    path.rmdir()
        raise


def _require_no_run(out: Path) -> None:
    if any((out / name).exists() for name in FILES):
        raise _held(out)


def _held(out: Path) -> FileExistsError:
    return FileExistsError(
        f"the folder {str(out)!r} already holds a run; resume it with --resume, or choose "
        "another --out"
    )


def _check_resumed(context: click.Context, folder: Path) -> None:
    """Reject options that the checkpoint determines, and a folder without a run.

    Raises:
        UsageError: Such an option was given.
        FileNotFoundError: The folder holds no run.
    """
    for name in context.params:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("resume", *_WITH_RESUME):
            raise click.UsageError(
                f"--{name.replace('_', '-')} cannot be combined with --resume: the run continues "
                "with the options it was started with"
            )
    if not (folder / CHECKPOINTS).is_dir():
        raise _absent(folder)


def _absent(folder: Path) -> FileNotFoundError:
    return FileNotFoundError(f"the folder {str(folder)!r} holds no run; start one with --out")


def _latest(checkpoints: Checkpoints, console: Console) -> Checkpoint | None:
    """Return the last intact checkpoint, and print which ones are damaged."""
    with _warnings_said(console):
        return checkpoints.latest()


@contextmanager
def _warnings_said(console: Console) -> Iterator[None]:
    """Print the warnings of the block as lines of their own."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        say(console, str(warning.message))


def _resumed(
    context: click.Context, settings: dict[str, Any], last: Checkpoint | None, folder: Path
) -> dict[str, Any]:
    """Return the settings of the resumed run, with the number of iterations asked for now.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: The checkpoint is not of a run of this command, or has more iterations.
    """
    if last is None:
        raise _absent(folder)
    _require_own(context, settings, last)
    iterations = settings["iterations"] or last.settings["iterations"]
    if iterations < last.iteration:
        raise ValueError(f"the run has {last.iteration} iterations; --iterations must not be less")
    return last.settings | {"iterations": iterations}


def _require_own(context: click.Context, settings: dict[str, Any], last: Checkpoint) -> None:
    """Require that a checkpoint has the settings and the metrics of a run of this command.

    Raises:
        ValueError: It has not; a program has saved it, or another version of the command.
    """
    wrong = {*(settings.keys() ^ last.settings.keys())}.difference(_IF_GIVEN)
    for option in context.command.params:
        name = option.name or ""
        value = last.settings.get(name)
        if value is None:
            if name in settings and name not in _MAY_BE_NONE:
                wrong.add(name)
            continue
        if name in _MAY_BE_PATHS and isinstance(value, str):
            continue  # reading it says whether it is there
        try:
            valid = repr(option.type_cast_value(context, value)) == repr(value)
        except (click.BadParameter, TypeError, ValueError):
            valid = False
        if not valid:
            wrong.add(name)
    shapes = {np.shape(last.metrics.get(name, ())) for name in SERIES}
    if shapes != {(last.iteration,)}:
        wrong.add("metrics")
    if wrong:
        raise ValueError(
            f"{str(last.path)!r} was not saved by this version of agrad train, as its "
            f"{', '.join(sorted(wrong))} show; resume it with the program that saved it"
        )


def _completed(settings: dict[str, Any]) -> list[str]:
    """Fill in defaults that depend on other options, and return the problems with the options."""
    problems = []
    if settings["iterations"] is not None and settings["epochs"] is not None:
        problems.append("--iterations and --epochs exclude each other")
    if settings["momentum"] is not None and settings["optimizer"] not in _WITH_MOMENTUM:
        problems.append(f"--momentum cannot be combined with --optimizer {settings['optimizer']}")
    without_momentum = settings["optimizer"] in _NEED_MOMENTUM and not settings["momentum"]
    if settings["cautious"] and without_momentum:
        problems.append(f"--cautious with --optimizer {settings['optimizer']} needs --momentum")
    if settings["data"] == "imdb" and settings["model"] == "dense":
        problems.append("--data imdb needs --model conv")
    own = settings["data"] not in NAMES
    for name in ("target", "text", "task"):
        if name in settings and not own:
            problems.append(f"--{name} is for data of your own, not for {settings['data']}")
    if isinstance(settings.get("validation"), str) and not own:
        problems.append(f"--validation must be a share for {settings['data']}")
    if "patience" in settings and "validation" not in settings:
        problems.append("--patience needs --validation")
    if own and settings["device"] != "cpu":
        problems.append("data of your own need --device cpu")
    if not settings["average"] and settings["lr"] in (None, "auto"):
        problems.append("--no-average needs a learning rate, such as --lr 1e-3")
    settings["lr"] = settings["lr"] or "auto"
    automatic = settings["lr"] == "auto"
    if settings["decay"] is None:
        settings["decay"] = DECAY if automatic else 0.0
    if settings["cautious"] is None:
        settings["cautious"] = automatic and not without_momentum
    for name, size in _SIZES[settings["model"]].items():
        settings[name] = size if settings[name] is None else settings[name]
    if settings["epochs"] is None:
        settings["iterations"] = settings["iterations"] or _ITERATIONS
    return problems


def _steps(
    ranks: Ranks | None,
    problem: "Problem",
    parts: dict[str, Any],
    settings: dict[str, Any],
    start: int,
    end: int,
    check: Callable[[], None],
) -> Iterator[tuple[Step, Evaluation | None]]:
    """Make the steps from one number to another, and yield each with the validation after it."""
    model, optimizer, batches = (parts[name] for name in ("model", "optimizer", "batches"))
    best, epoch = parts.get("best"), batches.epoch
    for step in train_model(
        model, optimizer, batches, end, problem.loss, start, capture=True, decay=settings["decay"]
    ):
        validation: Evaluation | None = None
        if best is not None and batches.epoch > epoch:
            epoch = batches.epoch
            validation = _validated(ranks, problem, model)
            best.update(epoch, validation.loss)
        yield step, validation
        if best is not None and _is_stale(best, settings):
            return
        check()


def _validated(ranks: Ranks | None, problem: "Problem", model: nn.Module) -> Evaluation:
    """Return the validation; over ranks that of rank 0, so that they all stop after one epoch."""
    if ranks is None:
        return problem.evaluated(model, problem.validation)
    own = None if ranks.rank else problem.evaluated(model, problem.validation)
    evaluation: Evaluation = ranks.broadcast(own)
    return evaluation


def _train(
    ranks: Ranks | None,
    folder: Path,
    checkpoints: Checkpoints,
    last: Checkpoint | None,
    settings: dict[str, Any],
    every: int,
    console: Console,
) -> None:
    problem, parts = prepare(settings)
    model, optimizer, batches = (parts[name] for name in ("model", "optimizer", "batches"))
    best = parts.get("best") or BestWeights(model)
    iterations = settings["iterations"] or settings["epochs"] * len(batches)
    if problem.validation is not None and iterations < len(batches):
        raise ValueError(
            f"the validation follows each epoch, of {len(batches)} iterations; raise --iterations "
            f"from {iterations}, or leave out --validation"
        )
    settings = settings | {"iterations": iterations}
    start = 0
    if last is not None:
        require_same(folder, problem.described, settings["data"])
        with _warnings_said(console):
            start = last.restore(parts)
        say(console, f"Resuming after iteration {start} of {iterations}")

    end = start if _is_stale(best, settings) else iterations
    agree: Callable[[int], int] = int
    if ranks is not None:
        ranks.broadcast((settings, start, end))
        ranks.share(parts)
        agree = partial(ranks.largest, "signals")
        say(console, f"Training on {ranks.size} ranks")
    go_on = f"to resume: agrad train --resume {shlex.quote(str(folder))}"
    with RunFolder(folder, checkpoints, settings, parts, last, problem.described) as run:
        try:
            with interrupts_between_steps():
                run.begin()
            with (
                interrupts_between_steps(agree) as check,
                step_progress(console, Path(settings["data"]).name, iterations) as show,
            ):
                for step, validation in _steps(ranks, problem, parts, settings, start, end, check):
                    run.add(step)
                    if validation is not None:
                        run.add_validation(validation)
                    if step.iteration % every == 0:
                        run.save_checkpoint()
                    show(step)  # last, as nobody may read it any more
            run.save_checkpoint()
            run.use_best(best)
            test = None
            if problem.test is not None:
                test = problem.evaluated(model, problem.test)
                if not math.isfinite(test.loss):
                    raise NonFiniteError(f"the test loss is {test.loss}; lower the learning rate")
                run.add_test(test)
            run.save_outcome()
        except KeyboardInterrupt as interrupt:
            # A step that a second signal has cut short belongs in no checkpoint but the first,
            # which comes before all steps.
            if checkpoints.last is None or not getattr(interrupt, "in_step", False):
                run.save_checkpoint()
            run.use_best(best)
            run.save_outcome()
            say(console, f"Stopped after iteration {run.iteration} of {iterations}; {go_on}")
            raise
        except NonFiniteError as error:
            run.fall_back()
            run.use_best(best)
            run.save_outcome()
            kept = "last good weights" if best.epoch is None else "best weights"
            raise NonFiniteError(f"{error}; metrics and {kept}: {folder}") from error
        except OSError as error:
            raise OSError(f"{error}; {go_on}") from error
    if optimizer.cuts:
        left_out = f"{optimizer.zero_steps} steps were left out"
        say(console, f"Steps were cut {optimizer.cuts} times; {left_out}")
    if best.epoch is not None:
        found = described(problem.evaluated(model, problem.validation))
        say(console, f"The weights are those of the best epoch, {best.epoch}: validation {found}")
    elif better := run.better():
        say(console, better)
    if test is not None:
        say(console, f"Test loss {test.loss:.4f}, accuracy {test.accuracy:.2%}")
    say(console, f"Settings, metrics, weights, plot and checkpoints: {folder}")


def prepare(settings: dict[str, Any]) -> tuple["Problem", dict[str, Any]]:
    """Return what a run learns, and its parts as they begin, by their names in checkpoints."""
    problem = _problem(settings)
    agrad.seed(settings["seed"])
    options = {name: settings[name] for name in ("depth", "width", "activation", "init")}
    model = problem.network(settings["model"], options).to(settings["device"])
    batch_size = settings["batch_size"]
    if problem.described:  # the user's data may be fewer than the default
        batch_size = min(batch_size, len(problem.train[-1]))
    parts = {
        "model": model,
        "optimizer": _optimizer(model.parameters(), settings),
        "batches": Batches(
            *problem.train, batch_size=batch_size, seed=settings["seed"], drop_last=True
        ),
    }
    if problem.validation is not None:
        parts["best"] = BestWeights(model)
    return problem, parts


def require_same(folder: Path, described: dict[str, Any], data: str) -> None:
    """Raise a ValueError if data of the user's own have changed since the run began."""
    try:
        saved = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a resumed run writes it again
        return
    if have_changed(described, saved):
        raise ValueError(f"the data in {data!r} have changed since the run began; start a new one")


def _is_stale(best: BestWeights, settings: dict[str, Any]) -> bool:
    """Return whether the patience of a training has run out."""
    return "patience" in settings and best.stale >= settings["patience"]


@dataclass(frozen=True)
class Problem:
    """What a run learns, a named data set or data of the user's own.

    Attributes:
        train: The training inputs and targets.
        validation: Those held out, or None.
        test: Those of the test set, or None.
        loss: The loss function.
        metrics: The names of metrics beside the loss and the accuracy.
        network: Makes a network of a kind, with its options.
        described: The entries of settings.json from which `Trained` rebuilds the network.
    """

    train: tuple[Any, Any]
    validation: tuple[Any, Any] | None
    test: tuple[Any, Any] | None
    loss: Any
    metrics: list[str]
    network: Callable[[str, dict[str, Any]], nn.Module]
    described: dict[str, Any]

    def evaluated(self, model: nn.Module, data: Any) -> Evaluation:
        """Return the evaluation on some of the data."""
        inputs, targets = data
        return evaluate(model, inputs, targets, loss_function=self.loss, metrics=self.metrics)


def _problem(settings: dict[str, Any]) -> Problem:
    if settings["data"] in NAMES:
        data = load_data(settings["data"]).to(settings["device"])
        parts = [data.train]
        if "validation" in settings:
            share = settings["validation"]
            parts = random_split(data.train, [1 - share, share], settings["seed"])
            if not all(len(targets) for _, targets in parts):
                raise ValueError(f"{settings['data']} has too few examples to hold out {share:g}")
        return Problem(
            train=parts[0],
            validation=parts[1] if len(parts) > 1 else None,
            test=data.test,
            loss=F.cross_entropy,
            metrics=[],
            network=lambda kind, options: make_network(kind, data, **options),
            described={},
        )
    own = load_own_data(*own_data_arguments(settings))
    inputs = own.train[0]
    outputs = own.format.outputs

    def network(kind: str, options: dict[str, Any]) -> nn.Module:
        if (vocabulary := own.format.vocabulary) is not None:
            if kind == "dense":
                raise ValueError("texts need --model conv")
            return text_network(len(vocabulary), outputs, **options)
        if kind == "dense":
            return dense_network(inputs[0].size, outputs, **options)
        if inputs.ndim != 3:
            raise ValueError(
                f"--model conv needs images (N, height, width), the inputs are {inputs.shape}"
            )
        return image_network(inputs.shape[1:], outputs, **options)

    return Problem(
        train=own.train,
        validation=own.validation,
        test=None,
        loss=own.format.loss,
        metrics=own.format.metrics,
        network=network,
        described=own.described(),
    )


def _optimizer(params: Any, settings: dict[str, Any]) -> optim.Optimizer:
    automatic = settings["lr"] == "auto"
    options = {
        "lr": _AUTO_START if automatic else settings["lr"],
        "cautious": settings["cautious"],
    }
    if settings["momentum"] is not None:
        options["momentum"] = settings["momentum"]
    rule = OPTIMIZERS[settings["optimizer"]](params, **options)
    if not settings["average"]:
        return rule
    return optim.AverageGradient(
        rule, lr="auto" if automatic else None, probe_size=settings["probe"]
    )
