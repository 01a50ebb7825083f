"""A model's operations as its forward pass records them, and the lengths that depend on the batch.

The forward pass runs three times, with batches of different sizes. What differs between the
recordings depends on the size of the batch; a length that grows evenly is a multiple of it, plus a
constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, move
from agrad.core.context import recording
from agrad.core.tensor import Tensor
from agrad.errors import CaptureError, ExportError
from agrad.ops.choice import Choice
from agrad.ops.operation import Operation
from agrad.ops.recurrent import States
from agrad.ops.shape import BroadcastTo, Reshape
from agrad.tracing.captured import Tape, Traced

__all__ = ["Call", "Recording", "Size", "Value"]

_TOLD_BY_SHAPES = (BroadcastTo, Reshape, States)


class Size(NamedTuple):
    """The length of an axis: `fixed` plus `times` the size of the batch."""

    fixed: int
    times: int = 0


class Value:
    """An array of the recordings.

    Attributes:
        array: Its value in the first recording.
        shape: The lengths of its axes.
        call: The call that computed it, None for inputs, weights and constants.
        leaf: The leaf whose values it has, None for results, inputs and numbers.
        name: Its name in the exported graph, once it has one.
    """

    def __init__(
        self, what: str, batch: int, arrays: Sequence[Array], leaf: Tensor | None = None
    ) -> None:
        self.array, self.leaf = move(arrays[0], "cpu"), leaf
        self.call: Call | None = None
        self.name = ""
        if len({array.ndim for array in arrays}) > 1:
            raise ExportError(f"onnx.export: the axes of {what} depend on the size of the batch")
        lengths = zip(*(array.shape for array in arrays))
        self.shape = tuple(_size(what, axis, batch, *found) for axis, found in enumerate(lengths))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self.array.dtype

    def length(self, axis: int) -> int | None:
        """Return the length of an axis, None if it depends on the size of the batch."""
        size = self.shape[axis]
        return None if size.times else size.fixed


class Call:
    """An operation that was called.

    Attributes:
        operation: The operation of the first recording.
        inputs: Its inputs.
        out: Its result.
        parts: Names of what a recurrent operation computes, whose result is a record of several.
    """

    def __init__(self, operations: Sequence[Operation], inputs: list[Value], out: Value) -> None:
        self.operation, self.inputs, self.out = operations[0], inputs, out
        self.parts: dict[str, str] = {}
        self._operations = operations
        out.call = self

    @property
    def name(self) -> str:
        """The name of the operation."""
        return type(self.operation).__name__

    def require_one_operation(self) -> None:
        """Raise an ExportError if the operation depends on the size of the batch."""
        if isinstance(self.operation, _TOLD_BY_SHAPES):
            return
        first, *others = [
            # The outcome of a choice is a result, not an option.
            {"function": each.function} if isinstance(each, Choice) else vars(each)
            for each in self._operations
        ]
        for other in others:
            for name, value in first.items():
                if not np.array_equal(value, other[name]):
                    raise ExportError(
                        f"onnx.export: the {name} of {self.name} depends on the size of the batch: "
                        f"{value!r} and {other[name]!r}"
                    )


class Recording:
    """A model's calls, each after those that it depends on.

    Args:
        model: What to record.
        batches: The arguments for batches of `size` examples, of one more, and of two more; None
            for an argument left out.
        size: The number of examples of the first.

    Attributes:
        inputs, outputs: The model's arguments and results.
        calls: The operations called.
        values: All inputs, weights, constants and results.

    Raises:
        ExportError: The model cannot be recorded, or runs other operations for a batch of another
            size.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        batches: Sequence[Sequence[Tensor | None]],
        size: int,
    ) -> None:
        self._size = size
        tapes, results = zip(*(_run(model, batch) for batch in batches))
        kinds = [[type(node.operation) for node, _, _ in tape.operations] for tape in tapes]
        if any(other != kinds[0] for other in kinds) or len({len(each) for each in results}) > 1:
            raise ExportError(
                "onnx.export: the model runs other operations for a batch of another size"
            )
        self._known: dict[Any, Value] = {}
        arguments = zip(*(tape.arguments for tape in tapes))
        self.inputs = [self._value(f"input {i}", each) for i, each in enumerate(arguments)]
        self.calls: list[Call] = []
        for calls in zip(*(tape.operations for tape in tapes)):
            nodes, _, sources = zip(*calls)
            name = type(nodes[0].operation).__name__
            inputs = [
                self._value(f"input {i} of {name}", origins, arrays)
                for i, (origins, arrays) in enumerate(
                    zip(zip(*sources), zip(*(node.inputs for node in nodes)))
                )
            ]
            out = self._known[nodes] = self._new(
                f"the result of {name}", [node.out for node in nodes]
            )
            self.calls.append(Call([node.operation for node in nodes], inputs, out))
        self.outputs = [self._value(f"output {i}", each) for i, each in enumerate(zip(*results))]
        self.values = list(self._known.values())

    def _value(
        self, what: str, sources: tuple[Any, ...], arrays: Sequence[Array] | None = None
    ) -> Value:
        """Return the value that has these sources, one of each recording."""
        if sources in self._known:
            return self._known[sources]
        if isinstance(sources[0], Traced):
            value = self._known[sources] = self._new(what, [source.array for source in sources])
            return value
        leaf = sources[0] if isinstance(sources[0], Tensor) else None
        known = [source.data for source in sources] if leaf is not None else arrays
        if known is None or not all(np.array_equal(known[0], each) for each in known):
            raise ExportError(
                f"onnx.export: {what} is a constant that depends on the size of the batch; compute "
                "it from the inputs by operations on Tensors"
            )
        value = self._new(what, known, leaf)
        self._known[sources if leaf is not None else object()] = value
        return value

    def _new(self, what: str, arrays: Sequence[Array], leaf: Tensor | None = None) -> Value:
        return Value(what, self._size, arrays, leaf)


def _run(model: Callable[..., Any], batch: Sequence[Tensor | None]) -> tuple[Tape, list[Any]]:
    """Record the model on a batch; return the tape, and the sources of its results."""
    tape = Tape([tensor for tensor in batch if tensor is not None])
    traced = iter(tape.arguments)
    try:
        with recording(tape):
            result = model(*(None if tensor is None else next(traced) for tensor in batch))
    except CaptureError as error:
        raise ExportError(f"onnx.export: the model cannot be recorded: {error}") from error
    sources = []
    for out in _flat(result):
        if not isinstance(out, Traced):
            raise ExportError(
                f"onnx.export: the model returns a {type(out).__name__}; it must return Tensors "
                "that it computes from its inputs"
            )
        sources.append(out.source)
    return tape, sources


def _flat(result: Any) -> Iterator[Any]:
    """Yield the parts of a result that may be nested, without those that are None."""
    if isinstance(result, tuple | list):
        for part in result:
            yield from _flat(part)
    elif result is not None:
        yield result


def _size(what: str, axis: int, batch: int, *lengths: int) -> Size:
    """Return the length of an axis, given those for `batch`, one more and two more examples."""
    first, second, third = lengths
    if third - second != second - first:
        raise ExportError(
            f"onnx.export: the length of axis {axis} of {what} is {first}, {second} and {third} "
            f"for {batch}, {batch + 1} and {batch + 2} examples; it must grow by the same length "
            "with each example"
        )
    return Size(first - (second - first) * batch, second - first)
