"""Find the first operation that produced NaN or an infinity, for `detect_anomaly`."""

import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from agrad.backend import Array
from agrad.core.hooks import unhooked
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

# A context variable, so that each thread and each asynchronous task has its own. None outside
# `detect_anomaly`; inside, the source lines at which each node of a graph was recorded.
recorded_at: ContextVar[WeakKeyDictionary[Any, str] | None] = ContextVar(
    "agrad_anomaly", default=None
)

# The files that record operations, which are left out of tracebacks of the recorded program.
_MACHINERY = {str(Path(__file__).with_name(name)) for name in ("anomaly.py", "tensor.py")}


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise at the first operation inside the block that produces NaN or an infinity.

    In a forward pass, an operation is at fault if its result contains NaN, or an infinity although
    no operand has one. In a backward or average backward pass, it is at fault if the gradient of an
    operand is not finite. The error names the operation and its operands; for a gradient, it also
    shows the lines that recorded the operation. Checking every result is slow, so use it only for
    debugging; outside the block nothing is checked. NumPy's warnings are silenced inside the block.

    Raises:
        AnomalyError: An operation is at fault.

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
    """Check the result of an operation.

    Raises:
        AnomalyError: The result has NaN, or an infinity although the inputs have none.
    """
    if _arises(*point):
        raise AnomalyError(f"detect_anomaly: {_describe_forward(operation, point)}")


def remember(node: Any) -> None:
    """Store the source lines that recorded the node, for an error in a later sweep."""
    places = recorded_at.get()
    if places is not None:
        lines = traceback.extract_stack()
        while lines and lines[-1].filename in _MACHINERY:
            lines.pop()
        places[node] = "".join(lines.format())


def check_gradients(
    operation: Operation,
    node: Any,
    needs: Sequence[bool],
    inputs: tuple[Array, ...],
    grad: Array,
    gradients: Gradients,
    average: bool = False,
) -> None:
    """Check the gradients that a sweep computes for the inputs of an operation.

    Args:
        operation: The operation.
        node: The node that recorded it, None if there is none.
        needs: Which inputs need a gradient.
        inputs: Its inputs.
        grad: The gradient of its result.
        gradients: Those of its inputs.
        average: Whether they are average gradients.

    Raises:
        AnomalyError: A gradient that is needed has NaN or an infinity.
    """
    for i, gradient in enumerate(gradients):
        if needs[i] and gradient is not None and not np.isfinite(gradient).all():
            error = AnomalyError(
                f"detect_anomaly: the {'average ' if average else ''}backward pass of "
                f"{type(unhooked(operation)).__name__} gave a gradient with {_first_bad(gradient)} "
                f"for its operand {i}; operands: {_describe(inputs)}; gradient "
                f"of its result: {_describe([grad])}"
            )
            places = recorded_at.get()
            place = places.get(node) if places and node is not None else None
            if place is not None:
                error.add_note(f"The operation was recorded here:\n{place}")
            raise error


def first_anomaly(steps: Iterable[Any], run: Any) -> str:
    """Describe, in brackets, the first operation of a run that produced NaN or an infinity.

    Return "" if there is none, or outside `detect_anomaly`.
    """
    if recorded_at.get() is not None:
        for step in steps:
            point = Point(run.values[step.result], step.inputs(run))
            if _arises(*point):
                return f" ({_describe_forward(run.called[step], point)})"
    return ""


def _arises(out: Array, inputs: tuple[Array, ...]) -> bool:
    """Return whether `out` has NaN, or an infinity although `inputs` have none."""
    if out.dtype.kind != "f" or np.isfinite(out).all():
        return False
    return bool(np.isnan(out).any()) or all(np.isfinite(array).all() for array in inputs)


def _describe_forward(operation: Operation, point: Point) -> str:
    return (
        f"{type(operation).__name__} gave a result with {_first_bad(point.out)}; "
        f"operands: {_describe(point.inputs)}"
    )


def _first_bad(array: Array) -> str:
    """Describe the first element that is not finite, and the number of such elements."""
    bad = np.argwhere(~np.isfinite(array))
    first = tuple(map(int, bad[0]))
    return f"{array[first]} at {list(first)} ({len(bad)} of {array.size} elements are not finite)"


def _describe(arrays: Any) -> str:
    """Describe the dtype, the shape and the range of each array."""
    return ", ".join(
        f"{array.dtype}{list(array.shape)}"
        + (f" from {np.min(array):.3g} to {np.max(array):.3g}" if array.size else "")
        for array in arrays
    )
