"""Divided differences computed by a few calls of NumPy, against mpmath, and their limits."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from agrad.backend import Array
from agrad.ops.elementary import FORMULAS, Elementary

EXACT: dict[str, Callable[[mpf], mpf]] = {
    "arccos": mpmath.acos,
    "arccosh": mpmath.acosh,
    "arcsin": mpmath.asin,
    "arcsinh": mpmath.asinh,
    "arctan": mpmath.atan,
    "arctanh": mpmath.atanh,
    "cosh": mpmath.cosh,
    "erf": mpmath.erf,
    "log10": mpmath.log10,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "sinh": mpmath.sinh,
    "tan": mpmath.tan,
}


def ends(name: str, dtype: Any, count: int = 150) -> tuple[Array, Array]:
    """Return pairs in the function's domain: unrelated, close together, and equal."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=count) * 10 ** rng.uniform(-5, 0.7, count)
    b = a * (1 + rng.choice([-1, 1], count) * 10 ** rng.uniform(-16, 1, count))
    b[: count // 3] = 3 * rng.normal(size=count // 3)
    into: dict[str, Callable[[Array], Array]] = {
        **dict.fromkeys(["arccos", "arcsin", "arctanh"], lambda x: np.clip(x / 3, -1, 1) * 0.9999),
        **dict.fromkeys(["log2", "log10"], np.abs),
        "arccosh": lambda x: 1 + np.abs(x),
        "erf": lambda x: np.clip(x, -4, 4),
        "tan": lambda x: np.clip(x, -3, 3),
    }
    a, b = (into.get(name, lambda x: x)(x).astype(dtype) for x in (a, b))
    return np.append(a, a[:5]), np.append(b, a[:5])


def test_every_formula_is_tested() -> None:
    assert EXACT.keys() == FORMULAS.keys()


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_within_ulps_of_the_exact_quotient(name: str, dtype: Any) -> None:
    """To 1 ulp in float32 and 4 in float64; more in erf's tails, because √2 x is rounded.

    The formula for tan takes the sine of a rounded distance.
    """
    a, b = ends(name, dtype)
    found = Elementary(name).divided_difference(a, b)
    assert found.dtype == dtype
    np.testing.assert_array_equal(Elementary(name).divided_difference(b, a), found)
    ulps = 1 if dtype == np.float32 else {"erf": 40, "tan": 40}.get(name, 4)
    with mpmath.workprec(400):
        for x, y, quotient in zip(a, b, found, strict=True):
            u, v = mpf(float(x)), mpf(float(y))
            f = EXACT[name]
            exact = mpmath.diff(f, u) if u == v else (f(v) - f(u)) / (v - u)
            assert abs(float(quotient) - exact) <= ulps * float(np.finfo(dtype).eps) * abs(exact)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_derivative_is_the_divided_difference_of_equal_ends(name: str, dtype: Any) -> None:
    x, _ = ends(name, dtype)
    operation = Elementary(name)
    derivative = operation.derivative(operation.forward(x), x)
    assert derivative.dtype == dtype
    tolerance = 8 * np.finfo(dtype).eps * np.maximum(1, np.square(x))
    expected = operation.divided_difference(x, x.copy())
    assert (np.abs(derivative - expected) <= tolerance * np.maximum(np.abs(expected), 0.1)).all()


INF = math.inf


@pytest.mark.parametrize(
    ("name", "a", "b", "limit"),
    [
        ("arctan", 1.0, INF, 0.0),
        ("erf", 1.0, INF, 0.0),
        ("erf", INF, INF, 0.0),
        ("erf", -INF, INF, 0.0),
        ("erf", -50.0, 60.0, 2 / 110),
        ("arcsin", -1.0, 1.0, math.pi / 2),
        ("arccos", -1.0, 1.0, -math.pi / 2),
        ("arcsin", 1.0, 1.0, INF),
        ("arctanh", 0.0, 1.0, INF),
        ("arccosh", 1.0, 1.0, INF),
        ("log2", 1.0, INF, 0.0),
        ("sinh", -700.0, 700.0, math.sinh(700) / 700),
        ("cosh", -700.0, 700.0, 0.0),
        ("arcsinh", -1e300, 1e300, math.asinh(1e300) / 1e300),
        ("tan", math.nan, 1.0, math.nan),
    ],
)
def test_ends_of_the_domain(name: str, a: float, b: float, limit: float) -> None:
    found = Elementary(name).divided_difference(np.array([a, b]), np.array([b, a]))
    np.testing.assert_allclose(found, limit, rtol=1e-14)
