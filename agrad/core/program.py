"""A program: the operations of a recorded graph over numbered slots, run forward and swept back.

Slot i holds the result of step i; the slots after those hold what the steps begin with, leaves and
constants. One forward run fills the slots, also from other values of the leaves, and one reverse
sweep pulls a gradient from the result back to the leaves. A sweep goes between two runs: where an
operation's inputs have moved from the one to the other it uses the averaged Jacobian, elsewhere the
Jacobian. The ordinary gradient is the average gradient whose end is its start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, as_array
from agrad.core.anomaly import check_gradients, first_anomaly, recorded_at
from agrad.core.graph import Node, compute, topological_order
from agrad.errors import NonFiniteError
from agrad.gpu.deferred import holds
from agrad.ops.operation import Gradients, Operation, Point

__all__ = ["Program", "Recorded", "Run", "Step", "Values", "unbroadcast"]

Values = list[Any]  # an array for each slot, or None
LeafArrays = dict[Any, Array]
Path = Callable[[float], Mapping[Any, Array]]  # the moving leaves at a share, 0 to 1, of the way


class Recorded(NamedTuple):
    """A recorded operation: its node, what to call in another run, and the inputs' sources.

    The sources are as in `Node.parents`, but inputs that need no gradient may have one too.
    """

    node: Node
    operation: Operation
    sources: Sequence[Any]


class Run(NamedTuple):
    """A forward run: the arrays in the slots, and each step's operation as it was called."""

    values: Values
    called: dict[Step, Operation]

    def point(self, step: Step) -> Point:
        """Return the step's inputs and result."""
        return Point(self.values[step.result], tuple([self.values[i] for i in step.slots]))


class Step:
    """One operation of a program.

    Attributes:
        operation: what to call, before `for_call`.
        slots: of its inputs.
        needs: whether each of them needs a gradient.
        result: the slot of its result.
    """

    __slots__ = ("needs", "operation", "result", "slots")

    def __init__(
        self, operation: Operation, slots: Sequence[int], needs: tuple[bool, ...], result: int
    ) -> None:
        self.operation = operation
        self.slots = slots
        self.needs = needs
        self.result = result

    def moves(self, start: Run, end: Run) -> bool:
        """Return whether an input is another array at the end."""
        return not all(map(is_, start.point(self).inputs, end.point(self).inputs))

    def run(self, run: Run) -> None:
        """Fill the slot of the result, in a run whose operations may have been called before."""
        _, inputs = run.point(self)
        if self in run.called:
            run.values[self.result] = as_array(run.called[self].forward(*inputs))
        else:
            run.called[self], run.values[self.result] = compute(self.operation, inputs)

    def pull(self, grad: Array, start: Run, end: Run, grads: Values, places: Values) -> Gradients:
        """Pull the gradient of the result back to the inputs.

        The first gradient for a slot may be put into the array that the slot has in `places`.
        """
        before, operation = start.point(self), start.called[self]
        if end is start or not self.moves(start, end):
            return operation.backward(grad, self.needs, before.out, *before.inputs)
        return operation.average_backward(grad, self.needs, before, end.point(self))


class Program:
    """The operations of a recorded graph, in an order in which they can run.

    Args:
        root: the node of the result, or the leaf that it is.
        recording: the operations, in that order; by default those that the root depends on.
        leaves: leaves whose slots come first after the results', in this order, with their arrays.

    Attributes:
        steps: in the order in which they run.
        backwards: the steps that a gradient passes, in the order in which it does.
        result: the slot of the result.
        leaves: the slots of each leaf; several if its values were replaced amid the recording.
        recorded: the run that was recorded.

    Raises:
        FreedGraphError: an earlier sweep has freed the graph.
    """

    def __init__(
        self,
        root: Any,
        recording: Sequence[Recorded] | None = None,
        leaves: Mapping[Any, Array] | None = None,
    ) -> None:
        self.nodes = topological_order(root) if type(root) is Node else []
        if recording is None:
            recording = [Recorded(node, node.operation, node.parents) for node in self.nodes]
        self.count = len(recording)
        slot_of: dict[Any, int] = {node: i for i, (node, _, _) in enumerate(recording)}
        self.leaves: dict[Any, list[int]] = {}
        self.steps: list[Step] = []
        self.recorded = Run([node.out for node, _, _ in recording], {})
        values = self.recorded.values

        def new_slot(source: Any, array: Array) -> int:
            values.append(array)
            if source is not None:
                slot_of[source] = len(values) - 1
                self.leaves.setdefault(source, []).append(len(values) - 1)
            return len(values) - 1

        for leaf, array in (leaves or {}).items():
            new_slot(leaf, array)
        for i, (node, operation, sources) in enumerate(recording):
            slots = []
            for source, array in zip(sources, node.inputs):
                slot = slot_of.get(source)
                known = slot is not None and values[slot] is array
                slots.append(slot if known else new_slot(source, array))
            step = Step(operation, slots, node.needs, i)
            self.recorded.called[step] = node.operation
            self.steps.append(step)
        self.result = slot_of[root]
        self.backwards = [self.steps[slot_of[node]] for node in reversed(self.nodes)]

    # -- runs and sweeps ---------------------------------------------------------------------------

    def run(self, inputs: Values, start: Run | None = None, old: Values | None = None) -> Run:
        """Run forward from arrays in the slots of leaves and constants.

        From `start`, an earlier run, operations are taken as they were called, and results that do
        not depend on another array than there. The arrays of `old` are dropped one by one as new
        ones take their place.
        """
        run = Run([None] * self.count + inputs, {} if start is None else start.called)
        for step in self.steps:
            if old is not None:
                old[step.result] = None
            if start is not None and not step.moves(start, run):
                run.values[step.result] = start.values[step.result]
            else:
                step.run(run)
        return run

    def sweep(
        self, seed: Array, start: Run, end: Run, places: Values | None = None, free: bool = False
    ) -> Values:
        """Pull `seed`, a gradient of the result, back to the leaves, and return theirs by slot.

        Args:
            seed: of the shape of the result.
            start: the run whose Jacobians are used.
            end: the same run; or another, for the Jacobians averaged between the two.
            places: an array for the gradient of a leaf in its slot, or None. Gradients without one
                get memory of their own.
            free: drop what graph and runs hold as the sweep passes.
        """
        grads: Values = [None] * len(start.values)
        grads[self.result] = seed if self.result < self.count else seed.copy()
        places = [None] * len(grads) if places is None else places
        detecting = recorded_at.get() is not None
        for step in self.backwards:
            grad, grads[step.result] = as_array(grads[step.result]), None
            if grad is not None:
                gradients = step.pull(grad, start, end, grads, places)
                if detecting:
                    wanted = [found if need else None for found, need in zip(gradients, step.needs)]
                    node = self.nodes[step.result] if self.nodes else None
                    average = end is not start
                    check_gradients(
                        start.called[step], start.point(step), grad, wanted, average, node
                    )
                self._add(step, grad, gradients, start, grads, places)
            if free:
                self.nodes[step.result].free()
                start.values[step.result] = end.values[step.result] = None
                del start.called[step], step.operation
        return grads

    def _add(
        self,
        step: Step,
        grad: Array,
        gradients: Gradients,
        start: Run,
        grads: Values,
        places: Values,
    ) -> None:
        """Add a step's gradients to what the slots of its inputs have."""
        owned = start.called[step].owns_gradients
        for i, slot in enumerate(step.slots):
            gradient, known, place = gradients[i], grads[slot], places[slot]
            if gradient is None or not step.needs[i]:
                continue
            if not owned:
                gradient = unbroadcast(gradient, start.values[slot])
            if known is not None:
                gradient = np.add(known, gradient, out=known if known is place else None)
            elif place is not None and gradient is not place:
                place[...] = gradient
            elif place is None and slot >= self.count and not owned:
                # A leaf's gradient outlives the sweep, so its memory must be nobody else's.
                others = [*start.point(step).inputs, start.values[step.result], grad]
                if _shares(gradient, [*others, *gradients[:i], *gradients[i + 1 :]]):
                    gradient = gradient.copy()
            grads[slot] = gradient if place is None or known is not None else place

    def backward(self, seed: Array, retain_graph: bool) -> LeafArrays:
        """Return each leaf's gradient, given that of the result."""
        run = self.recorded
        return self._by_leaf(self.sweep(seed, run, run, free=not retain_graph))

    def average(
        self, path: Path, segments: int = 1, extrapolate: bool = False, retain_graph: bool = False
    ) -> tuple[Array, LeafArrays]:
        """Return the result at the end of a path, and each leaf's factorized average gradient.

        The path is cut into `segments`, whose averages' mean is taken; to extrapolate, also into
        twice as many, and the two means are combined as (4·fine - coarse)/3.

        Raises:
            NonFiniteError: the result at an end is NaN or infinite; nothing has been freed.
        """
        end, grads = self._mean_average(path, segments, retain_graph or extrapolate)
        if extrapolate:
            end, fine = self._mean_average(path, 2 * segments, retain_graph)
            grads = {leaf: (4 * fine[leaf] - coarse) / 3 for leaf, coarse in grads.items()}
        return end, grads

    def _mean_average(
        self, path: Path, segments: int, retain_graph: bool
    ) -> tuple[Array, LeafArrays]:
        start, total = self.recorded, LeafArrays()
        seed = np.ones_like(start.values[self.result])
        for i in range(1, segments + 1):
            inputs = self.recorded.values[self.count :]
            for leaf, array in path(i / segments).items():
                for slot in self.leaves[leaf]:
                    inputs[slot - self.count] = array
            end = self.run(inputs, self.recorded)
            value = end.values[self.result]
            if not holds(np.isfinite(value).all()):
                cause = first_anomaly((end.called[step], end.point(step)) for step in self.steps)
                raise NonFiniteError(
                    f"average_backward: the value at the end of the updates is {value.item()}, so "
                    f"no average gradient exists; shorten the updates{cause}"
                )
            free = i == segments and not retain_graph
            for leaf, grad in self._by_leaf(self.sweep(seed, start, end, free=free)).items():
                total[leaf] = total[leaf] + grad if leaf in total else grad
            start = end
        if segments > 1:
            total = {leaf: grad / segments for leaf, grad in total.items()}
        return value, total

    def _by_leaf(self, grads: Values) -> LeafArrays:
        found: LeafArrays = {}
        for leaf, slots in self.leaves.items():
            for grad in [grads[slot] for slot in reversed(slots) if grads[slot] is not None]:
                found[leaf] = as_array(found[leaf] + grad if leaf in found else grad)
        return found

    # -- what is asked of the graph ----------------------------------------------------------------

    def start_of(self, leaf: Any) -> Array:
        """Return the recorded array of a leaf, the last if there were several."""
        return self.recorded.values[self.leaves[leaf][-1]]

    def without_average(self) -> Operation | None:
        """Return the first operation whose averaged Jacobian is unknown, or None."""
        called = (self.recorded.called[step] for step in reversed(self.backwards))
        return next(filter(None, (operation.without_average for operation in called)), None)

    def require_averages(self) -> None:
        """Raise an AverageUndefinedError if the averaged Jacobian of an operation is unknown."""
        operation = self.without_average()
        if operation is not None:
            empty = Point(self.recorded.values[self.result], ())
            operation.average_backward(empty.out, (), empty, empty)

    def free(self) -> None:
        """Drop what the graph holds."""
        for node in self.nodes:
            node.free()


def _shares(gradient: Array, others: Sequence[Any]) -> bool:
    """Return whether an array is one of the others, or may share memory with one."""
    if id(gradient) in map(id, others):
        return True
    if isinstance(gradient, np.ndarray) and gradient.base is None:
        return False  # others may be views of it, and are copied themselves
    return any(other is not None and np.may_share_memory(gradient, other) for other in others)


def unbroadcast(grad: Array, like: Array) -> Array:
    """Sum `grad` over the axes along which `like` was broadcast, and give it `like`'s dtype.

    Raises:
        ValueError: `like` does not broadcast to the shape of `grad`.
    """
    if grad.shape != like.shape:
        lead = grad.ndim - like.ndim
        if lead < 0 or any(n not in (1, m) for n, m in zip(like.shape, grad.shape[lead:])):
            raise ValueError(
                f"backward: a gradient of shape {grad.shape} does not fit an input of shape "
                f"{like.shape}"
            )
        stretched = tuple(
            lead + i for i, n in enumerate(like.shape) if n == 1 and grad.shape[lead + i] != 1
        )
        grad = grad.sum(axis=tuple(range(lead)) + stretched).reshape(like.shape)
    if grad.dtype != like.dtype:
        grad = grad.astype(like.dtype)
    return grad
