"""How runs are compared: by the iterations they take to the same training loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WINDOW", "final_loss", "gain", "iterations_to", "window_means"]

Losses = Sequence[float] | NDArray[Any]

WINDOW = 40
"""Iterations over which a training loss is averaged."""


def window_means(losses: Losses, window: int = WINDOW) -> NDArray[np.float64]:
    """Return the mean of each `window` losses in a row; of all, where there are fewer.

    Raises:
        ValueError: no losses.

    Example:
        >>> from agrad.study.measures import window_means
        >>> window_means([4.0, 3.0, 2.0, 1.0], window=2)
        array([3.5, 2.5, 1.5])
    """
    if len(losses) == 0:
        raise ValueError("window_means: there are no losses")
    # One way to take a mean everywhere: a run reaches its own final loss, to the last bit.
    values = np.asarray(losses, np.float64)
    return np.lib.stride_tricks.sliding_window_view(values, min(window, len(values))).mean(axis=1)


def final_loss(losses: Losses, window: int = WINDOW) -> float:
    """Return the mean of the last `window` losses."""
    return float(window_means(losses, window)[-1])


def iterations_to(losses: Losses, target: float, window: int = WINDOW) -> int | None:
    """Return the end of the first `window` iterations in a row of a mean loss at most `target`.

    None if there are none. An infinite mean reaches nothing, not even an infinite target.

    Example:
        >>> from agrad.study.measures import iterations_to
        >>> iterations_to([4.0, 3.0, 2.0, 1.0], target=2.5, window=2)
        3
    """
    means = window_means(losses, window)
    reached = np.flatnonzero((means <= target) & np.isfinite(means))
    return int(reached[0]) + min(window, len(losses)) if len(reached) else None


def gain(losses: Losses, baseline: Losses, window: int = WINDOW) -> float:
    """Return the baseline's iterations over those that reach the baseline's final loss.

    0 where it is not reached.

    Example:
        >>> from agrad.study.measures import gain
        >>> gain([4.0, 2.0, 1.0, 1.0], baseline=[4.0, 3.0, 2.0, 2.0], window=2)
        1.3333333333333333
    """
    reached = iterations_to(losses, final_loss(baseline, window), window)
    return len(baseline) / reached if reached else 0.0


@dataclass(frozen=True)
class Target:
    """A training loss to be reached, as the mean of `window` iterations in a row.

    Example:
        >>> from agrad.study.measures import Target
        >>> target = Target(2.5, window=2)
        >>> target.is_reached([4.0, 3.0]), target.is_reached([4.0, 3.0, 2.0])
        (False, True)
    """

    loss: float
    window: int

    def is_reached(self, losses: Losses) -> bool:
        """Whether the last losses reach it."""
        return len(losses) >= self.window and final_loss(losses, self.window) <= self.loss
