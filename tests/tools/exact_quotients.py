"""Divided differences in high precision: each function, its error in ulps, and pairs of numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from agrad.kernels import cpu
from hypothesis import strategies as st
from mpmath import mpf
from numpy.typing import NDArray

from agrad.ops.arithmetic import Clip

DTYPES = [np.float32, np.float64]
FAR = 2000  # e^-FAR is far below the smallest float64, e^FAR far above the largest


FAMILIES = {
    "piecewise": ("leaky_relu", "elu", "selu", "softsign"),
    "logistic": ("sigmoid", "silu", "softplus"),
    "gelu": ("gelu",),
}


def running(name: str, kernels: Any = cpu) -> Callable[..., NDArray[Any]]:
    """Return the function that operations use for the divided difference of `name`."""
    if name == "clip":
        return lambda a, b, *bounds: Clip(*bounds).divided_difference(a, b)
    if name in ("relu", "tanh"):
        return from_values(getattr(kernels.activation, name))
    for family, names in FAMILIES.items():
        if name in names:
            return getattr(getattr(kernels, family), f"{name}_divided_difference")
    return getattr(kernels.divided_difference, name)


def from_values(activation: Any) -> Callable[..., NDArray[Any]]:
    def average(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        f_a, f_b = activation.forward(a), activation.forward(b)
        return activation.average_backward(np.ones_like(a), a, f_a, b, f_b)

    return average


def none(a: mpf, b: mpf, dtype: type) -> mpf:
    return mpf(0)


@dataclass(frozen=True)
class Case:
    """A function with its derivative, and the scale of its error."""

    name: str
    function: Callable[[mpf], mpf]
    derivative: Callable[[mpf], mpf]
    parameters: tuple[Any, ...] = ()
    lowest: float = -math.inf
    pole: bool = False  # at 0, where its sign is a convention
    saturates: bool = True  # to a value other than 0
    ulps: float = 4
    scale: Callable[[mpf, mpf, type], mpf] = none
    flushed: bool = False  # may be 0 where it is subnormal
    kernels: Any = cpu

    def __str__(self) -> str:
        return "-".join(map(str, (self.name, *self.parameters)))

    def __call__(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return running(self.name, self.kernels)(a, b, *self.parameters)

    def reference(self, a: float, b: float, dtype: type) -> tuple[mpf, mpf]:
        """The exact divided difference, and the scale of its error, from the quotient itself."""
        with mpmath.workprec(precision(a, b, self.saturates)):
            x, y = mpf(a), mpf(b)
            if a == b:
                return +self.derivative(x), +self.scale(x, y, dtype)
            return (self.function(y) - self.function(x)) / (y - x), +self.scale(x, y, dtype)


def precision(a: float, b: float, saturates: bool) -> int:
    """Return the bits with which the naive quotient keeps 60 digits in spite of cancellation."""
    exponents = [math.frexp(x)[1] for x in (a, b, float(mpf(b) - mpf(a)), 1.0) if x]
    saturation = int(5 * min(max(abs(a), abs(b)), FAR)) if saturates else 0
    return 250 + 2 * (max(exponents) - min(exponents)) + saturation


def ulp(x: mpf, dtype: type) -> mpf:
    """The spacing of the floats around x."""
    info = np.finfo(dtype)
    exponent = mpmath.frexp(x)[1] if x else info.minexp
    return mpf(2) ** (max(exponent - 1, info.minexp) - info.nmant)


def logistic(x: mpf) -> mpf:
    return mpf(x > 0) if abs(x) > FAR else 1 / (1 + mpmath.exp(-x))


def softplus(x: mpf) -> mpf:
    return max(x, mpf(0)) if abs(x) > FAR else mpmath.log1p(mpmath.exp(x))


def exp(x: mpf) -> mpf:
    return mpmath.exp(max(x, mpf(-FAR)))


def normal(x: mpf) -> mpf:
    return mpf(x > 0) if abs(x) > 40 else mpmath.ncdf(x)


def density(x: mpf) -> mpf:
    return mpf(0) if abs(x) > 40 else mpmath.npdf(x)


def logistic_mean(a: mpf, b: mpf) -> mpf:
    return logistic(a) * logistic(-a) if a == b else (logistic(b) - logistic(a)) / (b - a)


def normal_mean(a: mpf, b: mpf) -> mpf:
    return density(a) if a == b else (normal(b) - normal(a)) / (b - a)


def silu_scale(a: mpf, b: mpf, dtype: type) -> mpf:
    low, high = min(a, b), max(a, b)
    return logistic(low) - high * logistic_mean(a, b) if high < 0 else mpf(0)


def gelu_scale(a: mpf, b: mpf, dtype: type) -> mpf:
    low, high = min(a, b), max(a, b)
    tiny = mpf("1e-300")
    return max(normal(low) - high * normal_mean(a, b), tiny) if high < 0 else mpf(0)


def clip_scale(a: mpf, b: mpf, dtype: type) -> mpf:
    """Both lengths are halved to avoid overflow, so a subnormal one loses its last bit."""
    return mpf(float(np.finfo(dtype).tiny)) / abs(b - a) if a != b else mpf(0)


def wave_scale(wave: Callable[[mpf], mpf]) -> Callable[[mpf, mpf, type], mpf]:
    """No factor of the result counts as less than the spacing of the floats at its argument."""

    def factor(function: Callable[[mpf], mpf], x: mpf) -> mpf:
        return max(abs(function(x)), min(mpf(1), ulp(x, np.float64)))

    def scale(a: mpf, b: mpf, dtype: type) -> mpf:
        half = (b - a) / 2
        width = factor(mpmath.sin, half) / abs(half) if half else mpf(1)
        return factor(wave, (a + b) / 2) * width

    return scale


def power_case(p: float) -> Case:
    def power(x: mpf, p: float) -> mpf:
        if x == 0:
            return mpf(p == 0) if p >= 0 else mpmath.inf
        return x ** int(p) if p == int(p) else mpmath.power(x, p)

    lowest = -math.inf if p == int(p) else 0.0
    return Case(
        "power",
        lambda x: power(x, p),
        lambda x: p * power(x, p - 1) if p else mpf(0),
        (p,),
        lowest,
        pole=p < 0,
        saturates=False,
        ulps=5,
    )


def elu_case(name: str, alpha: float, scale: float, parameters: tuple[float, ...]) -> Case:
    return Case(
        name,
        lambda x: scale * (x if x > 0 else alpha * (exp(x) - 1)),
        lambda x: scale * (mpf(1) if x > 0 else alpha * exp(x)),
        parameters,
    )


def clip_case(lower: float | None, upper: float | None) -> Case:
    low, high = mpf("-inf" if lower is None else lower), mpf("inf" if upper is None else upper)
    return Case(
        "clip",
        lambda x: min(max(x, low), high),
        lambda x: mpf(low <= x <= high),
        (lower, upper),
        scale=clip_scale,
    )


CASES = [
    Case("relu", lambda x: max(x, mpf(0)), lambda x: mpf(x > 0)),
    Case(
        "leaky_relu",
        lambda x: x if x > 0 else x * mpf(0.01),
        lambda x: mpf(1) if x > 0 else mpf(0.01),
        (0.01,),
    ),
    Case("absolute", abs, mpmath.sign),
    clip_case(-1.0, 6.0),
    clip_case(float(np.float32(1e-3)), None),  # as the operation takes it for float32
    clip_case(None, 0.0),
    Case("exp", exp, exp),
    Case("expm1", exp, exp),
    Case(
        "tanh",
        lambda x: 2 * logistic(2 * x),
        lambda x: 4 * logistic(2 * x) * logistic(-2 * x),
        # 5.3 ulps were measured over 12 million pairs: the values at the ends may be off by 3 ulps.
        # Four times half the gap overflows if the gap exceeds half of the largest number.
        ulps=6,
        flushed=True,
    ),
    Case("sigmoid", logistic, lambda x: logistic(x) * logistic(-x), ulps=5),
    Case("softplus", softplus, logistic, ulps=5),
    elu_case("elu", 1.5, 1.0, (1.5,)),
    elu_case("selu", 1.6732632423543772, 1.0507009873554805, ()),
    Case(
        "silu",
        lambda x: x * logistic(x),
        lambda x: logistic(x) * (1 + x * logistic(-x)),
        ulps=5,
        scale=silu_scale,
    ),
    Case(
        "gelu",
        lambda x: x * normal(x),
        lambda x: normal(x) + x * density(x),
        saturates=False,
        ulps=5,
        scale=gelu_scale,
    ),
    Case("softsign", lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    Case("square", lambda x: x * x, lambda x: 2 * x),
    Case("sqrt", mpmath.sqrt, lambda x: 1 / (2 * mpmath.sqrt(x)) if x else mpmath.inf, lowest=0.0),
    Case(
        "reciprocal",
        lambda x: 1 / x if x else mpmath.inf,
        lambda x: -1 / (x * x) if x else -mpmath.inf,
        pole=True,
    ),
    Case(
        "log",
        lambda x: mpmath.log(x) if x else -mpmath.inf,
        lambda x: 1 / x if x else mpmath.inf,
        lowest=0.0,
    ),
    Case("log1p", lambda x: mpmath.log(1 + x), lambda x: 1 / (1 + x), lowest=-1.0),
    *map(power_case, (0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 7.0, -0.5, -1.0, -2.0, -3.0)),
    Case("sin", mpmath.sin, mpmath.cos, scale=wave_scale(mpmath.cos)),
    Case("cos", mpmath.cos, lambda x: -mpmath.sin(x), scale=wave_scale(mpmath.sin)),
]


def check(case: Case, a: NDArray[Any], b: NDArray[Any]) -> None:
    """Compare with the reference in both directions; a failure names a, b and the ulps."""
    inside = (a > case.lowest) & (b > case.lowest)
    if case.pole:
        inside &= (a != 0) & (b != 0)
    a, b = a[inside], b[inside]
    dtype = a.dtype.type
    results = zip(case(a, b).tolist(), case(b, a).tolist(), strict=True)
    for x, y, there_and_back in zip(a.tolist(), b.tolist(), results, strict=True):
        if case.name in ("exp", "expm1") and max(x, y) > FAR:
            expected, scale = mpmath.inf, mpf(0)
        else:
            expected, scale = case.reference(x, y, dtype)
        for result in there_and_back:
            error = error_of(result, expected, scale, case.flushed, dtype)
            assert error <= case.ulps, (
                f"{case} between {x!r} and {y!r} in {a.dtype} is {result!r}, not "
                f"{mpmath.nstr(expected, 20)}: off by {float(error):.3g} ulps"
            )


def error_of(result: float, expected: mpf, scale: mpf, flushed: bool, dtype: type) -> mpf:
    """Return the error in ulps of the expected value, or of its scale if that is larger."""
    info = np.finfo(dtype)
    if abs(expected) >= mpf(float(info.max)):
        good = abs(result) >= float(info.max) and (result > 0) == (expected > 0)
        return mpf(0) if good else mpmath.inf
    if flushed and result == 0 and abs(expected) < float(info.tiny):
        return mpf(0)
    if not math.isfinite(result):
        return mpmath.inf
    return abs(mpf(result) - expected) / ulp(max(abs(expected), scale), dtype)


@st.composite
def numbers(draw: st.DrawFn, dtype: type) -> float:
    """Draw numbers of any magnitude, log-uniform, half of them near 1."""
    info = np.finfo(dtype)
    exponents = st.integers(info.minexp - info.nmant, info.maxexp - 1) | st.integers(-12, 11)
    size = draw(st.floats(1, 2, exclude_max=True)) * 2.0 ** draw(exponents)
    return float(dtype(math.copysign(min(size, float(info.max)), draw(st.sampled_from([-1, 1])))))


@st.composite
def pairs(draw: st.DrawFn, dtype: type) -> tuple[float, float]:
    """Draw pairs: unrelated, equal, opposite, a few ulps apart, or any fraction apart."""
    a = draw(numbers(dtype))
    kind = draw(st.sampled_from(["unrelated", "equal", "opposite", "neighbours", "near"]))
    if kind == "unrelated":
        return a, draw(numbers(dtype))
    if kind == "equal":
        return a, a
    if kind == "opposite":
        return a, -a
    if kind == "neighbours":
        b = a + draw(st.integers(-3, 3)) * float(ulp(mpf(a), dtype))
    else:
        part = 2.0 ** draw(st.integers(-np.finfo(dtype).nmant, 0))
        b = a * (1 + draw(st.sampled_from([-1, 1])) * part)
    largest = float(np.finfo(dtype).max)
    return a, float(dtype(min(max(b, -largest), largest)))
