"""Cases of functions of square matrices that are far from singular."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from agrad import linalg
from agrad.backend import Array
from agrad.ops import matrix
from agrad.testing.strategies._arrays import shapes
from agrad.testing.strategies._operations.case import Case, Cases, Entry
from agrad.testing.strategies._points import REAL, points

__all__ = ["ENTRIES"]


def regular(x: Any) -> Any:
    """Return symmetric, positive definite matrices whose condition numbers are small."""
    return 0.1 * (x @ x.mT) + np.triu(np.tril(0 * x + 3))


def matrices(function: Any, reference: Any, columns: bool = False) -> Cases:
    """Draw cases of a function of positive definite matrices and right-hand sides, if `columns`."""

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        *batch, n = draw(shapes(min_dims=1, max_dims=2, min_side=1, max_side=3))
        drawn = [(*batch, n, n), *[(*batch, n, 2)] * columns]
        return Case(
            lambda x, *others: function(regular(x), *others),
            draw(points(*[(shape, REAL) for shape in drawn])),
            (REAL,) * len(drawn),
            reference=lambda x, *others: reference(regular(x), *others),
        )

    return cases()


def log_det(x: Array) -> Any:
    return np.linalg.slogdet(x)[1]


ENTRIES = {
    "inv": Entry(matrix.Inverse, matrices(linalg.inv, np.linalg.inv)),
    "solve": Entry(matrix.Solve, matrices(linalg.solve, np.linalg.solve, columns=True)),
    "det": Entry(matrix.Determinant, matrices(linalg.det, np.linalg.det)),
    "slogdet": Entry(matrix.LogDeterminant, matrices(lambda x: linalg.slogdet(x)[1], log_det)),
    "cholesky": Entry(matrix.Cholesky, matrices(linalg.cholesky, np.linalg.cholesky)),
}
