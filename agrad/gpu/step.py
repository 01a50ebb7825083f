"""A training step recorded as CUDA graphs, one for each combination of shapes and options."""

import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from functools import partial
from operator import is_
from typing import Any, TypeVar

import numpy as np

from agrad import random
from agrad.backend import Array, beside, device_of
from agrad.core.anomaly import recorded_at
from agrad.core.tensor import as_tensor, plain
from agrad.data.several import Names, packed, unpacked
from agrad.gpu import cuda
from agrad.gpu.graph import Graph, Recorder
from agrad.nn import Module
from agrad.optim import Optimizer
from agrad.tracing.captured import Captured, Plan

__all__ = ["RecordedStep"]

_Made = TypeVar("_Made")

_GRAPHS = 8  # at most: each has its own memory


class RecordedStep:
    """A training step that runs as a CUDA graph once it has been recorded.

    Args:
        body: Makes the step on a batch's inputs and targets; returns the loss, an array of one
            element.
        model: The module that `body` trains.
        forwards: The captured models, which `body` calls.
        optimizer: The optimizer, which `body` steps.
    """

    def __init__(
        self,
        body: Callable[[Any, Any], Array],
        model: Module,
        forwards: Sequence[Captured],
        optimizer: Optimizer,
    ) -> None:
        self._body = body
        self._model = model
        self._forwards = forwards
        self._optimizer = optimizer
        self._buffers = list(model.buffers())  # searching for them takes longer than a launch
        self._recorder: Recorder | None = None
        self._recordings: dict[Hashable, _Recording | None] = {}
        self._refused = set[Hashable]()
        self._freed = set[Hashable]()
        """Combinations whose graphs have made room for others."""

    def __call__(self, inputs: Any, targets: Any) -> float | None:
        """Make the step on a batch and return its loss; None if the caller must make it.

        The caller makes the step on the CPU, inside `detect_anomaly`, for the first batch of each
        combination of shapes and options, whenever a condition of the step fails, and always for
        a combination with which the step cannot be recorded. Weights and states are then as they
        were before the call.

        Raises:
            DeviceError: Inputs and targets are on different devices, or the GPU fails.
        """
        names, several = unpacked(inputs)
        x, *others = [as_tensor(array).data for array in several]
        if device_of(x) == "cpu" or recorded_at.get() is not None:
            return None
        others = [beside("capture_step", "inputs", other, like=x) for other in others]
        arguments = [x, *others, beside("capture_step", "targets", plain(targets), like=x)]
        key = (names, *((a.shape, a.dtype) for a in arguments), self._optimizer.options())
        if key not in self._recordings:
            if len(self._recordings) == _GRAPHS:
                oldest = next(iter(self._recordings))
                del self._recordings[oldest]
                self._refused.discard(oldest)
                self._freed.discard(oldest)
            self._recordings[key] = None
            return None
        if key in self._refused:
            return None
        if self._optimizer.ranks is not None:
            reason = "it waits for other ranks, which a CUDA graph cannot do"
            self._refuse(key, reason, stacklevel=4)
            return None
        self._optimizer.zero_grad()
        draws = random.get_state()
        with np.errstate(all="ignore"), cuda.failures_explained():
            recording = self._recordings[key]
            reading = self._optimizer.reading()
            if recording is None or not recording.is_valid([*self._changing(), *reading]):
                del recording  # and with it its memory, which the new one may need
                try:
                    loss = self._record(key, names, arguments, reading)
                finally:
                    if self._recorder is not None:
                        self._recorder.pool.free_all_blocks()
            else:
                loss = recording.graph.run(arguments)
        if loss is None:
            random.set_state(draws)
        return loss

    def _record(
        self, key: Hashable, names: Names, arguments: list[Array], reading: list[Array]
    ) -> float | None:
        """Make a step, and record it for later steps."""
        self._recordings[key] = conclude = None
        self._buffers = list(self._model.buffers())
        changing, flats = self._changing(), self._optimizer.flats()

        def body(*arrays: Array) -> Array:
            return self._body(packed(names, arrays[:-1]), arrays[-1])

        try:
            if self._recorder is None:
                self._recorder = self._tried(partial(Recorder, arguments[0]))
            parts = body, arguments, changing, flats, self._recorder
            graph = self._tried(partial(Graph, *parts))
            conclude = self._tried(graph.rehearse)
            if conclude is not None:
                plans = [forward.last for forward in self._forwards if forward.last is not None]
                recording = _Recording(graph, plans, [*changing, *reading])
                self._tried(graph.record)
                self._recordings[key] = recording
        except (MemoryError, OSError, RuntimeError, TypeError) as error:
            self._refuse(key, error, stacklevel=5)
        if conclude is None:
            return None
        self._optimizer.zero_grad()
        return conclude()

    def _refuse(self, key: Hashable, reason: object, stacklevel: int) -> None:
        """Record no further step of this combination, and warn of it."""
        self._refused.add(key)
        warnings.warn(
            "capture_step: the step on such a batch cannot be recorded as a CUDA graph and will be "
            f"launched one operation at a time: {reason}",
            RuntimeWarning,
            stacklevel=stacklevel,
        )

    def _tried(self, make: Callable[[], _Made]) -> _Made:
        """Return what a function makes; if memory runs out, free all graphs and try again."""
        draws = random.get_state()
        with suppress(MemoryError):
            return make()
        random.set_state(draws)
        self._free_graphs()
        return make()

    def _free_graphs(self) -> None:
        """Free the memory of all graphs; one that was freed before is not recorded again.

        Otherwise graphs that do not fit beside each other would be recorded in turn for ever.
        """
        recorded = {key for key, recording in self._recordings.items() if recording is not None}
        for key in recorded & self._freed:
            self._refuse(key, "the GPU lacks memory for it beside others", stacklevel=7)
        self._freed |= recorded
        self._recordings = dict.fromkeys(self._recordings)
        if self._recorder is not None:
            self._recorder.pool.free_all_blocks()
        cuda.free_memory()

    def _changing(self) -> list[Array]:
        """Return the arrays that a step changes: parameters, states and the model's buffers."""
        return [*self._optimizer.changing(), *(buffer.writable() for buffer in self._buffers)]


class _Recording:
    """A graph of the step, and the arrays whose addresses it holds.

    Args:
        graph: The step's graph.
        plans: The plans of the models.
        arrays: The arrays that the graph reads and changes, except the plans'.
    """

    def __init__(self, graph: Graph, plans: list[Plan], arrays: list[Array]) -> None:
        self._plans = plans
        self._leaves = [plan.leaf_arrays() for plan in plans]
        self._arrays = arrays
        self.graph = graph  # freed last, when nothing else has arrays in its memory

    def is_valid(self, arrays: list[Array]) -> bool:
        """Return whether the plan still holds, and all arrays are the same objects."""
        for plan, known in zip(self._plans, self._leaves):
            leaves = plan.leaf_arrays()
            if leaves is None or known is None or not all(map(is_, leaves, known)):
                return False
        return len(arrays) == len(self._arrays) and all(map(is_, arrays, self._arrays))
