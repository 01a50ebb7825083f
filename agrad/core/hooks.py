"""Hooks on gradients: functions that see, and may replace, the gradient of a Tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from agrad.backend import Array, beside, is_array
from agrad.errors import AverageUndefinedError, CaptureError
from agrad.gpu.deferred import is_deferring
from agrad.ops.operation import Apply, Gradients, Operation, Point

__all__ = ["Hook", "Hooked", "RemovableHandle", "require_hook", "unhooked"]

Hook = Callable[[Any], Any]
"""Takes a gradient; returns None or another gradient of its shape."""


class RemovableHandle:
    """Removes a hook from the object that it is registered on.

    In a `with` statement it removes the hook at the end of the block.
    """

    def __init__(self, owner: Any, attribute: str) -> None:
        self._owner, self._attribute = owner, attribute

    def add(self, hook: Callable[..., Any]) -> Self:
        """Register the hook that this handle removes."""
        # The owner's dict is replaced, not changed: a sweep or a call may be going through it.
        setattr(self._owner, self._attribute, {**self._hooks(), self: hook})
        return self

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        rest = {handle: hook for handle, hook in self._hooks().items() if handle is not self}
        setattr(self._owner, self._attribute, rest)

    def _hooks(self) -> Mapping[RemovableHandle, Any]:
        hooks: Mapping[RemovableHandle, Any] = getattr(self._owner, self._attribute)
        return hooks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Hooked(Operation):
    """An operation of a graph whose result's gradient goes through hooks first.

    Attributes:
        operation: The operation as it was called.
        hooks: The hooks by their handles, in the order of registration.
    """

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.owns_gradients = operation.owns_gradients
        self.hooks: Mapping[RemovableHandle, Hook] = {}

    def forward(self, *inputs: Array) -> Array:
        return self.operation.forward(*inputs)

    def hooked(self, grad: Any) -> Any:
        """Return a gradient, an array or a recorded Tensor, as the hooks leave it.

        Raises:
            ValueError: A hook returns a gradient of another shape.
            TypeError: It returns no Tensor for a recorded gradient.
            CaptureError: The step is being recorded as a CUDA graph, which runs no Python.
        """
        if self.hooks and is_deferring():
            raise CaptureError("register_hook: a CUDA graph cannot call the hook of a Tensor")
        for hook in self.hooks.values():
            replaced = hook(grad)
            if replaced is None:
                continue
            if is_array(grad):
                # A copy: a leaf may keep it as its gradient.
                name = "the hook's gradient"
                replaced = beside("register_hook", name, replaced, grad, grad.dtype).copy()
            elif not isinstance(replaced, type(grad)):
                raise TypeError(
                    "register_hook: with create_graph the hook must return None or a Tensor, got a "
                    f"{type(replaced).__name__}"
                )
            if replaced.shape != grad.shape:
                raise ValueError(
                    f"register_hook: the hook returned a gradient of shape {replaced.shape} for "
                    f"one of shape {grad.shape}"
                )
            grad = replaced
        return grad

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        return self.operation.backward(self.hooked(grad), needs, out, *inputs)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        return self.operation.recorded_backward(apply, self.hooked(grad), needs, out, *inputs)

    def require_average(self) -> None:
        if self.hooks:
            raise AverageUndefinedError(
                f"{type(self.operation).__name__}: a hook is registered on its result. A changed "
                "average gradient would not explain the change of the value, so hooks run in "
                "ordinary backward passes alone; remove it before average_backward"
            )
        self.operation.require_average()

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        self.require_average()
        return self.operation.average_backward(grad, needs, start, end)


def unhooked(operation: Operation) -> Operation:
    """Return the operation itself, without its hooks."""
    return operation.operation if isinstance(operation, Hooked) else operation


def require_hook(name: str, hook: Any) -> None:
    """Raise a TypeError unless a hook can be called."""
    if not callable(hook):
        raise TypeError(f"{name}: hook must be callable, got a {type(hook).__name__}")
