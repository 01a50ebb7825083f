"""The training loop: one step, many steps, and an evaluation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

import agrad.nn.functional as F
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.nn import Module
from agrad.optim import AverageGradient, Optimizer
from agrad.tensor import Tensor, no_grad, tensor

__all__ = ["Evaluation", "Step", "evaluate", "train", "train_step"]

LossFunction = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Step:
    """One training step that has been made: its number from 1, its loss, and its seconds."""

    iteration: int
    loss: float
    seconds: float
    examples: int


@dataclass(frozen=True)
class Evaluation:
    """The mean loss and the accuracy, from 0 to 1, on a set of examples."""

    loss: float
    accuracy: float


def train_step(
    model: Module,
    optimizer: Optimizer | AverageGradient,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction = F.cross_entropy,
) -> float:
    """Make one step on one batch and return the loss before it.

    Raises:
        NonFiniteError: the loss is NaN or infinite; neither weights nor optimizer have changed.
    """
    optimizer.zero_grad()
    loss = loss_function(model(tensor(inputs)), targets)
    value = float(loss.item())
    if not np.isfinite(value):
        raise NonFiniteError(
            f"train: the loss is {value}; lower the learning rate, or look for NaN in the inputs"
        )
    if isinstance(optimizer, AverageGradient):
        optimizer.step(loss)
    else:
        loss.backward()
        optimizer.step()
    return value


def train(
    model: Module,
    optimizer: Optimizer | AverageGradient,
    batches: Batches,
    iterations: int,
    loss_function: LossFunction = F.cross_entropy,
) -> Iterator[Step]:
    """Train on `iterations` batches, epoch after epoch, giving a `Step` after each.

    The loop belongs to the caller, who may look at the model between steps, save it, or leave.

    Raises:
        ValueError: `iterations` is negative.
        NonFiniteError: the loss has become NaN or infinite; the message names the iteration.

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
    if iterations < 0:
        raise ValueError(f"train: iterations must not be negative, got {iterations}")
    model.train()
    for iteration, (inputs, targets) in zip(range(1, iterations + 1), batches.forever()):
        start = perf_counter()
        try:
            loss = train_step(model, optimizer, inputs, targets, loss_function)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} (iteration {iteration})") from error
        yield Step(iteration, loss, perf_counter() - start, len(inputs))


def evaluate(model: Module, inputs: Any, labels: Any, batch_size: int = 1000) -> Evaluation:
    """Return the mean cross-entropy and the accuracy of a classifier, in evaluation mode.

    Args:
        model: gives logits of shape (N, classes); its mode is restored afterwards.
        inputs: the examples, (N, ...).
        labels: their classes, integers of shape (N,).
        batch_size: how many examples are computed at a time.
    """
    training = model.training
    model.eval()
    loss = correct = 0.0
    try:
        with no_grad():
            for i in range(0, len(inputs), batch_size):
                part = labels[i : i + batch_size]
                logits = model(tensor(inputs[i : i + batch_size]))
                loss += F.cross_entropy(logits, part, reduction="sum").item()
                correct += float(np.sum(logits.argmax(axis=1) == part))
    finally:
        model.train(training)
    return Evaluation(loss / len(inputs), correct / len(inputs))
