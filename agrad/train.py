"""The training loop: one step, many steps, and an evaluation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

import agrad.nn.functional as F
from agrad import cuda, random
from agrad.anomaly import detect_anomaly
from agrad.capture import Captured
from agrad.capture import capture as capture_function
from agrad.data import Batches
from agrad.errors import AnomalyError, NonFiniteError
from agrad.mode import no_grad
from agrad.nn import Module
from agrad.optim import AverageGradient, Optimizer
from agrad.tensor import Tensor, as_tensor

__all__ = ["Evaluation", "Step", "evaluate", "train", "train_step"]

LossFunction = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Step:
    """One training step that has been made.

    Attributes:
        iteration: its number, from 1.
        loss: the batch's loss before it.
        seconds: how long it took, from the batch at hand to the weights changed.
        examples: the size of its batch.
    """

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
    model: Module | Captured,
    optimizer: Optimizer | AverageGradient,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction = F.cross_entropy,
) -> float:
    """Make one step on one batch and return the loss before it.

    Args:
        model: the network, in the mode in which it is, perhaps captured.
        optimizer: a base rule or an `AverageGradient`, over the model's parameters.
        inputs: what the model is given, (N, ...), an array or a Tensor on the model's device.
        targets: what the loss is given beside the model's output.
        loss_function: gives the loss, a single element, of output and targets.

    Raises:
        NonFiniteError: the loss or a gradient is NaN or infinite; the message names the first
            operation that gave one, and neither weights nor optimizer have changed.
        DeviceError: model, inputs and targets are not on one device, or it fails.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn, optim
        >>> from agrad.train import train_step
        >>> ag.seed(0)
        >>> model = nn.Linear(2, 2)
        >>> optimizer = optim.SGD(model.parameters(), lr=0.5)
        >>> inputs, labels = ag.tensor([[1.0, 0.0], [0.0, 1.0]]), [0, 1]
        >>> train_step(model, optimizer, inputs, labels) > train_step(
        ...     model, optimizer, inputs, labels
        ... )
        True
    """
    draws = random.get_state()
    try:
        # Of overflow the error speaks once, and better.
        with np.errstate(all="ignore"), cuda.failures_explained():
            return _step(model, optimizer, inputs, targets, loss_function)
    except NonFiniteError as error:
        cause = _cause(model, inputs, targets, loss_function, draws)
        optimizer.zero_grad()
        raise NonFiniteError(f"{error}; {cause}") from error


def _step(
    model: Module | Captured,
    optimizer: Optimizer | AverageGradient,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction,
) -> float:
    optimizer.zero_grad()
    loss = loss_function(model(as_tensor(inputs)), targets)
    value = loss.item()
    if not math.isfinite(value):
        raise NonFiniteError(
            f"train: the loss is {value}; lower the learning rate, or look for NaN in the inputs"
        )
    if isinstance(optimizer, AverageGradient):
        optimizer.step(loss)
    else:
        loss.backward()
        optimizer.require_finite_gradients("train")
        optimizer.step()
    return value


def _cause(
    model: Module | Captured,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction,
    draws: dict[str, Any],
) -> str:
    """Return in words what first was not finite: the step is computed again, and looked through."""
    given = {"the inputs": as_tensor(inputs)}
    module = model.function if isinstance(model, Captured) else model
    if isinstance(module, Module):
        given |= {f"the parameter {name}": p for name, p in module.named_parameters()}
    for name, tensor in given.items():
        if not np.isfinite(tensor.data).all():
            return f"before any operation {name} had a NaN or an infinity"
    after = random.get_state()
    random.set_state(draws)  # for the same dropout masks
    try:
        with detect_anomaly():
            loss_function(model(as_tensor(inputs)), targets).backward()
    except AnomalyError as error:
        return f"first, {str(error).removeprefix('detect_anomaly: ')}"
    finally:
        random.set_state(after)
    return "computed again, it is finite: the model or the loss depends on more than its inputs"


def train(
    model: Module,
    optimizer: Optimizer | AverageGradient,
    batches: Batches,
    iterations: int,
    loss_function: LossFunction = F.cross_entropy,
    start: int = 0,
    *,
    capture: bool = False,
) -> Iterator[Step]:
    """Train on one batch after another, epoch after epoch, giving a `Step` after each.

    The loop belongs to the caller, who may look at the model between steps, save it, or leave.
    `agrad.checkpoint` keeps what it takes to go on after a crash.

    Args:
        model: the network; it is put into training mode.
        optimizer: a base rule or an `AverageGradient`, over the model's parameters.
        batches: of inputs and targets, in this order; they go on where they stand.
        iterations: the number of the last step, 0 or more.
        loss_function: gives the loss, a single element, of the model's output and the targets.
        start: how many of these steps have been made before.
        capture: run the model as `agrad.capture` makes it, faster where layers are small. Only for
            a model whose Python does the same at every call.

    Raises:
        ValueError: `iterations` or `start` is negative.
        CaptureError: the model cannot be captured.
        NonFiniteError: the loss or a gradient has become NaN or infinite; the message names the
            iteration, whose step has not been made, and the first operation that gave one.

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
    steps = range(start + 1, iterations + 1)
    return _steps(model, optimizer, batches, steps, loss_function, capture)


def _steps(
    model: Module,
    optimizer: Optimizer | AverageGradient,
    batches: Batches,
    iterations: range,
    loss_function: LossFunction,
    capture: bool,
) -> Iterator[Step]:
    model.train()
    forward = capture_function(model) if capture else model
    for iteration, (inputs, targets) in zip(iterations, batches.forever()):
        start = perf_counter()
        try:
            loss = train_step(forward, optimizer, inputs, targets, loss_function)
        except (AnomalyError, NonFiniteError) as error:
            raise type(error)(f"{error} (iteration {iteration})") from error
        yield Step(iteration, loss, perf_counter() - start, len(inputs))


def evaluate(model: Module, inputs: Any, labels: Any, batch_size: int = 1000) -> Evaluation:
    """Return the mean cross-entropy and the accuracy of a classifier, in evaluation mode.

    A loss that is not finite is returned as it is.

    Args:
        model: gives logits of shape (N, classes); the mode of each module is restored afterwards.
        inputs: the examples, (N, ...), at least one; on the model's device, as the labels.
        labels: their classes, integers of shape (N,).
        batch_size: how many examples are computed at a time.

    Raises:
        ValueError: no examples, another number of labels, or a `batch_size` below 1.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> from agrad.train import evaluate
        >>> logits = np.array([[0.0, 9.0], [0.0, 9.0]], np.float32)
        >>> evaluate(nn.Identity(), logits, np.array([1, 0])).accuracy
        0.5
    """
    if batch_size < 1:
        raise ValueError(f"evaluate: batch_size must be at least 1, got {batch_size}")
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise ValueError(
            f"evaluate: got {len(inputs)} inputs and {len(labels)} labels; "
            "give at least one example, and a label for each"
        )
    modes = {module: module.training for module in model.modules()}
    model.eval()
    loss = correct = 0.0
    try:
        with no_grad(), np.errstate(over="ignore", invalid="ignore"):
            for i in range(0, len(inputs), batch_size):
                part = labels[i : i + batch_size]
                logits = model(as_tensor(inputs[i : i + batch_size]))
                loss += F.cross_entropy(logits, part, reduction="sum").item()
                correct += int(np.sum(logits.argmax(axis=1) == part))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Evaluation(loss / len(inputs), correct / len(inputs))
