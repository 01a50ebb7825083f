"""Strategies for arrays: shape, dtype, memory layout and magnitude of the elements."""

from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import DTypeLike

from agrad.backend import Array
from agrad.testing.strategies._layouts import LAYOUTS

__all__ = [
    "MAGNITUDES",
    "arrays",
    "axes",
    "broadcastable",
    "elements",
    "seeds",
    "shapes",
]

Shape = tuple[int, ...]

seeds = st.integers(0, 2**32 - 1)
"""Seeds for NumPy's random generators."""

dtypes = st.sampled_from([np.float32, np.float64])


# -- shapes ----------------------------------------------------------------------------------------


@cache
def shapes(
    min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> st.SearchStrategy[Shape]:
    """Draw shapes, including 0-d and empty ones.

    Example:
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> find(ags.shapes(min_dims=2, min_side=1), lambda shape: True)
        (1, 1)
    """
    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


@cache
def broadcastable(count: int) -> st.SearchStrategy[tuple[Shape, ...]]:
    """Draw tuples of `count` shapes that broadcast together, including empty and 0-d ones."""
    return hnp.mutually_broadcastable_shapes(
        num_shapes=count, min_dims=0, max_dims=3, min_side=0, max_side=3
    ).map(lambda drawn: drawn.input_shapes)


@cache
def axes(ndim: int) -> st.SearchStrategy[int | tuple[int, ...] | None]:
    """Draw `axis` arguments of a reduction: None, one axis counted from either end, or several."""
    if ndim == 0:
        return st.sampled_from([None, ()])
    several = st.lists(st.integers(0, ndim - 1), unique=True).map(tuple)
    return st.none() | st.integers(-ndim, ndim - 1) | several


# -- elements --------------------------------------------------------------------------------------

MAGNITUDES = ("zero", "ordinary", "subnormal", "huge")
"""Magnitudes of elements: zeros of both signs; 2⁻⁷ to 2⁷; subnormal numbers; the upper half of the
exponents, whose squares overflow."""


def elements(
    dtype: DTypeLike = np.float64,
    magnitudes: Collection[str] = MAGNITUDES,
    *,
    nan: bool = False,
    infinity: bool = False,
) -> st.SearchStrategy[float]:
    """Draw elements of arrays, of both signs.

    Args:
        dtype: float32 or float64.
        magnitudes: Some of `MAGNITUDES`.
        nan: Whether to include NaN.
        infinity: Whether to include the infinities.

    Raises:
        ValueError: A magnitude is unknown, or nothing is left to draw.

    Example:
        >>> import numpy as np
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> find(ags.elements(np.float32, ["ordinary"]), lambda x: x < 0)
        -1.0
    """
    info = np.finfo(dtype)
    tiny, least, most = map(float, (info.tiny, info.smallest_subnormal, info.max))
    ranges = {
        "zero": (0.0, 0.0),
        "ordinary": (2.0**-7, 2.0**7),
        "subnormal": (least, tiny - least),
        "huge": (float(2.0 ** (info.maxexp // 2)), most),
    }
    unknown = set(magnitudes) - set(MAGNITUDES)
    if unknown:
        raise ValueError(f"elements: magnitudes must be some of {MAGNITUDES}, got {unknown}")
    width: Any = 8 * info.dtype.itemsize
    sizes = [st.floats(*ranges[name], width=width) for name in MAGNITUDES if name in magnitudes]
    sizes += [st.just(float("inf"))] * infinity
    choices = [st.tuples(size, st.sampled_from([1.0, -1.0])).map(_signed) for size in sizes]
    choices += [st.just(float("nan"))] * nan
    if not choices:
        raise ValueError("elements: name a magnitude, or pass nan=True or infinity=True")
    return st.one_of(choices)


def _signed(drawn: tuple[float, float]) -> float:
    size, sign = drawn
    return size * sign


def arrays(
    shape: Shape | st.SearchStrategy[Shape] | None = None,
    dtype: Any = dtypes,
    *,
    layouts: Collection[str] = (*LAYOUTS, "broadcast"),
    magnitudes: Collection[str] = MAGNITUDES,
    nan: bool = False,
    infinity: bool = False,
) -> st.SearchStrategy[Array]:
    """Draw arrays of any memory layout with elements of all magnitudes.

    They shrink to small, contiguous arrays of zeros.

    Args:
        shape: A shape, or a strategy for shapes; `shapes()` by default.
        dtype: float32 or float64, or a strategy for one of them.
        layouts: Names in `LAYOUTS`, and "broadcast" for arrays that repeat their elements along one
            axis with stride 0 (NumPy makes them read-only).
        magnitudes: Some of `MAGNITUDES`.
        nan: Whether to include NaN.
        infinity: Whether to include the infinities.

    Raises:
        ValueError: A layout or a magnitude is unknown.

    Example:
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> find(ags.arrays((1,), "float64"), lambda x: x[0] > 3)
        array([4.])
    """
    unknown = set(layouts) - {*LAYOUTS, "broadcast"}
    if unknown:
        raise ValueError(f"arrays: layouts must be in {(*LAYOUTS, 'broadcast')}, got {unknown}")
    of_shape = shapes() if shape is None else shape

    @st.composite
    def strategy(draw: st.DrawFn) -> Array:
        drawn = draw(of_shape) if isinstance(of_shape, st.SearchStrategy) else of_shape
        kind = np.dtype(draw(dtype) if isinstance(dtype, st.SearchStrategy) else dtype)
        layout = draw(st.sampled_from([*layouts]))
        stored = list(drawn)
        if layout == "broadcast" and stored:
            stored[draw(st.integers(0, len(stored) - 1))] = 1
        values = elements(kind, magnitudes, nan=nan, infinity=infinity)
        array = draw(hnp.arrays(kind, tuple(stored), elements=values, fill=st.nothing()))
        return LAYOUTS[layout](array) if layout in LAYOUTS else np.broadcast_to(array, drawn)

    return strategy()
