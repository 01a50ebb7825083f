"""Divided differences that do not cancel: (f(b) - f(a)) / (b - a), and f'(a) where a equals b.

`agrad.kernels.cpu.divided_difference` explains the formulas, which are the same here, evaluated in
double precision for both dtypes. What is stated there of the accuracy holds up to that of the
functions of CUDA's mathematical library, which for float64 are good to 1 ulp but for `sin`, `cos`
and `pow` (2) and `erfc` (5). CuPy compiles with subnormal float32 numbers taken for zero.

Every function takes arrays a and b of one shape and one dtype, float32 or float64, with any
strides, then the constants of f as numbers; it returns a new array of that shape and dtype.

    >>> a = cupy.array([0.0, 1.0, 50.0])
    >>> tanh(a, a + 1e-9)
    array([1.00000000e+00, 4.19974341e-01, 1.48803039e-43])
"""

import functools
import math

import cupy

from .launch import Kernel, over

__all__ = [
    "absolute",
    "clip",
    "cos",
    "elu",
    "exp",
    "expm1",
    "gelu",
    "leaky_relu",
    "log",
    "log1p",
    "power",
    "reciprocal",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "sin",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "tanh",
]


def _call(name: str, a: cupy.ndarray, b: cupy.ndarray, *parameters: float) -> cupy.ndarray:
    if a.shape != b.shape:
        raise ValueError(f"{name}: a has shape {a.shape}, b {b.shape}; pass one shape")
    out = cupy.empty(a.shape, a.dtype)
    flat = map(cupy.ascontiguousarray, (a, b))
    _kernel(name, len(parameters))(over(out.size), *flat, out, out.size, *parameters)
    return out


@functools.cache
def _kernel(name: str, parameters: int) -> Kernel:
    types = "const real*, const real*, real*, int64" + ", double" * parameters
    return Kernel("divided_difference.cu", f"{name}_over_arrays", types)


def relu(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of max(x, 0): the share of the segment above zero."""
    return _call("relu", a, b)


def leaky_relu(a: cupy.ndarray, b: cupy.ndarray, negative_slope: float) -> cupy.ndarray:
    """Divided difference of x above zero and s x below, s being `negative_slope`."""
    return _call("leaky_relu", a, b, negative_slope)


def clip(
    a: cupy.ndarray, b: cupy.ndarray, lower: float | None = None, upper: float | None = None
) -> cupy.ndarray:
    """Divided difference of min(max(x, lower), upper); a bound that is None does not bind."""
    lower, upper = -math.inf if lower is None else lower, math.inf if upper is None else upper
    return _call("clip", a, b, lower, upper)


def softsign(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x / (1 + |x|)."""
    return _call("softsign", a, b)


def tanh(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of tanh."""
    return _call("tanh", a, b)


def sigmoid(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of 1 / (1 + e^-x)."""
    return _call("sigmoid", a, b)


def softplus(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of log(1 + e^x)."""
    return _call("softplus", a, b)


def elu(a: cupy.ndarray, b: cupy.ndarray, alpha: float) -> cupy.ndarray:
    """Divided difference of x above zero and alpha (e^x - 1) below."""
    return _call("elu", a, b, alpha)


def selu(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of SELU (Klambauer et al., 2017)."""
    return _call("selu", a, b)


def silu(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x sigmoid(x)."""
    return _call("silu", a, b)


def gelu(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x Phi(x)."""
    return _call("gelu", a, b)


def absolute(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of |x|."""
    return _call("absolute", a, b)


def exp(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of e^x."""
    return _call("exp", a, b)


expm1 = exp


def square(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of x^2."""
    return _call("square", a, b)


def sqrt(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of the square root; NaN below zero."""
    return _call("sqrt", a, b)


def reciprocal(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of 1 / x."""
    return _call("reciprocal", a, b)


def log(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of log; NaN below zero."""
    return _call("log", a, b)


def log1p(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of log(1 + x); NaN below -1."""
    return _call("log1p", a, b)


def power(a: cupy.ndarray, b: cupy.ndarray, exponent: float) -> cupy.ndarray:
    """Divided difference of x^p for constant p; for fractional p NaN below zero."""
    special = {2.0: square, 0.5: sqrt, -1.0: reciprocal}.get(exponent)
    return special(a, b) if special else _call("power", a, b, exponent)


def sin(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of sin."""
    return _call("sin", a, b)


def cos(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Divided difference of cos."""
    return _call("cos", a, b)
