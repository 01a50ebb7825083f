"""Recurrent operations: a node of ONNX does the work of one and of the dense layer before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from agrad.errors import ExportError
from agrad.onnx.graph import Graph
from agrad.onnx.recorded import Call, Value
from agrad.ops.linalg import Affine

__all__ = ["padded", "recurrent", "states"]

# The numbers of agrad's gates, which have PyTorch's order, in the order of ONNX.
_ORDERS = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}


def recurrent(graph: Graph, call: Call) -> str:
    """Add the nodes of a layer in one direction; `states` takes the results from `call.parts`."""
    operation: Any = call.operation
    projected, weight, *rest = call.inputs
    dense = projected.call
    if dense is None or type(dense.operation) is not Affine:
        raise ExportError(
            f"onnx.export: the input of {call.name} must come from a dense layer, as in "
            f"nn.{call.name}"
        )
    x, outer, *outer_bias = dense.inputs
    following = iter(rest)
    first = [next(following) for _ in range(operation.started * (1 + operation.has_cell))]
    inner_bias = [next(following) for _ in range(operation.biased)]
    lengths = [next(following) for _ in range(operation.masked)]

    width, gates = weight.array.shape[1], len(_ORDERS[call.name])
    order = np.arange(gates * width).reshape(gates, width)[_ORDERS[call.name]].ravel()

    def rows(value: Value) -> str:
        """Return rows in ONNX's order, with the axis of directions."""
        name = value.name
        if gates > 1:
            name = graph.add("Gather", name, graph.constant(order), axis=0)
        return graph.unsqueezed(name, 0)

    zeros = graph.constant(np.zeros((1, gates * width)), x.dtype)
    biases = [rows(part[0]) if part else zeros for part in (outer_bias, inner_bias)]
    options: dict[str, Any] = {"hidden_size": width}
    if operation.reverse:
        options["direction"] = "reverse"
    if call.name == "GRU":
        options["linear_before_reset"] = 1
    if call.name == "RNN":
        options["activations"] = [{"tanh": "Tanh", "relu": "Relu"}[operation.activation]]
    stops = [graph.cast(value.name, value.dtype, np.dtype(np.int32)) for value in lengths]
    found = graph.add_several(
        call.name,
        2 + operation.has_cell,
        x.name,
        rows(outer),
        rows(weight),
        graph.add("Concat", *biases, axis=1) if outer_bias or inner_bias else "",
        *(stops or [""]),
        *(graph.unsqueezed(value.name, 0) for value in first),
        **options,
    )
    out = graph.squeezed(found[0], 1)
    if lengths and not operation.reverse:
        # At padding ONNX gives zeros. agrad gives the last state, which later operations take from
        # the end. In reverse they take it from the first element, which is never padding.
        within = _within(graph, lengths[0], x)
        out = graph.add("Where", within, out, found[1])
    call.parts = {"hidden": out}
    if operation.has_cell:
        call.parts["cell"] = graph.squeezed(found[2], 0)
    return found[0]


def states(graph: Graph, call: Call) -> str:
    """Return the hidden states of a layer, or its last cell state."""
    record = call.inputs[0].call
    assert record is not None
    return record.parts["hidden" if call.out.ndim == 3 else "cell"]


def padded(graph: Graph, call: Call) -> str:
    """Return states with zeros at padding."""
    x, lengths = call.inputs
    within = _within(graph, lengths, x)
    return graph.add("Where", within, x.name, graph.constant(0, x.dtype))


def _within(graph: Graph, lengths: Value, x: Value) -> str:
    """Return where the sequences of x have not stopped, (steps, N, 1)."""
    steps = x.length(0)
    if steps is None:
        raise ExportError(
            "onnx.export: a recurrent layer that is given lengths cannot be exported: the number "
            "of steps depends on the batch"
        )
    stops = graph.cast(lengths.name, lengths.dtype, np.dtype(np.int64))
    places = graph.constant(np.arange(steps)[:, np.newaxis])
    return graph.unsqueezed(graph.add("Less", places, stops), 2)
