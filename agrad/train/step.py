"""One training step: as it is, and captured."""

import warnings
from collections.abc import Callable, Hashable
from functools import partial
from operator import is_
from typing import Any

import numpy as np

import agrad.nn.functional as F
from agrad import random
from agrad.backend import Array, beside, device_of
from agrad.core.anomaly import detect_anomaly, detecting
from agrad.core.array_methods import plain
from agrad.core.tensor import Tensor, as_tensor
from agrad.errors import AnomalyError, NonFiniteError
from agrad.gpu import cuda
from agrad.gpu.graph import Graph, Recorder
from agrad.nn import Module
from agrad.optim import Optimizer
from agrad.tracing.captured import Captured, capture
from agrad.tracing.plan import Plan

__all__ = ["CapturedStep", "LossFunction", "capture_step", "train_step"]

LossFunction = Callable[[Tensor, Any], Tensor]


def train_step(
    model: Module | Captured,
    optimizer: Optimizer,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction = F.cross_entropy,
) -> float:
    """Make one step on one batch and return the loss before it.

    Args:
        model: the network, in the mode in which it is, perhaps captured.
        optimizer: any optimizer over the model's parameters.
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
    optimizer: Optimizer,
    inputs: Any,
    targets: Any,
    loss_function: LossFunction,
) -> float:
    optimizer.zero_grad()
    return optimizer.step(loss_function(model(as_tensor(inputs)), targets))


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


def capture_step(
    model: Module,
    optimizer: Optimizer,
    loss_function: LossFunction = F.cross_entropy,
) -> "CapturedStep":
    """Return `train_step` for this model and optimizer, with as little Python in it as can be.

    On the CPU the model runs as `agrad.capture` makes it. On a GPU the whole step is one CUDA
    graph: both forward passes, both sweeps and the optimizer, launched at once, with one wait for
    all that is to be known of it. For each combination of shapes, the first step is made as it is,
    and in the second the graph is recorded. It is recorded anew where the arrays of parameters or
    states are others, and where modes, options of the optimizer or the model's constants differ.

    Where a condition fails that the step looks at (a label that is no class, a loss that is not
    finite, also at the end of the updates), what the graph has changed is restored, and the step is
    made as it is. A step that no graph can have is always made so, after a RuntimeWarning that says
    what stands in the way.

    After a step by a graph the parameters have no `.grad`.

    Args:
        model: the network, whose Python does the same at every call.
        optimizer: any optimizer over the model's parameters.
        loss_function: gives the loss, a single element, of output and targets.

    Returns:
        A function of a batch's inputs and targets that makes a step and returns the loss before it.

    Raises:
        CaptureError, NonFiniteError, DeviceError: when called, as by `agrad.capture` and
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


_GRAPHS = 8  # one for each combination of shapes and options met, of which so many are kept


class CapturedStep:
    """A training step as `capture_step` returns it."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss_function: LossFunction,
    ) -> None:
        self._model = model
        self._forward = capture(model)
        self._optimizer = optimizer
        self._loss_function = loss_function
        self._buffers = list(model.buffers())  # to look for them takes longer than a launch
        self._recorder: Recorder | None = None
        self._recorded: dict[Hashable, _Recorded | None] = {}
        self._recordable = True

    def __call__(self, inputs: Any, targets: Any) -> float:
        """Make a step on a batch and return the loss before it."""
        x = as_tensor(inputs).data
        if device_of(x) == "cpu" or detecting() or not self._recordable:
            return self._as_it_is(inputs, targets)
        arguments = x, beside("capture_step", "targets", plain(targets), like=x)
        key = (*((a.shape, a.dtype) for a in arguments), self._optimizer.options())
        if key not in self._recorded:
            if len(self._recorded) == _GRAPHS:
                del self._recorded[next(iter(self._recorded))]
            self._recorded[key] = None
            return self._as_it_is(inputs, targets)
        self._optimizer.zero_grad()
        draws = random.get_state()
        with np.errstate(all="ignore"), cuda.failures_explained():
            recorded = self._recorded[key]
            reading = self._optimizer.reading()
            if recorded is None or not recorded.stands([*self._changing(), *reading]):
                loss = self._record(key, arguments, reading)
            else:
                loss = recorded.graph.run(arguments)
        if loss is None:
            random.set_state(draws)
            return self._as_it_is(inputs, targets)
        return loss

    def _as_it_is(self, inputs: Any, targets: Any) -> float:
        return train_step(self._forward, self._optimizer, inputs, targets, self._loss_function)

    def _record(
        self, key: Hashable, arguments: tuple[Array, Array], reading: list[Array]
    ) -> float | None:
        """Make a step, and record it for those that follow."""
        self._recorded[key] = conclude = None
        # Recorded, the loss that it returns is an array.
        body: Callable[..., Any] = partial(
            _step, self._forward, self._optimizer, loss_function=self._loss_function
        )
        self._buffers = list(self._model.buffers())
        changing, flats = self._changing(), self._optimizer.flats()
        try:
            if self._recorder is None:
                self._recorder = Recorder(arguments[0])
            graph = Graph(body, arguments, changing, flats, self._recorder)
            conclude = graph.rehearse()
            if conclude is not None:
                plan: Any = self._forward.last
                recorded = _Recorded(graph, plan, [*changing, *reading])
                graph.record()
                self._recorded[key] = recorded
        except (MemoryError, OSError, RuntimeError, TypeError) as error:
            self._recordable = False
            warnings.warn(
                "capture_step: no CUDA graph can have the step, which is therefore launched one "
                f"operation after the other: {error}",
                RuntimeWarning,
                stacklevel=3,
            )
        if conclude is None:
            return None
        self._optimizer.zero_grad()
        return conclude()

    def _changing(self) -> list[Array]:
        """Return the arrays that a step changes: parameters, states and the model's buffers."""
        return [*self._optimizer.changing(), *(buffer.writable() for buffer in self._buffers)]


class _Recorded:
    """A recorded step, and what must be as it was for it to be right.

    Args:
        graph: of the step.
        plan: of the model.
        arrays: those that the graph has the addresses of, but for the plan's.
    """

    def __init__(self, graph: Graph, plan: Plan, arrays: list[Array]) -> None:
        self._plan = plan
        self._leaves = plan.leaf_arrays()
        self._arrays = arrays
        self.graph = graph  # the last to go, when nothing else has arrays of its memory

    def stands(self, arrays: list[Array]) -> bool:
        """Return whether the plan, and all arrays, are still what they were."""
        leaves = self._plan.leaf_arrays()
        return (
            leaves is not None
            and self._leaves is not None
            and len(arrays) == len(self._arrays)
            and all(map(is_, leaves, self._leaves))
            and all(map(is_, arrays, self._arrays))
        )
