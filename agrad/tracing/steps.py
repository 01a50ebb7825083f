"""The steps of a plan: single operations, and what is joined to run as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, as_array, kernels
from agrad.core.sweep import unbroadcast
from agrad.core.tensor import compute
from agrad.ops.activation import Looped
from agrad.ops.linalg import Affine
from agrad.ops.operation import Gradients, Operation, Point, midpoint

__all__ = ["DenseStep", "Step", "Values", "join_dense"]

Values = list[Any]
"""An array, or None, for each slot of a plan."""


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

    def moves(self, start: Values, end: Values) -> bool:
        """Return whether an input is another array at the end."""
        return any(start[slot] is not end[slot] for slot in self.slots)

    def pull(
        self, grads: Values, rooms: Values, values: Values, called: dict[Step, Operation]
    ) -> None:
        """Take the result's gradient out of `grads`, and add the inputs' gradients.

        `rooms` has arrays that a gradient may be put into, which saves a copy of it later.
        """
        grad, grads[self.result] = as_array(grads[self.result]), None
        inputs, out = self._inputs(values), values[self.result]
        self._add(called[self].backward(grad, self.needs, out, *inputs), grads, values)

    def average_pull(
        self,
        grads: Values,
        rooms: Values,
        before: Values,
        after: Values,
        called: dict[Step, Operation],
    ) -> None:
        """Do what `pull` does, through the averaged Jacobian."""
        grad, grads[self.result] = as_array(grads[self.result]), None
        start, end = (Point(part[self.result], self._inputs(part)) for part in (before, after))
        self._add(called[self].average_backward(grad, self.needs, start, end), grads, before)

    def _inputs(self, values: Values) -> tuple[Array, ...]:
        return tuple([values[slot] for slot in self.slots])

    def _add(self, gradients: Gradients, grads: Values, values: Values) -> None:
        for slot, need, gradient in zip(self.slots, self.needs, gradients):
            if need and gradient is not None:
                _add(grads, slot, unbroadcast(gradient, values[slot]))


class DenseStep(Step):
    """An `Affine` with a bias and the `Looped` activation of its result, which nothing else uses.

    It gives what the two steps do, bit for bit, in fewer passes over memory. What is between the
    two is kept from the first average sweep on: nothing but averaged Jacobians needs it.
    """

    def __init__(self, affine: Step, activation: Step, like: Array) -> None:
        super().__init__(affine.operation, affine.slots, affine.needs, activation.result)
        self.between = affine.result
        self.kept = False
        self.loops = activation.operation.loops(like)  # type: ignore[attr-defined]
        self.matmul = kernels(like).product.matmul

    def run(self, values: Values, called: dict[Step, Operation]) -> None:
        x, weight, bias = self.slots
        z = self.matmul(values[x], values[weight].T)
        if self.kept:
            values[self.between] = z
        values[self.result] = self.loops.forward_biased(z, values[bias], in_place=not self.kept)

    run_again = run

    def pull(
        self, grads: Values, rooms: Values, values: Values, called: dict[Step, Operation]
    ) -> None:
        x, weight, bias = self.slots
        grad, grads[self.result] = grads[self.result], None
        z_grad, bias_grad = self.loops.backward_biased(
            grad, values[self.result], _room(rooms, grads, bias)
        )
        self._add_products(z_grad, bias_grad, values[x], values[weight], grads, rooms)

    def average_pull(
        self,
        grads: Values,
        rooms: Values,
        before: Values,
        after: Values,
        called: dict[Step, Operation],
    ) -> None:
        x, weight, bias = self.slots
        grad, grads[self.result] = grads[self.result], None
        z_grad, bias_grad = self.loops.average_backward_biased(
            grad,
            self._between(before),
            before[self.result],
            self._between(after),
            after[self.result],
            _room(rooms, grads, bias),
        )
        self.kept = True
        # The midpoints only of what a gradient is wanted through.
        middle_x = midpoint(before[x], after[x]) if self.needs[1] else before[x]
        middle = midpoint(before[weight], after[weight]) if self.needs[0] else before[weight]
        self._add_products(z_grad, bias_grad, middle_x, middle, grads, rooms)

    def _between(self, values: Values) -> Array:
        """Return what the activation was computed of, anew if it has not been kept."""
        x, weight, bias = self.slots
        if values[self.between] is None:
            inputs = values[x], values[weight], values[bias]
            values[self.between] = self.operation.forward(*inputs)
        return values[self.between]

    def _add_products(
        self,
        z_grad: Array,
        bias_grad: Array,
        x: Array,
        weight: Array,
        grads: Values,
        rooms: Values,
    ) -> None:
        to_x, to_weight, to_bias = self.slots
        if self.needs[0]:
            _add(grads, to_x, self.matmul(z_grad, weight, out=_room(rooms, grads, to_x)))
        if self.needs[1]:
            room = _room(rooms, grads, to_weight)
            _add(grads, to_weight, self.matmul(z_grad.T, x, out=room))
        if self.needs[2]:
            _add(grads, to_bias, bias_grad)


def _room(rooms: Values, grads: Values, slot: int) -> Array | None:
    """Return where the slot's gradient may be put; not over what it is to be added to."""
    return rooms[slot] if grads[slot] is None else None


def _add(grads: Values, slot: int, gradient: Array) -> None:
    known = grads[slot]
    grads[slot] = gradient if known is None else known + gradient


def join_dense(
    steps: list[Step], result: int, values: Sequence[Array]
) -> dict[Step, DenseStep | None]:
    """Return for each step of a dense layer that runs as one: the joint step, or None."""
    users = Counter(slot for step in steps for slot in step.slots)
    made = {step.result: step for step in steps}
    joined: dict[Step, DenseStep | None] = {}
    for step in steps:
        affine = made.get(step.slots[0])
        out = values[step.result]
        if (
            isinstance(step.operation, Looped)
            and affine is not None
            and type(affine.operation) is Affine
            and len(affine.slots) == 3
            and users[affine.result] == 1
            and affine.result != result
            and out.ndim == 2
            and {values[slot].dtype for slot in affine.slots} == {out.dtype}
            and out.dtype in (np.float32, np.float64)
        ):
            # In the affine step's place: nothing else waits for what is between.
            joined |= {affine: DenseStep(affine, step, like=out), step: None}
    return joined
