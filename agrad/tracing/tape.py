"""What a captured function computes, and the stand-ins for its Tensors while it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from agrad.backend import Array, is_array, scalar
from agrad.core.context import is_grad_enabled, recording
from agrad.core.graph import Node, compute
from agrad.core.program import Recorded
from agrad.core.tensor import Tensor
from agrad.errors import CaptureError
from agrad.ops.operation import Operation

__all__ = ["Tape", "Traced"]


class Traced(Tensor):
    """A Tensor of a function that is being captured: it has a shape and a dtype, but no values.

    Attributes:
        source: the node that computed it, or itself for an argument.
        recorded: the array of the call that records.
    """

    __slots__ = ("recorded", "source")

    def __init__(self, recorded: Array, source: Node | None, requires_grad: bool) -> None:
        self.recorded = recorded
        self.source = self if source is None else source
        self.node = self._pin = self.home = self.grad = self.average_grad = None
        self._requires_grad = requires_grad

    @property
    def _data(self) -> Array:  # type: ignore[override]
        raise CaptureError(
            "capture: the function looks at the values of a Tensor, which only the call that "
            "records would see; compute with operations on Tensors, or leave this part uncaptured"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.recorded.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.recorded.dtype

    @property
    def ndim(self) -> int:
        return self.recorded.ndim

    @property
    def size(self) -> int:
        return self.recorded.size

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"


class Tape:
    """The operations of a function that is being captured, in the order in which it calls them.

    Attributes:
        arguments: what the function is called with.
        leaves: the arguments and all other Tensors that it uses, with their arrays.
        operations: what it calls, as `Program` takes it.
        modules: the modules that it calls, and whether each is in training mode.
    """

    def __init__(self, arguments: list[Tensor]) -> None:
        self.arguments = [Traced(t.data, None, t.requires_grad) for t in arguments]
        self.leaves: dict[Tensor, Array] = {traced: traced.recorded for traced in self.arguments}
        self.operations: list[Recorded] = []
        self.modules: list[tuple[Any, bool]] = []

    def enter(self, module: Any) -> None:
        """Note a module that is called, and its mode."""
        self.modules.append((module, module.training))

    def record(self, operation: Operation, inputs: tuple[Any, ...]) -> Tensor:
        """Compute an operation, and note it."""
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        pairs = [self._operand(operation, value, tensors) for value in inputs]
        _refuse_arrays(operation)
        arrays = tuple([array for _, array in pairs])
        with recording(None):  # an operation's own calls are no part of the function
            called, out = compute(operation, arrays)
        wanted = [is_grad_enabled() and getattr(value, "requires_grad", False) for value in inputs]
        sources = tuple([source for source, _ in pairs])
        parents = tuple([source if wants else None for source, wants in zip(sources, wanted)])
        node = Node(called, arrays, out, parents, [])
        self.operations.append(Recorded(node, operation, sources))
        return Traced(out, node, any(wanted))

    def _operand(
        self, operation: Operation, value: Any, tensors: list[Tensor]
    ) -> tuple[Any, Array]:
        """Return where an input comes from, None for a constant, and its array."""
        name = type(operation).__name__
        if isinstance(value, Traced):
            return value.source, value.recorded
        if isinstance(value, Tensor):
            if not value.is_leaf:
                raise CaptureError(
                    f"capture: {name} takes a Tensor of shape {value.shape} that was computed "
                    "outside the function; pass it as an argument"
                )
            return value, self.leaves.setdefault(value, value.data)
        if isinstance(value, bool | int | float | np.generic) and tensors:
            kinds = [tensor.dtype for tensor in tensors]
            _, like = self._operand(operation, tensors[0], tensors)
            return None, scalar(value, np.result_type(*kinds, value), like)
        raise CaptureError(
            f"capture: {name} takes a {type(value).__name__}, whose values would be frozen; "
            "pass it as an argument, or make it a Tensor outside the function"
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
