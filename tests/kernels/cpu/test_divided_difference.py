"""Divided differences as operations run them, against mpmath, over all magnitudes of a and b - a.

ReLU and tanh compute theirs from the values at both ends; clip's is in its operation.
"""

import itertools
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from exact_quotients import CASES, DTYPES, Case, check, pairs, running
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_within_ulps_of_the_exact_quotient(case: Case, dtype: type) -> None:
    @settings(max_examples=20)
    @given(st.lists(pairs(dtype), min_size=1, max_size=20))
    def property(examples: list[tuple[float, float]]) -> None:
        a, b = np.array(examples, dtype).T
        check(case, a, b)

    property()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_grid_of_magnitudes(case: Case, dtype: type) -> None:
    info = np.finfo(dtype)
    subnormal = float(info.smallest_subnormal)
    sizes = [subnormal, 3 * subnormal, info.tiny, info.eps, 1e-3, 0.7, 1, 1.3, 6, 40, 300, info.max]
    values = np.array([0.0, *sizes, *(-dtype(size) for size in sizes)], dtype)
    both = itertools.combinations_with_replacement(values, 2)
    a, b = np.array(list(both), dtype).T
    check(case, a, b)
    check(case, values, np.nextafter(values, dtype(0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_layout_and_read_only(case: Case, dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 2, (2, 4, 6)).astype(dtype)
    expected = case(a, b)
    assert expected.dtype == dtype
    assert not np.shares_memory(expected, a)
    a_before, b_before = a.copy(), b.copy()
    np.testing.assert_array_equal(case(a[::-2, ::3], b[::-2, ::3]), expected[::-2, ::3])
    np.testing.assert_array_equal(case(a.T, b.T), expected.T)
    np.testing.assert_array_equal(case(a, np.asfortranarray(b)), expected)
    a.flags.writeable = b.flags.writeable = False
    np.testing.assert_array_equal(case(a, b), expected)
    np.testing.assert_array_equal((a, b), (a_before, b_before))
    unaligned = np.frombuffer(b"-" + a.tobytes(), dtype, offset=1).reshape(a.shape)
    np.testing.assert_array_equal(case(unaligned, b), expected)

    point = case(a[1, 2, ...], b[1, 2, ...])
    assert isinstance(point, np.ndarray)
    assert point.shape == ()
    assert point == expected[1, 2]
    assert case(a[:0], b[:0]).shape == (0, 6)


# x^0 and x have constant derivatives, whatever x is.
VARYING = [c for c in CASES if c.name != "power" or c.parameters not in ((0.0,), (1.0,))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", VARYING, ids=str)
def test_nan_gives_nan(case: Case, dtype: type) -> None:
    a = np.array([np.nan, np.nan, np.nan, np.nan, 1, 0, -0.5, 5000], dtype)
    b = np.array([np.nan, 1, 0, 5000, np.nan, np.nan, np.nan, np.nan], dtype)
    assert np.isnan(case(a, b)).all()


@pytest.mark.parametrize(
    ("name", "parameters", "at", "derivative"),
    [
        ("relu", (), 0.0, 0.0),
        ("leaky_relu", (0.2,), 0.0, 0.2),
        ("elu", (0.3,), 0.0, 0.3),
        ("absolute", (), 0.0, 0.0),
        ("clip", (-1.0, 2.0), -1.0, 1.0),
        ("clip", (-1.0, 2.0), 2.0, 1.0),
        ("clip", (None, 2.0), -np.inf, 1.0),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kinks_take_the_subgradient_of_backward(
    name: str, parameters: tuple[Any, ...], at: float, derivative: float, dtype: type
) -> None:
    x = np.array([at, -at], dtype) if at == 0 else np.array([at], dtype)
    result = running(name)(x, x[::-1], *parameters)
    np.testing.assert_array_equal(result, dtype(derivative))


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("name", "parameters", "a", "b", "limit"),
    [
        *((name, (), 1.0, INF, 0.0) for name in ("tanh", "sigmoid", "softsign", "sqrt", "log")),
        *((name, (), 1.0, INF, 0.0) for name in ("log1p", "sin", "cos", "reciprocal")),
        *((name, (), -INF, INF, 0.0) for name in ("tanh", "sigmoid", "softsign", "sin", "cos")),
        *((name, (), INF, INF, 0.0) for name in ("tanh", "sigmoid", "softsign", "sqrt", "log")),
        *((name, (), INF, INF, NAN) for name in ("sin", "cos")),
        *((name, (), -INF, 1.0, 0.0) for name in ("exp", "relu", "softplus", "silu", "gelu")),
        *((name, (), -INF, -INF, 0.0) for name in ("exp", "relu", "softplus", "silu", "gelu")),
        *((name, (), 1.0, INF, 1.0) for name in ("relu", "softplus", "silu", "gelu", "absolute")),
        *((name, (), INF, INF, 1.0) for name in ("relu", "softplus", "silu", "gelu", "absolute")),
        *((name, (), -INF, INF, NAN) for name in ("softplus", "silu", "gelu", "absolute")),
        ("relu", (), -INF, INF, 1.0),  # as any positive value beside an infinite length
        *((name, (), -INF, INF, NAN) for name in ("exp", "square")),
        *((name, (), 1.0, INF, INF) for name in ("exp", "square")),
        ("absolute", (), -INF, 1.0, -1.0),
        ("leaky_relu", (0.1,), -INF, 1.0, 0.1),
        ("elu", (1.0,), -INF, 1.0, 0.0),
        ("clip", (0.0, 6.0), -INF, INF, 0.0),
        ("clip", (0.0, None), 1.0, INF, NAN),  # the quotient of infinite lengths
        ("clip", (0.0, None), -INF, INF, NAN),
        ("power", (3.0,), 1.0, INF, INF),
        ("power", (0.3,), 1.0, INF, 0.0),
        ("power", (-2.0,), 1.0, INF, 0.0),
        ("log", (), 0.0, 1.0, INF),
        ("log", (), 0.0, INF, NAN),
        ("log", (), -1.0, 1.0, NAN),
        ("log", (), -2.0, -1.0, NAN),
        ("sqrt", (), -1.0, 1.0, NAN),
        ("sqrt", (), 0.0, 0.0, INF),
        ("log1p", (), -1.0, 0.0, INF),
        ("power", (0.3,), -1.0, 1.0, NAN),
        ("power", (0.3,), 0.0, 8.0, 8.0**-0.7),
        ("power", (-0.5,), 0.0, 8.0, -INF),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinite_ends_and_edges_of_the_domain(
    name: str, parameters: tuple[Any, ...], a: float, b: float, limit: float, dtype: type
) -> None:
    forth, back = np.array([a, b], dtype), np.array([b, a], dtype)
    with np.errstate(invalid="ignore"):
        result = running(name)(forth, back, *parameters)
    np.testing.assert_allclose(result, limit, rtol=np.finfo(dtype).eps)


def test_shapes_and_dtypes_must_agree() -> None:
    for name in ("exp", "sigmoid"):
        with pytest.raises(ValueError, match=rf"{name}.*: a has shape \(2,\), b \(3,\)"):
            running(name)(np.zeros(2), np.zeros(3))
        with pytest.raises(TypeError):
            running(name)(np.zeros(2), np.zeros(2, np.float32))


def test_importing_compiles_nothing() -> None:
    code = "import sys; import agrad.kernels.cpu; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
