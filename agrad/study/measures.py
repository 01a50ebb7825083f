"""Measures that compare runs by the number of iterations to the same training loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PERIOD",
    "POINTS",
    "WINDOW",
    "curve",
    "final_loss",
    "gain",
    "iterations_to",
    "seconds_per_step",
    "window_means",
]

Losses = Sequence[float] | NDArray[Any]

WINDOW = 40
"""The number of iterations over which a training loss is averaged."""

POINTS = 100
"""The number of points of a `curve`."""

PERIOD = 4
"""The number of steps in a row of which every method measures one at least."""


def window_means(losses: Losses, window: int = WINDOW) -> NDArray[np.float64]:
    """Return the moving average of N losses, float64 of shape (N - window + 1,).

    If there are fewer than `window` losses, return the mean of all, of shape (1,).

    Raises:
        ValueError: There are no losses.

    Example:
        >>> from agrad.study.measures import window_means
        >>> window_means([4.0, 3.0, 2.0, 1.0], window=2)
        array([3.5, 2.5, 1.5])
    """
    if len(losses) == 0:
        raise ValueError("window_means: there are no losses")
    # All means are computed this way, so a run reaches its own final loss to the last bit.
    values = np.asarray(losses, np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(values, min(window, len(values)))
    means: NDArray[np.float64] = windows.mean(axis=1)
    return means


def curve(losses: Losses, points: int = POINTS) -> list[float]:
    """Return moving averages of N losses at `points` equal distances, the last one at the end.

    Each is the mean of the last `WINDOW` losses, of N/8 if that is less, and of all there are at
    the beginning. So two runs of N iterations can be compared point by point.

    Example:
        >>> from agrad.study.measures import curve
        >>> curve([4.0, 3.0, 2.0, 1.0], points=2)
        [3.0, 1.0]
    """
    values = np.asarray(losses, np.float64)
    window = min(WINDOW, max(1, len(values) // 8))
    ends = [-(-len(values) * (i + 1) // points) for i in range(points)]
    return [float(f"{values[max(0, end - window) : end].mean():.4g}") for end in ends]


def seconds_per_step(seconds: Sequence[float]) -> float:
    """Return the median of the moving averages over `PERIOD` steps.

    A method that measures some of its steps has quick and slow ones. Their plain median would be
    the time of either kind, or of the slowest quick one.

    Example:
        >>> from agrad.study.measures import seconds_per_step
        >>> seconds_per_step([9.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0])
        2.0
    """
    return float(np.median(window_means(seconds, PERIOD)))


def final_loss(losses: Losses, window: int = WINDOW) -> float:
    """Return the mean of the last `window` losses."""
    return float(window_means(losses, window)[-1])


def iterations_to(losses: Losses, target: float, window: int = WINDOW) -> int | None:
    """Return the iteration at which the mean of the last `window` losses is first at most `target`.

    Return None if it never is. An infinite mean does not reach any target, not even an infinite
    one.

    Example:
        >>> from agrad.study.measures import iterations_to
        >>> iterations_to([4.0, 3.0, 2.0, 1.0], target=2.5, window=2)
        3
    """
    means = window_means(losses, window)
    reached = np.flatnonzero((means <= target) & np.isfinite(means))
    return int(reached[0]) + min(window, len(losses)) if len(reached) else None


def gain(losses: Losses, baseline: Losses, window: int = WINDOW) -> float:
    """Return in how many times fewer iterations `losses` reach the final loss of the baseline.

    The baseline's iterations count until it first reaches that loss itself, since a noisy run may
    do so long before its end. So every run has a gain of 1 over itself. The gain is 0 if `losses`
    do not reach that loss, and infinite if they are finite where the baseline's end is not.

    Example:
        >>> from agrad.study.measures import gain
        >>> gain([4.0, 2.0, 1.0, 1.0], baseline=[4.0, 3.0, 2.0, 2.0], window=2)
        1.3333333333333333
    """
    target = final_loss(baseline, window)
    ours = iterations_to(losses, target, window)
    if ours is None:
        return 0.0
    if not math.isfinite(target):
        return math.inf
    theirs = iterations_to(baseline, target, window)
    assert theirs is not None  # it ends there
    return theirs / ours


@dataclass(frozen=True)
class Target:
    """A training loss to reach, as the mean of `window` iterations in a row.

    Example:
        >>> from agrad.study.measures import Target
        >>> target = Target(2.5, window=2)
        >>> target.is_reached([4.0, 3.0]), target.is_reached([4.0, 3.0, 2.0])
        (False, True)
    """

    loss: float
    window: int

    def is_reached(self, losses: Losses) -> bool:
        """Return whether the mean of the last `window` losses is at most `loss`."""
        return len(losses) >= self.window and final_loss(losses, self.window) <= self.loss
