"""Cases of functions that reduce axes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from agrad import functions as f
from agrad import linalg
from agrad.ops import cumulative, reduction
from agrad.testing.strategies._arrays import axes, shapes
from agrad.testing.strategies._operations.case import Case, Cases, Entry
from agrad.testing.strategies._points import REAL, points

__all__ = ["ENTRIES"]


def reduced(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    *,
    min_dims: int = 0,
    min_side: int = 0,
    **parameters: st.SearchStrategy[Any],
) -> Cases:
    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        drawn = draw(shapes(min_dims=min_dims, min_side=min_side, max_side=3))
        some = axes(len(drawn)) if min_dims == 0 else axes(len(drawn)).filter(lambda a: a != ())
        options = {"axis": draw(some), "keepdims": draw(st.booleans())}
        options |= {key: draw(strategy) for key, strategy in parameters.items()}
        return Case(function, draw(points((drawn, REAL))), (REAL,), options, reference)

    return cases()


@st.composite
def accumulated(draw: st.DrawFn, function: Any) -> Case:
    drawn = draw(shapes(min_dims=1, max_side=3))
    options = {"axis": draw(st.none() | st.integers(-len(drawn), len(drawn) - 1))}
    return Case(function, draw(points((drawn, REAL))), (REAL,), options, function)


def norm(x: Any, axis: Any, keepdims: bool) -> Any:
    # NumPy's norm takes at most two axes.
    return np.sqrt(np.sum(np.square(x), axis, keepdims=keepdims))


def logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


ENTRIES = {
    "sum": Entry(reduction.Sum, reduced(f.sum, np.sum)),
    "mean": Entry(reduction.Mean, reduced(f.mean, np.mean, min_side=1)),
    "var": Entry(
        reduction.Var,
        reduced(f.var, np.var, min_dims=1, min_side=2, ddof=st.sampled_from([0, 1, 0.5])),
    ),
    "std": Entry(
        reduction.Std,
        reduced(f.std, np.std, min_dims=1, min_side=2, ddof=st.sampled_from([0, 1])),
    ),
    "max": Entry(reduction.Max, reduced(f.max, np.max, min_side=1)),
    "min": Entry(reduction.Min, reduced(f.min, np.min, min_side=1)),
    "prod": Entry(reduction.Prod, reduced(f.prod, np.prod)),
    "norm": Entry(reduction.Norm, reduced(linalg.norm, norm)),
    "cumsum": Entry(cumulative.Cumsum, accumulated(np.cumsum)),
    "cumprod": Entry(cumulative.Cumprod, accumulated(np.cumprod)),
    "logsumexp": Entry(reduction.LogSumExp, reduced(f.logsumexp, logsumexp, min_side=1)),
}
