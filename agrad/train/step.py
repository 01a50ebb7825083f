"""One training step: eager, and captured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import agrad.nn.functional as F
from agrad import random
from agrad.backend import move
from agrad.core.anomaly import detect_anomaly
from agrad.core.tensor import Tensor, as_tensor, plain
from agrad.data.several import call, each_named, examples, is_several, mapped, unpacked
from agrad.distributed import Ranks
from agrad.errors import AnomalyError, NonFiniteError
from agrad.gpu import cuda
from agrad.gpu.deferred import holds, is_deferring
from agrad.gpu.step import RecordedStep
from agrad.nn import Module
from agrad.nn.functional.normalization import statistics_restored
from agrad.ops.part import noting_calls, part_of
from agrad.optim import Optimizer
from agrad.tracing.captured import Captured, capture
from agrad.train.entropy import entropy_of
from agrad.train.share import LossFunction, mean_loss, row_weights, share_of

__all__ = [
    "CapturedStep",
    "LossFunction",
    "capture_step",
    "require_loss",
    "require_targets",
    "train_step",
]


class Models(NamedTuple):
    """A model as a step calls it.

    Attributes:
        on_batch: The model for a batch.
        on_rows: The model for the rows that a step is measured on.
        buffers: The model's buffers; None to look for them, which takes as long as several layers.
    """

    on_batch: Module | Captured
    on_rows: Module | Captured
    buffers: list[Tensor] | None = None


def train_step(
    model: Module | Captured,
    optimizer: Optimizer,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction = F.cross_entropy,
) -> float:
    """Make one step on one batch and return the loss before the step.

    An optimizer that measures its step on a few examples does so on the first of the batch, which
    should be in random order. They keep the dropout masks and the batch statistics that they have
    in the batch.

    Args:
        model: The network, perhaps captured; its mode does not change.
        optimizer: Any optimizer over the model's parameters.
        inputs: The model's input, (N, ...), an array or a Tensor on the model's device. Several are
            a tuple of arrays or Tensors, which the model takes by position, or a dict, by name.
        targets: The loss function's second argument, after the model's output. Several are a dict.
        loss_function: Takes output and targets, and returns the loss, a single element: the mean
            over the examples, since a sum over the few that a step is measured on would be smaller.
            The default is for classes or their probabilities; for regression pass `F.mse_loss`.

    Raises:
        ValueError: A cross entropy gets targets that are neither classes nor probabilities;
            several inputs differ in their number of examples.
        NonFiniteError: The loss or a gradient is NaN or infinite; the message names the first
            operation that produced such a value. Neither weights, optimizer nor the running
            statistics of batch normalization have changed.
        DeviceError: Model, inputs and targets are on different devices, or the device fails.

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
    return _Step(Models(model, model), optimizer, loss_function).explained(inputs, targets)


@dataclass(frozen=True)
class _Step:
    """The training step: called with inputs and targets, it returns the loss before the step."""

    models: Models
    optimizer: Optimizer
    loss_function: LossFunction

    def explained(self, inputs: Any, targets: Any) -> float:
        """Make a step; if a value is not finite, name the first operation that made one."""
        draws = random.get_state()
        with statistics_restored():
            try:
                # Our own error reports an overflow once, and better.
                with np.errstate(all="ignore"), cuda.failures_explained():
                    return self(inputs, targets)
            except NonFiniteError as error:
                cause = _cause(self.models.on_batch, inputs, targets, self.loss_function, draws)
                self.optimizer.zero_grad()
                raise NonFiniteError(f"{error}; {cause}") from error

    def __call__(self, inputs: Any, targets: Any) -> float:
        optimizer = self.optimizer
        require_targets("train", self.loss_function, targets)
        optimizer.zero_grad()
        x = mapped(as_tensor, inputs)
        size = optimizer.probe_size
        if optimizer.ranks is not None:
            return self._on_share(optimizer.ranks, x, targets)
        count = examples("train", x) if size is not None or is_several(x) else 0
        if size is not None and (size >= count or not self._has_labels(targets, size)):
            size = None
        loss, rows = self._losses(self.loss_function, x, targets, size)
        if loss is None:
            raise TypeError("train: loss_function returned None; it must return the loss, a Tensor")
        return optimizer.step(loss, rows)

    def _losses(
        self, loss_function: LossFunction, x: Any, targets: Any, size: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss on a batch, and that on its first rows if there is a number of them."""
        if size is None:
            return loss_function(call(self.models.on_batch, x), targets), None
        first = mapped(lambda tensor: tensor.data[:size], x)
        with noting_calls() as calls:
            loss = loss_function(call(self.models.on_batch, x), targets)
        with part_of(calls):
            known = each_named(lambda target: plain(target)[:size], targets)
            rows = loss_function(call(self.models.on_rows, first), known)
        return loss, rows

    def _has_labels(self, targets: Any, size: int) -> bool:
        """Return whether a cross entropy counts a label of the first `size` examples."""
        # A recorded step without labels has a loss of NaN, and runs again eagerly.
        entropy = entropy_of(self.loss_function)
        if entropy is None or is_deferring():
            return True
        labels = plain(targets) if hasattr(targets, "dtype") else np.asarray(targets)
        return labels.dtype.kind not in "iu" or bool(entropy.label_weights(labels[:size]).any())

    def _on_share(self, ranks: Ranks, x: Any, targets: Any) -> float:
        """Make a step on this rank's rows of a batch, and on the other ranks' with them."""
        optimizer, loss_function = self.optimizer, self.loss_function
        if isinstance(targets, Mapping):
            raise TypeError("train: over several ranks the targets must be one array, not a dict")
        targets = np.asarray(targets) if isinstance(targets, list) else plain(targets)
        ranks.require_same(
            "the batch's targets", np.ascontiguousarray(move(targets, "cpu")).tobytes()
        )
        share = share_of(
            ranks, row_weights("train", loss_function, x, targets), optimizer.probe_size
        )
        own = mapped(lambda tensor: tensor.data[share.rows].copy(), x)
        function = partial(mean_loss, loss_function)
        # Each rank has its own draws, which leave the generators of all ranks in one state.
        with random.seeded(int(random.generator().integers(2**63)), ranks.rank):
            loss, rows = self._losses(function, own, targets[share.rows].copy(), share.first)
        value = optimizer.step(
            loss * share.weight, None if rows is None else rows * share.first_weight
        )
        buffers = self.models.buffers
        if buffers is None:
            model = self.models.on_batch
            module = model.function if isinstance(model, Captured) else model
            buffers = [*module.buffers()] if isinstance(module, Module) else []
        ranks.average(buffers, share.weight)
        return value


def require_loss(owner: str, name: str, function: Any) -> None:
    """Raise a TypeError if a loss is not a function."""
    if not callable(function):
        raise TypeError(
            f"{owner}: {name} must be a function of the output and the targets, got a "
            f"{type(function).__name__}"
        )


def require_targets(owner: str, loss_function: LossFunction, targets: Any) -> None:
    """Raise if the loss is a cross entropy and float targets are not class probabilities.

    It would take the targets of a regression for weights of the classes' logarithms, and be 0 for
    a single output.

    Raises:
        ValueError: There is a single class, a target is negative, or those of an example do not sum
            to 1.
    """
    if entropy_of(loss_function) is None:
        return
    shares = plain(targets) if hasattr(targets, "dtype") else np.asarray(targets)
    if shares.dtype.kind != "f" or shares.ndim < 2:
        return  # the loss itself refuses floats without an axis of classes
    proper = (shares >= 0).all() & (abs(shares.sum(axis=1) - 1) < 1e-2).all()
    if shares.shape[1] == 1 or not holds(proper):
        raise ValueError(
            f"{owner}: the targets, {shares.dtype}{list(shares.shape)}, are neither classes nor "
            "probabilities of several classes that sum to 1, as cross_entropy needs; for "
            "regression, pass loss_function=F.mse_loss"
        )


def _cause(
    model: Module | Captured,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction,
    draws: dict[str, Any],
) -> str:
    """Compute the step again, and describe the first value that is not finite."""
    names, arrays = unpacked(inputs)
    words = ["the inputs"] if names is None else names or range(len(arrays))
    given = {
        word if names is None else f"the input {word!r}": as_tensor(array)
        for word, array in zip(words, arrays)
    }
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
            loss_function(call(model, mapped(as_tensor, inputs)), targets).backward()
    except AnomalyError as error:
        return f"first, {str(error).removeprefix('detect_anomaly: ')}"
    finally:
        random.set_state(after)
    return "computed again, it is finite: the model or the loss depends on more than its inputs"


def capture_step(
    model: Module,
    optimizer: Optimizer,
    loss_function: LossFunction = F.cross_entropy,
) -> "CapturedStep":
    """Return `train_step` for this model and optimizer, with as little Python as possible.

    On the CPU the model runs as `agrad.capture` makes it. On a GPU the whole step is one CUDA
    graph: both forward passes, both sweeps and the optimizer, launched at once, with one wait for
    all numbers that the host needs. For each combination of shapes the first step runs
    eagerly, and the second is recorded. A step is recorded again when the arrays of parameters or
    states are replaced, and when modes, options of the optimizer or the model's constants change.

    If a condition that the step checks fails (each label is a class, the loss is finite, and so is
    the loss at the end of the updates), everything the graph changed is restored and the step runs
    eagerly. Steps that cannot be recorded always run eagerly, after a RuntimeWarning that says why.

    After a step run as a graph, the parameters have no `.grad`.

    Args:
        model: The network, whose Python does the same at every call.
        optimizer: Any optimizer over the model's parameters.
        loss_function: Takes output and targets, and returns the mean loss of the examples, a single
            element.

    Returns:
        A function of a batch's inputs and targets that makes a step and returns the loss before the
        step.

    Raises:
        CaptureError, NonFiniteError, DeviceError: When called, as for `agrad.capture` and
            `train_step`.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad import nn, optim
        >>> from agrad.train import capture_step
        >>> ag.seed(0)
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> step = capture_step(model, optim.Adam(model.parameters(), lr=0.1))
        >>> inputs, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> losses = [step(inputs, labels) for _ in range(20)]
        >>> losses[-1] < 0.1 < losses[0]
        True
    """
    return CapturedStep(model, optimizer, loss_function)


class CapturedStep:
    """A captured training step, made by `capture_step`."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss_function: LossFunction,
    ) -> None:
        self._parts = model, optimizer, loss_function
        # Each keeps the arrays of its last call, of one shape.
        forwards = capture(model), capture(model)
        models = Models(*forwards, [*model.buffers()])
        self._step = _Step(models, optimizer, loss_function)
        # While a step is recorded, the loss that it returns is an array.
        body: Callable[..., Any] = self._step
        self._recorded = RecordedStep(body, model, forwards, optimizer)

    def __getstate__(self) -> tuple[Any, ...]:
        """Copy and pickle only the parts; a copy records again at its first step."""
        return self._parts

    def __setstate__(self, parts: tuple[Any, ...]) -> None:
        CapturedStep.__init__(self, *parts)

    def __call__(self, inputs: Any, targets: Any) -> float:
        """Make a step on a batch and return the loss before the step."""
        loss = self._recorded(inputs, targets)
        return self._eager(inputs, targets) if loss is None else loss

    def _eager(self, inputs: Any, targets: Any) -> float:
        return self._step.explained(inputs, targets)
