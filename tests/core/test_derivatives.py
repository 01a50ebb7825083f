"""Gradients that have graphs: higher derivatives, against PyTorch and by their properties."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch import needs_torch, torch

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.backend import Array
from agrad.core.tensor import apply
from agrad.errors import (
    AnomalyError,
    CaptureError,
    ChoiceChangedError,
    FreedGraphError,
    HigherDerivativeError,
)
from agrad.ops.activation import Tanh
from agrad.ops.operation import Elementwise
from agrad.testing import check_gradients
from agrad.testing.strategies import seeds

few = settings(max_examples=5)


def leaf(values: Any, dtype: Any = np.float64) -> ag.Tensor:
    return ag.tensor(np.asarray(values, dtype), requires_grad=True)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


# -- networks, in agrad and in PyTorch -------------------------------------------------------------


def dense(f: Any, x: Any, *weights: Any) -> Any:
    w1, b1, w2, b2 = weights
    return f.gelu(f.linear(f.tanh(f.linear(x, w1, b1)), w2, b2)) @ w1.T @ w2.T


def convolutional(f: Any, x: Any, *weights: Any) -> Any:
    w1, b1, w2, b2 = weights
    images = x.reshape(4, 1, 1, 5) * x.reshape(4, 1, 5, 1)
    maps = f.conv2d(images, w1.reshape(3, 1, 5, 1), b1[:3], padding=2)
    maps = f.max_pool2d(f.silu(maps), 2)
    return f.conv2d(maps, w2.reshape(5, 3, 1, 1), b2, stride=2).mean((2, 3))


def recurrent(f: Any, x: Any, *weights: Any) -> Any:
    w1, b1, w2, b2 = weights
    state = 0 * x[:, :3]
    for i in range(3):
        gate = f.sigmoid(f.linear(x[:, i : i + 3], w2[:3], b2[:3]))
        state = gate * state + (1 - gate) * f.tanh(f.linear(x, w1, b1))
    return state @ w1


def attentive(f: Any, x: Any, *weights: Any) -> Any:
    w1, b1, w2, b2 = weights
    tokens = f.layer_norm(x[:, :, None] * w2 + w1.mT, (3,), b1, b1)
    scores = f.softmax(tokens @ tokens.mT / 3**0.5, -1)
    return (scores @ tokens).sum(-1) + f.log_softmax(x + b2, -1)


NETWORKS = [dense, convolutional, recurrent, attentive]
every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)


class Ours:
    """agrad's versions of the functions that both libraries have."""

    tanh = staticmethod(ag.tanh)

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)


def drawn(seed: int) -> list[Array]:
    """Return an input (4, 5), and weights (3, 5), (3,), (5, 3), (5,)."""
    return [
        normal(seed + i, *shape) for i, shape in enumerate([(4, 5), (3, 5), (3,), (5, 3), (5,)])
    ]


def loss_of(network: Callable[..., Any], f: Any, classes: Any, *tensors: Any) -> Any:
    return f.cross_entropy(network(f, *tensors), classes)


def close(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    for a, b in zip(ours, theirs, strict=True):
        a, b = (np.asarray(getattr(x, "data", x)) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (np.abs(b).max() + 1e-3))


@needs_torch
@every_network
def test_double_backward_agrees_with_pytorch(network: Any) -> None:
    for seed in range(3):
        arrays, vectors = drawn(seed), drawn(seed + 100)
        classes = np.array([0, 1, 2, 4])
        mine = [leaf(array) for array in arrays]
        theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
        torch_f = torch.nn.functional
        gradients = ag.grad(loss_of(network, Ours(), classes, *mine), mine, create_graph=True)
        expected = torch.autograd.grad(
            loss_of(network, torch_f, torch.tensor(classes), *theirs), theirs, create_graph=True
        )
        close(gradients, [g.detach().numpy() for g in expected])
        # A penalty on the gradient, and the product of the Hessian with a vector.
        penalty = sum((g * g).sum() for g in gradients)
        their_penalty = sum((g * g).sum() for g in expected)
        close(
            ag.grad(penalty, mine, retain_graph=True),
            [g.numpy() for g in torch.autograd.grad(their_penalty, theirs, retain_graph=True)],
        )
        tensors = [torch.tensor(v) for v in vectors]
        close(
            ag.grad(gradients, mine, vectors),
            [g.numpy() for g in torch.autograd.grad(expected, theirs, tensors)],
        )


@every_network
def test_third_derivatives_agree_with_differences(network: Any) -> None:
    x, *weights = drawn(7)

    @ag.enable_grad()
    def curvature(x: ag.Tensor, w: ag.Tensor) -> ag.Tensor:
        loss = loss_of(network, Ours(), np.array([0, 1, 2, 4]), x, w, *weights[1:])
        (product,) = ag.hvp(loss, x, normal(3, 4, 5), create_graph=True)
        return product

    check_gradients(curvature, x, weights[0], directions=1)


@every_network
def test_gradients_have_complete_averages(network: Any) -> None:
    tensors = [leaf(array) for array in drawn(5)]
    updates = {t: 0.01 * normal(i, *t.shape) for i, t in enumerate(tensors)}
    loss = loss_of(network, Ours(), np.array([0, 1, 2, 4]), *tensors)
    penalty = sum((g * g).sum() for g in ag.grad(loss, tensors, create_graph=True))
    end = penalty.average_backward(updates)
    shares = [(t.average_grad * update).sum() for t, update in updates.items()]
    assert sum(shares) == pytest.approx(end - penalty.item(), abs=1e-10 * np.abs(shares).sum())


def test_a_gradient_whose_choices_change_has_no_average() -> None:
    x = leaf([-1.0, 2.0])
    outputs = [(F.relu(x * x * x), "greater"), (x[np.argsort([0, 1])].max() * x, "equal")]
    outputs.append((F.max_pool1d((x * x * x).reshape(1, 1, 2), 2) + x, "places"))
    outputs += [(ag.sort(x * x), "ranks"), (ag.remainder(5.0, x), "floor_divide")]
    for out, name in outputs:
        (slope,) = ag.grad(out.sum(), x, create_graph=True)
        with pytest.raises(ChoiceChangedError, match=f"the outcome of {name}"):
            (slope * x).sum().average_backward({x: [4.0, 0.0]})


def test_a_layer_in_float32() -> None:
    """Within 400 ulps: each of two sweeps sums some hundred terms."""
    arrays, results = drawn(2), []
    for dtype in (np.float32, np.float64):
        tensors = [leaf(array, dtype) for array in arrays]
        loss = loss_of(dense, Ours(), np.array([0, 1, 2, 4]), *tensors)
        products = ag.hvp(loss, tensors, [array.astype(dtype) for array in arrays])
        assert {product.dtype for product in products} == {np.dtype(dtype)}
        results.append(products)
    close(*results, tolerance=400 * np.finfo(np.float32).eps)


# -- properties ------------------------------------------------------------------------------------


@few
@given(seed=seeds, network=st.sampled_from(NETWORKS))
def test_the_hessian_is_symmetric(seed: int, network: Any) -> None:
    tensors = [leaf(array) for array in drawn(seed)]
    vectors, others = drawn(seed + 1), drawn(seed + 2)
    loss = loss_of(network, Ours(), np.array([0, 1, 2, 4]), *tensors)
    products = [ag.hvp(loss, tensors, v, retain_graph=True) for v in (vectors, others)]

    def inner(found: Any, arrays: Any) -> Array:
        return np.array([np.vdot(p.data, v) for p, v in zip(found, arrays)])

    one, other = inner(products[0], others), inner(products[1], vectors)
    assert one.sum() == pytest.approx(other.sum(), abs=1e-10 * (np.abs(one).sum() + 1e-3))


@few
@given(seed=seeds, network=st.sampled_from([dense, recurrent, attentive]))
def test_hvp_is_the_difference_quotient_of_gradients(seed: int, network: Any) -> None:
    arrays, vectors = drawn(seed), drawn(seed + 1)

    def gradients(step: float) -> Any:
        moved = [leaf(array + step * v) for array, v in zip(arrays, vectors)]
        return ag.grad(loss_of(network, Ours(), np.array([0, 1, 2, 4]), *moved), moved)

    tensors = [leaf(array) for array in arrays]
    loss = loss_of(network, Ours(), np.array([0, 1, 2, 4]), *tensors)
    differences = [
        (8 * (a.data - b.data) - (c.data - d.data)) / 1.2e-2
        for a, b, c, d in zip(*[gradients(h) for h in (1e-3, -1e-3, 2e-3, -2e-3)])
    ]
    products = ag.hvp(loss, tensors, vectors)
    # The error of the quotient is of fourth order in h, 1e-12 at a scale of 1/10.
    largest = max(np.abs(d).max() for d in differences)
    for product, difference in zip(products, differences):
        assert np.abs(product.data - difference).max() <= 1e-6 * largest


@few
@given(seed=seeds, network=st.sampled_from(NETWORKS))
def test_jvp_is_dual_to_the_gradient(seed: int, network: Any) -> None:
    arrays, tangents, cotangent = drawn(seed), drawn(seed + 1), normal(seed + 2, 4, 5)
    value, moved = ag.jvp(lambda *xs: network(Ours(), *xs), tuple(arrays), tuple(tangents))
    tensors = [leaf(array) for array in arrays]
    out = network(Ours(), *tensors)
    np.testing.assert_array_equal(value.data, out.data)
    pulled = ag.grad(out, tensors, cotangent, allow_unused=True)
    terms = [np.vdot(g.data, t) for g, t in zip(pulled, tangents) if g is not None]
    assert np.vdot(cotangent, moved.data) == pytest.approx(
        sum(terms), abs=1e-10 * (np.abs(terms).sum() + 1e-3)
    )
    assert [value.requires_grad, moved.requires_grad] == [False, False]


def test_jacobian_and_hessian() -> None:
    weight = normal(0, 3, 2)
    jacobian = ag.jacobian(lambda x: weight @ x * x[0], normal(1, 2))
    x = normal(1, 2)
    expected = weight * x[0] + np.outer(weight @ x, [1.0, 0.0])
    np.testing.assert_allclose(jacobian.data, expected, rtol=1e-13)
    matrix = normal(2, 2, 2, 2, 2)
    hessian = ag.hessian(lambda x: np.einsum("ij,ijkl,kl->", x, matrix, x), normal(3, 2, 2))
    np.testing.assert_allclose(
        hessian.data, matrix + matrix.transpose(2, 3, 0, 1), rtol=1e-12, atol=1e-14
    )
    assert not ag.hessian(lambda x: x.sum(), normal(4, 3)).data.any()
    assert ag.jacobian(lambda x: ag.tensor([1.0, 2.0]), normal(4, 3)).data.tolist() == [[0] * 3] * 2


def test_jacobian_and_hessian_at_a_point_without_axes() -> None:
    assert ag.jacobian(lambda x: x**2, 3.0).tolist() == 6.0
    assert ag.jacobian(lambda x: x * [1.0, 2.0], 3.0).tolist() == [1.0, 2.0]
    assert ag.hessian(lambda x: x**3, 2.0).tolist() == 12.0


# -- what grad returns and leaves alone ------------------------------------------------------------


def test_grad_is_backward_without_accumulation() -> None:
    tensors = [leaf(array) for array in drawn(0)]
    loss = loss_of(dense, Ours(), np.array([0, 1, 2, 4]), *tensors)
    found = ag.grad(loss, tensors, retain_graph=True)
    assert all(t.grad is None for t in tensors)
    loss.backward()
    for tensor, gradient in zip(tensors, found):
        assert not gradient.requires_grad
        assert gradient.data.flags.writeable
        assert gradient.data.flags.owndata
        np.testing.assert_array_equal(gradient.data, tensor.grad)


def test_gradients_of_several_outputs_with_respect_to_results() -> None:
    x = leaf([1.0, 2.0])
    y = x * x
    z = y * x
    (by_y, by_x) = ag.grad([z, y], [y, x], [[1.0, 1.0], [1.0, 10.0]], retain_graph=True)
    assert by_y.data.tolist() == [2.0, 12.0]  # x, and 1 or 10 for y itself
    assert by_x.data.tolist() == [3.0 + 2.0, 12.0 + 40.0]
    (itself,) = ag.grad(x, x, [[3.0, 4.0]])
    assert itself.data.tolist() == [3.0, 4.0]


def test_only_nodes_between_outputs_and_inputs_are_swept() -> None:
    class Wall(Tanh):
        def backward(self, *_: Any) -> Any:
            raise AssertionError("no gradient is wanted through this")

    x, w = leaf([1.0]), leaf([2.0])
    loss = (x * apply(Wall(), w)).sum()
    assert ag.grad(loss, x)[0].item() == pytest.approx(np.tanh(2.0))


def test_unused_inputs() -> None:
    x, unused = leaf([1.0]), leaf([[2.0]])
    loss = (x * x).sum()
    with pytest.raises(ValueError, match=r"grad: .*inputs\[1\], of shape \(1, 1\)"):
        ag.grad(loss, [x, unused])
    slope, none = ag.grad(loss, [x, unused], allow_unused=True)  # the error has freed nothing
    assert slope.data == 2
    assert none is None


def test_the_gradient_of_a_gradient_that_is_constant() -> None:
    x = leaf([1.0, 2.0])
    (slope,) = ag.grad((3 * x).sum(), x, create_graph=True)
    assert not slope.requires_grad
    with pytest.raises(ValueError, match=r"outputs\[0\], of shape \(\), requires no gradient"):
        ag.grad(slope.sum(), x)
    (product,) = ag.hvp((3 * x).sum(), x, [1.0, 1.0])
    assert product.data.tolist() == [0.0, 0.0]


def test_retained_and_freed_graphs() -> None:
    x = leaf(2.0)
    loss = ag.exp(x)
    (slope,) = ag.grad(loss, x, create_graph=True)  # which retains the graph
    assert ag.grad(loss, x)[0].item() == np.exp(2.0)
    for call in (lambda: ag.grad(loss, x), lambda: ag.grad(slope, x), loss.backward):
        with pytest.raises(FreedGraphError):
            call()


def test_values_changed_after_the_recording() -> None:
    x = leaf([1.0, 2.0])
    loss = (x**3).sum()
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 7.0
    x.data = np.array([10.0, 20.0])  # leaves the graph as it was
    (slope,) = ag.grad(loss, x, create_graph=True)
    assert slope.data.tolist() == [3.0, 12.0]
    (curvature,) = ag.grad(slope.sum(), x)
    assert curvature.data.tolist() == [6.0, 12.0]


def test_a_graph_of_a_gradient_keeps_constants_read_only() -> None:
    x, c = leaf([1.0, 2.0]), ag.tensor(np.array([3.0, 4.0]))
    (slope,) = ag.grad(((x * c) ** 2).sum(), x, create_graph=True)
    with pytest.raises(ValueError, match="read-only"):
        c.data[0] = 7.0
    assert ag.grad(slope.sum(), x)[0].data.tolist() == [18.0, 32.0]
    c.data[0] = 7.0


def test_ties_and_kinks_have_the_gradients_of_backward() -> None:
    x, y = leaf([[0.0, 3.0, 3.0], [-1.0, 1.0, 0.0]]), leaf([[0.0, 3.0, 2.0], [-1.0, 2.0, 0.5]])
    functions: list[Any] = [F.relu, F.leaky_relu, F.elu, ag.abs, lambda x: x.clip(-1, 1)]
    functions += [lambda x: ag.maximum(x, y), lambda x: ag.minimum(x, y)]
    functions += [lambda x: ag.max(x, 1), lambda x: ag.min(x, 1, keepdims=True), ag.max]
    functions += [lambda x: F.max_pool1d(x[None], 2, 1), lambda x: ag.std(0 * x), ag.prod]
    functions += [ag.sort, ag.cumprod, lambda x: ag.linalg.norm(0 * x)]
    for function in functions:
        out = function(x)
        loss = (out * 2.0 ** np.arange(out.size).reshape(out.shape)).sum()
        found = ag.grad(loss, [x, y], create_graph=True, allow_unused=True)
        expected = ag.grad(loss, [x, y], allow_unused=True)
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a.data, b.data, rtol=1e-14, atol=1e-14)


def test_higher_derivatives_at_the_ends_of_domains() -> None:
    x, y = leaf([-np.inf, 1e200]), leaf([-np.inf, -np.inf])
    slopes = ag.grad(ag.logaddexp(x, y).sum(), [x, y], create_graph=True)
    assert [slope.data.tolist() for slope in slopes] == [[0.5, 1.0], [0.5, 0.0]]
    assert ag.grad(slopes[0].sum(), x)[0].data.tolist() == [0.0, 0.0]
    equal = leaf([-np.inf, 2.0])
    (slope,) = ag.grad(ag.logaddexp(equal, [-np.inf, 2.0]).sum(), equal, create_graph=True)
    end = slope.sum().average_backward({equal: [0.0, 1.0]})
    assert end == pytest.approx(0.5 + 1 / (1 + np.exp(-1)))
    (slope,) = ag.grad(ag.arcsinh(x)[1], x, create_graph=True)
    np.testing.assert_allclose(slope.data, [0, 1e-200], rtol=1e-12)
    x, y = leaf([0.0, 0.25, 1.0]), leaf([0.0, 0.5, 1.0])
    cost = F.binary_cross_entropy(x, y, reduction="sum")
    (slope,) = ag.grad(cost, y, create_graph=True)
    np.testing.assert_allclose(slope.data, [100, np.log(3), -100])
    np.testing.assert_allclose(ag.grad(slope.sum(), x)[0].data, [-1, -16 / 3, -1])


def test_the_determinant_of_a_singular_matrix_has_only_a_gradient() -> None:
    x = leaf([[1.0, 2.0], [2.0, 4.0]])
    assert ag.grad(ag.linalg.det(x), x)[0].data.round(3).tolist() == [[4, -2], [-2, 1]]
    with pytest.raises(ValueError, match="the matrix of shape \\(2, 2\\) is singular"):
        ag.grad(ag.linalg.det(x), x, create_graph=True)


def test_power_depends_on_its_exponent_at_zero() -> None:
    x, y = leaf([2.0, 0.0]), leaf([0.0, 0.0])
    (slope,) = ag.grad((x**y).sum(), x, create_graph=True)
    assert slope.data.tolist() == [0.0, 0.0]
    by_x, by_y = ag.grad(slope.sum(), [x, y])
    assert by_x.data.tolist() == [0.0, 0.0]
    # At y = 0, ∂/∂y of y·x^(y-1) is 1/x; where x is 0 as well, it does not exist.
    assert by_y.data[0] == 0.5


def test_gradients_are_recorded_inside_no_grad_if_asked() -> None:
    x = leaf(3.0)
    y = x**3
    with ag.no_grad():
        (slope,) = ag.grad(y, x, create_graph=True)
        assert not ag.is_grad_enabled()
        with ag.enable_grad():
            assert (x * x).requires_grad
    assert ag.grad(slope, x)[0].item() == 18


def test_the_gradient_of_an_output_may_itself_have_a_gradient() -> None:
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (pulled,) = ag.grad(x * x, x, v, create_graph=True)
    by_x, by_v = ag.grad(pulled.sum(), [x, v])
    assert (by_x.data.tolist(), by_v.data.tolist()) == ([6.0, 8.0], [2.0, 4.0])
    (same,) = ag.grad(x + 1, x, v, create_graph=True)
    same *= 2
    assert v.data.tolist() == [3.0, 4.0]


def test_modules_with_dropout_and_batch_normalization() -> None:
    ag.seed(0)
    model = nn.Sequential(
        nn.Embedding(7, 4, padding_idx=0),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(5, 1),
    ).to("float64")
    params = list(model.parameters())
    ids = np.array([[0, 1, 2], [3, 3, 4], [5, 6, 0], [1, 2, 3]])
    loss = F.binary_cross_entropy_with_logits(model(ids), [[0.0], [1.0], [1.0], [0.0]])
    penalty = sum((g**2).sum() for g in ag.grad(loss, params, create_graph=True))
    updates = {p: 1e-4 * normal(i, *p.shape) for i, p in enumerate(params)}
    updates[params[0]][0] = 0  # padding
    slopes = ag.grad(penalty, params, retain_graph=True, allow_unused=True)
    assert slopes[0].data.any(axis=1).tolist() == [False] + [True] * 6
    end = penalty.average_backward(updates)
    shares = [np.vdot(p.average_grad, u) for p, u in updates.items() if p.average_grad is not None]
    assert sum(shares) == pytest.approx(end - penalty.item(), abs=1e-10 * np.abs(shares).sum())
    predicted = sum(np.vdot(g.data, updates[p]) for p, g in zip(params, slopes) if g is not None)
    assert predicted == pytest.approx(sum(shares), rel=1e-2)


# -- errors ----------------------------------------------------------------------------------------


class Unrecorded(Elementwise):
    def forward(self, x: Array) -> Array:
        return np.sinh(x)

    def derivative(self, out: Array, x: Array) -> Array:
        return np.cosh(x)

    def divided_difference(self, a: Array, b: Array) -> Array:
        return np.cosh((a + b) / 2)


def test_an_operation_without_a_recorded_backward_is_named() -> None:
    x = leaf([1.0])
    loss = apply(Unrecorded(), x).sum()
    with pytest.raises(HigherDerivativeError, match="Unrecorded: the backward pass"):
        ag.grad(loss, x, create_graph=True)
    assert ag.grad(loss, x)[0].data == np.cosh(1.0)


def test_a_subclass_with_its_own_backward_declares_again_whether_it_is_recordable() -> None:
    class Steeper(Tanh):
        def backward(self, grad: Array, *_: Any) -> Any:
            return (2 * grad,)

    class Documented(Tanh):
        """Tanh."""

    x = leaf([1.0])
    with pytest.raises(HigherDerivativeError, match="Steeper"):
        ag.grad(apply(Steeper(), x).sum(), x, create_graph=True)
    assert ag.grad(apply(Documented(), x).sum(), x, create_graph=True)[0].requires_grad


def test_captured_functions() -> None:
    x = leaf([1.0])
    function = ag.capture(lambda x: (x**3).sum())
    with pytest.raises(HigherDerivativeError, match="captured"):
        ag.grad(function(x), x, create_graph=True)
    assert ag.grad(function(x), x)[0].data == 3
    with pytest.raises(CaptureError, match="calls grad"):
        ag.capture(lambda x: ag.grad((x**3).sum(), x)[0])(x)


def test_anomalies_are_found() -> None:
    x = leaf([0.0])
    with ag.detect_anomaly():
        root = np.sqrt(x).sum()
        with pytest.raises(AnomalyError, match="backward pass of Sqrt"):
            ag.grad(root, x, retain_graph=True)
        with pytest.raises(AnomalyError, match="Divide gave a result"):
            ag.grad(root, x, create_graph=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: ag.grad(y, x), ValueError, r"grad: needs a single element.*\(2,\)"),
        (
            lambda x, y: ag.grad(y, x, [1.0]),
            ValueError,
            r"grad: grad_outputs\[0\] has shape \(1,\)",
        ),
        (lambda x, y: ag.grad([y, y], x, [y]), ValueError, "grad: grad_outputs must .* 2 outputs"),
        (lambda x, y: ag.grad(y.sum(), []), ValueError, "grad: inputs is empty"),
        (lambda x, y: ag.grad(y.sum(), [1.0]), TypeError, r"grad: inputs\[0\] is a float"),
        (lambda x, y: ag.grad(1.0, x), TypeError, r"grad: outputs\[0\] is a float"),
        (lambda x, y: ag.grad(y.detach(), x), ValueError, r"outputs\[0\], .* requires no gradient"),
        (lambda x, y: ag.grad(y, ag.tensor(1.0)), ValueError, r"inputs\[0\], .* requires no gradi"),
        (lambda x, y: ag.hvp(y.sum(), x, [1.0]), ValueError, r"hvp: vectors\[0\] has shape \(1,\)"),
        (lambda x, y: ag.hvp(y.sum(), [x, y], [x]), ValueError, "hvp: vectors must .* 2 params"),
        (lambda x, y: ag.hvp(y, x, x), ValueError, "hvp: needs a single element"),
        (lambda x, y: ag.jvp(ag.sin, x, [1.0]), ValueError, r"jvp: tangents\[0\] has shape \(1,\)"),
        (lambda x, y: ag.jvp(ag.add, (x, x), (x,)), ValueError, "jvp: tangents must .* 2 primals"),
        (lambda x, y: ag.jvp(ag.sin, 1, 1), TypeError, r"jvp: primals\[0\] has dtype int"),
        (lambda x, y: ag.jvp(lambda x: 1.0, x, x), TypeError, "jvp: function returned a float"),
        (lambda x, y: ag.jacobian(lambda x: 1.0, x), TypeError, "jacobian: function returned a fl"),
        (
            lambda x, y: ag.hessian(lambda _: 1.0, x),
            TypeError,
            "hessian: function returned a float",
        ),
        (lambda x, y: ag.hessian(ag.sin, x), ValueError, "hessian: needs a single element"),
    ],
)
def test_errors_name_the_argument(call: Any, error: Any, message: str) -> None:
    x = leaf([1.0, 2.0])
    y = x**3
    with pytest.raises(error, match=message):
        call(x, y)
    assert ag.grad(y.sum(), x)[0].data.tolist() == [3.0, 12.0]  # nothing has been freed


def test_a_hook_on_a_scalar_gets_an_array() -> None:
    x = ag.tensor(2.0, requires_grad=True)
    y = x * 3
    y.register_hook(lambda grad: np.array(2 * grad))
    (grad,) = ag.grad(y * y + y, x)
    assert grad.item() == 2 * 3 * (2 * 6 + 1)
