"""The training loop."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import agrad.nn.functional as F
from agrad.arguments import integer, require
from agrad.data import Batches
from agrad.data.several import examples
from agrad.errors import AnomalyError, NonFiniteError
from agrad.nn import Module
from agrad.optim import Optimizer
from agrad.train.evaluation import pairs
from agrad.train.step import LossFunction, capture_step, train_step

__all__ = ["DECAY", "Step", "checked_decay", "decay_factor", "make_step", "steps", "train"]

DECAY = 0.4
"""The share of the training over which an automatic rate's step falls to 0."""


@dataclass(frozen=True)
class Step:
    """One completed training step.

    Attributes:
        iteration: Its number, from 1.
        loss: The batch's loss before the step.
        seconds: The time the step took, without loading the batch.
        examples: The size of its batch.
        rate: The effective learning rate of the step.
        fraction: The share of its update that the step used, or the last one that measured; None
            for optimizers that do not measure.
        cuts: How often the step was cut because it raised the loss.
    """

    iteration: int
    loss: float
    seconds: float
    examples: int
    rate: float
    fraction: float | None
    cuts: int


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
        model: The network; it is set to training mode.
        optimizer: Any optimizer over the model's parameters.
        batches: Batches of inputs and targets, in this order; they continue from where they are.
            Several inputs are a tuple or a dict; see `train_step`.
        iterations: The number of the last step, 0 or more.
        loss_function: Takes the model's output and the targets, and returns the loss, a single
            element. The default is for classes or their probabilities; for regression pass
            `F.mse_loss`.
        start: How many of these steps were made earlier.
        capture: Make steps as `capture_step` does, which is faster for small layers. Only for a
            model whose Python does the same at every call.
        decay: The share of the iterations, at the end, over which the step falls linearly to 0. By
            default it is 0.4 for an optimizer with an automatic rate and no schedule, otherwise 0.

    Raises:
        ValueError: `iterations` or `start` is negative; `decay` is not in
            [0, 1], or the optimizer has a schedule already; the default loss gets targets that are
            neither classes nor probabilities.
        CaptureError: The model cannot be captured.
        NonFiniteError: The loss or a gradient is NaN or infinite; the message names the iteration,
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
    iterations = integer("train", "iterations", iterations, least=0)
    start = integer("train", "start", start, least=0)
    decay = checked_decay("train", optimizer, decay)
    step = make_step(model, optimizer, loss_function, capture)
    numbers = range(start + 1, iterations + 1)
    taken = pairs("train", batches.forever())
    return steps(model, step, optimizer, taken, numbers, iterations, decay)


def checked_decay(owner: str, optimizer: Optimizer, decay: float | None) -> float:
    """Return the share of the decay, by default the one that suits the optimizer.

    Raises:
        ValueError: It is not in [0, 1], or the optimizer has a schedule already.
    """
    if decay is None:
        decay = DECAY if optimizer.automatic and optimizer.scale_source == 1 else 0.0
    require(owner, "be in [0, 1]", lambda x: 0 <= x <= 1, decay=decay)
    if decay and optimizer.scale_source != 1:
        raise ValueError(f"{owner}: got decay={decay}, but the optimizer has a schedule already")
    return decay


def make_step(
    model: Module, optimizer: Optimizer, loss_function: LossFunction, capture: bool
) -> Callable[[Any, Any], float]:
    """Return a function that makes a step on a batch's inputs and targets, perhaps captured."""
    if capture:
        return capture_step(model, optimizer, loss_function)
    return partial(train_step, model, optimizer, loss_function=loss_function)


def decay_factor(step: int, steps: int, share: float) -> float:
    """Return the factor on a step, numbered from 1: a line to 0 over a share of the steps.

    Example:
        >>> from agrad.train.loop import decay_factor
        >>> [decay_factor(step, 4, 0.5) for step in (1, 2, 3, 4)]
        [1.0, 1.0, 1.0, 0.5]
    """
    return min(1.0, (steps + 1 - step) / steps / share)


def steps(
    model: Module,
    step: Callable[[Any, Any], float],
    optimizer: Optimizer,
    batches: Iterator[Any],
    numbers: Iterable[int],
    iterations: int,
    decay: float,
) -> Iterator[Step]:
    """Make a step on each batch, yielding a `Step` after each; see `train`.

    Args:
        model: The network; it is set to training mode.
        step: Makes a step, as `make_step` returns it.
        optimizer: The optimizer that it steps.
        batches: Pairs of inputs and targets.
        numbers: The numbers of the steps; no batch is taken after the last.
        iterations: The number of steps of the whole training, which the decay needs.
        decay: The share of them over which the step falls to 0.
    """
    model.train()
    try:
        for iteration, (inputs, targets) in zip(numbers, batches):
            if decay:
                optimizer.scale = decay_factor(iteration, iterations, decay)
            rate, cuts, start = optimizer.rate, optimizer.cuts, perf_counter()
            try:
                loss = step(inputs, targets)
            except (AnomalyError, NonFiniteError) as error:
                raise type(error)(f"{error} (iteration {iteration})") from error
            seconds = perf_counter() - start
            cuts = optimizer.cuts - cuts
            size = examples("train", inputs)
            yield Step(iteration, loss, seconds, size, rate, optimizer.fraction, cuts)
    finally:
        if decay:
            optimizer.scale = 1.0
