"""Points to differentiate at: arrays in the domain of a function, away from its kinks.

Hypothesis draws shapes and options, which should shrink; values come from a drawn seed. They lie on
a lattice without ties, so that no point is within 0.01 of a kink (a zero, a tie, a limit that is a
multiple of 0.1) unless a test puts it there.
"""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from agrad.backend import Array
from agrad.testing.strategies._arrays import Shape, seeds

__all__ = ["NONZERO", "POSITIVE", "REAL", "SPACING", "Domain", "points"]

SPACING = 0.1
"""The lattice spacing: values are distinct multiples of it, plus an offset for each input."""


class Domain(NamedTuple):
    """The domain of an input: magnitudes of at least `low`, of both signs or only positive."""

    low: float = 0.0
    signed: bool = True

    def place(self, x: Array) -> Array:
        """Move lattice values into the domain."""
        return x + np.copysign(self.low, x) if self.signed else np.abs(x) + self.low

    def step(self, x: Array, step: Array) -> Array:
        """Return x + step, clipped so that the segment from x stays in the domain."""
        if self == REAL:
            return x + step
        sign = np.copysign(1, x)
        moved: Array = sign * np.maximum(sign * (x + step), self.low).astype(x.dtype)
        return moved


REAL = Domain()
NONZERO = Domain(low=0.3)
POSITIVE = Domain(low=0.3, signed=False)


@st.composite
def points(draw: st.DrawFn, *inputs: tuple[Shape, Domain]) -> tuple[Array, ...]:
    """Draw float64 arrays without ties, one for each given shape and domain.

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
