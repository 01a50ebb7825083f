"""Races: methods that take turns, step by step, so that their seconds can be compared."""

import math
import tracemalloc
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from agrad.errors import NonFiniteError
from agrad.study.data import DataSet
from agrad.study.measures import PERIOD, curve, seconds_per_step
from agrad.study.runs import Experiment, load_once, rounded

__all__ = ["Race"]

_FIRST = 2
"""The steps of a training before its memory is measured, which record and allocate."""


@dataclass(frozen=True)
class Race:
    """Trainings of one network by several methods, each at its own rate, in turns.

    Attributes:
        experiment: What they have in common; its method and rate are not used.
        rates: Each method and its learning rate.
    """

    experiment: Experiment
    rates: tuple[tuple[str, float], ...]

    timed = True

    def result(self) -> dict[str, Any]:
        """Return each method's loss curve, seconds per step, and bytes of its state and at peak.

        The peak is that of later steps, of which at least one measures, in NumPy's arrays: weights,
        gradients, activations, and what the optimizer holds.
        """
        data = load_once(self.experiment.data).to(self.experiment.device)
        entrants = [replace(self.experiment, method=method, lr=lr) for method, lr in self.rates]
        begun = [entrant.begin(data) for entrant in entrants]
        losses: list[list[float]] = [[] for _ in entrants]
        seconds: list[list[float]] = [[] for _ in entrants]
        count = len(entrants)
        for turn in range(self.experiment.iterations):
            for i in range(count):
                which = (turn + i) % count
                try:
                    step = next(begun[which][2])
                except (NonFiniteError, StopIteration):  # the former ends it, then the latter
                    losses[which].append(math.inf)
                else:
                    losses[which].append(step.loss)
                    seconds[which].append(step.seconds)
        return {
            entrant.method: {
                "curve": curve(losses[i]),
                "seconds": rounded([seconds_per_step(seconds[i])])[0] if seconds[i] else math.inf,
                "state_bytes": begun[i][1].state_bytes,
                "peak_bytes": _peak_bytes(entrant, data),
            }
            for i, entrant in enumerate(entrants)
        }


def _peak_bytes(entrant: Experiment, data: DataSet) -> float:
    """Return the bytes at the peak of later steps, infinity if the loss is not finite there."""
    tracemalloc.start()
    try:
        begun = replace(entrant, iterations=_FIRST + PERIOD).begin(data)
        for _ in islice(begun[2], _FIRST):
            pass
        tracemalloc.reset_peak()
        for _ in begun[2]:
            pass
        return tracemalloc.get_traced_memory()[1]
    except NonFiniteError:
        return math.inf
    finally:
        tracemalloc.stop()
