"""The export of a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import checker, helper, shape_inference

from agrad.core.tensor import Tensor, as_tensor
from agrad.errors import ExportError
from agrad.nn.modes import evaluating
from agrad.nn.module import Module
from agrad.onnx.graph import Graph
from agrad.onnx.recorded import Recording, Value
from agrad.onnx.translations import translated
from agrad.serialization import atomic_write

__all__ = ["export"]

_OPSET = 18  # the first whose reductions all take their axes as an input
_RECORDINGS = 3  # see `agrad.onnx.recorded`


def export(
    model: Module,
    args: Any,
    path: str | os.PathLike[str],
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    batch_axes: int | Sequence[int | None] | None = 0,
) -> None:
    """Write a model as an ONNX file that takes batches of any size.

    The file computes what the model does in evaluation mode. Its weights have the names of
    `state_dict`. The model is recorded on the example as by `capture`, whose limits apply: branches
    and numbers are those of the recording, as are all lengths but the size of the batch.

    Args:
        model: What to export. It may be of any class, and return a Tensor or nested tuples of
            Tensors, each of which becomes an output of the file. The model does not change.
        args: An example of the input: an array or a Tensor; or a tuple of several, in which None
            leaves an argument out.
        path: The file to write or replace, atomically.
        input_names: The names of the inputs; "input", or "input_0" and so on, by default.
        output_names: The names of the outputs; "output", or "output_0" and so on, by default.
        batch_axes: Which axis of each input counts the examples of a batch; one for all inputs, or
            a sequence. None for an input without one, such as a mask that all examples share.

    Raises:
        ExportError: ONNX lacks an operation of the model, which the error names; the model cannot
            be recorded; or the size of the batch changes more than lengths of axes.
        TypeError: The model is not a Module.
        ValueError: There are too many or too few names, or an input has the name of a weight; or a
            batch axis is out of range, or batches differ in size.

    Source: https://onnx.ai/onnx/operators, with the operators of version 18.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import onnx
        >>> import agrad.onnx
        >>> from agrad import nn
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> path = tempfile.mkdtemp() + "/model.onnx"
        >>> agrad.onnx.export(model, np.zeros((1, 3), np.float32), path)
        >>> graph = onnx.load(path).graph
        >>> [node.op_type for node in graph.node]
        ['Gemm', 'Tanh', 'Gemm', 'Identity']
        >>> [weight.name for weight in graph.initializer]
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    if not isinstance(model, Module):
        raise TypeError(f"onnx.export: model must be a Module, got a {type(model).__name__}")
    given = args if isinstance(args, tuple) else (args,)
    example = [None if value is None else as_tensor(value) for value in given]
    axes = _axes(example, batch_axes)
    size = _batch_size(example, axes)
    batches = [
        [_resized(tensor, axis, size + more) for tensor, axis in zip(example, axes)]
        for more in range(_RECORDINGS)
    ]
    with evaluating(model):
        recording = Recording(model, batches, size)
    named = _named("input_names", "input", input_names, recording.inputs)
    outputs = _named("output_names", "output", output_names, recording.outputs)
    state = {tensor: name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    names = [*named, *outputs]
    for name in names:
        if name in state.values():
            raise ValueError(
                f"onnx.export: {name!r} is the name of a weight; pass other input_names or "
                "output_names"
            )
    if len(set(names)) < len(named) + len(outputs):
        raise ValueError(f"onnx.export: names of inputs and outputs must differ, got {names}")
    dynamic = [axis for tensor, axis in zip(example, axes) if tensor is not None]
    counted = next(((name, axis) for name, axis in zip(named, dynamic) if axis is not None), None)
    graph = Graph(counted)
    for value in recording.values:
        if value.leaf is not None and value.leaf in state:
            value.name = graph.weight(state[value.leaf], value.array)
        elif value.call is None:
            value.name = graph.constant(value.array, value.dtype)
    for name, value in named.items():
        value.name = name
    for call in recording.calls:
        call.out.name = translated(graph, call)
    for name, value in outputs.items():
        graph.output(value.name, name)
    made = helper.make_model(
        graph.made(type(model).__name__, recording.inputs, outputs),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="agrad",
    )
    made.ir_version = helper.find_min_ir_version_for(made.opset_import)
    try:
        checker.check_model(made, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise ExportError(
            f"onnx.export: ONNX has no such operation for these dtypes or shapes: {error}"
        ) from error
    with atomic_write(path) as file:
        file.write(made.SerializeToString(deterministic=True))


def _axes(
    example: Sequence[Tensor | None], batch_axes: int | Sequence[int | None] | None
) -> list[int | None]:
    """Return the axis of each input that counts examples, from the first axis on."""
    several = isinstance(batch_axes, Sequence)
    given = list(batch_axes) if isinstance(batch_axes, Sequence) else [batch_axes] * len(example)
    if several and len(given) != len(example):
        raise ValueError(
            f"onnx.export: batch_axes has {len(given)} axes for {len(example)} arguments"
        )
    axes: list[int | None] = []
    for i, (tensor, axis) in enumerate(zip(example, given)):
        if tensor is None or axis is None:
            axes.append(None)
        elif not -tensor.ndim <= axis < tensor.ndim:
            raise ValueError(
                f"onnx.export: batch axis {axis} is out of range for argument {i}, of shape "
                f"{tensor.shape}"
            )
        else:
            axes.append(axis % tensor.ndim)
    return axes


def _batch_size(example: Sequence[Tensor | None], axes: Sequence[int | None]) -> int:
    """Return how many examples to record with: those given, but at least two."""
    sizes = {
        tensor.shape[axis]
        for tensor, axis in zip(example, axes)
        if tensor is not None and axis is not None
    }
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            "onnx.export: all inputs must have the same number of examples, at least 1, along "
            f"their batch axes, got {sorted(sizes)}"
        )
    # A batch of one example would broadcast, which would hide operations that depend on its size.
    return max([2, *sizes])


def _resized(tensor: Tensor | None, axis: int | None, count: int) -> Tensor | None:
    """Return an input with another number of examples, some of them repeated."""
    if tensor is None or axis is None:
        return tensor
    places = np.arange(count, like=tensor.data) % tensor.shape[axis]
    return as_tensor(np.take(tensor.data, places, axis))


def _named(
    argument: str, usual: str, names: Sequence[str] | None, values: Sequence[Value]
) -> dict[str, Value]:
    """Return inputs or outputs by name."""
    if names is None:
        single = len(values) == 1
        names = [usual] if single else [f"{usual}_{i}" for i in range(len(values))]
    if len(names) != len(values):
        raise ValueError(
            f"onnx.export: {argument} has {len(names)} names for {len(values)} {usual}s"
        )
    return dict(zip(names, values))
