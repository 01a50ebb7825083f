"""A learning rate that follows what measured steps tell."""

import math
from collections.abc import Mapping
from typing import Any

from agrad.arguments import require_not_negative

__all__ = ["CLIMB", "AutomaticRate"]

CLIMB = 16
"""The number of steps, all of them measured, in which a rate climbs unconfirmed."""

_TARGET = 0.8
_FIRST_GAIN = 2.5
_DISTANCE = 1.0
_NEAR = 0.01
_BOUND = 0.1
_MAJORITY = 3.0
_SHARE_FOR = 0.75
_LEAST_BOUND = 0.001
_BOUND_BY_CHANGE = 0.025
_FORGETTING = 0.1
_FLOOR = 0.1


class AutomaticRate:
    """Moves a learning rate from one measured step to the next.

    A step multiplies the rate by exp(k(τ - 0.8)), where τ is the share that it used of the fall its
    update promised of the loss it was measured on. k is 2.5 until a share is below 0.8, and then 1.
    Three limits hold, in which lengths are root mean squares over all coordinates:

    - The rate is at most r / √(Σu²), but may be as high as at the start. r is the largest distance
      of the parameters from their start so far, at least 0.01 times the length of a typical weight;
      u is the length of each update so far at a rate of 1. This is the rate of DoG (Ivgi et al.,
      arXiv:2302.12022), for any base rule.
    - An update of typical length is at most 0.1 times as long as a typical weight at the start.
    - The rate is at least a tenth of the one at the start.

    On a plateau every share is nearly 1 and tells nothing, and updates that follow noise lead away
    from the start as fast as others. So each measured step votes: for the way from the start to the
    present parameters if that way has lowered the loss of its examples, and against it if the way
    has raised it. On noise, votes are coin tosses. Among n of them, a majority of 3√n confirms the
    way for good, if three quarters are for it: a way to the mean of the targets wins more than half
    of them, too, and leads no further. From the sixteenth vote on, and until the way is confirmed,
    an update is at most 0.025·c times as long as a typical weight, or 0.001 times if that is more.
    c is the relative change of the loss along the way: the root mean square of the changes over the
    mean loss at the start, over some ten measured steps.

    Args:
        lr: The rate at the start.
        weight: The length of a typical weight at the start; 0 if there is none.
    """

    def __init__(self, lr: float, weight: float) -> None:
        self._start = lr
        self._gain = _FIRST_GAIN
        self._weight = weight or math.inf
        self._farthest = _NEAR * weight
        self._squares = 0.0
        self._steps = 0
        self._votes_for = self._votes_against = 0
        self._square_change = self._start_loss = 0.0

    @property
    def confirmed(self) -> bool:
        """Whether the votes have confirmed the way from the start. No more are counted then."""
        votes = self._votes_for + self._votes_against
        majority = self._votes_for - self._votes_against
        clear = self._votes_for >= _SHARE_FOR * votes
        return votes > 0 and clear and majority >= _MAJORITY * math.sqrt(votes)

    def after(
        self,
        lr: float,
        used: float | None,
        length: float,
        distance: float,
        losses: tuple[float, float],
        steps: int,
    ) -> float:
        """Return the rate after a measured step.

        Args:
            lr: The rate of the step.
            used: The share of the promised fall that was used; None if nothing was promised.
            length: The length of the update that was proposed.
            distance: That of the parameters from their start, before the step.
            losses: The loss the step was measured on, at the start of the parameters and before the
                step. Equal ones are no vote.
            steps: How many steps this one stands for.
        """
        if math.isfinite(length):
            self._squares += steps * (length / lr) ** 2
            self._steps += steps
        if not self.confirmed:
            self._vote(*losses)
        self._farthest = max(self._farthest, distance)
        if used is not None:
            if used < _TARGET:
                self._gain = 1.0
            lr *= math.exp(self._gain * (used - _TARGET))
        root = math.sqrt(self._squares)
        if root > 0:
            lr = min(lr, max(_DISTANCE * self._farthest / root, self._start))
            lr = min(lr, self._bound * self._weight * math.sqrt(self._steps) / root)
        return max(lr, _FLOOR * self._start)

    def _vote(self, start: float, loss: float) -> None:
        self._votes_for += loss < start
        self._votes_against += loss > start
        square = (start - loss) * (start - loss)
        if math.isfinite(square):
            self._square_change += _FORGETTING * (square - self._square_change)
            self._start_loss += _FORGETTING * (abs(start) - self._start_loss)

    @property
    def _bound(self) -> float:
        """The length that an update may have, in typical weights."""
        if self.confirmed or self._votes_for + self._votes_against < CLIMB:
            return _BOUND
        change = math.sqrt(self._square_change) / self._start_loss if self._start_loss else 0.0
        return min(max(_BOUND_BY_CHANGE * change, _LEAST_BOUND), _BOUND)

    def state_dict(self) -> dict[str, float]:
        """Return all numbers."""
        return {name.lstrip("_"): value for name, value in vars(self).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the numbers from `state_dict`.

        Raises:
            ValueError, TypeError: The state has other names, or a value that is not a
                nonnegative number; nothing has changed.
        """
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(
                f"AverageGradient.load_state_dict: the automatic rate needs {sorted(own)}, the "
                f"state has {sorted(state)}"
            )
        finite = {name: value for name, value in state.items() if value != math.inf}
        require_not_negative("AverageGradient.load_state_dict", **finite)
        for name, value in state.items():
            setattr(self, f"_{name}", value)
