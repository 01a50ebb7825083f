"""Losses against PyTorch's: values, gradients, averages, captures, limits and wrong input."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.backend import Array
from agrad.testing.strategies import seeds

torch = pytest.importorskip("torch")
T = torch.nn.functional


class Loss(NamedTuple):
    """A loss: its names in `functional` and as a module, its drawn arguments, and its options."""

    name: str
    module: str
    arguments: Callable[[np.random.Generator], list[Array]]
    options: dict[str, Any]


def real(rng: np.random.Generator) -> Array:
    return 2 * rng.normal(size=(4, 3))


def share(rng: np.random.Generator) -> Array:
    return rng.uniform(0.02, 0.98, (4, 3))


def signs(rng: np.random.Generator, shape: Any = (4, 3)) -> Array:
    return rng.choice([-1.0, 1.0], shape)


LOSSES = [
    Loss("l1_loss", "L1Loss", lambda r: [real(r), real(r)], {}),
    Loss("mse_loss", "MSELoss", lambda r: [real(r), real(r)], {}),
    Loss("huber_loss", "HuberLoss", lambda r: [real(r), real(r)], {"delta": 0.7}),
    Loss("smooth_l1_loss", "SmoothL1Loss", lambda r: [real(r), real(r)], {"beta": 1.7}),
    Loss("smooth_l1_loss", "SmoothL1Loss", lambda r: [real(r), real(r)], {"beta": 0.0}),
    Loss("binary_cross_entropy", "BCELoss", lambda r: [share(r), share(r)], {}),
    Loss("kl_div", "KLDivLoss", lambda r: [real(r), share(r)], {}),
    Loss("kl_div", "KLDivLoss", lambda r: [real(r), real(r)], {"log_target": True}),
    Loss(
        "gaussian_nll_loss",
        "GaussianNLLLoss",
        lambda r: [real(r), real(r), share(r)],
        {"full": True, "eps": 1e-3},
    ),
    Loss("gaussian_nll_loss", "GaussianNLLLoss", lambda r: [real(r), real(r), share(r)[:, 0]], {}),
    Loss("poisson_nll_loss", "PoissonNLLLoss", lambda r: [real(r), r.poisson(2.0, (4, 3))], {}),
    Loss(
        "poisson_nll_loss",
        "PoissonNLLLoss",
        # PyTorch's gradient is NaN for a target of 0.
        lambda r: [share(r), np.maximum(r.poisson(2.0, (4, 3)), 1.0)],
        {"log_input": False, "full": True},
    ),
    Loss(
        "hinge_embedding_loss",
        "HingeEmbeddingLoss",
        lambda r: [real(r), signs(r)],
        {"margin": 1.5},
    ),
    Loss(
        "cosine_embedding_loss",
        "CosineEmbeddingLoss",
        lambda r: [real(r), real(r), signs(r, 4)],
        {"margin": 0.1},
    ),
    Loss(
        "triplet_margin_loss",
        "TripletMarginLoss",
        lambda r: [real(r), real(r), real(r)],
        {"margin": 2.0, "swap": True},
    ),
    Loss(
        "triplet_margin_loss",
        "TripletMarginLoss",
        lambda r: [real(r), real(r), real(r)],
        {"p": 3.0},
    ),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name}{loss.options}")


def assert_near(found: Array, expected: Array, tolerance: float) -> None:
    scale = np.abs(expected).max(initial=1e-30)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@every_loss
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")
@settings(max_examples=6)
@given(
    seed=seeds,
    dtype=st.sampled_from([np.float32, np.float64]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_values_and_gradients_are_pytorchs(
    loss: Loss, seed: int, dtype: Any, reduction: str
) -> None:
    """To 1e-5 in float32 and 1e-10 in float64 of the largest element."""
    rng = np.random.default_rng(seed)
    arguments = [np.asarray(x, dtype) for x in loss.arguments(rng)]
    options = loss.options | {"reduction": reduction}
    leaves = [ag.tensor(x, requires_grad=True) for x in arguments]
    others = [torch.tensor(x, requires_grad=True) for x in arguments]
    out = getattr(F, loss.name)(*leaves, **options)
    expected = getattr(T, loss.name)(*others, **options)
    assert (out.shape, out.dtype) == (tuple(expected.shape), dtype)
    cotangent = np.asarray(rng.normal(size=out.shape)).astype(dtype)
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    module = getattr(nn, loss.module)(**options)
    np.testing.assert_array_equal(module(*arguments).data, out.data)
    assert_near(out.data, expected.detach().numpy(), tolerance)
    out.backward(cotangent)
    expected.backward(torch.tensor(cotangent))
    for i, (leaf, other) in enumerate(zip(leaves, others, strict=True)):
        are_signs = loss.module in ("HingeEmbeddingLoss", "CosineEmbeddingLoss")
        if other.grad is not None and not (are_signs and i == len(leaves) - 1):
            assert_near(leaf.grad, other.grad.numpy(), tolerance)


@every_loss
@settings(max_examples=4)
@given(seed=seeds)
def test_averages_are_complete_and_captures_the_same(loss: Loss, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arguments, ends = loss.arguments(rng), loss.arguments(rng)
    function = getattr(F, loss.name)
    moving = 1 if loss.name in ("hinge_embedding_loss", "poisson_nll_loss") else 2
    results = []
    for captured in False, True:
        if captured and loss.options.get("full") and loss.name == "poisson_nll_loss":
            continue
        leaves = [ag.tensor(1.0 * x, requires_grad=i < moving) for i, x in enumerate(arguments)]

        def of(*inputs: Any) -> ag.Tensor:
            return function(*inputs, **loss.options)

        value = (ag.capture(of) if captured else of)(*leaves)
        updates = {x: end - x.data for x, end in zip(leaves[:moving], ends, strict=False)}
        end = value.average_backward(updates, retain_graph=True)
        value.backward()
        change = sum((x.average_grad * update).sum() for x, update in updates.items())
        scale = sum(np.abs(x.average_grad * update).sum() for x, update in updates.items())
        assert abs(change - (float(end) - value.item())) <= 1e-10 * (scale + abs(value.item()))
        gradients = [g.tobytes() for x in updates for g in (x.grad, x.average_grad)]
        results.append([value.data.tobytes(), end.tobytes(), *gradients])
    assert results[0] == results[-1]


def test_batchmean_is_the_divergence() -> None:
    rng = np.random.default_rng(0)
    x, y = real(rng), share(rng)
    expected = T.kl_div(torch.tensor(x), torch.tensor(y), reduction="batchmean").item()
    assert F.kl_div(x, y, reduction="batchmean").item() == pytest.approx(expected, rel=1e-14)
    assert F.kl_div([0.0], [0.0]).item() == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_average_of_huber_for_close_ends(dtype: Any) -> None:
    """It is the mean of the clipped difference, to a few ulps however close the ends are."""
    x = np.array([-3.0, -0.7, 0.1, 0.7, 2.0, -1.0], dtype)
    steps = [(x * 4 * np.finfo(dtype).eps).astype(dtype), np.array([5, 0.1, 0, -2, 1e-3, 2], dtype)]
    for step in steps:
        end = x + step
        leaf = ag.tensor(x, requires_grad=True)
        F.huber_loss(leaf, np.zeros(6, dtype), "sum", 0.7).average_backward({leaf: end - x})
        a, b, bound = x.astype(np.longdouble), end.astype(np.longdouble), np.longdouble(dtype(0.7))

        def huber(x: Any, bound: Any = bound) -> Any:
            return np.where(abs(x) < bound, x * x / 2, bound * (abs(x) - bound / 2))

        quotient = (huber(b) - huber(a)) / np.where(a == b, 1, b - a)
        middle = np.clip((a + b) / 2, -bound, bound)
        exact = np.where(abs(b - a) < 1e-4, middle, quotient)
        np.testing.assert_allclose(leaf.average_grad, exact, rtol=8 * np.finfo(dtype).eps)


def test_cross_entropy_of_certain_probabilities() -> None:
    x, y = np.array([0.0, 1.0, 0.0, 1.0, 0.5]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    leaf, other = ag.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out = F.binary_cross_entropy(leaf, y, reduction="none")
    expected = T.binary_cross_entropy(other, torch.tensor(y), reduction="none")
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-15)
    loss = out.sum()
    end = loss.average_backward({leaf: [0.5, -0.5, 0.25, -1.0, 0.5]}, retain_graph=True)
    change = (leaf.average_grad * [0.5, -0.5, 0.25, -1.0, 0.5]).sum()
    assert change == pytest.approx(float(end) - loss.item(), rel=1e-12)
    loss.backward()
    expected.sum().backward()
    # PyTorch's bound of 1e-12 is in single precision.
    np.testing.assert_allclose(leaf.grad, other.grad.numpy(), rtol=1e-8)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, np.inf])
def test_distances_and_similarities_are_pytorchs(p: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 3))
    ours, theirs = (x, y), (torch.tensor(x), torch.tensor(y))
    for name, module, options in [
        ("pairwise_distance", "PairwiseDistance", {"p": p, "keepdim": True}),
        ("cosine_similarity", "CosineSimilarity", {"dim": 0}),
    ]:
        expected = getattr(T, name)(*theirs, **options).numpy()
        assert_near(getattr(F, name)(*ours, **options).data, expected, 1e-13)
        assert_near(getattr(nn, module)(**options)(*ours).data, expected, 1e-13)
    zero = ag.tensor(np.zeros((1, 2)), requires_grad=True)
    F.cosine_similarity(zero, [[1.0, 2.0]]).sum().backward()
    assert np.isfinite(zero.grad).all()


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(
    "shapes", [((2, 1), (2, 3)), ((3,), (2, 3)), ((1, 3), (2, 1)), ((2, 3), ())]
)
def test_similarities_broadcast_as_pytorchs(shapes: Any, dim: int) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape) for shape in shapes)
    expected = T.cosine_similarity(torch.tensor(x), torch.tensor(y), dim=dim).numpy()
    assert_near(F.cosine_similarity(x, y, dim=dim).data, expected, 1e-13)


# -- CTC -----------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    seed=seeds,
    dtype=st.sampled_from([np.float32, np.float64]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    joined=st.booleans(),
    blank=st.sampled_from([0, 2]),
)
def test_ctc_is_pytorchs(seed: int, dtype: Any, reduction: str, joined: bool, blank: int) -> None:
    """After a log_softmax, to 1e-4 in float32 and 1e-10 in float64; complete to 1e-10."""
    rng = np.random.default_rng(seed)
    times, count, most = rng.integers(1, 9), rng.integers(1, 4), rng.integers(1, 4)
    x = rng.normal(size=(times, count, 4)).astype(dtype)
    targets = rng.choice([c for c in range(4) if c != blank], (count, most))
    lengths, label_lengths = rng.integers(1, times + 1, count), rng.integers(0, most + 1, count)
    if joined:
        targets = np.concatenate([row[:n] for row, n in zip(targets, label_lengths, strict=True)])
    constants = targets, lengths, label_lengths
    leaf, other = ag.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    options = {"blank": blank, "reduction": reduction, "zero_infinity": True}
    out = F.ctc_loss(F.log_softmax(leaf, 2), *constants, **options)
    expected = T.ctc_loss(torch.log_softmax(other, 2), *map(torch.tensor, constants), **options)
    assert (out.shape, out.dtype) == (tuple(expected.shape), dtype)
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    assert_near(out.data, expected.detach().numpy(), tolerance)
    update = rng.normal(size=x.shape).astype(dtype)
    loss = out.sum()
    end = loss.average_backward({leaf: update}, retain_graph=True)
    if dtype == np.float64:
        change = (leaf.average_grad * update).sum()
        assert abs(change - (float(end) - loss.item())) <= 1e-10 * (1 + abs(loss.item()))
    loss.backward()
    expected.sum().backward()
    assert_near(leaf.grad, other.grad.numpy(), tolerance)


def test_ctc_of_one_sequence_and_of_an_impossible_one() -> None:
    rng = np.random.default_rng(0)
    logs = F.log_softmax(rng.normal(size=(5, 4)), 1)
    single = F.ctc_loss(logs, [1, 3], 5, 2, reduction="none")
    batch = F.ctc_loss(logs.reshape(5, 1, 4), [[1, 3]], [5], [2], reduction="none")
    assert single.shape == ()
    assert single.item() == batch.item()
    # Two equal labels need a blank between them.
    leaf = ag.tensor(logs[:2].data, requires_grad=True)
    for zero_infinity, loss in (False, np.inf), (True, 0.0):
        out = nn.CTCLoss(zero_infinity=zero_infinity)(leaf, [1, 1], 2, 2)
        assert out.item() == loss
    out.backward()
    np.testing.assert_array_equal(leaf.grad, np.zeros((2, 4)))


def test_a_captured_ctc_takes_its_labels_as_arguments() -> None:
    rng = np.random.default_rng(0)

    def loss_of(x: Any, *constants: Any) -> ag.Tensor:
        return F.ctc_loss(F.log_softmax(x, 2), *constants)

    captured = ag.capture(loss_of)
    for _ in range(2):
        x, labels = rng.normal(size=(6, 2, 4)), rng.integers(1, 4, (2, 2))
        constants = labels, np.array([6, 5]), np.array([2, 1])
        leaf = ag.tensor(x, requires_grad=True)
        out = captured(leaf, *map(ag.tensor, constants))
        assert out.item() == loss_of(ag.tensor(x), *constants).item()
    with pytest.raises(ValueError, match="ctc_loss: targets must be classes"):
        captured(leaf, *map(ag.tensor, (0 * labels, *constants[1:])))


# -- errors --------------------------------------------------------------------------------------

x43 = np.ones((4, 3))
logs = np.zeros((5, 2, 4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.l1_loss(x43, x43[0]), ValueError, r"l1_loss: target .*\(4, 3\), got \(3,\)"),
        (lambda: F.l1_loss(x43, x43, "avg"), ValueError, "l1_loss: reduction.*avg"),
        (lambda: F.huber_loss(x43, x43, delta=0), ValueError, "huber_loss: delta.*0"),
        (lambda: F.smooth_l1_loss(x43, x43, beta=-1), ValueError, "smooth_l1_loss: beta.*-1"),
        (lambda: F.binary_cross_entropy(2 * x43, x43), ValueError, "binary_.*: input.*1, got 2"),
        (lambda: F.binary_cross_entropy(x43, -x43), ValueError, "binary_.*: target.*got -1"),
        (
            lambda: F.binary_cross_entropy(x43, x43, weight=[1.0, 2.0]),
            ValueError,
            r"binary_cross_entropy: weight .*\(4, 3\), got \(2,\)",
        ),
        (lambda: F.binary_cross_entropy([1], [1]), TypeError, "binary_.*int64"),
        (lambda: F.kl_div(x43, -x43), ValueError, "kl_div: target must be at least 0, got -1"),
        (lambda: F.gaussian_nll_loss(x43, x43, -x43), ValueError, "gaussian_nll_loss: var.*-1"),
        (lambda: F.gaussian_nll_loss(x43, x43, x43[0]), ValueError, r"var must have.*got \(3,\)"),
        (lambda: F.gaussian_nll_loss(x43, x43, x43, eps=0), ValueError, "eps must be positive"),
        (lambda: F.poisson_nll_loss(x43, x43[:1]), ValueError, r"poisson.*\(4, 3\), got \(1, 3\)"),
        (lambda: F.hinge_embedding_loss(x43, 0 * x43), ValueError, "hinge.*-1 or 1, got 0"),
        (
            lambda: F.cosine_embedding_loss(x43, x43, np.ones(3)),
            ValueError,
            r"cosine_embedding_loss: target .*\(4,\), got \(3,\)",
        ),
        (lambda: F.triplet_margin_loss(x43, x43, x43[:2]), ValueError, r"negative.*\(2, 3\)"),
        (lambda: F.ctc_loss(x43[0], [1], 1, 1), ValueError, r"ctc_loss: log_probs.*\(3,\)"),
        (lambda: F.ctc_loss(logs, [[1], [9]], [5, 5], [1, 1]), ValueError, "targets.*0 to 3.*9"),
        (lambda: F.ctc_loss(logs, [[1], [0]], [5, 5], [1, 1]), ValueError, "blank, 0, got 0"),
        (lambda: F.ctc_loss(logs, [[1], [2]], [6, 5], [1, 1]), ValueError, "input_lengths.*5.*6"),
        (lambda: F.ctc_loss(logs, [[1], [2]], [5, 5], [1, 2]), ValueError, "target_lengths.*2"),
        (lambda: F.ctc_loss(logs, [1, 2, 3], [5, 5], [1, 1]), ValueError, r"has 3.*\[1, 1\]"),
        (lambda: F.ctc_loss(logs, [[1], [2]], [5], [1, 1]), ValueError, r"input_lengths.*\(2,\)"),
        (lambda: F.ctc_loss(logs, [[1.0], [2]], [5, 5], [1, 1]), TypeError, "targets.*float"),
        (lambda: F.ctc_loss(logs, [[1], [2]], [5, 5], [1, 1], blank=4), ValueError, "blank.*4"),
    ],
)
def test_wrong_arguments_are_named(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["l1_loss", "mse_loss", "huber_loss", "smooth_l1_loss"])
def test_small_integers_do_not_wrap_around(name: str) -> None:
    one, three = np.array([1], np.uint8), np.array([3], np.uint8)
    with pytest.raises(TypeError, match=f"{name}: input - target must be floating-point, not"):
        getattr(F, name)(one, three)


@pytest.mark.parametrize("name", ["cosine_similarity", "pairwise_distance", "triplet_margin_loss"])
def test_distances_of_integers_are_refused(name: str) -> None:
    vectors = [np.array([[1, 200]], np.uint8)] * (3 if name.startswith("triplet") else 2)
    with pytest.raises(TypeError, match=f"{name}: (x1|anchor) must be floating-point, not uint8"):
        getattr(F, name)(*vectors)


def test_vectors_of_zeros_have_finite_gradients() -> None:
    for p in (0.5, 1.5, 3.0):
        ours = ag.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 3.0]], requires_grad=True)
        theirs = torch.tensor(ours.numpy(), requires_grad=True)
        F.normalize(ours, p=p).sum().backward()
        T.normalize(theirs, p=p).sum().backward()
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
        ours.grad = theirs.grad = None
        ag.linalg.norm(ours, ord=p, axis=1).sum().backward()
        torch.linalg.norm(theirs, ord=p, dim=1).sum().backward()
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-5)


@pytest.mark.parametrize("bound", [math.inf, math.nan, -1.0, 0.0])
def test_the_bound_of_huber_is_a_positive_number(bound: float) -> None:
    with pytest.raises(ValueError, match="huber_loss: delta must be positive"):
        F.huber_loss([1.0], [2.0], delta=bound)
    if bound:
        with pytest.raises(ValueError, match="smooth_l1_loss: beta must not be negative"):
            F.smooth_l1_loss([1.0], [2.0], beta=bound)


def test_ctc_without_any_times() -> None:
    x = ag.tensor(np.zeros((0, 2, 3)), requires_grad=True)
    labels, lengths = np.zeros((2, 0), int), [0, 0]
    loss = F.ctc_loss(x, labels, lengths, lengths, reduction="sum")
    loss.backward(retain_graph=True)
    assert loss.average_backward({x: np.zeros((0, 2, 3))}) == loss.item() == 0
    assert x.grad.shape == x.average_grad.shape == (0, 2, 3)
