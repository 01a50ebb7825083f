"""A learning rate that follows what measured steps tell."""

import math

__all__ = ["AutomaticRate"]

_TARGET = 0.75
_BACK_OFF = 0.7
_DISTANCE = 1.0
_BOUND = 0.05
_FLOOR = 0.1
_NAMES = ("floor", "bound", "farthest", "lengths")


class AutomaticRate:
    """Moves a learning rate from measured step to measured step.

    After each, the rate is multiplied by exp(τ - 0.75), where τ is the share that the step used of
    the fall its update promised, and by 0.7 for each time that the step was cut. It then is limited
    in three ways, by lengths that are root mean squares over all coordinates:

    - The rate is at most r / √(Σu²), where r is the largest distance of the parameters from their
      start so far, and u the length of each update at a rate of 1. This is the rate of DoG
      (Ivgi et al., "DoG is SGD's best friend", 2023), for any base rule.
    - An update at the rate has, on average, at most 0.05 times the length of a typical weight at
      the start.
    - The rate is at least a tenth of its first value.

    Args:
        lr: the rate to start from.
        weight: the length of a typical weight at the start; 0 if there is none.
    """

    def __init__(self, lr: float, weight: float) -> None:
        self.floor = _FLOOR * lr
        self.bound = _BOUND * weight if weight else math.inf
        self.farthest = 0.0
        self.lengths = 0.0
        self.steps = 0

    def after(
        self, lr: float, used: float | None, length: float, distance: float, steps: int
    ) -> float:
        """Return the rate after a measured step.

        Args:
            lr: the rate of the step.
            used: the share of the promised fall that was used; None if nothing was promised.
            length: the length of the update that was proposed.
            distance: that of the parameters from their start, before the step.
            steps: how many steps this one stands for.
        """
        if not math.isfinite(length):
            return self.limited(lr * _BACK_OFF)
        self.lengths += steps * (length / lr) ** 2
        self.steps += steps
        self.farthest = max(self.farthest, distance, length)
        return self.limited(lr * math.exp(used - _TARGET) if used is not None else lr)

    def after_cut(self, lr: float) -> float:
        """Return the rate after a step was cut once."""
        return self.limited(lr * _BACK_OFF)

    def limited(self, lr: float) -> float:
        """Return the rate within its limits."""
        unit = math.sqrt(self.lengths)
        if unit > 0:
            highest = min(
                _DISTANCE * self.farthest / unit, self.bound * math.sqrt(self.steps) / unit
            )
            lr = min(lr, highest)
        return max(lr, self.floor)
