"""NumPy's and PyTorch's functions on Tensors: values and gradients against PyTorch's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad.errors import AverageUndefinedError, CaptureError, ChoiceChangedError
from agrad.testing import check_gradients
from agrad.testing.strategies import seeds

torch = pytest.importorskip("torch")

FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "cumsum": (lambda x: ag.cumsum(x, dim=1), lambda x: torch.cumsum(x, 1)),
    "cumprod": (lambda x: ag.cumprod(x, 0), lambda x: torch.cumprod(x, 0)),
    "cumprod with a zero": (
        lambda x: ag.cumprod(x * [1.0, 0.0, 1.0, 1.0], 1),
        lambda x: torch.cumprod(x * torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=x.dtype), 1),
    ),
    "sort": (lambda x: ag.sort(x, 0), lambda x: torch.sort(x, 0).values),
    "topk": (lambda x: ag.topk(x, 2).values, lambda x: torch.topk(x, 2).values),
    "topk of the smallest": (
        lambda x: ag.topk(x, 3, dim=0, largest=False).values,
        lambda x: torch.topk(x, 3, dim=0, largest=False).values,
    ),
    "gather": (
        lambda x: ag.take_along_axis(x, [[0, 0], [3, 1], [2, 2]], 1),
        lambda x: torch.gather(x, 1, torch.tensor([[0, 0], [3, 1], [2, 2]])),
    ),
    "scatter": (
        lambda x: ag.scatter(x, dim=1, index=[[2, 0], [0, 1]], src=x[1:, 2:] * 2),
        lambda x: torch.scatter(x, 1, torch.tensor([[2, 0], [0, 1]]), x[1:, 2:] * 2),
    ),
    "scatter of a number": (
        lambda x: ag.scatter(x, 0, [[2, 0, 1]], 5),
        lambda x: torch.scatter(x, 0, torch.tensor([[2, 0, 1]]), 5),
    ),
    "repeat": (lambda x: ag.repeat(x, 3, 1), lambda x: torch.repeat_interleave(x, 3, 1)),
    "repeat by element": (
        lambda x: ag.repeat(x, [2, 0, 1], 0),
        lambda x: torch.repeat_interleave(x, torch.tensor([2, 0, 1]), 0),
    ),
    "tile": (lambda x: ag.tile(x, (2, 1, 3)), lambda x: torch.tile(x, (2, 1, 3))),
    "roll": (lambda x: ag.roll(x, (1, -2), (0, 1)), lambda x: torch.roll(x, (1, -2), (0, 1))),
    "roll of all": (lambda x: ag.roll(x, 5), lambda x: torch.roll(x, 5)),
    "hstack": (lambda x: ag.hstack([x, x[:, :1]]), lambda x: torch.hstack([x, x[:, :1]])),
    "vstack": (lambda x: ag.vstack([x, x[0]]), lambda x: torch.vstack([x, x[0]])),
    "tril": (lambda x: ag.tril(x, -1), lambda x: torch.tril(x, -1)),
    "triu": (lambda x: x.triu(1), lambda x: torch.triu(x, 1)),
    "diagonal": (lambda x: ag.diagonal(x, 1), lambda x: torch.diagonal(x, 1)),
    "trace": (lambda x: x.trace(), lambda x: torch.trace(x)),
    "log2": (lambda x: (x * x + 1).log2(), lambda x: (x * x + 1).log2()),
    "log10": (lambda x: (x * x + 1).log10(), lambda x: (x * x + 1).log10()),
    "logaddexp": (lambda x: ag.logaddexp(x, -x), lambda x: torch.logaddexp(x, -x)),
    "tan": (lambda x: (x / 9).tan(), lambda x: torch.tan(x / 9)),
    "arcsin": (lambda x: (x / 9).arcsin(), lambda x: torch.arcsin(x / 9)),
    "arccos": (lambda x: (x / 9).arccos(), lambda x: torch.arccos(x / 9)),
    "arctan": (lambda x: x.arctan(), torch.arctan),
    "sinh": (lambda x: x.sinh(), torch.sinh),
    "cosh": (lambda x: x.cosh(), torch.cosh),
    "arcsinh": (lambda x: x.arcsinh(), torch.arcsinh),
    "arccosh": (lambda x: (2 + x * x).arccosh(), lambda x: torch.arccosh(2 + x * x)),
    "arctanh": (lambda x: (x / 9).arctanh(), lambda x: torch.arctanh(x / 9)),
    "erf": (lambda x: x.erf(), torch.erf),
    "remainder": (lambda x: x % 0.7, lambda x: torch.remainder(x, 0.7)),
    "norm": (lambda x: ag.linalg.norm(x), torch.linalg.norm),
    "norms of rows": (
        lambda x: ag.linalg.norm(x, dim=1, keepdim=True),
        lambda x: torch.linalg.norm(x, dim=1, keepdim=True),
    ),
    **{
        f"{p}-norm of columns": (
            lambda x, p=p: ag.linalg.norm(x, p, 0),
            lambda x, p=p: torch.linalg.vector_norm(x, p, 0),
        )
        for p in (1, 2, 3, np.inf, -np.inf)
    },
    **{
        f"{p}-norm of a matrix": (
            lambda x, p=p: ag.linalg.norm(x, p),
            lambda x, p=p: torch.linalg.matrix_norm(x, p),
        )
        for p in ("fro", 1, -1, np.inf, -np.inf)
    },
    "inv": (lambda x: ag.linalg.inv(regular(x)), lambda x: torch.linalg.inv(regular(x))),
    "solve": (
        lambda x: ag.linalg.solve(regular(x), x),
        lambda x: torch.linalg.solve(regular(x), x),
    ),
    "solve for a vector": (
        lambda x: ag.linalg.solve(regular(x), x[:, 0]),
        lambda x: torch.linalg.solve(regular(x), x[:, 0]),
    ),
    "det": (lambda x: ag.linalg.det(regular(x)), lambda x: torch.linalg.det(regular(x))),
    "slogdet": (
        lambda x: ag.linalg.slogdet(regular(x)).logabsdet,
        lambda x: torch.linalg.slogdet(regular(x)).logabsdet,
    ),
    "eigh": (lambda x: spectrum(ag, x), lambda x: spectrum(torch, x)),
    "svd of a wide matrix": (lambda x: singular(ag, x), lambda x: singular(torch, x)),
    "svd of a high matrix": (lambda x: singular(ag, x.mT), lambda x: singular(torch, x.mT)),
    "cholesky": (
        lambda x: ag.linalg.cholesky(regular(x)),
        lambda x: torch.linalg.cholesky(regular(x)),
    ),
}


def regular(x: Any) -> Any:
    return x @ x.mT + (ag.eye if isinstance(x, ag.Tensor) else torch.eye)(3, dtype=x.dtype)


def spectrum(module: Any, x: Any) -> Any:
    """Return a function of eigenvalues and eigenvectors that does not depend on their signs."""
    values, vectors = module.linalg.eigh(regular(x))
    return values[1:] * (vectors * vectors)[:, 1:] + values[:1]


def singular(module: Any, x: Any) -> Any:
    """Return a function of singular values and vectors that does not depend on their signs."""
    left, values, right = module.linalg.svd(x, full_matrices=False)
    return (left[:, :1] * values[:1]) @ right[:1] * values[1] + (left[:, 1:] @ right[1:]) ** 2


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=6)
@given(seed=seeds, dtype=st.sampled_from([np.float32, np.float64]))
def test_values_and_gradients_are_pytorchs(name: str, seed: int, dtype: Any) -> None:
    """To 1e-5 in float32 and 1e-10 in float64 of the largest element."""
    rng = np.random.default_rng(seed)
    array = rng.normal(size=(3, 4)).astype(dtype)
    ours, theirs = FUNCTIONS[name]
    x = ag.tensor(array, requires_grad=True)
    other = torch.tensor(array, requires_grad=True)
    out, expected = ours(x), theirs(other)
    assert out.shape == tuple(expected.shape)
    assert out.dtype == dtype
    cotangent = np.asarray(rng.normal(size=out.shape)).astype(dtype)
    out.backward(cotangent)
    expected.backward(torch.tensor(cotangent))
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    pairs = (out.data, expected.detach().numpy()), (x.grad, other.grad.numpy())
    for found, known in pairs:
        np.testing.assert_allclose(found, known, atol=tolerance * np.abs(known).max(initial=1))


# -- sorting -------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=seeds, length=st.integers(1, 6))
def test_the_average_of_a_sort_is_its_mean_jacobian(seed: int, length: int) -> None:
    """Compare with the mean permutation over many points of the segment; ranks may cross often."""
    rng = np.random.default_rng(seed)
    start, update, weights = rng.normal(size=(3, 2, length))
    x = ag.tensor(start, requires_grad=True)
    loss = (ag.sort(x) * weights).sum()
    end = loss.average_backward({x: 2 * update})
    np.testing.assert_allclose((x.average_grad * 2 * update).sum(), end - loss.item(), atol=1e-12)
    times = (np.arange(4000) + 0.5)[:, None, None] / 4000
    ranks = np.argsort(np.argsort(start + times * 2 * update, axis=-1), axis=-1)
    mean = np.take_along_axis(weights[None], ranks, axis=-1).mean(axis=0)
    np.testing.assert_allclose(x.average_grad, mean, atol=0.01)


def test_the_average_of_a_long_sort_is_computed_in_parts() -> None:
    rng = np.random.default_rng(0)
    start, update, weights = rng.normal(size=(3, 1300)).astype(np.float32)
    x = ag.tensor(start, requires_grad=True)
    loss = (ag.sort(x) * weights).sum()
    end = loss.average_backward({x: update})
    np.testing.assert_allclose((x.average_grad * update).sum(), end - loss.item(), rtol=1e-4)


def test_equal_elements_keep_their_order() -> None:
    x = ag.tensor([2.0, 1.0, 2.0, 1.0], requires_grad=True)
    loss = (ag.sort(x) * [1.0, 2.0, 3.0, 4.0]).sum()
    assert ag.argsort(x).tolist() == [1, 3, 0, 2]
    loss.average_backward({x: [0.0, 0.0, 0.0, 0.0]}, retain_graph=True)
    assert x.average_grad.tolist() == [3.0, 1.0, 4.0, 2.0]
    x.zero_grad()
    loss.average_backward({x: [0.0, 0.0, -0.5, 0.0]}, retain_graph=True)
    assert x.average_grad.tolist() == [4.0, 1.0, 3.0, 2.0]
    loss.backward()
    assert x.grad.tolist() == [3.0, 1.0, 4.0, 2.0]


def test_topk_names_its_elements() -> None:
    array = np.random.default_rng(0).normal(size=(4, 5))
    for largest in True, False:
        found = ag.topk(ag.tensor(array), 3, axis=0, largest=largest)
        expected = torch.topk(torch.tensor(array), 3, dim=0, largest=largest)
        np.testing.assert_array_equal(found.values.data, expected.values)
        np.testing.assert_array_equal(found.indices, expected.indices)
    assert ag.topk([1.0, 2.0], 2).values.tolist() == [2.0, 1.0]
    assert ag.topk([1.0, 2.0], 0).values.shape == (0,)
    with pytest.raises(CaptureError):
        ag.capture(lambda x: ag.topk(x, 1).values)([1.0, 2.0])


# -- what has no average -------------------------------------------------------------------------


def test_a_remainder_that_jumps_has_no_average() -> None:
    x = ag.tensor(np.array([0.25, 2.25]), requires_grad=True)
    loss = (x % 1.0).sum()
    assert loss.average_backward({x: [0.5, -0.125]}, retain_graph=True) == pytest.approx(0.875)
    with pytest.raises(ChoiceChangedError, match=r"outcome of remainder, of shape \(2,\)"):
        loss.average_backward({x: [0.5, 1.0]})
    np.testing.assert_array_equal(x.average_grad, [1, 1])
    y = 1 * x
    y %= 2
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])
    assert (7.5 % ag.tensor(2.0)).item() == 1.5
    with ag.no_grad():
        y = ag.tensor([5.0])
        y %= 3
    assert y.tolist() == [2.0]


def test_a_sign_of_a_determinant_that_changes_has_no_average() -> None:
    x = ag.tensor(np.diag([1.0, 2.0]), requires_grad=True)
    sign, logabsdet = ag.linalg.slogdet(x)
    loss = sign * logabsdet
    assert loss.item() == pytest.approx(np.log(2))
    loss.average_backward({x: np.diag([1.0, 0.0])}, retain_graph=True)
    np.testing.assert_allclose(x.average_grad[0, 0], np.log(2), rtol=1e-12)
    with pytest.raises(ChoiceChangedError, match="sign_of_det"):
        loss.average_backward({x: np.diag([-2.0, 0.0])})


def test_decompositions_have_no_average() -> None:
    x = ag.tensor(np.diag([1.0, 2.0]), requires_grad=True)
    for name, out in ("eigh", ag.linalg.eigh(x)[0]), ("svd", ag.linalg.svd(x)[1]):
        loss = out.sum()
        with pytest.raises(AverageUndefinedError, match=f"^{name}: its averaged Jacobian"):
            loss.average_backward({x: np.eye(2)})
        loss.backward()  # nothing was freed
    np.testing.assert_allclose(x.grad, 2 * np.eye(2), atol=1e-15)
    captured = ag.capture(lambda x: ag.linalg.eigh(x).eigenvalues.sum())
    with pytest.raises(AverageUndefinedError, match=r"^eigh: "):
        captured(x).average_backward({x: np.eye(2)})


@settings(max_examples=10)
@given(seed=seeds, shape=st.sampled_from([(3, 3), (2, 4, 2), (2, 2, 3)]))
def test_decompositions_agree_with_central_differences(seed: int, shape: Any) -> None:
    """They are not among the cases of operations, which all have averages."""
    rng = np.random.default_rng(seed)
    array = rng.normal(size=shape)
    array[..., range(2), range(2)] += [3, 6]  # so that no two values are close
    weights = rng.normal(size=shape)

    def of_svd(x: ag.Tensor) -> ag.Tensor:
        left, values, right = ag.linalg.svd(x, full_matrices=False)
        return (left * values[..., None, :] ** 2) @ right * weights

    check_gradients(of_svd, array, tolerance=1e-6)
    if shape == (3, 3):

        def of_eigh(x: ag.Tensor) -> ag.Tensor:
            values, vectors = ag.linalg.eigh(x)
            return vectors * values**3 @ vectors.T * weights

        check_gradients(of_eigh, array + np.diag([0, 0, 9.0]), tolerance=1e-6)


# -- matrices ------------------------------------------------------------------------------------

MATRICES: dict[str, Callable[[Any], Any]] = {
    "inv": ag.linalg.inv,
    "solve": lambda x: ag.linalg.solve(x, x[..., :2] * x[..., 2:]),
    "det": ag.linalg.det,
    "slogdet": lambda x: ag.linalg.slogdet(x).logabsdet,
    "cholesky": lambda x: ag.linalg.cholesky(x + 10 * np.eye(4)),
}


@pytest.mark.parametrize("name", MATRICES)
@settings(max_examples=10)
@given(seed=seeds)
def test_averages_of_long_steps_are_complete(name: str, seed: int) -> None:
    """To 1e-10, even for a step as large as the matrix and not symmetric."""
    rng = np.random.default_rng(seed)
    start, update = rng.normal(size=(2, 2, 4, 4)) + 6 * np.eye(4)
    x = ag.tensor(start, requires_grad=True)
    out = MATRICES[name](x)
    weights = rng.normal(size=out.shape)
    loss = (out * weights).sum()
    end = loss.average_backward({x: update})
    change = float(end) - loss.item()
    scale = abs(float(end)) + abs(loss.item()) + np.abs(x.average_grad * update).sum()
    assert abs((x.average_grad * update).sum() - change) <= 1e-10 * scale


def test_the_gradient_of_a_singular_determinant() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(4, 1)) * rng.normal(size=4)
    array[0, 0] += 1
    x = ag.tensor(array[:2, :2], requires_grad=True)
    ag.linalg.det(x).backward()
    (a, b), (c, d) = array[:2, :2]
    np.testing.assert_allclose(x.grad, [[d, -c], [-b, a]], rtol=1e-12)
    zero = ag.tensor(np.zeros((3, 3)), requires_grad=True)
    ag.linalg.det(zero).backward()
    np.testing.assert_array_equal(zero.grad, np.zeros((3, 3)))


def test_the_gradient_of_a_norm_at_zero_is_zero() -> None:
    x = ag.tensor([0.0, 0.0], requires_grad=True)
    loss = ag.linalg.norm(x)
    loss.average_backward({x: [3.0, 4.0]}, retain_graph=True)
    np.testing.assert_allclose(x.average_grad, [0.6, 0.8], rtol=1e-6)
    loss.backward()
    assert x.grad.tolist() == [0.0, 0.0]


# -- errors --------------------------------------------------------------------------------------

x34 = ag.tensor(np.ones((3, 4)), requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ag.cumsum(x34, 2), ValueError, "2"),
        (lambda: ag.sort(x34, 2), ValueError, "2"),
        (lambda: ag.topk(x34, 5), ValueError, r"topk: k must be from 0 to 4.*\(3, 4\), got 5"),
        (lambda: ag.topk(x34, 1, 2), ValueError, "topk: axis"),
        (lambda: ag.take_along_axis(x34, [0], 1), ValueError, r"take_along_axis: indices.*\(1,\)"),
        (lambda: ag.take_along_axis(x34, [[0.5]], 1), TypeError, "take_along_axis: indices.*float"),
        (lambda: ag.take_along_axis(x34, [[4]], 1), IndexError, r"take_along_axis: index 4.*-4 to"),
        (lambda: ag.scatter(x34, 1, [[4]], [[1.0]]), IndexError, "scatter: index 4.*0 to 3"),
        (lambda: ag.scatter(x34, 1, [[-1]], [[1.0]]), IndexError, "scatter: index -1"),
        (lambda: ag.scatter(x34, 1, [[0, 0]], 1.0), ValueError, r"scatter: .*\(1, 2\).*\(3, 4\)"),
        (lambda: ag.scatter(x34, 1, [[0]] * 4, 1.0), ValueError, r"scatter: index must.*\(4, 1\)"),
        (lambda: ag.scatter(x34, 1, [[0, 1]], [[1.0]]), ValueError, r"scatter: src.*\(1, 1\)"),
        (lambda: ag.repeat(x34, -1, 0), ValueError, "repeat: repeats.*-1"),
        (lambda: ag.repeat(x34, 2, 5), ValueError, "repeat: axis"),
        (lambda: ag.repeat(x34, 1.5), TypeError, "repeat: repeats must be integers, got 1.5"),
        (lambda: ag.repeat(x34, [1, 2], 0), ValueError, r"repeat: .*3 elements along axis 0.*2\]"),
        (lambda: ag.repeat(x34, [1, -2, 0], 0), ValueError, "repeat: repeats must not be neg"),
        (lambda: ag.tile(x34, 1.5), TypeError, "tile: reps must be integers, got 1.5"),
        (lambda: ag.tile(x34, "ab"), TypeError, "tile: reps must be integers, got 'ab'"),
        (lambda: ag.roll(x34, 1.5), TypeError, "roll: shift must hold integers, got 1.5"),
        (lambda: ag.roll(x34, (1, 0.5), (0, 1)), TypeError, "roll: shift must hold integers"),
        (lambda: ag.topk(x34, 1.5), TypeError, "topk: k must be an integer, got 1.5"),
        (lambda: ag.concatenate([]), ValueError, "concatenate: arrays is empty"),
        (lambda: ag.stack([]), ValueError, "stack: arrays is empty"),
        (lambda: ag.hstack([]), ValueError, "hstack: arrays is empty"),
        (lambda: ag.vstack([]), ValueError, "vstack: arrays is empty"),
        (lambda: x34.squeeze(0), ValueError, r"squeeze: .*axis=0.*\(3, 4\)"),
        (lambda: x34.squeeze(5), ValueError, r"squeeze: .*axis=5.*\(3, 4\)"),
        (lambda: ag.tile(x34, (1, -2)), ValueError, "tile: reps"),
        (lambda: ag.roll(x34, (1, 2, 3), (0, 1)), ValueError, "roll: shift has 3.*axis 2"),
        (lambda: ag.roll(x34, 1, 2), ValueError, "roll: axis"),
        (lambda: ag.tril(x34[0]), ValueError, r"tril: .*\(4,\)"),
        (lambda: ag.triu(1.0), ValueError, r"triu: .*\(\)"),
        (lambda: ag.diagonal(x34[0]), ValueError, "diag"),
        (lambda: ag.linalg.inv(x34), ValueError, r"inv: .*square.*\(3, 4\)"),
        (lambda: ag.linalg.inv(ag.zeros(2, 2)), ValueError, r"inv: .*\(2, 2\) is singular"),
        (lambda: ag.linalg.det([[1, 2], [3, 4]]), TypeError, "det: .*int64"),
        (lambda: ag.linalg.solve(ag.eye(3), x34[0]), ValueError, r"solve: b.*3 rows.*\(4,\)"),
        (lambda: ag.linalg.solve(ag.zeros(3, 3), x34), ValueError, "solve: .*singular"),
        (lambda: ag.linalg.cholesky(-ag.eye(2)), ValueError, r"cholesky: .*\(2, 2\).*definite"),
        (lambda: ag.linalg.eigh(x34), ValueError, r"eigh: .*square.*\(3, 4\)"),
        (lambda: ag.linalg.svd(x34), ValueError, r"svd: pass full_matrices=False.*\(3, 4\)"),
        (lambda: ag.linalg.svd(x34[0]), ValueError, r"svd: .*\(4,\)"),
        (lambda: ag.linalg.svd([[1, 2], [3, 4]]), TypeError, "svd: .*int64"),
        (lambda: ag.linalg.norm(x34, 3), ValueError, r"norm: ord .*3 .*\(3, 4\)"),
        (lambda: ag.linalg.norm(x34, 0, 0), ValueError, "norm: ord .*got 0"),
        (lambda: ag.linalg.norm(x34, "nuc"), ValueError, "norm: ord .*nuc"),
    ],
)
def test_wrong_arguments_are_named(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
    assert x34.grad is None


def test_repetitions_are_arrays_too() -> None:
    x = x34.data
    np.testing.assert_array_equal(ag.tile(x34, np.array([2, 1])).data, np.tile(x, (2, 1)))
    np.testing.assert_array_equal(ag.tile(x34, ()).data, x)
    np.testing.assert_array_equal(ag.repeat(x34, np.array([2]), 0).data, np.repeat(x, 2, 0))


def test_where_of_numbers_has_one_dtype() -> None:
    """The dtype of a condition that remembers what was compared does not count."""
    x = ag.tensor([1.0, -2.0], requires_grad=True)
    assert ag.where(x > 0, 1.0, 0.1).dtype == np.float32
    with ag.no_grad():
        assert ag.where(x > 0, 1.0, 0.1).dtype == np.float32


@pytest.mark.parametrize("indices", [(0, 1), [0, 1], np.array([0, 1]), 1, [[1, 0]], []])
def test_take_as_numpy_does(indices: Any) -> None:
    x = np.array([[10.0, 20.0, 30.0], [1.0, 2.0, 3.0]])
    for axis in (None, 0, 1):
        expected = np.take(x, np.asarray(indices, int), axis)
        np.testing.assert_array_equal(ag.take(x, indices, axis).data, expected)


@pytest.mark.parametrize("indices", [[True, False], None, 1.0, slice(1)])
def test_take_needs_integers(indices: Any) -> None:
    with pytest.raises(TypeError, match="take: indices"):
        ag.take([10.0, 20.0], indices)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("order", [0.5, 1, 2, 3, np.inf, None])
def test_norms_of_small_integers(dtype: Any, order: Any) -> None:
    x = np.array([100, 120, 128], np.uint8).astype(dtype)
    expected = np.linalg.norm(x.astype(float), order)
    assert ag.linalg.norm(x, order).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("order", [0.5, 1.5, 3.0])
def test_norms_from_and_to_zero_have_complete_averages(order: float) -> None:
    """Each coordinate but the last of the fourth row is 0 at one end, or at both."""
    start = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    update = np.array([[1.0, 2.0], [-3.0, -4.0], [0.0, 0.0], [1.0, 0.5]])
    x = ag.tensor(start, requires_grad=True)
    lengths = ag.linalg.norm(x, order, axis=1)
    lengths.sum().average_backward({x: update})
    change = np.linalg.norm(start + update, order, axis=1) - lengths.data
    np.testing.assert_allclose((x.average_grad * update).sum(axis=1), change, rtol=1e-12)


@pytest.mark.parametrize("order", [np.int64(3), np.float64(3), np.float64(0.5)])
def test_a_number_of_numpy_does_not_change_the_dtype_of_a_norm(order: Any) -> None:
    x = ag.tensor([[3.0, 4.0]], requires_grad=True)
    for length in (ag.linalg.norm(x, order, axis=1), F.normalize(x, p=order)):
        assert length.dtype == np.float32


def test_mean_and_variance_of_many_halves() -> None:
    """Half a unit in the last place of a half is 5e-4 of it; NumPy's own variance overflows."""
    halves = (3 + np.random.default_rng(0).standard_normal((70000, 2))).astype(np.float16)
    exact = halves.astype(np.float64)
    np.testing.assert_allclose(ag.tensor(halves).mean(0).data, exact.mean(0), rtol=5e-4)
    np.testing.assert_allclose(ag.tensor(halves).var(0).data, exact.var(0), rtol=5e-4)
    assert ag.tensor(halves).var(0).dtype == np.float16


def test_max_pooling_points_to_the_elements_its_gradient_goes_to() -> None:
    planes = np.random.default_rng(0).choice([-np.inf, 0.0, 1.0, np.nan], (50, 1, 5, 4))
    x = ag.tensor(planes, requires_grad=True)
    for options in ({}, {"stride": 1}, {"padding": 1}, {"dilation": 2, "stride": 1}):
        pooled = F.max_pool2d(x, 2, **options)
        (plain,) = ag.grad(pooled.sum(), x)
        (recorded,) = ag.grad(F.max_pool2d(x, 2, **options).sum(), x, create_graph=True)
        np.testing.assert_array_equal(plain.data, recorded.data)


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: ag.tile(x, 1),
        lambda x: ag.tile(x, (1, 1)),
        lambda x: ag.tile(x[:1], 3),
        lambda x: ag.repeat(x, 1),
        lambda x: ag.repeat(x[:1], 3),
        lambda x: ag.repeat(x, [1, 1]),
        lambda x: ag.roll(x, 0),
        lambda x: ag.roll(x, 2, 0),
    ],
)
def test_copies_have_their_own_memory(copy: Any) -> None:
    x = ag.tensor([1.0, 2.0])
    out = copy(x)
    before = out.tolist()
    x[0] = 5.0
    assert out.tolist() == before
    out[...] = 7.0
    assert x.tolist() == [5.0, 2.0]
