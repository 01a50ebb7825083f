"""The gradients of linear and multilinear operations, as operations of their own.

For y = f(x₁, …, xₖ), linear in each factor, ⟨λ, f(x₁, …, xₖ)⟩ is linear in λ as well, and the
gradient by xᵢ depends on λ and the other factors alone. Its own gradients are of the same form:
f itself, with another array in the place of xᵢ, and gradients by the other factors. So one class
gives such operations derivatives of every order.
"""

from typing import Any

import numpy as np

from agrad.backend import Array, scalar
from agrad.ops.operation import Apply, Gradients, Multilinear, Operation, owned
from agrad.ops.sums import unbroadcast

__all__ = ["Adjoint", "adjoint", "adjoints"]


class Adjoint(Multilinear):
    """The gradient by input i of an operation, given that of its output and the other inputs.

    Args:
        operation: Linear in each of `degree` inputs, by default one; its other inputs are labels,
            places or choices. Its backward must not use `out` or, for input i, the values of it.
        i: Which input.
        shape, dtype: Those of the input.
    """

    promotes = False

    def __init__(
        self, operation: Operation, i: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.operation, self.i = operation, owned(i)
        self.shape, self.dtype = owned(shape), dtype
        self.degree = getattr(operation, "degree", 1)

    def forward(self, grad: Array, *others: Array) -> Array:
        absent = np.broadcast_to(scalar(0, self.dtype, like=grad), self.shape)
        return self._gradient(self.i, grad, self._with(absent, others))

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        pulled, *others = inputs
        moved = self._with(grad, others)
        found = [self.operation.forward(*moved) if needs[0] else None]
        for j, need in zip(self._others(moved), needs[1:]):
            found.append(self._gradient(j, pulled, moved) if need else None)
        return found

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> list[Any]:
        pulled, *others = inputs
        moved = self._with(grad, others)
        found = [apply(self.operation, *moved) if needs[0] else None]
        for j, need in zip(self._others(moved), needs[1:]):
            found.append(adjoint(apply, self.operation, j, pulled, *moved) if need else None)
        return found

    def _gradient(self, i: int, grad: Array, inputs: tuple[Array, ...]) -> Array:
        needs = tuple(j == i for j in range(len(inputs)))
        gradient = self.operation.backward(grad, needs, grad, *inputs)[i]
        assert gradient is not None
        return unbroadcast(gradient, inputs[i])

    def _with(self, x: Any, others: Any) -> tuple[Any, ...]:
        """Return the inputs of the operation with x in the i-th place."""
        return (*others[: self.i], x, *others[self.i :])

    def _others(self, inputs: tuple[Any, ...]) -> list[int]:
        return [j for j in range(len(inputs)) if j != self.i]


def adjoint(apply: Apply, operation: Operation, i: int, grad: Any, *inputs: Any) -> Any:
    """Return the gradient of input i of an operation on Tensors, see `Adjoint`."""
    x = inputs[i]
    others = (*inputs[:i], *inputs[i + 1 :])
    return apply(Adjoint(operation, i, x.shape, x.dtype), grad, *others)


def adjoints(
    apply: Apply, operation: Operation, grad: Any, needs: tuple[bool, ...], *inputs: Any
) -> list[Any]:
    """Return the gradients that are needed of a multilinear operation on Tensors."""
    return [
        adjoint(apply, operation, i, grad, *inputs) if need else None
        for i, (_, need) in enumerate(zip(inputs, needs))
    ]
