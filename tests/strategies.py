"""Hypothesis strategies for arrays: their shapes, values and layouts in memory.

Hypothesis draws what a failure should be shrunk to (shapes, layouts, axes); the values come from a
drawn seed. They lie on a lattice without ties, so that no operation is ever tested within 0.01 of a
kink (a zero, a tie, a limit that is a multiple of 0.1) unless a test puts it there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import agrad as ag
from agrad.backend import Array
from agrad.ops.operation import Linear
from agrad.tensor import apply

SPACING = 0.1
"""Of the lattice: values are distinct multiples of it, plus an offset that differs by input."""


class Domain(NamedTuple):
    """Where an input may lie: its magnitude is at least `low`, its sign free or positive."""

    low: float = 0.0
    signed: bool = True

    def place(self, x: Array) -> Array:
        """Move values of the lattice into the domain."""
        return x + np.copysign(self.low, x) if self.signed else np.abs(x) + self.low

    def step(self, x: Array, step: Array) -> Array:
        """Return x + step, stopped at the border: the segment between them stays in the domain."""
        if self == REAL:
            return x + step
        sign = np.copysign(1, x)
        return sign * np.maximum(sign * (x + step), self.low).astype(x.dtype)


REAL = Domain()
NONZERO = Domain(low=0.3)
POSITIVE = Domain(low=0.3, signed=False)

seeds = st.integers(0, 2**32 - 1)


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4) -> Any:
    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


def broadcastable(count: int) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Shapes that broadcast against each other, with empty and 0-d ones among them."""
    return hnp.mutually_broadcastable_shapes(
        num_shapes=count, min_dims=0, max_dims=3, min_side=0, max_side=3
    ).map(lambda drawn: drawn.input_shapes)


@st.composite
def arrays(draw: Any, *inputs: tuple[tuple[int, ...], Domain]) -> tuple[Array, ...]:
    """Float64 arrays of the given shapes in the given domains, without ties in or between them."""
    rng = np.random.default_rng(draw(seeds))
    return tuple(
        np.asarray(domain.place(_lattice(rng, shape, offset=0.015 + 0.03 * i)))
        for i, (shape, domain) in enumerate(inputs)
    )


def _lattice(rng: np.random.Generator, shape: tuple[int, ...], offset: float) -> Array:
    half = max(20, int(np.prod(shape)))
    indices = rng.permutation(np.arange(-half, half))[: int(np.prod(shape))]
    return (SPACING * indices + offset).reshape(shape)


def _spread_out(array: Array) -> Array:
    if array.ndim == 0:
        return array.copy()
    room = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    room[..., ::2] = array
    return room[..., ::2]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda array: array.copy(order="C"),
    "Fortran-ordered": lambda array: array.copy(order="F"),
    "negative strides": lambda array: np.asarray(np.flip(np.flip(array).copy())),
    "non-contiguous": _spread_out,
}

layouts = st.sampled_from(sorted(LAYOUTS))


class LayOut(Linear):
    """The same elements in another layout, as results of indexing or transposing have it."""

    def __init__(self, layout: str) -> None:
        self.layout = layout

    def forward(self, x: Array) -> Array:
        return LAYOUTS[self.layout](x)

    def backward(self, grad, needs, out, x):
        return (grad,)


def lay_out(tensor: ag.Tensor, layout: str) -> ag.Tensor:
    return apply(LayOut(layout), tensor)


def axes(ndim: int) -> st.SearchStrategy[int | tuple[int, ...] | None]:
    """What NumPy takes for the axes of a reduction: none, one (from either end), or several."""
    if ndim == 0:
        return st.sampled_from([None, ()])
    several = st.lists(st.integers(0, ndim - 1), unique=True).map(tuple)
    return st.none() | st.integers(-ndim, ndim - 1) | several
