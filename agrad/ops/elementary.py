"""Functions of each element whose divided differences are a few calls of NumPy.

Each is a `Formula`. The average subtracts nothing but inputs, as `agrad.kernels.cpu`'s divided
differences do, and is evaluated in double precision; l and h are the lower and the higher end, d
their distance. The differences of inverse functions follow from the addition theorems: the angle,
or the hyperbolic angle, between two points whose distance is known without cancellation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, as_array, kernels
from agrad.ops.operation import Apply, Elementwise

__all__ = ["FORMULAS", "Elementary"]


class Formula(NamedTuple):
    """A function of an array, its derivative, and its divided difference for low and high ends."""

    function: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    difference: Callable[[Array, Array], Array]


class Elementary(Elementwise):
    """The function of a name in `FORMULAS`."""

    recordable = True

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, x: Array) -> Array:
        return FORMULAS[self.name].function(x)

    def derivative(self, out: Array, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return FORMULAS[self.name].derivative(x)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        if self.name == "arcsinh":  # np.hypot, which its derivative calls, has no gradient
            return (grad / np.cosh(out),)
        return super().recorded_backward(apply, grad, needs, out, x)

    def divided_difference(self, a: Array, b: Array) -> Array:
        low, high = (
            as_array(end(a, b)).astype(np.float64, copy=False) for end in (np.minimum, np.maximum)
        )
        with np.errstate(all="ignore"):
            return as_array(FORMULAS[self.name].difference(low, high)).astype(a.dtype, copy=False)


def _over_gap(low: Array, high: Array, growth: Array, slope: Array) -> Array:
    """Return growth / (high - low), or the slope where the ends are equal."""
    gap = high - low
    return np.where(gap == 0, slope, growth / np.where(gap == 0, 1, gap))


def _sine_over(x: Array) -> Array:
    return np.where(x == 0, 1, np.sin(x) / np.where(x == 0, 1, x))


def _tan(low: Array, high: Array) -> Array:
    """sin d / (d cos l cos h)."""
    slope: Array = _sine_over(high - low) / (np.cos(low) * np.cos(high))
    return slope


def _cosine(x: Array) -> Array:
    """Return √(1 - x²), the cosine of the arcsine."""
    cosine: Array = np.sqrt((1 - x) * (1 + x))
    return cosine


def _arcsin(low: Array, high: Array) -> Array:
    """2 arctan(d / (cos u + cos v)) / d for the angles u and v of the ends."""
    both = _cosine(low) + _cosine(high)
    return _over_gap(low, high, 2 * np.arctan2(high - low, both), 2 / both)


def _arctan(low: Array, high: Array) -> Array:
    """arctan2(d, 1 + l h) / d."""
    product = 1 + low * high
    return _over_gap(low, high, np.arctan2(high - low, product), 1 / product)


def _sinh(low: Array, high: Array) -> Array:
    """The mean of cosh: half the sum of the means of eˣ and of e⁻ˣ."""
    exp = kernels(low).divided_difference.exp
    mean: Array = 0.5 * exp(low, high) + 0.5 * exp(-low, -high)
    return mean


def _cosh(low: Array, high: Array) -> Array:
    """The mean of sinh: sinh m sinh g / g, m = (l + h) / 2, g = d / 2; far from 0 as for sinh."""
    exp = kernels(low).divided_difference.exp
    middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    near = np.sinh(middle) * np.where(half == 0, 1, np.sinh(half) / np.where(half == 0, 1, half))
    far = 0.5 * exp(low, high) - 0.5 * exp(-low, -high)
    return np.where(np.abs(middle) < 1, near, far)


def _exp_arcsinh(x: Array) -> Array:
    """Return x + √(1 + x²)."""
    size = np.abs(x) + np.hypot(1, x)
    return np.where(x < 0, 1 / size, size)


def _arcsinh(low: Array, high: Array) -> Array:
    """log1p(2 d / (eᵘ + e⁻ᵛ)) / d for the arguments u and v of sinh."""
    ends, twice = _exp_arcsinh(low) + _exp_arcsinh(-high), 2 * (high - low)
    ratio = twice / ends
    growth = np.where(np.isinf(ratio), np.log(twice) - np.log(ends), np.log1p(ratio))
    return _over_gap(low, high, growth, 1 / np.hypot(1, low))


def _sinh_arccosh(x: Array) -> Array:
    """Return √(x² - 1), the hyperbolic sine of the inverse cosine."""
    sine: Array = np.sqrt(x - 1) * np.sqrt(x + 1)
    return sine


def _arccosh(low: Array, high: Array) -> Array:
    """2 artanh r / d, r = d / (sinh u + sinh v); near 1, by eᵘ and e⁻ᵛ as for arcsinh."""
    gap, sines = high - low, _sinh_arccosh(low) + _sinh_arccosh(high)
    ratio = gap / np.where(sines == 0, 1, sines)
    ends = low + _sinh_arccosh(low) - 1 / (high + _sinh_arccosh(high))
    growth = np.where(ratio < 0.5, 2 * np.arctanh(ratio), np.log1p(2 * gap / ends))
    return _over_gap(low, high, growth, 2 / sines)


def _arctanh(low: Array, high: Array) -> Array:
    """log1p(2 d / ((1 + l) (1 - h))) / 2 d."""
    room = (1 + low) * (1 - high)
    return _over_gap(low, high, 0.5 * np.log1p(2 * (high - low) / room), 1 / room)


def _log(low: Array, high: Array) -> Array:
    slope: Array = kernels(low).divided_difference.log(low, high)
    return slope


def _erf(x: Array) -> Array:
    real = x.dtype in (np.float32, np.float64)
    out: Array = kernels(x).gelu.erf(x if real else x.astype(np.float64))
    return out.astype(x.dtype if x.dtype.kind == "f" else np.float64, copy=False)


def _erf_difference(low: Array, high: Array) -> Array:
    slope: Array = kernels(low).gelu.erf_divided_difference(low, high)
    return slope


FORMULAS = {
    "arccos": Formula(np.arccos, lambda x: -1 / _cosine(x), lambda a, b: -_arcsin(a, b)),
    "arccosh": Formula(np.arccosh, lambda x: 1 / _sinh_arccosh(x), _arccosh),
    "arcsin": Formula(np.arcsin, lambda x: 1 / _cosine(x), _arcsin),
    "arcsinh": Formula(np.arcsinh, lambda x: 1 / np.hypot(x.dtype.type(1), x), _arcsinh),
    "arctan": Formula(np.arctan, lambda x: 1 / (1 + x * x), _arctan),
    "arctanh": Formula(np.arctanh, lambda x: 1 / ((1 - x) * (1 + x)), _arctanh),
    "cosh": Formula(np.cosh, np.sinh, _cosh),
    "erf": Formula(_erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-np.square(x)), _erf_difference),
    "log10": Formula(
        np.log10, lambda x: 1 / (x * math.log(10)), lambda a, b: _log(a, b) / math.log(10)
    ),
    "log2": Formula(
        np.log2, lambda x: 1 / (x * math.log(2)), lambda a, b: _log(a, b) / math.log(2)
    ),
    "sinh": Formula(np.sinh, np.cosh, _sinh),
    "tan": Formula(np.tan, lambda x: np.square(1 / np.cos(x)), _tan),
}
"""By the name of the function."""
