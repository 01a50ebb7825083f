"""Every operation, and what it takes to test it: functions of Tensors, and inputs for them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import (
    NONZERO,
    POSITIVE,
    REAL,
    SPACING,
    Domain,
    arrays,
    axes,
    broadcastable,
    seeds,
    shapes,
)

import agrad as ag
import agrad.nn.functional as F
from agrad.backend import Array
from agrad.ops import (
    activation,
    arithmetic,
    convolution,
    device,
    dropout,
    linalg,
    loss,
    normalization,
    pooling,
    reduction,
    sequence,
    shape,
    softmax,
    transcendental,
)
from agrad.ops.operation import Operation
from agrad.tensor import apply

Cases = st.SearchStrategy["Case"]


@dataclass(frozen=True)
class Case:
    """A function of Tensors, inputs at which it is smooth, and the domains they may move in."""

    function: Callable[..., ag.Tensor]
    inputs: tuple[Array, ...]
    domains: tuple[Domain, ...]
    reference: Callable[..., Any] | None = None
    """NumPy's function of arrays, where there is one."""


@dataclass(frozen=True)
class Entry:
    """Cases of a function, and the operation that it records, perhaps among others."""

    operation: type[Operation]
    cases: Cases


# -- elements ------------------------------------------------------------------------------------


def elementwise(
    function: Callable[..., ag.Tensor], reference: Callable[..., Any] | None, *domains: Domain
) -> Cases:
    """Cases of a function of broadcast elements."""

    @st.composite
    def cases(draw: Any) -> Case:
        drawn = draw(broadcastable(len(domains)))
        return Case(function, draw(arrays(*zip(drawn, domains, strict=True))), domains, reference)

    return cases()


def activated(operation: Operation) -> Cases:
    return elementwise(lambda x: apply(operation, x), None, REAL)


@st.composite
def clipped(draw: Any) -> Case:
    # The lattice of the inputs never meets these bounds.
    bounds = draw(st.tuples(*[st.none() | st.integers(-15, 15)] * 2))
    low, high = (None if bound is None else SPACING * bound for bound in bounds)
    if low is not None and high is not None and low > high:
        low, high = high, low

    def function(x: Any) -> Any:
        return x.clip(low, high)

    (x,) = draw(arrays((draw(shapes()), REAL)))
    both = low is None and high is None  # which NumPy 2.0 refuses
    return Case(function, (x,), (REAL,), None if both else function)


@st.composite
def chosen(draw: Any) -> Case:
    condition_shape, *drawn = draw(broadcastable(3))
    condition = np.random.default_rng(draw(seeds)).random(condition_shape) < 0.5
    return Case(
        lambda x, y: ag.where(condition, x, y),
        draw(arrays(*[(shape, REAL) for shape in drawn])),
        (REAL, REAL),
        lambda x, y: np.where(condition, x, y),
    )


@st.composite
def constant_power(draw: Any) -> Case:
    exponent, domain = draw(
        st.sampled_from([(0, REAL), (1, REAL), (2, REAL), (3, REAL), (5, REAL)])
        | st.sampled_from([(-1, NONZERO), (-2, NONZERO), (-3.0, NONZERO)])
        | st.sampled_from([(0.5, POSITIVE), (2.5, POSITIVE), (-0.5, POSITIVE)])
    )
    inputs = draw(arrays((draw(shapes()), domain)))
    return Case(lambda x: x**exponent, inputs, (domain,), lambda x: x**exponent)


@st.composite
def dropped(draw: Any) -> Case:
    (x,) = draw(arrays((draw(shapes()), REAL)))
    mask = 2 * np.random.default_rng(draw(seeds)).integers(0, 2, x.shape).astype(np.float32)
    return Case(lambda x: apply(dropout.Dropout(mask), x), (x,), (REAL,), lambda x: x * mask)


# -- reductions ----------------------------------------------------------------------------------


def reduced(
    function: Callable[..., Any],
    reference: Callable[..., Any] | None = None,
    *,
    domain: Domain = REAL,
    min_dims: int = 0,
    min_side: int = 0,
    **parameters: st.SearchStrategy[Any],
) -> Cases:
    """Cases of a reduction; NumPy's reference has the function's own name if none is given."""
    reference = reference or getattr(np, function.__name__)

    @st.composite
    def cases(draw: Any) -> Case:
        drawn = draw(shapes(min_dims=min_dims, min_side=min_side, max_side=3))
        some = axes(len(drawn)) if min_dims == 0 else axes(len(drawn)).filter(lambda a: a != ())
        options = {"axis": draw(some), "keepdims": draw(st.booleans())}
        options |= {key: draw(strategy) for key, strategy in parameters.items()}
        return Case(
            lambda x: function(x, **options),
            draw(arrays((drawn, domain))),
            (domain,),
            lambda x: reference(x, **options),
        )

    return cases()


def logsumexp(x: Array, axis: Any, keepdims: bool) -> Array:
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


def log_softmax(x: Array, axis: int) -> Array:
    shifted = x - x.max(axis, keepdims=True, initial=-10)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)) if x.size else x


def along_axis(operation: type[Operation], reference: Callable[..., Any]) -> Cases:
    @st.composite
    def cases(draw: Any) -> Case:
        drawn = draw(shapes(min_dims=1))
        axis = draw(st.integers(-len(drawn), len(drawn) - 1))
        return Case(
            lambda x: apply(operation(axis), x),
            draw(arrays((drawn, REAL))),
            (REAL,),
            lambda x: reference(x, axis),
        )

    return cases()


@st.composite
def normalized(draw: Any) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    count = draw(st.integers(1, len(drawn)))
    # Two elements become 1 and -1, whatever they were, but for eps: their gradients cancel to it.
    eps = draw(st.sampled_from([1e-5, 0.1])) if math.prod(drawn[-count:]) != 2 else 0.1
    affine = draw(st.integers(0, 2))
    inputs = draw(arrays((drawn, REAL), *[(drawn[-count:], REAL)] * affine))

    def function(x: ag.Tensor, *weight_and_bias: ag.Tensor) -> ag.Tensor:
        return F.layer_norm(x, drawn[-count:], *weight_and_bias, eps=eps)

    def reference(x: Array, weight: Array | float = 1.0, bias: Array | float = 0.0) -> Array:
        last = tuple(range(-count, 0))
        centred = x - x.mean(axis=last, keepdims=True)
        return centred / np.sqrt(x.var(axis=last, keepdims=True) + eps) * weight + bias

    return Case(function, inputs, (REAL,) * len(inputs), reference)


# -- shapes --------------------------------------------------------------------------------------


@st.composite
def reshaped(draw: Any) -> Case:
    """One array in another shape: the same function serves Tensors and arrays."""
    drawn = draw(shapes(min_dims=1))
    permuted = tuple(draw(st.permutations(drawn)))
    functions = [
        lambda x: np.reshape(x, permuted),
        lambda x: np.reshape(x.T, permuted),
        lambda x: np.reshape(x, (*drawn[:-1], 1, drawn[-1])),
        np.ravel,
        lambda x: np.expand_dims(x, -2),
        lambda x: np.squeeze(np.expand_dims(x, (0, -1))),
    ]
    if 0 not in drawn:
        functions.append(lambda x: np.reshape(x, (-1, 1)))
    function = draw(st.sampled_from(functions))
    return Case(function, draw(arrays((drawn, REAL))), (REAL,), function)


@st.composite
def transposed(draw: Any) -> Case:
    drawn = draw(shapes(min_dims=2, max_dims=4, max_side=3))
    order = draw(st.permutations(range(len(drawn))))
    signed = [axis - len(drawn) * draw(st.booleans()) for axis in order]
    functions = [
        lambda x: np.transpose(x, signed),
        lambda x: np.transpose(x, signed[1:] + signed[:1]),
        lambda x: np.moveaxis(x, signed[0], signed[1]),
        lambda x: np.swapaxes(x, signed[0], signed[1]),
        np.transpose,
        lambda x: x.T,
        lambda x: x.mT,
    ]
    function = draw(st.sampled_from(functions))
    return Case(function, draw(arrays((drawn, REAL))), (REAL,), function)


@st.composite
def broadcast(draw: Any) -> Case:
    drawn = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=3)
    )

    def function(x: Any) -> Any:
        return np.broadcast_to(x, drawn.result_shape)

    return Case(function, draw(arrays((drawn.input_shapes[0], REAL))), (REAL,), function)


@st.composite
def joined(draw: Any) -> Case:
    drawn = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(drawn), len(drawn) - 1))
    parts = []
    for length in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)):
        part = list(drawn)
        part[axis] = length
        parts.append((tuple(part), REAL))
    flat = draw(st.booleans())

    def function(*xs: Any) -> Any:
        return np.concatenate(xs, axis=None if flat else axis)

    return Case(function, draw(arrays(*parts)), (REAL,) * len(parts), function)


@st.composite
def stacked(draw: Any) -> Case:
    drawn, count = draw(shapes()), draw(st.integers(1, 3))
    axis = draw(st.integers(-len(drawn) - 1, len(drawn)))

    def function(*xs: Any) -> Any:
        return np.stack(xs, axis=axis)

    return Case(function, draw(arrays(*[(drawn, REAL)] * count)), (REAL,) * count, function)


@st.composite
def padded(draw: Any) -> Case:
    drawn = draw(shapes(min_dims=1))
    pair = st.tuples(st.integers(0, 2), st.integers(0, 2))
    width = draw(st.integers(0, 2) | pair | st.tuples(*[pair] * len(drawn)))
    value = draw(st.sampled_from([0, -1.5]))

    def function(x: Any) -> Any:
        return np.pad(x, width, constant_values=value)

    return Case(function, draw(arrays((drawn, REAL))), (REAL,), function)


@st.composite
def indexed(draw: Any) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    index = draw(indices(drawn))
    return Case(lambda x: x[index], draw(arrays((drawn, REAL))), (REAL,), lambda x: x[index])


def indices(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Basic and advanced indices, masks, and mixtures of them; elements may be named twice."""
    result = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
    integer = hnp.integer_array_indices(shape[:1], result_shape=result)
    return (
        hnp.basic_indices(shape, allow_newaxis=True)
        | hnp.integer_array_indices(shape, result_shape=result)
        | hnp.arrays(bool, shape)
        | hnp.arrays(bool, shape[:1])
        | st.tuples(integer.map(lambda index: index[0]), st.just(Ellipsis))
        | st.tuples(st.just(Ellipsis), st.lists(st.integers(-shape[-1], shape[-1] - 1)))
        | st.lists(st.integers(-shape[0], shape[0] - 1))
    )


@st.composite
def cut(draw: Any) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    axis = draw(st.integers(-len(drawn), len(drawn) - 1))
    where = draw(st.lists(st.integers(0, drawn[axis]), max_size=2).map(sorted))
    part = draw(st.integers(0, len(where)))

    def function(x: Any) -> Any:
        return np.flip(np.split(x, where, axis)[part], axis)

    return Case(function, draw(arrays((drawn, REAL))), (REAL,), function)


# -- products ------------------------------------------------------------------------------------


@st.composite
def dense(draw: Any) -> Case:
    *batch, n = draw(shapes(min_dims=1, max_side=3))
    m = draw(st.integers(0, 3))
    with_bias = draw(st.booleans())
    inputs = draw(arrays(((*batch, n), REAL), ((m, n), REAL), *[((m,), REAL)] * with_bias))

    def reference(x: Array, weight: Array, bias: Array | float = 0.0) -> Array:
        return x @ weight.T + np.asarray(bias, dtype=x.dtype)

    return Case(F.linear, inputs, (REAL,) * len(inputs), reference)


def multiplied(*functions: Callable[..., Any]) -> Cases:
    """Cases of products as matmul defines them."""

    @st.composite
    def cases(draw: Any) -> Case:
        function = draw(st.sampled_from(functions))
        drawn = draw(
            hnp.mutually_broadcastable_shapes(
                signature=np.matmul.signature,
                min_side=0,
                max_side=3,
                max_dims=2 if function is np.matmul else 0,
            )
        )
        inputs = draw(arrays(*[(shape, REAL) for shape in drawn.input_shapes]))
        return Case(function, inputs, (REAL, REAL), function)

    return cases()


PAIRS = [
    *["ij,jk->ik", "ij,jk", "bij,bjk->bik", "ij,j", "i,j->ij", "ij,ij->", "ij,kj->ki"],
    *["ij->ji", "ii->i", "ii", "ij->", "iij,j->i", "ij,ik->k"],
    *["...i,...i->...", "...ij->...ji", "i...,ij->j...", "...,...", "ba", ",i->i"],
]
MANY = ["ij,ij,ij->j", "ij,jk,kl->il", "i,i,i,i->", "i,j,k->kij", "a...,a,ab,b->..."]


@st.composite
def contracted(draw: Any, choices: list[str], min_side: int) -> Case:
    subscripts = draw(st.sampled_from(choices))
    terms = subscripts.partition("->")[0].split(",")
    lengths = {letter: draw(st.integers(min_side, 3)) for letter in "ijklba"}
    batches = iter(
        draw(
            hnp.mutually_broadcastable_shapes(
                num_shapes=len(terms), min_side=1, max_side=2, max_dims=2
            )
        ).input_shapes
    )
    drawn = []
    for term in terms:
        before, dots, after = term.partition("...")
        ellipsis = next(batches) if dots else ()
        drawn.append((*[lengths[x] for x in before], *ellipsis, *[lengths[x] for x in after]))

    def function(*operands: Any) -> Any:
        return np.einsum(subscripts, *operands)

    inputs = draw(arrays(*[(shape, REAL) for shape in drawn]))
    return Case(function, inputs, (REAL,) * len(terms), function)


# -- windows -------------------------------------------------------------------------------------


def lengths(axes: int, least: int = 1, most: int = 2) -> st.SearchStrategy[tuple[int, ...]]:
    """Options of windows: a number for each axis."""
    return st.tuples(*[st.integers(least, most)] * axes)


@st.composite
def convolutions(draw: Any) -> tuple[int, list[Any], dict[str, Any]]:
    """Axes, shapes of input, weight and perhaps bias, and options that fit them."""
    axes, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, dilation = draw(lengths(axes, most=3)), draw(lengths(axes))
    options = {"dilation": dilation, "groups": groups}
    channels, filters = (groups * draw(st.integers(1, 2)) for _ in range(2))
    if draw(st.booleans()):
        options["padding"] = draw(st.sampled_from(["same", "valid"]))
    else:
        options["padding"] = draw(lengths(axes, least=0))
    if options["padding"] != "same":
        options["stride"] = draw(lengths(axes, most=3))
    padding = options["padding"] if isinstance(options["padding"], tuple) else (0,) * axes
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), d * (k - 1) + 5))
        for k, d, p in zip(kernel, dilation, padding)
    ]
    images = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    shapes = [(*images, channels, *size), (filters, channels // groups, *kernel)]
    return axes, shapes + [(filters,)] * draw(st.booleans()), options


@st.composite
def transposed_convolutions(draw: Any) -> tuple[int, list[Any], dict[str, Any]]:
    axes, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = draw(lengths(axes, most=3))
    stride, dilation = draw(lengths(axes, most=3)), draw(lengths(axes))
    channels, filters = (draw(st.integers(1, 2)) for _ in range(2))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    size = draw(lengths(axes, most=4))
    most = [((n - 1) * s + span - 1) // 2 for n, s, span in zip(size, stride, spans)]
    options = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "padding": tuple(draw(st.integers(0, min(2, n))) for n in most),
        "output_padding": tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation)
        ),
    }
    images = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    shapes = [(*images, groups * channels, *size), (groups * channels, filters, *kernel)]
    return axes, shapes + [(groups * filters,)] * draw(st.booleans()), options


def convolved(drawn: st.SearchStrategy[Any], *functions: Callable[..., Any]) -> Cases:
    @st.composite
    def cases(draw: Any) -> Case:
        axes, shapes, options = draw(drawn)
        function = functions[axes - 1]
        inputs = draw(arrays(*[(shape, REAL) for shape in shapes]))
        return Case(lambda *xs: function(*xs, **options), inputs, (REAL,) * len(inputs))

    return cases()


@st.composite
def poolings(draw: Any) -> tuple[int, tuple[int, ...], dict[str, Any]]:
    """Axes, the shape of an input, and options that fit it."""
    axes = draw(st.integers(1, 2))
    kernel = draw(lengths(axes, most=3))
    options = {"kernel_size": kernel, "ceil_mode": draw(st.booleans())}
    if draw(st.booleans()):
        options["stride"] = draw(lengths(axes, most=3))
    options["padding"] = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(draw(st.integers(k, k + 4)) for k in kernel)
    images = draw(st.sampled_from([(), (0,), (1,), (2,)]))
    return axes, (*images, draw(st.integers(1, 2)), *size), options


@st.composite
def max_pooled(draw: Any) -> Case:
    axes, drawn, options = draw(poolings())
    if draw(st.booleans()):
        options["dilation"] = draw(lengths(axes))
        drawn = (*drawn[:-axes], *[2 * n for n in drawn[-axes:]])
    function = (F.max_pool1d, F.max_pool2d)[axes - 1]
    return Case(lambda x: function(x, **options), draw(arrays((drawn, REAL))), (REAL,))


@st.composite
def avg_pooled(draw: Any) -> Case:
    axes, drawn, options = draw(poolings())
    options["count_include_pad"] = draw(st.booleans())
    if axes == 2 and draw(st.booleans()):
        options["divisor_override"] = draw(st.integers(1, 5))
    function = (F.avg_pool1d, F.avg_pool2d)[axes - 1]
    return Case(lambda x: function(x, **options), draw(arrays((drawn, REAL))), (REAL,))


@st.composite
def adaptively_pooled(draw: Any) -> Case:
    axes, drawn, _ = draw(poolings())
    size = draw(lengths(axes, most=4))
    function = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d)[axes - 1]
    return Case(lambda x: function(x, size), draw(arrays((drawn, REAL))), (REAL,))


@st.composite
def batch_normalized(draw: Any, training: bool) -> Case:
    images, channels, *field = draw(shapes(min_dims=2, max_dims=4, min_side=1, max_side=3))
    drawn = (images + 2, channels, *field)  # two elements would become 1 and -1 whatever they were
    affine = draw(st.integers(0, 2))
    inputs = draw(arrays((drawn, REAL), *[((channels,), REAL)] * affine))
    rng = np.random.default_rng(draw(seeds))
    running = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
    axes = (0, *range(2, len(drawn)))

    def function(x: ag.Tensor, *weight_and_bias: ag.Tensor) -> ag.Tensor:
        mean, var = (ag.tensor(values.astype(x.dtype)) for values in running)
        return F.batch_norm(x, mean, var, *weight_and_bias, training=training)

    def reference(x: Array, weight: Any = 1.0, bias: Any = 0.0) -> Array:
        mean, var = (x.mean(axes), x.var(axes)) if training else running
        mean, var, weight, bias = (
            np.asarray(values, x.dtype).reshape(-1, *[1] * len(field))
            for values in (mean, var, weight, bias)
        )
        return (x - mean) / np.sqrt(var + x.dtype.type(1e-5)) * weight + bias

    return Case(function, inputs, (REAL,) * len(inputs), reference)


# -- sequences -----------------------------------------------------------------------------------


@st.composite
def embedded(draw: Any) -> Case:
    count, features = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    ids = np.random.default_rng(draw(seeds)).integers(0, count, draw(shapes()))
    padding = draw(st.none() | st.integers(-count, count - 1))
    # The gradient takes the padding's row for a constant, so that here it must be one.
    rows = np.arange(count)[:, None]
    moving = rows >= 0 if padding is None else rows != padding % count
    return Case(
        lambda weight: F.embedding(ids, ag.where(moving, weight, 0.0), padding),
        draw(arrays(((count, features), REAL))),
        (REAL,),
        lambda weight: np.where(moving, weight, 0.0)[ids],
    )


def pooled(function: Callable[..., ag.Tensor], reference: Callable[..., Any]) -> Cases:
    @st.composite
    def cases(draw: Any) -> Case:
        *batch, channels, length = draw(shapes(min_dims=2, min_side=1))
        rng = np.random.default_rng(draw(seeds))
        mask = rng.random((*batch, length)) < 0.5
        mask[..., rng.integers(length)] = True
        return Case(
            lambda x: function(x, mask),
            draw(arrays(((*batch, channels, length), REAL))),
            (REAL,),
            lambda x: reference(x, mask[..., None, :]),
        )

    return cases()


# -- losses --------------------------------------------------------------------------------------

reductions = st.sampled_from(["mean", "sum", "none"])


@st.composite
def logits_and_classes(draw: Any) -> tuple[Array, Array, dict[str, Any]]:
    """Logits (C,), (N, C) or (N, C, d), a class for each, and the arguments of a loss."""
    classes = draw(st.integers(1, 4))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    (logits,) = draw(arrays(((*batch[:1], classes, *batch[1:]), REAL)))
    rng = np.random.default_rng(draw(seeds))
    target = rng.integers(0, classes, batch)
    options: dict[str, Any] = {"reduction": draw(reductions)}
    if draw(st.booleans()):
        options["weight"] = rng.uniform(0.5, 2, classes)
    if target.size > 1 and draw(st.booleans()):
        target.flat[0] = options["ignore_index"] = -1
    return logits, target, options


@st.composite
def likelihood(draw: Any) -> Case:
    logits, target, options = draw(logits_and_classes())
    return Case(lambda x: F.nll_loss(x, target, **options), (logits,), (REAL,))


@st.composite
def entropy(draw: Any) -> Case:
    logits, target, options = draw(logits_and_classes())
    options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
    return Case(lambda x: F.cross_entropy(x, target, **options), (logits,), (REAL,))


@st.composite
def soft_entropy(draw: Any) -> Case:
    logits, _, options = draw(logits_and_classes())
    options.pop("ignore_index", None)
    options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1]))
    target = np.random.default_rng(draw(seeds)).random(logits.shape)
    return Case(lambda x: F.cross_entropy(x, target, **options), (logits,), (REAL,))


@st.composite
def binary_entropy(draw: Any) -> Case:
    drawn = draw(shapes(min_side=1))
    rng = np.random.default_rng(draw(seeds))
    target = rng.random(drawn)
    options: dict[str, Any] = {"reduction": draw(reductions)}
    for name in ("weight", "pos_weight"):
        if draw(st.booleans()):
            options[name] = rng.uniform(0.5, 2, drawn[-1:])
    inputs = draw(arrays((drawn, REAL)))
    return Case(lambda x: F.binary_cross_entropy_with_logits(x, target, **options), inputs, (REAL,))


@st.composite
def squared_error(draw: Any) -> Case:
    drawn, kind = draw(shapes(min_side=1)), draw(reductions)
    inputs = draw(arrays((drawn, REAL), (drawn, REAL)))
    return Case(lambda x, y: F.mse_loss(x, y, kind), inputs, (REAL, REAL))


# -- all of them ---------------------------------------------------------------------------------

ENTRIES = {
    "add": Entry(arithmetic.Add, elementwise(lambda x, y: x + y, np.add, REAL, REAL)),
    "subtract": Entry(
        arithmetic.Subtract, elementwise(lambda x, y: x - y, np.subtract, REAL, REAL)
    ),
    "negative": Entry(arithmetic.Negative, elementwise(lambda x: -x, np.negative, REAL)),
    "multiply": Entry(
        arithmetic.Multiply, elementwise(lambda x, y: x * y, np.multiply, REAL, REAL)
    ),
    "x * x": Entry(arithmetic.Multiply, elementwise(lambda x: x * x, np.square, REAL)),
    "divide": Entry(arithmetic.Divide, elementwise(lambda x, y: x / y, np.divide, REAL, NONZERO)),
    "power": Entry(arithmetic.Power, elementwise(lambda x, y: x**y, np.power, POSITIVE, REAL)),
    "power of a number": Entry(arithmetic.Power, constant_power()),
    "square": Entry(arithmetic.Square, elementwise(ag.square, np.square, REAL)),
    "sqrt": Entry(arithmetic.Sqrt, elementwise(ag.sqrt, np.sqrt, POSITIVE)),
    "reciprocal": Entry(arithmetic.Reciprocal, elementwise(ag.reciprocal, np.reciprocal, NONZERO)),
    "absolute": Entry(arithmetic.Absolute, elementwise(abs, np.abs, REAL)),
    "clip": Entry(arithmetic.Clip, clipped()),
    "maximum": Entry(arithmetic.Maximum, elementwise(ag.maximum, np.maximum, REAL, REAL)),
    "minimum": Entry(arithmetic.Minimum, elementwise(ag.minimum, np.minimum, REAL, REAL)),
    "where": Entry(arithmetic.Where, chosen()),
    "exp": Entry(transcendental.Exp, elementwise(ag.exp, np.exp, REAL)),
    "expm1": Entry(transcendental.Expm1, elementwise(ag.expm1, np.expm1, REAL)),
    "log": Entry(transcendental.Log, elementwise(ag.log, np.log, POSITIVE)),
    "log1p": Entry(transcendental.Log1p, elementwise(ag.log1p, np.log1p, POSITIVE)),
    "sin": Entry(transcendental.Sin, elementwise(ag.sin, np.sin, REAL)),
    "cos": Entry(transcendental.Cos, elementwise(ag.cos, np.cos, REAL)),
    "tanh": Entry(activation.Tanh, elementwise(ag.tanh, np.tanh, REAL)),
    "relu": Entry(activation.ReLU, activated(activation.ReLU())),
    "leaky_relu": Entry(activation.LeakyReLU, activated(activation.LeakyReLU(0.1))),
    "elu": Entry(activation.ELU, activated(activation.ELU(1.5))),
    "selu": Entry(activation.SELU, activated(activation.SELU())),
    "sigmoid": Entry(activation.Sigmoid, activated(activation.Sigmoid())),
    "softplus": Entry(activation.Softplus, activated(activation.Softplus(2.0))),
    "softsign": Entry(activation.Softsign, activated(activation.Softsign())),
    "silu": Entry(activation.SiLU, activated(activation.SiLU())),
    "gelu": Entry(activation.GELU, activated(activation.GELU())),
    "dropout": Entry(dropout.Dropout, dropped()),
    "sum": Entry(reduction.Sum, reduced(ag.sum)),
    "mean": Entry(reduction.Mean, reduced(ag.mean, min_side=1)),
    "var": Entry(
        reduction.Var, reduced(ag.var, min_dims=1, min_side=2, ddof=st.sampled_from([0, 1, 0.5]))
    ),
    "std": Entry(
        reduction.Std, reduced(ag.std, min_dims=1, min_side=2, ddof=st.sampled_from([0, 1]))
    ),
    "max": Entry(reduction.Max, reduced(ag.max, min_side=1)),
    "min": Entry(reduction.Min, reduced(ag.min, min_side=1)),
    "prod": Entry(reduction.Prod, reduced(ag.prod)),
    "logsumexp": Entry(reduction.LogSumExp, reduced(ag.logsumexp, logsumexp, min_side=1)),
    "convolution": Entry(convolution.Convolution, convolved(convolutions(), F.conv1d, F.conv2d)),
    "transposed convolution": Entry(
        convolution.TransposedConvolution,
        convolved(transposed_convolutions(), F.conv_transpose1d, F.conv_transpose2d),
    ),
    "max_pool": Entry(pooling.MaxPool, max_pooled()),
    "avg_pool": Entry(pooling.AvgPool, avg_pooled()),
    "adaptive_avg_pool": Entry(pooling.AdaptiveAvgPool, adaptively_pooled()),
    "batch_norm in training": Entry(normalization.Normalize, batch_normalized(training=True)),
    "batch_norm in use": Entry(arithmetic.Divide, batch_normalized(training=False)),
    "softmax": Entry(
        softmax.Softmax,
        along_axis(softmax.Softmax, lambda x, a: np.exp(x) / np.exp(x).sum(a, keepdims=True)),
    ),
    "log_softmax": Entry(softmax.LogSoftmax, along_axis(softmax.LogSoftmax, log_softmax)),
    "layer_norm": Entry(normalization.Normalize, normalized()),
    "reshape": Entry(shape.Reshape, reshaped()),
    "transpose": Entry(shape.Transpose, transposed()),
    "broadcast_to": Entry(shape.BroadcastTo, broadcast()),
    "concatenate": Entry(shape.Concatenate, joined()),
    "stack": Entry(shape.Stack, stacked()),
    "pad": Entry(shape.Pad, padded()),
    "indexing": Entry(shape.GetItem, indexed()),
    "split": Entry(shape.GetItem, cut()),
    "astype": Entry(
        shape.Cast, elementwise(lambda x: x.astype(x.dtype), lambda x: x.astype(x.dtype), REAL)
    ),
    "to": Entry(
        device.Move, elementwise(lambda x: apply(device.Move(x.device), x), lambda x: x, REAL)
    ),
    "linear": Entry(linalg.Affine, dense()),
    "matmul": Entry(linalg.Matmul, multiplied(np.matmul, np.dot)),
    "einsum": Entry(linalg.Einsum, contracted(PAIRS, min_side=0)),
    "einsum of many": Entry(linalg.Einsum, contracted(MANY, min_side=1)),
    "embedding": Entry(sequence.Embedding, embedded()),
    "global_max_pool1d": Entry(
        sequence.MaskedMax,
        pooled(F.global_max_pool1d, lambda x, mask: np.where(mask, x, -np.inf).max(axis=-1)),
    ),
    "global_avg_pool1d": Entry(
        sequence.MaskedMean,
        pooled(F.global_avg_pool1d, lambda x, mask: np.mean(x, axis=-1, where=mask)),
    ),
    "nll_loss": Entry(loss.NegativeLogLikelihood, likelihood()),
    "cross_entropy": Entry(softmax.LogSoftmax, entropy()),
    "cross_entropy of probabilities": Entry(loss.SoftNegativeLogLikelihood, soft_entropy()),
    "binary_cross_entropy_with_logits": Entry(loss.BinaryCrossEntropy, binary_entropy()),
    "mse_loss": Entry(arithmetic.Subtract, squared_error()),
}
