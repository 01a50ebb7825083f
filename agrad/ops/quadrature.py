"""Gauss-Legendre quadrature on [0, 1]."""

from functools import cache

import numpy as np

__all__ = ["gauss_legendre"]


@cache
def gauss_legendre(nodes: int) -> tuple[tuple[float, float], ...]:
    """Return (position, weight) pairs on [0, 1], exact for polynomials of degree 2·nodes - 1.

    Raises:
        ValueError: `nodes` is below 1.

    Example:
        >>> from agrad.ops.quadrature import gauss_legendre
        >>> gauss_legendre(1)
        ((0.5, 1.0),)
        >>> round(sum(w * t**3 for t, w in gauss_legendre(2)), 12)
        0.25
    """
    if nodes < 1:
        raise ValueError(f"gauss_legendre: nodes must be at least 1, got {nodes}")
    positions, weights = np.polynomial.legendre.leggauss(nodes)
    return tuple((float(t + 1) / 2, float(w) / 2) for t, w in zip(positions, weights, strict=True))
