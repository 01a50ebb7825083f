"""The training loop: single steps, many steps, evaluation, and NaN."""

import math
from functools import partial
from itertools import islice, pairwise

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import Batches, Prefetch
from agrad.errors import AnomalyError, NonFiniteError
from agrad.study.networks import dense_network
from agrad.train import Evaluation, capture_step, evaluate, train, train_step

RULES = {
    "sgd": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "rmsprop": lambda params: optim.RMSprop(params, lr=3e-3),
    "adam": lambda params: optim.Adam(params, lr=3e-3),
    "adamw": lambda params: optim.AdamW(params, lr=3e-3),
    "muon": lambda params: optim.Muon(params, lr=1e-2),
}


def examples(count=40, dtype=np.float32):
    """Return noisy points around the four unit vectors, and the numbers of these vectors."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 4
    noise = 0.1 * random.standard_normal((count, 4))
    return (np.eye(4)[labels] + noise).astype(dtype), labels


def network(seed=0, depth=3):
    ag.seed(seed)
    return dense_network(4, 4, depth=depth, width=8)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_learns(rule, average):
    model = network()
    optimizer = RULES[rule](model.parameters())
    if average:
        optimizer = optim.AverageGradient(optimizer)
    inputs, labels = examples()
    before = evaluate(model, inputs, labels)
    steps = list(train(model, optimizer, Batches(inputs, labels, batch_size=16, seed=0), 60))
    after = evaluate(model, inputs, labels)
    assert after.loss < 0.6 * before.loss
    assert steps[-1].loss < steps[0].loss


def test_a_step_equals_one_written_by_hand():
    inputs, labels = examples(8)
    losses, weights = [], []
    for by_hand in (True, False):
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(3):
            if by_hand:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(ag.tensor(inputs)), labels)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            else:
                losses.append(train_step(model, optimizer, inputs, labels))
        weights.append(model.state_dict())
    assert losses[:3] == losses[3:]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


def with_draws():
    """Return a network whose results for an example depend on draws and on the batch."""
    ag.seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4)
    )


def measured_on(size, model, **options):
    base = optim.Adam(model.parameters(), lr=1e-2)
    return optim.AverageGradient(base, probe_size=size, **options)


@pytest.mark.parametrize("captured", [False, True])
def test_a_step_is_measured_on_the_first_examples_as_they_are_in_the_batch(captured):
    """The reference has fixed masks and statistics in place of dropout and batch normalization."""
    inputs, labels = examples(24)
    weights = []
    for by_hand in (False, True):
        model = with_draws()
        linear, norm, *_, last = model
        optimizer = measured_on(5, model)
        step = capture_step(model, optimizer)
        for _ in range(4):
            if not by_hand and captured:
                step(inputs, labels)
                continue
            if not by_hand:
                train_step(model, optimizer, inputs, labels)
                continue
            optimizer.zero_grad()
            draws = ag.random.get_state()
            loss = F.cross_entropy(model(inputs), labels)
            ag.random.set_state(draws)
            mask = F.dropout(np.ones((24, 8), np.float32), 0.5).numpy()[:5]
            z = linear(inputs).numpy()
            deviation = np.sqrt(z.var(axis=0) + np.float32(norm.eps))
            hidden = (linear(inputs[:5]) - z.mean(axis=0)) / deviation * norm.weight + norm.bias
            rows = F.cross_entropy(last(np.tanh(hidden) * mask), labels[:5])
            optimizer.step(loss, rows)
        weights.append(model.state_dict())
    for name, array in weights[0].items():
        np.testing.assert_allclose(weights[1][name], array, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("probe", [None, 24, 100])
def test_without_fewer_examples_a_step_is_measured_on_all(probe):
    inputs, labels = examples(24)
    weights = []
    for by_hand in (False, True):
        model = with_draws()
        optimizer = measured_on(probe, model)
        for _ in range(3):
            if by_hand:
                optimizer.zero_grad()
                optimizer.step(F.cross_entropy(model(inputs), labels))
            else:
                train_step(model, optimizer, inputs, labels)
        weights.append(model.state_dict())
    for name, array in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], array, err_msg=name)


def test_captured_steps_on_a_probe_are_those_of_the_loop():
    inputs, labels = examples(24)
    states = []
    for capture in (False, True):
        model = with_draws()
        optimizer = measured_on(4, model, every=2)
        batches = Batches(inputs, labels, batch_size=16, seed=0)
        losses = [s.loss for s in train(model, optimizer, batches, 6, capture=capture)]
        states.append((losses, model.state_dict()))
    np.testing.assert_equal(*states)


# -- the decay, and what a step tells --------------------------------------------------------------


def automatic(model):
    return optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-3), lr="auto")


def fixed(model):
    return optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("make", "decay", "factors"),
    [
        (fixed, None, [1.0] * 10),
        (fixed, 0.2, [1.0] * 9 + [0.5]),
        (fixed, 1.0, np.arange(10, 0, -1) / 10),
        (automatic, None, [1.0] * 7 + [0.75, 0.5, 0.25]),
        (automatic, 0.0, [1.0] * 10),
    ],
)
def test_the_step_falls_to_0_at_the_end(make, decay, factors):
    model = network()
    optimizer = make(model)
    batches = Batches(*examples(16), batch_size=8, seed=0)
    seen = []
    steps = train(model, optimizer, batches, 10, decay=decay)
    for step in steps:
        seen.append(optimizer.scale)
        assert optimizer.automatic or step.rate == 0.1 * optimizer.scale
    np.testing.assert_allclose(seen, factors)
    assert optimizer.scale == 1.0


def test_the_decay_continues_after_a_loop_is_left():
    model = network()
    optimizer = fixed(model)
    batches = Batches(*examples(16), batch_size=8, seed=0)
    for step in train(model, optimizer, batches, 10, decay=1.0):
        if step.iteration == 4:
            break
    assert optimizer.scale == 1.0
    rates = [s.rate for s in train(model, optimizer, batches, 10, start=4, decay=1.0)]
    np.testing.assert_allclose(rates, 0.1 * np.arange(6, 0, -1) / 10)


def test_a_users_own_schedule_is_not_decayed():
    model = network()
    optimizer = automatic(model)
    optim.StepLR(optimizer, step_size=5)
    batches = Batches(*examples(16), batch_size=8, seed=0)
    assert {optimizer.scale for _ in train(model, optimizer, batches, 3)} == {1.0}
    with pytest.raises(ValueError, match=r"train: got decay=0.5, but the optimizer has a schedule"):
        train(model, optimizer, batches, 3, decay=0.5)
    with pytest.raises(ValueError, match=r"train: decay must be in \[0, 1\], got 1.5"):
        train(model, fixed(model), batches, 3, decay=1.5)


def test_a_step_reports_its_fraction_and_its_cuts():
    model = network()
    optimizer = optim.AverageGradient(optim.SGD(model.parameters(), lr=30.0), every=2)
    batches = Batches(*examples(16), batch_size=8, seed=0)
    steps = list(train(model, optimizer, batches, 8))
    assert all(0 <= step.fraction <= 1 for step in steps)
    assert all(a.fraction != b.fraction for a, b in pairwise(steps) if a.cuts)  # measured again
    assert sum(step.cuts for step in steps) == optimizer.cuts > 0
    gentle = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-3), every=2)
    steps = list(train(model, gentle, batches, 8))
    assert [a.fraction == b.fraction for a, b in zip(steps[::2], steps[1::2])] == [True] * 4
    plain = list(train(model, fixed(model), batches, 1))
    assert (plain[0].fraction, plain[0].cuts) == (None, 0)


def test_steps_count_iterations_and_examples_over_epochs():
    model = network()
    batches = Batches(*examples(10), batch_size=4, seed=0)
    steps = list(train(model, optim.SGD(model.parameters(), lr=0.1), batches, 5))
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5]
    assert [step.examples for step in steps] == [4, 4, 2, 4, 4]
    assert all(step.seconds > 0 for step in steps)


def test_training_takes_no_batch_that_it_does_not_use():
    model = network()
    batches = Batches(*examples(10), batch_size=4, seed=0)
    expected = [x for x, _ in islice(Batches(*examples(10), batch_size=4, seed=0).forever(), 3)]
    list(train(model, optim.SGD(model.parameters(), lr=0.1), batches, 2))
    np.testing.assert_array_equal(next(batches.forever())[0], expected[2])


def test_training_continues_where_a_loop_was_left():
    inputs, labels = examples()

    def run(parts):
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        batches = Batches(inputs, labels, batch_size=16, seed=0)
        return [s.loss for n in parts for s in train(model, optimizer, batches, n)]

    assert run([7]) == run([3, 4])


def test_float64_stays_float64():
    inputs, labels = examples(dtype=np.float64)
    model = network().to(np.float64)
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-2))
    list(train(model, optimizer, Batches(inputs, labels, batch_size=16, seed=0), 3))
    assert {array.dtype for array in model.state_dict().values()} == {np.dtype(np.float64)}
    assert np.isfinite(evaluate(model, inputs, labels).loss)


def test_another_loss_and_tensors_as_inputs():
    model = nn.Linear(2, 1)
    inputs = ag.tensor(np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32))
    targets = inputs.numpy() @ np.array([[1.0], [2.0]], np.float32)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    losses = [train_step(model, optimizer, inputs, targets, F.mse_loss) for _ in range(50)]
    assert losses[-1] < 0.1 * losses[0]


def test_training_puts_the_model_into_training_mode():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    steps = train(
        model, optim.SGD(model.parameters(), lr=0.1), Batches(*examples(), batch_size=8), 1
    )
    next(steps)
    assert model.training


@pytest.mark.parametrize("average", [False, True])
def test_nan_in_the_inputs_names_the_iteration_and_changes_nothing(average):
    inputs, labels = examples(8)
    inputs[5, 0] = np.nan
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    if average:
        optimizer = optim.AverageGradient(optimizer)
    batches = Batches(inputs, labels, batch_size=4, shuffle=False)
    steps = train(model, optimizer, batches, 4)
    next(steps)
    weights, state = model.state_dict(), optimizer.state_bytes
    with pytest.raises(NonFiniteError, match=r"loss is nan; lower the .*\(iteration 2\)"):
        next(steps)
    assert optimizer.state_bytes == state
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[name])


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("wrong", ["input", "loss", "label"])
def test_a_refused_step_leaves_running_statistics(captured, momentum, wrong):
    """A layer that is called twice, whose later call is restored first, included."""
    scale = 1.0

    def loss(output, targets):
        return F.cross_entropy(output, targets) * scale

    ag.seed(0)
    norm = nn.BatchNorm1d(4, momentum=momentum)
    model = nn.Sequential(nn.Linear(4, 4), norm, nn.Tanh(), norm)
    optimizer = optim.Adam(model.parameters())
    make = capture_step if captured else partial(partial, train_step)
    step = make(model, optimizer, loss_function=loss)
    inputs, labels = examples(8)
    step(inputs, labels)
    before = model.state_dict()
    assert before["1.num_batches_tracked"] == 2
    if wrong == "input":
        inputs[0, 0] = np.nan
    elif wrong == "loss":  # computed again for the cause, it moves them once more
        scale = np.inf
    else:
        labels[0] = 4
    with pytest.raises(ValueError if wrong == "label" else NonFiniteError):
        step(inputs, labels)
    np.testing.assert_equal(model.state_dict(), before)


def test_an_overflow_is_an_error_without_warnings():
    inputs, labels = examples(8)
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1e38)
    with pytest.raises(NonFiniteError, match="iteration"):
        list(train(model, optimizer, Batches(inputs, labels, batch_size=8), 20))
    assert not np.isfinite(evaluate(model, inputs, labels).loss)


def test_the_steps_of_a_resumed_run_count_from_its_last_one():
    model = network()
    batches = Batches(*examples(), batch_size=8, seed=0)
    steps = train(model, optim.SGD(model.parameters(), lr=0.1), batches, 5, start=3)
    assert [step.iteration for step in steps] == [4, 5]


@pytest.mark.parametrize("average", [False, True])
def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(average):
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    if average:
        optimizer = optim.AverageGradient(optimizer)
    inputs, targets = np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32)

    def root(output, targets):  # finite itself, but not its derivative
        return ag.sqrt(output * output).sum()

    state = optimizer.state_dict()
    with pytest.raises(
        NonFiniteError,
        match=r"the gradient of parameter 0, .*; first, the backward pass of Sqrt gave a gradient",
    ):
        train_step(model, optimizer, inputs, targets, root)
    assert optimizer.state_dict() == state
    assert not model.weight.data.any()
    assert model.weight.grad is None


def test_the_cause_is_searched_with_the_same_dropout_masks():
    class Fragile(nn.Module):
        """A quarter of its dropout masks lead to a division by zero."""

        def __init__(self):
            self.dropout = nn.Dropout(0.5)

        def forward(self, x):
            return 1 / self.dropout(x).sum(axis=1, keepdims=True)

    model = nn.Sequential(nn.Linear(2, 2), Fragile())
    inputs = np.ones((1, 2), np.float32)
    optimizer = optim.SGD(model.parameters(), lr=1e-9)
    found = []
    for seed in range(40):
        ag.seed(seed)
        draws = ag.random.get_state()
        model[1].dropout(ag.tensor(inputs))
        after = ag.random.get_state()
        ag.random.set_state(draws)
        try:
            train_step(model, optimizer, inputs, None, lambda output, _: output.sum())
        except NonFiniteError as error:
            found.append(str(error))
        assert ag.random.get_state() == after
    assert 3 < len(found) < 20
    assert all("; first, Divide gave a result with" in message for message in found), found


def test_a_parameter_that_is_not_finite_is_the_cause():
    model = network()
    list(model.parameters())[2].writable()[0, 0] = np.inf
    inputs, labels = examples(8)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    message = r"; before any operation the parameter 3\.weight had a NaN or an infinity"
    with pytest.raises(NonFiniteError, match=message):
        train_step(model, optimizer, inputs, labels, lambda logits, _: (logits * np.inf).sum())


def test_inside_detect_anomaly_the_iteration_is_named_too():
    inputs, labels = examples(8)
    model = network()
    batches = Batches(inputs, labels, batch_size=8)
    steps = train(model, optim.SGD(model.parameters(), lr=1e38), batches, 20)
    with pytest.raises(AnomalyError, match=r"\(iteration \d+\)$"), ag.detect_anomaly():
        list(steps)


def test_negative_iterations_are_refused_before_the_first_step():
    model = network()
    with pytest.raises(ValueError, match="iterations must be at least 0, got -1"):
        train(model, optim.SGD(model.parameters(), lr=0.1), Batches(*examples(), batch_size=8), -1)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_evaluation_is_the_mean_over_all_examples(batch_size):
    inputs, labels = examples()
    model = network()
    logits = model(ag.tensor(inputs))
    found = evaluate(model, inputs, labels, batch_size)
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.accuracy == np.mean(logits.numpy().argmax(axis=1) == labels)


def test_evaluation_of_known_logits():
    logits = np.log(np.array([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]]))
    found = evaluate(nn.Identity(), logits, np.array([0, 0, 1]))
    assert found == Evaluation(
        loss=pytest.approx(-np.log([0.5, 0.25, 0.75]).mean()), accuracy=pytest.approx(2 / 3)
    )


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
@pytest.mark.parametrize("shares", [False, True])
def test_evaluation_of_several_labels_for_each_example(batch_size, shares):
    """For example the next word at each position: the loss of training, over all labels."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 3, 4)), rng.integers(3, size=(5, 4))
    if shares:
        targets = np.moveaxis(np.eye(3)[labels], -1, 1)
    else:
        targets = np.where(np.arange(4) < [[4], [1], [0], [2], [4]], labels, -100)
    found = evaluate(nn.Identity(), logits, targets, batch_size)
    assert found.loss == pytest.approx(F.cross_entropy(logits, targets).item())
    if shares:
        assert math.isnan(found.accuracy)
    else:
        assert found.accuracy == np.sum(logits.argmax(axis=1) == targets) / 11


WEIGHTS = [0.5, 3.0, 0.0]


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=WEIGHTS),
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=WEIGHTS, reduction="sum"),
        partial(F.cross_entropy, ignore_index=1),
        partial(partial(F.cross_entropy, weight=WEIGHTS), reduction="sum"),
    ],
    ids=["module", "weights", "smoothed", "sum", "partial", "partial of a partial"],
)
def test_a_cross_entropy_of_all_examples_does_not_depend_on_their_batches(loss, shares, batch_size):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(5, 3, 4)), rng.integers(3, size=(5, 4))
    if shares:
        targets = np.moveaxis(np.eye(3)[targets], -1, 1)
    elif not isinstance(loss, partial):
        targets[:2] = -100
    found = evaluate(nn.Identity(), logits, targets, batch_size, loss)
    assert found.loss == pytest.approx(loss(logits, targets).item())


def test_evaluation_without_a_label_that_counts_is_nan():
    found = evaluate(nn.Identity(), np.zeros((2, 3)), np.array([-100, -100]))
    assert math.isnan(found.loss)
    assert math.isnan(found.accuracy)


def line(count=12, outputs=1):
    """Return a linear regression: inputs, targets, and a model with wrong weights."""
    ag.seed(0)
    inputs = np.random.default_rng(0).normal(size=(count, 2)).astype("float32")
    targets = inputs @ np.array([[1.0, -2.0]] * outputs, "float32").T + 3.0
    return inputs, targets, nn.Linear(2, outputs)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(
    "make", [optim.Adam, lambda p, lr: optim.AverageGradient(optim.Adam(p, lr))]
)
def test_a_regressor_is_trained_and_evaluated_by_its_own_loss(make, outputs, batch_size):
    inputs, targets, model = line(outputs=outputs)
    optimizer = make(model.parameters(), lr=0.1)
    batches = Batches(inputs, targets, batch_size=6)
    before = evaluate(model, inputs, targets, batch_size, F.mse_loss)
    assert before.loss == pytest.approx(F.mse_loss(model(inputs), targets).item(), rel=1e-5)
    assert math.isnan(before.accuracy)
    losses = [step.loss for step in train(model, optimizer, batches, 300, F.mse_loss)]
    assert losses[-1] < 1e-3 < losses[0]
    assert evaluate(model, inputs, targets, loss_function=F.mse_loss).loss < 1e-3


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("offset", [0.0, 1.0, -1.0])
@pytest.mark.parametrize(
    "use",
    [
        lambda *line: evaluate(line[2], *line[:2]),
        lambda *line: next(
            train(line[2], optim.SGD(line[2].parameters()), Batches(*line[:2], batch_size=4), 1)
        ),
        lambda *line: train_step(line[2], optim.SGD(line[2].parameters()), *line[:2]),
        lambda *line: capture_step(line[2], optim.SGD(line[2].parameters()))(*line[:2]),
    ],
    ids=["evaluate", "train", "train_step", "capture_step"],
)
def test_the_targets_of_a_regression_are_not_taken_for_probabilities(use, offset, outputs):
    inputs, targets, model = line(outputs=outputs)
    before = model.weight.data.copy()
    for values in (targets + offset, np.ones_like(targets), np.full_like(targets, 1 / outputs)):
        if outputs > 1 and np.allclose(values.sum(axis=1), 1):
            continue  # these are probabilities
        with pytest.raises(ValueError, match=r"mse_loss"):
            use(inputs, values, model)
    np.testing.assert_array_equal(model.weight.data, before)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), partial(F.cross_entropy, reduction="sum")])
def test_the_targets_of_a_regression_are_refused_by_each_cross_entropy(loss):
    inputs, targets, model = line()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"mse_loss"):
        train_step(model, optimizer, inputs, targets, loss)
    with pytest.raises(ValueError, match=r"mse_loss"):
        evaluate(model, inputs, targets, loss_function=loss)


def test_probabilities_are_targets_of_the_default_loss():
    logits = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]))
    shares = np.array([[0.25, 0.75], [1.0, 0.0]])
    found = evaluate(nn.Identity(), logits, shares)
    assert found.loss == pytest.approx(-(shares * logits).sum() / 2)
    assert math.isnan(found.accuracy)


def test_the_accuracy_of_several_labels_for_each_example_is_a_share():
    logits = np.random.default_rng(0).normal(size=(4, 3, 5))
    labels = logits.argmax(axis=1)
    labels[0, 0] = (labels[0, 0] + 1) % 3
    found = evaluate(nn.Identity(), logits, labels, batch_size=3)
    assert found.accuracy == 19 / 20


def test_evaluation_needs_a_single_loss():
    inputs, targets, model = line()
    with pytest.raises(
        ValueError, match=r"loss_function must return a single element, got \(12, 1"
    ):
        evaluate(model, inputs, targets, loss_function=lambda x, y: F.mse_loss(x, y, "none"))


def test_evaluation_restores_each_module_and_drops_nothing():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Dropout(0.5))
    model.train()
    frozen = list(model.modules())[-1].eval()
    inputs, labels = examples()
    assert evaluate(model, inputs, labels) == evaluate(model, inputs, labels)
    assert model.training
    assert not frozen.training
    assert sum(module.training for module in model.modules()) == 3


def test_evaluation_restores_the_mode_after_an_error():
    model = network()
    with pytest.raises(ValueError, match="linear"):
        evaluate(model, np.zeros((2, 5), np.float32), np.zeros(2, np.int64))
    assert model.training


@pytest.mark.parametrize("make", [lambda batches: batches, Prefetch])
def test_an_interrupted_evaluation_leaves_the_batches_where_they_were(make):
    batches = make(Batches(*examples(12), batch_size=4, seed=0))
    before = batches.state_dict()
    seen = []

    def interrupted(output, targets):
        seen.append(targets)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return F.cross_entropy(output, targets)

    with pytest.raises(KeyboardInterrupt):
        evaluate(network(), batches, loss_function=interrupted)
    assert batches.state_dict() == before
    whole = evaluate(network(), *examples(12))
    assert evaluate(network(), batches).loss == pytest.approx(whole.loss, rel=1e-6)


@pytest.mark.parametrize(
    ("count", "labels", "batch_size", "message"),
    [
        (0, 0, 10, "0 inputs and 0 labels"),
        (3, 2, 10, "3 inputs and 2 labels"),
        (3, 3, 0, "batch_size must be at least 1, got 0"),
    ],
)
def test_evaluation_refuses(count, labels, batch_size, message):
    with pytest.raises(ValueError, match=message):
        evaluate(network(), np.zeros((count, 4), np.float32), np.zeros(labels, int), batch_size)


@pytest.mark.parametrize(
    ("loss", "left_out"),
    [
        (F.cross_entropy, -100),
        (nn.CrossEntropyLoss(), -100),
        (partial(F.cross_entropy, ignore_index=0), 0),
        (nn.CrossEntropyLoss(weight=[0.0, 1.0, 2.0]), 0),
    ],
)
def test_a_probe_without_labels_is_the_whole_batch(loss, left_out):
    inputs = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    labels = np.array([left_out, left_out, 1, 2])
    models = [nn.Linear(3, 3) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, size in zip(models, (2, None)):
        rule = optim.RMSprop(model.parameters(), lr=0.1)
        train_step(model, optim.AverageGradient(rule, probe_size=size), inputs, labels, loss)
    assert (models[0].weight.data == models[1].weight.data).all()


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_a_sequence_of_targets_is_one_array(kind):
    model = nn.Linear(3, 3)
    inputs = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    labels = kind([np.int64(i % 3) for i in range(6)])
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.05), probe_size=4)
    losses = [train_step(model, optimizer, inputs, labels) for _ in range(3)]
    assert losses[-1] < losses[0]


def test_several_targets_are_measured_on_a_few_rows_too():
    model = nn.Linear(3, 2)
    inputs = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    targets = {"low": inputs[:, 0], "high": inputs[:, 1]}

    def loss(output, given):
        return F.mse_loss(output[:, 0], given["low"]) + F.mse_loss(output[:, 1], given["high"])

    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.05), probe_size=4)
    losses = [train_step(model, optimizer, inputs, targets, loss) for _ in range(50)]
    assert losses[-1] < 0.1 * losses[0]
