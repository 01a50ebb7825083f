"""Products of several pairs of matrices, in one thread and in two."""

import numpy as np
import pytest
from agrad.kernels.cpu import product
from threadpoolctl import threadpool_limits

SHAPES = [
    ((96, 40, 40), (96, 40, 40)),
    ((3, 32, 40, 30), (3, 32, 30, 50)),
    ((1, 2, 3), (1, 3, 2)),
    ((0, 2, 3), (0, 3, 2)),
    ((4, 0, 3), (4, 3, 2)),
    ((4, 2, 0), (4, 0, 2)),
    ((5, 2, 3), (1, 3, 2)),  # the first axes broadcast
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("one", "two"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_pairs(dtype, one, two, threads):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=one).astype(dtype), rng.normal(size=two).astype(dtype)
    turned = np.ascontiguousarray(y.mT).mT
    with threadpool_limits(threads, user_api="blas"):
        for other in (y, turned):
            found = product.matmul_each(x, other)
            np.testing.assert_array_equal(found, x @ other)
            assert found.dtype == dtype


def test_two_threads_share_the_pairs(monkeypatch):
    x = np.ones((64, 50, 50))
    parts = []
    original = np.matmul
    monkeypatch.setattr(
        product, "matmul", lambda *a, out: parts.append(len(a[0])) or original(*a, out=out)
    )
    with threadpool_limits(2, user_api="blas"):
        product.matmul_each(x, x)
    assert parts == [32, 32]


def test_operands_that_do_not_fit_or_mix_dtypes():
    with pytest.raises(ValueError, match="matmul"):
        product.matmul_each(np.ones((2, 3, 4)), np.ones((2, 3, 4)))
    mixed = product.matmul_each(np.ones((2, 1, 3), np.float32), np.ones((2, 3, 1)))
    assert mixed.dtype == np.float64
