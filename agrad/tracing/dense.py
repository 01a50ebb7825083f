"""Dense layers fused with their activations: a pass from program to program."""

from __future__ import annotations

from collections import Counter
from copy import copy
from typing import Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.program import Program, Run, Step, Sweep
from agrad.ops.activation import Looped
from agrad.ops.linalg import Affine
from agrad.ops.operation import midpoint

__all__ = ["DenseStep", "fuse_dense"]


class DenseStep(Step):
    """An `Affine` with a bias, and the activation that alone uses its result.

    It gives the same results as the two steps, bit for bit, in fewer passes over memory. Only
    averaged Jacobians need the value between the two; it is kept after the first average sweep.
    """

    __slots__ = ("between", "keeps", "loops", "matmul")

    def __init__(self, affine: Step, activation: Step, like: Array) -> None:
        super().__init__(affine.operation, affine.slots, affine.needs, activation.result)
        self.between = affine.result
        self.keeps = False
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

    def pull(self, grad: Array, sweep: Sweep) -> None:
        grads, places, start, end, _ = sweep
        to_x, to_weight, to_bias = self.slots
        x, weight, out = start.values[to_x], start.values[to_weight], start.values[self.result]
        place = places[to_bias] if grads[to_bias] is None else None
        if end is start or self in end.reused:
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


def fuse_dense(program: Program) -> Program:
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
    new = copy(program)
    new.steps = [made for step in program.steps if (made := fused.get(step, step)) is not None]
    new.backwards = [
        made for step in program.backwards if (made := fused.get(step, step)) is not None
    ]
    return new
