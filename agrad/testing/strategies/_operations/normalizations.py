"""Cases of softmax and of normalization."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad.backend import Array
from agrad.core.tensor import Tensor, apply
from agrad.ops import arithmetic, normalization, softmax
from agrad.ops.operation import Operation
from agrad.testing.strategies._arrays import seeds, shapes
from agrad.testing.strategies._operations.case import Case, Cases, Entry
from agrad.testing.strategies._points import REAL, points

__all__ = ["ENTRIES"]


def along_axis(operation: Callable[[int], Operation], reference: Callable[..., Any]) -> Cases:
    def function(x: Tensor, axis: int) -> Tensor:
        return apply(operation(axis), x)

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        drawn = draw(shapes(min_dims=1))
        options = {"axis": draw(st.integers(-len(drawn), len(drawn) - 1))}
        return Case(function, draw(points((drawn, REAL))), (REAL,), options, reference)

    return cases()


def softmax_of_array(x: Array, axis: int) -> Any:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def log_softmax_of_array(x: Array, axis: int) -> Any:
    shifted = x - x.max(axis, keepdims=True, initial=-10)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)) if x.size else x


@st.composite
def layer_normalized(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    normalized = drawn[-draw(st.integers(1, len(drawn))) :]
    # Apart from eps, two elements always become 1 and -1, so their gradients nearly cancel.
    eps = draw(st.sampled_from([1e-5, 0.1])) if math.prod(normalized) != 2 else 0.1
    inputs = draw(points((drawn, REAL), *[(normalized, REAL)] * draw(st.integers(0, 2))))

    def function(
        x: Tensor, weight: Any = None, bias: Any = None, *, shape: Any, eps: float
    ) -> Tensor:
        return F.layer_norm(x, shape, weight, bias, eps)

    def reference(x: Array, weight: Any = 1.0, bias: Any = 0.0, *, shape: Any, eps: float) -> Any:
        last = tuple(range(-len(shape), 0))
        centred = x - x.mean(axis=last, keepdims=True)
        return centred / np.sqrt(x.var(axis=last, keepdims=True) + eps) * weight + bias

    options = {"shape": normalized, "eps": eps}
    return Case(function, inputs, (REAL,) * len(inputs), options, reference)


@st.composite
def batch_normalized(draw: st.DrawFn, training: bool) -> Case:
    images, channels, *field = draw(shapes(min_dims=2, max_dims=4, min_side=1, max_side=3))
    drawn = (images + 2, channels, *field)  # two elements would always become 1 and -1
    inputs = draw(points((drawn, REAL), *[((channels,), REAL)] * draw(st.integers(0, 2))))
    rng = np.random.default_rng(draw(seeds))
    running = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
    axes = (0, *range(2, len(drawn)))

    def function(
        x: Tensor, weight: Any = None, bias: Any = None, *, mean: Array, var: Array
    ) -> Tensor:
        mean_and_var = Tensor(mean, dtype=x.dtype), Tensor(var, dtype=x.dtype)  # changed in place
        return F.batch_norm(x, *mean_and_var, weight, bias, training)

    def reference(
        x: Array, weight: Any = 1.0, bias: Any = 0.0, *, mean: Array, var: Array
    ) -> Array:
        if training:
            mean, var = x.mean(axes), x.var(axes)
        mean, var, weight, bias = (
            np.asarray(values, x.dtype).reshape(-1, *[1] * len(field))
            for values in (mean, var, weight, bias)
        )
        out: Array = (x - mean) / np.sqrt(var + x.dtype.type(1e-5)) * weight + bias
        return out

    options = {"mean": running[0], "var": running[1]}
    return Case(function, inputs, (REAL,) * len(inputs), options, reference)


@st.composite
def attended(draw: st.DrawFn) -> Case:
    batch = draw(st.sampled_from([(), (2,), (2, 1)]))
    queries, keys, width, values = (draw(st.integers(1, 3)) for _ in range(4))
    inputs = draw(
        points(
            ((*batch, queries, width), REAL),
            ((*batch, keys, width), REAL),
            ((*batch, keys, values), REAL),
        )
    )
    options: dict[str, Any] = {"is_causal": draw(st.booleans()), "scale": 0.3}
    if not options["is_causal"] and draw(st.booleans()):
        rng = np.random.default_rng(draw(seeds))
        options["attn_mask"] = rng.random((queries, keys)) < 0.6

    def reference(
        q: Array, k: Array, v: Array, is_causal: bool, scale: float, attn_mask: Any = True
    ) -> Any:
        allowed = np.tri(queries, keys, dtype=bool) if is_causal else attn_mask
        powers = np.exp(q @ k.mT * q.dtype.type(scale)) * allowed
        return powers / np.maximum(powers.sum(-1, keepdims=True), np.finfo(q.dtype).tiny) @ v

    return Case(F.scaled_dot_product_attention, inputs, (REAL,) * 3, options, reference)


@st.composite
def grouped(draw: st.DrawFn) -> Case:
    images, size, *field = draw(shapes(min_dims=2, max_dims=4, min_side=1, max_side=3))
    groups = draw(st.integers(1, 3))
    # Two elements would always become 1 and -1.
    channels = groups * (3 * size if math.prod([size, *field]) < 3 else size)
    inputs = draw(
        points(
            ((images, channels, *field), REAL),
            *[((channels,), REAL)] * draw(st.integers(0, 2)),
        )
    )

    def function(x: Tensor, weight: Any = None, bias: Any = None, *, groups: int) -> Tensor:
        return F.group_norm(x, groups, weight, bias)

    def reference(x: Array, weight: Any = 1.0, bias: Any = 0.0, *, groups: int) -> Array:
        rows = x.reshape(images, groups, -1)
        centred = rows - rows.mean(-1, keepdims=True)
        normal = centred / np.sqrt(rows.var(-1, keepdims=True) + x.dtype.type(1e-5))
        weight, bias = (
            np.asarray(values, x.dtype).reshape(-1, *[1] * len(field)) for values in (weight, bias)
        )
        out: Array = normal.reshape(x.shape) * weight + bias
        return out

    return Case(function, inputs, (REAL,) * len(inputs), {"groups": groups}, reference)


@st.composite
def instances_normalized(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=3, max_dims=4, min_side=1, max_side=3))
    drawn = (*drawn[:-1], drawn[-1] + 2)  # two elements would always become 1 and -1
    parameters = [(drawn[1:2], REAL)] * draw(st.integers(0, 2))
    inputs = draw(points((drawn, REAL), *parameters))

    def function(x: Tensor, weight: Any = None, bias: Any = None) -> Tensor:
        return F.instance_norm(x, weight=weight, bias=bias)

    return Case(function, inputs, (REAL,) * len(inputs))


@st.composite
def divided_by_their_size(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    normalized = drawn[-draw(st.integers(1, len(drawn))) :]
    inputs = draw(points((drawn, REAL), *[(normalized, REAL)] * draw(st.integers(0, 1))))

    def function(x: Tensor, weight: Any = None, *, shape: Any) -> Tensor:
        return F.rms_norm(x, shape, weight, eps=0.1)  # of one element all but the sign would cancel

    def reference(x: Array, weight: Any = 1.0, *, shape: Any) -> Any:
        last = tuple(range(-len(shape), 0))
        return x / np.sqrt(np.square(x).mean(axis=last, keepdims=True) + 0.1) * weight

    return Case(function, inputs, (REAL,) * len(inputs), {"shape": normalized}, reference)


ENTRIES = {
    "softmax": Entry(softmax.Softmax, along_axis(softmax.Softmax, softmax_of_array)),
    "log_softmax": Entry(softmax.LogSoftmax, along_axis(softmax.LogSoftmax, log_softmax_of_array)),
    "layer_norm": Entry(normalization.Normalize, layer_normalized()),
    "attention": Entry(softmax.MaskedSoftmax, attended()),
    "rms_norm": Entry(arithmetic.Square, divided_by_their_size()),
    "group_norm": Entry(normalization.Normalize, grouped()),
    "instance_norm": Entry(normalization.Normalize, instances_normalized()),
    "batch_norm in training": Entry(normalization.Normalize, batch_normalized(training=True)),
    "batch_norm in use": Entry(arithmetic.Divide, batch_normalized(training=False)),
}
