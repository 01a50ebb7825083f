"""Schedules of the rate, against PyTorch's and by hand."""

import math

import numpy as np
import pytest
from noisy_bowl import leaves, run, x
from pytorch import needs_torch, torch

from agrad import optim


def fixed_momentum(library):
    """Return options that keep PyTorch's cycle from changing the momentum, too."""
    return {} if library is optim else {"cycle_momentum": False}


def schedules(library, optimizer):
    """Return every schedule, made from one library's classes with its arguments."""
    return {
        "step": lambda: library.StepLR(optimizer, 3, 0.5),
        "step default": lambda: library.StepLR(optimizer, step_size=10),
        "cosine": lambda: library.CosineAnnealingLR(optimizer, 7),
        "cosine floor": lambda: library.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.02),
        "linear": lambda: library.LinearLR(optimizer),
        "linear down": lambda: library.LinearLR(optimizer, 1.0, 0.2, 8),
        "one cycle": lambda: library.OneCycleLR(optimizer, 0.5, 20, **fixed_momentum(library)),
        "one cycle in lines": lambda: library.OneCycleLR(
            optimizer,
            0.5,
            21,
            pct_start=0.4,
            anneal_strategy="linear",
            div_factor=5,
            final_div_factor=10,
            **fixed_momentum(library),
        ),
        "three phases": lambda: library.OneCycleLR(
            optimizer, 0.3, 24, pct_start=0.25, three_phase=True, **fixed_momentum(library)
        ),
        "sequential": lambda: library.SequentialLR(
            optimizer,
            [
                library.LinearLR(optimizer, 0.1, total_iters=5),
                library.CosineAnnealingLR(optimizer, 10),
                library.StepLR(optimizer, 2, 0.5),
            ],
            milestones=[5, 15],
        ),
    }


@needs_torch
@pytest.mark.filterwarnings("ignore")  # PyTorch's about the order of calls, and its own
@pytest.mark.parametrize("name", schedules(None, None))
def test_schedules_give_pytorchs_numbers(name):
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    ours = optim.SGD([x()], lr=0.1)
    their_schedule = schedules(torch.optim.lr_scheduler, theirs)[name]()
    our_schedule = schedules(optim, ours)[name]()
    for _ in range(getattr(our_schedule, "total_steps", 30)):
        # PyTorch multiplies from step to step, and rounds each time.
        assert ours.rate == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
        our_schedule.step()
        if their_schedule.last_epoch + 1 < getattr(their_schedule, "total_steps", 31):
            their_schedule.step()


NAN = math.nan
METRICS = [3.0, 2.0, 2.0, 1.9999, 2.0, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 9.0]


@needs_torch
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 1, "factor": 0.5},
        {"patience": 0, "factor": 0.3, "threshold": 0.0, "min_lr": 0.01},
        {"mode": "max", "patience": 2, "threshold": 0.5, "threshold_mode": "abs"},
        {"mode": "max", "patience": 0, "threshold": 0.2, "cooldown": 2},
        {"patience": 0, "eps": 0.004},
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("unknown", [[], [NAN], [NAN, NAN, 1.5, NAN, NAN, NAN]])
def test_a_plateau_gives_pytorchs_numbers(options, sign, unknown):
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    ours = optim.SGD([x()], lr=0.1)
    their_schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    our_schedule = optim.ReduceLROnPlateau(ours, **options)
    for metric in [*unknown, *METRICS]:
        our_schedule.step(sign * metric)
        their_schedule.step(sign * metric)
        assert ours.rate == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12, abs=1e-15)


def test_a_plateau_keeps_its_lowest_rate_when_lr_changes():
    optimizer = optim.SGD([x()], lr=0.1)
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.1, patience=0, min_lr=0.005)
    for metric in (1.0, 1.0):
        schedule.step(metric)
    assert optimizer.rate == pytest.approx(0.01)
    for lr, rate in ((0.01, 0.005), (0.002, 0.002), (0.2, 0.02)):
        optimizer.lr = lr
        assert optimizer.rate == pytest.approx(rate)


def test_a_plateau_resumes():
    rates = []
    for stop in (None, 5):
        optimizer = optim.SGD([x()], lr=0.1)
        schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1)
        for i, metric in enumerate(METRICS):
            if i == stop:
                state = schedule.state_dict()
                optimizer = optim.SGD([x()], lr=0.1)
                schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1)
                schedule.load_state_dict(state)
            schedule.step(metric)
            rates.append(optimizer.rate)
    assert rates[: len(METRICS)] == rates[len(METRICS) :]
    assert rates[-1] < 0.05


def test_a_cycle_of_an_automatic_rate_peaks_at_the_rate_itself():
    base = optim.SGD([x()], lr=0.1)
    optimizer = optim.AverageGradient(base, lr="auto")
    with pytest.raises(ValueError, match="OneCycleLR: max_lr must be None"):
        optim.OneCycleLR(optimizer, 0.5, 10)
    schedule = optim.OneCycleLR(optimizer, None, 10)
    scales = []
    for _ in range(12):
        scales.append(optimizer.scale)
        schedule.step()
    assert max(scales) == 1.0
    assert scales[9] == scales[10] == scales[11] == pytest.approx(1 / 25e4)


def test_schedules_by_hand():
    rates = {}
    for name, make in schedules(optim, optimizer := optim.SGD([x()], lr=1.0)).items():
        schedule = make()
        rates[name] = []
        for _ in range(17):
            rates[name].append(optimizer.rate)
            schedule.step()
    assert rates["step"][:7] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert rates["cosine"][0] == 1
    assert rates["cosine"][7] == pytest.approx(0, abs=1e-15)
    assert rates["cosine floor"][5] == pytest.approx(0.51)
    assert rates["cosine floor"][10] == pytest.approx(0.02)
    assert rates["linear"][:7] == pytest.approx([1 / 3, 7 / 15, 3 / 5, 11 / 15, 13 / 15, 1, 1])
    assert rates["sequential"][0] == pytest.approx(0.1)
    assert rates["sequential"][5] == 1
    assert rates["sequential"][10] == pytest.approx(0.5)
    assert rates["sequential"][15:17] == [1, 1]
    assert optimizer.lr == 1.0


@pytest.mark.parametrize("rule", [optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW, optim.Muon])
def test_a_scheduled_step_is_one_with_that_rate(rule):
    scheduled, plain = rule(leaves(), lr=0.1), rule(leaves(), lr=0.1 * 0.25)
    optim.LinearLR(scheduled, start_factor=0.25)
    for a, b in zip(run(scheduled, steps=4), run(plain, steps=4)):
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("name", schedules(None, None))
def test_a_schedule_resumes(name):
    optimizer = optim.SGD([x()], lr=0.1)
    schedule = schedules(optim, optimizer)[name]()
    for _ in range(6):
        schedule.step()
    state = schedule.state_dict()
    resumed = optim.SGD([x()], lr=0.1)
    again = schedules(optim, resumed)[name]()
    again.load_state_dict(state)
    for _ in range(12):
        assert resumed.rate == optimizer.rate
        schedule.step()
        again.step()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: optim.StepLR(o, 0), ValueError, "StepLR: step_size"),
        (lambda o: optim.StepLR(o, 1.5), TypeError, "StepLR: step_size"),
        (lambda o: optim.StepLR(o, 1, -1), ValueError, "StepLR: gamma"),
        (lambda o: optim.CosineAnnealingLR(o, 0), ValueError, "CosineAnnealingLR: T_max"),
        (lambda o: optim.CosineAnnealingLR(o, 5, -1), ValueError, "CosineAnnealingLR: eta_min"),
        (
            lambda o: optim.CosineAnnealingLR(optim.SGD([x()], lr=0), 5, 0.1),
            ValueError,
            "CosineAnnealingLR: eta_min must be 0",
        ),
        (lambda o: optim.CosineAnnealingLR(None, 5, 0.1), TypeError, "optimizer must be"),
        (lambda o: optim.LinearLR(o, -1), ValueError, "LinearLR: start_factor"),
        (lambda o: optim.LinearLR(o, total_iters=0), ValueError, "LinearLR: total_iters"),
        (lambda o: optim.OneCycleLR(o, 0.1, 1), ValueError, "total_steps must be at least 2"),
        (
            lambda o: optim.OneCycleLR(o, 0.1, 9, pct_start=2),
            ValueError,
            r"pct_start must be in \[0, 1\]",
        ),
        (lambda o: optim.OneCycleLR(o, -0.1, 9), ValueError, "OneCycleLR: max_lr must be positive"),
        (
            lambda o: optim.OneCycleLR(o, 0.1, 9, anneal_strategy="step"),
            ValueError,
            "anneal_strategy must be .*, got 'step'",
        ),
        (lambda o: optim.ReduceLROnPlateau(o, "least"), ValueError, "mode must be one of"),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), ValueError, r"factor must be in \(0, 1"),
        (lambda o: optim.ReduceLROnPlateau(o, patience=-1), ValueError, "patience must be at le"),
        (lambda o: optim.ReduceLROnPlateau(o, patience=2.5), TypeError, "patience must be an int"),
        (lambda o: optim.ReduceLROnPlateau(o, cooldown=2.0), TypeError, "cooldown must be an int"),
        (
            lambda o: optim.ReduceLROnPlateau(optim.SGD([x()], lr=0), min_lr=0.1),
            ValueError,
            "ReduceLROnPlateau: min_lr must be 0",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o).step("0.5"),
            TypeError,
            "ReduceLROnPlateau: metrics must be a number, got str",
        ),
        (lambda o: optim.LinearLR(None), TypeError, "LinearLR: optimizer must be"),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(o)], [3]),
            ValueError,
            "SequentialLR: milestones",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(o)] * 3, [3, 3]),
            ValueError,
            "SequentialLR: milestones must increase",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(o)] * 3, [3, 2]),
            ValueError,
            "SequentialLR: milestones",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(o)] * 3, [-2, 3]),
            ValueError,
            r"SequentialLR: milestones\[0\] must be at least 0, got -2",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(o)] * 3, [3, 4.5]),
            TypeError,
            r"SequentialLR: milestones\[1\] must be an integer",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(o)] * 2, ["3"]),
            TypeError,
            r"SequentialLR: milestones\[0\] must be an integer",
        ),
        (lambda o: optim.SequentialLR(o, [], []), ValueError, "SequentialLR: milestones"),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(o), optim.ReduceLROnPlateau(o)], [1]),
            TypeError,
            r"schedulers\[1\] must be a schedule by steps, got a ReduceLROnPlateau",
        ),
        (
            lambda o: optim.SequentialLR(o, [1], []),
            TypeError,
            r"schedulers\[0\] must be a schedule by steps, got a int",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.LinearLR(optim.SGD([x()]))], []),
            ValueError,
            r"SequentialLR: schedulers\[0\] belongs to another optimizer",
        ),
    ],
)
def test_schedules_refuse(make, error, message):
    optimizer = optim.SGD([x()])
    with pytest.raises(error, match=message):
        make(optimizer)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("change", ["set", "loaded", "set on the base"])
@pytest.mark.parametrize("name", ["alone", "in a sequence"])
def test_the_floor_of_a_cosine_is_a_rate_whatever_the_rate_becomes(name, change, averaged):
    optimizer = base = optim.SGD([x()], lr=0.1)
    if averaged:
        optimizer = optim.AverageGradient(base)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.02)
    if name == "in a sequence":
        first = optim.LinearLR(optimizer, total_iters=2)
        schedule = optim.SequentialLR(optimizer, [first, schedule], [2])
        schedule.step()
        schedule.step()
    schedule.step()
    if change == "set":
        optimizer.lr = 0.5
    elif change == "loaded":
        saved = optim.SGD([x()], lr=0.5)
        optimizer.load_state_dict(
            optim.AverageGradient(saved).state_dict() if averaged else saved.state_dict()
        )
    else:
        base.lr = 0.5
    for way in (0.25, 0.5, 0.75, 1.0):  # the first by the change alone
        expected = 0.02 + (0.5 - 0.02) * (1 + np.cos(np.pi * way)) / 2
        assert optimizer.rate == base.rate == pytest.approx(expected)
        schedule.step()


def test_a_refused_schedule_leaves_the_optimizer_alone():
    optimizer = optim.SGD([x()], lr=0.0)
    with pytest.raises(ValueError, match="CosineAnnealingLR: eta_min must be 0"):
        optim.CosineAnnealingLR(optimizer, 5, 0.1)
    assert optimizer.scale == 1


def test_a_cosine_with_a_floor_refuses_a_rate_that_becomes_0():
    optimizer = optim.SGD([x()], lr=0.1)
    optim.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.02)
    optimizer.lr = 0.0
    optimizer.params[0].grad = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="CosineAnnealingLR: eta_min must be 0"):
        optimizer.step()
    np.testing.assert_array_equal(optimizer.params[0].data, [1, 2])


def test_the_last_schedule_made_or_stepped_gives_the_scale_unless_it_is_set():
    optimizer = optim.SGD([x()], lr=1.0)
    first = optim.LinearLR(optimizer, 0.25, total_iters=4)
    second = optim.StepLR(optimizer, 1, 0.5)
    assert optimizer.scale == 1
    first.step()
    assert optimizer.rate == 0.25 + 0.75 / 4
    optimizer.scale = 0.125
    assert optimizer.rate == 0.125
    second.step()
    assert optimizer.rate == 0.5
