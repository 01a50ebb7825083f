"""The subject of a check: a function of Tensors, its leaves, and their values."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array
from agrad.core.context import no_grad
from agrad.core.program import Program
from agrad.core.tensor import Tensor, apply, averages_along, plain, values_restored
from agrad.nn import Module
from agrad.ops.operation import Operation
from agrad.testing.layout import has_own_elements, seen_as
from agrad.testing.report import CheckError

__all__ = ["Subject", "fresh_gradients", "swept_average"]


class Subject:
    """A function at its inputs.

    Args:
        owner: The name of the check, for error messages.
        f: A function of Tensors, a Module or an Operation.
        inputs: The arguments of f. Floating-point arrays and numbers become leaves, and so do
            Tensors that require a gradient; other arguments are passed unchanged. f receives each
            in the memory layout it has here, unless its elements share memory.

    Attributes:
        leaves: The leaves by name: inputs and, for a Module, parameters.
        dtype: The dtype of the result, to which the leaves' dtypes promote.
        is_single: Whether a leaf is float32.

    Raises:
        TypeError: `f` is not callable.
        ValueError: Nothing requires a gradient, or an input is the result of a recorded operation.
    """

    def __init__(
        self, owner: str, f: Callable[..., Tensor] | Operation, inputs: Sequence[Any]
    ) -> None:
        self.owner = owner
        self.leaves: dict[str, Tensor] = {}
        if isinstance(f, Operation):
            f = partial(apply, f)
        if isinstance(f, type) or not callable(f):
            raise TypeError(
                f"{owner}: f must be a function of Tensors, a Module or an Operation, got {f!r}"
            )
        self._layouts: dict[Tensor, Array] = {}
        self._arguments = [self._argument(f"input {i}", value) for i, value in enumerate(inputs)]
        self._f = f
        self._buffers: list[Tensor] = []
        if isinstance(f, Module):
            self._buffers = list(f.buffers())
            for name, parameter in f.named_parameters():
                if parameter.requires_grad:
                    self.leaves[f"parameter {name}"] = parameter
        if not self.leaves:
            raise ValueError(
                f"{owner}: no input requires a gradient; pass float64 or float32 arrays, or "
                "Tensors with requires_grad=True"
            )
        dtypes = [leaf.dtype for leaf in self.leaves.values()]
        self.dtype = np.result_type(*dtypes)
        self.is_single = np.float32 in dtypes

    def _argument(self, name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            tensor, array = value, value.data
        else:
            array = np.asarray(value)
            if array.dtype.kind != "f":
                return value
            tensor = Tensor(array, requires_grad=array.dtype in (np.float32, np.float64))
        if not tensor.is_leaf:
            raise ValueError(f"{self.owner}: {name} is computed, not a leaf; pass x.detach()")
        if has_own_elements(array):
            self._layouts[tensor] = array
        # A Tensor passed twice is one leaf.
        if tensor.requires_grad and not any(tensor is leaf for leaf in self.leaves.values()):
            self.leaves[name] = tensor
        return tensor

    @property
    def values(self) -> list[Array]:
        """The leaves' arrays."""
        return [leaf.data for leaf in self.leaves.values()]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the values of the leaves and of a Module's buffers after the block."""
        buffers = [(buffer, buffer.data.copy()) for buffer in self._buffers]
        try:
            with values_restored([*self.leaves.values()]):
                yield
        finally:
            for buffer, values in buffers:
                buffer.writable()[...] = values

    def in_double(self) -> "Subject":
        """Return the same function of float64 copies of its inputs, parameters and buffers."""
        copies: dict[Tensor, Tensor] = {}

        def double(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.dtype.kind != "f":
                return value
            if value not in copies:
                copies[value] = Tensor(value.data, value.requires_grad, np.float64)
            return copies[value]

        f = self._f
        if isinstance(f, Module):
            f = copy.deepcopy(f).to("float64")
        twin = Subject(self.owner, f, [double(value) for value in self._arguments])
        twin._layouts = {copies.get(value, value): like for value, like in self._layouts.items()}
        return twin

    def record(self) -> Tensor:
        """Call the function and return its result.

        Raises:
            CheckError: The function changes an array that its graph needs.
            TypeError: The result is not a Tensor of the inputs' dtype.
        """
        try:
            out = self._f(*self._seen())
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            where = "; ".join(getattr(error, "__notes__", ["outside of any operation"]))
            raise CheckError(
                f"{self.owner}: f changes an array in place although the graph needs it: {where}"
            ) from error
        if not isinstance(out, Tensor):
            raise TypeError(f"{self.owner}: f returned a {type(out).__name__}, not a Tensor")
        if out.dtype != self.dtype:
            raise TypeError(
                f"{self.owner}: f returned {out.dtype} for {self.dtype} inputs; rounding after a "
                "conversion hides its gradient: make it compute in the dtype of its inputs"
            )
        return out

    def _seen(self) -> list[Any]:
        """Return the arguments as f sees them."""
        return [
            seen_as(value, self._layouts[value])
            if isinstance(value, Tensor) and value in self._layouts
            else value
            for value in self._arguments
        ]

    def record_twice(self) -> Tensor:
        """Call the function twice and return the result.

        Raises:
            CheckError: The function changes an argument in place.
            ValueError: The results differ or are not finite.
        """
        given = [
            (name, plain(value), np.array(plain(value)))
            for name, value in self._named()
            if isinstance(value, Tensor | np.ndarray)
        ]
        first = self.record().data.copy()
        for name, array, before in given:
            if not np.array_equal(array, before, equal_nan=array.dtype.kind == "f"):
                raise CheckError(f"{self.owner}: f changes {name} in place")
        out = self.record()
        if not np.isfinite(first).all():
            raise ValueError(f"{self.owner}: f is not finite at these inputs; check it elsewhere")
        if first.shape != out.shape or (first != out.data).any():
            raise ValueError(
                f"{self.owner}: two calls of f gave different values; a check needs a function "
                "without randomness (for a Module with Dropout, call eval() first)"
            )
        return out

    def _named(self) -> Iterator[tuple[str, Any]]:
        yield from ((f"input {i}", value) for i, value in enumerate(self._arguments))
        yield from self.leaves.items()

    def evaluate(self, values: Sequence[Array]) -> Array:
        """Return the value of the function at the given values of the leaves."""
        self.move(values)
        with no_grad():
            return self._f(*self._seen()).data

    def move(self, values: Sequence[Array]) -> None:
        """Set the values of the leaves; `restored` undoes this."""
        for leaf, array in zip(self.leaves.values(), values, strict=True):
            own = np.empty_like(leaf.data)  # in the leaf's memory order
            own[...] = array
            leaf.data = own

    def gradients(self, loss: Tensor, cotangent: Array) -> list[Array]:
        """Return the gradient of ⟨cotangent, loss⟩ for each leaf, zeros if it has none."""
        if not loss.requires_grad:
            return [np.zeros(leaf.shape) for leaf in self.leaves.values()]
        with fresh_gradients(loss):
            loss.backward(cotangent)
            return [
                np.zeros(leaf.shape) if leaf.grad is None else leaf.grad
                for leaf in self.leaves.values()
            ]


@contextmanager
def fresh_gradients(loss: Tensor) -> Iterator[None]:
    """Clear the gradients of all leaves of `loss` inside the block, and restore them after it."""
    recorded = [] if loss.node is None else Program(loss.node).leaves
    leaves: list[Tensor] = [loss, *recorded]
    kept = [(leaf.grad, leaf.average_grad) for leaf in leaves]
    for leaf in leaves:
        leaf.zero_grad()
    try:
        yield
    finally:
        for leaf, (grad, average_grad) in zip(leaves, kept, strict=True):
            leaf.grad, leaf.average_grad = grad, average_grad


def swept_average(
    loss: Tensor, leaves: Sequence[Tensor], update: Mapping[Tensor, ArrayLike], **path: Any
) -> tuple[Array, dict[Tensor, Array]]:
    """Return the loss at the end of the update, and ĝ of each leaf, zeros if it has none."""
    end, averages = averages_along(loss, update, **path)
    return end, {leaf: averages.get(leaf, np.zeros(leaf.shape)) for leaf in leaves}
