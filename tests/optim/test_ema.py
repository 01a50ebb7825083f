"""Averaged weights: their definition, restoration of the weights, states and resumption."""

import numpy as np
import pytest
from noisy_bowl import each_dtype, gradient, leaves, x

import agrad as ag
from agrad import nn, no_grad, optim


@each_dtype
def test_ema_is_the_weighted_mean_of_all_updates(dtype):
    params, decay = leaves(dtype), 0.8
    ema = optim.EMA(params, decay)
    history = []
    for step in range(6):
        for i, param in enumerate(params):
            param.data = gradient(step, i, param.data)
        history.append([param.data for param in params])
        ema.update()
    weights = decay ** np.arange(5, -1, -1)
    with ema.averaged():
        for i, param in enumerate(params):
            expected = sum(w * h[i].astype(np.float64) for w, h in zip(weights, history))
            expected /= weights.sum()
            assert param.dtype == dtype
            np.testing.assert_allclose(param.data, expected, rtol=0, atol=20 * np.finfo(dtype).eps)


def test_ema_puts_the_weights_back_even_after_an_error():
    param = x()
    ema = optim.EMA([param])
    ema.update()
    param.data = [5.0, 6.0]

    def evaluate():
        np.testing.assert_array_equal(param.data, [1, 2])
        param.writable()[...] = 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ema.averaged():
        evaluate()
    np.testing.assert_array_equal(param.data, [5, 6])
    with ema.averaged():
        np.testing.assert_array_equal(param.data, [1, 2])


def test_after_the_averages_the_parameters_have_the_same_arrays():
    """So an optimizer need not move them, nor a captured step look at them again."""
    param = x()
    ema = optim.EMA([param])
    ema.update()
    array = param.data
    with ema.averaged():
        assert param.data is not array
    assert param.data is array


def test_ema_resumes():
    param, other = x(), x()
    ema, resumed = optim.EMA([param], 0.5), optim.EMA([other], 0.5)
    ema.update()
    resumed.load_state_dict(ema.state_dict())
    for average in (ema, resumed):
        average.params[0].data = [3.0, 3.0]
        average.update()
    with ema.averaged(), resumed.averaged():
        np.testing.assert_array_equal(param.data, other.data)


def test_each_of_many_averages_is_resumed():
    params, others = leaves(shapes=[(2,)] * 12), leaves(shapes=[(2,)] * 12)
    ema, resumed = optim.EMA(params, 0.5), optim.EMA(others, 0.5)
    ema.update()
    state = ema.state_dict()
    averages = {i: state["averages"][i] for i in sorted(state["averages"])}
    for param in others:
        param.data = np.zeros(2)
    resumed.load_state_dict(state | {"averages": averages})
    with ema.averaged(), resumed.averaged():
        for param, other in zip(params, others, strict=True):
            np.testing.assert_array_equal(param.data, other.data)


def test_the_averages_follow_the_parameters_to_another_dtype():
    model = nn.Linear(2, 1)
    ema = optim.EMA(model.parameters(), decay=0.5)
    ema.update()
    resumed = optim.EMA(model.double().parameters(), decay=0.5)
    resumed.load_state_dict(ema.state_dict())
    for _ in range(50):
        for param in model.parameters():
            param.data = np.full(param.shape, 1 / 3)
        ema.update()
    with ema.averaged(), no_grad():
        assert model(np.ones((1, 2))).item() == pytest.approx(1, rel=1e-14)
    model.float()
    with ema.averaged():
        assert {param.dtype for param in model.parameters()} == {np.dtype(np.float32)}
    ema.update()
    assert {average.dtype for average in ema.state_dict()["averages"].values()} == {
        np.dtype(np.float32)
    }


def test_ema_refuses():
    param = x()
    ema = optim.EMA([param])
    with pytest.raises(ValueError, match="nothing to average yet"), ema.averaged():
        pass
    ema.update()
    with ema.averaged():
        with pytest.raises(ValueError, match="update outside"):
            ema.update()
        with pytest.raises(ValueError, match="already in use"), ema.averaged():
            pass
    with pytest.raises(ValueError, match="expected updates and averages"):
        ema.load_state_dict({})
    with pytest.raises(ValueError, match="has 1 averages for 2 parameters"):
        optim.EMA([x(), x()]).load_state_dict(ema.state_dict())
    with pytest.raises(ValueError, match="average 0 must be float64"):
        optim.EMA([x(dtype=np.float64)]).load_state_dict(ema.state_dict())


def normalizing(momentum=0.5):
    """Return a network with running statistics, and a function that makes a training step."""
    ag.seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=momentum))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(seed):
        optimizer.zero_grad()
        x = np.random.default_rng(seed).normal(seed, 1, (8, 2)).astype("float32")
        optimizer.step((model(x) ** 2).sum() + (model[0](x) ** 2).mean())

    return model, step


@pytest.mark.parametrize("momentum", [0.5, None])
def test_running_statistics_are_averaged_like_the_weights(momentum):
    model, step = normalizing(momentum)
    ema = optim.EMA(model.parameters(), 0.75, buffers=model.buffers())
    history = []
    for i in range(4):
        step(i)
        ema.update()
        history.append(model.state_dict())
    weights = 0.75 ** np.arange(3, -1, -1)
    with ema.averaged():
        found = model.state_dict()
    for name, array in found.items():
        expected = sum(w * h[name] for w, h in zip(weights, history)) / weights.sum()
        if name == "1.num_batches_tracked":
            expected = 4
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, history[-1][name])
    again, _ = normalizing(momentum)
    resumed = optim.EMA(again.parameters(), 0.75, again.buffers())
    resumed.load_state_dict(ema.state_dict())
    with resumed.averaged():
        for name, array in again.state_dict().items():
            if name != "1.num_batches_tracked":
                np.testing.assert_array_equal(array, found[name])


def test_without_buffers_the_statistics_are_the_latest():
    model, step = normalizing()
    ema = optim.EMA(model.parameters(), 0.75)
    for i in range(3):
        step(i)
        ema.update()
    latest = model[1].running_mean.data.copy()
    with ema.averaged():
        np.testing.assert_array_equal(model[1].running_mean.data, latest)
    optim.EMA(nn.Linear(1, 1).parameters(), buffers=nn.Linear(1, 1).buffers())  # there are none


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda a: a, TypeError, "buffers must be an iterable of Tensors, got a Tensor"),
        (lambda a: 3, TypeError, "buffers must be an iterable of Tensors, got a int"),
        (lambda a: [x(), "mean"], TypeError, r"buffers\[1\] must be a Tensor, got a str"),
        (lambda a: [a * 2.0], ValueError, r"buffers\[0\] is computed"),
        (lambda a: [a], ValueError, r"buffers\[0\] appears twice"),
    ],
)
def test_ema_refuses_buffers(make, error, message):
    param = x()
    with pytest.raises(error, match="EMA: " + message):
        optim.EMA([param], buffers=make(param))
