"""An ONNX graph under construction: names, initializers and nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from onnx import GraphProto, NodeProto, ValueInfoProto, helper, numpy_helper

from agrad.backend import Array
from agrad.onnx.recorded import Size, Value

__all__ = ["BATCH", "Graph", "element_type"]

BATCH = "batch"  # the name of the size of a batch in shapes


def element_type(dtype: np.dtype[Any]) -> int:
    """Return ONNX's number for a dtype."""
    number: int = helper.np_dtype_to_tensor_dtype(dtype)
    return number


class Graph:
    """Nodes and initializers.

    Args:
        batch: An input and its axis that has the size of the batch; None if the size is fixed.
    """

    def __init__(self, batch: tuple[str, int] | None) -> None:
        self._batch = batch
        self._batch_name = ""
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, Array] = {}
        self._constants: dict[Any, str] = {}

    # -- arrays ------------------------------------------------------------------------------------

    def weight(self, name: str, array: Array) -> str:
        """Add an initializer of a given name; return the name."""
        self._initializers[name] = array
        return name

    def constant(self, values: Any, dtype: DTypeLike = np.int64) -> str:
        """Return the name of an initializer with these values."""
        array = np.asarray(values, dtype)
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.weight(f"/constant_{len(self._constants)}", array)
        return self._constants[key]

    # -- nodes -------------------------------------------------------------------------------------

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; return the output's name."""
        (output,) = self.add_several(kind, 1, *inputs, **attributes)
        return output

    def add_several(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node; return the names of its outputs."""
        name = f"/{kind}_{len(self._nodes)}"
        outputs = [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, name, **attributes))
        return outputs

    def output(self, source: str, name: str) -> None:
        """Give a value the name of an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [source], [name], f"/{name}"))

    def cast(self, name: str, dtype: np.dtype[Any], to: np.dtype[Any]) -> str:
        """Return a value of one dtype in another."""
        return name if dtype == to else self.add("Cast", name, to=element_type(to))

    def unsqueezed(self, name: str, *axes: int) -> str:
        """Return a value with new axes of length one."""
        return self.add("Unsqueeze", name, self.constant(axes)) if axes else name

    def squeezed(self, name: str, *axes: int) -> str:
        """Return a value without axes of length one."""
        return self.add("Squeeze", name, self.constant(axes)) if axes else name

    # -- shapes ------------------------------------------------------------------------------------

    def lengths(self, sizes: Sequence[Size]) -> str:
        """Return the name of a vector of lengths."""
        if not any(size.times for size in sizes):
            return self.constant([size.fixed for size in sizes])
        parts = []
        for fixed, times in sizes:
            part = self.constant([fixed])
            if times:
                part = self._batch_size()
                part = part if times == 1 else self.add("Mul", part, self.constant([times]))
                part = self.add("Add", part, self.constant([fixed])) if fixed else part
            parts.append(part)
        return self.add("Concat", *parts, axis=0)

    def reshaped(self, name: str, sizes: Sequence[Size]) -> str:
        """Return a value in another shape."""
        if sum(size.times != 0 for size in sizes) == 1 and all(any(size) for size in sizes):
            shape = self.constant([-1 if size.times else size.fixed for size in sizes])
        else:
            shape = self.lengths(sizes)
        return self.add("Reshape", name, shape, allowzero=1)

    def _batch_size(self) -> str:
        """Return the name of a vector whose only element is the size of the batch."""
        if not self._batch_name:
            assert self._batch is not None
            name, axis = self._batch
            shape = self.add("Shape", name)
            self._batch_name = self.add("Gather", shape, self.constant([axis]), axis=0)
        return self._batch_name

    # -- the whole ---------------------------------------------------------------------------------

    def made(self, name: str, inputs: Iterable[Value], outputs: dict[str, Value]) -> GraphProto:
        """Return the graph, without nodes and initializers that no output needs."""
        needed, nodes = set(outputs), []
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.output):
                nodes.append(node)
                needed.update(node.input)
        return helper.make_graph(
            nodes[::-1],
            name,
            [_described(value.name, value) for value in inputs],
            [_described(name, value) for name, value in outputs.items()],
            [
                numpy_helper.from_array(np.ascontiguousarray(array), name)
                for name, array in self._initializers.items()
                if name in needed
            ],
        )


def _described(name: str, value: Value) -> ValueInfoProto:
    """Return the dtype and the shape of an input or an output."""
    shape = [_length_text(size) if size.times else size.fixed for size in value.shape]
    return helper.make_tensor_value_info(name, element_type(value.dtype), shape)


def _length_text(size: Size) -> str:
    text = BATCH if size.times == 1 else f"{size.times}*{BATCH}"
    return f"{text}+{size.fixed}" if size.fixed else text
