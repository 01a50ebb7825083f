"""Clipping of gradients, against PyTorch's and by hand."""

import math

import numpy as np
import pytest
from noisy_bowl import each_dtype, gradient, leaves, x
from pytorch import needs_torch, torch

from agrad import nn, optim
from agrad.errors import NonFiniteError


@needs_torch
@each_dtype
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clips_the_norm_as_pytorch_does(dtype, norm_type, max_norm):
    ours = leaves(dtype)
    theirs = [torch.tensor(param.data, requires_grad=True) for param in ours]
    for i, (a, b) in enumerate(zip(ours, theirs)):
        a.grad = gradient(0, i, a.data)
        b.grad = torch.tensor(a.grad)
    norm = optim.clip_grad_norm_([*ours, x()], max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    tolerance = 20 * float(np.finfo(dtype).eps)
    assert norm == pytest.approx(expected.item(), rel=tolerance)
    for a, b in zip(ours, theirs):
        assert a.grad.dtype == dtype
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=tolerance)


def test_clips_the_norm():
    a, b = x(), x()
    a.grad, b.grad = np.array([3, 0], np.float32), np.array([0, 4], np.float32)
    assert optim.clip_grad_norm_([a, b], 10.0) == 5
    np.testing.assert_array_equal(b.grad, [0, 4])
    assert optim.clip_grad_norm_([a, b], 1.0) == 5
    np.testing.assert_allclose([*a.grad, *b.grad], [0.6, 0, 0, 0.8], rtol=1e-6)


def test_without_gradients_there_is_nothing_to_clip():
    assert optim.clip_grad_norm_([x(), x()], 1.0) == 0
    assert optim.clip_grad_norm_([], 1.0) == 0
    optim.clip_grad_value_([x()], 1.0)


def test_clips_large_norms_and_refuses_what_is_not_finite():
    a = x()
    a.grad = np.array([3e30, 4e30], np.float32)
    assert optim.clip_grad_norm_([a], 1.0) == pytest.approx(5e30)
    np.testing.assert_allclose(a.grad, [0.6, 0.8], rtol=1e-6)
    for bad in (math.nan, math.inf):
        a.grad = np.array([1, bad], np.float32)
        with pytest.raises(NonFiniteError, match="clip_grad_norm_: the norm"):
            optim.clip_grad_norm_([a], 0.5)
        assert a.grad[0] == 1


CLIPS = {
    "norm": lambda params: optim.clip_grad_norm_(params, 1.0),
    "value": lambda params: optim.clip_grad_value_(params, 1.0),
}
each_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=list(CLIPS))


@each_clip
@pytest.mark.parametrize(
    "pack",
    [
        lambda a: a,
        lambda a: [a],
        lambda a: (a,),
        lambda a: {a},
        lambda a: {a: "weight"},
        lambda a: {"weight": a}.values(),
        lambda a: iter([a]),
        lambda a: (param for param in [a]),
    ],
)
def test_clips_one_tensor_and_any_iterable(pack, clip):
    a = x()
    a.grad = np.array([3, 4], np.float32)
    clip(pack(a))
    assert np.abs(a.grad).max() <= 1


@each_clip
def test_refuses_used_up_iterators_and_other_types(clip):
    model = nn.Linear(2, 2)
    parameters = model.parameters()
    optim.SGD(parameters)
    with pytest.raises(ValueError, match="params is an iterator without elements; if it was used"):
        clip(parameters)
    with pytest.raises(TypeError, match="params must be a Tensor or an iterable of Tensors, got a"):
        clip(model)
    with pytest.raises(TypeError, match=r"params\[1\] must be a Tensor, got a str"):
        clip([x(), "weight"])


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_an_infinite_norm_only_measures(norm_type):
    a = x()
    a.grad = np.array([3, 4], np.float32)
    norm = optim.clip_grad_norm_([a], math.inf, norm_type)
    assert norm == np.linalg.norm([3, 4], norm_type)
    np.testing.assert_array_equal(a.grad, [3, 4])


def test_clips_values():
    a = x()
    a.grad = np.array([-3, 0.25], np.float32)
    optim.clip_grad_value_([a, x()], 1.0)
    np.testing.assert_array_equal(a.grad, [-1, 0.25])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.clip_grad_norm_([x()], 0), "max_norm must be positive"),
        (lambda: optim.clip_grad_norm_([x()], math.nan), "max_norm must be positive"),
        (lambda: optim.clip_grad_norm_([x()], -math.inf), "max_norm must be positive"),
        (lambda: optim.clip_grad_norm_([x()], 1, 0), "norm_type must be positive"),
        (lambda: optim.clip_grad_value_([x()], -1), "clip_value must not be negative"),
    ],
)
def test_clipping_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
