"""Embedding and global pooling against PyTorch's, with masks and padding."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.testing.strategies import seeds, shapes

POOLS = pytest.mark.parametrize("pool", [F.global_max_pool1d, F.global_avg_pool1d])


def random_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    mask = rng.random(shape) < 0.6
    mask[..., 0] = True
    return mask


@given(
    shape=shapes(max_side=6),
    count=st.integers(1, 5),
    padded=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    ids_dtype=st.sampled_from(["int8", "int32", "int64", "uint8"]),
    seed=seeds,
)
def test_embedding_is_pytorchs(
    shape: Any, count: int, padded: bool, dtype: str, ids_dtype: str, seed: int
) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    padding = int(rng.integers(-count, count)) if padded else None
    values = rng.normal(size=(count, 3)).astype(dtype)
    ids = rng.integers(0, count, shape)
    weight, known_weight = ag.tensor(values, requires_grad=True), torch.tensor(values)
    known_weight.requires_grad = True
    out = F.embedding(ids.astype(ids_dtype), weight, padding)
    known = torch.nn.functional.embedding(torch.tensor(ids), known_weight, padding)
    cotangent = rng.normal(size=out.shape).astype(dtype)
    out.backward(cotangent)
    known.backward(torch.from_numpy(cotangent))
    np.testing.assert_array_equal(out.data, known.detach().numpy())
    # Sums of at most 216 terms of size 1, in another order.
    tolerance = 216 * np.finfo(dtype).eps
    np.testing.assert_allclose(weight.grad, known_weight.grad.numpy(), rtol=0, atol=tolerance)


def test_the_sums_of_a_repeated_row_are_the_same_in_every_run() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, (64, 200))
    cotangent = rng.normal(size=(64, 200, 8)).astype(np.float32)
    grads = []
    for _ in range(3):
        weight = ag.tensor(np.ones((3, 8), np.float32), requires_grad=True)
        F.embedding(ids, weight).backward(cotangent)
        grads.append(weight.grad)
    assert grads[0].tobytes() == grads[1].tobytes() == grads[2].tobytes()
    exact = np.zeros((3, 8))
    np.add.at(exact, ids, cotangent)
    # In random walks of 4,000 steps of size 1, each step rounds a number of about √4000.
    np.testing.assert_allclose(grads[0], exact, rtol=0, atol=4000 * np.finfo(np.float32).eps)


def test_the_row_of_padding_gets_no_gradient_and_the_average_is_complete() -> None:
    values = np.arange(6.0).reshape(3, 2)
    weight = ag.tensor(values, requires_grad=True)
    loss = (F.embedding([0, 1, 1, 2], weight, padding_idx=-2) ** 3).sum()
    loss.backward(retain_graph=True)
    delta = np.array([[0.5, -1.0], [0.0, 0.0], [2.0, 0.25]])
    end = loss.average_backward({weight: delta})
    for grad in (weight.grad, weight.average_grad):
        np.testing.assert_array_equal(grad[1], 0)
        assert (grad[[0, 2]] != 0).any(axis=1).all()
    assert (weight.average_grad * delta).sum() == pytest.approx(end - loss.item(), rel=1e-14)


def test_the_average_is_complete_where_an_update_moves_the_row_of_padding() -> None:
    weight = ag.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    for padding in 0, 1, -1:
        weight.zero_grad()
        loss = (F.embedding([0, 1, 1, 2], weight, padding) ** 3).sum()
        loss.backward(retain_graph=True)
        delta = np.array([[0.5, -1.0], [0.25, 0.0], [2.0, 0.25]])
        end = loss.average_backward({weight: delta})
        assert (weight.average_grad * delta).sum() == pytest.approx(end - loss.item(), rel=1e-14)
        np.testing.assert_array_equal(weight.grad[padding], 0)
        np.testing.assert_array_equal(weight.average_grad[1, 1] == 0, padding == 1)


def test_the_ids_of_a_recorded_embedding_can_change() -> None:
    ids, weight = np.array([0, 1]), ag.tensor(np.eye(3), requires_grad=True)
    out = F.embedding(ids, weight)
    ids[:] = 2
    out.sum().backward()
    np.testing.assert_array_equal(weight.grad, [[1, 1, 1], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("text", ["Embedding(7, 3)", "Embedding(7, 3, padding_idx=-1)"])
def test_the_layer_is_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = eval(text, vars(nn)), eval(text, vars(torch.nn))
    assert repr(ours) == repr(theirs)
    state = ours.state_dict()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    ids = [[0, 6, 3], [3, 3, 6]]
    out, known = ours(ids), theirs(torch.tensor(ids))
    np.testing.assert_array_equal(out.data, known.detach().numpy())
    (out * out).sum().backward()
    (known * known).sum().backward()
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad.numpy(), rtol=1e-6)


def test_the_layer_starts_as_pytorchs() -> None:
    ag.seed(0)
    weight = nn.Embedding(101, 200, padding_idx=100).weight.data
    np.testing.assert_array_equal(weight[100], 0)
    # five standard errors of the mean and the variance of 20,000 normal draws
    assert abs(weight[:100].mean()) < 5 / np.sqrt(20_000)
    assert abs(weight[:100].var() - 1) < 5 * np.sqrt(2 / 20_000)


@pytest.mark.parametrize("arguments", [(0, 3), (3, 0), (3, 2, 3), (3, 2, -4)])
def test_the_layer_refuses(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"Embedding: .*(num_embeddings=|padding_idx is)"):
        nn.Embedding(*arguments)


@POOLS
def test_elements_outside_the_mask_have_no_effect(pool: Any) -> None:
    rng = np.random.default_rng(1)
    values, mask = rng.normal(size=(4, 3, 9)), random_mask(rng, (4, 9))
    step = rng.normal(size=values.shape)
    left_out = np.broadcast_to(~mask[:, None], values.shape)
    found = []
    for filling in (0.0, 1e300, -np.inf, np.nan):
        x = ag.tensor(np.where(left_out, filling, values), requires_grad=True)
        loss = (pool(x, mask) ** 2).sum()
        loss.backward(retain_graph=True)
        end = loss.average_backward({x: np.where(left_out, 0, step)})
        found.append([loss.data, end, x.grad, x.average_grad])
        assert (x.grad[left_out] == 0).all()
        assert (x.average_grad[left_out] == 0).all()
        change = (x.average_grad * np.where(left_out, 0, step)).sum()
        assert change == pytest.approx(end - loss.item(), rel=1e-12)
    for others in found[1:]:
        for array, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(array, other)


@POOLS
@settings(max_examples=20)
@given(shape=shapes(min_dims=2, max_dims=3, min_side=1), seed=seeds)
def test_pools_are_those_of_each_sequence_without_its_padding(
    pool: Any, shape: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, mask = rng.normal(size=shape), random_mask(rng, (*shape[:-2], shape[-1]))
    found = pool(x, mask).data
    rows = x.reshape(-1, *shape[-2:]), mask.reshape(-1, shape[-1])
    each = [pool(sequence[:, kept]).data for sequence, kept in zip(*rows, strict=True)]
    np.testing.assert_allclose(found, np.reshape(each, shape[:-1]), rtol=1e-14)
    np.testing.assert_allclose(pool(x).data, pool(x, np.ones_like(mask)).data, rtol=1e-14)


def test_equal_largest_elements_share_and_left_out_ones_do_not() -> None:
    x = ag.tensor([[3.0, 3.0, 1.0, 3.0, 9.0]], requires_grad=True)
    F.global_max_pool1d(x, [True, True, True, False, False]).backward()
    np.testing.assert_array_equal(x.grad, [[0.5, 0.5, 0, 0, 0]])


@POOLS
def test_the_mask_of_a_recorded_pool_can_change(pool: Any) -> None:
    mask, x = np.array([True, True, False]), ag.tensor(np.ones((1, 3)), requires_grad=True)
    out = pool(x, mask)
    mask[:] = False
    out.backward()
    np.testing.assert_array_equal(x.grad, [[0.5, 0.5, 0]])


@pytest.mark.parametrize("name", ["max", "avg"])
def test_the_layers_are_the_functions(name: str) -> None:
    layer = {"max": nn.GlobalMaxPool1d(), "avg": nn.GlobalAvgPool1d()}[name]
    function = getattr(F, f"global_{name}_pool1d")
    x = np.random.default_rng(2).normal(size=(2, 3, 4))
    mask = np.array([[True, True, False, False], [False, True, True, True]])
    np.testing.assert_array_equal(layer(x).data, function(x).data)
    np.testing.assert_array_equal(layer(x, mask).data, function(x, mask).data)
    assert repr(layer) == f"{type(layer).__name__}()"
