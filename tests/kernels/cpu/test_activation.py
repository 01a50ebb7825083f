"""The kernels of the logistic function and of SiLU, in units in the last place."""

import math

import mpmath
import numpy as np
import pytest
from agrad.kernels.cpu import logistic as kernels

POINTS = np.concatenate(
    [np.linspace(-87, 87, 2001), np.logspace(-12, 0, 200), -np.logspace(-12, 0, 200)]
)


def logistic(x: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mpmath.exp(-x))


def silu_derivative(x: mpmath.mpf) -> mpmath.mpf:
    return logistic(x) * (1 + x * logistic(-x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sigmoid", "silu", "silu_backward"])
def test_digits(name: str, dtype: type) -> None:
    x = POINTS.astype(dtype)
    with mpmath.workdps(40):
        exact = {
            "sigmoid": logistic,
            "silu": lambda value: value * logistic(value),
            "silu_backward": silu_derivative,
        }[name]
        expected = np.array([exact(mpmath.mpf(float(value))) for value in x], np.longdouble)
    if name == "silu_backward":
        # The derivative is zero at -1.28, as a difference of numbers around 0.2.
        actual, least = kernels.silu_backward(np.ones_like(x), x), 0.2
    else:
        actual, least = getattr(kernels, name)(x), 0.0
    assert actual.dtype == dtype
    scale = np.maximum(np.abs(expected), max(least, np.finfo(dtype).tiny))
    assert (np.abs(actual - expected) / scale).max() <= 3 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends(dtype: type) -> None:
    x = np.array([-math.inf, -1e30, -0.0, 0.0, 1e30, math.inf, math.nan], dtype)
    expected = np.array([0, 0, 0.5, 0.5, 1, 1, math.nan], dtype)
    np.testing.assert_array_equal(kernels.sigmoid(x), expected)
    expected = np.array([0, 0, 0, 1e30, math.inf, math.nan], dtype)
    np.testing.assert_array_equal(kernels.silu(np.delete(x, 0)), expected)
