"""Parameter groups, compared with PyTorch, with separate optimizers, and with no groups."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noisy_bowl import SHAPES, each_dtype, gradient, leaves, run, starts, x
from pytorch import needs_torch, torch

import agrad as ag
from agrad import nn, optim
from agrad.optim.sgd import SGDRule

RULES = {
    "SGD": (optim.SGD, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}),
    "RMSprop": (optim.RMSprop, {"momentum": 0.5}, {"alpha": 0.9, "centered": True, "eps": 1e-2}),
    "Adam": (optim.Adam, {"weight_decay": 0.1}, {"betas": (0.8, 0.99), "amsgrad": True}),
    "AdamW": (optim.AdamW, {"lr": 0.02}, {"weight_decay": 0.0, "lr": 0.05}),
    "Muon": (optim.Muon, {"lr": 0.02, "rmsprop": {"lr": 1e-3}}, {"momentum": 0.8, "lr": 0.04}),
}
each_rule = pytest.mark.parametrize(("rule", "options", "own"), RULES.values(), ids=list(RULES))


def halves(params, own):
    return [{"params": params[:2]}, {"params": params[2:], **own}]


def bumpy(params):
    return sum((param * param + np.sin(3.0 * param)).sum() for param in params)


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


# -- what groups are -------------------------------------------------------------------------------


@needs_torch
@each_dtype
@each_rule
def test_gives_pytorchs_numbers(rule, options, own, dtype, monkeypatch):
    """Rates, options and the groups themselves change meanwhile."""
    muon = rule is optim.Muon
    shapes = [(5, 7), (7, 3), (3, 4), (2, 2)] if muon else SHAPES
    options = {name: value for name, value in options.items() if name != "rmsprop"}
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    mine = leaves(dtype, shapes)
    theirs = [torch.tensor(start, requires_grad=True) for start in starts(dtype, shapes)]
    ours = rule(halves(mine[:3], own), **options)
    reference = getattr(torch.optim, rule.__name__)(halves(theirs[:3], own), **options)
    for step in range(30):
        for i, (a, b) in enumerate(zip(mine, theirs)):
            a.grad = gradient(step, i, a.data)
            b.grad = torch.tensor(gradient(step, i, b.detach().numpy()))
        for optimizer, last in ((ours, mine[3]), (reference, theirs[3])):
            if step == 10:
                optimizer.add_param_group({"params": last, "lr": 0.03})
            if step == 15:
                optimizer.param_groups[0]["lr"] = 0.004
                optimizer.param_groups[1]["weight_decay"] = 0.2
            for group in optimizer.param_groups:
                group["lr"] *= 0.97
            optimizer.step()
    for a, b in zip(mine, theirs):
        scale = max(np.abs(a.data).max(), 1)
        tolerance = 1e-12 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(a.data, b.detach().numpy(), atol=tolerance * scale, rtol=0)


@each_rule
def test_a_group_is_an_optimizer_with_its_arguments(rule, options, own):
    together = rule(halves(leaves(), own), **options)
    apart = rule(leaves()[:2], **options), rule(leaves()[2:], **options | own)
    for step in range(8):
        for optimizer in (together, *apart):
            for param in optimizer.params:
                param.grad = gradient(step, param.size, param.data)
            optimizer.step()
    assert_equal(
        [param.data for param in together.params],
        [param.data for optimizer in apart for param in optimizer.params],
    )


@st.composite
def partitions(draw):
    """Groups of the numbers 0 to 3, in any order."""
    order = draw(st.permutations(range(4)))
    cuts = sorted(draw(st.sets(st.integers(1, 3))))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, 4])]


def trained(make, partition, own=None):
    """Train four leaves in groups, and return them in their original order."""
    params = leaves(np.float32)
    options = own or {}
    optimizer = make(
        [{"params": [params[i] for i in part], **options.get(i, {})} for i, part in partition]
        if own is not None
        else [params[i] for i in partition]
    )
    for _ in range(4):
        optimizer.zero_grad()
        optimizer.step(bumpy(params))
    return [param.data for param in params]


MAKERS = {
    **{
        name: lambda params, rule=rule, options=options: rule(params, **options)
        for name, (rule, options, _) in RULES.items()
    },
    **{
        f"average by {granularity}": lambda params, granularity=granularity: optim.AverageGradient(
            optim.Adam(params, lr=0.5), granularity=granularity, every=2
        )
        for granularity in ("element", "row", "tensor")
    },
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))


@each_maker
@settings(max_examples=20)
@given(partition=partitions())
def test_groups_with_equal_options_train_like_one(make, partition):
    grouped = trained(make, list(enumerate(partition)), own={})
    assert_equal(grouped, trained(make, range(4)))


@each_maker
@settings(max_examples=20)
@given(partition=partitions(), data=st.data())
def test_the_order_of_groups_does_not_matter(make, partition, data):
    numbered = list(enumerate(partition))
    own = {i: {"lr": 0.01 * (i + 1), "weight_decay": 0.1 * i} for i, _ in numbered}
    turned = data.draw(st.permutations(numbered))
    assert_equal(trained(make, numbered, own), trained(make, turned, own))


def test_the_automatic_rate_is_measured_once_over_all_groups():
    def make(params):
        return optim.AverageGradient(optim.Adam(params, lr=0.01), lr="auto", granularity="model")

    optimizers = [make(leaves()), make(halves(leaves(), {}))]
    ratio = make(halves(leaves(), {"lr": 0.001}))
    for optimizer in (*optimizers, ratio):
        for _ in range(10):
            optimizer.zero_grad()
            optimizer.step(bumpy(optimizer.params))
    plain, grouped = optimizers
    assert grouped.fraction == pytest.approx(plain.fraction, rel=1e-12)
    assert grouped.lr == pytest.approx(plain.lr, rel=1e-12) != 0.01
    first, second = ratio.param_groups
    assert ratio.lr == first["lr"] != 0.01
    assert second["lr"] == pytest.approx(0.1 * first["lr"], rel=1e-12)


# -- rates -----------------------------------------------------------------------------------------


def test_the_rate_is_the_highest_and_keeps_the_ratios():
    optimizer = optim.SGD(halves(leaves(), {"lr": 0.5}), lr=0.125)
    assert optimizer.lr == optimizer.rate == 0.5
    optimizer.lr = 2.0
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 2.0]
    optimizer.param_groups[0]["lr"] = 4.0
    assert optimizer.lr == 4.0
    optimizer.lr = 0.0
    optimizer.lr = 3.0
    assert [group["lr"] for group in optimizer.param_groups] == [3.0, 3.0]
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.lr = np.float32(1.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.5]


def test_a_schedule_is_a_factor_on_the_rate_of_each_group():
    grouped = optim.Adam(halves(leaves(), {"lr": 0.1}), lr=0.02)
    by_hand = optim.Adam(halves(leaves(), {"lr": 0.1}), lr=0.02)
    schedule = optim.StepLR(grouped, step_size=1, gamma=0.5)
    for step in range(5):
        run(grouped, 1, start=step)
        run(by_hand, 1, start=step)
        schedule.step()
        for group in by_hand.param_groups:
            group["lr"] *= 0.5
    assert_equal([p.data for p in grouped.params], [p.data for p in by_hand.params])
    assert grouped.lr == 0.1


def test_the_floor_of_a_cosine_is_the_highest_rate_of_the_groups():
    optimizer = optim.SGD(halves(leaves(), {"lr": 0.5}), lr=0.1)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=2, eta_min=0.05)
    schedule.step()
    schedule.step()
    assert optimizer.rate == pytest.approx(0.05)
    assert optimizer.param_groups[0]["lr"] * optimizer.scale == pytest.approx(0.01)


def test_muons_rate_for_other_parameters_is_that_of_its_group():
    def make(lr):
        return optim.RMSprop([ag.tensor(np.ones(3), requires_grad=True)], lr=lr)

    params = [ag.tensor(np.ones(3), requires_grad=True) for _ in range(3)]
    groups = [
        {"params": params[0]},
        {"params": params[1], "lr": 0.04},
        {"params": params[2], "rmsprop": {"alpha": 0.99}},
    ]
    muon = optim.Muon(groups, lr=0.02, rmsprop={"lr": 1e-3})
    alone = make(1e-3), make(1e-3), make(0.02)
    for step in range(4):
        for param, other in zip(params, alone):
            param.grad = other.params[0].grad = gradient(step, 0, param.data)
            other.step()
        muon.step()
        if step == 1:
            muon.lr *= 0.5
            for other in alone:
                other.lr *= 0.5
    for param, other in zip(params, alone):
        np.testing.assert_allclose(param.data, other.params[0].data, rtol=1e-14)
    assert [group["rmsprop"].get("lr") for group in muon.param_groups] == [5e-4, 5e-4, None]
    muon.param_groups[1]["rmsprop"] = {"lr": 0.5, "alpha": 0.9}
    assert muon.param_groups[1]["rmsprop"]["lr"] == 0.5
    assert muon.param_groups[1]["rmsprop"]["alpha"] == 0.9


# -- options ---------------------------------------------------------------------------------------


@each_rule
def test_a_group_is_a_mapping_with_pytorchs_keys(rule, options, own):
    optimizer = rule(halves(leaves(), own), **options)
    first, second = optimizer.param_groups
    arguments = inspect.signature(rule).parameters
    assert sorted(first) == sorted(arguments)
    assert len(first) == len(arguments)
    assert first["params"] == optimizer.params[:2]
    assert second["params"] == optimizer.params[2:]
    for name, value in own.items():
        assert second[name] == value
        assert first[name] == options.get(name, arguments[name].default)
    assert "initial_lr" not in first
    assert "lr=" in repr(first)


@each_rule
@pytest.mark.parametrize("steps", [0, 3])
def test_an_option_of_a_group_may_be_set_between_steps(rule, options, own, steps):
    changed = rule(halves(leaves(), {}), **options)
    made = rule(halves(leaves(), {"weight_decay": 0.3}), **options)
    run(changed, steps)
    changed.param_groups[1]["weight_decay"] = 0.3
    made.load_state_dict(changed.state_dict())
    for a, b in zip(changed.params, made.params):
        b.data = a.data
    assert_equal(run(changed, 4, start=steps), run(made, 4, start=steps))


def test_an_option_of_the_optimizer_is_that_of_all_groups():
    optimizer = optim.AdamW(halves(leaves(), {"betas": (0.8, 0.9)}), weight_decay=0.25)
    assert optimizer.weight_decay == 0.25
    with pytest.raises(ValueError, match=r"AdamW.betas: the groups differ, \[\(0.9, 0.999\), \(0."):
        _ = optimizer.betas
    with pytest.raises(ValueError, match=r"AdamW\.rule: the groups differ"):
        _ = optimizer.rule
    optimizer.weight_decay = 0.5
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5]
    assert optimizer.param_groups[1]["betas"] == (0.8, 0.9)
    optimizer.betas = (0.5, 0.6)
    assert optimizer.rule == optimizer.param_groups[0].rule
    optimizer.rule = optim.AdamW([x()]).rule
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.01]


def test_a_setting_that_one_group_refuses_changes_none():
    optimizer = optim.SGD(halves(leaves(), {"nesterov": True}), momentum=0.9)
    with pytest.raises(ValueError, match="nesterov needs momentum"):
        optimizer.momentum = 0.0
    assert optimizer.momentum == 0.9


def test_a_users_own_rule_has_groups():
    optimizer = optim.RuleOptimizer(
        halves(leaves(), {"momentum": 0.5}), lr=0.1, rule=SGDRule(0.0, 0.0, 0.0, False)
    )
    same = optim.SGD(halves(leaves(), {"momentum": 0.5}), lr=0.1)
    assert_equal(run(optimizer, 5), run(same, 5))


# -- frozen parameters -----------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("averaged", [False, True])
def test_frozen_parameters_are_left_alone(rule, options, own, averaged):
    def trained(passed):
        params = leaves()
        params[1].requires_grad = False
        optimizer = rule([params[i] for i in passed], **options)
        if averaged:
            optimizer = optim.AverageGradient(optimizer, every=2)
        for _ in range(4):
            optimizer.zero_grad()
            optimizer.step(bumpy(params))
        return [param.data for param in params]

    with_the_frozen = trained([0, 1, 2, 3])
    np.testing.assert_array_equal(with_the_frozen[1], starts()[1])
    assert_equal(with_the_frozen, trained([0, 2, 3]))


@each_rule
def test_a_parameter_may_be_frozen_and_trained_again(rule, options, own):
    params, others = leaves(), leaves()
    optimizer = rule(params, **options)
    early, late = rule([others[0], *others[2:]], **options), rule([others[1]], **options)
    for step in range(9):
        trains = step >= 3 and step != 6
        params[1].requires_grad = others[1].requires_grad = trains
        for each in (optimizer, early, late):
            each.zero_grad()
        optimizer.step(bumpy(params))
        bumpy(others).backward()
        early.step()
        if trains:
            late.step()
    assert_equal([p.data for p in params], [p.data for p in others])


def test_a_gradient_of_a_frozen_parameter_does_not_count():
    param, frozen = x(), x()
    optimizer = optim.SGD([param, frozen], lr=1.0)
    param.grad = frozen.grad = np.ones(2, np.float32)
    frozen.requires_grad = False
    optimizer.step()
    np.testing.assert_array_equal(param.data, [0, 1])
    np.testing.assert_array_equal(frozen.data, [1, 2])
    param.grad = None
    with pytest.raises(ValueError, match=r"SGD\.step: no parameter has a gradient"):
        optimizer.step()


def test_a_whole_group_may_be_frozen():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    for param in model[0].parameters():
        param.requires_grad = False
    before = model[0].weight.data.copy()
    optimizer = optim.Adam(
        [{"params": model[0].parameters(), "lr": 1e-4}, {"params": model[1].parameters()}]
    )
    optimizer.step((model(ag.tensor([[1.0, 2.0]])) ** 2).sum())
    np.testing.assert_array_equal(model[0].weight.data, before)
    assert sorted(optimizer.state_dict()["parameters"]) == ["2", "3"]
    ema = optim.EMA(model.parameters())
    ema.update()
    with ema.averaged():
        np.testing.assert_array_equal(model[0].weight.data, before)


# -- states ----------------------------------------------------------------------------------------


@each_rule
def test_resumes_bit_for_bit_from_a_saved_state(rule, options, own, tmp_path):
    optimizer = rule(halves(leaves(), own), **options)
    run(optimizer, steps=5)
    optimizer.param_groups[0]["lr"] = 0.003
    ag.serialization.save(tmp_path / "state", optimizer.state_dict())
    resumed = rule(halves(leaves(), own), **options)
    for a, b in zip(resumed.params, optimizer.params):
        a.data = b.data
    resumed.load_state_dict(ag.serialization.load(tmp_path / "state"))
    assert [g["lr"] for g in resumed.param_groups] == [g["lr"] for g in optimizer.param_groups]
    assert_equal(run(resumed, steps=5, start=5), run(optimizer, steps=5, start=5))


def test_an_automatic_rate_over_groups_resumes_bit_for_bit(tmp_path):
    def make():
        base = optim.Adam(halves(leaves(), {"lr": 0.001}), lr=0.01)
        return optim.AverageGradient(base, lr="auto", every=2)

    def steps(optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            optimizer.step(bumpy(optimizer.params))

    optimizer, resumed = make(), make()
    steps(optimizer)
    ag.serialization.save(tmp_path / "state", optimizer.state_dict())
    resumed.load_state_dict(ag.serialization.load(tmp_path / "state"))
    for a, b in zip(resumed.params, optimizer.params):
        a.data = b.data
    steps(optimizer)
    steps(resumed)
    assert_equal([p.data for p in resumed.params], [p.data for p in optimizer.params])
    assert [g["lr"] for g in resumed.param_groups] == [g["lr"] for g in optimizer.param_groups]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@each_rule
def test_copies_continue_independently(rule, options, own, way):
    optimizer = rule(halves(leaves(), own), **options)
    run(optimizer, steps=3)
    twin = way(optimizer)
    twin.param_groups[1]["lr"] = optimizer.param_groups[1]["lr"] = 0.002
    before = [param.data.copy() for param in optimizer.params]
    after = [data.copy() for data in run(twin, steps=3, start=3)]
    assert_equal([param.data for param in optimizer.params], before)
    assert_equal(run(optimizer, steps=3, start=3), after)


def test_a_state_without_groups_fits_groups_of_the_same_parameters():
    plain = optim.Adam(leaves(), lr=0.02)
    run(plain, steps=3)
    state = plain.state_dict()
    assert state.keys() == {"lr", "parameters"}
    grouped = optim.Adam(halves(leaves(), {"lr": 0.1}), lr=0.05)
    grouped.load_state_dict(state)
    assert [group["lr"] for group in grouped.param_groups] == [0.01, 0.02]
    grouped.param_groups[0]["lr"] = 0.02
    for a, b in zip(grouped.params, plain.params):
        a.data = b.data
    assert_equal(run(grouped, 3, start=3), run(plain, 3, start=3))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"0": {"lr": 1.0, "size": 2}}, r"the optimizer has 2 groups, the state has \['0'\]"),
        ({"0": {"lr": 1.0, "size": 2}, "1": {"lr": 0.5}}, r"group 1 needs lr and size"),
        (
            {"0": {"lr": 1.0, "size": 1}, "1": {"lr": 0.5, "size": 3}},
            "group 0 has 2 parameters, the state 1",
        ),
        ({"0": {"lr": 2.0, "size": 2}, "1": {"lr": 0.5, "size": 2}}, "lr must be the highest"),
        ({"0": {"lr": 1.0, "size": 2}, "1": {"lr": -1.0, "size": 2}}, "group 1: lr must not be"),
        ([], "groups must be a dict"),
    ],
)
def test_refuses_states_of_other_groups(groups, message):
    optimizer = optim.SGD(halves(leaves(), {"lr": 0.5}), lr=0.25)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match="SGD.*" + message):
        optimizer.load_state_dict({"lr": 1.0, "parameters": {}, "groups": groups})
    assert optimizer.state_dict() == before


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (
            lambda p: [{"params": p[:2], "learning_rate": 1.0}],
            ValueError,
            "group 0 has no option '",
        ),
        (
            lambda p: [{"params": p[:1]}, {"params": [], "lr": 1}],
            ValueError,
            "group 1: params is e",
        ),
        (
            lambda p: [{"params": p}, {"params": p[:1]}],
            ValueError,
            r"group 1: params\[0\] is in",
        ),
        (lambda p: [{"params": [p[0], p[0]]}], ValueError, r"group 0: params\[1\] appears twice"),
        (lambda p: [{"params": p[:1]}, {"lr": 0.1}], ValueError, "group 1 has no params"),
        (lambda p: [{"params": p[:1]}, p[1]], TypeError, "group 1 must be a dict like the others"),
        (lambda p: [p[1], {"params": p[:1]}], TypeError, "group 0 must be a dict like the others"),
        (lambda p: {"params": p}, TypeError, "params must be .* parameter groups are a list of d"),
        (
            lambda p: [{"params": ["w"]}],
            TypeError,
            r"group 0: params\[0\] must be a Tensor",
        ),
        (lambda p: [{"params": p[0] + 1.0}], ValueError, r"group 0: params\[0\] is computed"),
        (
            lambda p: [{"params": p, "lr": -1}],
            ValueError,
            "group 0: lr must not be negative",
        ),
        (lambda p: [{"params": p, "lr": "x"}], TypeError, "group 0: lr must be a number, got str"),
        (lambda p: [{"params": p, "betas": (1, 0)}], ValueError, r"group 0: betas\[0\] must be in"),
        (lambda p: [{"params": p, "eps": None}], TypeError, "group 0: eps must be a number, got N"),
        (
            lambda p: [{"params": [ag.tensor([1.0])]}],
            ValueError,
            r"params\[0\] requires no gradient",
        ),
        (lambda p: [*p, ag.tensor([1])], ValueError, r"params\[4\] is int64; only floating-point"),
    ],
)
def test_refuses_groups(groups, error, message):
    with pytest.raises(error, match="Adam: " + message):
        optim.Adam(groups(leaves()))


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        (lambda p: {"params": p[:1]}, ValueError, r"group 1: params\[0\] is in group 0 too"),
        (lambda p: p[2:], TypeError, "expected a dict, got a list"),
        (
            lambda p: {"params": p[2:], "momentum": 1},
            ValueError,
            "group 1 has no option 'momentum'",
        ),
    ],
)
def test_refuses_to_add_a_group(group, error, message):
    params = leaves()
    optimizer = optim.Adam(params[:2])
    with pytest.raises(error, match="Adam.add_param_group: " + message):
        optimizer.add_param_group(group(params))
    assert len(optimizer.param_groups) == 1
    assert len(optimizer.params) == 2


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("params", [], ValueError, "params of a group cannot be set; use add_param_group"),
        ("momentum", 0.5, ValueError, "has no option 'momentum'; the options are lr, betas, eps"),
        ("lr", -1.0, ValueError, "lr must not be negative"),
        ("eps", -1.0, ValueError, "eps must not be negative"),
    ],
)
def test_refuses_to_set_an_option_of_a_group(name, value, error, message):
    group = optim.Adam(halves(leaves(), {})).param_groups[1]
    before = dict(group)
    with pytest.raises(error, match=f"Adam: group 1.*{message}"):
        group[name] = value
    assert dict(group) == before
