"""Backward hooks of modules: the gradients that they see of one call."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from agrad.core.context import is_grad_enabled, recorder
from agrad.core.hooks import RemovableHandle
from agrad.core.tensor import Tensor
from agrad.errors import CaptureError

__all__ = ["BackwardHook", "WatchedCall"]

BackwardHook = Callable[[Any, tuple[Any, ...], tuple[Any, ...]], Any]
"""Takes a module, the gradients of a call's inputs and those of its outputs; returns None or other
gradients of the inputs."""


class WatchedCall:
    """One call of a module with backward hooks, between copies of its inputs and of its outputs.

    The copies are views in the graph, whose gradients are those of this call alone.

    Args:
        module: The module.
        hooks: Its hooks; hooks that are added or removed later do not count.

    Raises:
        CaptureError: The call is being captured.
    """

    def __init__(self, module: Any, hooks: Mapping[RemovableHandle, BackwardHook]) -> None:
        self._module, self._hooks = module, hooks
        self._name = f"{type(module).__name__}: a backward hook"
        if recorder.get() is not None:
            raise CaptureError(
                f"capture: {self._name} is registered, which replays would not call; remove it, or "
                "leave the model uncaptured, with capture=False"
            )
        self._inputs = self._outputs = 0
        self._shapes: dict[int, tuple[int, ...]] = {}  # of the inputs that require a gradient
        self._found: dict[int, Any] = {}

    def enter(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs for the module."""
        self._inputs = len(inputs)
        wanted = {i: x for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad}
        if not wanted or not is_grad_enabled():
            return inputs
        self._shapes = {i: x.shape for i, x in wanted.items()}
        if len({x.dtype for x in wanted.values()}) > 1:
            raise TypeError(f"{self._name} needs inputs of one dtype")
        # As a single Tensor, all inputs get their gradients at the same time.
        whole = _as_one(list(wanted.values()))
        whole.register_hook(self._entered)
        parts = self._parts(whole)
        return tuple(parts.get(i, x) for i, x in enumerate(inputs))

    def leave(self, output: Any) -> Any:
        """Return the output for the caller."""
        if not is_grad_enabled():
            return output
        outputs = output if isinstance(output, tuple) else (output,)
        if not all(isinstance(out, Tensor) for out in outputs):
            kinds = ", ".join(type(out).__name__ for out in outputs)
            raise TypeError(f"{self._name} needs a Tensor or a tuple of Tensors, got {kinds}")
        if len(outputs) > 1 and not self._shapes:
            raise TypeError(
                f"{self._name} needs an input that requires a gradient, or a single output"
            )
        self._outputs = len(outputs)
        copies = []
        for i, out in enumerate(outputs):
            copies.append(out.reshape(out.shape) if out.requires_grad else out)
            if out.requires_grad:
                copies[i].register_hook(partial(self._left, i))
        return tuple(copies) if isinstance(output, tuple) else copies[0]

    def _left(self, i: int, grad: Any) -> None:
        self._found[i] = grad
        if not self._shapes:
            self._call({})

    def _entered(self, grad: Any) -> Any:
        known = self._parts(grad)
        replaced = self._call(known)
        return None if replaced is None else _as_one([replaced[i] for i in known])

    def _call(self, known: dict[int, Any]) -> dict[int, Any] | None:
        """Call the hooks; return the gradients of the inputs if a hook has replaced them."""
        outputs = tuple(self._found.get(i) for i in range(self._outputs))
        self._found = {}  # another sweep of the graph finds its own
        changed = None
        for hook in self._hooks.values():
            inputs = tuple((changed or known).get(i) for i in range(self._inputs))
            replaced = hook(self._module, inputs, outputs)
            if replaced is not None:
                changed = self._checked(replaced, known)
        return changed

    def _checked(self, replaced: Any, known: dict[int, Any]) -> dict[int, Any]:
        grads = replaced if isinstance(replaced, tuple) else (replaced,)
        shapes = [None if grad is None else np.shape(grad) for grad in grads]
        wanted = [self._shapes.get(i) for i in range(self._inputs)]
        if shapes != wanted:
            raise ValueError(
                f"{self._name} returned gradients of shapes {shapes}, the inputs have {wanted}"
            )
        return {i: grads[i] for i in known}

    def _parts(self, whole: Any) -> dict[int, Any]:
        """Split what `_as_one` returned into its parts, by the numbers of the inputs."""
        if len(self._shapes) == 1:
            return dict.fromkeys(self._shapes, whole)
        ends = [*accumulate((int(np.prod(shape)) for shape in self._shapes.values()), initial=0)]
        return {
            i: whole[begin:end].reshape(shape)
            for (i, shape), begin, end in zip(self._shapes.items(), ends, ends[1:])
        }


def _as_one(parts: list[Any]) -> Any:
    """Return a view of a single array or Tensor, or all elements of several."""
    if len(parts) == 1:
        return parts[0].reshape(parts[0].shape)
    return np.concatenate([part.reshape(-1) for part in parts])
