"""The training loop, and evaluation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import agrad.nn.functional as F
from agrad.core.context import no_grad
from agrad.core.tensor import as_tensor, plain
from agrad.data import Batches
from agrad.errors import AnomalyError, NonFiniteError
from agrad.nn import Module
from agrad.optim import Optimizer
from agrad.optim.arguments import require
from agrad.train.step import (
    LossFunction,
    capture_step,
    require_targets,
    train_step,
)

__all__ = ["DECAY", "Evaluation", "Step", "decay_factor", "evaluate", "train"]

DECAY = 0.4
"""The share of the training over which an automatic rate's step falls to 0."""


@dataclass(frozen=True)
class Step:
    """One completed training step.

    Attributes:
        iteration: its number, from 1.
        loss: the batch's loss before the step.
        seconds: the time the step took, without loading the batch.
        examples: the size of its batch.
        rate: the effective learning rate of the step.
        fraction: the share of its update that the step used, or the last one that measured; None
            for optimizers that do not measure.
        cuts: how often the step was cut because it raised the loss.
    """

    iteration: int
    loss: float
    seconds: float
    examples: int
    rate: float
    fraction: float | None
    cuts: int


@dataclass(frozen=True)
class Evaluation:
    """The mean loss on a set of examples, and the accuracy.

    Attributes:
        loss: the mean over the examples.
        accuracy: the share of right classes, from 0 to 1; NaN if the targets are not classes.
    """

    loss: float
    accuracy: float


def train(
    model: Module,
    optimizer: Optimizer,
    batches: Batches,
    iterations: int,
    loss_function: LossFunction = F.cross_entropy,
    start: int = 0,
    *,
    capture: bool = False,
    decay: float | None = None,
) -> Iterator[Step]:
    """Train on one batch after another, epoch after epoch, yielding a `Step` after each.

    The caller owns the loop, and may inspect or save the model between steps, or stop early.
    `agrad.checkpoint` saves what is needed to resume after a crash.

    Args:
        model: the network; it is set to training mode.
        optimizer: any optimizer over the model's parameters.
        batches: batches of inputs and targets, in this order; they continue from where they are.
        iterations: the number of the last step, 0 or more.
        loss_function: takes the model's output and the targets, and returns the loss, a single
            element. The default is for classes or their probabilities; for regression pass
            `F.mse_loss`.
        start: how many of these steps were made earlier.
        capture: make steps as `capture_step` does, which is faster for small layers. Only for a
            model whose Python does the same at every call.
        decay: the share of the iterations, at the end, over which the step falls linearly to 0. By
            default it is 0.4 for an optimizer with an automatic rate and no schedule, otherwise 0.

    Raises:
        ValueError: `iterations` or `start` is negative; `decay` is not in
            [0, 1], or the optimizer has a schedule already; the default loss gets targets that are
            neither classes nor probabilities.
        CaptureError: the model cannot be captured.
        NonFiniteError: the loss or a gradient is NaN or infinite; the message names the iteration,
            whose step was not made, and the first operation that produced such a value.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad import nn, optim
        >>> from agrad.data import Batches
        >>> from agrad.train import train
        >>> ag.seed(0)
        >>> inputs, labels = np.eye(4, dtype=np.float32), np.arange(4)
        >>> model = nn.Linear(4, 4)
        >>> optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1))
        >>> steps = list(train(model, optimizer, Batches(inputs, labels, batch_size=4), 50))
        >>> steps[-1].loss < 0.1 < steps[0].loss
        True
    """
    for name, count in (("iterations", iterations), ("start", start)):
        if count < 0:
            raise ValueError(f"train: {name} must not be negative, got {count}")
    if decay is None:
        decay = DECAY if optimizer.automatic and optimizer.scale_source == 1 else 0.0
    require("train", "be in [0, 1]", lambda x: 0 <= x <= 1, decay=decay)
    if decay and optimizer.scale_source != 1:
        raise ValueError(f"train: got decay={decay}, but the optimizer has a schedule already")
    step: Callable[[Any, Any], float] = (
        capture_step(model, optimizer, loss_function)
        if capture
        else partial(train_step, model, optimizer, loss_function=loss_function)
    )
    return _steps(model, step, optimizer, batches, range(start + 1, iterations + 1), decay)


def decay_factor(step: int, steps: int, share: float) -> float:
    """Return the factor on a step, numbered from 1: a line to 0 over a share of the steps.

    Example:
        >>> from agrad.train.loop import decay_factor
        >>> [decay_factor(step, 4, 0.5) for step in (1, 2, 3, 4)]
        [1.0, 1.0, 1.0, 0.5]
    """
    return min(1.0, (steps + 1 - step) / steps / share)


def _steps(
    model: Module,
    step: Callable[[Any, Any], float],
    optimizer: Optimizer,
    batches: Batches,
    iterations: range,
    decay: float,
) -> Iterator[Step]:
    model.train()
    try:
        for iteration, (inputs, targets) in zip(iterations, batches.forever()):
            if decay:
                optimizer.scale = decay_factor(iteration, iterations.stop - 1, decay)
            rate, cuts, start = optimizer.rate, optimizer.cuts, perf_counter()
            try:
                loss = step(inputs, targets)
            except (AnomalyError, NonFiniteError) as error:
                raise type(error)(f"{error} (iteration {iteration})") from error
            seconds = perf_counter() - start
            cuts = optimizer.cuts - cuts
            yield Step(iteration, loss, seconds, len(inputs), rate, optimizer.fraction, cuts)
    finally:
        if decay:
            optimizer.scale = 1.0


def evaluate(
    model: Module,
    inputs: Any,
    labels: Any,
    batch_size: int = 1000,
    loss_function: LossFunction = F.cross_entropy,
) -> Evaluation:
    """Return the mean loss of a model in evaluation mode, and the accuracy of a classifier.

    A loss that is not finite is returned, not raised as an error.

    Args:
        model: returns logits of shape (N, classes, ...), or what the loss function takes; each
            module's mode is restored afterwards.
        inputs: the examples, (N, ...), at least one; on the model's device, like the labels.
        labels: their classes, integers of shape (N, ...), or any targets of the loss function.
        batch_size: how many examples are computed at a time.
        loss_function: takes output and targets, and returns the mean loss of these examples, a
            single element. For regression pass `F.mse_loss`.

    Raises:
        ValueError: there are no examples, the number of labels differs, `batch_size` is below 1, or
            the loss has several elements; the default loss gets labels that are neither classes
            nor probabilities.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> from agrad.train import evaluate
        >>> logits = np.array([[0.0, 9.0], [0.0, 9.0]], np.float32)
        >>> evaluate(nn.Identity(), logits, np.array([1, 0])).accuracy
        0.5
        >>> targets = np.array([[0.0, 8.0], [1.0, 9.0]], np.float32)
        >>> evaluate(nn.Identity(), logits, targets, loss_function=F.mse_loss)
        Evaluation(loss=0.5, accuracy=nan)
    """
    if batch_size < 1:
        raise ValueError(f"evaluate: batch_size must be at least 1, got {batch_size}")
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise ValueError(
            f"evaluate: got {len(inputs)} inputs and {len(labels)} labels; "
            "give at least one example, and a label for each"
        )
    require_targets("evaluate", loss_function, labels)
    # The sum of the examples' losses is exact, where the mean of a batch is rounded.
    sums = loss_function is F.cross_entropy
    measure = partial(F.cross_entropy, reduction="sum") if sums else loss_function
    modes = {module: module.training for module in model.modules()}
    model.eval()
    loss = correct = 0.0
    count = 0
    try:
        with no_grad(), np.errstate(over="ignore", invalid="ignore"):
            for i in range(0, len(inputs), batch_size):
                part = labels[i : i + batch_size]
                output = model(as_tensor(inputs[i : i + batch_size]))
                own = measure(output, part)
                if own.size != 1:
                    raise ValueError(
                        f"evaluate: loss_function must return a single element, got {own.shape}"
                    )
                loss += own.item() * (1 if sums else len(part))
                classes = plain(as_tensor(part))
                if classes.dtype.kind in "iu" and classes.ndim + 1 == output.ndim:
                    correct += int(np.sum(output.argmax(axis=1) == classes))
                    count += classes.size
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Evaluation(loss / len(inputs), correct / count if count else math.nan)
