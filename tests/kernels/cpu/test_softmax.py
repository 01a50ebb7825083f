"""The kernels of softmax and of cross-entropy with classes: their accuracy and their averages."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from agrad.kernels.cpu import exponential, softmax
from agrad.kernels.cpu.jit import kernel
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import agrad as ag
import agrad.nn.functional as F
from agrad.ops.quadrature import gauss_legendre
from agrad.testing.strategies import seeds

Array = NDArray[Any]
DTYPES = [np.float32, np.float64]
REDUCTIONS = ["mean", "sum", "none"]
# Short rows are columns of a block, long ones blocks of columns: one more element, one more row.
SHAPES = [
    (0, 3),
    (1, 1),
    (3, 1),
    (5, 2),
    (128, 10),
    (300, 7),
    (70, 64),
    (3, 65),
    (2, 128),
    (1, 700),
]
IGNORED = -100


@kernel("real[:]")
def exponentials(values):
    exponential.exponentials(values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials(dtype: type) -> None:
    info = np.finfo(dtype)
    least = -87 if dtype == np.float32 else -708
    x = np.concatenate([np.linspace(least, 0, 3001), -np.logspace(-12, 0, 200)]).astype(dtype)
    out = x.copy()
    exponentials(out)
    with mpmath.workdps(40):
        expected = [mpmath.exp(mpmath.mpf(float(value))) for value in x]
        errors = [abs(float((mpmath.mpf(float(a)) - e) / e)) for a, e in zip(out, expected)]
    assert max(errors) <= info.eps  # an ulp is between half of it and all of it
    special = np.array([-0.0, least * 1.01, -1e30, -math.inf, math.nan], dtype)
    exponentials(special)
    np.testing.assert_array_equal(special, np.array([1, 0, 0, 0, math.nan], dtype))


ROWS = [*SHAPES, (4, 0), (2, 5000), (700, 3)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_softmax_of_rows(shape: tuple[int, int], dtype: type, masked: bool) -> None:
    rng = np.random.default_rng(0)
    far = 1000 * rng.integers(-1, 2, (shape[0], 1))
    x = (5 * rng.normal(size=shape) + far).astype(dtype)
    excluded = rng.random(shape) < 0.1
    excluded[:, :1] = False
    x[excluded] = -math.inf
    out = softmax.softmax(x, masked)
    wide = x.astype(np.longdouble)
    p = np.exp(wide - wide.max(axis=1, keepdims=True, initial=-math.inf))
    p /= p.sum(axis=1, keepdims=True)
    assert out.dtype == dtype
    # An exponential is accurate to an ulp, the sum of a row and its reciprocal to half an ulp each.
    # Rounding the difference from the largest element adds half an ulp of up to 30.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(out, p.astype(dtype), rtol=18 * eps, atol=np.finfo(dtype).tiny)

    grad = rng.normal(size=shape).astype(dtype)
    pulled = out.astype(np.longdouble) * grad
    expected = pulled - out * pulled.sum(axis=1, keepdims=True)
    x_grad = softmax.softmax_backward(grad, out)
    assert x_grad.dtype == dtype
    # A difference of gradients is accurate to an ulp of the larger one.
    scale = np.abs(out) * np.abs(grad).max(axis=1, keepdims=True, initial=0)
    assert np.all(np.abs(x_grad - expected) <= 2 * eps * scale)


@pytest.mark.parametrize("n", [1, 3, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_rows_that_are_not_finite(dtype: type, n: int) -> None:
    x = np.zeros((4, n), dtype)
    x[0], x[1, -1], x[2, 0] = -math.inf, math.nan, math.inf
    for masked in False, True:
        out = softmax.softmax(x, masked)
        np.testing.assert_array_equal(out[0], 0 if masked else math.nan)
        assert np.isnan(out[1]).all()
        assert np.isnan(out[2, 0])
        np.testing.assert_allclose(out[3], 1 / n, rtol=1e-6)


def test_two_threads_share_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, grad = rng.normal(size=(2, 5001, 100)).astype(np.float32)
    results, parts = [], []
    shared = softmax.in_parallel
    monkeypatch.setattr(
        softmax,
        "in_parallel",
        lambda work, *sizes: shared(lambda part: parts.append(part) or work(part), *sizes),
    )
    for threads in 1, 2:
        with threadpool_limits(threads, user_api="blas"):
            out = softmax.softmax(x, masked=False)
            results.append((out, softmax.softmax_backward(grad, out)))
    assert sorted(map(str, parts)) == sorted(
        map(str, [*[slice(0, 5001)] * 2, *[slice(0, 2500), slice(2500, 5001)] * 2])
    )
    for one, two in zip(*results):
        np.testing.assert_array_equal(one, two)


def examples(
    shape: tuple[int, int], seed: int, dtype: type, size: float = 1.0
) -> tuple[Array, Array, Array, Array]:
    """Return logits at the start and at the end, classes, some of them ignored, and weights."""
    rng = np.random.default_rng(seed)
    start = (size * rng.normal(size=shape)).astype(dtype)
    end = (start + 10 ** rng.uniform(-6, 1) * rng.normal(size=shape)).astype(dtype)
    classes = rng.integers(0, shape[1], shape[0])
    classes[rng.random(shape[0]) < 0.1] = IGNORED
    return start, end, classes, rng.uniform(0.1, 2, shape[1]).astype(dtype)


def losses_of(x: Array, classes: Array, weight: Array | None) -> tuple[Array, Array]:
    """Return the losses and weights of the examples, by the definition, in long double."""
    kept = classes != IGNORED
    labels = np.where(kept, classes, 0)
    weights = kept * (np.ones(len(x)) if weight is None else weight[labels].astype(np.longdouble))
    return -weights * log_softmax(x)[np.arange(len(x)), labels], weights


def log_softmax(x: Array) -> Array:
    """Return the logarithm of the softmax of rows, in long double."""
    shifted = x.astype(np.longdouble) - x.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def reduced(losses: Array, weights: Array, reduction: str) -> Any:
    if reduction == "none":
        return losses
    return losses.sum() / weights.sum() if reduction == "mean" else losses.sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_and_gradients(
    shape: tuple[int, int], reduction: str, weighted: bool, dtype: type
) -> None:
    x, _, classes, weight = examples(shape, 0, dtype, size=3.0)
    used = weight if weighted else None
    with np.errstate(invalid="ignore"):
        losses, weights = losses_of(x, classes, used)
        expected = reduced(losses, weights, reduction)
    eps = np.finfo(dtype).eps
    arguments = x, classes, used, IGNORED, reduction
    actual = softmax.cross_entropy(*arguments)
    assert actual.dtype == dtype
    assert actual.shape == np.shape(expected)
    # Each loss is rounded once, after sums in double precision; their sum once per example.
    digits = 2 if reduction == "none" else 8
    np.testing.assert_allclose(actual, expected.astype(dtype), rtol=digits * eps, atol=16 * 2**-52)

    grad = np.ones(np.shape(expected), dtype)
    wide = x.astype(np.longdouble)
    p = np.exp(wide - wide.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    kept = classes != IGNORED
    p[np.arange(len(x))[kept], classes[kept]] -= 1
    scale = max(weights.sum(), 1e-300) if reduction == "mean" else 1
    expected = (p * weights[:, np.newaxis] / scale).astype(dtype)
    actual = softmax.cross_entropy_backward(grad, *arguments)
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=8 * eps, atol=2 * eps * largest)


def average(start: Array, end: Array, classes: Array) -> Array:
    """Return the averaged gradient of the sum of losses by quadrature, in many pieces."""
    total = np.zeros(start.shape)
    pieces = 40
    for piece in range(pieces):
        for position, weight in gauss_legendre(6):
            x = start + (piece + position) / pieces * (end - start)
            p = np.exp(x - x.max(axis=1, keepdims=True))
            total += weight / pieces * p / p.sum(axis=1, keepdims=True)
    kept = classes != IGNORED
    total[np.arange(len(start))[kept], classes[kept]] -= 1
    return total * kept[:, np.newaxis]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_average_is_that_along_the_segment(shape: tuple[int, int]) -> None:
    start, _, classes, _ = examples(shape, 1, np.float64)
    end = start + np.random.default_rng(2).normal(size=shape) / 4
    actual = softmax.cross_entropy_average_backward(
        np.ones(()), start, end, classes, None, IGNORED, "sum"
    )
    # Lobatto's quadrature with four nodes has an error of sixth order in steps of 1/4.
    np.testing.assert_allclose(actual, average(start, end, classes), atol=1e-5)


@given(st.sampled_from(SHAPES), seeds, st.sampled_from(DTYPES), st.sampled_from([1e-3, 1, 30, 1e4]))
def test_completeness(shape: tuple[int, int], seed: int, dtype: type, size: float) -> None:
    start, end, classes, weight = examples(shape, seed, dtype, size)
    grad = np.ones(shape[0], dtype)
    x_grad = softmax.cross_entropy_average_backward(
        grad, start, end, classes, weight, IGNORED, "none"
    )
    products = x_grad.astype(np.float64) * (end.astype(np.float64) - start)
    with np.errstate(invalid="ignore"):
        changes = losses_of(end, classes, weight)[0] - losses_of(start, classes, weight)[0]
    # Each element of the gradient is rounded, and so are the logarithms of softmax at both ends.
    scale = np.abs(products).sum(axis=1) + np.abs(start).max(axis=1) + np.abs(end).max(axis=1)
    scale += 1 + 2 * math.log(shape[1])
    limit = 16 * np.finfo(dtype).eps * scale * weight.max()
    assert np.all(np.abs(products.sum(axis=1) - changes) <= limit)


def test_averaged_probabilities_are_positive_complete_and_symmetric() -> None:
    rng = np.random.default_rng(0)
    moves = [10, 30, 100, 1e3]
    for dtype, n in [(dtype, n) for dtype in DTYPES for n in [2, 5, 10, 100]]:
        eps = np.finfo(dtype).eps
        start = rng.normal(size=(2000, n)).astype(dtype) * dtype(3)
        end = (start + rng.choice(moves, (2000, 1)) * rng.normal(size=(2000, n))).astype(dtype)
        p = softmax.average_softmax(start, end)
        wide = p.astype(np.longdouble)
        assert p.min() >= 0
        np.testing.assert_allclose(wide.sum(axis=1), 1, rtol=8 * eps)
        y0, y1 = (log_softmax(x) for x in (start, end))
        scale = 1 + np.abs(y0).max(axis=1) + np.abs(y1).max(axis=1)
        assert np.all(np.abs((wide * (y1 - y0)).sum(axis=1)) <= 8 * eps * scale)
        back = softmax.average_softmax(end, start)
        np.testing.assert_allclose(p, back, rtol=0, atol=64 * eps)


def test_averaged_probabilities_of_long_moves_are_near_the_true_ones() -> None:
    rng = np.random.default_rng(1)
    start = 10 * rng.normal(size=(500, 5))
    end = start + 20 * rng.normal(size=(500, 5))
    p = softmax.average_softmax(start, end)
    true = average(start, end, np.full(500, -1)) + np.eye(5)[np.full(500, -1)]
    errors = np.abs(p - true)
    assert np.median(errors) < 0.01
    assert errors.max() < 0.25


@pytest.mark.parametrize("dtype", DTYPES)
def test_averages_of_classes_that_are_ruled_out_or_come_back(dtype: type) -> None:
    start = np.array([[0, 1, -math.inf], [0, -math.inf, 1], [0, -math.inf, -math.inf]], dtype)
    end = np.array([[2, -3, -math.inf], [0, 2, -math.inf], [-math.inf, 1, 0]], dtype)
    for p in softmax.average_softmax(start, end), softmax.average_softmax(end, start):
        assert np.all(np.isfinite(p) & (p >= 0))
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert softmax.average_softmax(start, end)[0, 2] == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_log_softmax_and_cross_entropy_have_one_average(axis: int) -> None:
    rng = np.random.default_rng(axis)
    logits = ag.tensor(rng.normal(size=(6, 5, 4)), requires_grad=True)
    update = 30 * rng.normal(size=logits.shape)
    classes = rng.integers(0, logits.shape[axis], np.delete(logits.shape, axis))

    def cross_entropy(x: ag.Tensor) -> ag.Tensor:
        return F.cross_entropy(ag.moveaxis(x, axis, 1), classes, reduction="sum")

    def negative_log_likelihood(x: ag.Tensor) -> ag.Tensor:
        logs = ag.moveaxis(F.log_softmax(x, axis), axis, 1)
        return F.nll_loss(logs, classes, reduction="sum")

    averages = []
    for loss_of in cross_entropy, negative_log_likelihood:
        logits.zero_grad()
        loss_of(logits).average_backward({logits: update})
        averages.append(logits.average_grad)
    np.testing.assert_allclose(*averages, rtol=0, atol=1e-13)
    captured = ag.capture(lambda x, y: F.cross_entropy(ag.moveaxis(x, axis, 1), y, reduction="sum"))
    for _ in range(2):
        logits.zero_grad()
        captured(logits, classes).average_backward({logits: update})
        np.testing.assert_array_equal(logits.average_grad, averages[0])


def test_equal_ends_have_the_gradient() -> None:
    start, _, classes, weight = examples((50, 10), 3, np.float64)
    arguments = classes, weight, IGNORED, "mean"
    average = softmax.cross_entropy_average_backward(np.ones(()), start, start, *arguments)
    gradient = softmax.cross_entropy_backward(np.ones(()), start, *arguments)
    np.testing.assert_allclose(average, gradient, rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 100])
def test_infinite_and_equal_logits(n: int, dtype: type) -> None:
    x = np.zeros((3, n), dtype)
    x[0, 1:] = -math.inf  # one class alone
    x[1, 0] = -math.inf  # the label's is ruled out
    classes = np.zeros(3, np.int64)
    arguments = classes, None, IGNORED, "none"
    losses = softmax.cross_entropy(x, *arguments)
    np.testing.assert_allclose(losses, np.array([0, math.inf, math.log(n)], dtype), rtol=1e-6)
    p = np.full((3, n), 1 / n)
    p[0], p[1] = np.arange(n) == 0, (np.arange(n) > 0) / (n - 1)
    expected = p - (np.arange(n) == 0)
    gradient = softmax.cross_entropy_backward(np.ones(3, dtype), x, *arguments)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    average = softmax.cross_entropy_average_backward(np.ones(3, dtype), x, x, *arguments)
    np.testing.assert_allclose(average, expected, atol=1e-6)


@pytest.mark.parametrize("n", [3, 100])
def test_not_a_number_stays_in_its_row_and_out_of_those_left_out(n: int) -> None:
    x = np.zeros((3, n))
    x[:2, 1] = math.nan
    classes = np.array([0, IGNORED, 0])
    losses = softmax.cross_entropy(x, classes, None, IGNORED, "none")
    np.testing.assert_array_equal(np.isnan(losses), [True, False, False])
    gradient = softmax.cross_entropy_backward(np.ones(3), x, classes, None, IGNORED, "none")
    np.testing.assert_array_equal(np.isnan(gradient).any(axis=1), [True, False, False])
    assert not gradient[1].any()


def test_a_weight_of_zero_leaves_an_example_out() -> None:
    logits = ag.tensor([[-math.inf, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = F.cross_entropy(logits, [0, 1], weight=[0.0, 2.0])
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    np.testing.assert_allclose(logits.grad, [[0, 0], [0.5, -0.5]])


def test_without_examples_the_sum_is_zero_and_the_mean_is_none() -> None:
    for target in [IGNORED, IGNORED], []:
        logits = np.zeros((len(target), 3))
        classes = np.array(target, np.int64)
        assert F.cross_entropy(logits, classes, reduction="sum").item() == 0
        assert math.isnan(F.cross_entropy(logits, classes).item())


def test_classes_of_any_integer_type() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 300))
    expected = F.cross_entropy(logits, [0, 1, 200, 255]).item()
    for dtype in np.uint8, np.int16, np.int32, np.uint64:
        assert F.cross_entropy(logits, np.array([0, 1, 200, 255], dtype)).item() == expected


def test_weights_are_constants() -> None:
    weight = ag.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="weight is a constant, but requires a gradient"):
        F.cross_entropy([[0.0, 1.0]], [1], weight)
