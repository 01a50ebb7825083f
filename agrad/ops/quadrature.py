"""Gauss-Legendre and Gauss-Kronrod quadrature on [0, 1]."""

from functools import cache

import numpy as np

__all__ = ["gauss_kronrod", "gauss_legendre"]


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


@cache
def gauss_kronrod() -> tuple[tuple[float, float, float], ...]:
    """Return (position, weight, Gauss's weight) of Kronrod's 15 nodes on [0, 1].

    Kronrod's rule is exact for polynomials of degree 22. Gauss's uses every other node, with the
    weight 0 for the rest, and is exact for degree 13. Their difference estimates the error.

    The numbers are those of QUADPACK (Piessens et al., 1983).

    Example:
        >>> from agrad.ops.quadrature import gauss_kronrod
        >>> round(21 * sum(weight * t**20 for t, weight, _ in gauss_kronrod()), 12)
        1.0
    """
    positions = (
        0.991455371120812639206854697526329,
        0.949107912342758524526189684047851,
        0.864864423359769072789712788640926,
        0.741531185599394439863864773280788,
        0.5860872354676911,
        0.405845151377397166906606412076961,
        0.207784955007898467600689403773245,
        0.0,
    )
    weights = (
        0.022935322010529224963732008058970,
        0.063092092629978553290700663189204,
        0.104790010322250183839876322541518,
        0.140653259715525918745189590510238,
        0.169004726639267902826583426598550,
        0.190350578064785409913256402421014,
        0.204432940075298892414161999234649,
        0.209482141084727828012999174891714,
    )
    gauss_weights = (
        0.0,
        0.129484966168869693270611432679082,
        0.0,
        0.279705391489276667901467771423780,
        0.0,
        0.381830050505118944950369775488975,
        0.0,
        0.417959183673469387755102040816327,
    )
    half = list(zip(positions, weights, gauss_weights, strict=True))
    both = [(-t, w, g) for t, w, g in half] + [(t, w, g) for t, w, g in half[-2::-1]]
    return tuple(((1 + t) / 2, w / 2, g / 2) for t, w, g in both)
