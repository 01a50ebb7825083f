"""Cases of functions that move elements: reshaping, joining, padding, indexing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agrad import functions as f
from agrad.backend import Array
from agrad.ops import ordering, shape
from agrad.testing.strategies._arrays import Shape, seeds, shapes
from agrad.testing.strategies._operations.case import Case, Entry
from agrad.testing.strategies._points import REAL, points

__all__ = ["ENTRIES", "indices"]

# NumPy's functions accept both Tensors and arrays, so each is its own reference.


def reshape(x: Any, shape: Shape) -> Any:
    return np.reshape(x, shape)  # NumPy 2.0 has another name for the second argument


@st.composite
def reshaped(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1))
    permuted = {"shape": tuple(draw(st.permutations(drawn)))}
    functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "reshape": (reshape, permuted),
        "transpose, then reshape": (lambda x, shape: np.reshape(x.T, shape), permuted),
        "reshape with an axis more": (reshape, {"shape": (*drawn[:-1], 1, drawn[-1])}),
        "ravel": (np.ravel, {}),
        "expand_dims": (np.expand_dims, {"axis": -2}),
        "expand_dims, then squeeze": (
            lambda x, axis: np.squeeze(np.expand_dims(x, axis), axis),
            {"axis": (0, -1)},
        ),
    }
    if 0 not in drawn:
        functions["reshape to a column"] = (reshape, {"shape": (-1, 1)})
    return draw(named(functions, drawn))


@st.composite
def transposed(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=2, max_dims=4, max_side=3))
    order = draw(st.permutations(range(len(drawn))))
    signed = [axis - len(drawn) * draw(st.booleans()) for axis in order]
    source, destination = signed[:2]
    functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "transpose by axes": (np.transpose, {"axes": signed}),
        "moveaxis": (np.moveaxis, {"source": source, "destination": destination}),
        "swapaxes": (np.swapaxes, {"axis1": source, "axis2": destination}),
        "transpose": (np.transpose, {}),
        "T": (lambda x: x.T, {}),
        "mT": (lambda x: x.mT, {}),
    }
    return draw(named(functions, drawn))


@st.composite
def named(
    draw: st.DrawFn, functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]], shape: Shape
) -> Case:
    """Draw a case of one of several functions with options, by the name of the function."""
    name = draw(st.sampled_from([*functions]))
    function, options = functions[name]
    inputs = draw(points((shape, REAL)))
    return Case(function, inputs, (REAL,), options, function, name)


@st.composite
def broadcast(draw: st.DrawFn) -> Case:
    drawn = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=3)
    )
    inputs = draw(points((drawn.input_shapes[0], REAL)))
    options = {"shape": drawn.result_shape}
    return Case(np.broadcast_to, inputs, (REAL,), options, np.broadcast_to)


def concatenate(*xs: Any, axis: int | None) -> Any:
    return np.concatenate(xs, axis=axis)


@st.composite
def joined(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(drawn), len(drawn) - 1))
    parts = []
    for length in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)):
        part = list(drawn)
        part[axis] = length
        parts.append((tuple(part), REAL))
    options = {"axis": None if draw(st.booleans()) else axis}
    return Case(concatenate, draw(points(*parts)), (REAL,) * len(parts), options, concatenate)


def stack(*xs: Any, axis: int) -> Any:
    return np.stack(xs, axis=axis)


@st.composite
def stacked(draw: st.DrawFn) -> Case:
    drawn, count = draw(shapes()), draw(st.integers(1, 3))
    options = {"axis": draw(st.integers(-len(drawn) - 1, len(drawn)))}
    inputs = draw(points(*[(drawn, REAL)] * count))
    return Case(stack, inputs, (REAL,) * count, options, stack)


@st.composite
def padded(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1))
    pair = st.tuples(st.integers(0, 2), st.integers(0, 2))
    options = {
        "pad_width": draw(st.integers(0, 2) | pair | st.tuples(*[pair] * len(drawn))),
        "constant_values": draw(st.sampled_from([0, -1.5])),
    }
    return Case(np.pad, draw(points((drawn, REAL))), (REAL,), options, np.pad)


def get_item(x: Any, index: Any) -> Any:
    return x[index]


@st.composite
def indexed(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    options = {"index": draw(indices(drawn))}
    return Case(get_item, draw(points((drawn, REAL))), (REAL,), options, get_item)


def indices(shape: Shape) -> st.SearchStrategy[Any]:
    """Draw basic and advanced indices, masks and mixtures; an element may occur twice."""
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


def split_and_flip(x: Any, where: list[int], axis: int, part: int) -> Any:
    return np.flip(np.split(x, where, axis)[part], axis)


@st.composite
def cut(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    axis = draw(st.integers(-len(drawn), len(drawn) - 1))
    where = draw(st.lists(st.integers(0, drawn[axis]), max_size=2).map(sorted))
    options = {"where": where, "axis": axis, "part": draw(st.integers(0, len(where)))}
    return Case(split_and_flip, draw(points((drawn, REAL))), (REAL,), options, split_and_flip)


@st.composite
def repeated(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(max_dims=2, max_side=3))
    axis = draw(st.none() | st.integers(-len(drawn), len(drawn) - 1)) if drawn else None
    functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "repeat": (np.repeat, {"repeats": draw(st.integers(0, 3)), "axis": axis}),
        "tile": (np.tile, {"reps": draw(st.tuples(*[st.integers(0, 2)] * 3) | st.integers(0, 3))}),
    }
    return draw(named(functions, drawn))


@st.composite
def rolled(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=2))
    shift, axis = draw(st.sampled_from([(1, 0), (-1, -1), ((1, -1), 0), ((1, 3), (0, -1))]))
    functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "roll": (np.roll, {"shift": shift, "axis": axis}),
        "roll of all": (np.roll, {"shift": 1, "axis": None}),
        "hstack": (lambda x: np.hstack([x, x]), {}),
        "vstack": (lambda x: np.vstack([x[0], x[0]]), {}),
    }
    return draw(named(functions, drawn))


@st.composite
def cornered(draw: st.DrawFn) -> Case:
    drawn, k = draw(shapes(min_dims=2)), draw(st.integers(-3, 3))
    functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "tril": (np.tril, {"k": k}),
        "triu": (np.triu, {"k": k}),
    }
    return draw(named(functions, drawn))


@st.composite
def diagonals(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=2))
    axis1, axis2 = draw(st.permutations(range(len(drawn))))[:2]
    options = {
        "offset": draw(st.integers(-2, 2)),
        "axis1": axis1 - len(drawn) * draw(st.booleans()),
        "axis2": axis2,
    }
    functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "diagonal": (np.diagonal, options),
        "trace": (np.trace, options),
    }
    return draw(named(functions, drawn))


@st.composite
def gathered(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    axis = draw(st.integers(-len(drawn), len(drawn) - 1))
    lengths = list(drawn)
    lengths[axis] = draw(st.integers(0, 4))
    if len(drawn) > 1 and draw(st.booleans()):
        lengths[(axis + 1) % len(drawn)] = 1
    places = np.random.default_rng(draw(seeds)).integers(-drawn[axis], drawn[axis], lengths)
    options = {"indices": places, "axis": axis}
    inputs = draw(points((drawn, REAL)))
    return Case(np.take_along_axis, inputs, (REAL,), options, np.take_along_axis)


def put(x: Any, source: Any, axis: int, index: Array) -> Any:
    """Put elements of the source in a copy of x as PyTorch's scatter does."""
    out = x.copy()
    for place in np.ndindex(*index.shape):
        target = list(place)
        target[axis] = index[place]
        out[tuple(target)] = source[place]
    return out


@st.composite
def scattered(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1, max_side=3))
    axis = draw(st.integers(0, len(drawn) - 1))
    lengths = tuple(draw(st.integers(0, n)) for n in drawn)
    rng = np.random.default_rng(draw(seeds))
    choices = rng.permuted(np.indices(drawn)[axis], axis=axis)
    index = choices[tuple(slice(n) for n in lengths)]
    return Case(
        lambda x, source, axis, index: f.scatter(x, axis, index, source),
        draw(points((drawn, REAL), (drawn, REAL))),
        (REAL, REAL),
        {"axis": axis, "index": index},
        put,
    )


@st.composite
def ordered(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1))
    options = {"axis": draw(st.none() | st.integers(-len(drawn), len(drawn) - 1))}
    return Case(np.sort, draw(points((drawn, REAL))), (REAL,), options, np.sort)


ENTRIES = {
    "reshape": Entry(shape.Reshape, reshaped()),
    "transpose": Entry(shape.Transpose, transposed()),
    "broadcast_to": Entry(shape.BroadcastTo, broadcast()),
    "concatenate": Entry(shape.Concatenate, joined()),
    "stack": Entry(shape.Stack, stacked()),
    "pad": Entry(shape.Pad, padded()),
    "indexing": Entry(shape.GetItem, indexed()),
    "split": Entry(shape.GetItem, cut()),
    "repeat": Entry(shape.BroadcastTo, repeated()),
    "roll": Entry(shape.Concatenate, rolled()),
    "tril": Entry(shape.Triangle, cornered()),
    "diagonal": Entry(shape.Diagonal, diagonals()),
    "take_along_axis": Entry(shape.TakeAlongAxis, gathered()),
    "scatter": Entry(shape.Scatter, scattered()),
    "sort": Entry(ordering.Sort, ordered()),
}
