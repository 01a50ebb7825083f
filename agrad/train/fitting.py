"""`fit`: a whole training, with validation, early stopping, schedules and checkpoints."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from typing import Any, Protocol, runtime_checkable

import agrad.nn.functional as F
from agrad.arguments import integer
from agrad.checkpoint import Checkpoints
from agrad.data import Batches
from agrad.data.several import examples, is_several
from agrad.nn import Module
from agrad.optim import Optimizer, ReduceLROnPlateau, Schedule
from agrad.train.best import BestWeights
from agrad.train.evaluation import Evaluation, evaluate, pairs
from agrad.train.history import History
from agrad.train.loop import checked_decay, make_step, steps
from agrad.train.metrics import HIGHER, Metrics, named_metrics
from agrad.train.progress import Progress
from agrad.train.step import LossFunction, require_loss
from agrad.train.training import Callback, Training

__all__ = ["fit"]

_BATCH_SIZE = 32


@runtime_checkable
class _Resumable(Protocol):
    """Batches that continue from where they are, such as `Batches` and `Prefetch`."""

    @property
    def epoch(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


def fit(
    model: Module,
    optimizer: Optimizer,
    train_data: Any,
    *,
    epochs: int,
    validation: Any = None,
    loss: LossFunction = F.cross_entropy,
    metrics: Metrics = (),
    batch_size: int | None = None,
    schedule: Schedule | None = None,
    decay: float | None = None,
    patience: int | None = None,
    monitor: str = "loss",
    mode: str | None = None,
    min_delta: float = 0.0,
    restore_best: bool = True,
    callbacks: Iterable[Callback] = (),
    checkpoints: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    capture: bool = True,
    progress: bool = True,
) -> History:
    """Train a model for some epochs and return the history.

    After each epoch the model is evaluated on the validation data. The weights of the best epoch
    are kept, and are the model's at the end.

    Args:
        model: The network.
        optimizer: Any optimizer over the model's parameters.
        train_data: A pair of arrays, inputs and targets of equal length, which make shuffled
            batches of `batch_size`; or `Batches`; or any iterable of batches, pairs of inputs and
            targets, that can be iterated once for each epoch. Several inputs are a tuple of arrays,
            which the model takes by position, or a dict, by name.
        epochs: The number of epochs, those made before a checkpoint included.
        validation: A pair of arrays, or an iterable of batches; None for no validation.
        loss: Takes the model's output and the targets, and returns the mean loss of the examples, a
            single element. For regression pass `F.mse_loss`.
        metrics: Metrics of the validation; see `evaluate`.
        batch_size: The number of examples in a batch made of a pair of arrays, by default 32.
        schedule: A schedule of the optimizer. `fit` steps it after each step of the optimizer, and
            `ReduceLROnPlateau` after each epoch with the monitored number. Do not step it yourself.
        decay: The share of the training, at its end, over which the step falls linearly to 0; see
            `train`. By default as there, and 0 if the number of batches is unknown.
        patience: The number of epochs without an improvement after which the training stops; None
            to make all epochs.
        monitor: What has to improve: "loss", or the name of a metric. The numbers are those of the
            validation; without one, the training loss is monitored if there is a patience.
        mode: "min" if a lower number is better, "max" if a higher one is. By default as the loss
            and the named metrics need it; metrics of your own need it given.
        min_delta: By how much the number must be better to count as such.
        restore_best: Whether the model ends with the weights of the best epoch, if one was looked
            for, rather than the last, after an error or an interruption too. The optimizer's state
            is always the last.
        callbacks: Called after each step and epoch.
        checkpoints: A folder for checkpoints, one after each epoch. If it holds some, the training
            resumes bit for bit after the last; create all arguments as before. One that its
            patience or a callback has stopped makes no further epochs. It needs
            `train_data` of arrays, `Batches` or `Prefetch`.
        checkpoint_every: The number of steps between further checkpoints within an epoch.
        capture: Whether steps are captured; see `capture_step`. False for a model whose Python
            does not do the same at every call.
        progress: Whether to print a line for each epoch, and in a terminal for the present step.

    Raises:
        ValueError: An argument is out of its range, or does not fit the others; batches end before
            the first of an epoch.
        TypeError: `train_data` or `validation` is none of the above, or an argument is not of its
            type.
        CaptureError: The model cannot be captured; pass `capture=False`.
        NonFiniteError: The loss or a gradient is NaN or infinite; see `train`.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad import nn, optim
        >>> ag.seed(0)
        >>> x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
        >>> y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        >>> optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-2))
        >>> history = ag.train.fit(
        ...     model,
        ...     optimizer,
        ...     (x[:150], y[:150]),
        ...     validation=(x[150:], y[150:]),
        ...     epochs=60,
        ...     patience=20,
        ...     monitor="accuracy",
        ...     progress=False,
        ... )
        >>> bool(history["validation_accuracy"].max() > 0.85)
        True
    """
    called = _checked_callbacks(callbacks)
    _require_kinds(model, optimizer, loss, schedule)
    epochs = integer("fit", "epochs", epochs, least=0)
    if patience is not None:
        patience = integer("fit", "patience", patience, least=1)
    if checkpoint_every is not None:
        checkpoint_every = integer("fit", "checkpoint_every", checkpoint_every, least=1)
    metrics = named_metrics("fit", metrics)
    monitored = validation is not None or patience is not None
    mode = _checked_mode(monitor, mode, metrics, validation)
    _check_validation(validation, epochs)
    _check_schedule(optimizer, schedule, mode if monitored else "min")
    batches = _batches(train_data, batch_size, epochs)
    length = len(batches) if hasattr(batches, "__len__") else None
    decay = _checked_decay(optimizer, decay, length)
    _check_checkpoints(checkpoints, checkpoint_every, optimizer, batches)
    training = Training(model, optimizer, epochs, BestWeights(model, mode, min_delta))
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "fit": training}
    optional = {"schedule": schedule, "batches": batches, "validation": validation}
    optional |= {f"callback {i}": callback for i, callback in enumerate(called)}
    parts |= {name: part for name, part in optional.items() if hasattr(part, "load_state_dict")}
    step_on = make_step(model, optimizer, loss, capture)
    shown = Progress(training, length) if progress else None
    with ExitStack() as stack:
        if restore_best:
            stack.callback(training.best.restore)
        saver = None
        if checkpoints is not None:
            saver = stack.enter_context(Checkpoints(checkpoints))
            last = saver.latest()
            if last is not None:
                training.iteration = last.restore(parts)
        while training.epoch < epochs and not training.stopped:
            begin, turn = training.iteration, getattr(batches, "epoch", None)
            for step in steps(
                model,
                step_on,
                optimizer,
                pairs("fit", batches),
                count(begin + 1),
                epochs * (length or 0),
                decay,
            ):
                training.add_step(step)
                if schedule is not None and not isinstance(schedule, ReduceLROnPlateau):
                    schedule.step()
                for callback in called:
                    callback.on_step(training, step)
                if shown is not None:
                    shown.step(step)
                # The end of an epoch has its own checkpoint, after the validation.
                due = checkpoint_every and step.iteration % checkpoint_every == 0
                if saver is not None and due and batches.epoch == turn:
                    saver.save(step.iteration, parts)
            if training.iteration == begin:
                raise ValueError(f"fit: train_data has no batch in epoch {training.epoch + 1}")
            score = _end_epoch(
                training, _validated(model, validation, loss, metrics), monitor, patience
            )
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(training.last("loss") if score is None else score)
            for callback in called:
                callback.on_epoch(training)
            if shown is not None:
                shown.epoch()
            if saver is not None:
                saver.save(training.iteration, parts, score=_lower_is_better(score, mode))
    return training.history


def _end_epoch(
    training: Training, validation: Evaluation | None, monitor: str, patience: int | None
) -> float | None:
    """Record the end of an epoch, and return the monitored value, or None."""
    training.add_epoch(validation)
    if validation is None and patience is None:
        return None
    score = training.last(monitor if validation is None else f"validation_{monitor}")
    training.best.update(training.epoch, score)
    if patience is not None and training.best.stale >= patience:
        training.stop()
    return score


def _validated(
    model: Module, validation: Any, loss: LossFunction, metrics: Metrics
) -> Evaluation | None:
    if validation is None:
        return None
    inputs, labels = validation if _is_pair_of_arrays(validation) else (validation, None)
    return evaluate(model, inputs, labels, loss_function=loss, metrics=metrics)


def _lower_is_better(score: float | None, mode: str) -> float | None:
    """Return the score of a checkpoint; None if there is none, or it is not finite."""
    if score is None or not math.isfinite(score):
        return None
    return score if mode == "min" else -score


def _require_kinds(model: Any, optimizer: Any, loss: Any, schedule: Any) -> None:
    for name, value, kind in (
        ("model", model, Module),
        ("optimizer", optimizer, Optimizer),
        ("schedule", schedule, Schedule),
    ):
        if not isinstance(value, kind) and (name != "schedule" or value is not None):
            raise TypeError(
                f"fit: {name} must be an agrad {kind.__name__}, got a {type(value).__name__}"
            )
    require_loss("fit", "loss", loss)


def _checked_callbacks(callbacks: Any) -> list[Callback]:
    is_list = hasattr(callbacks, "__iter__")
    listed: list[Any] = list(callbacks) if is_list else []
    wrong = [c for c in listed if not (hasattr(c, "on_step") and hasattr(c, "on_epoch"))]
    if wrong or not is_list:
        raise TypeError(
            "fit: callbacks must be a list of objects with on_step and on_epoch, see "
            f"train.Callback; got a {type(wrong[0] if wrong else callbacks).__name__}"
        )
    return listed


def _check_validation(validation: Any, epochs: int) -> None:
    """Raise unless these are data that each epoch can be evaluated on."""
    if validation is None:
        return
    if _is_pair_of_arrays(validation):
        inputs, targets = validation
        count = examples("fit: validation", inputs)
        if count != len(targets) or count == 0:
            raise ValueError(
                f"fit: validation has {count} inputs and {len(targets)} targets; give at least one "
                "example, and a target for each"
            )
        return
    is_array = hasattr(validation, "shape") or is_several(validation)
    if is_array or not hasattr(validation, "__iter__"):
        raise TypeError(
            "fit: validation must be a pair of arrays or an iterable of batches, got a "
            f"{type(validation).__name__}"
        )
    if isinstance(validation, tuple | list):
        list(pairs("fit: validation", validation))  # raises unless all are
    if epochs > 1 and isinstance(validation, Iterator):
        raise ValueError(
            f"fit: validation is an iterator, which yields its batches once, not {epochs} times; "
            "pass a list or Batches"
        )


def _is_pair_of_arrays(data: Any) -> bool:
    """Return whether these are inputs, perhaps several, and targets, and not two batches."""
    if not isinstance(data, tuple) or len(data) != 2:
        return False
    inputs, targets = data
    return (hasattr(inputs, "shape") or is_several(inputs)) and hasattr(targets, "shape")


def _batches(train_data: Any, batch_size: int | None, epochs: int) -> Any:
    """Return what yields the batches of an epoch each time it is iterated."""
    if _is_pair_of_arrays(train_data):
        return Batches(*train_data, batch_size=_BATCH_SIZE if batch_size is None else batch_size)
    if batch_size is not None:
        raise ValueError(
            f"fit: batch_size={batch_size} needs train_data of a pair of arrays, got a "
            f"{type(train_data).__name__}, which has batches already"
        )
    if not hasattr(train_data, "__iter__") or hasattr(train_data, "shape"):
        raise TypeError(
            "fit: train_data must be a pair of arrays or an iterable of batches, got a "
            f"{type(train_data).__name__}"
        )
    if epochs > 1 and isinstance(train_data, Iterator):
        raise ValueError(
            f"fit: train_data is an iterator, which yields its batches once, not {epochs} times; "
            "pass a list or Batches"
        )
    return train_data


def _checked_mode(
    monitor: str, mode: str | None, metrics: Mapping[str, Any], validation: Any
) -> str:
    """Return the mode, by default the one that suits the monitored value."""
    known = ["loss"]
    if validation is not None:
        known += ["accuracy", *metrics]
    elif metrics:
        raise ValueError("fit: metrics need validation data")
    if monitor not in known:
        raise ValueError(f"fit: monitor must be one of {known}, got {monitor!r}")
    if mode is None:
        mode = "min" if monitor == "loss" else "max" if monitor in HIGHER else None
    if mode not in ("min", "max"):
        raise ValueError(f'fit: mode must be "min" or "max" to monitor {monitor!r}, got {mode!r}')
    return mode


def _checked_decay(optimizer: Optimizer, decay: float | None, length: int | None) -> float:
    """Return the share of the decay, 0 by default if the number of batches is unknown."""
    if decay is None and length is None:
        decay = 0.0
    decay = checked_decay("fit", optimizer, decay)
    if decay and length is None:
        raise ValueError(f"fit: decay={decay} needs train_data that has a length")
    return decay


def _check_checkpoints(
    folder: str | os.PathLike[str] | None, every: int | None, optimizer: Optimizer, batches: Any
) -> None:
    if folder is None:
        if every is not None:
            raise ValueError("fit: checkpoint_every needs a folder of checkpoints")
        return
    if optimizer.ranks is not None:
        raise ValueError(
            "fit: checkpoints are for one process; over several ranks save them on rank 0 in a "
            "loop of your own, see agrad.distributed"
        )
    if not isinstance(batches, _Resumable):
        raise ValueError(
            "fit: checkpoints need train_data that can resume, a pair of arrays, Batches or "
            f"Prefetch, got a {type(batches).__name__}"
        )


def _check_schedule(optimizer: Optimizer, schedule: Schedule | None, mode: str) -> None:
    if schedule is None:
        return
    if schedule.optimizer is not optimizer:
        raise ValueError("fit: the schedule belongs to another optimizer")
    if isinstance(schedule, ReduceLROnPlateau) and schedule.mode != mode:
        raise ValueError(
            f"fit: the schedule's mode is {schedule.mode!r}, that of the monitored number {mode!r}"
        )
