"""Ends, length and shares of the segment from a to b, for the formulas of divided differences."""

from .jit import inline


@inline
def order(a: float, b: float) -> tuple[float, float]:
    """Return the lower and the higher end; NaN is kept."""
    return (a, b) if a < b else (b, a)


@inline
def gap_of(low: float, high: float) -> float:
    """Return high - low, 0 also for equal infinities."""
    return 0.0 if low == high else high - low


@inline
def halving(a: float, b: float) -> float:
    """Return a factor by which a and b can be scaled so that their difference does not overflow."""
    return 0.5 if max(abs(a), abs(b)) > 1e300 else 1.0


@inline
def shares(a: float, b: float) -> tuple[float, float]:
    """Return the fractions P and N of the segment above and below zero; the point zero is below.

    For lengths p and n they are p / (p + n) and n / (p + n), computed from the ratio of the shorter
    to the longer, which neither overflows nor becomes inf / inf if only one end is infinite.
    """
    low, high = order(a, b)
    above = 0.0 if high <= 0 else high  # NaN passes
    below = 0.0 if low >= 0 else -low
    short, long = (below, above) if above > below else (above, below)
    ratio = short / long if long != 0 else short
    most = 1 / (1 + ratio)
    return (most, ratio * most) if above > below else (ratio * most, most)
