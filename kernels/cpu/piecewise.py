"""Averages of activations with one formula below zero and another above.

Their values and derivatives are a few calls of NumPy, the same on both devices, in
agrad/ops/activation.py. The averages are divided differences; `divided_difference` says what all of
these accept, how accurate they are, and what d, l and h stand for. P and N are the shares of the
segment from a to b above and below zero.
"""

import math

from . import divided_difference
from .jit import elementwise
from .segment import order, shares

__all__ = [
    "elu_divided_difference",
    "leaky_relu_divided_difference",
    "selu_divided_difference",
    "softsign_divided_difference",
]


@elementwise
def leaky_relu_divided_difference(a: float, b: float, negative_slope: float) -> float:
    """Divided difference of x above zero and s x below: P + s N.

    For s >= 0 a sum of positive terms; for s < 0 the error is relative to P + |s| N. At
    a = b = 0: s.

        >>> import numpy as np
        >>> leaky_relu_divided_difference(np.array([-1.0]), np.array([3.0]), 0.5)
        array([0.875])
    """
    above, below = shares(a, b)
    return above + negative_slope * below


@elementwise
def elu_divided_difference(a: float, b: float, alpha: float) -> float:
    """Divided difference of x above zero and alpha (e^x - 1) below: P + N alpha E(a-, b-).

    E is the divided difference of exp, x- = min(x, 0). For alpha >= 0 a sum of positive terms; for
    alpha < 0 the error is relative to P + N |alpha| E. At a = b = 0: alpha.

        >>> import numpy as np
        >>> elu_divided_difference(np.array([-1.0]), np.array([1.0]), 1.0)
        array([0.81606028])
    """
    above, below = shares(a, b)
    return above + below * (alpha * divided_difference.exp(min(a, 0.0), min(b, 0.0)))


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@elementwise
def selu_divided_difference(a: float, b: float) -> float:
    """Divided difference of SELU (Klambauer et al., 2017): that of ELU, scaled.

    >>> import numpy as np
    >>> selu_divided_difference(np.array([-1.0]), np.array([1.0]))
    array([1.08101586])
    """
    return _SELU_SCALE * elu_divided_difference(a, b, _SELU_ALPHA)


@elementwise
def softsign_divided_difference(a: float, b: float) -> float:
    """Divided difference of x / (1 + |x|): 1 / ((1 + |a|) (1 + |b|)) on one side of zero.

    Across zero P / (1 + h) + N / (1 - l), a sum of positive terms.

        >>> import numpy as np
        >>> softsign_divided_difference(np.array([-1.0]), np.array([3.0]))
        array([0.3125])
    """
    low, high = order(a, b)
    if low >= 0 or high <= 0:
        return 1 / (1 + abs(low)) / (1 + abs(high))
    if math.isinf(low) and math.isinf(high):
        return 0.0
    above, below = shares(low, high)
    return above / (1 + high) + below / (1 - low)
