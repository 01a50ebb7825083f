"""Derivatives by central differences, with error estimates and detection of kinks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Slope", "slope"]

FACTOR = 4.0
STEPS = tuple(2.0**-5 / FACTOR**k for k in range(9))
"""From 0.03, where rounding leaves 14 digits, to 5e-7, a distance at which kinks are rare."""

EPS = float(np.finfo(np.float64).eps)


class Slope(NamedTuple):
    """A derivative at 0.

    Attributes:
        value: The derivative; NaN if the function is not finite around 0.
        error: An estimate of its error.
        noise: The part of the error that rounding of the function's values explains.
        jump: The difference of the slopes on the two sides of 0, which is pure rounding for a
            smooth function; infinity if the function is not finite on both sides.
    """

    value: float
    error: float
    noise: float
    jump: float


def slope(phi: Callable[[float], float], scale: float) -> Slope:
    """Return φ'(0) by Ridders' method: central differences extrapolated to step 0.

    Among all steps and extrapolations, the result is the one that agrees best with its neighbours.
    So kinks and the edge of the domain do no harm unless they are next to 0.

    Source: C. J. F. Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", 1982.

    Args:
        phi: The function φ of a step.
        scale: The sum of the magnitudes of the terms of φ, which determines its rounding error.

    Example:
        >>> import math
        >>> from agrad.testing.differences import slope
        >>> abs(slope(math.sin, 1.0).value - 1) < 1e-12
        True
        >>> slope(abs, 1.0).jump
        2.0
    """
    middle = phi(0.0)
    best = Slope(float("nan"), float("inf"), float("inf"), float("inf"))
    row: list[float] = []
    gaps: list[float] = []
    for step in STEPS:
        above, below = phi(step), phi(-step)
        if not (np.isfinite(above) and np.isfinite(below)):
            row, gaps = [], []
            continue
        gaps.append(abs((above - middle) - (middle - below)) / step)
        noise = EPS * scale / step
        previous, row = row, [(above - below) / (2 * step)]
        for i, coarse in enumerate(previous):
            power = FACTOR ** (2 * (i + 1))
            row.append((power * row[i] - coarse) / (power - 1))
            error = max(abs(row[i + 1] - row[i]), abs(row[i + 1] - coarse))
            if max(error, noise) < max(best.error, best.noise):
                best = best._replace(value=row[i + 1], error=error, noise=noise)
    return best._replace(jump=_jump(gaps))


def _jump(gaps: list[float]) -> float:
    """Return the limit of the gap between the slopes of the two sides as the steps shrink.

    At a kink the gap stays; otherwise it falls with the step until rounding makes it grow again.
    """
    short = gaps[len(gaps) // 2 :]
    if len(short) < 2:
        return float("inf")
    return min(short) if min(short) > short[0] / 8 else 0.0
