"""The standard normal density and distribution function, accurate far into the lower tail.

There both are e^(-x^2 / 2) times something tame, and a rounding error in x^2 or in x / sqrt(2) is
magnified x^2 times, to hundreds of ulps. Both functions carry that error along.
"""

import math

import numpy as np

from .jit import inline

_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_HEAD = float(np.float32(_SQRT_HALF))
_SQRT_HALF_TAIL = (_SQRT_HALF - _SQRT_HALF_HEAD) - 4.833646656726457e-17
_SQRT_PI = math.sqrt(math.pi)
_SQRT_2PI = math.sqrt(2 * math.pi)


@inline
def normal_density(x: float) -> float:
    """Return e^(-x^2 / 2) / sqrt(2 pi), the square taken of a head of 24 bits and of the rest."""
    if abs(x) > 40:
        return 0.0
    head = np.float64(np.float32(x))
    return math.exp(-0.5 * head * head) * math.exp(-0.5 * (x - head) * (x + head)) / _SQRT_2PI


@inline
def normal_below(x: float) -> float:
    """Return Phi(x) = erfc(y) / 2 with y = -x / sqrt(2), for x <= 0.

    The rounding error of y enters to first order, by the derivative of erfc.
    """
    if x < -40:
        return 0.0
    y = -x * _SQRT_HALF
    head = np.float64(np.float32(-x))
    tail = -x - head
    error = (head * _SQRT_HALF_HEAD - y) + head * _SQRT_HALF_TAIL + tail * _SQRT_HALF
    return 0.5 * math.erfc(y) - error * math.exp(-y * y) / _SQRT_PI
