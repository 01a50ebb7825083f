"""What the optimizers share: their parameters, their states, and how an update is applied."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agrad.backend import Array, as_array, device_of, kernels, move, same_device
from agrad.errors import DeviceError, NonFiniteError
from agrad.optim.state import require_array, require_count, require_dict
from agrad.tensor import Tensor

__all__ = [
    "Optimizer",
    "Slot",
    "checked_params",
    "require",
    "require_finite_gradients",
    "with_decay",
]

# What makes an integer too large is no infinity, but its conversion to float would raise.
_LARGEST = sys.float_info.max


@dataclass(slots=True, eq=False)
class Slot:
    """A parameter, the number of steps it has made, and the rule's arrays for it, by name."""

    param: Tensor
    steps: int = 0
    state: dict[str, Array] = field(default_factory=dict)


class Optimizer:
    """A rule that proposes an update of the parameters from their gradients.

    A subclass defines `_begin`, the arrays it keeps for a parameter, and `_rule`, the update. Every
    rule's update is proportional to the learning rate.

    Args:
        params: the Tensors to train, leaves that require a gradient, none of them twice.
        lr: the learning rate.

    Attributes:
        lr: the learning rate, to read and to set.
        scale: the factor on it that a schedule sets.

    Raises:
        TypeError: `params` is no iterable of Tensors.
        ValueError: an argument is out of its range; no parameters; one that is twice there, is no
            leaf or requires no gradient.
    """

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self._slots = [Slot(param) for param in checked_params(self._name, params)]
        self.lr = lr
        self.scale = 1.0

    # -- a rule ------------------------------------------------------------------------------------

    def _begin(self, param: Tensor) -> dict[str, Array]:
        """Return the arrays to keep for `param`, as they are before its first step."""
        return {}

    def _rule(self, slot: Slot, grad: Array) -> Array:
        """Return the update as a new C-contiguous array, and bring the slot's state up to date.

        `slot.steps` counts this step already.
        """
        raise TypeError(f"{self._name}: the optimizer defines no rule")

    # -- its use -----------------------------------------------------------------------------------

    @property
    def params(self) -> tuple[Tensor, ...]:
        """The parameters, in the order given."""
        return tuple(slot.param for slot in self._slots)

    @property
    def lr(self) -> float:
        """The learning rate, before a schedule's factor."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        require(self._name, "not be negative", lambda x: x >= 0, lr=value)
        self._lr = float(value)

    @property
    def rate(self) -> float:
        """The learning rate in force, lr · scale."""
        return self._lr * self.scale

    def zero_grad(self) -> None:
        """Forget the gradients and average gradients of the parameters."""
        for slot in self._slots:
            slot.param.zero_grad()

    def step(self) -> None:
        """Update the parameters that have a gradient.

        Raises:
            ValueError: a gradient is not of its parameter's shape and dtype; nothing has changed.
            DeviceError: a gradient or the rule's state is not where its parameter is.
        """
        for slot in self._ready():
            _move(slot.param, self._propose(slot))

    def propose(self) -> dict[Tensor, Array]:
        """Return the update of each parameter that has a gradient, without applying it.

        The rule's own state moves on as in `step`. The arrays are the caller's, to be changed and
        handed to `apply`.

        Raises:
            ValueError: a gradient is not of its parameter's shape and dtype; nothing has changed.
        """
        return {slot.param: self._propose(slot) for slot in self._ready()}

    @staticmethod
    def apply(updates: Mapping[Tensor, Array]) -> None:
        """Add the updates to their parameters."""
        for param, delta in updates.items():
            _move(param, delta)

    def _ready(self) -> list[Slot]:
        """Return the slots whose parameters have a gradient, each of which fits."""
        ready = [slot for slot in self._slots if slot.param.grad is not None]
        for slot in ready:
            data, grad = slot.param.data, slot.param.grad
            if grad.shape != data.shape or grad.dtype != data.dtype:  # type: ignore[union-attr]
                raise ValueError(
                    f"{self._name}: parameter {self._slots.index(slot)} is {data.dtype}"
                    f"{list(data.shape)}, its grad {grad.dtype}{list(grad.shape)}"  # type: ignore[union-attr]
                )
            for name, array in (("grad", grad), *slot.state.items()):
                if not same_device(array, data):  # type: ignore[arg-type]
                    raise DeviceError(
                        f"{self._name}: parameter {self._slots.index(slot)} is on "
                        f"{device_of(data)}, its {name} on {device_of(array)}; make the optimizer "
                        "after the model has been moved"
                    )
        return ready

    def _propose(self, slot: Slot) -> Array:
        if slot.steps == 0:
            slot.state = self._begin(slot.param)
        slot.steps += 1
        return self._rule(slot, slot.param.grad)  # type: ignore[arg-type]

    # -- its state ---------------------------------------------------------------------------------

    @property
    def state_bytes(self) -> int:
        """The size of the arrays kept from one step to the next."""
        return sum(array.nbytes for slot in self._slots for array in slot.state.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the learning rate and copies of the state's arrays, for `agrad.save`.

        The rule's other arguments, and the factor that a schedule sets, are not in it.
        """
        slots = {
            str(i): {"steps": slot.steps, **{k: array.copy() for k, array in slot.state.items()}}
            for i, slot in enumerate(self._slots)
            if slot.steps
        }
        return {"lr": self.lr, "parameters": slots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state_dict` returned, of the same rule over like parameters.

        Raises:
            ValueError: it belongs to another rule or other parameters, or is no state; nothing has
                changed.
            TypeError: its learning rate is no number; nothing has changed.
        """
        if require_dict(self._name, "the state", state).keys() != {"lr", "parameters"}:
            raise ValueError(
                f"{self._name}.load_state_dict: expected lr and parameters, got {sorted(state)}"
            )
        saved = require_dict(self._name, "parameters", state["parameters"])
        known = {str(i) for i in range(len(self._slots))}
        if not saved.keys() <= known:
            raise ValueError(
                f"{self._name}.load_state_dict: the state has parameters "
                f"{sorted(saved.keys() - known)}, the optimizer only {len(known)}"
            )
        loaded = [
            self._loaded(i, slot.param, saved[str(i)]) if str(i) in saved else Slot(slot.param)
            for i, slot in enumerate(self._slots)
        ]
        self.lr = state["lr"]
        self._slots = loaded

    def _loaded(self, i: int, param: Tensor, saved: Any) -> Slot:
        expected = self._begin(param)
        if require_dict(self._name, f"parameter {i}", saved).keys() != {"steps", *expected}:
            raise ValueError(
                f"{self._name}.load_state_dict: parameter {i} needs steps and {sorted(expected)}, "
                f"the state has {sorted(saved)}; is it of another rule?"
            )
        for name, like in expected.items():
            require_array(self._name, f"{name} of parameter {i}", saved[name], like)
            like[...] = move(saved[name], param.device)
        # Of a parameter that has made no step there is nothing to save.
        steps = require_count(self._name, f"steps of parameter {i}", saved["steps"], least=1)
        return Slot(param, steps, expected)

    @property
    def _name(self) -> str:
        return type(self).__name__


def require(owner: str, what: str, holds: Any, **arguments: Any) -> None:
    """Raise unless each argument is a finite number for which `holds`; `what` it must do or be.

    Raises:
        TypeError: one is no number.
        ValueError: one is out of its range.
    """
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{owner}: {name} must be a number, got {type(value).__name__}")
        if not (-_LARGEST <= value <= _LARGEST and holds(value)):
            raise ValueError(f"{owner}: {name} must {what}, got {value}")


def require_finite_gradients(owner: str, params: Iterable[Tensor]) -> None:
    """Raise unless the gradients that are there are finite.

    Raises:
        NonFiniteError: one is not; the message names its parameter.
    """
    for i, param in enumerate(params):
        grad = param.grad
        if grad is not None and not kernels(grad).optimizer.all_finite(grad.ravel()):
            raise NonFiniteError(
                f"{owner}: the gradient of parameter {i}, {param.shape}, is not finite; lower the "
                "learning rate, or look for NaN in the inputs"
            )


def with_decay(grad: Array, weight_decay: float, param: Tensor) -> Array:
    """Return the gradient of the loss plus ½ weight_decay |θ|²."""
    return as_array(grad + weight_decay * param.data) if weight_decay else grad


def _move(param: Tensor, delta: Array) -> None:
    data = param.writable()
    np.add(data, delta, out=data)


def checked_params(owner: str, params: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"{owner}: params must be an iterable of Tensors, got a {type(params).__name__}"
        )
    checked = list(params)
    seen: set[Tensor] = set()
    for i, param in enumerate(checked):
        if not isinstance(param, Tensor):
            raise TypeError(f"{owner}: params[{i}] must be a Tensor, got a {type(param).__name__}")
        if not param.is_leaf:
            raise ValueError(f"{owner}: params[{i}] is computed; only a leaf can be optimized")
        if not param.requires_grad:
            raise ValueError(f"{owner}: params[{i}] requires no gradient; set requires_grad=True")
        if param in seen:
            raise ValueError(f"{owner}: params[{i}] is there twice; pass each parameter once")
        seen.add(param)
    if not checked:
        raise ValueError(f"{owner}: params is empty; there is nothing to optimize")
    return checked
