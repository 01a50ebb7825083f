"""A dense layer and the activation after it, as one: each pass over memory does both one's work."""

from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.ops.activation import Looped
from agrad.ops.linalg import Affine
from agrad.ops.operation import Gradients, Point, midpoint

__all__ = ["Dense"]


class Dense:
    """An `Affine` with a bias, and a `Looped` activation of its result z that nothing else uses.

    It gives what the two operations do, bit for bit. It is not an operation: z is a second result,
    which the averaged Jacobian needs. All arrays are of one dtype, x and z matrices.
    """

    def __init__(self, affine: Affine, activation: Looped) -> None:
        self.affine = affine
        self.activation = activation

    def forward(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return z and the activation of it."""
        z = x @ weight.T
        return z, self.activation.loops(z).forward_biased(z, bias)

    def backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        out: Array,
        x: Array,
        weight: Array,
        rooms: list[Any],
    ) -> Gradients:
        """Return the gradients of x, weight and bias, each in its room if there is one."""
        loops = self.activation.loops(out)
        z_grad, bias_grad = loops.backward_biased(grad, out, rooms[2])
        return self._products(z_grad, bias_grad, needs, x, weight, rooms)

    def average_backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        start: Point,
        end: Point,
        z0: Array,
        z1: Array,
        rooms: list[Any],
    ) -> Gradients:
        """Return what `backward` does, through the averaged Jacobians."""
        (x0, weight0, _), (x1, weight1, _) = start.inputs, end.inputs
        loops = self.activation.loops(z0)
        z_grad, bias_grad = loops.average_backward_biased(
            grad, z0, start.out, z1, end.out, rooms[2]
        )
        x = midpoint(x0, x1) if needs[1] else x0
        weight = midpoint(weight0, weight1) if needs[0] else weight0
        return self._products(z_grad, bias_grad, needs, x, weight, rooms)

    @staticmethod
    def _products(
        z_grad: Array,
        bias_grad: Array,
        needs: tuple[bool, ...],
        x: Array,
        weight: Array,
        rooms: list[Any],
    ) -> Gradients:
        x_grad = np.matmul(z_grad, weight, out=rooms[0]) if needs[0] else None
        weight_grad = np.matmul(z_grad.T, x, out=rooms[1]) if needs[1] else None
        return x_grad, weight_grad, bias_grad
