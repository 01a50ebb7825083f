"""Averaged weights: by their definition, put back, saved and resumed."""

import numpy as np
import pytest
from noisy_bowl import each_dtype, gradient, leaves, x

from agrad import optim


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


def test_ema_puts_the_weights_back_also_after_an_error():
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
