"""GELU's value and derivative in float32, which have separate formulas."""

import math

import numpy as np
from agrad.kernels.cpu import gelu

X = np.concatenate([np.linspace(-14, 14, 20_001), [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30]])
X = X.astype(np.float32)
EXACT = X.astype(np.float64)
PHI = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in EXACT])


def _ulps(found: np.ndarray, exact: np.ndarray, size: np.ndarray) -> float:
    """Return the largest error in ulps of float32 numbers of a size."""
    errors = np.abs(found.astype(np.float64) - exact) / np.spacing(size.astype(np.float32))
    return float(errors.max())


def test_the_value_is_within_an_ulp_in_the_tails_too() -> None:
    assert _ulps(gelu.gelu(X), EXACT * PHI, np.abs(EXACT * PHI)) <= 1


def test_the_derivative_is_within_an_ulp_of_its_terms() -> None:
    """It is 0 at -0.752, where its two terms cancel."""
    density = np.exp(-(EXACT**2) / 2) / math.sqrt(2 * math.pi)
    size = np.maximum(PHI, np.abs(EXACT) * density)
    assert _ulps(gelu.gelu_derivative(X), PHI + EXACT * density, size) <= 1


def test_infinities_give_what_they_give_in_float64() -> None:
    ends = np.array([-np.inf, np.inf, np.nan])
    for function in (gelu.gelu, gelu.gelu_derivative):
        np.testing.assert_array_equal(function(ends.astype(np.float32)), function(ends))
