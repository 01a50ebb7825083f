"""AverageGradient: its line search, its options, and its handling of infinite losses."""

import itertools
import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from agrad.kernels.cpu.optimizer import (
    blend_curvature,
    loss_shares,
    search_elements,
    search_groups,
    shorten_elements,
)
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.core.tensor import apply
from agrad.errors import AverageUndefinedError, FreedGraphError, NonFiniteError
from agrad.ops.operation import Elementwise, Operation
from agrad.serialization import load, save

GRANULARITIES = ["element", "row", "tensor", "model"]
BASES = {
    "SGD": lambda params: optim.SGD(params, lr=0.2, momentum=0.5),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.05),
    "Adam": lambda params: optim.Adam(params, lr=0.05),
    "AdamW": lambda params: optim.AdamW(params, lr=0.05),
    "Muon": lambda params: optim.Muon(params, lr=0.05),
}
each_base = pytest.mark.parametrize("make_base", BASES.values(), ids=list(BASES))
each_granularity = pytest.mark.parametrize("granularity", GRANULARITIES)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)


class Net:
    """A small tanh network with a regression loss and a new batch in each step."""

    def __init__(self, dtype=np.float64):
        rng = np.random.default_rng(0)
        shapes = [(4, 8), (8,), (8, 8), (8,), (8, 1), ()]
        arrays = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
        self.params = [ag.tensor(array, requires_grad=True) for array in arrays]

    def loss(self, step):
        w1, b1, w2, b2, w3, b3 = self.params
        rng = np.random.default_rng([1, step])
        x = rng.normal(size=(16, 4)).astype(w1.dtype)
        y = np.sin(x.sum(axis=1, keepdims=True))
        h = np.tanh(np.tanh(x @ w1 + b1) @ w2 + b2)
        error = h @ w3 + b3 - y
        return (error * error).mean()

    def train(self, optimizer, steps, start=0):
        losses = []
        for step in range(start, start + steps):
            optimizer.zero_grad()
            loss = self.loss(step)
            if isinstance(optimizer, optim.AverageGradient):
                optimizer.step(loss)
            else:
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
        return losses


def scalar(value, dtype=np.float64):
    return ag.tensor(np.asarray(value, dtype), requires_grad=True)


# -- the line search -------------------------------------------------------------------------------


def magnitudes(dtype):
    """Draw zeros, and numbers of both signs over most exponents."""
    largest = 2.0**40 if dtype == np.float32 else 2.0**300
    numbers = st.floats(-largest, largest, width=32 if dtype == np.float32 else 64)
    return numbers.map(lambda v: v if abs(v) > 1 / largest else 0.0)


@st.composite
def problems(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5))
    g, own, average, delta = (
        draw(hnp.arrays(dtype, shape, elements=magnitudes(dtype))) for _ in range(4)
    )
    # Without a probe, the measured loss is the loss itself.
    own = g if draw(st.booleans()) else own
    return g, own, average, delta


def minimum_on_grid(slope, curvature):
    """Return the exact minimum of t·slope + t²·curvature over a fine grid of [0, 1]."""
    points = [Fraction(k, 64) for k in range(65)]
    return min(t * slope + t * t * curvature for t in points)


def assert_minimizes(t, slope, curvature, tolerance):
    assert 0 <= t <= 1
    t = Fraction(float(t))
    assert t * slope + t * t * curvature <= minimum_on_grid(slope, curvature) + tolerance


@given(problems())
@example((*np.float32([[[1e-30]], [[1e-30]], [[1e-30]], [[-1e-30]]]),))  # products underflow
@example((np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1))))
def test_each_element_goes_to_the_minimum_of_its_share(problem):
    g, own, average, delta = problem
    fractions, moved = average.ravel().copy(), delta.ravel().copy()
    used, usable = search_elements(g.ravel(), own.ravel(), fractions, moved)
    np.testing.assert_array_equal(moved, fractions * delta.ravel())
    np.testing.assert_array_equal(fractions[delta.ravel() == 0], 1)
    # The sums are those of a search on the measured loss alone.
    shares, its_delta = average.ravel().copy(), delta.ravel().copy()
    search_elements(own.ravel(), own.ravel(), shares, its_delta)
    promises = np.maximum(-own.ravel().astype(np.float64) * delta.ravel(), 0)
    assert usable == pytest.approx(promises.sum(), rel=1e-13, abs=0)
    assert used == pytest.approx((shares * promises).sum(), rel=1e-13, abs=0)
    # ĝ - p is rounded once, the fraction three times.
    eps = 4 * Fraction(float(np.finfo(g.dtype).eps))
    for t, gi, pi, ai, di in zip(fractions, g.flat, own.flat, average.flat, delta.flat):
        gi, pi, ai, di = (Fraction(float(v)) for v in (gi, pi, ai, di))
        tolerance = eps * (abs(gi) + abs(pi) + abs(ai)) * abs(di)
        assert_minimizes(t, gi * di, (ai - pi) * di, tolerance)


@given(problems())
@example((*np.float32([[[1e-30]], [[1e-30]], [[1e-30]], [[-1e-30]]]),))
@example((np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 1))))
def test_a_known_curvature_gives_the_same_minimum(problem):
    g, curvature, _, delta = problem
    moved = delta.ravel().copy()
    shorten_elements(g.ravel(), curvature.ravel(), moved)
    # sΔ is rounded once, the fraction three times, and the update once more.
    eps = 5 * Fraction(float(np.finfo(g.dtype).eps))
    tiny = Fraction(float(np.finfo(g.dtype).tiny))
    for end, gi, si, di in zip(moved, g.flat, curvature.flat, delta.flat):
        assert end == 0 or np.sign(end) == np.sign(di)
        end, gi, si, di = (Fraction(float(v)) for v in (end, gi, si, di))
        t = end / di if di else Fraction(0)
        slope, bend = gi * di, si * di * di
        tolerance = (eps * (abs(gi) + abs(si * di)) + tiny) * abs(di)
        assert t * slope + t * t * bend <= minimum_on_grid(slope, bend) + tolerance


@given(problems())
def test_each_row_goes_to_the_minimum_of_the_sum_of_its_shares(problem):
    g, own, average, delta = problem
    shares, fractions = np.empty((3, len(g))), np.empty(len(g), g.dtype)
    loss_shares(g, own, average, delta, shares)
    used, usable = search_groups(shares, fractions)
    # The sums are those of a search on the measured loss alone.
    of_own = np.empty(len(g))
    search_groups(shares[[2, 1, 2]], of_own)
    promises = np.maximum(-shares[2], 0)
    assert usable == pytest.approx(promises.sum(), rel=1e-13, abs=0)
    # A fraction may be rounded to float32.
    rel = 1e-13 if g.dtype == np.float64 else 1e-6
    assert used == pytest.approx((of_own * promises).sum(), rel=rel, abs=0)
    # A sum of n terms is rounded n times in double precision.
    eps = Fraction(float(np.finfo(g.dtype).eps)) * 4 + Fraction(g.shape[1]) * Fraction(2) ** -51
    for i in range(len(g)):
        gi, pi, ai, di = ([Fraction(float(v)) for v in a[i]] for a in (g, own, average, delta))
        slope = sum(x * z for x, z in zip(gi, di))
        curvature = sum((y - x) * z for x, y, z in zip(pi, ai, di))
        size = sum((abs(w) + abs(x) + abs(y)) * abs(z) for w, x, y, z in zip(gi, pi, ai, di))
        tolerance = eps * size
        assert_minimizes(fractions[i], slope, curvature, tolerance)


@each_dtype
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
def test_elements_do_not_depend_on_their_neighbours(size, dtype):
    g, own, average, delta = np.random.default_rng(0).normal(size=(4, size)).astype(dtype)
    fractions, moved = average.copy(), delta.copy()
    used, usable = search_elements(g, own, fractions, moved)
    alone = average.copy()
    arrays = g, own, alone, delta
    sums = [search_elements(*(array[i:][:1] for array in arrays)) for i in range(size)]
    np.testing.assert_array_equal(fractions, alone)
    np.testing.assert_array_equal(moved, delta)
    np.testing.assert_allclose([used, usable], np.sum(sums, axis=0) if sums else 0, rtol=1e-13)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_does_not_move(bad):
    for sign in (1.0, -1.0):
        fractions, delta = np.array([bad, 1.0]), np.array([sign, -1.0])
        search_elements(np.ones(2), np.ones(2), fractions, delta)
        assert fractions[0] == 0
        assert fractions[1] == 1


# -- exactness on a quadratic ----------------------------------------------------------------------


@each_dtype
def test_each_coordinate_of_a_quadratic_lands_on_its_minimum(dtype):
    # Here the factorized average gradient is exact, and so is the model of the loss.
    h = np.array([0.1, 1.0, 10.0, 100.0], dtype)
    theta = ag.tensor(np.array([1.0, -2.0, 3.0, -4.0], dtype), requires_grad=True)
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=0.5))
    optimizer.step((theta * theta * h).sum() * 0.5)
    # A step with lr·h < 1 falls short of the minimum and is made whole; the others would overshoot.
    expected = np.array([1.0 - 0.05, -1.0, 0.0, 0.0])
    np.testing.assert_allclose(theta.data, expected, atol=8 * np.finfo(dtype).eps)


def test_a_timid_step_is_not_lengthened():
    theta = scalar([1.0])
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=0.1))
    optimizer.step((theta * theta).sum() * 0.5)
    np.testing.assert_allclose(theta.data, [0.9], atol=1e-15)
    assert optimizer.fraction == 1


def test_the_model_moves_by_the_minimum_of_the_whole_loss():
    h = np.array([1.0, 30.0])
    theta = scalar([1.0, 1.0])
    grad = h * theta.data
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=0.1), granularity="model")
    optimizer.step((theta * theta * h).sum() * 0.5)
    exact = (grad @ grad) / (grad @ (h * grad))
    np.testing.assert_allclose(theta.data, 1 - exact * grad, rtol=1e-14)


# -- how far the model of the shares can be trusted ------------------------------------------------


class Quadratic:
    """½ xᵀHx + bᵀx from a random point, and an update."""

    def __init__(self, seed, size, interactions=None):
        rng = np.random.default_rng(seed)
        self.hessian = rng.normal(size=(size, size))
        self.hessian += self.hessian.T
        self.slope, start, self.update = rng.normal(size=(3, size))
        if interactions is not None:
            signs = np.sign(np.outer(self.update, self.update))
            self.hessian = interactions(self.hessian, signs)
        self.x = ag.tensor(start, requires_grad=True)

    def loss(self, x):
        return 0.5 * (x @ self.hessian @ x) + (self.slope * x).sum()

    def shares(self, t):
        """Return φᵢ(tᵢ), from the gradient and the average gradient along the update."""
        loss = self.loss(self.x)
        loss.backward(retain_graph=True)
        loss.average_backward({self.x: self.update})
        g, average = self.x.grad, self.x.average_grad
        return t * g * self.update + t**2 * (average - g) * self.update


quadratics = st.builds(Quadratic, st.integers(0, 2**32 - 1), st.integers(1, 6))
cooperating = st.builds(
    Quadratic,
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.sampled_from(
        [
            lambda hessian, signs: np.diag(np.diag(hessian)),  # no interaction
            lambda hessian, signs: np.abs(hessian) * signs,  # ΔᵢHᵢⱼΔⱼ ≥ 0
        ]
    ),
)


@given(quadratics, st.data())
def test_the_model_errs_on_a_quadratic_by_what_unequal_fractions_cost(quadratic, data):
    delta = quadratic.update
    t = data.draw(hnp.arrays(np.float64, delta.shape, elements=st.floats(-2, 2, width=16)))
    interactions = np.outer(delta, delta) * quadratic.hessian
    model = quadratic.shares(t).sum()
    correction = (interactions * np.subtract.outer(t, t) ** 2).sum() / 4
    start, end = (quadratic.loss(x).item() for x in (quadratic.x, quadratic.x + t * delta))
    # Rounding is relative to the terms, which are of the order of 100 at most.
    assert end - start == pytest.approx(model - correction, rel=1e-12, abs=1e-11)


def loss_before_and_after(quadratic, granularity):
    """Make an unverified step whose base rule proposes the quadratic's update."""
    x = quadratic.x
    optimizer = optim.AverageGradient(optim.SGD([x], lr=1.0), granularity=granularity, verify=False)
    loss = quadratic.loss(x)
    loss.backward(retain_graph=True)
    x.grad[...] = -quadratic.update
    return optimizer.step(loss), quadratic.loss(x).item()


@given(quadratics)
def test_one_fraction_for_the_model_never_raises_a_quadratic(quadratic):
    before, after = loss_before_and_after(quadratic, "model")
    assert after <= before + 1e-11


@each_granularity
@given(cooperating)
def test_coordinates_that_help_each_other_never_raise_a_quadratic(granularity, quadratic):
    before, after = loss_before_and_after(quadratic, granularity)
    assert after <= before + 1e-11


def convex(x):
    hessian = np.array([[1.0, 0.93], [0.93, 2.2]])
    return 0.5 * (x @ hessian @ x)


def hill(x):
    return x * x - x + 16 * (x * (1 - x)) ** 2


@pytest.mark.parametrize(
    ("loss", "start", "base", "granularity", "ends"),
    [
        (
            convex,
            [0.2, -0.1],
            lambda p: optim.RMSprop(p, 1.0, alpha=0.0),
            "element",
            (0.0124, 0.38),
        ),
        (hill, 0.0, lambda p: optim.SGD(p, 1.0), "model", (0.0, 0.75)),
    ],
    ids=["elements of a convex quadratic", "one fraction beyond quadratics"],
)
def test_only_a_verified_step_is_safe(loss, start, base, granularity, ends):
    results = []
    for verify in (False, True):
        x = scalar(start)
        optimizer = optim.AverageGradient(base([x]), granularity=granularity, verify=verify)
        before = optimizer.step(loss(x))
        results.append(loss(x).item())
    assert (before, results[0]) == pytest.approx(ends, abs=5e-4)
    assert results[1] <= before


# -- the kept curvature ----------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 0.9])
def test_the_curvature_is_a_least_squares_fit(smoothing, dtype):
    """It fits ĝ - p = sΔ; each step multiplies the weight of earlier ones by `smoothing`."""
    rng = np.random.default_rng(0)
    size, steps = 5, 8
    curvature, weight = np.zeros((2, size), dtype)
    deltas = (rng.normal(size=(steps, size)) * 10.0 ** rng.integers(-6, 3, (steps, 1))).astype(
        dtype
    )
    slopes, averages = rng.normal(size=(2, steps, size)).astype(dtype)
    for i, (p, average, delta) in enumerate(zip(slopes, averages, deltas), start=1):
        result = average.copy()
        blend_curvature(p, result, delta, curvature, weight, smoothing)
        shares = smoothing ** np.arange(i - 1.0, -1, -1)[:, None]
        d, rises = deltas[:i].astype(float), (averages[:i].astype(float) - slopes[:i])
        squares = (shares * d**2).sum(0)
        fit = (shares * rises * d).sum(0) / squares
        rtol = 64 * np.finfo(dtype).eps  # each step rounds the fit and the weight
        np.testing.assert_allclose(weight, squares, rtol=rtol)
        np.testing.assert_allclose(curvature, fit, rtol=rtol, atol=rtol * np.abs(fit).max())
        expected = p + curvature.astype(float) * delta
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol * np.abs(p).max())


def test_steps_without_information_leave_the_curvature():
    """Such steps have no slope, no update, or an average that is not finite."""
    p, delta = np.array([0.0, 1.0, 1.0, 1.0]), np.array([2.0, 0.0, 2.0, 2.0])
    average = np.array([0.0, 3.0, np.nan, np.inf])
    curvature, weight = np.full(4, 0.5), np.full(4, 8.0)
    blend_curvature(p, average, delta, curvature, weight, 0.5)
    np.testing.assert_array_equal(curvature, np.full(4, 0.5))
    np.testing.assert_array_equal(weight, [4, 4, 8, 8])
    np.testing.assert_array_equal(average, [1, 1, np.nan, np.inf])
    fresh = np.zeros((2, 4))
    blend_curvature(np.zeros(4), np.zeros(4), delta, *fresh, 0.5)
    np.testing.assert_array_equal(fresh, 0)


def test_memory_used_only_for_measuring_is_released():
    def kept(every):
        """Return the memory allocated after a measured step, in units of the parameters."""
        tracemalloc.start()
        try:
            model = nn.Linear(300, 300)
            base = optim.Adam(model.parameters(), lr=1e-4, cautious=True)
            optimizer = optim.AverageGradient(base, every=every, lr="auto")
            for _ in range(2):
                optimizer.step((model(np.ones((2, 300), np.float32)) ** 2).mean())
                optimizer.zero_grad()
            return tracemalloc.get_traced_memory()[0] / (300 * 301 * 4)
        finally:
            tracemalloc.stop()

    kept(1)  # imports and compiles
    assert kept(4) < 8.5  # the parameters, a gradient, an update, and five arrays of state
    assert kept(1) > 8.5  # with what the next step measures with


def test_a_parabola_is_measured_once():
    """Its curvature is constant, so the steps between measurements find its vertex too."""
    theta = scalar([3.0, -2.0])
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=20.0), every=100, smoothing=0.5)
    for start in ([3.0, -2.0], [1.0, 5.0], [-4.0, 0.5]):
        theta.data = start
        optimizer.zero_grad()
        optimizer.step((theta * theta * [1.0, 10.0]).sum())
        np.testing.assert_allclose(theta.data, [0, 0], atol=1e-14)


def test_a_curvature_that_is_not_finite_is_not_kept():
    theta = scalar([5.0, 1.0])
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=1.0), smoothing=0.9)
    hidden = ag.where(np.array([True, False]), np.sqrt(theta), 0.0)
    with pytest.warns(RuntimeWarning, match="the average gradient of parameter 0"):
        optimizer.step(hidden.sum() + (2.0 * theta).sum())
    assert np.isfinite(optimizer.state_dict()["curvatures"]["0"]).all()


# -- the options, against the definition -----------------------------------------------------------


def by_definition(net, base, steps, granularity="element", every=1, smoothing=0.0):
    """Run the optimizer as its docstring defines it, without its kernels."""
    curvatures, weights = dict.fromkeys(net.params, 0.0), dict.fromkeys(net.params, 0.0)
    for step in range(steps):
        base.zero_grad()
        loss = net.loss(step)
        loss.backward(retain_graph=True)
        rule, rate = base.param_groups[0].rule, base.lr
        decays = {p: -rule.for_param(p).decay(rate) * p.data for p in net.params}
        updates = {p: delta - decays[p] for p, delta in base.propose().items()}
        measured = step % every == 0
        for p in net.params:
            p.average_grad = None
        if measured:
            loss.average_backward(updates, retain_graph=True)
            for p in net.params:
                kept, square = smoothing * weights[p], updates[p] ** 2
                rises = (p.average_grad - p.grad) * updates[p]
                weights[p] = kept + square
                known = np.where(weights[p] > 0, weights[p], 1)  # else the rise is 0 too
                curvatures[p] = (kept * curvatures[p] + rises) / known
        slopes = {p: p.grad * updates[p] for p in net.params}
        curves = {p: curvatures[p] * updates[p] ** 2 for p in net.params}
        for p in net.params:
            if granularity == "element":
                slope, curve = slopes[p], curves[p]
            elif granularity == "row" and p.ndim:
                axes = tuple(range(1, p.ndim))
                slope, curve = (c.sum(axis=axes, keepdims=True) for c in (slopes[p], curves[p]))
            elif granularity == "model":
                slope, curve = (sum(v.sum() for v in c.values()) for c in (slopes, curves))
            else:
                slope, curve = slopes[p].sum(), curves[p].sum()
            with np.errstate(all="ignore"):
                t = np.where(
                    curve > 0,
                    np.clip(-slope / (2 * curve), 0, 1),
                    np.where(slope + curve < 0, 1, 0),
                )
            updates[p] = updates[p] * t
        base.apply({p: decays[p] + delta for p, delta in updates.items()})


@each_base
@each_granularity
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"every": 3},
        {"smoothing": 0.9},
        {"smoothing": 0.5},
        {"every": 2, "smoothing": 0.5},
    ],
    ids=str,
)
def test_follows_its_definition(make_base, granularity, options):
    net, expected = Net(), Net()
    optimizer = optim.AverageGradient(
        make_base(net.params), granularity=granularity, verify=False, **options
    )
    net.train(optimizer, 8)
    by_definition(expected, make_base(expected.params), 8, granularity, **options)
    for a, b in zip(net.params, expected.params):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)


@each_dtype
@each_granularity
@each_base
def test_learns(make_base, granularity, dtype):
    net = Net(dtype)
    optimizer = optim.AverageGradient(make_base(net.params), granularity=granularity)
    losses = net.train(optimizer, 60)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert all(param.dtype == dtype for param in net.params)


def test_tames_a_rate_that_is_too_high():
    plain, tamed = Net(), Net()
    losses = plain.train(optim.RMSprop(plain.params, lr=0.1), 200)
    tamed_losses = tamed.train(optim.AverageGradient(optim.RMSprop(tamed.params, lr=0.1)), 200)
    assert np.mean(tamed_losses[-50:]) < 0.25 * np.mean(losses[-50:])


def test_granularities_agree_on_a_single_number():
    ends = []
    for granularity in GRANULARITIES:
        theta = scalar(1.5)
        base = optim.RMSprop([theta], lr=1.0)
        optimizer = optim.AverageGradient(base, granularity=granularity, every=2)
        for _ in range(6):
            optimizer.zero_grad()
            optimizer.step(np.tanh(theta) * theta)
        ends.append(theta.item())
    # The search of elements uses the sign of the update, that of groups products with it. Also, the
    # slope plus the curvature times the update keeps fewer digits.
    np.testing.assert_allclose(ends, ends[0], rtol=128 * np.finfo(np.float64).eps)


@each_granularity
def test_empty_parameters_are_allowed(granularity):
    empty = [ag.tensor(np.zeros(shape), requires_grad=True) for shape in ((0, 3), (3, 0), (0,))]
    theta = scalar([1.0, 2.0])
    base = optim.Adam([*empty, theta])
    optimizer = optim.AverageGradient(base, granularity=granularity, every=2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = (theta * theta).sum()
        for tensor in empty:
            loss = loss + (tensor * tensor).sum()
        optimizer.step(loss)
    assert (theta.data < [1, 2]).all()


# -- the fraction ----------------------------------------------------------------------------------


@each_granularity
def test_the_fraction_is_the_share_of_the_promised_fall_that_was_used(granularity):
    net, plain = Net(), Net()
    optimizer = optim.AverageGradient(optim.Adam(net.params, lr=0.1), granularity=granularity)
    net.train(optimizer, 3)  # until momentum points uphill here and there
    before = [param.data.copy() for param in net.params]
    for param, start in zip(plain.params, before):
        param.data = start
    proposing = optim.Adam(plain.params, lr=0.1)
    proposing.load_state_dict(optimizer.base.state_dict())
    plain.train(proposing, 1, start=3)
    net.train(optimizer, 1, start=3)

    def promised(moved):
        """Return by how much the loss would fall, by the slopes of the groups in which it falls."""
        slopes = [p.grad * (q.data - b) for p, q, b in zip(net.params, moved.params, before)]
        if granularity == "row":
            slopes = [part.sum(axis=tuple(range(1, part.ndim))) for part in slopes]
        elif granularity != "element":
            slopes = [part.sum() for part in slopes]
        if granularity == "model":
            slopes = [sum(slopes)]
        return sum(np.maximum(-slope, 0).sum() for slope in slopes)

    assert optimizer.fraction == pytest.approx(promised(net) / promised(plain), rel=1e-9)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("base", [optim.RMSprop, optim.Adam])
def test_the_rate_warms_itself_up(base, every):
    plain = Net()
    at_its_best_rate = np.mean(plain.train(base(plain.params, lr=0.03), 600)[-50:])
    for start in (1e-6, 1e-4, 1e-3):
        net = Net()
        options = {"smoothing": 0.0} if every == 1 else {}
        optimizer = optim.AverageGradient(
            base(net.params, lr=start), lr="auto", every=every, **options
        )
        losses = net.train(optimizer, 600)
        assert (5e-3 if every == 1 else 1e-3) < optimizer.lr < 10
        # A rate that is measured every fourth step climbs a fourth as fast.
        assert np.mean(losses[-50:]) < at_its_best_rate or start == 1e-6 or every > 1
        assert np.mean(losses[-50:]) < 0.1 * losses[0]


def test_a_start_that_is_too_high_does_no_harm():
    """The rate falls to a tenth of its start, and a step that is still too long is cut."""
    theta = scalar([1.0, -2.0, 3.0])
    optimizer = optim.AverageGradient(optim.Adam([theta], lr=100.0), lr="auto")
    losses = []
    for _ in range(1000):  # the steep walls of the first steps are remembered for long
        optimizer.zero_grad()
        losses.append(optimizer.step((theta * theta * theta * theta).sum()))
    assert optimizer.lr == 10.0
    assert losses[-1] < 1e-2 * losses[0]
    assert losses == sorted(losses, reverse=True)


def test_the_rate_stays_where_there_is_nothing_to_measure():
    theta = scalar([0.0])
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=1e-3), lr="auto")
    optimizer.step((theta * theta).sum())
    assert optimizer.fraction is None
    assert optimizer.lr == 1e-3


def test_a_schedule_scales_an_automatic_step_after_the_line_search():
    full, scaled = Net(), Net()
    starts = [param.data.copy() for param in full.params]
    optimizers = [
        optim.AverageGradient(optim.Adam(net.params, lr=0.1), lr="auto") for net in (full, scaled)
    ]
    optim.LinearLR(optimizers[1], start_factor=0.25)
    full.train(optimizers[0], 1)
    scaled.train(optimizers[1], 1)
    for start, a, b in zip(starts, full.params, scaled.params):
        np.testing.assert_allclose(b.data - start, 0.25 * (a.data - start), atol=1e-15)
    assert optimizers[0].lr == optimizers[1].lr
    assert optimizers[1].rate == 0.25 * optimizers[1].lr


def test_a_schedule_scales_a_fixed_rate_before_the_line_search():
    theta = scalar([1.0])
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=4.0))
    optim.LinearLR(optimizer, start_factor=0.5)
    assert optimizer.rate == 2.0
    optimizer.step((theta * theta).sum() * 0.5)
    np.testing.assert_allclose(theta.data, [0], atol=1e-15)


def test_a_cosine_floor_needs_a_fixed_rate():
    optimizer = optim.AverageGradient(optim.SGD([scalar(1.0)], lr=0.1), lr="auto")
    with pytest.raises(ValueError, match="eta_min must be 0"):
        optim.CosineAnnealingLR(optimizer, 10, eta_min=1e-3)
    optim.CosineAnnealingLR(optimizer, 10)


# -- memory that is kept, and memory that is released ----------------------------------------------


def test_steps_that_are_measured_each_by_itself_keep_only_the_base_rules_state():
    net, other = Net(np.float32), Net(np.float32)
    size = sum(param.data.nbytes for param in net.params)
    optimizer = optim.AverageGradient(optim.RMSprop(net.params))
    net.train(optimizer, 3)
    adam = optim.Adam(other.params)
    other.train(adam, 3)
    updates = optimizer.base.propose()
    within_a_step = sum(delta.nbytes for delta in updates.values())
    assert optimizer.state_bytes == size
    assert optimizer.state_bytes + within_a_step <= adam.state_bytes
    assert all(param.average_grad is None for param in net.params)


@pytest.mark.parametrize(
    "options", [{"smoothing": 0.9}, {"every": 2}, {"lr": "auto", "every": 1}], ids=str
)
@each_granularity
def test_curvature_is_kept_with_its_weight(granularity, options):
    net = Net(np.float32)
    optimizer = optim.AverageGradient(optim.SGD(net.params), granularity=granularity, **options)
    net.train(optimizer, 2)
    arrays = 3 if optimizer.automatic else 2  # an automatic rate also keeps the start
    assert optimizer.state_bytes == arrays * 4 * sum(param.size for param in net.params)


@pytest.mark.parametrize("every", [1, 2])
def test_a_step_leaves_the_gradient_frees_the_graph_and_moves_in_place(every):
    net = Net()
    optimizer = optim.AverageGradient(optim.SGD(net.params, lr=0.01), every=every)
    for step in range(3):
        if step == 1:  # from the first step on they are parts of one array
            arrays = [param.data for param in net.params]
        optimizer.zero_grad()
        loss = net.loss(step)
        assert optimizer.step(loss) == loss.item()
        assert all(param.grad is not None for param in net.params)
        assert all(param.average_grad is None for param in net.params)
        with pytest.raises(FreedGraphError):
            loss.backward()
    assert all(param.data is array for param, array in zip(net.params, arrays))
    optimizer.zero_grad()
    assert all(param.grad is None for param in net.params)


def test_a_parameter_that_another_graph_needs_may_be_stepped():
    theta = scalar([1.0, 2.0])
    other = (theta * theta).sum()
    optim.AverageGradient(optim.SGD([theta], lr=0.25)).step((theta * theta).sum())
    np.testing.assert_array_equal(theta.data, [0.5, 1.0])
    theta.zero_grad()
    other.backward()
    np.testing.assert_array_equal(theta.grad, [2, 4])


def test_gradients_that_are_there_are_used():
    theta = scalar([1.0])
    loss = (theta * theta).sum() * 0.5
    loss.backward(retain_graph=True)
    optim.clip_grad_value_([theta], 0.5)
    optim.AverageGradient(optim.SGD([theta], lr=0.5)).step(loss)
    np.testing.assert_array_equal(theta.data, [0.75])


def test_the_update_is_measured_from_where_the_loss_was_recorded():
    theta = scalar([1.0])
    loss = (theta * theta).sum() * 0.5
    theta.data = [5.0]
    optim.AverageGradient(optim.SGD([theta], lr=4.0)).step(
        loss
    )  # a quarter of it leads from 1 to 0
    np.testing.assert_allclose(theta.data, [5 - 1], atol=1e-15)


def test_leftover_average_gradients_do_not_count():
    theta = scalar([1.0])
    theta.average_grad = np.array([-1e6])
    optim.AverageGradient(optim.SGD([theta], lr=0.5)).step((theta * theta).sum() * 0.5)
    np.testing.assert_array_equal(theta.data, [0.5])


def test_a_parameter_without_a_gradient_stays():
    used, unused = scalar([1.0]), scalar([1.0])
    optimizer = optim.AverageGradient(optim.Adam([unused, used], lr=0.1))
    optimizer.step((used * used).sum())
    assert used.data[0] < 1
    assert unused.data[0] == 1


@each_granularity
def test_parameters_without_a_measured_gradient_make_their_whole_update(granularity):
    measured, late = scalar([1.0, 2.0]), scalar([1.0, 2.0])
    base = optim.SGD([measured, late], lr=0.75)
    optimizer = optim.AverageGradient(base, every=2, granularity=granularity)
    optimizer.step((measured * measured).sum())  # 2/3 of the update lead to 0
    np.testing.assert_allclose(measured.data, [0, 0], atol=1e-15)
    measured.data = [1.0, 2.0]
    optimizer.zero_grad()
    optimizer.step((measured * measured).sum() + (late * late).sum())
    expected = [-0.5, -1.0] if granularity == "model" else [0.0, 0.0]  # they share a fraction
    np.testing.assert_allclose(measured.data, expected, atol=1e-15)
    np.testing.assert_allclose(late.data, [-0.5, -1.0])


@pytest.mark.parametrize("every", [1, 2])
def test_a_graph_without_a_finite_end_is_freed_too(every):
    theta = scalar([0.0, 0.0])  # from here even the smallest update leads somewhere else
    loss = apply(Needle(), theta).sum()
    optim.AverageGradient(optim.SGD([theta], lr=0.1), every=every).step(loss)
    with pytest.raises(FreedGraphError):
        loss.backward()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": "auto"},
        {"every": 3, "lr": "auto"},
        {"every": 3, "granularity": "row"},
        {"every": 3, "granularity": "model"},
    ],
    ids=str,
)
@each_dtype
@each_base
def test_resumes_bit_for_bit_from_a_saved_state(make_base, dtype, options, tmp_path):
    net = Net(dtype)
    optimizer = optim.AverageGradient(make_base(net.params), **options)
    net.train(optimizer, 5)
    save(tmp_path / "state", optimizer.state_dict())
    again = Net(dtype)
    for param, saved in zip(again.params, net.params):
        param.data = saved.data
    resumed = optim.AverageGradient(make_base(again.params), **options)
    resumed.load_state_dict(load(tmp_path / "state"))
    assert net.train(optimizer, 5, start=5) == again.train(resumed, 5, start=5)
    for a, b in zip(net.params, again.params):
        np.testing.assert_array_equal(a.data, b.data)


@each_granularity
def test_resumes_where_parameters_of_one_count_have_a_curvature_and_have_none(granularity):
    """Both have made the same number of steps, but only one of them took the step that measured."""

    def problem():
        first, second = scalar([1.0, 2.0]), scalar([1.0, 2.0])
        base = optim.SGD([first, second], lr=0.75)
        return [first, second], optim.AverageGradient(base, every=3, granularity=granularity)

    def step(optimizer, *params):
        optimizer.zero_grad()
        optimizer.step(sum((param * param).sum() for param in params))

    (params, optimizer), (others, resumed) = problem(), problem()
    step(optimizer, params[0])
    step(optimizer, params[1])
    for param, other in zip(params, others):
        param.data = other.data = [1.0, 2.0]
    resumed.load_state_dict(optimizer.state_dict())
    for each, its_params in ((optimizer, params), (resumed, others)):
        step(each, *its_params)
        expected = [-0.5, -1.0] if granularity == "model" else [0.0, 0.0]  # they share a fraction
        np.testing.assert_allclose(its_params[0].data, expected, atol=1e-15)
        np.testing.assert_allclose(its_params[1].data, [-0.5, -1])


@each_granularity
def test_each_of_many_parameters_gets_its_own_curvature_back(granularity):
    def problem():
        params = [scalar([1.0 + i, 2.0]) for i in range(12)]
        base = optim.SGD(params, lr=0.1)
        return params, optim.AverageGradient(base, every=2, granularity=granularity)

    def step(params, optimizer):
        optimizer.zero_grad()
        optimizer.step(sum((i + 1.0) * (p * p * p * p).sum() for i, p in enumerate(params)))

    (params, optimizer), (others, resumed) = problem(), problem()
    step(params, optimizer)
    state = optimizer.state_dict()
    # In the order of their names: 10 before 2.
    sorted_ = {name: dict(sorted(state[name].items())) for name in ("curvatures", "weights")}
    for param, other in zip(params, others, strict=True):
        other.data = param.data
    resumed.load_state_dict(state | sorted_)
    step(params, optimizer)
    step(others, resumed)
    for param, other in zip(params, others, strict=True):
        np.testing.assert_array_equal(param.data, other.data)


# -- several losses, and gradients changed since ---------------------------------------------------


@each_granularity
@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 16])
def test_a_linear_loss_goes_the_whole_way_in_any_number_of_parts(count, by_hand, granularity):
    theta = scalar(np.ones(4))
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=1e-3), granularity=granularity)
    losses = []
    for _ in range(count):
        losses.append((theta * [1.0, 2.0, 3.0, 4.0]).sum() / count)
        if by_hand:
            losses[-1].backward(retain_graph=True)
    assert optimizer.step(losses) == pytest.approx(10)
    assert optimizer.fraction == 1
    np.testing.assert_allclose(theta.data, 1 - 1e-3 * np.arange(1, 5), rtol=1e-15)
    for loss in losses:
        with pytest.raises(FreedGraphError, match=r"the graph was freed at [A-Z]"):
            loss.backward()


def parts_of(net, step):
    """Return three losses that sum to a batch's; the last two share their first layer."""
    w1, b1, w2, b2, w3, b3 = net.params
    rng = np.random.default_rng([2, step])
    parts = []
    for count in (3, 5):
        x = rng.normal(size=(count, 4)).astype(w1.dtype)
        h = np.tanh(x @ w1 + b1)
        parts.append(((np.tanh(h @ w2 + b2) @ w3 + b3) ** 2).sum() / 8)
    return [*parts, (h * h).mean()]


@each_base
@each_granularity
@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("options", [{}, {"every": 3}], ids=str)
def test_several_losses_are_their_sum(make_base, granularity, options, by_hand):
    net, whole = Net(), Net()
    optimizers = [
        optim.AverageGradient(make_base(each.params), granularity=granularity, **options)
        for each in (net, whole)
    ]
    for step in range(5):
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses = parts_of(net, step)
        if by_hand:
            for loss in losses:
                loss.backward(retain_graph=True)
        value = optimizers[0].step(iter(losses))
        assert value == pytest.approx(optimizers[1].step(sum(parts_of(whole, step))), rel=1e-12)
        assert optimizers[0].fraction == pytest.approx(optimizers[1].fraction, rel=1e-9)
    for a, b in zip(net.params, whole.params):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)


def test_several_losses_of_a_captured_function_are_those_of_the_function():
    ends = []
    for captured in False, True:
        ag.seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to("float64")
        forward = ag.capture(model) if captured else model
        optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1), every=2)
        batch = np.random.default_rng(0).normal(size=(3, 4, 3))
        for _ in range(4):
            optimizer.zero_grad()
            optimizer.step([F.cross_entropy(forward(part), [0, 1, 1, 0]) for part in batch])
        ends.append([param.data for param in model.parameters()])
    for a, b in zip(*ends):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("verify", [True, False])
def test_all_losses_are_cut_together_where_one_ends_at_infinity(verify):
    theta = scalar([2.0])
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=16.0), verify=verify)
    # From 2 to -46, cut to -1, of which the line search keeps the 2/3 that lead to 0.
    optimizer.step([(theta * theta).sum() * 0.25, apply(Wall(), theta).sum() * 0.5])
    np.testing.assert_allclose(theta.data, [0], atol=1e-15)
    assert optimizer.fraction == pytest.approx(2 / 3 / 16, rel=1e-14)


CHANGES = {
    "norm": lambda params: optim.clip_grad_norm_(params, 0.5),
    "value": lambda params: optim.clip_grad_value_(params, 0.5),
    "factor": lambda params: [p.grad.__imul__(0.25) for p in params],
    "another array": lambda params: [setattr(p, "grad", np.sign(p.grad) * 0.3) for p in params],
}


@each_granularity
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_the_slope_is_that_of_the_loss_whatever_became_of_the_gradient(change, granularity):
    theta = scalar(1.0)
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=8.0), granularity=granularity)
    loss = theta * theta
    loss.backward(retain_graph=True)
    change([theta])
    proposal = -8 * theta.grad.item()
    optimizer.step(loss)
    assert theta.item() == pytest.approx(0, abs=1e-15)  # the parabola is the loss
    assert optimizer.fraction == pytest.approx(-1 / proposal)


@pytest.mark.parametrize("every", [1, 2])
def test_a_clipped_gradient_is_what_the_rule_gets(every):
    net, other = Net(), Net()
    clipped = optim.AverageGradient(optim.Adam(net.params, lr=0.0), every=every)
    plain = optim.Adam(other.params, lr=0.0)
    for step in range(4):
        for each, optimizer in ((net, clipped), (other, plain)):
            optimizer.zero_grad()
            loss = each.loss(step)
            loss.backward(retain_graph=True)
            optim.clip_grad_norm_(each.params, 0.1)
            optimizer.step(loss)
    ours, theirs = clipped.base.state_dict(), plain.state_dict()
    for name, state in theirs["parameters"].items():
        np.testing.assert_array_equal(ours["parameters"][name]["average"], state["average"])


# -- a probe, and verified steps -------------------------------------------------------------------


@each_granularity
@each_base
@pytest.mark.parametrize("given", [False, True], ids=["swept by the step", "swept before"])
def test_a_probe_of_the_whole_batch_changes_nothing(make_base, granularity, given):
    ends = []
    for probed in False, True:
        net = Net()
        optimizer = optim.AverageGradient(make_base(net.params), granularity=granularity)
        for step in range(4):
            optimizer.zero_grad()
            loss = net.loss(step)
            if given:
                loss.backward(retain_graph=True)
            optimizer.step(loss, net.loss(step) if probed else None)
        ends.append([param.numpy() for param in net.params])
    for without, with_ in zip(*ends):
        np.testing.assert_array_equal(with_, without)


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(-4, 4, width=16)))
def test_the_slope_is_the_batch_s_and_the_curvature_the_probe_s(coefficients):
    """On a separable quadratic, t minimizes the sum of slope and curvature terms of two losses."""
    slopes, curvatures = coefficients[0], np.abs(coefficients[1])
    theta = scalar(np.zeros(3))
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=1.0), verify=False)
    loss = (theta * slopes).sum()
    optimizer.step(loss, (theta * theta * curvatures).sum())
    delta = -slopes
    p, q = slopes * delta, curvatures * delta * delta
    t = np.where(q > 0, np.clip(-p / np.where(q > 0, 2 * q, 1), 0, 1), 1)
    np.testing.assert_allclose(theta.numpy(), t * delta, rtol=1e-12)


@pytest.mark.parametrize("granularity", ["element", "model"])
@given(coefficients=hnp.arrays(np.float64, (3, 3), elements=st.floats(-8, 8, width=16)))
def test_the_share_used_is_that_of_what_the_probe_promises(granularity, coefficients):
    slopes, own, curvatures = coefficients[0], coefficients[1], np.abs(coefficients[2]) + 0.1
    theta = scalar(np.zeros(3))
    optimizer = optim.AverageGradient(
        optim.SGD([theta], lr=1.0), granularity=granularity, verify=False
    )
    optimizer.step((theta * slopes).sum(), (theta * own + theta * theta * curvatures).sum())
    promises, q = -own * -slopes, curvatures * slopes * slopes
    if granularity == "model":
        promises, q = promises.sum(keepdims=True), q.sum(keepdims=True)
    promises = np.maximum(promises, 0)
    shares = np.clip(promises / np.where(q > 0, 2 * q, 1), 0, 1)
    if promises.sum() > 0:
        expected = (shares * promises).sum() / promises.sum()
        assert optimizer.fraction == pytest.approx(expected, rel=1e-9)
    else:
        assert optimizer.fraction is None


def test_only_the_rows_of_a_probe_are_swept():
    """The sweep of the whole batch frees its graph before anything is measured."""
    net = Net()
    optimizer = optim.AverageGradient(optim.SGD(net.params, lr=0.1))
    loss, probe = net.loss(0), net.loss(1)
    inner = []

    class Watched(Operation):
        def forward(self, x):
            inner.append(loss.node.out is None)
            return x

        def backward(self, grad, needs, out, x):
            return (grad,)

        average_backward = lambda self, grad, needs, start, end: (grad,)  # noqa: E731

    optimizer.step(loss, apply(Watched(), probe))
    assert inner[0] is False
    assert inner[1:] == [True, True]  # the end of the update, and the verified step
    for graph in loss, probe:
        with pytest.raises(FreedGraphError):
            graph.backward()


def layer_losses(rng, dtype, rows):
    """Return a random dense network's losses on `rows` examples and on the first of them."""
    sizes = [3, *rng.integers(1, 6, rng.integers(1, 4)), 2]
    params = [
        ag.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True)
        for i, o in itertools.pairwise(sizes)
        for shape in ((o, i), (o,))
    ]
    activations = [np.tanh, F.relu, F.gelu]
    chosen = [activations[i] for i in rng.integers(0, 3, len(sizes) - 1)]
    x, y = rng.normal(size=(rows, 3)).astype(dtype), rng.integers(0, 2, rows)

    def loss(count):
        out = ag.tensor(x[:count])
        for weight, bias, activation in zip(params[::2], params[1::2], chosen):
            out = F.linear(activation(out), weight, bias)
        return F.cross_entropy(out, y[:count])

    return params, loss


@given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(-8, 3).map(lambda exponent: 10.0**exponent),
    make_base=st.sampled_from([optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW, optim.Muon]),
    granularity=st.sampled_from(GRANULARITIES),
    dtype=st.sampled_from([np.float32, np.float64]),
    automatic=st.booleans(),
    probed=st.booleans(),
)
def test_a_verified_step_does_not_raise_the_loss_it_was_measured_on(
    seed, rate, make_base, granularity, dtype, automatic, probed
):
    rng = np.random.default_rng(seed)
    params, loss = layer_losses(rng, dtype, rows=6)
    optimizer = optim.AverageGradient(
        make_base(params, lr=rate, weight_decay=0.0),
        granularity=granularity,
        every=1,
        lr="auto" if automatic else None,
    )
    rows = 2 if probed else 6
    for _ in range(4):
        before = loss(rows).item()
        optimizer.zero_grad()
        optimizer.step(loss(6), loss(rows) if probed else None)
        allowed = 64 * np.finfo(dtype).eps * abs(before)
        assert loss(rows).item() <= before + allowed


@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([1e-3, 0.1, 3.0]))
@pytest.mark.parametrize("make_base", [optim.AdamW, optim.Muon])
def test_decoupled_decay_comes_first_and_is_not_verified(make_base, seed, rate):
    rng = np.random.default_rng(seed)
    params, loss = layer_losses(rng, np.float64, rows=6)
    optimizer = optim.AverageGradient(make_base(params, lr=rate, weight_decay=0.3))
    before = [param.numpy() for param in params]
    optimizer.step(loss(6))
    after = [param.numpy() for param in params]
    rule = optimizer.base.rule
    for param, value in zip(params, before):
        param.data = value * (1 - rule.for_param(param).decay(rate))
    start = loss(6).item()
    for param, value in zip(params, after):
        param.data = value
    assert loss(6).item() <= start * (1 + 64 * 2.0**-52)
    if optimizer.zero_steps:
        decayed = [v * (1 - rule.for_param(p).decay(rate)) for p, v in zip(params, before)]
        for value, expected in zip(after, decayed):
            np.testing.assert_allclose(value, expected, rtol=1e-12)


def rising(lr, **options):
    """A step on x² - x + 16x²(1-x)² from 0 to where the loss has risen from 0 to 0.75."""
    x = scalar(0.0)
    optimizer = optim.AverageGradient(optim.SGD([x], lr=lr), granularity="model", **options)
    optimizer.step(x * x - x + 16 * (x * (1 - x)) ** 2)
    return x.item(), optimizer


def test_a_step_that_raises_the_loss_is_cut():
    f = lambda x: x * x - x + 16 * (x * (1 - x)) ** 2  # noqa: E731
    unverified, optimizer = rising(1.0, verify=False)
    assert f(unverified) > f(0.0)
    assert (optimizer.cuts, optimizer.zero_steps) == (0, 0)
    verified, optimizer = rising(1.0)
    assert f(verified) < f(0.0)
    assert optimizer.cuts == 2
    assert verified == unverified / 16


def test_a_step_that_no_cut_saves_changes_nothing():
    """Each step that lowers the batch's loss raises the probe's."""
    x = scalar(1.0)
    optimizer = optim.AverageGradient(optim.SGD([x], lr=1.0))
    optimizer.step(x * 1.0, x * -1.0)
    assert x.item() == 1.0
    assert (optimizer.cuts, optimizer.zero_steps) == (8, 1)


# -- coordinates that the loss does not depend on --------------------------------------------------

MOVED_BY_OTHERS = {
    "SGD decay": lambda params: optim.SGD(params, lr=0.1, weight_decay=0.5),
    "SGD momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "RMSprop decay": lambda params: optim.RMSprop(params, lr=0.1, weight_decay=0.5),
    "RMSprop momentum": lambda params: optim.RMSprop(params, lr=0.1, momentum=0.9),
    "Adam": lambda params: optim.Adam(params, lr=0.1),
    "AdamW": lambda params: optim.AdamW(params, lr=0.1, weight_decay=0.5),
    "Muon": lambda params: optim.Muon(params, lr=0.1, weight_decay=0.5),
}


@each_granularity
@pytest.mark.parametrize("options", [{}, {"every": 2}], ids=str)
@pytest.mark.parametrize("make_base", MOVED_BY_OTHERS.values(), ids=list(MOVED_BY_OTHERS))
def test_coordinates_without_effect_on_the_loss_follow_the_rule(make_base, options, granularity):
    """Momentum and decay continue where the gradient is 0."""
    ends = []
    for averaged in False, True:
        own, dead = scalar([[1.0, 2.0]]), scalar([[0.5, -0.25]])
        base = make_base([own, dead])
        optimizer = base
        if averaged:
            optimizer = optim.AverageGradient(base, granularity=granularity, **options)
        for step in range(6):
            optimizer.zero_grad()
            slope = np.array([[1.0, -2.0]]) * (step == 0)
            # Linear, so that the average gradient keeps all of the update.
            optimizer.step((own * 3.0).sum() + (dead * slope).sum())
        ends.append(dead.data)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-12)


@each_granularity
def test_rows_of_an_embedding_that_a_measured_batch_lacks_move_in_the_next(granularity):
    table = scalar(np.ones((4, 2)))
    optimizer = optim.AverageGradient(optim.SGD([table], lr=0.1), granularity=granularity, every=2)
    for ids in ([0, 1], [2, 3]):
        optimizer.zero_grad()
        optimizer.step(table[np.array(ids)].sum())
    np.testing.assert_allclose(table.data, np.full((4, 2), 0.9))


# -- where the loss is not finite ------------------------------------------------------------------


@each_granularity
@each_dtype
def test_a_proposal_that_ends_at_infinity_is_cut(dtype, granularity):
    theta, other = scalar([2.0], dtype), scalar([2.0], dtype)
    optimizer = optim.AverageGradient(
        optim.SGD([theta, other], lr=1e5), lr="auto", granularity=granularity
    )
    loss = (np.exp(theta) + np.exp(-theta) + other * other).sum()
    optimizer.step(loss)
    end = (np.exp(theta) + np.exp(-theta) + other * other).sum()
    assert end.item() <= loss.item()
    assert optimizer.fraction < 1e-3
    assert optimizer.lr == pytest.approx(1e5 * math.exp(optimizer.fraction - 0.8))


class Wall(Elementwise):
    """x² between -10 and 10, and infinity beyond."""

    def forward(self, x):
        return np.where(np.abs(x) < 10, x * x, np.inf)

    def derivative(self, out, x):
        return 2 * x

    def divided_difference(self, a, b):
        return a + b


@each_granularity
def test_the_step_after_one_that_was_cut_is_measured(granularity):
    theta = scalar([2.0])
    base = optim.SGD([theta], lr=20.0)
    optimizer = optim.AverageGradient(base, granularity=granularity, every=4)
    # From 2 to -78, cut to -3, of which the line search keeps the 0.4 that lead to 0.
    optimizer.step(apply(Wall(), theta).sum())
    assert theta.item() == pytest.approx(0, abs=1e-15)
    assert optimizer.fraction == pytest.approx(0.4 / 16, rel=1e-14)
    assert optimizer.state_dict()["due"] == 1
    optimizer.base.lr = 0.75
    for _ in range(6):
        theta.data = [1.0]
        optimizer.zero_grad()
        optimizer.step(apply(Wall(), theta).sum())
        np.testing.assert_allclose(theta.data, [0], atol=1e-15)  # by the parabola's curvature
    assert optimizer.state_dict()["due"] == 9


@each_granularity
@given(
    st.lists(st.floats(-3, 3).map(lambda power: 10**power), min_size=1, max_size=12),
    st.integers(2, 5),
)
def test_a_step_that_is_not_measured_is_not_much_longer_than_the_last_that_was(
    granularity, slopes, every
):
    theta = scalar([0.0, 0.0])
    base = optim.SGD([theta], lr=1.0)
    optimizer = optim.AverageGradient(base, granularity=granularity, every=every)
    longest, due, cuts = math.inf, 0, 0
    for i, slope in enumerate(slopes):
        start = theta.data.copy()
        optimizer.zero_grad()
        optimizer.step((theta * [slope, -2 * slope]).sum())
        step = np.linalg.norm(theta.data - start)
        # Differences of values of up to 1e4 have an error of some 1e4 roundings.
        whole, error = slope * math.sqrt(5), 1e5 * np.finfo(float).eps
        if i == due:
            longest, due = 4 * whole, i + every
        elif whole > longest * (1 + 1e-9):
            cuts, due = cuts + 1, i + 1
        assert step == pytest.approx(min(whole, longest), rel=1e-9, abs=error)
        assert (optimizer.cuts, optimizer.state_dict()["due"]) == (cuts, due)


@pytest.mark.parametrize("measured_before", [False, True])
def test_a_measured_step_of_length_0_does_not_limit_the_next(measured_before):
    """As the first of a warm-up is; the last step that had a length still does."""
    theta = scalar([0.0])
    optimizer = optim.AverageGradient(optim.SGD([theta], lr=1.0), every=2)

    def step(lr, slope):
        start = theta.data.copy()
        optimizer.lr = lr
        optimizer.zero_grad()
        optimizer.step((slope * theta).sum())
        return (start - theta.data).item()

    if measured_before:
        assert [step(1.0, 1.0), step(1.0, 1.0)] == [1, 1]
    assert step(0.0, 1.0) == 0
    assert step(1.0, 3.0) == pytest.approx(3)
    assert optimizer.cuts == 0
    assert step(0.0, 1.0) == 0
    assert step(1.0, 5.0) == pytest.approx(4 if measured_before else 5)
    assert optimizer.cuts == measured_before


def test_a_batch_unlike_the_others_does_not_ruin_a_solved_network():
    """Adam's mean squares are small then, so that its step for such a batch is a long one."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 8))
    y = np.tanh(x @ rng.standard_normal((8, 1)))
    ag.seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1)).to(np.float64)
    base = optim.Adam(model.parameters(), lr=1e-3, cautious=True)
    optimizer = optim.AverageGradient(base, every=4, smoothing=0.9)

    def step(targets):
        optimizer.zero_grad()
        return optimizer.step(F.mse_loss(model(x), targets))

    before = [step(y) for _ in range(3000)][-1]
    while optimizer.probe_size is not None:  # until a step that does not measure
        step(y)
    optimizer.base.lr = 0.03
    step(y + 1)
    after = F.mse_loss(model(x), y).item()
    assert optimizer.cuts >= 1
    assert after < 10 * before


class Cliff(Elementwise):
    """x where it is 1, and NaN elsewhere."""

    def forward(self, x):
        return np.where(x == 1, x, np.nan)

    def derivative(self, out, x):
        return np.ones_like(x)

    def divided_difference(self, a, b):
        return np.full_like(a, np.nan)


class Needle(Cliff):
    """x where it is 0, and NaN elsewhere."""

    def forward(self, x):
        return np.where(x == 0, x, np.nan)


@each_granularity
def test_parameters_stay_where_no_step_is_finite(granularity):
    theta = scalar([1.0, 1.0])
    optimizer = optim.AverageGradient(
        optim.SGD([theta], lr=0.1), lr="auto", every=2, granularity=granularity
    )
    for fraction, lr in ((0.0, 0.1 * math.exp(-0.8)), (0.0, 0.1 * math.exp(-1.6))):
        optimizer.zero_grad()
        optimizer.step(apply(Cliff(), theta).sum())
        np.testing.assert_array_equal(theta.data, [1, 1])
        assert optimizer.fraction == fraction
        assert optimizer.lr == pytest.approx(lr)
        assert theta.average_grad is None


@each_granularity
def test_a_proposal_with_nan_is_not_made(granularity):
    theta = scalar([1.0, 1.0])
    base = optim.RMSprop([theta], eps=0.0)
    optimizer = optim.AverageGradient(base, granularity=granularity)
    optimizer.step((theta * np.array([1.0, 0.0])).sum())  # proposes 0 / 0
    np.testing.assert_array_equal(theta.data, [1, 1])


@each_granularity
def test_warns_of_an_average_gradient_that_is_not_finite(granularity):
    """The operand of sqrt ends outside its domain, and `where` hides that from the loss."""
    theta, other = scalar([5.0, 1.0]), scalar([3.0])
    optimizer = optim.AverageGradient(optim.SGD([theta, other], lr=1.0), granularity=granularity)
    hidden = ag.where(np.array([True, False]), np.sqrt(theta), 0.0)
    loss = hidden.sum() + (2.0 * theta).sum() + (other * other).sum() * 0.5
    message = r"average gradient of parameter 0, \(2,\), is not finite"
    with pytest.warns(RuntimeWarning, match=message) as warned:
        optimizer.step(loss)
    assert warned[0].filename == __file__
    assert theta.data[1] == 1
    if granularity in ("element", "row"):
        assert theta.data[0] < 3
        np.testing.assert_allclose(other.data, [0], atol=1e-15)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda theta: (theta * np.nan).sum(), "the loss is nan; lower the learning rate"),
        (lambda theta: (theta * np.inf).sum(), "the loss is inf"),
        (lambda theta: np.sqrt(theta - 1.0).sum(), "the gradient of parameter 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_refuses_what_is_not_finite_before_anything_changes(loss, message):
    first, theta = scalar([2.0]), scalar([1.0, 2.0])
    optimizer = optim.AverageGradient(optim.Adam([first, theta]), lr="auto", every=2)
    with pytest.raises(NonFiniteError, match="AverageGradient.step: " + message):
        optimizer.step(loss(theta) + (first * first).sum())
    assert_untouched(optimizer, [first, theta], [[2], [1, 2]])


def test_large_gradients_are_finite():
    theta = scalar([1.0], np.float32)
    optimizer = optim.AverageGradient(optim.RMSprop([theta], lr=0.1))
    optimizer.step((theta * np.float32(1e25)).sum())
    assert np.isfinite(theta.data).all()


def assert_untouched(optimizer, params, values):
    state = optimizer.state_dict()
    assert state["steps"] == 0
    assert state["base"]["parameters"] == {}
    for param, value in zip(params, values):
        np.testing.assert_array_equal(param.data, value)


def test_every_step_frees_the_graph_and_its_hold_on_the_arrays():
    x = scalar(1.0)
    optimizer = optim.AverageGradient(optim.SGD([x], lr=0.1), every=3)
    for _ in range(4):
        optimizer.zero_grad()
        loss = x * x
        loss.backward(retain_graph=True)
        optimizer.step(loss)
        with pytest.raises(FreedGraphError):
            loss.backward()
        assert x.is_writable()


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "layer"}, "granularity must be one of .* got 'layer'"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"lr": 0.1}, "lr must be None or 'auto', got 0.1"),
        ({"probe_size": 0}, "probe_size must be at least 1, got 0"),
    ],
)
def test_refuses_arguments(options, message):
    with pytest.raises(ValueError, match="AverageGradient: " + message):
        optim.AverageGradient(optim.SGD([scalar(1.0)]), **options)


@pytest.mark.parametrize("options", [{"every": 1.5}, {"every": 2.0}, {"probe_size": 32.0}])
def test_refuses_counts_that_are_no_integers(options):
    with pytest.raises(TypeError, match=f"AverageGradient: {next(iter(options))} must be an int"):
        optim.AverageGradient(optim.SGD([scalar(1.0)]), **options)


def test_refuses_bases():
    with pytest.raises(TypeError, match="base must be an Optimizer, got list"):
        optim.AverageGradient([scalar(1.0)])
    with pytest.raises(TypeError, match="got AverageGradient; pass one that applies a rule"):
        optim.AverageGradient(optim.AverageGradient(optim.SGD([scalar(1.0)])))
    with pytest.raises(ValueError, match="the base rule's lr is 0"):
        optim.AverageGradient(optim.SGD([scalar(1.0)], lr=0), lr="auto")


def use_a_freed_graph(theta, optimizer):
    loss = (theta * theta).sum()
    loss.backward()
    optimizer.step(loss)


def use_another_loss(theta, optimizer):
    (theta * theta).sum().backward()
    other = scalar([1.0])
    optimizer.step((other * other).sum())


def forget_the_loss(theta, optimizer):
    (theta * theta).sum().backward()
    optimizer.step()


def forget_to_pass_a_tensor(theta, optimizer):
    optimizer.step(3.0)


def pass_a_number_as_probe(theta, optimizer):
    optimizer.step((theta * theta).sum(), 3.0)


def pass_a_probe_alone(theta, optimizer):
    optimizer.step(probe=(theta * theta).sum())


def pass_a_leaf_as_probe(theta, optimizer):
    optimizer.step((theta * theta).sum(), scalar(1.0))


def pass_an_infinite_probe(theta, optimizer):
    with np.errstate(divide="ignore"):
        optimizer.step((theta * theta).sum(), (theta / 0.0).sum())


def pass_a_freed_probe(theta, optimizer):
    probe = (theta * theta).sum()
    probe.backward()
    theta.zero_grad()
    optimizer.step((theta * theta).sum(), probe)


def pass_several_elements(theta, optimizer):
    optimizer.step(theta * theta)


def pass_a_leaf(theta, optimizer):
    optimizer.step(scalar(1.0))


def pass_what_does_not_depend(theta, optimizer):
    other = scalar([1.0])
    optimizer.step((other * other).sum())


def keep_the_gradient_of_another_loss(theta, optimizer):
    (theta * theta).sum().backward()
    loss = (theta * 3.0).sum()
    loss.backward(retain_graph=True)
    optimizer.step(loss)


def pass_only_the_last_loss(theta, optimizer):
    losses = [(theta * factor).sum() for factor in (1.0, 2.0)]
    for loss in losses:
        loss.backward(retain_graph=True)
    optimizer.step(losses[-1])


def sweep_only_one_loss(theta, optimizer):
    losses = [(theta * factor).sum() for factor in (1.0, 2.0)]
    losses[0].backward(retain_graph=True)
    optimizer.step(losses)


def pass_the_sum_in_place_of_a_part(theta, optimizer):
    first, second = (theta * 1.0).sum(), (theta * 2.0).sum()
    first.backward(retain_graph=True)
    optimizer.step(first + second)


def make_a_gradient(theta, optimizer):
    theta.grad = np.ones(2)
    optimizer.step((theta * theta).sum())


def add_to_a_gradient_made_by_hand(theta, optimizer):
    theta.grad = np.ones(2)
    loss = (theta * theta).sum()
    loss.backward(retain_graph=True)
    optimizer.step(loss)


def keep_the_gradient_of_the_last_step(theta, optimizer):
    optimizer.base.lr = 0.0
    optimizer.step((theta * theta).sum())
    optimizer.load_state_dict(optim.AverageGradient(optim.Adam([theta])).state_dict())
    loss = (theta * theta).sum()
    loss.backward(retain_graph=True)
    optimizer.step(loss)


def pass_nothing(theta, optimizer):
    optimizer.step([])


def pass_a_number_among_losses(theta, optimizer):
    optimizer.step([(theta * theta).sum(), 3.0])


def pass_a_leaf_among_losses(theta, optimizer):
    optimizer.step([(theta * theta).sum(), scalar(3.0)])


class Kindless(Operation):
    def forward(self, x):
        return 2 * x

    def backward(self, grad, needs, out, x):
        return (2 * grad,)


def use_an_operation_without_a_kind(theta, optimizer):
    optimizer.step(apply(Kindless(), theta).sum())


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (use_an_operation_without_a_kind, AverageUndefinedError, "Kindless"),
        (use_a_freed_graph, FreedGraphError, "retain_graph=True"),
        (use_another_loss, ValueError, "parameter 0, .* has a gradient that is not of this loss"),
        (forget_the_loss, TypeError, r"needs the loss.*call step\(loss\)"),
        (forget_to_pass_a_tensor, TypeError, "loss must be a Tensor, got a float"),
        (pass_a_number_as_probe, TypeError, "probe must be a Tensor, got a float"),
        (pass_a_probe_alone, ValueError, "a probe needs the loss"),
        (pass_a_leaf_as_probe, ValueError, "probe must be .* no graph"),
        (pass_an_infinite_probe, NonFiniteError, "the probe is inf"),
        (pass_a_freed_probe, FreedGraphError, "retain_graph=True"),
        (pass_several_elements, ValueError, r"a single element .* got shape \(2,\)"),
        (pass_a_leaf, ValueError, "no graph"),
        (pass_what_does_not_depend, ValueError, "depends on none of the parameters"),
        (keep_the_gradient_of_another_loss, ValueError, "not of this loss alone"),
        (pass_only_the_last_loss, ValueError, "not of this loss alone.* pass every loss"),
        (sweep_only_one_loss, ValueError, r"loss\[1\] has no part in the gradients"),
        (pass_the_sum_in_place_of_a_part, ValueError, "not of this loss alone"),
        (make_a_gradient, ValueError, "not of this loss alone"),
        (add_to_a_gradient_made_by_hand, ValueError, "not of this loss alone"),
        (keep_the_gradient_of_the_last_step, ValueError, "not of this loss alone"),
        (pass_nothing, ValueError, "sequence given as loss is empty"),
        (pass_a_number_among_losses, TypeError, r"loss\[1\] must be a Tensor, got a float"),
        (pass_a_leaf_among_losses, ValueError, r"loss\[1\] must be .* no graph"),
    ],
)
def test_refuses_a_misused_step_before_anything_changes(misuse, error, message):
    theta = scalar([1.0, 2.0])
    optimizer = optim.AverageGradient(optim.Adam([theta]))
    with pytest.raises(error, match=message):
        misuse(theta, optimizer)
    assert_untouched(optimizer, [theta], [[1, 2]])


def test_refuses_the_gradients_of_the_last_step():
    net = Net()
    optimizer = optim.AverageGradient(optim.SGD(net.params))
    optimizer.step(net.loss(0))
    with pytest.raises(ValueError, match=r"those of the last step; call zero_grad\(\)"):
        optimizer.step(net.loss(1))


def test_refuses_states_of_others():
    small, net = scalar([1.0]), Net()
    optimizer = optim.AverageGradient(optim.SGD(net.params))
    other = optim.AverageGradient(optim.SGD([small]), every=2)
    other.step((small * small).sum())
    with pytest.raises(ValueError, match=r"curvatures of parameter 0 must be float64\[4, 8\]"):
        optimizer.load_state_dict(other.state_dict())
    expected = "expected base, curvatures, cuts, due, square_length, steps, weights, zero_steps"
    with pytest.raises(ValueError, match=expected):
        optimizer.load_state_dict(other.base.state_dict())
    with pytest.raises(TypeError, match="fraction must be a float, got 'half'"):
        other.load_state_dict(other.state_dict() | {"fraction": "half"})
    with pytest.raises(ValueError, match="square_length must not be negative, got -1"):
        other.load_state_dict(other.state_dict() | {"square_length": -1.0})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("every", 0, ValueError),
        ("granularity", "rows", ValueError),
        ("probe_size", 0, ValueError),
        ("scale", math.nan, ValueError),
        ("scale", -1.0, ValueError),
        ("smoothing", 1.0, ValueError),
        ("verify", "no", TypeError),
    ],
)
@pytest.mark.parametrize("lr", [None, "auto"])
def test_options_are_checked_when_they_are_set(name, value, error, lr):
    x = ag.tensor([1.0], requires_grad=True)
    optimizer = optim.AverageGradient(optim.SGD([x], lr=0.1), lr=lr)
    before = getattr(optimizer, name)
    with pytest.raises(error, match=f": {name} must"):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


def test_a_factor_of_numpy_scales_the_step():
    x = ag.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.5)
    optimizer.scale = np.float32(0.5)
    optimizer.step((x * x).sum())
    assert x.tolist() == [0.5]
