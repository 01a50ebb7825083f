"""Dense layers fused with their activations and with each other: a pass between programs."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from copy import copy
from operator import is_
from typing import Any

import numpy as np

from agrad.backend import Array, is_array, joined, kernels
from agrad.core.flat import adjacent_view
from agrad.core.program import Program, Run, Step, Sweep, Values
from agrad.kernels.cpu import stack
from agrad.ops.activation import Looped
from agrad.ops.linalg import Affine
from agrad.ops.operation import midpoint

__all__ = ["DenseStep", "StackStep", "fuse_dense"]

_LARGEST_WEIGHT = 60_000
"""The elements of the largest weight in a stack. With 256 x 256 single layers are as fast."""


class DenseStep(Step):
    """An `Affine` with a bias, and the activation that is the only user of its result.

    It gives the same results as the two steps, bit for bit, in fewer passes over memory. Only
    averaged Jacobians need the value between the two; it is kept after the first average sweep.
    """

    __slots__ = ("between", "keeps", "loops", "matmul", "name")

    def __init__(self, affine: Step, activation: Step, like: Array) -> None:
        super().__init__(affine.operation, affine.slots, affine.needs, activation.result)
        self.between = affine.result
        self.keeps = False
        self.name: str = activation.operation.name  # type: ignore[attr-defined]
        self.loops = activation.operation.loops(like)  # type: ignore[attr-defined]
        self.matmul = kernels(like).product.matmul

    def run(self, run: Run, inputs: tuple[Array, ...]) -> None:
        x, weight, bias = inputs
        run.called[self] = self.operation
        z = self.matmul(x, weight.T)
        keeps = self.keeps  # another thread may set it
        if keeps:
            run.values[self.between] = z
        run.values[self.result] = self.loops.forward_biased(z, bias, in_place=not keeps)

    def release(self, old: Values, run: Run) -> None:
        super().release(old, run)
        old[self.between] = None

    def pull(self, grad: Array, sweep: Sweep) -> None:
        grads, places, start, end, _ = sweep
        to_x, to_weight, to_bias = self.slots
        x, weight, out = start.values[to_x], start.values[to_weight], start.values[self.result]
        place = places[to_bias] if grads[to_bias] is None else None
        if end.values[self.result] is out:
            z_grad, bias_grad = self.loops.backward_biased(grad, out, place)
        else:
            ends = self._between(end), end.values[self.result]
            z_grad, bias_grad = self.loops.average_backward_biased(
                grad, self._between(start), out, *ends, place
            )
            self.keeps = True
            # Only the gradients that are needed use the midpoints.
            x1, weight1 = end.values[to_x], end.values[to_weight]
            x = midpoint(x, x1) if self.needs[1] else x
            weight = midpoint(weight, weight1) if self.needs[0] else weight
        if self.needs[0]:
            place = places[to_x] if grads[to_x] is None else None
            sweep.add(to_x, self.matmul(z_grad, weight, out=place))
        if self.needs[1]:
            place = places[to_weight] if grads[to_weight] is None else None
            sweep.add(to_weight, self.matmul(z_grad.T, x, out=place))
        if self.needs[2]:
            sweep.add(to_bias, bias_grad)

    def _between(self, run: Run) -> Array:
        """Return the value between the two steps; compute it if the run did not keep it."""
        if run.values[self.between] is None:
            run.values[self.between] = self.operation.forward(*self.inputs(run))
        between: Array = run.values[self.between]
        return between


class StackStep(Step):
    """A chain of dense layers, each the only user of the one before it, in one call each way.

    The inputs are those of the first layer, then weight and bias of each layer. Results differ from
    those of the single steps in rounding: sums of products are taken in another order. They are the
    same at every call with the same number of threads.

    In a sweep, the place of the slot `between` receives the gradients of all parameters.
    """

    __slots__ = ("_wholes", "between", "keeps", "layers", "stack")

    def __init__(self, layers: Sequence[Step], values: Values) -> None:
        first, last = layers[0], layers[-1]
        slots, needs = [first.slots[0]], [first.needs[0]]
        for layer in layers:
            slots += layer.slots[1:]
            needs += layer.needs[1:]
        super().__init__(last.operation, slots, tuple(needs), last.result)
        self.between = first.result
        """The slot of a `_Kept`."""
        self.keeps = False
        self.layers = len(layers)
        widths = [values[slot].shape[1] for slot in (slots[0], *[step.result for step in layers])]
        names = [layer.name if isinstance(layer, DenseStep) else None for layer in layers]
        self.stack: stack.Stack = kernels(values[slots[0]]).stack.Stack(widths, names)
        self._wholes: list[tuple[tuple[Array, ...], Array]] = []
        """The parameters of the last runs, and the arrays that they are parts of."""

    def run(self, run: Run, inputs: tuple[Array, ...]) -> None:
        run.called[self] = self.operation
        spare = run.values[self.between]  # what `release` has left there
        run.values[self.result] = self._compute(run, inputs, self.keeps, spare)

    def take_over(self, run: Run, start: Run) -> None:
        super().take_over(run, start)
        run.values[self.between] = start.values[self.between]

    def release(self, old: Values, run: Run) -> None:
        """Leave the memory to `run`, unless a graph still needs the values in it."""
        super().release(old, run)
        kept, old[self.between] = old[self.between], None
        if kept is not None:
            values, others = kept.passed.values, weakref.ref(kept)
            del kept
            run.values[self.between] = values if others() is None else None

    def pull(self, grad: Array, sweep: Sweep) -> None:
        grads, places, start, end, _ = sweep
        x, *parameters = starts = self.inputs(start)
        moved = self._first_moved(starts, starts if end is start else self.inputs(end))
        averages = moved < self.layers
        self.keeps = self.keeps or averages
        here = self._passed(start, averages)
        there = self._passed(end, averages) if averages else here
        to_x, *to_parameters = self.slots
        whole = places[self.between]
        fresh = whole is None or any(grads[slot] is not None for slot in to_parameters)
        gradient = np.empty_like(x, shape=(self.stack.size,)) if fresh else whole
        x_grad = None
        if self.needs[0]:
            x_grad = places[to_x] if grads[to_x] is None else None
            x_grad = np.empty_like(x, order="C") if x_grad is None else x_grad
        self.stack.backward(
            np.ascontiguousarray(grad, like=grad), here, there, moved, gradient, x_grad
        )
        if fresh:
            stop = 0
            for slot, parameter in zip(to_parameters, parameters):
                first, stop = stop, stop + parameter.size
                sweep.add(slot, gradient[first:stop].reshape(parameter.shape))
        else:
            for slot in to_parameters:
                grads[slot] = places[slot]
        if x_grad is not None:
            sweep.add(to_x, x_grad)

    def _first_moved(self, starts: Sequence[Array], ends: Sequence[Array]) -> int:
        """Return the first layer that has moved, or whose inputs have; if none has, their number.

        The inputs of the first layer come first, then two arrays of each layer.
        """
        if starts is ends:
            return self.layers
        moved = (i for i, (a, b) in enumerate(zip(starts, ends)) if a is not b)
        return (max(next(moved, 2 * self.layers + 1), 1) - 1) // 2

    def _passed(self, run: Run, keep: bool) -> stack.Pass:
        """Return the pass of a run; compute it again if the run did not keep what is needed."""
        if keep and not run.values[self.between].passed.values.before.size:
            self._compute(run, self.inputs(run), keep)
        passed: stack.Pass = run.values[self.between].passed
        return passed

    def _compute(
        self, run: Run, inputs: tuple[Array, ...], keep: bool, spare: stack.Values | None = None
    ) -> Array:
        """Return the results of the last layer, and store the pass in the run."""
        x, *parameters = inputs
        whole = self._whole(parameters)
        out, passed = self.stack.forward(np.ascontiguousarray(x, like=x), whole, keep, spare)
        run.values[self.between] = _Kept(passed)
        return out

    def _whole(self, parameters: list[Array]) -> Array:
        """Return the parameters as one array: a view if they are adjacent, else a copy."""
        for i, (known, whole) in enumerate(self._wholes):
            if all(map(is_, parameters, known)):
                if i > 0:  # the other one goes if there is a third
                    self._wholes = self._wholes[::-1]
                return whole
        found = adjacent_view(parameters)
        if found is None:
            return joined(np.concatenate, [parameter.ravel() for parameter in parameters], 0)
        # The parameters at the start of a sweep and those at its end alternate.
        self._wholes = [(tuple(parameters), found), *self._wholes[:1]]
        return found


class _Kept:
    """The pass that a `StackStep` keeps; a weak reference tells whether any run still has it."""

    __slots__ = ("__weakref__", "passed")

    def __init__(self, passed: stack.Pass) -> None:
        self.passed = passed


def fuse_dense(program: Program) -> Program:
    """Return the program with dense layers fused: first with activations, then with each other.

    What the new program computes otherwise than the recording did is computed again in its recorded
    run, so that the first call gives the same results as later ones.
    """
    return _with_stacks(_with_activations(program))


def _with_activations(program: Program) -> Program:
    """Return the program with each dense layer and its activation fused into one step."""
    values = program.recorded.values
    users = Counter(slot for step in program.steps for slot in step.slots)
    fused: dict[Step, Any] = {}
    for step in program.steps:
        out, source = values[step.result], step.slots[0]
        affine = program.steps[source] if source < program.count else step
        if (
            isinstance(step.operation, Looped)
            and type(affine.operation) is Affine
            and len(affine.slots) == 3
            and users[affine.result] == 1
            and affine.result != program.result
            and out.ndim == 2
            and {values[slot].dtype for slot in affine.slots} == {out.dtype}
            and out.dtype in (np.float32, np.float64)
        ):
            # In the affine step's place: no other step uses the value between.
            joint = DenseStep(affine, step, like=out)
            program.recorded.called[joint] = joint.operation
            fused |= {affine: joint, step: None}
    return _replaced(program, fused)


def _with_stacks(program: Program) -> Program:
    """Return the program with chains of dense layers fused, and its recorded run updated."""
    run = program.recorded
    users = Counter(slot for step in program.steps for slot in step.slots)
    stacks: dict[int, list[Step]] = {}  # by the slot of the last layer's result
    for step in program.steps:
        if not _fits_a_stack(step, run.values):
            continue
        source = step.slots[0]
        below = stacks.get(source)
        if (
            below is not None
            and users[source] == 1
            and source != program.result
            and below[-1].needs[1:] == step.needs[1:]
        ):
            stacks[step.result] = [*stacks.pop(source), step]
        else:
            stacks[step.result] = [step]
    fused: dict[Step, Step | None] = {}
    for layers in stacks.values():
        if len(layers) > 1:
            # In the last layer's place: no other step uses the results of the others.
            fused |= dict.fromkeys(layers) | {layers[-1]: StackStep(layers, run.values)}
    new = _replaced(program, fused)
    for layer in fused:
        run.values[layer.result] = None
        if isinstance(layer, DenseStep):
            run.values[layer.between] = None
    changed = set[int]()
    for step in new.steps:
        if isinstance(step, StackStep) or not changed.isdisjoint(step.slots):
            if isinstance(step, DenseStep):
                run.values[step.between] = None
            step.run(run, step.inputs(run))
            changed.add(step.result)
    return new


def _fits_a_stack(step: Step, values: Values) -> bool:
    """Return whether a step is a dense layer that the kernels of stacks can compute."""
    if not isinstance(step, DenseStep) and (
        type(step.operation) is not Affine or len(step.slots) != 3
    ):
        return False
    arrays = [values[slot] for slot in (*step.slots, step.result)]
    return (
        all(is_array(array) and array.dtype == np.float32 for array in arrays)
        and arrays[0].ndim == 2
        and all(array.size > 0 for array in arrays)
        and arrays[1].size <= _LARGEST_WEIGHT
        and (step.needs[1:] == (True, True) or True not in step.needs)
    )


def _replaced(program: Program, fused: dict[Step, Any]) -> Program:
    """Return the program with some steps replaced, or dropped if their replacement is None."""
    new = copy(program)
    new.steps, new.backwards = (
        [made for step in steps if (made := fused.get(step, step)) is not None]
        for steps in (program.steps, program.backwards)
    )
    return new
