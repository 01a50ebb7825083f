"""Finding the first operation that gave NaN or an infinity: the check behind `detect_anomaly`."""

import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from agrad.backend import Array
from agrad.errors import AnomalyError
from agrad.ops.operation import Gradients, Operation, Point

__all__ = [
    "check_gradients",
    "check_result",
    "detect_anomaly",
    "first_anomaly",
    "recorded_at",
    "remember",
]

# A context variable, so that each thread and each asynchronous task has its own: None outside of
# `detect_anomaly`, inside the line at which each node of a graph was recorded.
recorded_at: ContextVar[WeakKeyDictionary[Any, str] | None] = ContextVar(
    "agrad_anomaly", default=None
)

# What records, which is no part of the program that is recorded.
_MACHINERY = {str(Path(__file__).with_name(name)) for name in ("anomaly.py", "tensor.py")}


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise at the first operation that gives NaN or an infinity inside the `with` block.

    Forward, an operation is to blame for NaN in its result, and for an infinity that no operand
    had; in a backward and in an average backward pass, for a gradient of an operand that is not
    finite. The error names the operation and the operands, and for a gradient adds the lines that
    recorded the operation. All results are looked through, so it is for finding what went wrong;
    outside of such a block nothing is looked at. NumPy's warnings are silent inside.

    Raises:
        AnomalyError: there was such an operation.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([4.0, 0.0], requires_grad=True)
        >>> with ag.detect_anomaly():
        ...     ag.sqrt(x).sum().backward()
        Traceback (most recent call last):
        agrad.errors.AnomalyError: detect_anomaly: the backward pass of Sqrt gave a gradient with...
    """
    token = recorded_at.set(WeakKeyDictionary())
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        recorded_at.reset(token)


def check_result(operation: Operation, point: Point) -> None:
    """Look through the result of an operation.

    Raises:
        AnomalyError: it has NaN, or an infinity that the inputs have not.
    """
    if _arises(*point):
        raise AnomalyError(f"detect_anomaly: {_describe_forward(operation, point)}")


def remember(node: Any) -> None:
    """Keep the lines of the program that recorded the node, for an error in a later sweep."""
    places = recorded_at.get()
    if places is not None:
        lines = traceback.extract_stack()
        while lines and lines[-1].filename in _MACHINERY:
            lines.pop()
        places[node] = "".join(lines.format())


def check_gradients(
    step: Any, start: Any, end: Any, grad: Array, gradients: Gradients, nodes: Sequence[Any]
) -> None:
    """Look through the gradients that a sweep gives for the inputs of a program's step.

    Args:
        step: the step.
        start: the run at which the sweep starts.
        end: the run at which it ends: the same one, if it is not an average sweep.
        grad: the gradient of the step's result.
        gradients: those of its inputs.
        nodes: the nodes that recorded the steps, by the slots of their results; or none.

    Raises:
        AnomalyError: one that is wanted has NaN or an infinity.
    """
    for i, gradient in enumerate(gradients):
        if step.needs[i] and gradient is not None and not np.isfinite(gradient).all():
            error = AnomalyError(
                f"detect_anomaly: the {'' if end is start else 'average '}backward pass of "
                f"{type(start.called[step]).__name__} gave a gradient with {_first_bad(gradient)} "
                f"for its operand {i}; operands: {_describe(start.point(step).inputs)}; gradient "
                f"of its result: {_describe([grad])}"
            )
            places = recorded_at.get()
            place = places.get(nodes[step.result]) if nodes and places else None
            if place is not None:
                error.add_note(f"The operation was recorded here:\n{place}")
            raise error


def first_anomaly(steps: Iterable[Any], run: Any) -> str:
    """Return in brackets which operation of a run is to blame for a result that is not finite.

    Empty outside of `detect_anomaly`, and if none is to blame.
    """
    if recorded_at.get() is not None:
        for step in steps:
            if _arises(*run.point(step)):
                return f" ({_describe_forward(run.called[step], run.point(step))})"
    return ""


def _arises(out: Array, inputs: tuple[Array, ...]) -> bool:
    """Whether `out` has NaN, or an infinity where `inputs` have none."""
    if out.dtype.kind != "f" or np.isfinite(out).all():
        return False
    return bool(np.isnan(out).any()) or all(np.isfinite(array).all() for array in inputs)


def _describe_forward(operation: Operation, point: Point) -> str:
    return (
        f"{type(operation).__name__} gave a result with {_first_bad(point.out)}; "
        f"operands: {_describe(point.inputs)}"
    )


def _first_bad(array: Array) -> str:
    """Return in words how many elements are not finite, and the first of them."""
    bad = np.argwhere(~np.isfinite(array))
    first = tuple(map(int, bad[0]))
    return f"{array[first]} at {list(first)} ({len(bad)} of {array.size} elements are not finite)"


def _describe(arrays: Any) -> str:
    """Return in words each array's dtype, shape and range."""
    return ", ".join(
        f"{array.dtype}{list(array.shape)}"
        + (f" from {np.min(array):.3g} to {np.max(array):.3g}" if array.size else "")
        for array in arrays
    )
