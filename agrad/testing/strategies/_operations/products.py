"""Cases of products of matrices and of tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import agrad.nn.functional as F
from agrad.backend import Array
from agrad.core.tensor import Tensor, apply
from agrad.ops import linalg
from agrad.ops.adjoint import Adjoint
from agrad.testing.strategies._arrays import shapes
from agrad.testing.strategies._operations.case import Case, Cases, Entry
from agrad.testing.strategies._points import REAL, points

__all__ = ["ENTRIES"]


def linear(x: Array, weight: Array, bias: Array | float = 0.0) -> Any:
    return x @ weight.T + np.asarray(bias, dtype=x.dtype)


@st.composite
def dense(draw: st.DrawFn) -> Case:
    *batch, n = draw(shapes(min_dims=1, max_side=3))
    m = draw(st.integers(0, 3))
    with_bias = draw(st.booleans())
    inputs = draw(points(((*batch, n), REAL), ((m, n), REAL), *[((m,), REAL)] * with_bias))
    return Case(F.linear, inputs, (REAL,) * len(inputs), reference=linear)


def multiplied(*functions: Callable[..., Any]) -> Cases:
    """Draw cases of products that follow matmul's rules; up to two axes, so does dot."""

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        function = draw(st.sampled_from(functions))
        drawn = draw(
            hnp.mutually_broadcastable_shapes(
                signature=np.matmul.signature,
                min_side=0,
                max_side=3,
                max_dims=2 if function is np.matmul else 0,
            )
        )
        inputs = draw(points(*[(shape, REAL) for shape in drawn.input_shapes]))
        return Case(function, inputs, (REAL, REAL), reference=function, name=function.__name__)

    return cases()


PAIRS = [
    "ij,jk->ik", "ij,jk", "bij,bjk->bik", "ij,j", "i,j->ij", "ij,ij->", "ij,kj->ki",
    "ij->ji", "ii->i", "ii", "ij->", "iij,j->i", "ij,ik->k",
    "...i,...i->...", "...ij->...ji", "i...,ij->j...", "...,...", "ba", ",i->i",
]  # fmt: skip
MANY = ["ij,ij,ij->j", "ij,jk,kl->il", "i,i,i,i->", "i,j,k->kij", "a...,a,ab,b->..."]


def einsum(*operands: Any, subscripts: str) -> Any:
    return np.einsum(subscripts, *operands)


@st.composite
def contracted(draw: st.DrawFn, choices: list[str], min_side: int) -> Case:
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
    inputs = draw(points(*[(shape, REAL) for shape in drawn]))
    return Case(einsum, inputs, (REAL,) * len(terms), {"subscripts": subscripts}, einsum)


def pull(
    grad: Tensor, *others: Tensor, subscripts: str, factor: int, shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient of an einsum by one of its factors."""
    adjoint = Adjoint(linalg.Einsum(subscripts), factor, shape, grad.dtype)
    return apply(adjoint, grad, *others)


@st.composite
def pulled(draw: st.DrawFn) -> Case:
    case = draw(contracted(MANY, min_side=1))
    shapes = [x.shape for x in case.inputs]
    factor = draw(st.integers(0, len(shapes) - 1))
    options = {**case.options, "factor": factor, "shape": shapes.pop(factor)}
    drawn = einsum(*case.inputs, **case.options).shape, *shapes
    inputs = draw(points(*[(shape, REAL) for shape in drawn]))
    return Case(pull, inputs, (REAL,) * len(inputs), options)


ENTRIES = {
    "linear": Entry(linalg.Affine, dense()),
    "matmul": Entry(linalg.Matmul, multiplied(np.matmul, np.dot)),
    "einsum": Entry(linalg.Einsum, contracted(PAIRS, min_side=0)),
    "einsum of many": Entry(linalg.Einsum, contracted(MANY, min_side=1)),
    "gradient of einsum": Entry(Adjoint, pulled()),
}
