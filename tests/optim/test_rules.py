"""Base rules against their definitions and PyTorch."""

import inspect
import math
from dataclasses import dataclass

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noisy_bowl import SHAPES, STEPS, each_dtype, gradient, leaves, run, starts, x
from pytorch import needs_torch, torch

import agrad as ag
from agrad import optim
from agrad.errors import NonFiniteError
from agrad.optim.muon import orthogonalize

# float64: each of 100 steps rounds a few times, and a step of 1e-2 of the weights hardly changes an
# earlier error. float32: the same with its eps of 6e-8; rules that divide by √v of a gradient near
# zero turn a relative error of the gradient into one of the step.
TOLERANCE = {np.float64: 5e-14, np.float32: 1e-5}

RULES = [
    (optim.SGD, {}),
    (optim.SGD, {"momentum": 0.9}),
    (optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (optim.SGD, {"weight_decay": 0.1}),
    (optim.SGD, {"momentum": 0.8, "dampening": 0.1, "weight_decay": 0.1}),
    (optim.RMSprop, {}),
    (optim.RMSprop, {"alpha": 0.9}),
    (optim.RMSprop, {"eps": 1e-2}),
    (optim.RMSprop, {"weight_decay": 0.1}),
    (optim.RMSprop, {"momentum": 0.9}),
    (optim.RMSprop, {"centered": True, "eps": 1e-2}),
    (
        optim.RMSprop,
        {"alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.1, "eps": 1e-2},
    ),
    (optim.Adam, {}),
    (optim.Adam, {"betas": (0.8, 0.99)}),
    (optim.Adam, {"eps": 1e-2}),
    (optim.Adam, {"weight_decay": 0.1}),
    (optim.Adam, {"amsgrad": True}),
    (optim.Adam, {"amsgrad": True, "betas": (0.5, 0.8), "weight_decay": 0.1}),
    (optim.AdamW, {}),
    (optim.AdamW, {"weight_decay": 0.3, "amsgrad": True, "betas": (0.8, 0.99), "eps": 1e-4}),
    (optim.Muon, {}),
    (optim.Muon, {"nesterov": False, "momentum": 0.8}),
    (optim.Muon, {"weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}),
    (optim.Muon, {"ns_coefficients": (1.5, -0.5, 0.0), "ns_steps": 3, "adjust_lr_fn": "original"}),
    (optim.Muon, {"eps": 100.0}),
]
CAUTIOUS = [
    (optim.SGD, {"momentum": 0.9, "cautious": True}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "cautious": True}),
    (optim.RMSprop, {"momentum": 0.9, "weight_decay": 0.1, "eps": 1e-2, "cautious": True}),
    (optim.RMSprop, {"momentum": 0.9, "centered": True, "eps": 1e-2, "cautious": True}),
    (optim.Adam, {"weight_decay": 0.1, "cautious": True}),
    (optim.Adam, {"amsgrad": True, "betas": (0.8, 0.99), "cautious": True}),
    (optim.AdamW, {"weight_decay": 0.3, "cautious": True}),
    (optim.Muon, {"cautious": True}),
]


def each_of(rules):
    ids = [f"{rule.__name__}-{options}" for rule, options in rules]
    return pytest.mark.parametrize(("rule", "options"), rules, ids=ids)


each_rule = each_of(RULES + CAUTIOUS)


def assert_close(actual, expected, dtype):
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        scale = max(np.abs(b).max(), 1)
        assert np.abs(a.astype(np.float64) - b).max() <= TOLERANCE[dtype] * scale


# -- the published rules, in plain NumPy -----------------------------------------------------------


def unopposed(direction, g, cautious):
    """Return a direction, the negative step, without the elements that go up the slope g."""
    return np.where(direction * g < 0, 0, direction) if cautious else direction


def sgd(s, t, theta, g, lr, momentum, dampening, weight_decay, nesterov, cautious):
    g = g + weight_decay * theta
    direction = g
    if momentum:
        s["b"] = g if t == 1 else momentum * s["b"] + (1 - dampening) * g
        direction = g + momentum * s["b"] if nesterov else s["b"]
    return theta - lr * unopposed(direction, g, cautious)


def rmsprop(s, t, theta, g, lr, alpha, eps, weight_decay, momentum, centered, cautious):
    g = g + weight_decay * theta
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    s["m"] = alpha * s.get("m", 0) + (1 - alpha) * g
    variance = np.maximum(s["v"] - s["m"] ** 2, 0) if centered else s["v"]
    s["b"] = momentum * s.get("b", 0) + g / (np.sqrt(variance) + eps)
    return theta - lr * unopposed(s["b"], g, cautious)


def adam(s, t, theta, g, lr, betas, eps, weight_decay, amsgrad, cautious, decoupled=False):
    theta, g = (
        ((1 - lr * weight_decay) * theta, g) if decoupled else (theta, g + weight_decay * theta)
    )
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    s["peak"] = np.maximum(s.get("peak", 0), s["v"]) if amsgrad else s["v"]
    m_hat, v_hat = s["m"] / (1 - betas[0] ** t), s["peak"] / (1 - betas[1] ** t)
    return theta - lr * unopposed(m_hat, g, cautious) / (np.sqrt(v_hat) + eps)


def adamw(*arguments, **options):
    return adam(*arguments, **options, decoupled=True)


def muon(
    s,
    t,
    theta,
    g,
    lr,
    weight_decay,
    momentum,
    nesterov,
    ns_coefficients,
    eps,
    ns_steps,
    adjust_lr_fn,
    rmsprop,
    cautious,
):
    if theta.ndim != 2:
        defaults = {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0, "centered": False}
        defaults["cautious"] = False
        return RULE_BY_NAME["RMSprop"](s, t, theta, g, lr, **defaults)
    s["m"] = momentum * s.get("m", 0) + (1 - momentum) * g
    x = momentum * s["m"] + (1 - momentum) * g if nesterov else s["m"]
    # The iteration acts on the singular values alone.
    u, sigma, v = np.linalg.svd(x, full_matrices=False)
    a, b, c = ns_coefficients
    sigma = sigma / max(np.sqrt((sigma**2).sum()), eps)
    for _ in range(ns_steps):
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    m, n = theta.shape
    factor = 0.2 * np.sqrt(max(m, n)) if adjust_lr_fn == "match_rms_adamw" else max(1, m / n) ** 0.5
    direction = unopposed((u * sigma) @ v, g, cautious)
    return (1 - lr * weight_decay) * theta - lr * factor * direction


RULE_BY_NAME = {"SGD": sgd, "RMSprop": rmsprop, "Adam": adam, "AdamW": adamw, "Muon": muon}


@each_dtype
@each_rule
def test_follows_the_published_rule(rule, options, dtype):
    arguments = inspect.signature(rule).parameters
    options = {k: p.default for k, p in list(arguments.items())[1:]} | {"lr": 0.01} | options
    expected = []
    for i, theta in enumerate(starts(dtype)):
        theta, state, t = theta.astype(np.float64), {}, 0
        for step in range(STEPS):
            if (step + i) % 7 != 3:
                t += 1
                theta = RULE_BY_NAME[rule.__name__](
                    state, t, theta, gradient(step, i, theta), **options
                )
        expected.append(theta)
    assert_close(run(rule(leaves(dtype), **options)), expected, dtype)


@needs_torch
@each_dtype
@each_of(RULES)
def test_gives_pytorchs_numbers(rule, options, dtype, monkeypatch):
    shapes = [shape for shape in SHAPES if len(shape) == 2] if rule is optim.Muon else SHAPES
    # PyTorch orthogonalizes in bfloat16, whatever the dtype of the parameters.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    theirs = [torch.tensor(start, requires_grad=True) for start in starts(dtype, shapes)]
    optimizer = getattr(torch.optim, rule.__name__)(theirs, lr=0.01, **options)
    for step in range(STEPS):
        for i, param in enumerate(theirs):
            grad = gradient(step, i, param.detach().numpy())
            param.grad = None if (step + i) % 7 == 3 else torch.tensor(grad)
        optimizer.step()
    ours = run(rule(leaves(dtype, shapes), lr=0.01, **options))
    assert_close(ours, [param.detach().numpy() for param in theirs], dtype)


@needs_torch
@pytest.mark.parametrize("rule", [optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW, optim.Muon])
def test_has_pytorchs_arguments_in_its_order(rule):
    theirs = inspect.signature(getattr(torch.optim, rule.__name__)).parameters
    ours = inspect.signature(rule).parameters
    shared = [name for name in theirs if name in ours]
    assert shared == [name for name in ours if name in theirs]
    for name in shared:
        if name != "params":
            assert ours[name].default == theirs[name].default, name


# -- cautious rules --------------------------------------------------------------------------------

gradients = hnp.arrays(
    np.float32, (3, 4), elements=st.floats(-1, 1, width=32) | st.sampled_from([0.0, 1e-30, -1e-30])
)


@each_of([(rule, options | {"weight_decay": 0.0}) for rule, options in CAUTIOUS])
@settings(max_examples=15)
@given(grads=st.lists(gradients, min_size=2, max_size=5))
def test_a_cautious_step_never_goes_up_the_slope(rule, options, grads):
    """The other elements, and the states, equal those without `cautious` bit for bit."""
    cautious, plain = (
        rule(
            [ag.tensor(np.ones((3, 4), np.float32), requires_grad=True)],
            lr=0.1,
            **options | {"cautious": c},
        )
        for c in (True, False)
    )
    for grad in grads:
        cautious.params[0].grad = plain.params[0].grad = grad
        (step,), (whole,) = cautious.propose().values(), plain.propose().values()
        opposed = np.sign(whole) * grad > 0
        np.testing.assert_array_equal(step, np.where(opposed, 0, whole))
    assert_same_state(cautious.state_dict(), plain.state_dict())


def test_decoupled_decay_is_not_cautious():
    decayed = optim.AdamW([x()], lr=0.5, betas=(0.5, 0.5), weight_decay=0.5, cautious=True)
    for grad in [4.0, 4.0], [-1.0, 4.0]:
        decayed.params[0].grad = np.array(grad, np.float32)
        before = decayed.params[0].data.copy()
        decayed.step()
    step = decayed.params[0].data - before
    assert step[0] == -0.25 * before[0]  # the decay alone: the momentum opposes the gradient
    assert step[1] < -0.25 * before[1]


@dataclass(frozen=True)
class Masked(optim.Rule):
    """Another rule, without the elements of its step that go up the slope."""

    rule: optim.Rule

    @property
    def state(self):
        return self.rule.state

    def numbers(self, rate, steps):
        return self.rule.numbers(rate, steps)

    def update(self, out, grad, values, state, numbers):
        self.rule.update(out, grad, values, state, numbers)
        out[...] = np.where(out * grad > 0, 0, out)


@pytest.mark.parametrize("granularity", ["element", "model"])
def test_what_is_measured_is_the_cautious_step(granularity):
    trained = []
    for base in (
        optim.Adam(leaves(), lr=0.3, cautious=True),
        optim.RuleOptimizer(leaves(), lr=0.3, rule=Masked(optim.Adam([x()]).rule)),
    ):
        optimizer = optim.AverageGradient(base, granularity=granularity)
        for _ in range(12):
            optimizer.zero_grad()
            optimizer.step(bumpy(optimizer.params))
        trained.append([param.data for param in optimizer.params])
    for a, b in zip(*trained):
        np.testing.assert_array_equal(a, b)


# -- what all rules share --------------------------------------------------------------------------


@each_dtype
@each_rule
def test_step_is_propose_and_apply(rule, options, dtype):
    stepped, proposed = rule(leaves(dtype), **options), rule(leaves(dtype), **options)
    for step in range(3):
        for optimizer in (stepped, proposed):
            for i, param in enumerate(optimizer.params):
                param.grad = gradient(step, i, param.data)
        before = [param.data.copy() for param in proposed.params]
        updates = proposed.propose()
        for param, start in zip(proposed.params, before):
            np.testing.assert_array_equal(param.data, start)
            assert updates[param].flags.c_contiguous
        proposed.apply(updates)
        stepped.step()
    for a, b in zip(stepped.params, proposed.params):
        np.testing.assert_array_equal(a.data, b.data)


@each_dtype
@each_rule
def test_resumes_bit_for_bit_from_a_saved_state(rule, options, dtype, tmp_path):
    optimizer = rule(leaves(dtype), lr=0.02, **options)
    run(optimizer, steps=5)
    ag.serialization.save(tmp_path / "state", optimizer.state_dict())
    weights = [param.data.copy() for param in optimizer.params]
    expected = run(optimizer, steps=5, start=5)

    resumed = rule([ag.tensor(w, requires_grad=True) for w in weights], lr=1.0, **options)
    resumed.load_state_dict(ag.serialization.load(tmp_path / "state"))
    assert resumed.lr == 0.02
    for a, b in zip(run(resumed, steps=5, start=5), expected):
        np.testing.assert_array_equal(a, b)


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_same_state(found[key], value)
        else:
            np.testing.assert_array_equal(found[key], value, strict=True)


@each_rule
@pytest.mark.parametrize("order", [list, reversed, sorted], ids=["saved", "reversed", "sorted"])
def test_each_of_many_parameters_gets_its_own_state_back(rule, options, order):
    """Parameter 10 comes after parameter 2, in whatever order a file stores them."""
    shapes = [(2, 2)] * 12
    optimizer = rule(leaves(shapes=shapes), lr=0.02, **options)
    run(optimizer, steps=4)  # some make more of them than others
    state = optimizer.state_dict()
    saved = {i: state["parameters"][i] for i in order(list(state["parameters"]))}
    weights = [param.data.copy() for param in optimizer.params]
    resumed = rule([ag.tensor(w, requires_grad=True) for w in weights], **options)
    resumed.load_state_dict(state | {"parameters": saved})
    assert_same_state(resumed.state_dict(), state)
    for a, b in zip(run(resumed, 3, start=4), run(optimizer, 3, start=4), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_is_not_changed_by_later_steps():
    optimizer = optim.Adam(leaves())
    run(optimizer, steps=2)
    state = optimizer.state_dict()
    before = state["parameters"]["0"]["average"].copy()
    run(optimizer, steps=2)
    np.testing.assert_array_equal(state["parameters"]["0"]["average"], before)


@each_rule
def test_parameters_of_both_dtypes_step_as_if_alone(rule, options):
    doubles, singles = leaves(np.float64), leaves(np.float32)
    mixed = [param for pair in zip(doubles, singles, strict=True) for param in pair]
    together = rule(mixed, **options)
    apart = rule(leaves(np.float64), **options), rule(leaves(np.float32), **options)
    for step in range(3):
        for optimizer in (together, *apart):
            for param in optimizer.params:
                param.grad = gradient(step, param.size, param.data)
            optimizer.step()
    for param, other in zip((*doubles, *singles), (*apart[0].params, *apart[1].params)):
        assert param.dtype == other.dtype
        np.testing.assert_allclose(param.data, other.data, rtol=8 * np.finfo(param.dtype).eps)


@pytest.mark.parametrize(
    ("rule", "options", "copies"),
    [
        (optim.SGD, {}, 0),
        (optim.SGD, {"momentum": 0.9}, 1),
        (optim.RMSprop, {}, 1),
        (optim.RMSprop, {"momentum": 0.9, "centered": True}, 3),
        (optim.Adam, {}, 2),
        (optim.Adam, {"amsgrad": True}, 3),
        (optim.Muon, {}, 1),
    ],
)
def test_state_bytes(rule, options, copies):
    optimizer = rule(leaves(np.float32), **options)
    assert optimizer.state_bytes == 0
    run(optimizer, steps=8)
    assert optimizer.state_bytes == copies * sum(param.data.nbytes for param in optimizer.params)


@each_rule
def test_takes_gradients_and_parameters_in_any_memory_order(rule, options):
    plain, turned = rule(leaves(), **options), rule(leaves(), **options)
    for param in turned.params:
        param.data = param.data.copy(order="F")
        assert param.data.flags.f_contiguous
    for step in range(3):
        for i, (a, b) in enumerate(zip(plain.params, turned.params)):
            a.grad = gradient(step, i, a.data)
            b.grad = np.repeat(a.grad, 2)[::2] if a.ndim == 1 else a.grad.copy(order="F")
        plain.step()
        turned.step()
    for a, b in zip(plain.params, turned.params):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


@each_rule
def test_does_not_change_the_gradient(rule, options):
    optimizer = rule(leaves(), **options)
    for i, param in enumerate(optimizer.params):
        param.grad = gradient(0, i, param.data)
        param.grad.flags.writeable = False
    optimizer.step()


def test_a_parameter_that_another_graph_needs_may_be_stepped():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    square = (x * x).sum()
    (x + x).sum().backward()
    optim.SGD([x], lr=1.0).step()
    np.testing.assert_array_equal(x.data, [-1, 0])
    x.zero_grad()
    square.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


def test_empty_parameters():
    x = ag.tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    for rule in (optim.SGD, optim.RMSprop, optim.Adam, optim.Muon):
        x.grad = np.zeros((0, 3), np.float32)
        rule([x]).step()


def test_centered_rmsprop_survives_a_constant_gradient():
    x = ag.tensor(np.ones(100, np.float32), requires_grad=True)
    optimizer = optim.RMSprop([x], lr=1e-6, alpha=0.5, centered=True)
    for _ in range(200):
        x.grad = np.linspace(0.1, 1, 100, dtype=np.float32)
        optimizer.step()
    assert np.isfinite(x.data).all()


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (optim.RMSprop, {"alpha": 0.9999}),
        (optim.RMSprop, {"alpha": 0.9999, "centered": True}),
        (optim.Adam, {"betas": (0.9, 0.9999)}),
        (optim.Adam, {"betas": (0.9, 0.9999), "amsgrad": True}),
    ],
)
def test_float32_does_not_lose_a_small_share(rule, options):
    optimizer = rule([ag.tensor([1.0], requires_grad=True)], **options)
    optimizer.params[0].grad = np.array([3.0], np.float32)
    optimizer.step()
    # 1 - 0.9999 taken in float32 is off by 1e-4 of itself
    square_average = optimizer.state_dict()["parameters"]["0"]["square_average"]
    np.testing.assert_allclose(square_average, 1e-4 * 9, rtol=2e-7)


def test_zero_grad_forgets_both_gradients():
    x = ag.tensor([1.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.average_backward({x: [1.0]})
    optim.SGD([x]).zero_grad()
    assert x.grad is None
    assert x.average_grad is None


# -- a step on a loss ------------------------------------------------------------------------------


def bumpy(params):
    """A loss of all parameters."""
    return sum((param * param + np.sin(3.0 * param)).sum() for param in params)


@each_rule
def test_a_step_on_a_loss_is_a_backward_pass_and_a_step(rule, options):
    by_hand, given = rule(leaves(), **options), rule(leaves(), **options)
    for _ in range(3):
        for optimizer in (by_hand, given):
            optimizer.zero_grad()
        loss = bumpy(by_hand.params)
        loss.backward()
        assert by_hand.step() is None
        assert given.step(bumpy(given.params)) == loss.item()
    for a, b in zip(by_hand.params, given.params):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.grad, b.grad)


def test_a_step_on_a_loss_uses_the_gradients_that_are_there():
    param = x()
    loss = (param * param).sum()
    loss.backward()
    optim.clip_grad_value_([param], 0.5)
    assert optim.SGD([param], lr=1.0).step(loss) == 5
    np.testing.assert_array_equal(param.data, [0.5, 1.5])


def test_a_step_refuses_the_gradients_of_the_last_step():
    param = x()
    optimizer = optim.SGD([param], lr=0.25)
    optimizer.step((param * param).sum())
    with pytest.raises(ValueError, match=r"SGD.step: the gradients are those .* zero_grad\(\)"):
        optimizer.step((param * param).sum())
    np.testing.assert_array_equal(param.data, [0.5, 1.0])
    optimizer.step()  # without a loss the gradients are the caller's affair
    np.testing.assert_array_equal(param.data, [0, 0])


@each_rule
def test_a_step_on_several_losses_is_a_backward_pass_of_each_and_a_step(rule, options):
    by_hand, given = rule(leaves(), **options), rule(leaves(), **options)
    for _ in range(3):
        for optimizer in (by_hand, given):
            optimizer.zero_grad()
        for factor in (0.5, 2.0, 1.0):
            (bumpy(by_hand.params) * factor).backward()
        by_hand.step()
        trunk = bumpy(given.params)  # the graphs may have parts in common
        losses = [trunk * 0.5, trunk * 2.0, trunk]
        assert given.step(losses) == sum(loss.item() for loss in losses)
    for a, b in zip(by_hand.params, given.params):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.grad, b.grad)


def leave_a_gradient(param):
    (param * 3.0).sum().backward()


def make_a_gradient(param):
    param.grad = np.ones(2, np.float32)


@pytest.mark.parametrize("before", [leave_a_gradient, make_a_gradient])
@pytest.mark.parametrize("swept", [False, True])
def test_a_step_refuses_gradients_that_are_not_of_its_loss(before, swept):
    param = x()
    optimizer = optim.Adam([param])
    before(param)
    loss = (param * param).sum()
    if swept:
        loss.backward()
    with pytest.raises(ValueError, match=r"Adam.step: parameter 0, \(2,\), has a gradient that"):
        optimizer.step(loss)
    np.testing.assert_array_equal(param.data, [1, 2])
    assert optimizer.state_bytes == 0


def test_a_step_without_a_loss_needs_a_gradient():
    param = x()
    with pytest.raises(ValueError, match=r"SGD.step: no parameter has a gradient; run the loss's"):
        optim.SGD([param]).step()


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda param: (param * np.nan).sum(), NonFiniteError, "the loss is nan; lower the"),
        (lambda param: (param * np.inf).sum(), NonFiniteError, "the loss is inf"),
        (lambda param: np.sqrt(param - 1.0).sum(), NonFiniteError, "the gradient of parameter 1"),
        (lambda param: 3.0, TypeError, "loss must be a Tensor, got a float"),
        (lambda param: lambda: param, TypeError, "loss must be a Tensor, got a function"),
        (lambda param: param * param, ValueError, r"a single element .* got shape \(2,\)"),
        (lambda param: ag.tensor(1.0, requires_grad=True), ValueError, "no graph"),
        (lambda param: (x() * x()).sum(), ValueError, "depends on none of the parameters"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_step_refuses_a_loss_before_anything_changes(loss, error, message):
    unused, param = x(), x()
    optimizer = optim.Adam([unused, param])
    with pytest.raises(error, match="Adam.step: .*" + message):
        optimizer.step(loss(param))
    np.testing.assert_array_equal(param.data, [1, 2])
    assert optimizer.state_dict()["parameters"] == {}
    assert optimizer.state_bytes == 0


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW, optim.Muon])
def test_options_are_attributes_of_the_optimizer(rule):
    optimizer = rule([x()])
    parameters = inspect.signature(rule).parameters
    for name in parameters.keys() - {"params", "lr", "rmsprop"}:
        assert getattr(optimizer, name) == parameters[name].default


@pytest.mark.parametrize("steps", [0, 2])
def test_an_option_may_be_set_between_steps(steps):
    changed, made = optim.RMSprop(leaves(), alpha=0.5), optim.RMSprop(leaves(), alpha=0.9)
    run(changed, steps)
    run(made, steps)
    changed.alpha = 0.9
    made.load_state_dict(changed.state_dict())
    for a, b in zip(changed.params, made.params):
        b.data = a.data
    for a, b in zip(run(changed, 4, start=steps), run(made, 4, start=steps)):
        np.testing.assert_array_equal(a, b)


def test_a_state_that_an_option_asks_for_later_begins_as_zeros():
    optimizer, param = optim.SGD([p := x()], lr=0.5), p
    for momentum, expected in ((0.0, [0.5, 1.5]), (0.5, [0, 1]), (0.5, [-0.75, 0.25])):
        optimizer.momentum = momentum
        param.grad = np.ones(2, np.float32)
        optimizer.step()
        np.testing.assert_array_equal(param.data, expected)
    optimizer.momentum = 0.0
    optimizer.step()
    assert optimizer.state_bytes == 0


@pytest.mark.parametrize(
    ("optimizer", "name", "value", "message"),
    [
        (optim.SGD([x()]), "nesterov", True, "SGD: nesterov needs momentum"),
        (optim.AdamW([x()]), "betas", (0.9, 1.0), r"AdamW: betas\[1\] must be in"),
        (optim.Muon([x()]), "ns_steps", 0, "Muon: ns_steps must be at least 1, got 0"),
    ],
)
def test_refuses_to_set_an_option_out_of_its_range(optimizer, name, value, message):
    before = optimizer.rule
    with pytest.raises(ValueError, match=message):
        setattr(optimizer, name, value)
    assert optimizer.rule == before


# -- Muon ------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4), (1, 5)])
def test_orthogonalize_keeps_singular_vectors_and_evens_out_values(shape, dtype):
    matrix = np.random.default_rng(0).normal(size=shape).astype(dtype) * 100
    result = orthogonalize(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    assert result.dtype == dtype
    u, _, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    core = u.T @ result @ v.T
    off_diagonal = core - np.diag(np.diag(core))
    assert np.abs(off_diagonal).max() < (1e-4 if dtype == np.float32 else 1e-12)
    assert np.diag(core).min() > 0.5
    assert np.diag(core).max() < 1.3


def test_muons_rmsprop_has_its_own_arguments_and_follows_the_rate():
    bias = ag.tensor(np.ones(3), requires_grad=True)
    alone = ag.tensor(np.ones(3), requires_grad=True)
    muon = optim.Muon([bias], lr=0.02, rmsprop={"lr": 1e-3, "alpha": 0.9})
    rmsprop = optim.RMSprop([alone], lr=1e-3, alpha=0.9)
    for step in range(4):
        bias.grad = alone.grad = gradient(step, 0, bias.data)
        muon.step()
        rmsprop.step()
        if step == 1:
            muon.lr, rmsprop.lr = 0.01, 5e-4
    np.testing.assert_allclose(bias.data, alone.data, rtol=1e-14)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (3, 0), (0, 3)], ids=str)
@pytest.mark.parametrize("lr", [0.0, 0.1])
def test_muon_takes_zero_gradients_empty_matrices_and_a_rate_of_zero(shape, lr):
    matrix, bias = (ag.tensor(np.ones(size), requires_grad=True) for size in (shape, (2,)))
    optimizer = optim.Muon([matrix, bias], lr=lr, weight_decay=0.0, rmsprop={"lr": 0.0})
    for _ in range(2):
        matrix.grad, bias.grad = np.zeros(shape), np.zeros(2)
        optimizer.step()
    np.testing.assert_array_equal(matrix.data, np.ones(shape))
    np.testing.assert_array_equal(bias.data, [1, 1])


def test_muons_rate_for_other_parameters_is_its_own_by_default():
    bias, alone = (ag.tensor(np.ones(3), requires_grad=True) for _ in range(2))
    bias.grad = alone.grad = np.array([1.0, -2.0, 3.0])
    optim.Muon([bias], lr=0.05).step()
    optim.RMSprop([alone], lr=0.05).step()
    np.testing.assert_array_equal(bias.data, alone.data)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "params is empty"),
        ([ag.tensor([1.0])], ValueError, r"params\[0\] requires no gradient"),
        ([x() + x()], ValueError, r"params\[0\] is computed"),
        ([np.ones(2)], TypeError, r"params\[0\] must be a Tensor, got a ndarray"),
        (x(), TypeError, "params must be an iterable of Tensors, got a Tensor"),
        (3, TypeError, "params must be an iterable of Tensors, got a int"),
        ([x()] * 2, ValueError, r"params\[1\] appears twice"),
    ],
)
def test_refuses_parameters(params, error, message):
    with pytest.raises(error, match="RMSprop: " + message):
        optim.RMSprop(params)
    with pytest.raises(error, match="EMA: " + message):
        optim.EMA(params)


@pytest.mark.parametrize(
    ("rule", "options", "error", "message"),
    [
        (optim.SGD, {"lr": -1}, ValueError, "lr must not be negative, got -1"),
        (optim.SGD, {"lr": math.nan}, ValueError, "lr must not be negative, got nan"),
        (optim.SGD, {"lr": math.inf}, ValueError, "lr"),
        (optim.SGD, {"lr": "fast"}, TypeError, "lr must be a number, got str"),
        (optim.SGD, {"lr": True}, TypeError, "lr must be a number, got bool"),
        (optim.Adam, {"eps": False}, TypeError, "eps must be a number, got bool"),
        (optim.SGD, {"momentum": -1}, ValueError, "momentum"),
        (optim.SGD, {"dampening": 2}, ValueError, "dampening"),
        (optim.SGD, {"weight_decay": -1}, ValueError, "weight_decay"),
        (optim.SGD, {"nesterov": True}, ValueError, "nesterov needs momentum"),
        (
            optim.SGD,
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "nesterov",
        ),
        (optim.SGD, {"cautious": True}, ValueError, "cautious needs momentum, got momentum=0.0"),
        (optim.RMSprop, {"cautious": True}, ValueError, "cautious needs momentum"),
        (optim.RMSprop, {"alpha": 1.0}, ValueError, r"alpha must be in \[0, 1\), got 1.0"),
        (optim.RMSprop, {"eps": -1e-8}, ValueError, "eps"),
        (optim.RMSprop, {"momentum": -1}, ValueError, "momentum"),
        (optim.RMSprop, {"weight_decay": -1}, ValueError, "weight_decay"),
        (optim.Adam, {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\]"),
        (optim.Adam, {"betas": (0.9, -0.1)}, ValueError, r"betas\[1\]"),
        (optim.Adam, {"eps": -1}, ValueError, "eps"),
        (optim.AdamW, {"weight_decay": -1}, ValueError, "weight_decay"),
        (optim.Muon, {"ns_steps": 0}, ValueError, "ns_steps"),
        (optim.Muon, {"ns_coefficients": (1, 2)}, ValueError, "ns_coefficients"),
        (optim.Muon, {"adjust_lr_fn": "other"}, ValueError, "adjust_lr_fn"),
        (optim.Muon, {"momentum": 1.0}, ValueError, "momentum"),
        (optim.Muon, {"eps": -1}, ValueError, "eps"),
        (optim.Muon, {"weight_decay": -1}, ValueError, "weight_decay"),
        (optim.EMA, {"decay": 1.0}, ValueError, "decay"),
    ],
)
def test_refuses_arguments(rule, options, error, message):
    with pytest.raises(error, match=f"{rule.__name__}: .*{message}"):
        rule([x()], **options)


def test_refuses_to_set_a_negative_rate():
    optimizer = optim.SGD([x()], lr=1.0)
    with pytest.raises(ValueError, match="SGD: lr"):
        optimizer.lr = -1
    assert optimizer.lr == 1.0


@pytest.mark.parametrize("grad", [np.ones(3, np.float32), np.float32(1)])
def test_a_gradient_that_does_not_fit_cannot_be_assigned(grad):
    param = x()
    with pytest.raises(ValueError, match=r"Tensor\.grad: the value has shape"):
        param.grad = grad
    assert param.grad is None


def test_refuses_a_gradient_that_does_not_fit_before_anything_changes():
    first, second = x(), x()
    first.grad, second.grad = np.ones(2, np.float32), np.ones(2, np.float32)
    second.grad.resize(3, refcheck=False)  # behind the Tensor's back
    optimizer = optim.Adam([first, second])
    with pytest.raises(ValueError, match="Adam: parameter 1 is float32"):
        optimizer.step()
    np.testing.assert_array_equal(first.data, [1, 2])
    assert optimizer.state_bytes == 0


def test_a_gradient_of_another_dtype_is_converted():
    param = x()
    param.grad = np.ones(2)
    assert param.grad.dtype == np.float32
    optim.SGD([param], lr=1.0).step()
    np.testing.assert_array_equal(param.data, [0, 1])


def test_refuses_states_of_others():
    optimizer = optim.Adam([x()])
    optimizer.params[0].grad = np.ones(2, np.float32)
    optimizer.step()
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="parameter 0 needs steps and"):
        optim.RMSprop([x()]).load_state_dict(state)
    with pytest.raises(ValueError, match="average of parameter 0 must be float64"):
        optim.Adam([x(dtype=np.float64)]).load_state_dict(state)
    with pytest.raises(ValueError, match="expected lr and parameters"):
        optim.Adam([x()]).load_state_dict({"lr": 1.0})
    many = optim.Adam([x(), x()])
    many.load_state_dict(state)
    many.params[1].grad = np.ones(2, np.float32)
    many.step()
    with pytest.raises(ValueError, match=r"the state has parameters \['1'\]"):
        optimizer.load_state_dict(many.state_dict())


@each_rule
@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_options_that_are_numpys_scalars_change_no_dtype(rule, options, number):
    def as_numbers(value, convert):
        if isinstance(value, tuple):
            return tuple(convert(float(number(part))) for part in value)
        return convert(float(number(value))) if type(value) is float else value

    trained = []
    for convert in float, number:
        weight = ag.tensor(np.eye(3, 4, dtype=np.float32), requires_grad=True)
        given = {name: as_numbers(value, convert) for name, value in options.items()}
        optimizer = rule([weight], lr=convert(0.125), **given)
        for step in range(3):
            optimizer.zero_grad()
            ((weight - step) ** 2).sum().backward()
            optimizer.step()
        assert weight.dtype == weight.grad.dtype == np.float32
        trained.append(weight.data)
    if number is np.float64:  # in single precision, differences such as 1 - alpha are rounded
        np.testing.assert_array_equal(*trained)


def test_muons_rule_for_other_parameters_is_an_option():
    bias = ag.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.Muon([bias], lr=0.01, rmsprop={"lr": 0.1, "alpha": 0.5})
    assert (optimizer.rmsprop["lr"], optimizer.rmsprop["alpha"]) == (0.1, 0.5)
    optimizer.rmsprop = {"lr": 0.2}
    assert (optimizer.rmsprop["lr"], optimizer.rmsprop["alpha"]) == (0.2, 0.99)
    with pytest.raises(ValueError, match="Muon: rmsprop has no option 'beta'; its options are lr,"):
        optimizer.rmsprop = {"beta": 0.5}
    with pytest.raises(ValueError, match="Muon: lr is 0, and the lr of rmsprop cannot be in"):
        optim.Muon([bias], lr=0.0, rmsprop={"lr": 0.1})
