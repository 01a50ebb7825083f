"""Divided differences that do not cancel: (f(b) - f(a)) / (b - a), and f'(a) where a equals b.

`agrad.kernels.cpu.divided_difference` explains the formulas, which are the same here, evaluated in
double precision for both dtypes. The accuracy stated there holds up to that of the functions of
CUDA's mathematical library, which for float64 are good to 1 ulp except for `sin`, `cos` and `pow`
(2) and `erfc` (5). CuPy compiles for flushing subnormal float32 numbers to zero.

Every function takes arrays a and b of one shape and one dtype, float32 or float64, with any
strides, then the constants of f as numbers; it returns a new array of that shape and dtype.

    >>> a = cupy.array([0.0, 1.0, 50.0])
    >>> exp(a, a + 1e-9)
    array([1.00000000e+00, 2.71828183e+00, 5.18470553e+21])
"""

import cupy

from .launch import divided_difference, of_pairs

__all__ = [
    "absolute",
    "cos",
    "exp",
    "expm1",
    "log",
    "log1p",
    "power",
    "reciprocal",
    "sin",
    "sqrt",
    "square",
]

_absolute = divided_difference("absolute", "divided_difference.cu")
_cos = divided_difference("cos", "divided_difference.cu")
_exp = divided_difference("exp", "divided_difference.cu")
_log = divided_difference("log", "divided_difference.cu")
_log1p = divided_difference("log1p", "divided_difference.cu")
_power = divided_difference("power", "divided_difference.cu", 1)
_reciprocal = divided_difference("reciprocal", "divided_difference.cu")
_sin = divided_difference("sin", "divided_difference.cu")
_sqrt = divided_difference("sqrt", "divided_difference.cu")
_square = divided_difference("square", "divided_difference.cu")


def absolute(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of |x|."""
    return of_pairs(_absolute, a, b)


def exp(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of e^x."""
    return of_pairs(_exp, a, b)


expm1 = exp


def square(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x^2."""
    return of_pairs(_square, a, b)


def sqrt(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of the square root; NaN below zero."""
    return of_pairs(_sqrt, a, b)


def reciprocal(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of 1 / x."""
    return of_pairs(_reciprocal, a, b)


def log(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of log; NaN below zero."""
    return of_pairs(_log, a, b)


def log1p(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of log(1 + x); NaN below -1."""
    return of_pairs(_log1p, a, b)


def power(a: cupy.ndarray, b: cupy.ndarray, exponent: float) -> cupy.ndarray:
    """Divided difference of x^p for constant p; for fractional p NaN below zero."""
    special = {2.0: square, 0.5: sqrt, -1.0: reciprocal}.get(exponent)
    return special(a, b) if special else of_pairs(_power, a, b, exponent)


def sin(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of sin."""
    return of_pairs(_sin, a, b)


def cos(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of cos."""
    return of_pairs(_cos, a, b)
