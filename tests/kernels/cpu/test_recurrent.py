"""A step of an LSTM as a kernel: against its definition in NumPy, and at extreme values."""

from typing import Any

import numpy as np
import pytest
from agrad.kernels.cpu import recurrent

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SHAPES = pytest.mark.parametrize("shape", [(1, 1), (3, 5), (32, 64), (2, 300)])


def gates(sums: Any) -> Any:
    i, f, g, o = np.split(sums.astype(np.float64), 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-x)) for x in (i, f, o))
    return i, f, np.tanh(g), o


@DTYPES
@SHAPES
def test_a_step_is_its_definition(shape: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    rows, n = shape
    projected, sums = (3 * rng.normal(size=(2, rows, 4 * n))).astype(dtype)
    before, grad, cell_grad = rng.normal(size=(3, rows, n)).astype(dtype)
    total = projected + sums
    hidden, cell = np.empty((2, rows, n), dtype)
    recurrent.lstm_step(projected, sums, before, hidden, cell)
    np.testing.assert_array_equal(sums, total)
    i, f, g, o = gates(sums)
    tolerance = 16 * np.finfo(dtype).eps  # a few ulps each of four factors and a sum
    np.testing.assert_allclose(cell, f * before + i * g, rtol=0, atol=4 * tolerance)
    np.testing.assert_allclose(hidden, o * np.tanh(cell.astype(float)), rtol=0, atol=tolerance)

    sums_grad, earlier = np.empty_like(sums), cell_grad.copy()
    recurrent.lstm_step_backward(sums, before, cell, grad, earlier, sums_grad)
    t = np.tanh(cell.astype(float))
    whole = cell_grad + grad * o * (1 - t * t)
    of_cell = [whole * g * i * (1 - i), whole * before * f * (1 - f), whole * i * (1 - g * g)]
    expected = np.concatenate([*of_cell, grad * t * o * (1 - o)], axis=1)
    np.testing.assert_allclose(sums_grad, expected, rtol=0, atol=8 * tolerance)
    np.testing.assert_allclose(earlier, whole * f, rtol=0, atol=8 * tolerance)


@DTYPES
def test_far_out_gates_are_open_or_closed(dtype: type) -> None:
    sums = np.array([[1e4, -1e4, -1e4, 1e4], [-1e4, 1e4, 1e4, -1e4]], dtype)
    before = np.array([[5], [0.5]], dtype)
    hidden, cell = np.empty((2, 2, 1), dtype)
    recurrent.lstm_step(np.zeros_like(sums), sums, before, hidden, cell)
    np.testing.assert_array_equal(cell, [[-1], [0.5]])
    np.testing.assert_allclose(hidden, [[np.tanh(-1)], [0]], rtol=1e-6)
    cell_grad, sums_grad = np.ones((2, 1), dtype), np.empty_like(sums)
    recurrent.lstm_step_backward(sums, before, cell, hidden, cell_grad, sums_grad)
    np.testing.assert_array_equal(sums_grad, 0)
    np.testing.assert_allclose(cell_grad[1], [1], rtol=1e-6)
