"""Which candidate is the largest while all of them move along straight lines."""

import math

import numpy as np

from .jit import Array, inline, kernel

__all__ = ["average_shares"]


def average_shares(start: Array, end: Array) -> Array:
    """Return for each candidate the fraction of the segment on which it is the largest.

    The candidates lie along the last axis and move from `start` to `end`, arrays of one shape and
    dtype, float32 or float64, which the result has too. Candidates that are equal all the way share
    their fraction equally; NaN anywhere in a row makes the whole row NaN.

    Example:
        >>> average_shares(np.array([[3.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 1.0]]))
        array([[0.75 , 0.125, 0.125]])
    """
    shares = np.zeros(start.shape, start.dtype)
    rows = (-1, start.shape[-1]) if start.size else (0, 1)
    _average_shares(*(np.ascontiguousarray(array).reshape(rows) for array in (start, end, shares)))
    return shares


@kernel("const real[:, :], const real[:, :], real[:, :]")
def _average_shares(start: Array, end: Array, shares: Array) -> None:
    """Walk along the upper envelope of the lines from (0, start[i]) to (1, end[i]).

    The next to lead is the line that crosses the leader first among those that end higher.
    """
    rows, n = start.shape
    for row in range(rows):
        a, b = start[row], end[row]
        leader = first_leader(a, b)
        if leader < 0:
            shares[row] = math.nan
            continue
        time = 0.0
        while time < 1:
            equals = 0
            for i in range(n):
                equals += a[i] == a[leader] and b[i] == b[leader]
            following, end_time = next_leader(a, b, leader, time)
            for i in range(n):
                if a[i] == a[leader] and b[i] == b[leader]:
                    shares[row, i] += (end_time - time) / equals
            leader, time = following, end_time


@inline
def next_leader(a: Array, b: Array, leader: int, time: float) -> tuple[int, float]:
    """The line that is next to overtake the leader, and when; the leader and 1 if none does."""
    following, end_time = leader, 1.0
    for i in range(a.size):
        if b[i] > b[leader]:
            crossing = max(time, _crossing(a[leader], b[leader], a[i], b[i]))
            if crossing < end_time or (crossing == end_time and b[i] > b[following]):
                following, end_time = i, crossing
    return following, end_time


@inline
def first_leader(a: Array, b: Array) -> int:
    """The line that leads first: of the highest, the one that ends highest; -1 if any is NaN."""
    leader = 0
    for i in range(a.size):
        if math.isnan(a[i]) or math.isnan(b[i]):
            return -1
        if a[i] > a[leader] or (a[i] == a[leader] and b[i] > b[leader]):
            leader = i
    return leader


@inline
def _crossing(a: float, b: float, a_other: float, b_other: float) -> float:
    """When a line from a to b is overtaken by one that starts no higher and ends higher."""
    if a == a_other:
        return 0.0
    # Halved, finite numbers have finite differences.
    lead, trail = 0.5 * a - 0.5 * a_other, 0.5 * b_other - 0.5 * b
    if math.isinf(lead) and math.isinf(trail):
        return 0.5
    return 1 / (1 + trail / lead)
