"""Results of the checks: an error if something is wrong, a report otherwise."""

from dataclasses import dataclass

__all__ = ["AverageReport", "CheckError", "GradientReport", "Kink"]


class CheckError(AssertionError):
    """A check failed. Like the errors of `numpy.testing`, it is an AssertionError.

    Attributes:
        input: The input or parameter at fault, such as "input 0" or "parameter 0.weight"; None if
            the failure concerns all of them together.
        index: The index of the element at fault, or None.
        expected: The correct value of the element or the sum; None if the failure is not a value,
            such as a changed input.
        found: The actual value, or None.
    """

    def __init__(
        self,
        message: str,
        expected: float | None = None,
        found: float | None = None,
        input: str | None = None,
        index: tuple[int, ...] | None = None,
    ) -> None:
        if expected is not None:
            message += f"\n  expected  {expected!r}\n  found     {found!r}"
        super().__init__(message)
        self.input = input
        self.index = index
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class Kink:
    """An element without a derivative: f has a kink there, or its domain ends.

    Elements within 5e-7 of a kink count as being there; for elements above 1 the distance is
    relative.
    """

    input: str
    index: tuple[int, ...]


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`.

    Attributes:
        elements: The number of elements of inputs and parameters.
        kinks: The elements that were left out because no derivative exists there.
    """

    elements: int
    kinks: tuple[Kink, ...]


@dataclass(frozen=True)
class AverageReport:
    """The result of `check_average_gradients`.

    Attributes:
        change: The change along the update of a weighted sum of the function's elements.
        incompleteness: The difference between ⟨ĝ, Δ⟩ and the change, relative to the terms that
            are summed.
        order: The exponent with which ĝ approaches the true average as the update is halved;
            infinity if it is the true average, None if every path tried crosses a kink.
    """

    change: float
    incompleteness: float
    order: float | None
