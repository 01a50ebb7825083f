"""New Tensors: values against NumPy's, dtypes, devices, seeds, and use in captured functions."""

from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad.errors import CaptureError, DeviceError

CREATED: dict[str, tuple[Any, Any]] = {
    "zeros": (lambda **k: ag.zeros(2, 3, **k), np.zeros((2, 3))),
    "zeros of a tuple": (lambda **k: ag.zeros((2, 3), **k), np.zeros((2, 3))),
    "zeros of a length": (lambda **k: ag.zeros(4, **k), np.zeros(4)),
    "zeros of no length": (lambda **k: ag.zeros(**k), np.zeros(())),
    "ones": (lambda **k: ag.ones([2, 0], **k), np.ones((2, 0))),
    "full": (lambda **k: ag.full((2, 3), 0.5, **k), np.full((2, 3), 0.5)),
    "full of a length": (lambda **k: ag.full(2, -1.5, **k), np.full(2, -1.5)),
    "arange": (lambda **k: ag.arange(0.0, 1.0, 0.3, **k), np.arange(0.0, 1.0, 0.3)),
    "linspace": (lambda **k: ag.linspace(-1, 2, 7, **k), np.linspace(-1, 2, 7)),
    "eye": (lambda **k: ag.eye(3, **k), np.eye(3)),
    "eye off the diagonal": (lambda **k: ag.eye(2, 4, 1, **k), np.eye(2, 4, 1)),
    "zeros_like": (lambda **k: ag.zeros_like(np.ones((2, 3), "f4"), **k), np.zeros((2, 3))),
    "ones_like": (lambda **k: ag.ones_like([2.0, 3.0], **k), np.ones(2)),
    "full_like": (lambda **k: ag.full_like(ag.tensor([2.0]), 7, **k), np.full(1, 7.0)),
}


@pytest.mark.parametrize("name", CREATED)
def test_values_are_numpys_in_single_precision_by_default(name: str) -> None:
    create, expected = CREATED[name]
    for options, dtype in [({}, "float32"), ({"dtype": "float64"}, "float64")]:
        x = create(**options)
        assert (x.shape, x.dtype, x.requires_grad) == (expected.shape, dtype, False)
        np.testing.assert_array_equal(x.data, expected.astype(dtype))
    leaf = create(requires_grad=True, dtype=np.float64)
    (leaf * leaf).sum().backward()
    np.testing.assert_array_equal(leaf.grad, 2 * leaf.data)


def test_integers_stay_integers() -> None:
    for x in ag.arange(3), ag.arange(1, 7, 2), ag.full((2,), 3), ag.zeros_like([1, 2]):
        assert x.dtype == np.int64
    assert ag.full(2, True).dtype == bool
    assert ag.rand_like(ag.zeros(2, dtype=np.float64)).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_seed_determines_the_numbers(dtype: Any) -> None:
    def draw() -> list[bytes]:
        ag.seed(3)
        x = ag.rand(50, 40, dtype=dtype)
        drawn = [x, ag.randn(50, 40, dtype=dtype), ag.rand_like(x), ag.randn_like(x)]
        for uniform in drawn[::2]:
            assert 0 <= uniform.data.min() < 0.01
            assert 0.99 < uniform.data.max() < 1
        for normal in drawn[1::2]:
            assert abs(normal.data.mean()) < 0.1
            assert abs(normal.data.std() - 1) < 0.1
        assert {x.dtype for x in drawn} == {np.dtype(dtype)}
        assert {x.shape for x in drawn} == {(50, 40)}
        return [x.data.tobytes() for x in drawn]

    first = draw()
    assert len(set(first)) == 4
    assert draw() == first


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ag.zeros((2, 3), np.float64), TypeError, r"zeros: a shape .*dtype=…"),
        (lambda: ag.ones(2.5), TypeError, "ones: a shape consists of integers"),
        (lambda: ag.rand(2, -1), ValueError, r"rand: .*\(2, -1\)"),
        (lambda: ag.full((2, -1), 0), ValueError, r"full: .*\(2, -1\)"),
        (lambda: ag.randn(2, dtype=int), TypeError, "randn: dtype must be float32 or float64"),
        (lambda: ag.rand_like([1, 2]), TypeError, "rand_like: dtype .*int64"),
        (lambda: ag.arange(3, requires_grad=True), TypeError, "requires_grad: .*int64"),
        (lambda: ag.zeros(2, device="tpu"), DeviceError, "tpu"),
        (lambda: ag.full(2, "a"), TypeError, "full: fill_value must be a number, got 'a'"),
        (lambda: ag.full(2, None), TypeError, "full: fill_value must be a number, got None"),
        (lambda: ag.full_like([1.0], [1, 2]), TypeError, "full_like: fill_value must be a number"),
        (lambda: ag.arange(0, 1, 0), ValueError, "arange: step must not be 0"),
        (lambda: ag.linspace(0, 1, -1), ValueError, "linspace: num must not be negative, got -1"),
        (lambda: ag.linspace(0, 1, 2.5), TypeError, "linspace: num must be an integer, got 2.5"),
        (lambda: ag.eye(-1), ValueError, r"eye: .*\(-1, -1\)"),
        (lambda: ag.eye(2.0), TypeError, r"eye: .*\(2.0, 2.0\)"),
    ],
)
def test_wrong_arguments_are_named(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_captured_function_creates_constants_but_draws_nothing() -> None:
    def masked(x: ag.Tensor) -> ag.Tensor:
        return x * ag.arange(3) + ag.ones_like(x) * ag.eye(3)

    captured = ag.capture(masked)
    for value in 1.0, 2.0:
        x = [value, 0.5, -value]
        np.testing.assert_array_equal(captured(x).data, masked(ag.tensor(x)).data)
    for draw in ag.rand_like, lambda x: x + ag.randn(3):
        with pytest.raises(CaptureError, match=r"capture: rand.* draws numbers"):
            ag.capture(draw)([1.0, 2.0, 3.0])


@pytest.mark.parametrize("make", [ag.zeros, ag.ones, ag.eye, ag.rand, ag.randn])
def test_no_dtype_means_float32(make: Any) -> None:
    assert make(2, dtype=None).dtype == np.float32
    assert ag.linspace(0, 1, 3, dtype=None).dtype == np.float32


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OverflowError):
        ag.full((2,), 300, dtype=np.uint8)
    with pytest.raises(OverflowError):
        ag.full_like(ag.zeros(1, dtype=np.uint8), -1)
    for number in 300.0, 0.5, np.float32(-1), np.nan:
        with pytest.raises(OverflowError, match=r"full: fill_value .* does not fit into uint8"):
            ag.full((2,), number, dtype=np.uint8)
    assert ag.full(2, 3.0, dtype=np.uint8).tolist() == [3, 3]


@pytest.mark.parametrize("dtype", [complex, str, object, ">f4"])
def test_dtypes_that_no_tensor_has_are_refused(dtype: Any) -> None:
    for make in (
        lambda: ag.zeros(2, dtype=dtype),
        lambda: ag.ones(2, dtype=dtype),
        lambda: ag.full(2, 1, dtype=dtype),
        lambda: ag.full_like([1.0], 1, dtype=dtype),
        lambda: ag.arange(2, dtype=dtype),
        lambda: ag.linspace(0, 1, 3, dtype=dtype),
        lambda: ag.eye(2, dtype=dtype),
        lambda: ag.tensor([1.0], dtype=dtype),
    ):
        with pytest.raises(TypeError):
            make()
    with pytest.raises(TypeError, match="arange: the result has dtype complex128"):
        ag.arange(3 + 0j)
