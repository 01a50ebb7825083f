"""The first rows of a batch use the masks and statistics of the whole batch."""

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.ops.part import noting_calls, part_of
from agrad.tracing.captured import capture

MODELS = {
    "dropout": lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Tanh(), nn.Dropout(0.3)),
    "batch_norm": lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh()),
    "instance_norm": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten()
    ),
    "both": lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)),
    "neither": lambda: nn.Linear(3, 2),
}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))
INPUTS = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)


@pytest.mark.parametrize("captured", [False, True])
@each_model
def test_rows_of_a_batch_have_the_batch_s_results(make, captured):
    ag.seed(0)
    model = make()
    whole, part = (capture(model), capture(model)) if captured else (model, model)
    for _ in range(3):  # the first call of a captured function records it
        with noting_calls() as calls:
            out = whole(INPUTS)
        state, draws = model.state_dict(), ag.random.get_state()
        with part_of(calls):
            rows = part(INPUTS[:5])
        np.testing.assert_allclose(rows.numpy(), out.numpy()[:5], rtol=2e-6, atol=1e-6)
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, state[name])
        assert ag.random.get_state() == draws


def test_images_of_a_batch_have_the_statistics_of_the_batch():
    images = np.random.default_rng(1).standard_normal((6, 3, 4, 4)).astype(np.float32)
    norm = nn.BatchNorm2d(3)
    with noting_calls() as calls:
        out = norm(images)
    with part_of(calls):
        rows = norm(images[:2])
    np.testing.assert_allclose(rows.numpy(), out.numpy()[:2], rtol=1e-5, atol=1e-6)


def test_a_mask_may_have_its_rows_on_any_axis():
    x = ag.tensor(np.ones((4, 6), np.float32))
    with noting_calls() as calls:
        out = F.dropout(x.T, 0.5)
    with part_of(calls):
        rows = F.dropout(x[:3].T, 0.5)
    np.testing.assert_array_equal(rows.numpy(), out.numpy()[:, :3])


def test_the_statistics_are_constants_of_the_rows_gradient():
    norm = nn.BatchNorm1d(1, affine=False)
    x = ag.tensor([[1.0], [3.0], [5.0]], requires_grad=True)
    with noting_calls() as calls:
        norm(x)
    with part_of(calls):
        norm(x[:2]).sum().backward()
    np.testing.assert_allclose(x.grad, [[1 / np.sqrt(8 / 3)]] * 2 + [[0.0]], rtol=1e-5)


def test_refuses_rows_that_have_no_counterpart_in_the_batch():
    with noting_calls() as calls:
        F.dropout(INPUTS, 0.5)
    message = r"RandomDropout: .* no counterpart .* probe_size=None"
    with part_of(calls):
        F.dropout(INPUTS[:2], 0.5)
        with pytest.raises(ValueError, match=message):
            F.dropout(INPUTS[:2], 0.5)
    with part_of(calls), pytest.raises(ValueError, match=message):
        F.dropout(np.ones((13, 3), np.float32), 0.5)
