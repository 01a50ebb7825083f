"""A recording of a captured function to be run again: operations over numbered slots."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

from agrad.backend import Array, as_array
from agrad.core.flat import Flat
from agrad.core.graph import Node, Pin, topological_order
from agrad.core.tensor import Tensor, is_stray_view, pin_together, pinned
from agrad.ops.operation import Gradients, Operation, Point
from agrad.tracing.steps import Step, Values, join_dense
from agrad.tracing.tape import Slot, Tape

__all__ = ["Plan", "Replay"]


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
        joined = join_dense(steps, self.result, tape.values())
        self.steps, self.backwards = (
            [made for step in part if (made := joined.get(step, step)) is not None]
            for part in (steps, backwards)
        )
        self._modules = [module for module, _ in tape.modules]
        self._modes = [mode for _, mode in tape.modules]
        self._arrays: Values = [None] * len(self.leaves)
        self._kinds = [_kind(leaf._data) for leaf in self.leaves]
        self._wants = [leaf._requires_grad for leaf in self.leaves]
        self.parents = [leaf if leaf._requires_grad else None for leaf in self.leaves]
        self._wanting = [
            (slot, leaf)
            for slot, leaf in enumerate(self.leaves, start=tape.argument_count)
            if leaf._requires_grad
        ]
        self.has_stray_views = True
        self._homes: Homes = []
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
            self._homes = _homes(self._wanting)
        as_recorded = self._wants == [leaf._requires_grad for leaf in self.leaves] and (
            self._modes == [module.training for module in self._modules]
        )
        return arrays if as_recorded else None

    def pins(self) -> list[Pin]:
        """Return the pins on the arrays of the leaves, none of which is a stray view."""
        if all(leaf.is_writable() for leaf in self.leaves):
            return [pin_together(self.leaves)]
        return pinned(self.leaves)

    def rooms(self) -> Values:
        """Return for each slot of a leaf an array for its gradient, beside those of the others.

        Only leaves that lie side by side themselves have one.
        """
        rooms: Values = [None] * self.size
        for reference, places in self._homes:
            flat = reference()
            if flat is not None:
                views = flat.buffer().views
                for slot, part in places:
                    rooms[slot] = views[part]
        return rooms


Homes = list[tuple[weakref.ref[Flat], list[tuple[int, int]]]]


def _homes(leaves: list[tuple[int, Tensor]]) -> Homes:
    """Return in which arrays leaves lie side by side: their slots, and which parts they are."""
    found: dict[Flat, list[tuple[int, int]]] = {}
    for slot, leaf in leaves:
        home = leaf._home
        flat = home.flat() if home is not None else None
        if home is not None and flat is not None and flat.has(leaf._data, home.part):
            found.setdefault(flat, []).append((slot, home.part))
    return [(weakref.ref(flat), places) for flat, places in found.items()]


def _kind(array: Array) -> tuple[Any, ...]:
    return array.shape, array.dtype


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
                if step.moves(start, values):
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
        rooms, grads = self._begun_sweep(grad)
        for step in self.plan.backwards:
            if grads[step.result] is not None:
                step.pull(grads, rooms, values, self.called)
        return self._own_gradients(grads, rooms)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        before, after = (self.runs[id(point.out)][1] for point in (start, end))
        rooms, grads = self._begun_sweep(grad)
        for step in self.plan.backwards:
            if grads[step.result] is None:
                continue
            if step.moves(before, after):
                step.average_pull(grads, rooms, before, after, self.called)
            else:
                step.pull(grads, rooms, before, self.called)
        return self._own_gradients(grads, rooms)

    @property
    def without_average(self) -> Operation | None:
        """The first operation of the plan whose averaged Jacobian is unknown, or None."""
        return self.plan.without_average

    def _begun_sweep(self, grad: Array) -> tuple[Values, Values]:
        """Return the rooms, and the gradients before a sweep."""
        grads: Values = [None] * self.plan.size
        grads[self.plan.result] = grad
        return self.plan.rooms(), grads

    def _own_gradients(self, grads: Values, rooms: Values) -> Gradients:
        """Return the inputs' gradients after a sweep, none in memory of another array."""
        own = grads[: self.plan.inputs]
        for slot, (grad, room) in enumerate(zip(own, rooms)):
            if grad is not None and grad is not room:
                own[slot] = _moved(grad, room)
        return own


def _moved(array: Array, room: Array | None) -> Array:
    """Return the array in its room, or a copy: in memory that is nobody else's."""
    if room is None:
        return as_array(array).copy()
    room[...] = array
    return room
