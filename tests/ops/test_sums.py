"""Sums over many rows are as accurate as pairwise sums; sums over few rows are NumPy's."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad.backend import Array
from agrad.ops.sums import mean, sum_over, variance
from agrad.testing.strategies import seeds

MANY = 300_000
TENTH = float(np.float32(0.1))
VALUES = np.full((MANY, 4), 0.1, np.float32)
RANDOM = np.random.default_rng(0).random((MANY, 4), np.float32)
WIDE = RANDOM.astype(np.float64)

RESULTS: dict[str, tuple[Callable[[], ag.Tensor], Any]] = {
    "sum": (lambda: ag.sum(VALUES, 0), MANY * TENTH),
    "sum of a transposed array": (lambda: ag.sum(VALUES.T, -1), MANY * TENTH),
    "sum of three axes": (
        lambda: ag.sum(VALUES.reshape(100, 30, 100, 4), (0, 1, 2)),
        MANY * TENTH,
    ),
    "sum of axes around another": (
        lambda: ag.sum(VALUES.reshape(30_000, 4, 10), (0, 2)),
        MANY * TENTH,
    ),
    "mean": (lambda: ag.mean(VALUES, 0), TENTH),
    "var": (lambda: ag.var(RANDOM, 0), WIDE.var(0)),
    "std": (lambda: ag.std(RANDOM, 0, ddof=1), WIDE.std(0, ddof=1)),
    "softmax": (lambda: F.softmax(RANDOM, 0).astype(np.float64).sum(0), 1),
    "logsumexp": (lambda: ag.logsumexp(RANDOM, 0), np.log(np.exp(WIDE).sum(0))),
    "log_softmax": (
        lambda: F.log_softmax(RANDOM, 0)[0],
        WIDE[0] - np.log(np.exp(WIDE).sum(0)),
    ),
    "einsum": (lambda: ag.einsum("ij->j", VALUES), MANY * TENTH),
    "einsum with an ellipsis": (lambda: ag.einsum("i...->...", VALUES), MANY * TENTH),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_many_rows(name: str) -> None:
    function, expected = RESULTS[name]
    np.testing.assert_allclose(function().data, np.broadcast_to(expected, 4), rtol=5e-6)


@given(st.integers(1, 300), st.sampled_from([np.float32, np.float64]), st.booleans(), seeds)
def test_sums_of_short_rows_are_as_exact_as_sums_in_pairs(
    length: int, dtype: type, keepdims: bool, seed: int
) -> None:
    """Of n positive numbers: each of log2(n) levels rounds by half an ulp, and few ulps add up."""
    x = np.random.default_rng(seed).random((3, 2, length)).astype(dtype)
    for axis in (-1, 2, (2,)):
        sums = sum_over(x, axis, keepdims)
        exact = np.array([math.fsum(row) for row in x.reshape(6, length)])
        assert sums.dtype == dtype
        assert sums.shape == ((3, 2, 1) if keepdims else (3, 2))
        np.testing.assert_allclose(sums.ravel(), exact, rtol=4 * np.finfo(dtype).eps)
    whole = ag.tensor(x, requires_grad=True)
    whole.sum(-1, keepdims=keepdims).sum().backward()
    np.testing.assert_array_equal(whole.grad, np.ones_like(x))


GRADIENTS: dict[str, Callable[[ag.Tensor, Array], ag.Tensor]] = {
    "add": lambda b, g: (b + g) * g,
    "subtract": lambda b, g: (g + b) * g,
    "a column": lambda b, g: (b[:, np.newaxis] + g.T) * g.T,
    "broadcast_to": lambda b, g: ag.broadcast_to(b, g.shape) * g,
    "linear": lambda b, g: F.linear(np.ones_like(g), np.eye(4, dtype=g.dtype), b) * g,
    "batch_norm": lambda b, g: F.batch_norm(RANDOM, None, None, None, b, training=True) * g,
    "layer_norm": lambda b, g: F.layer_norm(RANDOM, 4, np.ones(4, np.float32), b) * g,
    "conv1d": lambda b, g: (
        F.conv1d(
            np.ones((1000, 4, MANY // 1000), np.float32),
            np.ones((4, 1, 1), np.float32),
            b,
            groups=4,
        )
        * g.reshape(1000, 4, -1)
    ),
    "embedding": lambda b, g: F.embedding(np.zeros(MANY, int), b[np.newaxis]) * g,
    "elements": lambda b, g: b[np.broadcast_to(np.arange(4), g.shape)] * g,
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_that_are_sums_of_many_rows(name: str) -> None:
    b = ag.tensor(np.ones(4, np.float32), requires_grad=True)
    loss = GRADIENTS[name](b, VALUES).sum()
    loss.backward(retain_graph=True)
    loss.average_backward({b: np.full(4, 0.5)})
    for grad in b.grad, b.average_grad:
        np.testing.assert_allclose(grad, MANY * TENTH, rtol=5e-6)


def test_dense_layers_of_captured_functions() -> None:
    b = ag.tensor(np.ones(4, np.float32), requires_grad=True)
    eye = ag.tensor(np.eye(4, dtype=np.float32))
    captured = ag.capture(lambda x, g: (F.relu(F.linear(x, eye, b)) * g).sum())
    for _ in range(2):
        b.zero_grad()
        captured(np.ones_like(VALUES), VALUES).backward()
        np.testing.assert_allclose(b.grad, MANY * TENTH, rtol=5e-6)


def test_running_statistics_of_many_rows() -> None:
    running_mean, running_var = ag.tensor(np.zeros(4, np.float32)), ag.tensor(np.ones(4, "f"))
    F.batch_norm(RANDOM, running_mean, running_var, training=True, momentum=1.0)
    np.testing.assert_allclose(running_mean.data, WIDE.mean(0), rtol=1e-6)
    np.testing.assert_allclose(running_var.data, WIDE.var(0, ddof=1), rtol=1e-6)


@given(
    st.lists(st.sampled_from([1, 2, 3, 127, 128, 129, 300]), min_size=1, max_size=3).filter(
        lambda lengths: math.prod(lengths) < 300_000
    ),
    seeds,
    st.data(),
)
def test_any_axes_of_any_layout(lengths: list[int], seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    order = data.draw(st.permutations(range(len(lengths))))
    x = np.transpose(rng.random(lengths), order)
    if data.draw(st.booleans()):
        x = x[..., ::-2]
    axes = tuple(
        axis - data.draw(st.sampled_from([0, x.ndim]))
        for axis in range(x.ndim)
        if data.draw(st.booleans())
    )
    keepdims = data.draw(st.booleans())
    wide = x.astype(np.longdouble)
    for result, expected in [
        (sum_over(x, axes, keepdims), wide.sum(axes, keepdims=keepdims)),
        (mean(x, axes, keepdims), wide.mean(axes, keepdims=keepdims)),
        (variance(x, axes, 0, keepdims), wide.var(axes, keepdims=keepdims)),
    ]:
        assert np.shape(result) == expected.shape
        np.testing.assert_allclose(result, expected.astype(np.float64), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("rows", [1, 100, 128])
def test_few_rows_are_numpys_bit_for_bit(rows: int) -> None:
    x = np.random.default_rng(0).random((rows, 3, 500), np.float32)
    for axes in [(0,), (2,), (0, 2), (1, 2)]:
        for keepdims in False, True:
            np.testing.assert_array_equal(
                sum_over(x, axes, keepdims), x.sum(axes, keepdims=keepdims)
            )
            np.testing.assert_array_equal(mean(x, axes, keepdims), x.mean(axes, keepdims=keepdims))
            expected = x.var(axes, ddof=1, keepdims=keepdims) if rows > 1 else None
            if expected is not None:
                np.testing.assert_array_equal(variance(x, axes, 1, keepdims), expected)


@pytest.mark.parametrize("function", [np.std, ag.linalg.norm])
def test_halves_overflow_only_if_the_result_does(function: Any) -> None:
    x = np.array([[300, -300, 0, 1], [2e4, -2e4, 2e4, -2e4]], np.float16)
    for axis in None, 1:
        found = function(ag.tensor(x), axis)
        assert found.dtype == np.float16
        expected = function(x.astype(np.float64), axis)
        np.testing.assert_allclose(found.data, expected, rtol=1e-3)
