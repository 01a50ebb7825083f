"""Evaluation: the loss, metrics and outputs of a model on a set of examples."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np

import agrad.nn.functional as F
from agrad.arguments import integer
from agrad.backend import move
from agrad.core.tensor import as_tensor, plain
from agrad.data.several import (
    call,
    each_named,
    examples,
    is_several,
    mapped,
    packed,
    positional,
    unpacked,
)
from agrad.nn import Module
from agrad.nn.modes import evaluating
from agrad.train.entropy import IGNORED, entropy_of
from agrad.train.metrics import Metrics, are_of_classes, measured, named_metrics
from agrad.train.step import LossFunction, require_loss, require_targets

__all__ = ["Evaluation", "evaluate", "pairs", "predict"]


@dataclass(frozen=True)
class Evaluation:
    """The mean loss on a set of examples, the accuracy, and other metrics.

    Attributes:
        loss: The mean over the examples; of a cross entropy, over all their labels as these weigh,
            or the sum if that is its reduction.
        accuracy: The share of right classes, from 0 to 1; NaN unless the targets are classes and
            the model returns a logit for each.
        metrics: The metrics asked for, by name.
    """

    loss: float
    accuracy: float
    metrics: dict[str, Any] = field(default_factory=dict)


def evaluate(
    model: Module,
    inputs: Any,
    labels: Any = None,
    batch_size: int = 1000,
    loss_function: LossFunction = F.cross_entropy,
    metrics: Metrics = (),
) -> Evaluation:
    """Return the mean loss of a model in evaluation mode, its accuracy, and other metrics.

    A loss that is not finite is returned, not raised as an error. After an error or an interruption
    `Batches` are where they were before.

    Args:
        model: Returns logits of shape (N, classes, ...), or what the loss function takes; each
            module's mode is restored afterwards.
        inputs: The examples, (N, ...), at least one; on the model's device, like the labels.
            Several inputs are a tuple or a dict; see `train_step`. Or an iterable of batches, pairs
            of inputs and labels, with no `labels`.
        labels: Their classes, integers of shape (N, ...), or any targets of the loss function,
            several as a dict. The class -100 leaves a label out of the default loss and of the
            metrics of classes; a loss may have another `ignore_index`.
        batch_size: How many examples are computed at a time.
        loss_function: Takes output and targets, and returns the mean loss of these examples, a
            single element. For regression pass `F.mse_loss`.
        metrics: Names of metrics: "accuracy", "f1" (of class 1 of two, or the mean over several
            classes), "auc" (the area under the ROC curve), "r2" or "confusion_matrix" (targets by
            predictions), which scikit-learn computes, except for the accuracy; or functions of all
            outputs and targets, two NumPy arrays in this order; or a dict of either by name. The
            logits are of classes, or of class 1 in the targets' shape.

    Raises:
        ValueError: There are no examples, the number of labels differs, `batch_size` is below 1, or
            the loss has several elements; a cross entropy gets labels that are neither classes
            nor probabilities; a metric is unknown.
        TypeError: A metric is neither a name nor a function, returns no number, or is asked for
            several outputs or targets; labels are missing; `loss_function` is not a function.
        ImportError: A metric needs scikit-learn, which is missing.

    Example:
        >>> import numpy as np
        >>> import agrad.nn.functional as F
        >>> from agrad import nn
        >>> from agrad.train import evaluate
        >>> logits = np.array([[0.0, 9.0], [0.0, 9.0]], np.float32)
        >>> evaluate(nn.Identity(), logits, np.array([1, 0])).accuracy
        0.5
        >>> targets = np.array([[0.0, 8.0], [1.0, 9.0]], np.float32)
        >>> evaluate(nn.Identity(), logits, targets, loss_function=F.mse_loss, metrics=["r2"])
        Evaluation(loss=0.5, accuracy=nan, metrics={'r2': -1.0})
    """
    batch_size = integer("evaluate", "batch_size", batch_size, least=1)
    require_loss("evaluate", "loss_function", loss_function)
    if labels is None:
        if hasattr(inputs, "shape") or is_several(inputs):
            raise TypeError(
                "evaluate: labels are missing; without them, inputs must be an iterable of batches"
            )
        return _evaluated(model, inputs, loss_function, metrics)
    inputs, labels = mapped(positional, inputs), each_named(positional, labels)
    number, labelled = examples("evaluate", inputs), _labelled(labels)
    if number == 0 or number != labelled:
        raise ValueError(
            f"evaluate: got {number} inputs and {labelled} labels; "
            "give at least one example, and a label for each"
        )
    parts = _parts(number, batch_size)
    batches = ((mapped(itemgetter(p), inputs), each_named(itemgetter(p), labels)) for p in parts)
    return _evaluated(model, batches, loss_function, metrics)


def predict(model: Module, inputs: Any, batch_size: int = 1000) -> Any:
    """Return the outputs of a model in evaluation mode, without gradients.

    Args:
        model: Returns an output, or a tuple or dict of them, whose first axis is that of the
            examples; each module's mode is restored afterwards.
        inputs: The examples, of shape (N, ...), on the model's device. Several inputs are a tuple
            or a dict; see `train_step`.
        batch_size: How many examples are computed at a time.

    Returns:
        A NumPy array of shape (N, ...) for each output, in the model's dtype.

    Raises:
        ValueError: There are no examples, several inputs differ in their number, `batch_size` is
            below 1, or the first axis of an output is not that of the examples.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> from agrad.train import predict
        >>> ag.seed(0)
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
        >>> predict(model, [[1.0, 2.0], [3.0, 4.0]]).argmax(axis=1)
        array([2, 2])
    """
    batch_size = integer("predict", "batch_size", batch_size, least=1)
    inputs = mapped(positional, inputs)
    number = examples("predict", inputs)
    if number == 0:
        raise ValueError("predict: there are no inputs; give at least one example")
    outputs: list[list[Any]] = []
    with evaluating(model):
        for part in _parts(number, batch_size):
            batch = mapped(itemgetter(part), inputs)
            count = examples("predict", batch)
            names, tensors = unpacked(call(model, mapped(as_tensor, batch)))
            arrays = [move(plain(tensor), "cpu") for tensor in tensors]
            for array in arrays:
                if array.shape[:1] != (count,):
                    raise ValueError(
                        f"predict: the model returned shape {array.shape} for {count} examples; "
                        "the first axis must be theirs"
                    )
            outputs.append(arrays)
    return packed(names, [np.concatenate(arrays) for arrays in zip(*outputs)])


def _parts(number: int, size: int) -> Iterator[slice]:
    """Return the slices of at most `size` examples."""
    return (slice(i, i + size) for i in range(0, number, size))


def _evaluated(
    model: Module, batches: Iterable[Any], loss_function: LossFunction, metrics: Metrics
) -> Evaluation:
    functions = named_metrics("evaluate", metrics)
    entropy = entropy_of(loss_function)
    if entropy is not None and entropy.reduction == "none":
        entropy = None
    # The sum of the labels' losses is exact, where the mean of a batch is rounded.
    measure = loss_function if entropy is None else entropy.total
    loss = correct = total = 0.0
    seen = count = 0
    kept: list[tuple[Any, Any]] = []
    with _put_back(batches), evaluating(model):
        for inputs, targets in pairs("evaluate", batches):
            require_targets("evaluate", loss_function, targets)
            output = call(model, mapped(as_tensor, inputs))
            own = measure(output, targets)
            if own.size != 1:
                raise ValueError(
                    f"evaluate: loss_function must return a single element, got {own.shape}"
                )
            known = each_named(lambda array: plain(as_tensor(array)), targets)
            size = _labelled(known)
            seen += size
            single = not is_several(output) and not isinstance(known, Mapping)
            if functions and not single:
                raise TypeError("evaluate: metrics need a model of one output, and one target")
            labelled = single and known.dtype.kind in "iu"
            if labelled and are_of_classes(output, known):
                correct += int(np.sum(output.argmax(axis=1) == known))
                count += int(np.sum(known != IGNORED))
            if entropy is None:
                loss += own.item() * size
                total += size
            else:
                loss += own.item()
                counted = output.size // output.shape[1]
                if labelled:
                    counted = entropy.label_weights(known).sum().item()
                total += counted
            if functions:
                kept.append((move(plain(output), "cpu"), move(known, "cpu")))
    if seen == 0:
        raise ValueError("evaluate: there are no batches; give at least one example")
    found = {}
    if functions:
        outputs, labels = (np.concatenate(arrays) for arrays in zip(*kept))
        found = {
            name: measured("evaluate", name, metric, outputs, labels)
            for name, metric in functions.items()
        }
    if entropy is not None and entropy.reduction == "sum":
        total = 1.0
    mean = loss / total if total else math.nan
    return Evaluation(mean, correct / count if count else math.nan, found)


@contextmanager
def _put_back(batches: Any) -> Iterator[None]:
    """Restore the place of `Batches` and the like if the block ends with an error."""
    resumable = hasattr(batches, "state_dict") and hasattr(batches, "load_state_dict")
    place = batches.state_dict() if resumable else None
    try:
        yield
    except BaseException:
        if place is not None:
            batches.load_state_dict(place)
        raise


def _labelled(labels: Any) -> int:
    """Return the number of examples that have labels."""
    return examples("evaluate", labels, "labels") if isinstance(labels, Mapping) else len(labels)


def pairs(owner: str, batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the batches.

    Raises:
        ValueError: A batch is not a pair of inputs and targets.
    """
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise ValueError(
                f"{owner}: a batch must be a pair of inputs and targets, got a "
                f"{type(batch).__name__}{size}"
            )
        yield batch[0], batch[1]
