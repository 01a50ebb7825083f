"""For each operation of agrad, the nodes of ONNX that compute it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from agrad.errors import ExportError
from agrad.onnx.graph import Graph
from agrad.onnx.recorded import Call, Size, Value
from agrad.onnx.recurrence import padded, recurrent, states
from agrad.ops import (
    activation,
    arithmetic,
    choice,
    convolution,
    cumulative,
    device,
    elementary,
    linalg,
    normalization,
    ordering,
    pooling,
    reduction,
    resize,
    sequence,
    shape,
    softmax,
    transcendental,
)
from agrad.ops import recurrent as recurrent_ops

__all__ = ["translated"]

Translation = Callable[[Graph, Call], str]


def translated(graph: Graph, call: Call) -> str:
    """Add the nodes of a call to the graph; return the name of the result.

    Raises:
        ExportError: ONNX has no such operation, or it depends on the size of the batch.
    """
    translation = _TRANSLATIONS.get(type(call.operation))
    if translation is None:
        raise ExportError(
            f"onnx.export: {call.name} has no counterpart in ONNX (inputs "
            f"{', '.join(f'{value.dtype}{list(value.array.shape)}' for value in call.inputs)})"
        )
    call.require_one_operation()
    return translation(graph, call)


def _refused(call: Call, reason: str) -> ExportError:
    return ExportError(f"onnx.export: {call.name} cannot be exported: {reason}")


def _require_fixed(call: Call, axes: Iterable[int]) -> None:
    """Raise an ExportError if the length of such an axis of the input depends on the batch."""
    if any(call.inputs[0].length(axis) is None for axis in axes):
        raise _refused(call, "the length of an axis that it works along depends on the batch")


def _numbers(graph: Graph, call: Call) -> list[str]:
    """Return the inputs in the dtype of the result."""
    return [graph.cast(value.name, value.dtype, call.out.dtype) for value in call.inputs]


def _number(graph: Graph, call: Call, value: Any) -> str:
    """Return a number in the dtype of the result."""
    return graph.constant(value, call.out.dtype)


# -- elements --------------------------------------------------------------------------------------


def _node(kind: str, **attributes: Any) -> Translation:
    """Return the translation to a single node that takes the same inputs."""
    return lambda graph, call: graph.add(kind, *_numbers(graph, call), **attributes)


def _remainder(graph: Graph, call: Call) -> str:
    x, y = _numbers(graph, call)
    if call.out.dtype.kind != "f":
        return graph.add("Mod", x, y)
    # Mod takes the sign of x for floats, but Python's remainder that of y.
    floor = graph.add("Floor", graph.add("Div", x, y))
    return graph.add("Sub", x, graph.add("Mul", floor, y))


def _fractional_power(graph: Graph, call: Call) -> str:
    (x,) = _numbers(graph, call)
    operation: Any = call.operation
    return graph.add("Pow", x, graph.constant(operation.exponent, call.out.dtype))


def _square(graph: Graph, call: Call) -> str:
    (x,) = _numbers(graph, call)
    return graph.add("Mul", x, x)


def _clip(graph: Graph, call: Call) -> str:
    (x,) = _numbers(graph, call)
    for kind, bound in (("Max", call.operation.low), ("Min", call.operation.high)):  # type: ignore[attr-defined]
        if bound is not None:
            x = graph.add(kind, x, _number(graph, call, bound))
    return x


def _expm1(graph: Graph, call: Call) -> str:
    return graph.add("Sub", _node("Exp")(graph, call), _number(graph, call, 1))


def _log1p(graph: Graph, call: Call) -> str:
    (x,) = _numbers(graph, call)
    return graph.add("Log", graph.add("Add", x, _number(graph, call, 1)))


def _logaddexp(graph: Graph, call: Call) -> str:
    x, y = _numbers(graph, call)
    lead = graph.add("Neg", graph.add("Abs", graph.add("Sub", x, y)))
    return graph.add("Add", graph.add("Max", x, y), graph.add("Softplus", lead))


_ELEMENTARY = {
    "arccos": "Acos",
    "arccosh": "Acosh",
    "arcsin": "Asin",
    "arcsinh": "Asinh",
    "arctan": "Atan",
    "arctanh": "Atanh",
    "cosh": "Cosh",
    "erf": "Erf",
    "sinh": "Sinh",
    "tan": "Tan",
    "log2": "Log",
    "log10": "Log",
}
_BASES = {"log2": 2, "log10": 10}


def _elementary(graph: Graph, call: Call) -> str:
    name: str = call.operation.name  # type: ignore[attr-defined]
    out = _node(_ELEMENTARY[name])(graph, call)
    if name not in _BASES:
        return out
    return graph.add("Div", out, _number(graph, call, math.log(_BASES[name])))


def _with_options(kind: str, **options: str) -> Translation:
    """Return the translation to a node whose attributes are options of the operation."""

    def translation(graph: Graph, call: Call) -> str:
        values = {attribute: getattr(call.operation, name) for attribute, name in options.items()}
        return graph.add(kind, *_numbers(graph, call), **values)

    return translation


def _selu(graph: Graph, call: Call) -> str:
    operation = activation.SELU
    return _node("Selu", alpha=operation.elu.alpha, gamma=operation.scale)(graph, call)


def _softplus(graph: Graph, call: Call) -> str:
    (x,) = _numbers(graph, call)
    beta = _number(graph, call, call.operation.beta)  # type: ignore[attr-defined]
    return graph.add("Div", graph.add("Softplus", graph.add("Mul", x, beta)), beta)


def _silu(graph: Graph, call: Call) -> str:
    (x,) = _numbers(graph, call)
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _gelu(graph: Graph, call: Call) -> str:
    (x,) = _numbers(graph, call)
    error = graph.add("Erf", graph.add("Mul", x, _number(graph, call, math.sqrt(0.5))))
    twice = graph.add("Mul", x, graph.add("Add", error, _number(graph, call, 1)))
    return graph.add("Mul", twice, _number(graph, call, 0.5))


_COMPARISONS = {
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}
_LOGIC = {
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "bitwise_and": "And",
    "bitwise_or": "Or",
    "bitwise_xor": "Xor",
}


def _choice(graph: Graph, call: Call) -> str:
    function: str = call.operation.function.__name__  # type: ignore[attr-defined]
    dtypes = [value.dtype for value in call.inputs]
    name = function.replace("not_equal", "equal")
    if name in _COMPARISONS:
        common = np.result_type(*dtypes)
        inputs = [graph.cast(value.name, value.dtype, common) for value in call.inputs]
        out = graph.add(_COMPARISONS[name], *inputs)
        return out if name == function else graph.add("Not", out)
    if all(dtype.kind == "b" for dtype in dtypes):
        if function in _LOGIC:
            return graph.add(_LOGIC[function], *(value.name for value in call.inputs))
        if function in ("logical_not", "invert"):
            return graph.add("Not", call.inputs[0].name)
    kinds = " and ".join(map(str, dtypes))
    raise ExportError(f"onnx.export: {function} of {kinds} has no counterpart in ONNX")


def _cast(graph: Graph, call: Call) -> str:
    return graph.cast(call.inputs[0].name, call.inputs[0].dtype, call.out.dtype)


# -- products --------------------------------------------------------------------------------------


def _affine(graph: Graph, call: Call) -> str:
    x, weight, *bias = _numbers(graph, call)
    if call.inputs[0].ndim == 2:
        return graph.add("Gemm", x, weight, *bias, transB=1)
    out = graph.add("MatMul", x, graph.add("Transpose", weight, perm=[1, 0]))
    return graph.add("Add", out, *bias) if bias else out


def _einsum(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    equation = f"{','.join(operation.terms)}->{operation.result}"
    return graph.add("Einsum", *_numbers(graph, call), equation=equation)


# -- reductions ------------------------------------------------------------------------------------


def _reduced(kind: str) -> Translation:
    def translation(graph: Graph, call: Call) -> str:
        (x,) = _numbers(graph, call)
        return _reduce(graph, kind, x, call, call.operation.keepdims)  # type: ignore[attr-defined]

    return translation


def _reduce(graph: Graph, kind: str, x: str, call: Call, keepdims: bool) -> str:
    axes = call.operation.axes(call.inputs[0].array)  # type: ignore[attr-defined]
    if not axes and call.inputs[0].ndim:
        raise _refused(call, "it reduces no axis")
    return graph.add(kind, x, graph.constant(axes), keepdims=int(keepdims))


def _variance(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    (x,) = _numbers(graph, call)
    centred = graph.add("Sub", x, _reduce(graph, "ReduceMean", x, call, keepdims=True))
    squares = graph.add("Mul", centred, centred)
    out = _reduce(graph, "ReduceMean", squares, call, operation.keepdims)
    if operation.ddof:
        value = call.inputs[0]
        if any(value.length(axis) is None for axis in operation.axes(value.array)):
            raise _refused(call, "over the examples of a batch, ddof must be 0")
        count = operation.count(value.array)
        out = graph.add("Mul", out, _number(graph, call, count / (count - operation.ddof)))
    return out


def _deviation(graph: Graph, call: Call) -> str:
    return graph.add("Sqrt", _variance(graph, call))


# -- softmax and normalization ---------------------------------------------------------------------


def _softmax(kind: str) -> Translation:
    def translation(graph: Graph, call: Call) -> str:
        axis = call.operation.axis  # type: ignore[attr-defined]
        if not isinstance(axis, int | np.integer):
            raise _refused(call, f"its axis must be one integer, got {axis}")
        return graph.add(kind, *_numbers(graph, call), axis=int(axis))

    return translation


def _masked_softmax(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    scores, *masks = call.inputs
    x, dtype = scores.name, scores.dtype
    lowest = graph.constant(-np.inf, dtype)
    if operation.causal:
        queries, keys = (scores.length(axis) for axis in (-2, -1))
        if queries is None or keys is None:
            raise _refused(call, "a causal mask needs lengths that do not depend on the batch")
        seen = graph.constant(np.tri(queries, keys), np.bool_)
        x = graph.add("Where", seen, x, lowest)
    for mask in masks:
        chosen = (x, lowest) if operation.allows else (lowest, x)
        x = graph.add("Where", mask.name, *chosen)
    # agrad gives 0 for fully masked rows, where Softmax would give NaN.
    last, limits = graph.constant([-1]), np.finfo(dtype)
    top = graph.add("Max", graph.add("ReduceMax", x, last), graph.constant(limits.min, dtype))
    powers = graph.add("Exp", graph.add("Sub", x, top))
    total = graph.add("ReduceSum", powers, last)
    return graph.add("Div", powers, graph.add("Max", total, graph.constant(limits.tiny, dtype)))


def _normalize(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    x, *scaling = _numbers(graph, call)
    axes = graph.constant(operation.axis)
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    deviation = graph.add("Sqrt", graph.add("Add", variance, _number(graph, call, operation.eps)))
    out = graph.add("Div", centred, deviation)
    for kind, factor in zip(("Mul", "Add"), scaling):
        out = graph.add(kind, out, factor)
    return out


# -- windows ---------------------------------------------------------------------------------------


def _convolution(kind: str) -> Translation:
    def translation(graph: Graph, call: Call) -> str:
        operation: Any = call.operation
        axes = call.out.ndim - 2
        pads = operation.padding[-axes:]
        options: dict[str, Any] = {
            "strides": operation.stride[-axes:],
            "dilations": operation.dilation[-axes:],
            "group": operation.groups,
            "pads": [*(before for before, _ in pads), *(after for _, after in pads)],
        }
        if kind == "ConvTranspose":
            options["output_padding"] = operation.excess[-axes:]
        return graph.add(kind, *_numbers(graph, call), **options)

    return translation


def _lengthened(graph: Graph, call: Call, spans: Sequence[int], value: float) -> str:
    """Return the input, extended for a last window that reaches beyond the padding."""
    operation: Any = call.operation
    x = call.inputs[0]
    axes = x.ndim - 2
    extra = []
    for axis, length, span in zip(range(2 - axes, 2), x.array.shape[2:], spans):
        reached = (operation.out_length(axis, length) - 1) * operation.stride[axis] + span
        extra.append(max(0, reached - length - 2 * operation.padding[axis]))
    if operation.ceil_mode:
        _require_fixed(call, range(2, x.ndim))
    if not any(extra):
        return x.name
    widths = graph.constant([0] * (x.ndim + 2) + extra)
    return graph.add("Pad", x.name, widths, graph.constant(value, x.dtype))


def _max_pool(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    axes = call.out.ndim - 2
    kernel, dilation = operation.kernel[-axes:], operation.dilation[-axes:]
    spans = [(n - 1) * step + 1 for n, step in zip(kernel, dilation)]
    return graph.add(
        "MaxPool",
        _lengthened(graph, call, spans, -np.inf),
        kernel_shape=kernel,
        dilations=dilation,
        strides=operation.stride[-axes:],
        pads=operation.padding[-axes:] * 2,
    )


def _avg_pool(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    axes = call.out.ndim - 2
    kernel = operation.kernel[-axes:]
    out = graph.add(
        "AveragePool",
        _lengthened(graph, call, kernel, 0),
        kernel_shape=kernel,
        strides=operation.stride[-axes:],
        pads=operation.padding[-axes:] * 2,
        count_include_pad=1,
    )
    # Windows at the edges may have fewer elements, depending on the options.
    spans = zip(range(2 - axes, 2), call.inputs[0].array.shape[2:])
    area: Any = np.ones(())
    for axis, length in spans:
        area = np.multiply.outer(area, operation.spans(axis, length)[2])
    if operation.divisor is not None:
        area = np.full_like(area, operation.divisor)
    shares = math.prod(kernel) / area
    if (shares == 1).all():
        return out
    _require_fixed(call, range(2, call.out.ndim))
    return graph.add("Mul", out, _number(graph, call, shares))


def _adaptive_avg_pool(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    (x,) = call.inputs
    axes = x.ndim - 2
    _require_fixed(call, range(2, x.ndim))
    means = []
    for axis, length in zip(range(2 - axes, 2), x.array.shape[2:]):
        places = np.arange(length)
        starts, stops, counts = (part[:, np.newaxis] for part in operation.spans(axis, length))
        means.append(((places >= starts) & (places < stops)) / counts)
    out = graph.add("MatMul", x.name, graph.constant(means[-1].T, x.dtype))
    return out if axes == 1 else graph.add("MatMul", graph.constant(means[0], x.dtype), out)


def _resize(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    (x,) = call.inputs
    out, axes = x.name, range(-len(operation.size), 0)
    _require_fixed(call, axes)
    for axis in axes:
        first, second, share = operation.places(x.array, axis)
        nearer = graph.add("Gather", out, graph.constant(first), axis=axis)
        if operation.linear:
            share = share.reshape(-1, *[1] * (-1 - axis))
            farther = graph.add("Gather", out, graph.constant(second), axis=axis)
            nearer = graph.add("Mul", nearer, graph.constant(1 - share, x.dtype))
            farther = graph.add("Mul", farther, graph.constant(share, x.dtype))
            nearer = graph.add("Add", nearer, farther)
        out = nearer
    return out


# -- shapes ----------------------------------------------------------------------------------------


def _reshape(graph: Graph, call: Call) -> str:
    return graph.reshaped(call.inputs[0].name, call.out.shape)


def _transpose(graph: Graph, call: Call) -> str:
    (x,) = call.inputs
    axes = call.operation.axes  # type: ignore[attr-defined]
    order = range(x.ndim)[::-1] if axes is None else [axis % x.ndim for axis in axes]
    return graph.add("Transpose", x.name, perm=list(order))


def _broadcast(graph: Graph, call: Call) -> str:
    (x,) = call.inputs
    known = [Size(0)] * (call.out.ndim - x.ndim) + [*x.shape]
    # Expand does not change an axis whose new length is 1; it cannot make one empty.
    sizes = [Size(1) if new in (old, Size(0)) else new for new, old in zip(call.out.shape, known)]
    out = graph.add("Expand", x.name, graph.lengths(sizes))
    empty = [axis for axis, size in enumerate(call.out.shape) if size == Size(0)]
    if empty:
        zeros = graph.constant([0] * len(empty))
        out = graph.add("Slice", out, zeros, zeros, graph.constant(empty))
    return out


def _concatenate(graph: Graph, call: Call) -> str:
    return graph.add("Concat", *_numbers(graph, call), axis=call.operation.axis)  # type: ignore[attr-defined]


def _stack(graph: Graph, call: Call) -> str:
    axis = call.operation.axis % call.out.ndim  # type: ignore[attr-defined]
    parts = [graph.unsqueezed(name, axis) for name in _numbers(graph, call)]
    return graph.add("Concat", *parts, axis=axis)


def _pad(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    (x,) = call.inputs
    values = {*np.ravel(operation.value).tolist()}
    if len(values) > 1:
        raise _refused(call, f"it pads with several values, {operation.value}")
    widths = np.reshape(operation.width, (x.ndim, 2)).T.ravel()
    return graph.add("Pad", x.name, graph.constant(widths), graph.constant(values.pop(), x.dtype))


_FIRST, _LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def _get_item(graph: Graph, call: Call) -> str:
    (x, *_) = call.inputs
    parts = list(call.operation.index)  # type: ignore[attr-defined]
    taken = sum(part is not None and part is not ... for part in parts)
    ellipsis = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    parts[ellipsis : ellipsis + 1] = [slice(None)] * (x.ndim - taken)
    slices: list[tuple[int, int, int, int]] = []
    single, new, axis, place = [], [], 0, 0
    for part in parts:
        if part is None:
            new.append(place)
            place += 1
        elif isinstance(part, slice):
            step = 1 if part.step is None else int(part.step)
            ends = (0, _LAST) if step > 0 else (_LAST, _FIRST)
            start, stop = (
                usual if end is None else int(end)
                for end, usual in zip((part.start, part.stop), ends)
            )
            if (start, stop, step) != (0, _LAST, 1):
                slices.append((start, stop, axis, step))
            axis, place = axis + 1, place + 1
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            slices.append((int(part), _LAST if part == -1 else int(part) + 1, axis, 1))
            single.append(axis)
            axis += 1
        else:
            raise _refused(call, f"its index has a {type(part).__name__}")
    out = x.name
    if slices:
        out = graph.add("Slice", out, *(graph.constant(column) for column in zip(*slices)))
    return graph.unsqueezed(graph.squeezed(out, *single), *new)


def _take_along_axis(graph: Graph, call: Call) -> str:
    x, indices = call.inputs
    axis = call.operation.axis % x.ndim  # type: ignore[attr-defined]
    others = [[size for i, size in enumerate(value.shape) if i != axis] for value in (x, indices)]
    if others[0] != others[1]:
        raise _refused(call, "the indices must have the shape of x apart from the axis")
    return graph.add("GatherElements", x.name, _places(graph, indices), axis=axis)


def _scatter(graph: Graph, call: Call) -> str:
    x, index, source = call.inputs
    axis = call.operation.axis  # type: ignore[attr-defined]
    values = graph.cast(source.name, source.dtype, x.dtype)
    return graph.add("ScatterElements", x.name, _places(graph, index), values, axis=axis)


def _places(graph: Graph, indices: Value) -> str:
    """Return indices in the dtype that ONNX takes."""
    return graph.cast(indices.name, indices.dtype, np.dtype(np.int64))


def _triangle(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    offset = graph.constant(operation.k)
    return graph.add("Trilu", call.inputs[0].name, offset, upper=int(operation.upper))


def _diagonal(graph: Graph, call: Call) -> str:
    operation: Any = call.operation
    (x,) = call.inputs
    last = [axis % x.ndim for axis in (operation.axis1, operation.axis2)]
    rows, columns = (x.length(axis) for axis in last)
    if rows is None or columns is None:
        raise _refused(call, "an axis of its matrices depends on the batch")
    others = [axis for axis in range(x.ndim) if axis not in last]
    moved = graph.add("Transpose", x.name, perm=[*others, *last])
    flat = graph.reshaped(moved, [*(x.shape[axis] for axis in others), Size(rows * columns)])
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), operation.offset)
    return graph.add("Gather", flat, graph.constant(places), axis=-1)


def _embedding(graph: Graph, call: Call) -> str:
    weight, ids = call.inputs
    return graph.add("Gather", weight.name, _places(graph, ids), axis=0)


def _sort(graph: Graph, call: Call) -> str:
    (x,) = call.inputs
    axis = call.operation.axis  # type: ignore[attr-defined]
    length = graph.lengths([x.shape[axis]])
    return graph.add_several("TopK", 2, x.name, length, axis=axis, largest=0)[0]


def _cumsum(graph: Graph, call: Call) -> str:
    return graph.add("CumSum", *_numbers(graph, call), graph.constant(call.operation.axis))  # type: ignore[attr-defined]


_TRANSLATIONS: dict[Any, Translation] = {
    activation.ELU: _with_options("Elu", alpha="alpha"),
    activation.GELU: _gelu,
    activation.LeakyReLU: _with_options("LeakyRelu", alpha="negative_slope"),
    activation.ReLU: _node("Relu"),
    activation.SELU: _selu,
    activation.SiLU: _silu,
    activation.Sigmoid: _node("Sigmoid"),
    activation.Softplus: _softplus,
    activation.Softsign: _node("Softsign"),
    activation.Tanh: _node("Tanh"),
    arithmetic.Absolute: _node("Abs"),
    arithmetic.Add: _node("Add"),
    arithmetic.Clip: _clip,
    arithmetic.Divide: _node("Div"),
    arithmetic.FractionalPower: _fractional_power,
    arithmetic.Maximum: _node("Max"),
    arithmetic.Minimum: _node("Min"),
    arithmetic.Multiply: _node("Mul"),
    arithmetic.Negative: _node("Neg"),
    arithmetic.Power: _node("Pow"),
    arithmetic.Reciprocal: _node("Reciprocal"),
    arithmetic.Remainder: _remainder,
    arithmetic.Sqrt: _node("Sqrt"),
    arithmetic.Square: _square,
    arithmetic.Subtract: _node("Sub"),
    choice.Choice: _choice,
    convolution.Convolution: _convolution("Conv"),
    convolution.TransposedConvolution: _convolution("ConvTranspose"),
    cumulative.Cumsum: _cumsum,
    device.Move: _node("Identity"),
    elementary.Elementary: _elementary,
    linalg.Affine: _affine,
    linalg.Einsum: _einsum,
    linalg.Matmul: _node("MatMul"),
    normalization.Normalize: _normalize,
    ordering.Sort: _sort,
    pooling.AdaptiveAvgPool: _adaptive_avg_pool,
    pooling.AvgPool: _avg_pool,
    pooling.MaxPool: _max_pool,
    recurrent_ops.GRU: recurrent,
    recurrent_ops.LSTM: recurrent,
    recurrent_ops.Padded: padded,
    recurrent_ops.RNN: recurrent,
    recurrent_ops.States: states,
    reduction.LogSumExp: _reduced("ReduceLogSumExp"),
    reduction.Max: _reduced("ReduceMax"),
    reduction.Mean: _reduced("ReduceMean"),
    reduction.Min: _reduced("ReduceMin"),
    reduction.Norm: _reduced("ReduceL2"),
    reduction.Prod: _reduced("ReduceProd"),
    reduction.Std: _deviation,
    reduction.Sum: _reduced("ReduceSum"),
    reduction.Var: _variance,
    resize.Resize: _resize,
    sequence.Embedding: _embedding,
    shape.BroadcastTo: _broadcast,
    shape.Cast: _cast,
    shape.Concatenate: _concatenate,
    shape.Diagonal: _diagonal,
    shape.GetItem: _get_item,
    shape.Pad: _pad,
    shape.Reshape: _reshape,
    shape.Scatter: _scatter,
    shape.Stack: _stack,
    shape.TakeAlongAxis: _take_along_axis,
    shape.Transpose: _transpose,
    shape.Triangle: _triangle,
    softmax.LogSoftmax: _softmax("LogSoftmax"),
    softmax.MaskedSoftmax: _masked_softmax,
    softmax.Softmax: _softmax("Softmax"),
    transcendental.Cos: _node("Cos"),
    transcendental.Exp: _node("Exp"),
    transcendental.Expm1: _expm1,
    transcendental.Log: _node("Log"),
    transcendental.Log1p: _log1p,
    transcendental.LogAddExp: _logaddexp,
    transcendental.Sin: _node("Sin"),
}
