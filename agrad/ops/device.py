"""Devices: from one to another, and never two in one operation."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, device_of, move
from agrad.errors import DeviceError
from agrad.gpu import cuda
from agrad.ops.operation import Apply, Gradients, Linear, Operation

__all__ = ["HOST", "Move", "require_one_device"]

HOST = frozenset([np.ndarray])
"""The types of the arrays in the computer's own memory, of which any may go together."""


class Move(Linear):
    """The same elements on another device; gradients come back to where the elements were."""

    def __init__(self, device: str) -> None:
        self.device = device

    def forward(self, x: Array) -> Array:
        return move(x, self.device)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (move(grad, device_of(x)),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (apply(Move(x.device), grad),)


def require_one_device(operation: Operation, arrays: tuple[Array, ...]) -> None:
    """Raise a DeviceError unless an operation's inputs are all where it can be computed."""
    name = type(operation).__name__
    devices = [device_of(array) for array in arrays]
    if len(set(devices)) > 1:
        names = list(inspect.signature(operation.forward).parameters)
        if len(names) < len(arrays):
            names = [f"{names[-1]}[{i}]" for i in range(len(arrays))]
        places = ", ".join(f"{argument} is on {device}" for argument, device in zip(names, devices))
        raise DeviceError(f"{name}: {places}; move them to one device with .to()")
    if devices[0] != "cpu" and type(operation) is not Move:
        cuda.require_current(name, arrays[0])
