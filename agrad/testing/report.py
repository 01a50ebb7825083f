"""What the checks say: an error for what is wrong, a report for what was seen."""

from dataclasses import dataclass

__all__ = ["AverageReport", "CheckError", "GradientReport", "Kink"]


class CheckError(AssertionError):
    """A check that failed: a failed test, as `numpy.testing` has them, and no wrong argument.

    Attributes:
        input: which input or parameter is concerned, as "input 0" or "parameter 0.weight"; None
            where it is all of them together.
        index: the element's index in it, or None likewise.
        expected: what the element, or the sum, should be.
        found: what it is.
    """

    def __init__(
        self,
        message: str,
        expected: float,
        found: float,
        input: str | None = None,
        index: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(f"{message}\n  expected  {expected!r}\n  found     {found!r}")
        self.input = input
        self.index = index
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class Kink:
    """An element at which no derivative is found: f has a kink there, or the border of its domain.

    What lies within 5e-7 of one, or that part of a larger element, counts as being there.
    """

    input: str
    index: tuple[int, ...]


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradients` has seen.

    Attributes:
        elements: how many elements of inputs and parameters the function was differentiated by.
        kinks: those of them that were left out, since no derivative exists there.
    """

    elements: int
    kinks: tuple[Kink, ...]


@dataclass(frozen=True)
class AverageReport:
    """What `check_average_gradients` has measured.

    Attributes:
        change: of the function, its elements weighted and summed, along the update.
        incompleteness: by how much ⟨ĝ, Δ⟩ misses it, relative to the terms that are summed.
        order: the exponent with which ĝ approaches the true average as the update is halved; inf
            where it is the true average, None where kinks lie on every path tried.
    """

    change: float
    incompleteness: float
    order: float | None
