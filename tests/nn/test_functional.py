"""Values and gradients of agrad.nn.functional, and of operations NumPy lacks, against PyTorch's."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from agrad.kernels.cpu import planes
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad.backend import Array
from agrad.errors import ChoiceChangedError
from agrad.testing.strategies import LAYOUTS, REAL, layouts, points, seeds, shapes
from agrad.testing.strategies._operations.losses import logits_and_classes, reductions
from agrad.testing.strategies._operations.windows import (
    convolutions,
    lengths,
    poolings,
    transposed_convolutions,
)

torch = pytest.importorskip("torch")
T = torch.nn.functional

ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (F.relu, T.relu),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), lambda x: T.leaky_relu(x, 0.2)),
    "elu": (lambda x: F.elu(x, 1.5), lambda x: T.elu(x, 1.5)),
    "selu": (F.selu, T.selu),
    "tanh": (F.tanh, torch.tanh),
    "sigmoid": (F.sigmoid, torch.sigmoid),
    "softplus": (lambda x: F.softplus(x, 2.0), lambda x: T.softplus(x, 2.0, threshold=700)),
    "softsign": (F.softsign, T.softsign),
    "logsigmoid": (F.logsigmoid, T.logsigmoid),
    "normalize": (lambda x: F.normalize(x, dim=0), lambda x: T.normalize(x, dim=0)),
    "normalize by p": (
        lambda x: F.normalize(x, 3.0, -1, 0.5),
        lambda x: T.normalize(x, 3.0, -1, 0.5),
    ),
    "silu": (F.silu, T.silu),
    "gelu": (F.gelu, T.gelu),
    "gelu by tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: T.gelu(x, approximate="tanh"),
    ),
    "mish": (F.mish, T.mish),
    "hardswish": (F.hardswish, T.hardswish),
    "prelu": (
        lambda x: F.prelu(x, np.array([0.2])),
        lambda x: T.prelu(x, torch.tensor([0.2], dtype=x.dtype)),
    ),
    "glu": (
        lambda x: F.glu(ag.stack([x, x[::-1]]), 0),
        lambda x: T.glu(torch.stack([x, x.flip(0)]), 0),
    ),
    "softmax": (lambda x: F.softmax(x, 0), lambda x: torch.softmax(x, 0)),
    "log_softmax": (lambda x: F.log_softmax(x, -1), lambda x: torch.log_softmax(x, -1)),
    "logsumexp": (lambda x: ag.logsumexp(x, 0), lambda x: torch.logsumexp(x, 0)),
    "abs": (abs, torch.abs),
    "prod": (lambda x: ag.prod(x, 0), lambda x: torch.prod(x, 0)),
    "max": (lambda x: ag.max(x, 0), lambda x: torch.amax(x, 0)),
    "min": (lambda x: ag.min(x, 0), lambda x: torch.amin(x, 0)),
    "maximum": (lambda x: ag.maximum(x, x[::-1]), lambda x: torch.maximum(x, x.flip(0))),
    "std": (lambda x: ag.std(x, 0, ddof=1), lambda x: torch.std(x, 0)),
    "clip": (lambda x: ag.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1)),
}

KINKS = np.array([0.0, 0.0, 1.0, -1.0, 1.0, 0.5])
FAR = np.array([-1e4, -800.0, -90.0, -30.0, 30.0, 90.0, 800.0, 1e4])


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    inputs: tuple[Array, ...],
    seed: int = 0,
    tolerance: float = 1e-13,
) -> None:
    """Compare value and gradients within `tolerance` of the largest element."""
    leaves = [ag.tensor(x, requires_grad=True) for x in inputs]
    # PyTorch knows no negative strides.
    others = [torch.tensor(x.copy(), requires_grad=True) for x in inputs]
    out, other = ours(*leaves), theirs(*others)
    assert out.shape == tuple(other.shape)
    cotangent = np.random.default_rng(seed).normal(size=out.shape).astype(out.dtype)
    out.backward(cotangent)
    other.backward(torch.tensor(cotangent))
    pairs = [(out.data, other.detach().numpy())]
    pairs += [(leaf.grad, x.grad.numpy()) for leaf, x in zip(leaves, others, strict=True)]
    for got, expected in pairs:
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=1)
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=10)
@given(data=st.data(), seed=seeds)
def test_function(name: str, data: Any, seed: int) -> None:
    inputs = data.draw(points((data.draw(shapes(min_dims=1, min_side=2)), REAL)))
    compare(*ACTIVATIONS[name], inputs, seed)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_function_at_kinks_and_ties(name: str) -> None:
    if name == "maximum":  # x and x[::-1] meet in no tie that PyTorch shares otherwise
        compare(*ACTIVATIONS[name], (np.array([0.0, 1.0, 0.0]),))
    elif name != "std":
        compare(*ACTIVATIONS[name], (KINKS,))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS.keys() - {"prod", "std"}))
def test_function_far_out(name: str) -> None:
    """No overflow, no NaN, no warning."""
    compare(*ACTIVATIONS[name], (FAR,))
    ours, _ = ACTIVATIONS[name]
    x = ag.tensor(FAR.astype(np.float32), requires_grad=True)
    out = ours(x)
    out.sum().average_backward({x: -2 * x.data}, retain_graph=True)
    out.sum().backward()
    assert np.isfinite(out.data).all()
    assert np.isfinite(x.grad).all()
    assert np.isfinite(x.average_grad).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_at_infinity(name: str, dtype: Any) -> None:
    ours, theirs = ACTIVATIONS[name]
    x = np.array([-np.inf, np.inf, 1.0], dtype)
    with np.errstate(all="ignore"):
        got = ours(x).data
    np.testing.assert_allclose(got, theirs(torch.tensor(x)).numpy(), rtol=1e-6)


def as_torch(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }


@given(drawn=logits_and_classes(), smoothing=st.sampled_from([0.0, 0.1, 1.0]), seed=seeds)
def test_cross_entropy(drawn: Any, smoothing: float, seed: int) -> None:
    logits, target, options = drawn
    options["label_smoothing"] = smoothing
    compare(
        lambda x: F.cross_entropy(x, target, **options),
        lambda x: T.cross_entropy(x, torch.tensor(target), **as_torch(options)),
        (logits,),
        seed,
    )


@given(drawn=logits_and_classes(), smoothing=st.sampled_from([0.0, 0.1]), seed=seeds)
def test_cross_entropy_of_probabilities(drawn: Any, smoothing: float, seed: int) -> None:
    logits, _, options = drawn
    options.pop("ignore_index", None)
    target = np.random.default_rng(seed).random(logits.shape)
    compare(
        lambda x: F.cross_entropy(x, target, label_smoothing=smoothing, **options),
        lambda x: T.cross_entropy(
            x, torch.tensor(target), label_smoothing=smoothing, **as_torch(options)
        ),
        (logits,),
        seed,
    )


@given(drawn=logits_and_classes(), seed=seeds)
def test_nll_loss(drawn: Any, seed: int) -> None:
    logits, target, options = drawn
    compare(
        lambda x: F.nll_loss(F.log_softmax(x, min(1, x.ndim - 1)), target, **options),
        lambda x: T.nll_loss(
            torch.log_softmax(x, min(1, x.ndim - 1)), torch.tensor(target), **as_torch(options)
        ),
        (logits,),
        seed,
    )


@given(
    shape=shapes(min_dims=1, min_side=1),
    reduction=reductions,
    weights=st.sets(st.sampled_from(["weight", "pos_weight"])),
    seed=seeds,
)
def test_binary_cross_entropy_with_logits(
    shape: Any, reduction: str, weights: set[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    target = rng.random(shape)
    options = {name: rng.uniform(0.5, 2, shape[-1:]) for name in sorted(weights)}
    compare(
        lambda x: F.binary_cross_entropy_with_logits(x, target, reduction=reduction, **options),
        lambda x: T.binary_cross_entropy_with_logits(
            x, torch.tensor(target), reduction=reduction, **as_torch(options)
        ),
        (rng.normal(0, 10, shape),),
        seed,
    )


@given(shape=shapes(min_side=1), reduction=reductions, seed=seeds)
def test_mse_loss(shape: Any, reduction: str, seed: int) -> None:
    inputs = tuple(np.random.default_rng(seed).normal(size=(2, *shape)))
    compare(
        lambda x, y: F.mse_loss(x, y, reduction),
        lambda x, y: T.mse_loss(x, y, reduction=reduction),
        tuple(map(np.asarray, inputs)),
        seed,
    )


@given(shape=shapes(min_dims=1, min_side=1), data=st.data(), affine=st.integers(0, 2), seed=seeds)
def test_layer_norm(shape: Any, data: Any, affine: int, seed: int) -> None:
    count = data.draw(st.integers(1, len(shape)))
    inputs = data.draw(points((shape, REAL), *[(shape[-count:], REAL)] * affine))
    compare(
        lambda x, *rest: F.layer_norm(x, shape[-count:], *rest),
        lambda x, *rest: T.layer_norm(x, shape[-count:], *rest),
        inputs,
        seed,
        tolerance=1e-11,  # of two elements the gradient cancels to eps
    )


@given(batch=shapes(max_dims=2, min_side=0), n=st.integers(1, 3), m=st.integers(1, 3), seed=seeds)
def test_linear(batch: Any, n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = tuple(rng.normal(size=shape) for shape in ((*batch, n), (m, n), (m,)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's on empty tensors
        compare(F.linear, T.linear, inputs, seed)


def test_dropout() -> None:
    ag.seed(0)
    x = ag.tensor(np.ones(10_000), requires_grad=True)
    out = F.dropout(x, 0.3)
    # 10,000 draws: the share kept is within five standard deviations of 0.7.
    assert np.mean(out.data != 0) == pytest.approx(0.7, abs=5 * np.sqrt(0.21 / 10_000))
    np.testing.assert_allclose(out.data[out.data != 0], 1 / 0.7)
    end = out.sum().average_backward({x: np.ones(10_000)}, retain_graph=True)
    assert end == pytest.approx(2 * float(out.data.sum()))  # the same mask
    out.sum().backward()
    np.testing.assert_array_equal(x.grad, out.data)
    np.testing.assert_array_equal(x.average_grad, out.data)
    np.testing.assert_array_equal(F.dropout(x, 0.3, training=False).data, x.data)


# -- windows -------------------------------------------------------------------------------------

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def compare_windows(
    family: str, axes: int, inputs: tuple[Array, ...], options: dict[str, Any]
) -> None:
    """Compare the function for `axes` axes with PyTorch's, for inputs in some layout.

    These are sums of a few dozen products, in any order: 1e-12 of the largest element leaves a
    factor of a hundred above float64's eps, and so does 1e-5 for float32.
    """
    tolerance = 1e-12 if inputs[0].dtype == np.float64 else 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's on "same" with even kernels
        compare(
            lambda *xs: getattr(F, f"{family}{axes}d")(*xs, **options),
            lambda *xs: getattr(T, f"{family}{axes}d")(*xs, **options),
            inputs,
            tolerance=tolerance,
        )


def placed(draw: Any, dtype: Any, *shapes: tuple[int, ...]) -> tuple[Array, ...]:
    inputs = draw(points(*[(shape, REAL) for shape in shapes]))
    return tuple(LAYOUTS[draw(layouts)](array.astype(dtype)) for array in inputs)


@both_dtypes
@given(data=st.data(), drawn=convolutions().filter(lambda drawn: 0 not in drawn[1][0]))
def test_convolution(dtype: Any, data: Any, drawn: Any) -> None:
    axes, shapes, options = drawn
    compare_windows("conv", axes, placed(data.draw, dtype, *shapes), options)


@both_dtypes
@given(data=st.data(), drawn=transposed_convolutions().filter(lambda drawn: 0 not in drawn[1][0]))
def test_transposed_convolution(dtype: Any, data: Any, drawn: Any) -> None:
    axes, shapes, options = drawn
    compare_windows("conv_transpose", axes, placed(data.draw, dtype, *shapes), options)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a tile hold some rows of these images, or some of the smaller images."""
    monkeypatch.setattr(planes, "_BUFFER_BYTES", 2**14)
    planes.layout.cache_clear()
    yield
    planes.layout.cache_clear()


@both_dtypes
@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((2, 3, 70, 90), (5, 3, 3, 3), {"padding": 1}),  # tiles of rows
        ((2, 3, 70, 90), (5, 3, 5, 2), {"stride": (2, 3), "dilation": 2, "padding": (3, 1)}),
        ((70, 16, 7, 6), (4, 16, 3, 3), {}),  # tiles of images
        ((3, 4, 40, 60), (6, 2, 3, 3), {"groups": 2, "padding": "same"}),
        ((2, 6, 9, 9), (6, 1, 3, 3), {"groups": 6, "padding": 1}),  # depthwise
        ((3, 8, 16, 20), (4, 4, 1, 1), {"groups": 2}),  # nothing to lay out
        ((3, 8, 15, 21), (4, 4, 1, 1), {"groups": 2}),
        ((3, 8, 20, 30), (4, 8, 1, 1), {"stride": 2}),
        ((3, 8, 20, 30), (4, 8, 1, 1), {"padding": 1}),
    ],
)
def test_convolution_in_tiles(
    dtype: Any, shape: Any, weight: Any, options: Any, small_tiles: None
) -> None:
    rng = np.random.default_rng(0)
    shapes = shape, weight, weight[:1]
    inputs = tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)
    # sums of up to 12,000 products
    tolerance = 1e-11 if dtype == np.float64 else 1e-4
    compare(
        lambda *xs: F.conv2d(*xs, **options),
        lambda *xs: T.conv2d(*xs, **options),
        inputs,
        tolerance=tolerance,
    )


@both_dtypes
@given(data=st.data(), drawn=poolings().filter(lambda drawn: 0 not in drawn[1]))
def test_max_pool(dtype: Any, data: Any, drawn: Any) -> None:
    axes, shape, options = drawn
    if data.draw(st.booleans()):
        options["dilation"] = data.draw(lengths(axes))
        shape = (*shape[:-axes], *[2 * n for n in shape[-axes:]])
    compare_windows("max_pool", axes, placed(data.draw, dtype, shape), options)


@given(drawn=poolings().filter(lambda drawn: 0 not in drawn[1]), seed=seeds)
def test_max_pool_with_ties_and_infinities(drawn: Any, seed: int) -> None:
    axes, shape, options = drawn
    x = np.random.default_rng(seed).choice([-np.inf, 0.0, 1.0, np.inf], shape)
    compare_windows("max_pool", axes, (x,), options)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("given", [False, True])
def test_max_unpool_puts_elements_where_pooling_found_them(axes: int, given: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 11, 9, 9)[: axes + 2])
    weights = np.random.default_rng(1).standard_normal(x.shape)
    x = x.round(1)  # with equal elements
    size = {"output_size": x.shape[2:]}

    def program(lib: Any, tensor: Any) -> list[Any]:
        pool, unpool = getattr(lib, f"max_pool{axes}d"), getattr(lib, f"max_unpool{axes}d")
        leaf = tensor(x, requires_grad=True)
        pooled, indices = pool(leaf, 3, 3, 1 if given else 0, return_indices=True)
        out = unpool(pooled, indices, 3, 3, 1 if given else 0, **(size if given else {}))
        part = weights[tuple(map(slice, out.shape))]
        (out[tuple(map(slice, part.shape))] * tensor(part)).sum().backward()
        return [pooled.detach(), indices.detach(), out.detach(), leaf.grad]

    for one, other in zip(program(F, ag.tensor), program(T, torch.tensor)):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    single, places = getattr(F, f"max_pool{axes}d")(x[0], 3, return_indices=True)
    assert isinstance(places, np.ndarray)
    assert places.shape == single.shape
    module = getattr(ag.nn, f"MaxPool{axes}d")(3, return_indices=True)
    back = getattr(ag.nn, f"MaxUnpool{axes}d")(3)(*module(x[0]), output_size=x[0].shape)
    assert back.shape == x[0].shape
    np.testing.assert_allclose(back.data.sum(), single.data.sum())
    assert repr(getattr(ag.nn, f"MaxPool{axes}d")(3)).endswith("ceil_mode=False)")


def test_an_average_has_the_same_indices_or_is_refused() -> None:
    start = np.array([[[1.0, 2.0, 5.0, 3.0]]])
    weights = np.arange(4.0)
    for end, same in ((start * [3, 2, 4, 1], True), (start[..., [1, 0, 2, 3]], False)):
        x = ag.tensor(start, requires_grad=True)
        loss = (F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2) * weights).sum()
        if not same:
            with pytest.raises(ChoiceChangedError, match="the outcome of indices"):
                loss.average_backward({x: end - start})
            continue
        before, after = loss.item(), loss.average_backward({x: end - start})
        assert x.average_grad is not None
        np.testing.assert_allclose((x.average_grad * (end - start)).sum(), after - before)


def test_what_cannot_be_unpooled_is_named() -> None:
    x = np.ones((1, 1, 3))
    with pytest.raises(ValueError, match=r"max_unpool1d: indices must have the shape of input"):
        F.max_unpool1d(x, [[[0, 1]]], 2)
    with pytest.raises(ValueError, match="more than once"):
        F.max_unpool1d(x, [[[0, 0, 1]]], 2)
    with pytest.raises(IndexError, match="scatter"):
        F.max_unpool1d(x, [[[0, 1, 6]]], 2)


def test_max_pool_of_nan() -> None:
    x = np.array([[[1.0, np.nan, 2.0, 3.0]]])
    compare(lambda x: F.max_pool1d(x, 2), lambda x: T.max_pool1d(x, 2), (x,))


@both_dtypes
@given(data=st.data(), drawn=poolings().filter(lambda drawn: 0 not in drawn[1]))
def test_avg_pool(dtype: Any, data: Any, drawn: Any) -> None:
    axes, shape, options = drawn
    options["count_include_pad"] = data.draw(st.booleans())
    if axes > 1 and data.draw(st.booleans()):
        options["divisor_override"] = data.draw(st.integers(1, 5))
    compare_windows("avg_pool", axes, placed(data.draw, dtype, shape), options)


@both_dtypes
@given(data=st.data(), drawn=poolings().filter(lambda drawn: 0 not in drawn[1]))
def test_adaptive_avg_pool(dtype: Any, data: Any, drawn: Any) -> None:
    axes, shape, _ = drawn
    options = {"output_size": data.draw(lengths(axes, most=4))}
    compare_windows("adaptive_avg_pool", axes, placed(data.draw, dtype, shape), options)


def test_max_pool_shares_overlapping_windows_exactly() -> None:
    """The largest element of a window changes where lines cross; the shares accumulate."""
    start, end = np.array([[[0.0, 1.0, 0.0]]]), np.array([[[2.0, 0.0, 0.5]]])
    x = ag.tensor(start, requires_grad=True)
    (F.max_pool1d(x, 2, stride=1) * np.array([1.0, 10.0])).sum().average_backward({x: end - start})
    # 2t meets 1 - t at 1/3, and t/2 meets it at 2/3
    expected = [2 / 3, 1 / 3 + 10 * 2 / 3, 10 / 3]
    np.testing.assert_allclose(x.average_grad, [[expected]], rtol=1e-14)


def test_max_pool_chooses_the_first_of_equals_on_average_too() -> None:
    x = ag.tensor(np.zeros((1, 1, 2, 2)), requires_grad=True)
    y = F.max_pool2d(x, 2).sum()
    y.average_backward({x: np.ones(x.shape)}, retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.average_grad, [[[[1, 0], [0, 0]]]])
    np.testing.assert_array_equal(x.average_grad, x.grad)


# -- batch normalization -------------------------------------------------------------------------


@both_dtypes
@given(shape=shapes(min_dims=2, max_dims=4, min_side=1), affine=st.integers(0, 2), data=st.data())
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(dtype: Any, training: bool, shape: Any, affine: int, data: Any) -> None:
    shape = (shape[0] + 2, *shape[1:])
    seed, momentum = data.draw(seeds), data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    rng = np.random.default_rng(seed)
    running = [rng.normal(size=shape[1]), rng.uniform(0.5, 2, shape[1])]
    ours = [ag.tensor(values.astype(dtype)) for values in running]
    theirs = [torch.tensor(values.astype(dtype)) for values in running]
    options = {"training": training, "momentum": momentum, "eps": 0.01}
    compare(
        lambda x, *rest: F.batch_norm(x, *ours, *rest, **options),
        lambda x, *rest: T.batch_norm(x, *theirs, *rest, **options),
        placed(data.draw, dtype, shape, *[shape[1:2]] * affine),
        seed,
        tolerance=1e-11 if dtype == np.float64 else 1e-4,  # centred values cancel
    )
    for array, known in zip(ours, theirs, strict=True):
        tolerance = 1e-12 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(array.data, known.numpy(), rtol=tolerance, atol=tolerance)


def test_batch_norm_keeps_its_statistics_through_sweeps() -> None:
    mean, var = ag.tensor([0.0, 0.0]), ag.tensor([1.0, 1.0])
    x = ag.tensor(np.random.default_rng(0).normal(size=(5, 2)), requires_grad=True)
    loss = ag.square(F.batch_norm(x, mean, var, training=True) + 1).sum()
    after = mean.data.copy(), var.data.copy()
    assert (after[0] != 0).all()
    loss.average_backward({x: np.ones(x.shape)}, segments=3, retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(mean.data, after[0])
    np.testing.assert_array_equal(var.data, after[1])


@pytest.mark.parametrize("eps", [-1e-5, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batch_norm", {"running_mean": None, "running_var": None, "training": True}),
        ("batch_norm", {"running_mean": ag.zeros(4), "running_var": ag.ones(4)}),
        ("instance_norm", {}),
        ("group_norm", {"num_groups": 2}),
        ("layer_norm", {"normalized_shape": 5}),
        ("rms_norm", {"normalized_shape": 5}),
        ("normalize", {}),
    ],
)
def test_an_eps_that_makes_no_number_is_refused(name: str, options: Any, eps: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: eps must not be negative, got"):
        getattr(F, name)(np.ones((3, 4, 5)), **options, eps=eps)


@pytest.mark.parametrize("beta", [0, -1.0, float("nan"), float("inf")])
def test_softplus_needs_a_positive_beta(beta: float) -> None:
    with pytest.raises(ValueError, match="softplus: beta must be positive, got"):
        F.softplus([1.0], beta)


def test_batch_norm_refused_leaves_its_statistics() -> None:
    mean, var = ag.tensor([0.0, 0.0]), ag.tensor([1.0, 1.0])
    for x, weight in ((np.ones((1, 2)), None), (np.ones((3, 2)), np.ones(3))):
        with pytest.raises(ValueError, match="batch_norm"):
            F.batch_norm(x, mean, var, weight, training=True)
    np.testing.assert_array_equal(mean.data, [0, 0])
    np.testing.assert_array_equal(var.data, [1, 1])


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (3,)], ids=str)
@pytest.mark.parametrize("left_out", ["ignored", "without weight"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, None], ids=["hard", "smooth", "nll_loss"])
def test_without_counted_examples_gradients_are_zero(
    smoothing: float | None, left_out: str, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    x = ag.tensor(rng.normal(size=shape), requires_grad=True)
    target = np.full(np.delete(shape, min(1, len(shape) - 1)), -100)
    weight = None
    if left_out == "without weight":
        target[...], weight = 1, [1.0, 0.0, 1.0]

    def loss_of(x: ag.Tensor, target: Any) -> ag.Tensor:
        if smoothing is None:
            return F.nll_loss(x, target, weight)
        return F.cross_entropy(x, target, weight, label_smoothing=smoothing)

    for function in loss_of, *([] if weight else [ag.capture(loss_of)]):
        if weight and smoothing:
            continue  # the weights of the other classes count
        x.zero_grad()
        loss = function(x, target)
        assert math.isnan(loss.item())
        loss.backward()
        np.testing.assert_array_equal(x.grad, np.zeros(shape))


OF_EACH_ELEMENT: dict[str, Callable[..., ag.Tensor]] = {
    name: getattr(F, name)
    for name in [
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "tanh",
        "sigmoid",
        "softplus",
        "softsign",
        "silu",
        "gelu",
    ]
}


@pytest.mark.parametrize("name", OF_EACH_ELEMENT)
def test_activations_take_integers_as_float32_and_keep_floats(name: str) -> None:
    function, values = OF_EACH_ELEMENT[name], [[1, -2, 0], [True, False, True]]
    for row in values:
        expected = function(np.array(row, np.float32)).data
        for integers in row, np.array(row), np.array(row).astype(np.int8), ag.tensor(row):
            result = function(integers)
            assert result.dtype == np.float32
            np.testing.assert_array_equal(result.data, expected)
    exact = function(np.array([1.0, -2.0, 0.0])).data
    for dtype in np.float16, np.longdouble:
        result = function(np.array([1, -2, 0], dtype))
        assert result.dtype == dtype
        np.testing.assert_allclose(result.data.astype(np.float64), exact, rtol=2e-3)


def test_dropout_scales_integers() -> None:
    ag.seed(0)
    result = F.dropout(np.ones(1000, np.int64), 0.75)
    assert result.dtype == F.dropout([1, 2], training=False).dtype == np.float32
    np.testing.assert_array_equal(np.unique(result.data), [0, 4])
