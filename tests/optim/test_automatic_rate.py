"""The automatic rate: its rule, its limits, and whole trainings with it."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import Batches
from agrad.optim.automatic_rate import AutomaticRate
from agrad.train import evaluate, train

lengths = st.floats(0, 1e6) | st.sampled_from([0.0, math.inf, 1e30, 1e-30])
losses = st.tuples(*2 * [st.floats(-10, 10) | st.sampled_from([0.0, 1e300, math.inf, math.nan])])
measured_steps = st.lists(
    st.tuples(st.none() | st.floats(0, 1), lengths, lengths, losses, st.integers(1, 3)),
    max_size=40,
)


def run(rate, lr, steps):
    """Yield the rate after each step: share, length at a rate of 1, distance, losses, steps."""
    for used, unit, distance, ends, count in steps:
        lr = rate.after(lr, used, lr * unit, min(distance, 1e100), ends, count)
        yield lr


@given(st.floats(1e-8, 1e-1), st.floats(1e-3, 1e3), measured_steps)
def test_the_rate_stays_within_its_limits(start, weight, steps):
    rate = AutomaticRate(start, weight)
    farthest, squares, count = 0.01 * weight, 0.0, 0
    votes, confirmed, square_change, start_loss = [], False, 0.0, 0.0
    for lr, (_, unit, distance, (first, last), stands_for) in zip(run(rate, start, steps), steps):
        if not confirmed:
            votes += [np.sign(first - last)] if first < last or first > last else []
            confirmed = sum(votes) >= max(3 * math.sqrt(len(votes)), len(votes) / 2) > 0
            if abs(first - last) < 1e150:
                square_change = 0.9 * square_change + 0.1 * (first - last) ** 2
                start_loss = 0.9 * start_loss + 0.1 * abs(first)
        longest = 0.1
        if not confirmed and len(votes) >= 16:
            change = math.sqrt(square_change) / start_loss if start_loss else 0.0
            longest = min(max(0.025 * change, 0.001), 0.1)
        farthest = max(farthest, min(distance, 1e100))
        if math.isfinite(lr * unit):
            squares += stands_for * unit**2
            count += stands_for
        assert lr >= 0.1 * start * (1 - 1e-12)
        if squares > 0 and lr > 0.1 * start * (1 + 1e-12):
            assert lr <= max(farthest / math.sqrt(squares), start) * (1 + 1e-9)
            assert lr * math.sqrt(squares / count) <= longest * weight * (1 + 1e-9)


@given(st.floats(0, 1), st.sampled_from([0.79, 0.8]))
def test_the_rate_moves_by_the_share(used, first):
    """It moves 2.5 times as fast until a share is below its target."""
    rate = AutomaticRate(1e-2, 1e6)
    rate.after(1e-2, first, 1e-2, 1e6, (0.0, 0.0), 1)  # far away: no limit is near
    (lr,) = run(rate, 1e-2, [(used, 1.0, 0.0, (0.0, 0.0), 1)])
    gain = 2.5 if min(first, used) >= 0.8 else 1
    assert lr == pytest.approx(1e-2 * math.exp(gain * (used - 0.8)), rel=1e-12)


def test_the_distance_limits_the_rate():
    """To 0.3 / √2, after two updates of length 1 at a rate of 1, the first of which moved 0.3."""
    rate = AutomaticRate(1e-3, 0.0)
    assert rate.after(1e-3, 1.0, 1e-3, 0.0, (0.0, 0.0), 1) == 1e-3
    lr = rate.after(0.5, 1.0, 0.5, 0.3, (0.0, 0.0), 1)
    assert lr == pytest.approx(0.3 / math.sqrt(2), rel=1e-12)


def test_the_rate_stays_where_nothing_was_promised():
    assert AutomaticRate(1e-3, 1.0).after(1e-3, None, 0.0, 0.0, (0.0, 0.0), 1) == 1e-3


def test_weights_of_zero_do_not_bound_the_rate():
    rate = AutomaticRate(1e-3, 0.0)
    assert rate.after(1e-3, 1.0, 1e-3, 1e3, (0.0, 0.0), 1) == pytest.approx(1e-3 * math.exp(0.5))


@pytest.mark.parametrize(("against", "in_favour"), [(0, 9), (1, 12), (3, 17), (9, 27), (40, 120)])
def test_a_majority_confirms_the_way(against, in_favour):
    """At the first majority of 3√n among n votes of which three quarters are for it; for good."""
    rate = AutomaticRate(1e-3, 1.0)

    def bounded(fall):
        """Whether an update whose length is the rate is held to a thousandth of a weight."""
        return rate.after(5e-3, 1.0, 5e-3, 1e3, (1.0, 1.0 - fall), 1) == pytest.approx(1e-3)

    before = [bounded(fall) for fall in [-1e-3] * against + [1e-3] * (in_favour - 1)]
    assert not any(before[:15])
    assert all(before[15:])
    assert not rate.confirmed
    assert not bounded(1e-3)
    assert rate.confirmed
    assert not any(bounded(-1e-3) for _ in range(100))


def test_equal_losses_are_no_vote():
    rate = AutomaticRate(1e-3, 1.0)
    for _ in range(30):
        assert rate.after(5e-3, 1.0, 5e-3, 1e3, (1.0, 1.0), 1) > 5e-3
    assert not rate.confirmed


def test_changes_of_the_loss_widen_the_bound():
    """To a fortieth of their root mean square, relative to the loss at the start."""
    rate = AutomaticRate(1e-3, 1.0)
    for i in range(400):
        lr = rate.after(5e-2, 1.0, 5e-2, 1e3, (2.0, 2.0 + 0.4 * (-1) ** i), 1)
    assert lr == pytest.approx(0.025 * 0.2)


@given(st.floats(1e-8, 1e-1), st.sampled_from([0.0, 0.3]), measured_steps, measured_steps)
def test_a_saved_rate_resumes(start, weight, before, after):
    rate, again = AutomaticRate(start, weight), AutomaticRate(1.0, 1.0)
    lr = [start, *run(rate, start, before)][-1]
    again.load_state_dict(rate.state_dict())
    assert list(run(again, lr, after)) == list(run(rate, lr, after))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": "fast"}, "start must be a number"),
        ({"squares": -1.0}, "squares must not be negative"),
        ({"steps": math.nan}, "steps must not be negative"),
        ({"more": 1.0}, "the automatic rate needs"),
    ],
)
def test_refuses_a_state_and_changes_nothing(change, message):
    rate = AutomaticRate(1e-3, 1.0)
    before = rate.state_dict()
    with pytest.raises((ValueError, TypeError), match=message):
        rate.load_state_dict(before | change)
    assert rate.state_dict() == before


# -- with an optimizer -----------------------------------------------------------------------------


def test_the_optimizer_gives_the_rate_what_it_measures():
    """It passes lengths over all coordinates: of the proposal, and of the way from the start."""
    theta, phi = (ag.tensor(v, requires_grad=True) for v in (np.ones((2, 2)), np.ones(2)))
    optimizer = optim.AverageGradient(optim.SGD([theta, phi], lr=1e-3), lr="auto", every=1)
    rate, lr = AutomaticRate(1e-3, 1.0), 1e-3
    for _ in range(6):
        optimizer.zero_grad()
        before = np.concatenate([theta.numpy().ravel(), phi.numpy()])
        loss = (theta**4).sum() + 3 * (phi**2).sum()
        optimizer.step(loss)
        grad = np.concatenate([4 * before[:4] ** 3, 6 * before[4:]])
        length = lr * math.sqrt((grad**2).mean())
        distance = math.sqrt(((before - 1) ** 2).mean())
        losses = 4.0 + 6, loss.item()
        lr = rate.after(lr, optimizer.fraction, length, distance, losses, 1)
        assert optimizer.lr == pytest.approx(lr, rel=1e-12)
    assert optimizer.state_dict()["rate"] == pytest.approx(rate.state_dict(), rel=1e-9)


@pytest.mark.parametrize("frozen", [True, False])
def test_parameters_without_a_gradient_do_not_count(frozen):
    """A frozen parameter, or one that the loss does not use, does not change the rates."""

    def rates(*others):
        theta = ag.tensor([[3.0, -2.0], [1.0, 0.5]], requires_grad=True)
        optimizer = optim.AverageGradient(optim.SGD([theta, *others], lr=1e-3), lr="auto")
        for _ in range(20):
            optimizer.zero_grad()
            optimizer.step((theta**4).sum())
            yield optimizer.lr

    other = ag.tensor(np.ones((30, 20)), requires_grad=not frozen)
    assert [*rates(other)] == [*rates()]


def test_an_automatic_rate_is_never_0():
    theta, phi = (ag.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    groups = [{"params": [theta]}, {"params": [phi], "lr": 0.0}]
    optimizer = optim.AverageGradient(optim.Adam(groups, lr=1e-3), lr="auto")
    with pytest.raises(ValueError, match="AverageGradient: the base rule's lr is 0"):
        optimizer.lr = 0
    assert optimizer.lr == 1e-3
    optimizer.step((theta**2 + phi**2).sum())
    assert np.array_equal(phi.data, [1, 2])
    optimizer.zero_grad()
    optimizer.param_groups[0]["lr"] = 0.0
    before, values = optimizer.state_dict(), theta.data.copy()
    with pytest.raises(ValueError, match="AverageGradient: the base rule's lr is 0"):
        optimizer.step((theta**2 + phi**2).sum())
    np.testing.assert_equal(optimizer.state_dict(), before)
    assert np.array_equal(theta.data, values)


def test_the_rate_moves_only_after_measured_steps():
    theta = ag.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=1e-4), lr="auto", every=2)
    rates = []
    for _ in range(24):
        optimizer.zero_grad()
        optimizer.step((theta * theta).sum())
        rates.append(optimizer.lr)
    assert rates[16::2] == rates[17::2]
    # The first sixteen steps are all measured.
    assert all(a != b for a, b in pairwise(rates[1:17]))


def test_noise_does_not_raise_the_rate():
    """Where each batch has a slope of its own, every update goes the whole way, and nowhere."""
    rng = np.random.default_rng(0)
    theta = ag.tensor(rng.normal(size=(40, 50)).astype(np.float32), requires_grad=True)
    optimizer = optim.AverageGradient(optim.Adam([theta], lr=1e-4), lr="auto")
    for _ in range(400):
        optimizer.zero_grad()
        optimizer.step((theta * rng.normal(size=theta.shape).astype(np.float32)).mean())
        assert optimizer.fraction > 0.9
    assert 1e-3 < optimizer.lr < 1e-2


def problem(name, seed):
    """Inputs, targets, a model and a loss function."""
    rng = np.random.default_rng(seed)
    ag.seed(seed)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    if name == "noisy regression":
        y = (x @ rng.normal(size=(5, 1)) + rng.normal(size=(400, 1))).astype(np.float32)
        return x, y, nn.Linear(5, 1), F.mse_loss
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    if name == "noisy labels":
        y = np.where(rng.random(400) < 0.3, rng.integers(0, 2, 400), y)
    hidden = [nn.Linear(5, 32), nn.ReLU()]
    return x, y, nn.Sequential(*hidden, nn.Linear(32, 2)), F.cross_entropy


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [("clean labels", 1), ("clean labels", 64), ("noisy labels", 1), ("noisy regression", 1)],
)
def test_a_training_to_the_end_does_not_unlearn(name, batch_size):
    """Train until the loss is near 0, with noise that no step can fit, and with batches of one."""
    x, y, model, loss_function = problem(name, seed=0)
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-4), lr="auto")
    batches = Batches(x, y, batch_size=batch_size, seed=0)
    losses = [evaluate(model, x, y, loss_function=loss_function).loss]
    for step in train(model, optimizer, batches, 2000, loss_function, capture=True):
        assert 1e-5 <= step.rate / optimizer.scale <= 1
        if step.iteration % 200 == 0:
            losses.append(evaluate(model, x, y, loss_function=loss_function).loss)
    equal = 0.01 * losses[0]
    assert max(losses[-1], equal) <= 1.2 * max(min(losses), equal)
    assert losses[-1] < 0.9 * losses[0]
    assert optimizer.zero_steps <= 0.05 * 2000
