"""Cases of elementwise functions: arithmetic, powers, exponentials, activations, choices."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad import functions as f
from agrad.core.tensor import Tensor, apply
from agrad.ops import (
    activation,
    arithmetic,
    device,
    dropout,
    elementary,
    normalization,
    shape,
    transcendental,
)
from agrad.testing.strategies._arrays import broadcastable, seeds, shapes
from agrad.testing.strategies._operations.case import Case, Cases, Entry, elementwise
from agrad.testing.strategies._points import NONZERO, POSITIVE, REAL, SPACING, points

__all__ = ["ENTRIES"]


@st.composite
def activated(draw: st.DrawFn, /, function: Any, **options: Any) -> Case:
    return Case(function, draw(points((draw(shapes()), REAL))), (REAL,), options)


@st.composite
def weighted(draw: st.DrawFn) -> Case:
    drawn = draw(shapes())
    weight = draw(st.sampled_from([(1,), drawn[1:2] or (1,)]))
    return Case(F.prelu, draw(points((drawn, REAL), (weight, REAL))), (REAL, REAL))


@st.composite
def gated(draw: st.DrawFn) -> Case:
    drawn = [*draw(shapes(min_dims=1))]
    dim = draw(st.integers(-len(drawn), len(drawn) - 1))
    drawn[dim] *= 2
    return Case(F.glu, draw(points((tuple(drawn), REAL))), (REAL,), {"dim": dim})


@st.composite
def clipped(draw: st.DrawFn) -> Case:
    # The lattice of the inputs never meets these bounds.
    bounds = draw(st.tuples(*[st.none() | st.integers(-15, 15)] * 2))
    low, high = (None if bound is None else SPACING * bound for bound in bounds)
    if low is not None and high is not None and low > high:
        low, high = high, low
    return Case(
        lambda x, low, high: x.clip(low, high),
        draw(points((draw(shapes()), REAL))),
        (REAL,),
        {"low": low, "high": high},
        # NumPy 2.0 refuses to clip without bounds
        None if low is high is None else lambda x, low, high: x.clip(low, high),
    )


@st.composite
def chosen(draw: st.DrawFn) -> Case:
    condition_shape, *drawn = draw(broadcastable(3))
    condition = np.random.default_rng(draw(seeds)).random(condition_shape) < 0.5
    return Case(
        lambda x, y, condition: f.where(condition, x, y),
        draw(points(*[(shape, REAL) for shape in drawn])),
        (REAL, REAL),
        {"condition": condition},
        lambda x, y, condition: np.where(condition, x, y),
    )


@st.composite
def constant_power(draw: st.DrawFn) -> Case:
    exponent, domain = draw(
        st.sampled_from([(0, REAL), (1, REAL), (2, REAL), (3, REAL), (5, REAL)])
        | st.sampled_from([(-1, NONZERO), (-2, NONZERO), (-3.0, NONZERO)])
        | st.sampled_from([(0.5, POSITIVE), (2.5, POSITIVE), (-0.5, POSITIVE)])
    )
    inputs = draw(points((draw(shapes()), domain)))

    def function(x: Any, exponent: float) -> Any:
        return x**exponent

    return Case(function, inputs, (domain,), {"exponent": exponent}, function)


@st.composite
def dropped(draw: st.DrawFn) -> Case:
    (x,) = draw(points((draw(shapes()), REAL)))
    mask = 2 * np.random.default_rng(draw(seeds)).integers(0, 2, x.shape).astype(np.float32)

    def function(x: Tensor, mask: Any) -> Tensor:
        return apply(dropout.Dropout(mask.copy()), x)

    return Case(function, (x,), (REAL,), {"mask": mask}, lambda x, mask: x * mask)


@st.composite
def standardized(draw: st.DrawFn) -> Case:
    (x,) = draw(points((draw(shapes()), REAL)))
    rng = np.random.default_rng(draw(seeds))
    mean = rng.normal(size=x.shape).astype(np.float32)
    deviation = rng.uniform(0.5, 2, x.shape).astype(np.float32)

    def function(x: Tensor, mean: Any, deviation: Any) -> Tensor:
        return apply(normalization.Standardize(mean.copy(), deviation.copy()), x)

    arguments = {"mean": mean, "deviation": deviation}
    return Case(
        function, (x,), (REAL,), arguments, lambda x, mean, deviation: (x - mean) / deviation
    )


# Functions that NumPy has too, each with a map of the drawn numbers into its domain.
ELEMENTARY: dict[str, Any] = {
    **dict.fromkeys(["tan", "arcsin", "arccos", "arctanh"], (REAL, lambda x: 0.03 * x)),
    **dict.fromkeys(["arctan", "sinh", "cosh", "arcsinh"], (REAL, lambda x: 0.3 * x)),
    **dict.fromkeys(["log2", "log10"], (POSITIVE, lambda x: x)),
    "arccosh": (POSITIVE, lambda x: 1 + x),
}


@st.composite
def elementary_function(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from([*ELEMENTARY]))
    domain, into = ELEMENTARY[name]
    drawn = draw(points((draw(shapes()), domain)))
    ours, theirs = getattr(f, name), getattr(np, name)
    return Case(
        lambda x: ours(into(x)), drawn, (domain,), reference=lambda x: theirs(into(x)), name=name
    )


def remainder(x: Any, y: Any) -> Tensor:
    """Return x modulo y for operands whose floored quotient is always -1, away from its jumps."""
    return f.remainder(f.negative(x), f.add(y, 300))


def converted() -> Cases:
    return elementwise(lambda x: x.astype(x.dtype), lambda x: x.astype(x.dtype), REAL)


def gelu_slope() -> Cases:
    return elementwise(lambda x: apply(activation.GELUSlope(), x), None, REAL)


def moved() -> Cases:
    return elementwise(lambda x: apply(device.Move(x.device), x), lambda x: x, REAL)


ENTRIES = {
    "add": Entry(arithmetic.Add, elementwise(f.add, np.add, REAL, REAL)),
    "subtract": Entry(arithmetic.Subtract, elementwise(f.subtract, np.subtract, REAL, REAL)),
    "negative": Entry(arithmetic.Negative, elementwise(f.negative, np.negative, REAL)),
    "multiply": Entry(arithmetic.Multiply, elementwise(f.multiply, np.multiply, REAL, REAL)),
    "x * x": Entry(arithmetic.Multiply, elementwise(lambda x: x * x, np.square, REAL)),
    "divide": Entry(arithmetic.Divide, elementwise(f.divide, np.divide, REAL, NONZERO)),
    "power": Entry(arithmetic.Power, elementwise(f.power, np.power, POSITIVE, REAL)),
    "power of a number": Entry(arithmetic.Power, constant_power()),
    "fractional power": Entry(
        arithmetic.FractionalPower,
        elementwise(
            lambda x: apply(arithmetic.FractionalPower(0.4), x), lambda x: x**0.4, POSITIVE
        ),
    ),
    "square": Entry(arithmetic.Square, elementwise(f.square, np.square, REAL)),
    "sqrt": Entry(arithmetic.Sqrt, elementwise(f.sqrt, np.sqrt, POSITIVE)),
    "reciprocal": Entry(arithmetic.Reciprocal, elementwise(f.reciprocal, np.reciprocal, NONZERO)),
    "absolute": Entry(arithmetic.Absolute, elementwise(f.absolute, np.abs, REAL)),
    "clip": Entry(arithmetic.Clip, clipped()),
    "maximum": Entry(arithmetic.Maximum, elementwise(f.maximum, np.maximum, REAL, REAL)),
    "minimum": Entry(arithmetic.Minimum, elementwise(f.minimum, np.minimum, REAL, REAL)),
    "where": Entry(arithmetic.Where, chosen()),
    "astype": Entry(shape.Cast, converted()),
    "to": Entry(device.Move, moved()),
    "exp": Entry(transcendental.Exp, elementwise(f.exp, np.exp, REAL)),
    "expm1": Entry(transcendental.Expm1, elementwise(f.expm1, np.expm1, REAL)),
    "log": Entry(transcendental.Log, elementwise(f.log, np.log, POSITIVE)),
    "log1p": Entry(transcendental.Log1p, elementwise(f.log1p, np.log1p, POSITIVE)),
    "sin": Entry(transcendental.Sin, elementwise(f.sin, np.sin, REAL)),
    "cos": Entry(transcendental.Cos, elementwise(f.cos, np.cos, REAL)),
    "tanh": Entry(activation.Tanh, elementwise(f.tanh, np.tanh, REAL)),
    "relu": Entry(activation.ReLU, activated(F.relu)),
    "leaky_relu": Entry(activation.LeakyReLU, activated(F.leaky_relu, negative_slope=0.1)),
    "elu": Entry(activation.ELU, activated(F.elu, alpha=1.5)),
    "selu": Entry(activation.SELU, activated(F.selu)),
    "sigmoid": Entry(activation.Sigmoid, activated(F.sigmoid)),
    "softplus": Entry(activation.Softplus, activated(F.softplus, beta=2.0)),
    "softsign": Entry(activation.Softsign, activated(F.softsign)),
    "silu": Entry(activation.SiLU, activated(F.silu)),
    "gelu": Entry(activation.GELU, activated(F.gelu)),
    "elementary": Entry(elementary.Elementary, elementary_function()),
    "erf": Entry(elementary.Elementary, elementwise(f.erf, None, REAL)),
    "logaddexp": Entry(
        transcendental.LogAddExp, elementwise(f.logaddexp, np.logaddexp, REAL, REAL)
    ),
    "remainder": Entry(
        arithmetic.Remainder,
        elementwise(remainder, lambda x, y: np.remainder(-x, y + 300), POSITIVE, POSITIVE),
    ),
    "gelu by tanh": Entry(activation.Tanh, activated(F.gelu, approximate="tanh")),
    "mish": Entry(activation.Softplus, activated(F.mish)),
    "hardswish": Entry(arithmetic.Clip, activated(F.hardswish)),
    "logsigmoid": Entry(activation.Softplus, activated(F.logsigmoid)),
    "prelu": Entry(activation.ReLU, weighted()),
    "glu": Entry(activation.Sigmoid, gated()),
    "derivative of gelu": Entry(activation.GELUSlope, gelu_slope()),
    "dropout": Entry(dropout.Dropout, dropped()),
    "standardize": Entry(normalization.Standardize, standardized()),
}
