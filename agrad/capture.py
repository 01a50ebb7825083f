"""Functions of Tensors whose operations are recorded once and then run without the Python around.

While a function is captured its arguments are `Traced`: Tensors whose values nobody can look at, so
that whatever it decides it decides by shapes, dtypes and its own constants. Each operation goes to
a `Tape`, with where its inputs come from. What the tape holds in the end is a `Plan`: one list of
operations over numbered slots, to be run forward or swept back, also with averaged Jacobians. A
call of the captured function is then a single operation of the graph, a `Replay` of the plan, and
whatever else a graph can do stays as it is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from operator import is_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from agrad.anomaly import detecting
from agrad.backend import Array, as_array, is_array, scalar
from agrad.errors import CaptureError
from agrad.graph import Node, topological_order
from agrad.mode import active_tape, is_grad_enabled, no_grad, taping
from agrad.ops.operation import Gradients, Operation, Point
from agrad.sweep import unbroadcast
from agrad.tensor import Tensor, apply, as_tensor, compute

__all__ = ["Captured", "capture"]

_PLANS = 16  # a plan for each combination of shapes met, of which so many are kept


def capture(function: Callable[..., Tensor]) -> Captured:
    """Return `function` such that its Python runs once, and its operations at every call.

    The first call records the operations. Later ones run them on new arguments and on the present
    values of all other Tensors, with the same results and gradients of both kinds, bit for bit:
    dropout draws a new mask at each call, and batch normalization follows each batch.

    The arrays of the last call are kept until the next one's take their place.

    What decided the recording is looked at in each call, and recorded anew where it differs: the
    arguments' shapes and dtypes; the shape, dtype and `requires_grad` of the other Tensors; the
    mode of every Module called; whether gradients are recorded.

    **What is frozen is all other Python**: branches, numbers and attributes are those of the
    recording. Capture a function in which they never change.

    Args:
        function: takes arrays or Tensors by position, and returns a Tensor; a Module, for example.

    Raises:
        CaptureError: when called: the function looks at values of its arguments or results,
            computes with plain arrays, changes a Tensor in place, or returns no Tensor.

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> from agrad import nn, optim
        >>> ag.seed(0)
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        >>> optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1))
        >>> forward = ag.capture(model)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     loss = F.cross_entropy(forward([[0.0, 1.0], [1.0, 0.0]]), [0, 1])
        ...     optimizer.step(loss)
        >>> loss.item() < 0.1
        True
    """
    return Captured(function)


class Captured:
    """A function as `capture` returns it.

    Attributes:
        function: the function that was captured.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self._plans: dict[Any, Plan] = {}
        self._last: Plan | None = None

    def __call__(self, *arguments: ArrayLike | Tensor) -> Tensor:
        """Return what the function returns for these arguments."""
        # As a part of a function that is captured itself, or to be looked through line by line.
        if active_tape() is not None or detecting():
            return self.function(*arguments)
        tensors = [as_tensor(argument) for argument in arguments]
        key = (is_grad_enabled(), *((t.shape, t.dtype, t.requires_grad) for t in tensors))
        plan = self._plans.get(key)
        if plan is not None and plan.holds():
            replay = Replay(plan)
        else:
            plan, replay = self._record(tensors)
            self._plans.pop(key, None)
            if len(self._plans) == _PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan
        if self._last is not None and self._last is not plan:
            self._last.kept.clear()
        self._last = plan
        with nullcontext() if plan.differentiable else no_grad():
            return apply(replay, *tensors, *plan.leaves)

    def _record(self, arguments: list[Tensor]) -> tuple[Plan, Replay]:
        tape = Tape(arguments)
        with taping(tape):
            result = self.function(*tape.arguments)
        if not isinstance(result, Traced):
            raise CaptureError(
                f"capture: the function returned a {type(result).__name__}; it must return a "
                "Tensor that it computed from its arguments"
            )
        plan = Plan(tape, result.slot)
        return plan, Replay(plan, tape.operations, tape.values())


class Slot(NamedTuple):
    """A value of a recording: an external Tensor's, a constant, or a step's result."""

    kind: str
    number: int


class Traced(Tensor):
    """A Tensor in a function that is being captured: shape and dtype are known, values are not."""

    __slots__ = ("_array", "slot")

    def __init__(self, slot: Slot, array: Array, requires_grad: bool) -> None:
        self.slot = slot
        self._array = array
        self._node = self._pin = self.grad = self.average_grad = None
        self._requires_grad = requires_grad

    @property
    def _data(self) -> Array:  # type: ignore[override]
        raise CaptureError(
            "capture: the function looks at the values of a Tensor, which only the call that "
            "records would see; compute with operations on Tensors, or leave this part uncaptured"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    def __len__(self) -> int:
        return len(self._array)

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"


class Tape:
    """What a function computes while it is captured, in the order in which it does."""

    def __init__(self, arguments: list[Tensor]) -> None:
        self.externals: list[Tensor] = []
        self.constants: list[Array] = []
        self.steps: list[tuple[Operation, tuple[Slot, ...], tuple[bool, ...]]] = []
        self.operations: list[Operation] = []  # as this one call made them
        self.modules: list[tuple[Any, bool]] = []
        self.nodes: dict[
            Slot, Any
        ] = {}  # of the results that want gradients; the leaves themselves
        self._arrays: dict[Slot, Array] = {}
        self._slots: dict[Tensor, Slot] = {}
        self.arguments = [
            Traced(self._external(tensor), tensor._data, tensor.requires_grad)
            for tensor in arguments
        ]
        self.argument_count = len(arguments)

    def enter(self, module: Any) -> None:
        """Note a module that is called, and its mode."""
        self.modules.append((module, module.training))

    def record(self, operation: Operation, inputs: tuple[Any, ...]) -> Tensor:
        """Compute an operation, and note it."""
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        slots = tuple(self._slot(operation, value, tensors) for value in inputs)
        _refuse_arrays(operation)
        arrays = tuple(self._arrays[slot] for slot in slots)
        with taping(None):  # what an operation does when called is no part of the function
            called, out = compute(operation, arrays)
        slot = Slot("step", len(self.steps))
        parents = tuple(self.nodes.get(slot) if is_grad_enabled() else None for slot in slots)
        differentiable = any(parent is not None for parent in parents)
        if differentiable:
            self.nodes[slot] = Node(called, arrays, out, parents, [])
        self.steps.append((operation, slots, tuple(parent is not None for parent in parents)))
        self.operations.append(called)
        self._arrays[slot] = out
        return Traced(slot, out, differentiable)

    def values(self) -> list[Array]:
        """Return all values of the recording, in the order of a plan's slots."""
        lengths = {
            "external": len(self.externals),
            "constant": len(self.constants),
            "step": len(self.steps),
        }
        return [self._arrays[Slot(kind, i)] for kind, n in lengths.items() for i in range(n)]

    def _external(self, tensor: Tensor) -> Slot:
        slot = Slot("external", len(self.externals))
        self.externals.append(tensor)
        self._arrays[slot] = tensor._data
        if tensor.requires_grad:
            self.nodes[slot] = tensor
        return slot

    def _slot(self, operation: Operation, value: Any, tensors: list[Tensor]) -> Slot:
        if isinstance(value, Traced):
            return value.slot
        if isinstance(value, Tensor):
            if not value.is_leaf:
                raise CaptureError(
                    f"capture: {type(operation).__name__} takes a Tensor of shape {value.shape} "
                    "that was computed outside the function; pass it as an argument"
                )
            if value not in self._slots:
                self._slots[value] = self._external(value)
            return self._slots[value]
        if isinstance(value, bool | int | float | np.generic) and tensors:
            kinds = [tensor.dtype for tensor in tensors]
            like = self._arrays[self._slot(operation, tensors[0], tensors)]
            slot = Slot("constant", len(self.constants))
            self.constants.append(scalar(value, np.result_type(*kinds, value), like))
            self._arrays[slot] = self.constants[-1]
            return slot
        raise CaptureError(
            f"capture: {type(operation).__name__} takes a {type(value).__name__}, whose values "
            "would be frozen; pass it as an argument, or make it a Tensor outside the function"
        )


def _refuse_arrays(operation: Operation) -> None:
    """Refuse an operation that holds arrays, which the function has computed by other means."""

    def arrays(value: Any) -> Iterator[Array]:
        if is_array(value):
            yield value
        elif isinstance(value, tuple | list):
            for part in value:
                yield from arrays(part)

    for name, value in vars(operation).items():
        for array in arrays(value):
            raise CaptureError(
                f"capture: {type(operation).__name__} holds an array of shape {array.shape} as its "
                f"{name}, which would be frozen; leave this part out of what is captured"
            )


class Plan:
    """A recording to be run again: operations over slots, and what must hold for it to be right.

    The slots are the arguments, the other Tensors that the function uses (`leaves`), the constants,
    and the result of each operation, in this order.
    """

    def __init__(self, tape: Tape, result: Slot) -> None:
        self.leaves = tape.externals[tape.argument_count :]
        self.constants = tape.constants
        first = {"external": 0, "constant": len(tape.externals)}
        first["step"] = first["constant"] + len(tape.constants)
        self.inputs = len(tape.externals)
        self.first = first["step"]
        self.result = first[result.kind] + result.number
        self.operations = [operation for operation, _, _ in tape.steps]
        self.slots = [tuple(first[s.kind] + s.number for s in slots) for _, slots, _ in tape.steps]
        self.needs = [needs for _, _, needs in tape.steps]
        root = tape.nodes.get(result)
        self.differentiable = root is not None
        numbers = {node: slot.number for slot, node in tape.nodes.items() if slot.kind == "step"}
        # In the order of an ordinary sweep, so that sums come out the same.
        order = topological_order(root) if type(root) is Node else []
        self.backwards = [numbers[node] for node in reversed(order)]
        kindless = (tape.operations[i].without_average for i in reversed(self.backwards))
        self.without_average = next(filter(None, kindless), None)
        self._modules = [module for module, _ in tape.modules]
        self._modes = [mode for _, mode in tape.modules]
        self._kinds = [_kind(tensor) for tensor in self.leaves]
        self.kept: dict[str, list[Any]] = {}

    @contextmanager
    def keeping(self, what: str, arrays: list[Any]) -> Iterator[list[Any]]:
        """Hold on to the arrays made in the `with` block until the next such block makes its own.

        Yields the last block's, to be dropped one by one. Freed all at once at the end of a step,
        their memory would go back to the system, to be fetched again page by page in the next.
        """
        yield self.kept.get(what) or [None] * (self.first + len(self.operations))
        self.kept[what] = list(arrays)

    def holds(self) -> bool:
        """Return whether what decided the recording is as it was, but for the arguments."""
        return [module.training for module in self._modules] == self._modes and [
            _kind(tensor) for tensor in self.leaves
        ] == self._kinds


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    data = tensor._data
    return data.shape, data.dtype, tensor._requires_grad


class Replay(Operation):
    """One call of a captured function.

    Each run keeps the values of its slots for as long as its result is referred to: the first for
    the ordinary sweep, and those from other inputs that the average sweep makes.

    Args:
        plan: what to run.
        operations: those of the plan as the call made them, if it has been recorded just now.
        recorded: all values of that recording.
    """

    def __init__(
        self,
        plan: Plan,
        operations: list[Operation] | None = None,
        recorded: list[Array] | None = None,
    ) -> None:
        self.plan = plan
        self.operations = operations or []
        self.recorded = recorded
        self.start: list[Array] | None = None
        self.runs: dict[int, tuple[weakref.ref[Array], list[Array]]] = {}

    def forward(self, *inputs: Array) -> Array:
        if self.start is not None:
            values = self._run_again(inputs, self.start)
        elif self.recorded is not None:
            values = self.start = [*inputs, *self.recorded[self.plan.inputs :]]
        else:
            values = self.start = self._run(inputs)
        # A view is this run's alone, even where the result is one of the inputs.
        out = values[self.plan.result].view()
        self._remember(out, values)
        return out

    def _remember(self, out: Array, values: list[Array]) -> None:
        """Keep the values of a run until `out` is gone."""
        key, this = id(out), weakref.ref(self)  # a cycle would keep all of it for some time

        def forget(_: Any) -> None:
            replay = this()
            if replay is not None:
                del replay.runs[key]

        self.runs[key] = weakref.ref(out, forget), values

    def _run(self, inputs: tuple[Array, ...]) -> list[Array]:
        values = [*inputs, *self.plan.constants]
        with self.plan.keeping("start", values) as old:
            for operation, slots in zip(self.plan.operations, self.plan.slots):
                old[len(values)] = None
                operation, out = compute(operation, [values[slot] for slot in slots])
                self.operations.append(operation)
                values.append(out)
        return values

    def _run_again(self, inputs: tuple[Array, ...], start: list[Array]) -> list[Array]:
        """Run from other inputs; what does not depend on one that moved is not computed again."""
        values = [*inputs, *self.plan.constants]
        with self.plan.keeping("end", values) as old:
            for operation, slots in zip(self.operations, self.plan.slots):
                old[len(values)] = None
                arrays = [values[slot] for slot in slots]
                stays = all(map(is_, arrays, [start[slot] for slot in slots]))
                out = start[len(values)] if stays else as_array(operation.forward(*arrays))
                values.append(out)
        return values

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        plan, values = self.plan, self.runs[id(out)][1]

        def pull(i: int, grad: Array) -> Gradients:
            arrays = [values[slot] for slot in plan.slots[i]]
            return self.operations[i].backward(grad, plan.needs[i], values[plan.first + i], *arrays)

        return self._sweep("grad", grad, values, pull)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        plan = self.plan
        before, after = (self.runs[id(point.out)][1] for point in (start, end))

        def pull(i: int, grad: Array) -> Gradients:
            operation, slots, result = self.operations[i], plan.slots[i], plan.first + i
            at_start = tuple([before[slot] for slot in slots])
            at_end = tuple([after[slot] for slot in slots])
            if all(map(is_, at_start, at_end)):
                return operation.backward(grad, plan.needs[i], before[result], *at_start)
            points = Point(before[result], at_start), Point(after[result], at_end)
            return operation.average_backward(grad, plan.needs[i], *points)

        return self._sweep("average grad", grad, before, pull)

    @property
    def without_average(self) -> Operation | None:
        """The first operation of the plan whose averaged Jacobian is unknown, or None."""
        return self.plan.without_average

    def _sweep(
        self, kind: str, grad: Array, values: list[Array], pull: Callable[[int, Array], Gradients]
    ) -> Gradients:
        plan = self.plan
        grads: list[Any] = [None] * len(values)
        grads[plan.result] = grad
        with plan.keeping(kind, grads) as old:
            for i in plan.backwards:
                grad, grads[plan.first + i] = grads[plan.first + i], None
                if grad is None:
                    continue
                gradients = pull(i, as_array(grad))
                for slot, need, gradient in zip(plan.slots[i], plan.needs[i], gradients):
                    if need and gradient is not None:
                        old[slot] = None
                        gradient = unbroadcast(gradient, values[slot])
                        known = grads[slot]
                        grads[slot] = gradient if known is None else known + gradient
        return grads[: plan.inputs]
