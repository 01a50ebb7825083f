"""The kernels of dense layers: activations against exact values, and the fused passes."""

from typing import Any

import mpmath
import numpy as np
import pytest
from agrad.kernels.cpu import activation, dense
from numpy.typing import NDArray

RANDOM = np.random.default_rng(0)
REALS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ACTIVATIONS = pytest.mark.parametrize("name", ["relu", "tanh"])


def values(dtype: type, size: int = 20_000) -> NDArray[Any]:
    """Return numbers of both signs and of all magnitudes that matter, and the special ones."""
    sizes = 10 ** RANDOM.uniform(-8, 1.6, size)
    special = [0.0, -0.0, 1e-30, -1e-30, 30.0, -30.0, 1e30, -1e30, np.inf, -np.inf]
    return np.append(sizes * RANDOM.choice([-1, 1], size), special).astype(dtype)


def neighbours(a: NDArray[Any]) -> NDArray[Any]:
    """Return other ends, near the given ones, far from them, or equal to them."""
    near = a * (1 + 10 ** RANDOM.uniform(-8, 0, a.size))
    far = RANDOM.permutation(a)
    choice = RANDOM.integers(3, size=a.size)
    return np.choose(choice, [near, far, a]).astype(a.dtype)


def ulps(found: NDArray[Any], exact: NDArray[Any]) -> float:
    spacing = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.float64)
    return float(np.max(np.abs(found - exact.astype(np.longdouble)) / spacing))


def exact_slope_of_relu(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    gap = np.where(a == b, 1, b - a)
    return np.where(a == b, a > 0, (np.maximum(b, 0) - np.maximum(a, 0)) / gap)


def exact_slope_of_tanh(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """2 s (1 - e^-2d) / (d (1 + e^-2|a|) (1 + e^-2|b|)), s at the end nearer to zero, if any."""
    gap = np.abs(b - a)
    nearest = np.where((a > 0) == (b > 0), np.exp(-2 * np.minimum(np.abs(a), np.abs(b))), 1)
    drop = np.where(gap > 0, -np.expm1(-2 * gap) / np.where(gap > 0, gap, 1), 2)
    return 2 * nearest * drop / ((1 + np.exp(-2 * np.abs(a))) * (1 + np.exp(-2 * np.abs(b))))


EXACT_SLOPES = {"relu": exact_slope_of_relu, "tanh": exact_slope_of_tanh}


@REALS
def test_tanh_is_within_3_ulps(dtype: type) -> None:
    x = values(dtype)
    with mpmath.workdps(40):
        # Only float64 needs more digits than NumPy has.
        exact = np.tanh(x.astype(np.float64))
        if dtype == np.float64:
            exact = np.array([float(mpmath.tanh(mpmath.mpf(float(value)))) for value in x])
    assert ulps(activation.tanh.forward(x), exact) <= 3
    signs = np.signbit(activation.tanh.forward(x))
    np.testing.assert_array_equal(signs, np.signbit(x))


@REALS
def test_relu_is_exact(dtype: type) -> None:
    x = values(dtype)
    out = activation.relu.forward(x)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    grad = np.append(x[1:], np.inf).astype(dtype)
    np.testing.assert_array_equal(activation.relu.backward(grad, out), np.where(x > 0, grad, 0))


@REALS
@ACTIVATIONS
def test_nan_stays(name: str, dtype: type) -> None:
    assert np.isnan(getattr(activation, name).forward(np.array([np.nan], dtype))).all()


@REALS
@ACTIVATIONS
def test_averaged_slopes_are_those_of_the_divided_differences(name: str, dtype: type) -> None:
    """Within 8 ulps: if NumPy has no more digits than float64, the exact values are off too."""
    a = values(dtype)
    a = a[np.abs(a) < 1e6]
    b = neighbours(a)
    loops = getattr(activation, name)
    found = loops.average_backward(np.ones_like(a), a, loops.forward(a), b, loops.forward(b))
    exact = EXACT_SLOPES[name](a.astype(np.longdouble), b.astype(np.longdouble))
    normal = np.abs(exact) > np.finfo(dtype).tiny
    assert ulps(found[normal], exact[normal]) <= 8
    assert np.abs(found[~normal]).max(initial=0) <= np.finfo(dtype).tiny


@REALS
@ACTIVATIONS
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 7), (300, 17), (600, 64), (4, 0)])
def test_joined_passes_give_what_single_ones_do(
    name: str, shape: tuple[int, int], dtype: type
) -> None:
    loops = getattr(activation, name)
    z, w, grad = (RANDOM.standard_normal(shape).astype(dtype) for _ in range(3))
    bias = RANDOM.standard_normal(2 * shape[1]).astype(dtype)[::2]
    x, added = z.copy(), z.copy()
    dense.add_bias(added, bias)
    np.testing.assert_array_equal(added, z + bias)
    out = loops.forward_biased(x, bias)
    np.testing.assert_array_equal(x, added)
    np.testing.assert_array_equal(out, loops.forward(added))
    in_place = z.copy()
    assert loops.forward_biased(in_place, bias, in_place=True) is in_place
    np.testing.assert_array_equal(in_place, out)

    f_w = loops.forward(w)
    room = np.full(shape[1], 7, dtype)
    for single, joined in (
        (
            loops.backward(grad, out),
            lambda *room: loops.backward_biased(grad, out, *room),
        ),
        (
            loops.average_backward(grad, x, out, w, f_w),
            lambda *room: loops.average_backward_biased(grad, x, out, w, f_w, *room),
        ),
    ):
        for z_grad, bias_grad in joined(), joined(room):
            np.testing.assert_array_equal(z_grad, single)
            np.testing.assert_array_equal(bias_grad, dense.sum_rows(single))
        assert joined(room)[1] is room


@REALS
def test_sums_of_many_rows_are_accurate(dtype: type) -> None:
    """Sums of 256 rows at a time round each number some 400 times here, not 40,000 times."""
    rows = RANDOM.random((40_000, 3)).astype(dtype)
    exact = rows.astype(np.longdouble).sum(axis=0)
    relative = np.abs(dense.sum_rows(rows) - exact) / exact
    assert relative.max() < 40 * np.finfo(dtype).eps


@REALS
def test_the_midpoint_is_rounded_once_or_twice(dtype: type) -> None:
    a, b = values(dtype, 100)[:100], values(dtype, 100)[:100]
    expected = (a.astype(np.longdouble) + b) / 2
    assert ulps(dense.midpoint(a, b), (a + b).astype(dtype) * dtype(0.5)) == 0
    np.testing.assert_allclose(dense.midpoint(a, b), expected.astype(dtype), rtol=1e-6)
    strided = dense.midpoint(np.eye(3, 4, dtype=dtype).T, np.zeros((4, 3), dtype))
    np.testing.assert_array_equal(strided, np.eye(4, 3) / 2)
