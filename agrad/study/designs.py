"""Designs: which jobs a study consists of, given the known results."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import Any, Protocol

from agrad.study.estimates import Estimates
from agrad.study.measures import gain
from agrad.study.races import Race
from agrad.study.results import Results
from agrad.study.runs import TUNING, Experiment, Job
from agrad.study.statistics import Finding, Range

__all__ = ["Design", "Designs", "Judgements", "Races", "Trainings", "failures", "rate", "trains"]

_EXTENSIONS = 3
"""How many rates may be added beyond either end of a grid."""

_LEARNT = 0.9


def rate(step: int) -> float:
    """Return a rate of the grid, two to a decade.

    Example:
        >>> from agrad.study.designs import rate
        >>> [rate(step) for step in range(-6, -2)]
        [0.001, 0.003, 0.01, 0.03]
    """
    return float(f"{(1, 3)[step % 2]}e{step // 2}")


def trains(result: dict[str, Any]) -> bool:
    """Return whether a training ends below 0.9 times the loss of a guess; otherwise it failed."""
    return bool(result["curve"][-1] <= _LEARNT * result["chance"])


def failures(results: Iterable[dict[str, Any]]) -> int:
    """Return how many trainings failed."""
    return sum(not trains(result) for result in results)


class Design(Protocol):
    """The jobs of a study."""

    def jobs(self, results: Results, seeds: int) -> Iterable[Job]:
        """Return the jobs known so far; their results may lead to more."""


@dataclass(frozen=True)
class Trainings:
    """Trainings of networks by methods, each at the rate that is best on the tuning seeds.

    All methods are tuned over the same grid by the median final training loss. If the best rate is
    an end of the grid, the grid grows there, by three rates at most.

    Attributes:
        cells: What is trained, by name; method, rate and seed are not used.
        methods: The methods.
        steps: The grid, see `rate`.
        tuning_seeds: How many seeds choose the rates.
        all_rates: Whether the scoring seeds run at every rate, rather than at the best.
    """

    cells: dict[str, Experiment]
    methods: tuple[str, ...]
    steps: range
    tuning_seeds: int
    all_rates: bool = False

    def jobs(self, results: Results, seeds: int) -> Iterable[Job]:
        """Return the trainings that choose the rates, and then those that are scored."""
        for cell in self.cells:
            for method in self.methods:
                tuning, best = self.tuning(results, cell, method)
                yield from tuning
                if best is not None:
                    yield from self.scored(results, cell, method, seeds)
                if self.all_rates:
                    for step in self.steps:
                        yield from self.at(cell, method, rate(step), range(seeds))

    def at(self, cell: str, method: str, lr: float, seeds: Iterable[int]) -> list[Experiment]:
        """Return the trainings of a method at a rate."""
        of = self.cells[cell]
        return [replace(of, method=method, lr=lr, seed=seed) for seed in seeds]

    def best(self, results: Results, cell: str, method: str) -> float:
        """Return the rate that the tuning seeds choose, all of whose trainings must be known."""
        best = self.tuning(results, cell, method)[1]
        assert best is not None, f"{method} is not tuned on {cell}"
        return best

    def scored(self, results: Results, cell: str, method: str, seeds: int) -> list[Experiment]:
        """Return the trainings of a method at its best rate, a scoring seed each."""
        return self.at(cell, method, self.best(results, cell, method), range(seeds))

    def runs(
        self, results: Results, cell: str, method: str, seeds: int, lr: float | None = None
    ) -> list[dict[str, Any]]:
        """Return the results of a method's scored trainings, at the rate `lr` or its best one."""
        chosen = self.best(results, cell, method) if lr is None else lr
        return [results[job] for job in self.at(cell, method, chosen, range(seeds))]

    def tuning(
        self, results: Results, cell: str, method: str
    ) -> tuple[list[Experiment], float | None]:
        """Return the trainings that choose the rate, and the rate once all are known."""
        low, high = self.steps[0], self.steps[-1]
        seeds = range(TUNING, TUNING + self.tuning_seeds)
        while True:
            by_step = {
                step: self.at(cell, method, rate(step), seeds) for step in range(low, high + 1)
            }
            jobs = [job for group in by_step.values() for job in group]
            if results.missing(jobs):
                return jobs, None
            losses = {
                step: median(results[job]["curve"][-1] for job in group)
                for step, group in by_step.items()
            }
            best = min(losses, key=lambda step: losses[step])
            if best == high and high < self.steps[-1] + _EXTENSIONS:
                high += 1
            elif best == low and low > self.steps[0] - _EXTENSIONS:
                low -= 1
            else:
                return jobs, rate(best)

    def gains(
        self,
        results: Results,
        seeds: int,
        method: str,
        baseline: str,
        claimed: Range,
        direction: Range = (1.0, math.inf),
        lr: float | None = None,
    ) -> list[Finding]:
        """Return, for each cell, how many times fewer iterations a method needs than a baseline.

        Both train at the rate `lr`, or each at its best one. The target of a seed is the final
        training loss of the baseline with that seed; see `gain`. If the baseline does not train,
        the gain is infinite. Seeds with which neither trains are left out.
        """
        found = []
        for cell in self.cells:
            sides = [self.runs(results, cell, name, seeds, lr) for name in (method, baseline)]
            pairs = zip(*sides)
            gains = [_gain(*pair) for pair in pairs if any(map(trains, pair))]
            failed = failures(sides[0]), failures(sides[1])
            where = cell if lr is None else f"{cell} at {lr:g}"
            what = f"{where}: {baseline} over {method}, iterations"
            missed = gains.count(0.0)
            found.append(
                Finding(what, tuple(gains), claimed, direction, failed=failed, missed=missed)
            )
        return found


def _gain(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    if not trains(theirs):
        return math.inf
    return gain(ours["curve"], theirs["curve"], window=1)


@dataclass(frozen=True)
class Designs:
    """Several designs under one claim."""

    parts: tuple[Design, ...]

    def jobs(self, results: Results, seeds: int) -> Iterable[Job]:
        """Return the jobs of all parts."""
        for part in self.parts:
            yield from part.jobs(results, seeds)


@dataclass(frozen=True)
class Races:
    """Races in which each method has a rate: its tuned one, or the same for all.

    Attributes:
        trainings: What chooses the rates; only its methods race.
        fixed: The rate of all methods in place of a choice.
    """

    trainings: Trainings
    fixed: float | None = None

    def jobs(self, results: Results, seeds: int) -> Iterable[Job]:
        """Return the trainings that choose the rates, then a race of each cell, seed by seed."""
        tuned = []
        for cell in self.trainings.cells:
            known = True
            if self.fixed is None:
                for method in self.trainings.methods:
                    jobs, best = self.trainings.tuning(results, cell, method)
                    yield from jobs
                    known = known and best is not None
            if known:
                tuned.append(self.races(results, cell, seeds))
        yield from chain.from_iterable(zip(*tuned))

    def races(self, results: Results, cell: str, seeds: int) -> list[Race]:
        """Return the races of a cell, a seed each."""
        methods = self.trainings.methods
        rates = tuple(
            (m, self.trainings.best(results, cell, m) if self.fixed is None else self.fixed)
            for m in methods
        )
        of = self.trainings.cells[cell]
        return [Race(replace(of, method="", lr=0.0, seed=seed), rates) for seed in range(seeds)]

    def ratios(
        self, results: Results, cell: str, seeds: int, of: str, over: str, what: str
    ) -> tuple[float, ...]:
        """Return the ratio of an entry of a race's result, such as "seconds", for each seed.

        It is NaN if both entries are infinite.
        """
        found = [results[race] for race in self.races(results, cell, seeds)]
        return tuple(race[of][what] / race[over][what] for race in found)


@dataclass(frozen=True)
class Judgements:
    """Judgements of estimates along trainings.

    Attributes:
        cells: What is trained, by name; the seed is not used.
    """

    cells: dict[str, Estimates]

    def jobs(self, results: Results, seeds: int) -> Iterable[Job]:
        """Return the judgements of all cells."""
        for seed in range(seeds):
            for cell in self.cells:
                yield self._of(cell, seed)

    def _of(self, cell: str, seed: int) -> Estimates:
        return replace(self.cells[cell], seed=seed)

    def medians(
        self, results: Results, cell: str, seeds: int, estimate: str, what: str
    ) -> list[float]:
        """Return the median of an entry over a training's updates, for each seed."""
        entries = [results[self._of(cell, seed)][estimate][what] for seed in range(seeds)]
        return [median(entry) if isinstance(entry, Sequence) else entry for entry in entries]

    def ratios(
        self, results: Results, cell: str, seeds: int, of: str, over: str, what: str
    ) -> tuple[float, ...]:
        """Return the ratio of two estimates' entries, for each seed."""
        sides = [self.medians(results, cell, seeds, name, what) for name in (of, over)]
        return tuple(a / b if b else math.inf for a, b in zip(*sides))
