"""What a function does while it is captured: its operations, and where their inputs come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, is_array, scalar
from agrad.core.graph import Node
from agrad.core.mode import is_grad_enabled, taping
from agrad.core.tensor import Tensor, compute
from agrad.errors import CaptureError
from agrad.ops.operation import Operation

__all__ = ["Slot", "Tape", "Traced"]


class Slot(NamedTuple):
    """A value of a recording: an external Tensor's, a constant, or a step's result."""

    kind: str
    number: int


class Traced(Tensor):
    """A Tensor in a function that is being captured: shape and dtype are known, values are not."""

    __slots__ = ("_array", "slot")

    def __init__(self, slot: Slot, array: Array, requires_grad: bool) -> None:
        self.slot = slot
        self._array = array
        self._node = self._pin = self._home = self.grad = self.average_grad = None
        self._requires_grad = requires_grad

    @property
    def _data(self) -> Array:  # type: ignore[override]
        raise CaptureError(
            "capture: the function looks at the values of a Tensor, which only the call that "
            "records would see; compute with operations on Tensors, or leave this part uncaptured"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    def __len__(self) -> int:
        return len(self._array)

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"


class Tape:
    """What a function computes while it is captured, in the order in which it does."""

    def __init__(self, arguments: list[Tensor]) -> None:
        self.externals: list[Tensor] = []
        self.constants: list[Array] = []
        self.steps: list[tuple[Operation, tuple[Slot, ...], tuple[bool, ...]]] = []
        self.operations: list[Operation] = []  # as this one call made them
        self.modules: list[tuple[Any, bool]] = []
        self.nodes: dict[
            Slot, Any
        ] = {}  # of the results that want gradients; the leaves themselves
        self._arrays: dict[Slot, Array] = {}
        self._slots: dict[Tensor, Slot] = {}
        self.arguments = [
            Traced(self._external(tensor), tensor._data, tensor.requires_grad)
            for tensor in arguments
        ]
        self.argument_count = len(arguments)

    def enter(self, module: Any) -> None:
        """Note a module that is called, and its mode."""
        self.modules.append((module, module.training))

    def record(self, operation: Operation, inputs: tuple[Any, ...]) -> Tensor:
        """Compute an operation, and note it."""
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        slots = tuple(self._slot(operation, value, tensors) for value in inputs)
        _refuse_arrays(operation)
        arrays = tuple(self._arrays[slot] for slot in slots)
        with taping(None):  # what an operation does when called is no part of the function
            called, out = compute(operation, arrays)
        slot = Slot("step", len(self.steps))
        parents = tuple(self.nodes.get(slot) if is_grad_enabled() else None for slot in slots)
        differentiable = any(parent is not None for parent in parents)
        if differentiable:
            self.nodes[slot] = Node(called, arrays, out, parents, [])
        self.steps.append((operation, slots, tuple(parent is not None for parent in parents)))
        self.operations.append(called)
        self._arrays[slot] = out
        return Traced(slot, out, differentiable)

    def values(self) -> list[Array]:
        """Return all values of the recording, in the order of a plan's slots."""
        lengths = {
            "external": len(self.externals),
            "constant": len(self.constants),
            "step": len(self.steps),
        }
        return [self._arrays[Slot(kind, i)] for kind, n in lengths.items() for i in range(n)]

    def _external(self, tensor: Tensor) -> Slot:
        slot = Slot("external", len(self.externals))
        self.externals.append(tensor)
        self._arrays[slot] = tensor._data
        if tensor.requires_grad:
            self.nodes[slot] = tensor
        return slot

    def _slot(self, operation: Operation, value: Any, tensors: list[Tensor]) -> Slot:
        if isinstance(value, Traced):
            return value.slot
        if isinstance(value, Tensor):
            if not value.is_leaf:
                raise CaptureError(
                    f"capture: {type(operation).__name__} takes a Tensor of shape {value.shape} "
                    "that was computed outside the function; pass it as an argument"
                )
            if value not in self._slots:
                self._slots[value] = self._external(value)
            return self._slots[value]
        if isinstance(value, bool | int | float | np.generic) and tensors:
            kinds = [tensor.dtype for tensor in tensors]
            like = self._arrays[self._slot(operation, tensors[0], tensors)]
            slot = Slot("constant", len(self.constants))
            self.constants.append(scalar(value, np.result_type(*kinds, value), like))
            self._arrays[slot] = self.constants[-1]
            return slot
        raise CaptureError(
            f"capture: {type(operation).__name__} takes a {type(value).__name__}, whose values "
            "would be frozen; pass it as an argument, or make it a Tensor outside the function"
        )


def _refuse_arrays(operation: Operation) -> None:
    """Refuse an operation that holds arrays, which the function has computed by other means."""

    def arrays(value: Any) -> Iterator[Array]:
        if is_array(value):
            yield value
        elif isinstance(value, tuple | list):
            for part in value:
                yield from arrays(part)

    for name, value in vars(operation).items():
        for array in arrays(value):
            raise CaptureError(
                f"capture: {type(operation).__name__} holds an array of shape {array.shape} as its "
                f"{name}, which would be frozen; leave this part out of what is captured"
            )
