"""Metrics of a model's outputs: functions of all outputs and targets of a data set."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agrad.core.tensor import plain
from agrad.extras import optional_import
from agrad.train.entropy import IGNORED

__all__ = ["HIGHER", "Metric", "Metrics", "are_of_classes", "measured", "named_metrics"]

Metric = Callable[[Any, Any], Any]
"""Takes the model's outputs and the targets as arrays, and returns a number or an array."""

Metrics = Iterable[str | Metric] | Mapping[str, str | Metric]


def _classes(outputs: NDArray[Any], targets: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the predicted and the target classes, each of shape (examples,).

    The outputs are the logits of classes, (N, classes, ...) for targets (N, ...), of which -100
    leaves an example out; or, in the shape of the targets or (N, 1), the logit of class 1 against
    class 0.

    Raises:
        ValueError: A target is not the number of a class.
    """
    if are_of_classes(outputs, targets):
        logits, classes = _judged(outputs, targets)
        predicted, count = logits.argmax(axis=1), outputs.shape[1]
    else:
        _require_alike(outputs, targets)
        known = targets.ravel() != IGNORED
        classes = targets.ravel()[known]
        predicted, count = (outputs.ravel()[known] > 0).astype(np.int64), 2
    proper = np.isin(classes, np.arange(count))
    if not proper.all():
        raise ValueError(
            f"metrics: the targets are not classes from 0 to {count - 1}; one is "
            f"{classes[int(np.argmin(proper))]:g}"
        )
    return predicted, classes.astype(np.int64)


def are_of_classes(outputs: Any, targets: Any) -> bool:
    """Return whether outputs have a logit for each of several classes."""
    return bool(outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1)


def _judged(outputs: NDArray[Any], targets: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the logits (examples, classes) and the classes, except where the target is -100."""
    known = targets != IGNORED
    return np.moveaxis(outputs, 1, -1)[known], targets[known]


def _require_alike(outputs: NDArray[Any], targets: NDArray[Any]) -> None:
    if outputs.size != targets.size:
        raise ValueError(
            f"metrics: the outputs {list(outputs.shape)} do not fit the targets "
            f"{list(targets.shape)}"
        )


def accuracy(outputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the share of right classes, NaN of none."""
    predicted, classes = _classes(outputs, targets)
    return float(np.mean(predicted == classes)) if classes.size else math.nan


def f1(outputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the F1 score of class 1 of two, or the mean of those of several classes."""
    predicted, classes = _classes(outputs, targets)
    two = outputs.ndim == targets.ndim or outputs.shape[1] <= 2
    average = "binary" if two else "macro"
    scores = optional_import("sklearn.metrics", "the metrics", "sklearn").f1_score(
        classes, predicted, average=average, zero_division=0.0
    )
    return float(scores)


def auc(outputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the area under the ROC curve, for several classes the mean of each against the rest.

    Raises:
        ValueError: Not every class occurs among the targets.
    """
    score = optional_import("sklearn.metrics", "the metrics", "sklearn").roc_auc_score
    if are_of_classes(outputs, targets):
        outputs, targets = _judged(outputs, targets)
        if outputs.shape[1] > 2:
            shares = np.exp(outputs - outputs.max(axis=1, keepdims=True), dtype=np.float64)
            shares /= shares.sum(axis=1, keepdims=True)
            labels = np.arange(outputs.shape[1])
            return float(score(targets, shares, multi_class="ovr", labels=labels))
        outputs = outputs[:, 1] - outputs[:, 0]
    _require_alike(outputs, targets)
    return float(score(targets.ravel(), outputs.ravel()))


def r2(outputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the coefficient of determination, of several outputs the mean."""
    _require_alike(outputs, targets)
    columns = targets.shape[0], -1
    score = optional_import("sklearn.metrics", "the metrics", "sklearn").r2_score
    return float(score(targets.reshape(columns), outputs.reshape(columns)))


def confusion_matrix(outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.int64]:
    """Return how often each target class, a row, was predicted as each class, a column."""
    predicted, classes = _classes(outputs, targets)
    count = outputs.shape[1] if are_of_classes(outputs, targets) else 2
    found: NDArray[np.int64] = optional_import(
        "sklearn.metrics", "the metrics", "sklearn"
    ).confusion_matrix(classes, predicted, labels=np.arange(count))
    return found


_KNOWN: dict[str, Metric] = {
    metric.__name__: metric for metric in (accuracy, auc, confusion_matrix, f1, r2)
}
HIGHER = ("accuracy", "auc", "f1", "r2")
"""The names of the metrics of which a higher one is better."""


def named_metrics(owner: str, metrics: Metrics) -> dict[str, Metric]:
    """Return the metrics by name.

    Raises:
        ValueError: A name is unknown, or used twice.
        TypeError: A metric is neither a name nor a function.
    """
    if isinstance(metrics, str):
        metrics = [metrics]
    if not isinstance(metrics, Iterable):
        raise TypeError(
            f"{owner}: metrics must be a list of names and functions, or a dict of them, got a "
            f"{type(metrics).__name__}"
        )
    if not isinstance(metrics, Mapping):
        listed = list(metrics)
        names = [
            metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
            for metric in listed
        ]
        if len(set(names)) < len(names):
            raise ValueError(f"{owner}: metrics has a name twice, {names}; pass a dict")
        metrics = dict(zip(names, listed))
    return {name: _metric(owner, metric) for name, metric in metrics.items()}


def measured(owner: str, name: str, metric: Metric, outputs: Any, targets: Any) -> Any:
    """Return what a metric returns.

    Raises:
        TypeError: It is neither a number nor an array of numbers.
    """
    found = metric(outputs, targets)
    kind = np.asarray(plain(found)).dtype
    if kind.kind not in "biuf":
        raise TypeError(
            f"{owner}: the metric {name!r} must return a number or an array of numbers, got a "
            f"{type(found).__name__}"
        )
    return found


def _metric(owner: str, metric: Any) -> Metric:
    if isinstance(metric, str):
        if metric not in _KNOWN:
            raise ValueError(f"{owner}: metrics must be of {sorted(_KNOWN)}, got {metric!r}")
        return _KNOWN[metric]
    if not callable(metric):
        raise TypeError(
            f"{owner}: a metric must be a name or a function, got a {type(metric).__name__}"
        )
    function: Metric = metric
    return function
