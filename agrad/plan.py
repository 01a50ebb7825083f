"""A recording of a captured function to be run again: operations over numbered slots."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np

from agrad.backend import Array, as_array
from agrad.flat import Buffer, Flat
from agrad.graph import Node, topological_order
from agrad.ops.activation import Looped
from agrad.ops.dense import Dense
from agrad.ops.linalg import Affine
from agrad.ops.operation import Gradients, Operation, Point
from agrad.sweep import unbroadcast
from agrad.tape import Slot, Tape
from agrad.tensor import compute, is_stray_view

__all__ = ["Plan", "Replay"]

Values = list[Any]
"""An array for each slot of a plan."""
Rooms = list[Any]
"""For each input of a step an array to put its gradient into, or None."""


class Step:
    """One operation of a plan: the slots that it reads, and the one that it fills.

    Attributes:
        operation: as the function called it, before `for_call`.
        slots: of its inputs.
        needs: whether each of them wants a gradient.
        result: the slot of its output.
    """

    def __init__(
        self, operation: Operation, slots: tuple[int, ...], needs: tuple[bool, ...], result: int
    ) -> None:
        self.operation = operation
        self.slots = slots
        self.needs = needs
        self.result = result

    def run(self, values: Values, called: dict[Step, Operation]) -> None:
        """Fill the slot of the result, and note the operation as it is for this call."""
        called[self], values[self.result] = compute(self.operation, self._inputs(values))

    def run_again(self, values: Values, called: dict[Step, Operation]) -> None:
        """Fill the slot of the result by the operation as it was for the call."""
        values[self.result] = as_array(called[self].forward(*self._inputs(values)))

    def pull(
        self, grad: Array, values: Values, called: dict[Step, Operation], rooms: Rooms
    ) -> Gradients:
        """Return the gradients of the inputs, in their rooms if that saves a copy."""
        inputs = self._inputs(values)
        return called[self].backward(grad, self.needs, values[self.result], *inputs)

    def average_pull(
        self,
        grad: Array,
        before: Values,
        after: Values,
        called: dict[Step, Operation],
        rooms: Rooms,
    ) -> Gradients:
        """Return the gradients of the inputs through the averaged Jacobian."""
        return called[self].average_backward(grad, self.needs, self._at(before), self._at(after))

    def _inputs(self, values: Values) -> tuple[Array, ...]:
        return tuple([values[slot] for slot in self.slots])

    def _at(self, values: Values) -> Point:
        return Point(values[self.result], self._inputs(values))


class DenseStep(Step):
    """An affine map and the activation after it; `inner` is the slot of what is between them."""

    def __init__(self, affine: Step, activation: Step) -> None:
        super().__init__(affine.operation, affine.slots, affine.needs, activation.result)
        self.inner = affine.result
        self.dense = Dense(affine.operation, activation.operation)  # type: ignore[arg-type]

    def run(self, values: Values, called: dict[Step, Operation]) -> None:
        values[self.inner], values[self.result] = self.dense.forward(*self._inputs(values))

    run_again = run

    def pull(
        self, grad: Array, values: Values, called: dict[Step, Operation], rooms: Rooms
    ) -> Gradients:
        x, weight, _ = self._inputs(values)
        return self.dense.backward(grad, self.needs, values[self.result], x, weight, rooms)

    def average_pull(
        self,
        grad: Array,
        before: Values,
        after: Values,
        called: dict[Step, Operation],
        rooms: Rooms,
    ) -> Gradients:
        start, end = self._at(before), self._at(after)
        z0, z1 = before[self.inner], after[self.inner]
        return self.dense.average_backward(grad, self.needs, start, end, z0, z1, rooms)


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
        self.size = first["step"] + len(tape.steps)

        def number(slot: Slot) -> int:
            return first[slot.kind] + slot.number

        self.result = number(result)
        steps = [
            Step(operation, tuple(map(number, slots)), needs, first["step"] + i)
            for i, (operation, slots, needs) in enumerate(tape.steps)
        ]
        self.called = dict(zip(steps, tape.operations))
        root = tape.nodes.get(result)
        self.differentiable = root is not None
        numbers = {node: slot.number for slot, node in tape.nodes.items() if slot.kind == "step"}
        # In the order of an ordinary sweep, so that sums come out the same.
        order = topological_order(root) if type(root) is Node else []
        backwards = [steps[numbers[node]] for node in reversed(order)]
        kindless = (self.called[step].without_average for step in reversed(backwards))
        self.without_average = next(filter(None, kindless), None)
        pairs = _dense_pairs(steps, self.result, tape.values())
        dense = {affine: DenseStep(affine, activation) for affine, activation in pairs.items()}
        gone = set(pairs.values())
        self.steps, self.backwards = (
            [dense.get(step, step) for step in part if step not in gone]
            for part in (steps, backwards)
        )
        self._modules = [module for module, _ in tape.modules]
        self._modes = [mode for _, mode in tape.modules]
        self._arrays: list[Array | None] = [None] * len(self.leaves)
        self._kinds = [_kind(leaf._data) for leaf in self.leaves]
        self._wants = [leaf._requires_grad for leaf in self.leaves]
        self.parents = [leaf if leaf._requires_grad else None for leaf in self.leaves]
        self._wanting = [
            (slot, leaf)
            for slot, leaf in enumerate(self.leaves, start=tape.argument_count)
            if leaf._requires_grad
        ]
        self.has_stray_views = True
        self.kept: dict[str, Values] = {}

    @contextmanager
    def keeping(self, what: str, arrays: Values) -> Iterator[Values]:
        """Hold on to the arrays made in the `with` block until the next such block makes its own.

        Yields the last block's, to be dropped one by one. Freed all at once at the end of a step,
        their memory would go back to the system, to be fetched again page by page in the next.
        """
        yield self.kept.get(what) or [None] * self.size
        self.kept[what] = list(arrays)

    def leaf_arrays(self) -> list[Array] | None:
        """Return the arrays of the leaves; None if what decided the recording is as it no more is.

        The arguments are not looked at.
        """
        arrays = [leaf._data for leaf in self.leaves]
        if not all(map(is_, arrays, self._arrays)):
            if [_kind(array) for array in arrays] != self._kinds:
                return None
            self._arrays = arrays
            self.has_stray_views = any(map(is_stray_view, self.leaves))
        as_recorded = self._wants == [leaf._requires_grad for leaf in self.leaves] and (
            self._modes == [module.training for module in self._modules]
        )
        return arrays if as_recorded else None

    def rooms(self) -> Values:
        """Return for each slot of a leaf an array for its gradient, beside those of the others.

        Only leaves that lie side by side themselves have one.
        """
        rooms: Values = [None] * self.size
        buffers: dict[Flat, Buffer] = {}
        for slot, leaf in self._wanting:
            flat = leaf._home.flat() if leaf._home is not None else None
            if flat is not None:
                if flat not in buffers:
                    buffers[flat] = flat.buffer()
                rooms[slot] = buffers[flat].views[leaf._home.part]
        return rooms


def _kind(array: Array) -> tuple[Any, ...]:
    return array.shape, array.dtype


def _dense_pairs(steps: list[Step], result: int, values: Sequence[Array]) -> dict[Step, Step]:
    """Return the affine steps to be joined with an activation, and that activation's step."""
    users = Counter(slot for step in steps for slot in step.slots)
    made = {step.result: step for step in steps}
    pairs = {}
    for step in steps:
        affine = made.get(step.slots[0])
        if (
            isinstance(step.operation, Looped)
            and affine is not None
            and type(affine.operation) is Affine
            and len(affine.slots) == 3
            and users[affine.result] == 1
            and affine.result != result
            and values[step.result].ndim == 2
            and len({values[slot].dtype for slot in (*affine.slots, step.result)}) == 1
            and values[step.result].dtype in (np.float32, np.float64)
        ):
            pairs[affine] = step
    return pairs


class Replay(Operation):
    """One call of a captured function.

    Each run keeps the values of its slots for as long as its result is referred to: the first for
    the ordinary sweep, and those from other inputs that the average sweep makes.

    Args:
        plan: what to run.
        recorded: all values of the recording, if the call has been recorded just now.
    """

    owns_gradients = True

    def __init__(self, plan: Plan, recorded: Values | None = None) -> None:
        self.plan = plan
        self.recorded = recorded
        self.called: dict[Step, Operation] = {} if recorded is None else plan.called
        self.start: Values | None = None
        self.runs: dict[int, tuple[weakref.ref[Array], Values]] = {}

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

    def _remember(self, out: Array, values: Values) -> None:
        """Keep the values of a run until `out` is gone."""
        key, this = id(out), weakref.ref(self)  # a cycle would keep all of it for some time

        def forget(_: Any) -> None:
            replay = this()
            if replay is not None:
                del replay.runs[key]

        self.runs[key] = weakref.ref(out, forget), values

    def _run(self, inputs: tuple[Array, ...]) -> Values:
        values = self._begun(inputs)
        with self.plan.keeping("start", values) as old:
            for step in self.plan.steps:
                old[step.result] = None
                step.run(values, self.called)
        return values

    def _run_again(self, inputs: tuple[Array, ...], start: Values) -> Values:
        """Run from other inputs; what does not depend on one that moved is not computed again."""
        values = self._begun(inputs)
        with self.plan.keeping("end", values) as old:
            for step in self.plan.steps:
                old[step.result] = None
                if _moves(step, start, values):
                    step.run_again(values, self.called)
                else:
                    values[step.result] = start[step.result]
        return values

    def _begun(self, inputs: tuple[Array, ...]) -> Values:
        values = [*inputs, *self.plan.constants]
        return values + [None] * (self.plan.size - len(values))

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        values = self.runs[id(out)][1]

        def pull(step: Step, grad: Array, rooms: Rooms) -> Gradients:
            return step.pull(grad, values, self.called, rooms)

        return self._sweep("grad", grad, values, pull)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        before, after = (self.runs[id(point.out)][1] for point in (start, end))

        def pull(step: Step, grad: Array, rooms: Rooms) -> Gradients:
            if _moves(step, before, after):
                return step.average_pull(grad, before, after, self.called, rooms)
            return step.pull(grad, before, self.called, rooms)

        return self._sweep("average grad", grad, before, pull)

    @property
    def without_average(self) -> Operation | None:
        """The first operation of the plan whose averaged Jacobian is unknown, or None."""
        return self.plan.without_average

    def _sweep(
        self,
        kind: str,
        grad: Array,
        values: Values,
        pull: Callable[[Step, Array, Rooms], Gradients],
    ) -> Gradients:
        plan = self.plan
        rooms = plan.rooms()
        grads: Values = [None] * len(values)
        grads[plan.result] = grad
        with plan.keeping(kind, grads) as old:
            for step in plan.backwards:
                grad, grads[step.result] = grads[step.result], None
                if grad is None:
                    continue
                # What is there already must not be written over by what is to be added to it.
                free = [rooms[slot] if grads[slot] is None else None for slot in step.slots]
                gradients = pull(step, as_array(grad), free)
                for slot, need, gradient in zip(step.slots, step.needs, gradients):
                    if need and gradient is not None:
                        old[slot] = None
                        gradient = unbroadcast(gradient, values[slot])
                        known = grads[slot]
                        grads[slot] = gradient if known is None else known + gradient
        for slot, (grad, room) in enumerate(zip(grads[: plan.inputs], rooms)):
            if grad is not None and grad is not room:
                grads[slot] = _moved(grad, room)
        return grads[: plan.inputs]


def _moved(array: Array, room: Array | None) -> Array:
    """Return the array in its room, or a copy: in memory that is nobody else's."""
    if room is None:
        return as_array(array).copy()
    room[...] = array
    return room


def _moves(step: Step, start: Values, end: Values) -> bool:
    """Return whether an input of a step is another at the end."""
    return any(start[slot] is not end[slot] for slot in step.slots)
