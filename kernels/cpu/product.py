"""Products of matrices: NumPy's own function, which calls the BLAS without overhead."""

import numpy as np
from numpy import matmul

from .jit import Array
from .threads import in_parallel

__all__ = ["matmul", "matmul_each"]


def matmul_each(x: Array, y: Array) -> Array:
    """Return the product of each pair of matrices (..., m, k) and (..., k, n).

    NumPy calls the BLAS for one pair at a time, and small matrices keep one thread busy alone. So
    several threads share the pairs; each product is what it would be in one.

    Example:
        >>> matmul_each(np.ones((2, 1, 3)), np.full((2, 3, 1), 2.0)).ravel()
        array([6., 6.])
    """
    if x.shape[:-2] != y.shape[:-2] or x.dtype != y.dtype or x.shape[-1] != y.shape[-2]:
        product: Array = matmul(x, y)
        return product
    out = np.empty((*x.shape[:-1], y.shape[-1]), x.dtype)

    def work(part: slice) -> None:
        matmul(x[part], y[part], out=out[part])

    in_parallel(work, len(x), out.size * x.shape[-1])
    return out
