"""The first rows of a batch, computed as they were within it.

A step may measure its update on a few rows of its batch. They must see what the batch saw: the same
dropout masks, the same statistics. So what an operation drew or computed for its call on the batch
is noted, and its call on the rows takes it from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agrad.backend import Array
from agrad.ops.operation import Operation

__all__ = ["Calls", "for_call", "noting_calls", "part_of"]

Calls = list[tuple[Operation, tuple[Array, ...]]]
"""Operations with a `for_part` in the order of their calls, as `for_call` returned them, and their
inputs."""

_noted: ContextVar[Calls | None] = ContextVar("agrad_noted", default=None)
_whole: ContextVar[Iterator[tuple[Operation, tuple[Array, ...]]] | None] = ContextVar(
    "agrad_whole", default=None
)


@contextmanager
def noting_calls() -> Iterator[Calls]:
    """Note the calls inside the block, in the list that it gives."""
    calls: Calls = []
    token = _noted.set(calls)
    try:
        yield calls
    finally:
        _noted.reset(token)


@contextmanager
def part_of(calls: Calls) -> Iterator[None]:
    """Make the calls inside the block parts of those noted, one by one."""
    token = _whole.set(iter(calls))
    try:
        yield
    finally:
        _whole.reset(token)


def for_call(operation: Operation, inputs: tuple[Array, ...]) -> Operation:
    """Return the operation for one call, as its `for_call` or its `for_part` says.

    Raises:
        ValueError: The calls on a part of a batch are not those on the batch.
    """
    if type(operation).for_part is Operation.for_part:
        return operation.for_call(*inputs)
    whole = _whole.get()
    if whole is not None:
        called, given = next(whole, (None, ()))
        fits = called is not None and all(
            x.ndim == y.ndim and all(n <= most for n, most in zip(x.shape, y.shape))
            for x, y in zip(inputs, given)
        )
        if called is None or not fits:
            raise ValueError(
                f"{type(operation).__name__}: the call on the first rows of a batch has no "
                "counterpart on the whole batch; the model does not treat them alike, so measure "
                "on the whole batch, with probe_size=None"
            )
        return operation.for_part(called, given, *inputs)
    called = operation.for_call(*inputs)
    calls = _noted.get()
    if calls is not None:
        calls.append((called, inputs))
    return called
