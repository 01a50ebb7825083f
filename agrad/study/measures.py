"""How runs are compared: iterations to a training loss, medians over paired seeds."""

from collections.abc import Sequence

import numpy as np

__all__ = ["WINDOW", "final_loss", "gain", "iterations_to"]

WINDOW = 40
"""Iterations over which a training loss is averaged."""


def final_loss(losses: Sequence[float], window: int = WINDOW) -> float:
    """Return the mean of the last `window` losses."""
    return float(np.mean(losses[-window:]))


def iterations_to(losses: Sequence[float], target: float, window: int = WINDOW) -> int | None:
    """Return the end of the first `window` iterations in a row of mean loss at most `target`.

    None if there are none.

    Example:
        >>> from agrad.study.measures import iterations_to
        >>> iterations_to([4.0, 3.0, 2.0, 1.0], target=2.5, window=2)
        3
    """
    if len(losses) < window:
        return None
    means = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    reached = np.flatnonzero(means <= target)
    return int(reached[0]) + window if len(reached) else None


def gain(losses: Sequence[float], baseline: Sequence[float], window: int = WINDOW) -> float:
    """Return the baseline's iterations over those that reach the baseline's final loss.

    0 where it is not reached.
    """
    reached = iterations_to(losses, final_loss(baseline, window), window)
    return len(baseline) / reached if reached else 0.0
