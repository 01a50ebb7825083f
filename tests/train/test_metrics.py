"""Metrics against their definitions."""

from typing import Any

import numpy as np
import pytest

import agrad.nn.functional as F
from agrad import nn
from agrad.train import evaluate

pytest.importorskip("sklearn")

RANDOM = np.random.default_rng(0)
METRICS = ["accuracy", "f1", "auc", "confusion_matrix"]


def measured(outputs: Any, targets: Any, loss: Any = F.cross_entropy) -> dict[str, Any]:
    names = METRICS if loss is not F.mse_loss else ["r2"]
    return evaluate(nn.Identity(), outputs, targets, 7, loss, names).metrics


def auc_by_pairs(scores: Any, positive: Any) -> float:
    """Return the share of pairs of a positive and a negative that the scores order correctly."""
    ahead = scores[positive][:, None] - scores[~positive]
    return float(np.mean((ahead > 0) + 0.5 * (ahead == 0)))


def f1_by_hand(predicted: Any, targets: Any, which: int) -> float:
    right = np.sum((predicted == which) & (targets == which))
    return float(2 * right / (np.sum(predicted == which) + np.sum(targets == which)))


@pytest.mark.parametrize("form", ["classes", "flat", "column"])
def test_two_classes(form: str) -> None:
    logits = RANDOM.standard_normal(50).round(1)
    targets = (logits + RANDOM.standard_normal(50) > 0).astype(np.int64)
    if form == "classes":
        found = measured(np.stack([-logits, logits], axis=1), targets)
    else:
        outputs = logits if form == "flat" else logits[:, None]
        wanted = (targets if form == "flat" else targets[:, None]).astype(float)
        found = measured(outputs, wanted, F.binary_cross_entropy_with_logits)
    predicted = logits > 0
    assert found["accuracy"] == np.mean(predicted == targets)
    assert found["f1"] == pytest.approx(f1_by_hand(predicted, targets, 1))
    assert found["auc"] == pytest.approx(auc_by_pairs(logits, targets == 1))
    matrix = [[np.sum((targets == i) & (predicted == j)) for j in (0, 1)] for i in (0, 1)]
    np.testing.assert_array_equal(found["confusion_matrix"], matrix)


@pytest.mark.parametrize("count", [2, 3])
def test_the_class_minus_100_is_left_out(count: int) -> None:
    logits = RANDOM.standard_normal((60, count))
    targets = np.arange(60) % count
    known = np.arange(60) % 7 != 0
    whole = evaluate(nn.Identity(), logits, np.where(known, targets, -100), metrics=METRICS)
    part = evaluate(nn.Identity(), logits[known], targets[known], metrics=METRICS)
    assert whole.accuracy == whole.metrics["accuracy"] == part.accuracy
    for name in METRICS:
        np.testing.assert_array_equal(whole.metrics[name], part.metrics[name])
    with np.errstate(all="ignore"):
        none = evaluate(nn.Identity(), logits, np.full(60, -100), metrics=["accuracy"])
    assert np.isnan(none.metrics["accuracy"])


def test_metrics_of_the_places_of_images() -> None:
    logits = RANDOM.standard_normal((6, 3, 2, 5))
    targets = RANDOM.integers(0, 3, (6, 2, 5))
    targets[0, 0] = -100
    apart = evaluate(nn.Identity(), logits, targets, metrics=METRICS)
    rows = np.moveaxis(logits, 1, -1).reshape(-1, 3)
    flat = evaluate(nn.Identity(), rows, targets.ravel(), metrics=METRICS)
    for name in METRICS:
        np.testing.assert_array_equal(apart.metrics[name], flat.metrics[name])
    assert apart.accuracy == apart.metrics["accuracy"]


def test_several_classes() -> None:
    logits = RANDOM.standard_normal((60, 3))
    targets = np.arange(60) % 3
    logits[np.arange(60), targets] += 1
    found = measured(logits, targets)
    predicted = logits.argmax(axis=1)
    assert found["accuracy"] == np.mean(predicted == targets)
    assert found["f1"] == pytest.approx(
        np.mean([f1_by_hand(predicted, targets, i) for i in range(3)])
    )
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found["auc"] == pytest.approx(
        np.mean([auc_by_pairs(shares[:, i], targets == i) for i in range(3)])
    )
    assert found["confusion_matrix"].sum(axis=1).tolist() == [20, 20, 20]
    assert np.trace(found["confusion_matrix"]) == np.sum(predicted == targets)


def test_classes_of_each_pixel() -> None:
    logits = RANDOM.standard_normal((4, 3, 5))
    targets = RANDOM.integers(3, size=(4, 5))
    found = evaluate(nn.Identity(), logits, targets, metrics=["accuracy", "confusion_matrix"])
    assert found.metrics["accuracy"] == found.accuracy
    assert found.metrics["confusion_matrix"].sum() == 20


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 3)])
def test_r2(shape: tuple[int, ...]) -> None:
    targets = RANDOM.standard_normal(shape)
    outputs = targets + 0.3 * RANDOM.standard_normal(shape)
    left = ((targets - outputs) ** 2).sum(axis=0) / ((targets - targets.mean(axis=0)) ** 2).sum(0)
    assert measured(outputs, targets, F.mse_loss)["r2"] == pytest.approx(np.mean(1 - left))


def test_names_and_functions_and_dicts_of_them() -> None:
    logits, targets = RANDOM.standard_normal((6, 2)), np.arange(6) % 2

    def count(outputs: Any, labels: Any) -> int:
        assert outputs.shape == (6, 2)
        assert labels.tolist() == targets.tolist()
        return len(outputs)

    found = evaluate(nn.Identity(), logits, targets, 4, metrics=["accuracy", count])
    assert found.metrics == {"accuracy": found.accuracy, "count": 6}
    found = evaluate(nn.Identity(), logits, targets, metrics={"a": "accuracy", "n": count})
    assert found.metrics == {"a": found.accuracy, "n": 6}
    with pytest.raises(ValueError, match="metrics has a name twice"):
        evaluate(nn.Identity(), logits, targets, metrics=["f1", "f1"])
    with pytest.raises(ValueError, match=r"metrics: the outputs \[6, 2\] do not fit the targets"):
        evaluate(nn.Identity(), logits, targets[:, None], 6, lambda out, _: out.sum(), ["accuracy"])
    with pytest.raises(TypeError, match="evaluate: loss_function must be a function"):
        evaluate(nn.Identity(), logits, targets, loss_function="mse")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="evaluate: batch_size must be an integer, got float"):
        evaluate(nn.Identity(), logits, targets, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="labels are missing"):
        evaluate(nn.Identity(), logits)
    with pytest.raises(ValueError, match="there are no batches"):
        evaluate(nn.Identity(), [])


def test_a_single_logit_has_no_accuracy_but_its_metric() -> None:
    """Its largest class is always the first."""
    logits, targets = np.array([[5.0], [5.0], [-5.0]], np.float32), np.array([1, 1, 0])

    def loss(output: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits(output[:, 0], np.asarray(target, np.float32))

    found = evaluate(nn.Identity(), logits, targets, 2, loss, ["accuracy"])
    assert np.isnan(found.accuracy)
    assert found.metrics["accuracy"] == 1.0


@pytest.mark.parametrize("metric", ["accuracy", "f1", "confusion_matrix"])
def test_targets_that_are_not_classes_are_refused(metric: str) -> None:
    soft = np.array([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(ValueError, match=r"the targets are not classes from 0 to 1; one is 0\.9"):
        evaluate(nn.Identity(), np.log(soft), soft, metrics=[metric])


@pytest.mark.parametrize(("classes", "wrong"), [(1, -1), (1, 2), (3, -1), (3, 3)])
def test_classes_that_the_outputs_do_not_have_are_refused(classes: int, wrong: int) -> None:
    logits = RANDOM.standard_normal((4, classes))
    targets = np.array([0, 1, -100, wrong])
    with pytest.raises(ValueError, match=f"not classes from 0 to {max(1, classes - 1)}; one is"):
        evaluate(nn.Identity(), logits, targets, 2, _any_loss, ["accuracy"])


def _any_loss(output: Any, target: Any) -> Any:
    return output.mean()


def test_a_model_that_returns_arrays() -> None:
    class Plain(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.numpy()

    logits, targets = np.eye(3, dtype=np.float32), np.arange(3)
    found = evaluate(Plain(), logits, targets, metrics=["accuracy"])
    assert found.accuracy == found.metrics["accuracy"] == 1.0


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_targets_of_a_sequence_are_one_array(kind: Any) -> None:
    """As `zip(*examples)` makes them."""
    logits, labels = RANDOM.standard_normal((6, 3)), [np.int64(i % 3) for i in range(6)]
    expected = evaluate(nn.Identity(), logits, np.array(labels))
    assert evaluate(nn.Identity(), logits, kind(labels), 4) == expected
    assert evaluate(nn.Identity(), [(logits, kind(labels))]) == expected
    rows = kind([*logits])
    assert evaluate(nn.Identity(), [(logits, rows)], loss_function=F.mse_loss).loss == 0


def test_several_targets() -> None:
    inputs = np.arange(5.0)
    targets = {"low": inputs - 1, "high": inputs + 3}

    def loss(output: Any, target: Any) -> Any:
        return F.mse_loss(output, target["low"]) + F.mse_loss(output, target["high"])

    assert evaluate(nn.Identity(), inputs, targets, 2, loss).loss == 10.0
    with pytest.raises(TypeError, match="evaluate: metrics need a model of one output, and one"):
        evaluate(nn.Identity(), inputs, targets, 2, loss, ["r2"])
    with pytest.raises(ValueError, match=r"evaluate: the labels have \{'low': 5, 'high': 4\}"):
        evaluate(nn.Identity(), inputs, targets | {"high": inputs[1:]}, 2, loss)
