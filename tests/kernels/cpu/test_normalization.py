"""The kernels that normalize rows: their accuracy and their averages."""

from typing import Any

import numpy as np
import pytest
from agrad.kernels.cpu import normalization
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import agrad as ag
import agrad.nn.functional as F
from agrad.ops.quadrature import gauss_legendre
from agrad.testing.strategies import seeds

Array = NDArray[Any]
DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1), (4, 2), (128, 10), (5, 64), (3, 700)]
EPS = 1e-5


def normalized(x: Array) -> Array:
    c = x - x.mean(axis=1, keepdims=True)
    return c / np.sqrt((c * c).mean(axis=1, keepdims=True) + EPS)


def pulled(grad: Array, x: Array, weight: Array) -> Array:
    """Return the gradient for x, by the definition."""
    c = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((c * c).mean(axis=1, keepdims=True) + EPS)
    g = grad * weight
    y = c / deviation
    return (g - g.mean(1, keepdims=True) - y * (g * y).mean(1, keepdims=True)) / deviation


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e10, 1e20, 1e37])
def test_squares_beyond_single_precision(scale: float) -> None:
    rng = np.random.default_rng(1)
    x = (scale * rng.normal(size=(6, 10))).astype(np.float32)
    x[3] = x[3, 0]
    grad, weight = rng.normal(size=(2, 6, 10)).astype(np.float32)
    end = 2 * x[::-1]
    wide = [array.astype(np.float64) for array in (grad, x, end)]
    eps = (scale / 100) ** 2
    singles = [
        normalization.layer_norm(x, weight[0], None, eps),
        *normalization.layer_norm_backward(grad, x, weight[0], eps),
        *normalization.layer_norm_average_backward(grad, x, end, weight[0], weight[1], eps),
    ]
    weights = [row.astype(np.float64) for row in weight[:2]]
    doubles = [
        normalization.layer_norm(wide[1], weights[0], None, eps),
        *normalization.layer_norm_backward(wide[0], wide[1], weights[0], eps),
        *normalization.layer_norm_average_backward(*wide, *weights, eps),
    ]
    for single, double in zip(singles, doubles, strict=True):
        size = np.abs(double).max()
        np.testing.assert_allclose(single / size, double / size, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, int], offset: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, grad = (offset + rng.normal(size=shape)).astype(dtype), rng.normal(size=shape).astype(dtype)
    weight, bias = rng.normal(size=(2, shape[1])).astype(dtype)
    wide, wide_grad = x.astype(np.longdouble), grad.astype(np.longdouble)
    expected = [
        normalized(wide) * weight + bias,
        pulled(wide_grad, wide, weight.astype(np.longdouble)),
        (wide_grad * normalized(wide)).sum(axis=0),
        wide_grad.sum(axis=0),
    ]
    results = [
        normalization.layer_norm(x, weight, bias, EPS),
        *normalization.layer_norm_backward(grad, x, weight, EPS),
    ]
    # The mean is in double precision: its last digit shows only in float64, divided by deviations
    # that may be small.
    digits = 16 if dtype == np.float32 else 16 + 100 * offset
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == dtype
        least = np.abs(reference).max()
        # Two elements always become 1 and -1: the gradient is pure cancellation.
        least = max(least, 1.0)
        np.testing.assert_allclose(
            result, reference.astype(dtype), rtol=0, atol=digits * np.finfo(dtype).eps * least
        )


def test_without_elements() -> None:
    for shape in (0, 3), (3, 0):
        empty = np.zeros(shape)
        assert normalization.layer_norm(empty, None, None, EPS).shape == shape
        x_grad, weight_grad, _ = normalization.layer_norm_backward(empty, empty, None, EPS)
        assert x_grad.shape == shape
        assert weight_grad.tolist() == [0.0] * shape[1]


@given(
    st.sampled_from(SHAPES),
    seeds,
    st.sampled_from(DTYPES),
    st.sampled_from([1e-6, 1e-3, 1, 100]),
    st.sampled_from([0, 30]),
)
def test_completeness(
    shape: tuple[int, int], seed: int, dtype: type, size: float, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    start = (offset + rng.normal(size=shape)).astype(dtype)
    end = (start + size * rng.normal(size=shape)).astype(dtype)
    grad = rng.normal(size=shape).astype(dtype)
    weights = rng.normal(size=(2, shape[1])).astype(dtype)
    x_grad, weight_grad, bias_grad = normalization.layer_norm_average_backward(
        grad, start, end, *weights, EPS
    )
    wide_start, wide_end, *wide = (x.astype(np.longdouble) for x in (start, end, *weights))
    products = [x_grad * (wide_end - wide_start), weight_grad * (wide[1] - wide[0])]
    change = grad * (normalized(wide_end) * wide[1] - normalized(wide_start) * wide[0])
    # Each element of a gradient is rounded once. In float64 so are the means, and the rest of a row
    # may be divided by the smallest deviation.
    limit = 4 * (sum(np.abs(product).sum() for product in products) + np.abs(change).sum())
    if dtype == np.float64:
        steps = (
            np.abs(grad * weights.mean(axis=0) * (end - start)),
            np.abs(grad * np.ptp(weights, 0)),
        )
        limit += 16 * (1 + offset) / np.sqrt(EPS) * sum(step.sum() for step in steps)
    missing = sum(product.sum() for product in products) - change.sum()
    assert np.abs(missing) <= limit * np.finfo(dtype).eps
    np.testing.assert_allclose(bias_grad, grad.sum(axis=0), atol=1e-4)


def test_the_average_is_that_along_the_segment() -> None:
    rng = np.random.default_rng(0)
    grad, start, step = rng.normal(size=(3, 40, 12))
    end, weight = start + step / 8, rng.normal(size=12)
    expected = sum(
        share * pulled(grad, start + position * (end - start), weight)
        for position, share in gauss_legendre(20)
    )
    x_grad, *_ = normalization.layer_norm_average_backward(grad, start, end, weight, weight, EPS)
    # Quadrature with three nodes leaves a sixth derivative's share of steps of 1/8.
    np.testing.assert_allclose(x_grad, expected, atol=1e-5)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("size", [0.0, 1e-15, 1e-12, 1e-9])
def test_a_tiny_step_of_an_almost_constant_row_has_the_gradient(size: float, spread: float) -> None:
    """The rounding error of the values, divided by such a step, would swamp the gradient."""
    rng = np.random.default_rng(0)
    x = ag.tensor(7 + spread * rng.normal(size=(20, 5)), requires_grad=True)
    weights = rng.normal(size=(20, 5))
    loss = (F.layer_norm(x, 5) * weights).sum()
    loss.backward(retain_graph=True)
    loss.average_backward({x: size * rng.normal(size=(20, 5))})
    scale = np.abs(x.grad).max()
    np.testing.assert_allclose(x.average_grad, x.grad, rtol=0, atol=1e-5 * scale)


def test_dtypes_are_promoted() -> None:
    x = ag.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    weight = ag.tensor(np.ones(3), requires_grad=True)
    out = F.layer_norm(x, 3, weight)
    out.sum().backward()
    assert (out.dtype, x.grad.dtype, weight.grad.dtype) == (np.float64, np.float32, np.float64)


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="layer_norm: input must be float32 or float64, not int64"):
        F.layer_norm([[1, 2]], 2)
