"""Points to differentiate at: arrays in the domain of a function, away from its kinks.

Hypothesis draws what a failure should be shrunk to, shapes and options; the values come from a
drawn seed. They lie on a lattice without ties, so that no function is tested within 0.01 of a kink
(a zero, a tie, a limit that is a multiple of 0.1) unless a test puts it there.
"""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from agrad.backend import Array
from agrad.testing.strategies._arrays import Shape, seeds

__all__ = ["NONZERO", "POSITIVE", "REAL", "SPACING", "Domain", "points"]

SPACING = 0.1
"""Of the lattice: values are distinct multiples of it, plus an offset that differs by input."""


class Domain(NamedTuple):
    """Where an input may lie: its magnitude is at least `low`, its sign free or positive."""

    low: float = 0.0
    signed: bool = True

    def place(self, x: Array) -> Array:
        """Move values of the lattice into the domain."""
        return x + np.copysign(self.low, x) if self.signed else np.abs(x) + self.low

    def step(self, x: Array, step: Array) -> Array:
        """Return x + step, stopped at the border: the segment between them stays in the domain."""
        if self == REAL:
            return x + step
        sign = np.copysign(1, x)
        return sign * np.maximum(sign * (x + step), self.low).astype(x.dtype)


REAL = Domain()
NONZERO = Domain(low=0.3)
POSITIVE = Domain(low=0.3, signed=False)


@st.composite
def points(draw: st.DrawFn, *inputs: tuple[Shape, Domain]) -> tuple[Array, ...]:
    """Float64 arrays of the given shapes in the given domains, without ties in or between them.

    Example:
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> x, y = find(ags.points(((2,), ags.POSITIVE), ((3,), ags.REAL)), lambda drawn: True)
        >>> x.shape, y.shape, bool((x >= 0.3).all())
        ((2,), (3,), True)
    """
    rng = np.random.default_rng(draw(seeds))
    return tuple(
        np.asarray(domain.place(_lattice(rng, shape, offset=0.015 + 0.03 * i)))
        for i, (shape, domain) in enumerate(inputs)
    )


def _lattice(rng: np.random.Generator, shape: Shape, offset: float) -> Array:
    half = max(20, int(np.prod(shape)))
    indices = rng.permutation(np.arange(-half, half))[: int(np.prod(shape))]
    return (SPACING * indices + offset).reshape(shape)
