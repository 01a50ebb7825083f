"""The engine: recorded operations, and the program that runs them forward and sweeps back.

Each operation on a Tensor that requires a gradient adds a `Node`, which points at the nodes that
produced its inputs. No node points the other way, so a graph dies with its loss. Nodes hold arrays
rather than Tensors, whose values may be replaced later.

A `Program` is the graph's operations over numbered slots. A forward run fills the slots from any
values of the leaves. A reverse sweep, from the result to the leaves, lies between two runs: where
an operation's inputs differ between the two, it uses the averaged Jacobian, elsewhere the Jacobian.
So the ordinary gradient is the average gradient whose end is its start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, is_
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, as_array
from agrad.core.anomaly import check_gradients, check_result, first_anomaly, recorded_at
from agrad.core.hooks import unhooked
from agrad.errors import FreedGraphError, NonFiniteError
from agrad.gpu import cuda
from agrad.gpu.deferred import holds
from agrad.ops.device import HOST, require_one_device
from agrad.ops.operation import Operation, Point
from agrad.ops.part import for_call
from agrad.ops.sums import unbroadcast

__all__ = ["Node", "Program", "Run", "Step", "Values", "compute"]

Values = list[Any]  # an array for each slot, or None
LeafArrays = dict[Any, Array]
Path = Callable[[float], Mapping[Any, Array]]  # moving leaves at a share, 0 to 1, of the path
Recorded = tuple["Node", Operation, Sequence[Any]]  # with the operation and the inputs' sources


class Node:
    """One recorded operation: its inputs' arrays, its output's, and where the inputs came from.

    For each input, `parents` holds the node that produced it, the leaf itself (any hashable but a
    Node), or None if it needs no gradient. `pins` keep the arrays from being changed.
    """

    __slots__ = (
        "__weakref__",
        "depth",
        "differentiable",
        "inputs",
        "needs",
        "operation",
        "out",
        "parents",
        "pins",
    )

    def __init__(
        self,
        operation: Operation,
        inputs: tuple[Array, ...],
        out: Array,
        parents: tuple[Any, ...],
        pins: list[Any],
    ) -> None:
        self.operation, self.inputs, self.out = operation, inputs, out
        self.parents, self.pins = parents, pins
        needs, depth = [], 0
        for parent in parents:
            if type(parent) is Node:
                needs.append(parent.differentiable)
                depth = max(depth, parent.depth + 1)
            else:
                needs.append(parent is not None)
        self.needs = tuple(needs)
        self.differentiable: bool = operation.differentiable and True in needs
        self.depth: int = depth

    def free(self) -> None:
        """Drop every array, including the operation's own, and every reference to other nodes."""
        self.operation = type(unhooked(self.operation))  # type: ignore[assignment]
        self.inputs, self.parents, self.pins = (), (), []
        self.out = None  # type: ignore[assignment]


def topological_order(root: Node) -> dict[Node, bool]:
    """Return `root` and every node it depends on, each after its own dependencies.

    The value of a node is whether the gradient of `root` reaches it; the others are choices, and
    what these were made from.

    Raises:
        FreedGraphError: The buffers of a node that the gradient reaches have been freed.
    """
    seen = {root: True}  # a dict keeps the order, so that sums are the same in every run
    stack: list[Node] = [root]
    choices: list[Node] = []
    while stack:
        node = stack.pop()
        if node.out is None:
            raise FreedGraphError(
                f"backward: the graph was freed at {node.operation.__name__} by an earlier "
                "sweep; pass retain_graph=True to that sweep, or compute the loss again"
            )
        for parent, need in zip(node.parents, node.needs):
            if type(parent) is Node and parent not in seen:
                if need:
                    seen[parent] = True
                    stack.append(parent)
                else:
                    choices.append(parent)
    while choices:
        node = choices.pop()
        if node not in seen and node.out is not None:
            seen[node] = False
            choices += [parent for parent in node.parents if type(parent) is Node]
    return {node: seen[node] for node in sorted(seen, key=attrgetter("depth"))}


def compute(operation: Operation, arrays: tuple[Array, ...]) -> tuple[Operation, Array]:
    """Call an operation: return the operation for this call, and its output.

    Raises:
        Exception: A requirement does not hold; the operation has changed nothing.
    """
    if not HOST.issuperset(map(type, arrays)):
        require_one_device(operation, arrays)
    try:
        if operation.requires is not None:
            for condition, error in operation.requires(*arrays):
                if not holds(condition):
                    raise error()
        if type(operation).for_call is not Operation.for_call:
            operation = for_call(operation, arrays)
        out = operation.forward(*arrays)
    except Exception as error:
        kinds = ", ".join(f"{array.dtype}{list(array.shape)}" for array in arrays)
        error.add_note(f"in {type(operation).__name__} of inputs {kinds}")
        cuda.explain(error)
        raise
    if type(out) is not np.ndarray:
        out = as_array(out)
    if recorded_at.get() is not None:
        check_result(operation, Point(out, tuple(arrays)))
    return operation, out


class Run(NamedTuple):
    """A forward run: the arrays in the slots, and the operations called."""

    values: Values
    called: dict[Step, Operation]


class Step:
    """An operation, its input slots, which of them need gradients, and its result slot."""

    __slots__ = ("needs", "operation", "result", "slots")

    def __init__(
        self, operation: Operation, slots: Sequence[int], needs: tuple[bool, ...], result: int
    ) -> None:
        self.operation, self.slots, self.needs, self.result = operation, slots, needs, result

    def inputs(self, run: Run) -> tuple[Array, ...]:
        """Return the arrays in the input slots."""
        return tuple(map(run.values.__getitem__, self.slots))

    def run(self, run: Run, inputs: tuple[Array, ...]) -> None:
        """Fill the result slot; use the operation that an earlier run called, if there is one."""
        if self in run.called:
            out = run.called[self].forward(*inputs)
            run.values[self.result] = out if type(out) is np.ndarray else as_array(out)
        else:
            run.called[self], run.values[self.result] = compute(self.operation, inputs)

    def take_over(self, run: Run, start: Run) -> None:
        """Use the results of an earlier run."""
        run.values[self.result] = start.values[self.result]

    def release(self, old: Values, run: Run) -> None:
        """Drop the arrays of an earlier run that the results of `run` will replace."""
        old[self.result] = None

    def pull(self, grad: Array, sweep: Sweep) -> None:
        """Pull the gradient of the result back to the inputs."""
        grads, places, start, end, program = sweep
        operation, inputs, out = start.called[self], self.inputs(start), start.values[self.result]
        if end.values[self.result] is out:  # the step was not run again
            found = operation.backward(grad, self.needs, out, *inputs)
        else:
            ends = Point(end.values[self.result], self.inputs(end))
            found = operation.average_backward(grad, self.needs, Point(out, inputs), ends)
        if recorded_at.get() is not None:
            node = program.nodes[self.result] if program.nodes else None
            moved = end is not start
            check_gradients(operation, node, self.needs, inputs, grad, found, average=moved)
        for slot, need, x, gradient in zip(self.slots, self.needs, inputs, found, strict=True):
            if need and gradient is not None:
                if gradient.shape != x.shape or gradient.dtype != x.dtype:
                    gradient = unbroadcast(gradient, x)
                # A leaf's gradient outlives the sweep, so its memory must be its own.
                kept = slot >= program.count and not operation.owns_gradients
                if kept and _shares(gradient, [*inputs, out, grad, *found]):
                    gradient = gradient.copy()
                if type(gradient) is np.ndarray and grads[slot] is None is places[slot]:
                    grads[slot] = gradient  # as `add` does; a call for each leaf takes longer
                else:
                    sweep.add(slot, gradient)


class Sweep(NamedTuple):
    """A reverse sweep between two runs: the slots' gradients, and destinations for some of them."""

    grads: Values
    places: Values
    start: Run
    end: Run
    program: Program

    def add(self, slot: int, gradient: Array) -> None:
        """Add to the gradient of a slot; the first one may already be in the slot's place."""
        known, place = self.grads[slot], self.places[slot]
        if known is not None:
            gradient = np.add(known, gradient, out=place)
        elif place is not None and gradient is not place:
            place[...] = gradient
            gradient = place
        self.grads[slot] = gradient if type(gradient) is np.ndarray else as_array(gradient)


class Program:
    """The operations that `root` depends on, or those of a recording, in the order of a run.

    Slot i holds the result of step i. The given leaves come next, then all other inputs of the
    steps. The root of a recording may be a leaf, and its sources include those of inputs that need
    no gradient.

    Attributes:
        count: The number of steps recorded.
        steps, backwards: The steps in the order of a run, and of a reverse sweep.
        result: The result's slot.
        leaves: The slots of each leaf, one for each array that it held in the recording.
        recorded: The run that was recorded.
    """

    def __init__(
        self,
        root: Any,
        recording: Sequence[Recorded] | None = None,
        leaves: Mapping[Any, Array] | None = None,
    ) -> None:
        order = topological_order(root) if type(root) is Node else {}
        self.nodes = list(order)
        if recording is None:
            recording = [(node, node.operation, node.parents) for node in self.nodes]
        self.count = len(recording)
        slot_of: dict[Any, int] = {node: i for i, (node, _, _) in enumerate(recording)}
        values, called = self.recorded = Run([node.out for node, _, _ in recording], {})
        self.leaves = known = dict[Any, list[int]]()
        self.steps: list[Step] = []
        for leaf, array in (leaves or {}).items():
            slot_of[leaf] = len(values)
            known[leaf] = [len(values)]
            values.append(array)
        for node, operation, sources in recording:
            slots = []
            for source, array in zip(sources, node.inputs):
                slot = slot_of.get(source)
                if slot is None or values[slot] is not array:
                    slot = len(values)
                    values.append(array)
                    if source is not None and type(source) is not Node:
                        slot_of[source] = slot
                        if source in known:
                            known[source].append(slot)
                        else:
                            known[source] = [slot]
                slots.append(slot)
            step = Step(operation, slots, node.needs, len(self.steps))
            called[step] = node.operation
            self.steps.append(step)
        self.result = slot_of[root]
        self.backwards = [self.steps[slot_of[node]] for node in reversed(order) if order[node]]

    def run(self, inputs: Values, start: Run | None = None, old: Values | None = None) -> Run:
        """Run forward from arrays for the slots of leaves and constants.

        With a `start`, the run reuses its operations, and its results where no input has changed or
        no gradient is needed: what a function computed inside `no_grad` is a constant of its graph.
        The arrays of `old` are dropped one by one as new ones replace them.
        """
        run = Run([None] * self.count + inputs, {} if start is None else start.called)
        for step in self.steps:
            if old is not None:
                step.release(old, run)
            arrays = step.inputs(run)
            if start is not None and (
                True not in step.needs or all(map(is_, arrays, step.inputs(start)))
            ):
                step.take_over(run, start)
            else:
                step.run(run, arrays)
        return run

    def sweep(
        self, seed: Array, start: Run, end: Run, places: Values | None = None, free: bool = False
    ) -> Values:
        """Pull `seed`, the result's gradient, back to the leaves; return their gradients by slot.

        Each gradient is in the slot's array in `places`, if there is one, else in its own memory.
        With `free`, the sweep drops the graph and the runs as it passes.
        """
        grads: Values = [None] * len(start.values)
        grads[self.result] = seed if self.result < self.count else seed.copy()
        sweep = Sweep(grads, places or [None] * len(grads), start, end, self)
        for step in self.backwards:
            grad, grads[step.result] = grads[step.result], None
            if grad is not None:
                step.pull(grad, sweep)
            if free:
                self.nodes[step.result].free()
                start.values[step.result] = end.values[step.result] = None
                del start.called[step], step.operation
        return grads

    def backward(self, seed: Array, retain_graph: bool) -> LeafArrays:
        """Return the gradient of each leaf, given the gradient of the result."""
        start = self.recorded
        return self._by_leaf(self.sweep(seed, start, start, free=not retain_graph))

    def average(
        self, path: Path, segments: int = 1, extrapolate: bool = False, retain_graph: bool = False
    ) -> tuple[Array, LeafArrays]:
        """Return the result at the end of a path, and each leaf's factorized average gradient.

        It is the mean over `segments` of the path. With `extrapolate`, it is combined with the mean
        over twice as many, as (4·fine - coarse)/3.

        Raises:
            NonFiniteError: The result at a segment's end is NaN or infinite; nothing was freed.
        """
        if extrapolate:
            _, coarse = self.average(path, segments, retain_graph=True)
            value, fine = self.average(path, 2 * segments, retain_graph=retain_graph)
            return value, {x: as_array((4 * fine[x] - grad) / 3) for x, grad in coarse.items()}
        start, total = self.recorded, LeafArrays()
        seed = np.ones_like(start.values[self.result])
        for i in range(1, segments + 1):
            end = self.moved_finite(path(i / segments))
            value = end.values[self.result]
            free = i == segments and not retain_graph
            for leaf, grad in self._by_leaf(self.sweep(seed, start, end, free=free)).items():
                total[leaf] = total[leaf] + grad if leaf in total else grad
            start = end
        if segments > 1:
            total = {leaf: as_array(grad / segments) for leaf, grad in total.items()}
        return value, total

    def moved_finite(self, ends: Mapping[Any, Array]) -> Run:
        """Return what `moved` does.

        Raises:
            NonFiniteError: The result is NaN or infinite.
        """
        run = self.moved(ends)
        value = run.values[self.result]
        finite = np.isfinite(value).all()
        if finite is not np.True_ and not holds(finite):
            raise NonFiniteError(
                f"average_backward: the value at the end of the updates is {value.item()}, so "
                "no average gradient exists; shorten the updates" + first_anomaly(self.steps, run)
            )
        return run

    def moved(self, ends: Mapping[Any, Array]) -> Run:
        """Run with other values for some of the leaves, the recorded values for the others.

        A leaf that was changed between two uses moves by the same update from each of its values.
        """
        recorded = self.recorded.values
        inputs = recorded[self.count :]
        for leaf in self.leaves.keys() & ends.keys():
            *earlier, last = self.leaves[leaf]
            inputs[last - self.count] = ends[leaf]
            for slot in earlier:
                inputs[slot - self.count] = recorded[slot] + (ends[leaf] - recorded[last])
        return self.run(inputs, self.recorded)

    def _by_leaf(self, grads: Values) -> LeafArrays:
        found: LeafArrays = {}
        for leaf, slots in self.leaves.items():
            for slot in reversed(slots):
                grad = grads[slot]
                if grad is not None:
                    found[leaf] = as_array(found[leaf] + grad) if leaf in found else grad
        return found

    def starts(self) -> LeafArrays:
        """Return the recorded array of each leaf, the last one if there were several."""
        return {leaf: self.recorded.values[slots[-1]] for leaf, slots in self.leaves.items()}

    def require_averages(self, run: Run | None = None) -> None:
        """Raise an AverageUndefinedError if an operation of a run has no averaged Jacobian."""
        called = (run or self.recorded).called
        for step in reversed(self.backwards):
            called[step].require_average()

    def free(self) -> None:
        """Free every node of the graph that no sweep has freed."""
        for step in self.backwards:
            node = self.nodes[step.result]
            if node.out is not None:
                node.free()


def _shares(gradient: Array, arrays: Sequence[Any]) -> bool:
    """Return whether a gradient occurs twice in the arrays, or may share memory with another.

    A read-only view counts as shared: it may be that of an element repeated.
    """
    on_host = isinstance(gradient, np.ndarray)
    owned, known = on_host and gradient.base is None, 0
    if on_host and not owned and not gradient.flags.writeable:
        return True
    for array in arrays:
        if array is gradient:
            known += 1
            if known > 1:
                return True
        # Others that are views of an array of its own are themselves copied.
        elif not owned and array is not None and np.may_share_memory(gradient, array):
            return True
    return False
