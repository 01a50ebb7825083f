"""Statistics of paired seeds: medians, bootstrap intervals, counts and sign tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np

__all__ = ["Finding", "Range", "interval", "sign_test", "verdict"]

_RESAMPLES = 2000

Range = tuple[float, float]


def interval(values: Sequence[float], level: float = 0.95) -> Range:
    """Return the percentile bootstrap interval of the median; always the same for equal values.

    Infinite values are allowed. For few values it is little more than their range.

    Example:
        >>> from agrad.study.statistics import interval
        >>> interval([2.0, 2.0, 2.0])
        (2.0, 2.0)
    """
    places = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    medians = np.sort(np.median(np.asarray(values, np.float64)[places], axis=1))
    tail = int(_RESAMPLES * (1 - level) / 2)
    return float(medians[tail]), float(medians[-1 - tail])


def sign_test(wins: int, losses: int) -> float:
    """Return the two-sided p-value of the exact sign test, without the ties.

    Example:
        >>> from agrad.study.statistics import sign_test
        >>> sign_test(9, 0), sign_test(2, 2)
        (0.00390625, 1.0)
    """
    n, few = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(comb(n, k) for k in range(few + 1)) / float(2**n))


@dataclass(frozen=True)
class Finding:
    """One number for each paired seed, and what a claim says about their median.

    Attributes:
        what: What was compared, and where.
        values: A value for each seed, such as a ratio; 0 or infinite where a run failed. Seeds
            without information are left out.
        claimed: The range in which the claim puts the median, ends included.
        direction: The range, its lower end left out, in which the whole interval must be for the
            claim to hold, and which is enough for it to hold in part.
        neutral: The value that speaks for neither side in the sign test.
        failed: The runs of the method, and of what it is compared with, that failed; None where
            the training of networks is not compared.
        missed: The seeds with which the method does not reach its target; None if it has no target.
        part: The part of the claim that it is about, if the claim has several.
    """

    what: str
    values: tuple[float, ...]
    claimed: Range
    direction: Range
    neutral: float = 1.0
    failed: tuple[int, int] | None = None
    missed: int | None = None
    part: str = ""

    @property
    def median(self) -> float:
        """The median of the values; NaN if there are none."""
        return float(np.median(self.values)) if self.values else math.nan

    @cached_property
    def interval(self) -> Range:
        """The bootstrap interval of the median; NaN if there are no values."""
        return interval(self.values) if self.values else (math.nan, math.nan)

    @property
    def p(self) -> float:
        """The p-value of the sign test against `neutral`."""
        wins = sum(value > self.neutral for value in self.values)
        return sign_test(wins, sum(value < self.neutral for value in self.values))

    @property
    def outcome(self) -> str:
        """Whether the claim "holds", holds "partly" (in its direction alone), or "does not hold".

        It is "undecided" if there are no values.
        """
        if not self.values:
            return "undecided"
        low, high = self.interval
        if not (self.direction[0] < low and high <= self.direction[1]):
            return "does not hold"
        return "holds" if self.claimed[0] <= self.median <= self.claimed[1] else "partly"


def verdict(findings: Sequence[Finding]) -> str:
    """Return the verdict on a claim, or on each of its parts.

    It is the outcome of the findings if they agree, otherwise "partly". Findings that are undecided
    do not count if others are decided.

    Example:
        >>> from agrad.study.statistics import Finding, verdict
        >>> seconds = Finding("seconds", (0.5, 0.7), (1.0, 2.0), (1.0, 2.0), part="time")
        >>> memory = Finding("bytes", (1.5, 1.7), (1.0, 2.0), (1.0, 2.0), part="memory")
        >>> verdict([seconds, memory])
        'time: does not hold; memory: holds'
    """
    texts = []
    for part in dict.fromkeys(finding.part for finding in findings):
        outcomes = {finding.outcome for finding in findings if finding.part == part}
        if outcomes != {"undecided"}:
            outcomes.discard("undecided")
        found = outcomes.pop() if len(outcomes) == 1 else "partly"
        texts.append(f"{part}: {found}" if part else found)
    return "; ".join(texts)
