"""Max pooling: any windows of any values, against a loop over the windows one by one."""

import math
from itertools import product

import numpy as np
from agrad.kernels.cpu import pooling
from agrad.kernels.cpu.pooling import Window
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from agrad.backend import Array
from agrad.testing.strategies import seeds

VALUES = [-math.inf, math.inf, math.nan, 0.0, -0.0, 1.0, 2.0]


def places(x: Array, size: tuple[int, int], window: Window) -> NDArray[np.int64]:
    """Return where in its plane the maximum of each window is, -1 if it is all padding."""
    found = np.full((len(x), *size), -1)
    for plane, i, j in np.ndindex(*found.shape):
        taps = product(*map(range, window.kernel))
        best = -math.inf
        for tap in taps:
            y, k = (
                index * stride - padding + step * dilation
                for index, stride, padding, step, dilation in zip(
                    (i, j), window.stride, window.padding, tap, window.dilation
                )
            )
            if not (0 <= y < x.shape[1] and 0 <= k < x.shape[2]):
                continue
            value = x[plane, y, k]
            if found[plane, i, j] < 0 or value > best or np.isnan(value):
                found[plane, i, j], best = y * x.shape[2] + k, value
    return found


@given(st.data(), st.sampled_from([np.float32, np.float64]), seeds)
def test_maxima_and_their_gradients(data: st.DataObject, dtype: type, seed: int) -> None:
    numbers = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = data.draw(numbers), data.draw(numbers), data.draw(numbers)
    padding = data.draw(st.integers(0, kernel[0] // 2)), data.draw(st.integers(0, kernel[1] // 2))
    window = Window(kernel, stride, padding, dilation)
    # As with ceil_mode, the last windows may begin beyond the image.
    size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 20))
    height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
    random = np.random.default_rng(seed)
    x = random.choice(VALUES, (2, height, width)).astype(dtype)
    grad = random.integers(1, 100, (2, *size)).astype(dtype)
    where = places(x, size, window)
    inside = where >= 0

    flat = np.take_along_axis(x.reshape(2, -1), where.reshape(2, -1).clip(0), 1).reshape(
        where.shape
    )
    maxima = pooling.max_pool(x, size, window)
    np.testing.assert_array_equal(maxima, np.where(inside, flat, -np.inf))
    np.testing.assert_array_equal(np.signbit(maxima[inside]), np.signbit(flat[inside]))

    x_grad = np.zeros((2, height * width), dtype)
    for plane in range(2):
        np.add.at(x_grad[plane], where[plane][inside[plane]], grad[plane][inside[plane]])
    np.testing.assert_array_equal(pooling.max_gradient(grad, x, window), x_grad.reshape(x.shape))


def test_threads_share_the_planes() -> None:
    window = Window((2, 2), (2, 2), (0, 0), (1, 1))
    random = np.random.default_rng(0)
    x = random.standard_normal((301, 40, 40)).astype(np.float32)
    grad = random.standard_normal((301, 20, 20)).astype(np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(
                (pooling.max_pool(x, (20, 20), window), pooling.max_gradient(grad, x, window))
            )
    for alone, shared in zip(*found):
        np.testing.assert_array_equal(shared, alone)
