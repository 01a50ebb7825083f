"""What the optimizers share: their parameters, their states, and how an update is applied.

Parameters that step together lie side by side in one array, and so do their gradients and the
rule's state: a rule is computed over all of them at once, whatever their number.
"""

import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from agrad.backend import Array, as_array, device_of, kernels, move, same_device
from agrad.core.flat import Buffer, Flat
from agrad.core.tensor import Tensor
from agrad.errors import DeviceError, NonFiniteError
from agrad.gpu.deferred import after, fed, holds
from agrad.optim.block import Block, Part, by_gradient
from agrad.optim.state import require_array, require_count, require_dict

__all__ = [
    "Optimizer",
    "checked_params",
    "options_of",
    "require",
    "with_decay",
]

# What makes an integer too large is no infinity, but its conversion to float would raise.
_LARGEST = sys.float_info.max

_CHUNK = 1 << 16
"""So many elements at a time go through a CPU: one pass finds in the cache what another left."""


class Optimizer:
    """A rule that proposes an update of the parameters from their gradients.

    A subclass defines `_state`, the names of the arrays that it keeps for a parameter, and `_rule`,
    the update. Every rule's update is proportional to the learning rate.

    Args:
        params: the Tensors to train, leaves that require a gradient, none of them twice.
        lr: the learning rate.

    Attributes:
        params: the parameters, in the order given.
        lr: the learning rate, to read and to set.
        scale: the factor on it that a schedule sets.

    Raises:
        TypeError: `params` is no iterable of Tensors.
        ValueError: an argument is out of its range; no parameters; one that is twice there, is no
            leaf or requires no gradient.
    """

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.params = tuple(checked_params(self._name, params))
        self._blocks: list[Block] = []
        self.lr = lr
        self.scale = 1.0

    # -- a rule ------------------------------------------------------------------------------------

    def _state(self, param: Tensor) -> list[str]:
        """Return the names of the arrays to keep for `param`, which begin as zeros."""
        return []

    def _alike(self, param: Tensor) -> Hashable:
        """Return what parameters must have in common, beside dtype and device, to be one block.

        The rule of a block with something in common is not computed in parts.
        """
        return None

    def _rule(self, part: Part, grad: Array, out: Array) -> None:
        """Put the update into `out`, and bring the part's state up to date."""
        raise TypeError(f"{self._name}: the optimizer defines no rule")

    # -- its use -----------------------------------------------------------------------------------

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
        return fed(lambda: self._lr * self.scale)

    def zero_grad(self) -> None:
        """Forget the gradients and average gradients of the parameters."""
        for param in self.params:
            param.grad = param.average_grad = None

    def step(self) -> None:
        """Update the parameters that have a gradient.

        Raises:
            ValueError: a gradient is not of its parameter's shape and dtype; nothing has changed.
            DeviceError: a gradient or the rule's state is not where its parameter is.
        """
        for block in self.ready():
            values = block.flat.writable()
            grad = block.flat.gather(block.grads())
            delta = np.empty_like(values, shape=(self._part_size(block),))
            for where, part in self._parts(block, values):
                update = delta[: part.values.size]
                self._rule(part, grad[where], update)
                part.values += update

    def propose(self) -> dict[Tensor, Array]:
        """Return the update of each parameter that has a gradient, without applying it.

        The rule's own state moves on as in `step`. The arrays are the caller's, to be changed and
        handed to `apply`.

        Raises:
            ValueError: a gradient is not of its parameter's shape and dtype; nothing has changed.
        """
        proposals = [(block.flat.tensors, self.proposal(block).views) for block in self.ready()]
        return {param: delta for pairs in proposals for param, delta in zip(*pairs)}

    @staticmethod
    def apply(updates: Mapping[Tensor, Array]) -> None:
        """Add the updates to their parameters."""
        for param, delta in updates.items():
            data = param.writable()
            np.add(data, delta, out=data)

    def require_finite_gradients(self, owner: str) -> None:
        """Raise unless the gradients that are there are finite.

        Raises:
            NonFiniteError: one is not; the message names its parameter.
        """
        for block in self.ready():
            grad = block.flat.gather(block.grads())
            if holds(kernels(grad).optimizer.all_finite(grad)):
                continue
            pairs = zip(block.flat.tensors, block.grads())
            wrong = next(param for param, grad in pairs if not np.isfinite(grad).all())
            raise NonFiniteError(
                f"{owner}: the gradient of parameter {self._number(wrong)}, {wrong.shape}, is "
                "not finite; lower the learning rate, or look for NaN in the inputs"
            )

    # -- its blocks --------------------------------------------------------------------------------

    def ready(self) -> list[Block]:
        """Return the blocks of the parameters that have a gradient, each of which fits.

        A block of which only some parameters have one is cut in two.

        Raises:
            ValueError: a gradient is not of its parameter's shape and dtype, or the state not of
                its dtype; nothing has changed.
            DeviceError: a gradient or the rule's state is not where its parameter is.
        """
        if not self._blocks:
            self._blocks = self._begun(self.params)
        for block in self._blocks:
            # What is in its place has been looked at when it came there.
            values = [param.data for param in block.flat.tensors]
            if None in map(block.flat.buffer_of, (block.grads(), values)):
                self._require_fit(block)
        self._blocks = [part for block in self._blocks for part in by_gradient(block)]
        return [block for block in self._blocks if block.flat.tensors[0].grad is not None]

    def proposal(self, block: Block) -> Buffer:
        """Return the block's update in a buffer, and bring its state up to date."""
        values = block.flat.adopt()
        grad, out = block.flat.gather(block.grads()), block.flat.buffer()
        for where, part in self._parts(block, values):
            self._rule(part, grad[where], out.array[where])
        return out

    def _begun(self, params: Iterable[Tensor]) -> list[Block]:
        """Return the blocks of parameters that have made no step."""
        kinds: dict[Hashable, list[Tensor]] = {}
        for param in params:
            kinds.setdefault((param.dtype, param.device, self._alike(param)), []).append(param)
        return [Block(Flat(alike), 0, {}) for alike in kinds.values()]

    def _parts(self, block: Block, values: Array) -> Iterator[tuple[slice, Part]]:
        """Count a step of the block, and yield its parts and where they are."""
        tensors = block.flat.tensors
        first = block.steps == 0
        if first:
            names = self._state(tensors[0])
            block.state = {name: block.flat.zeros() for name in names}
        rate, steps = self.rate, fed(lambda: block.steps + 1)
        after(block.count)
        size = self._part_size(block)
        shape = tensors[0].shape if len(tensors) == 1 and size == values.size else None
        for start in range(0, values.size, max(size, 1)):
            where = slice(start, start + size)
            state = {name: array[where] for name, array in block.state.items()}
            yield where, Part(shape, values[where], rate, steps, first, state)

    def _part_size(self, block: Block) -> int:
        """Return how many elements the rule is given at a time: on a GPU all, in one launch."""
        first = block.flat.tensors[0]
        whole = first.device != "cpu" or self._alike(first) is not None
        return block.flat.size if whole else min(_CHUNK, block.flat.size)

    def _require_fit(self, block: Block) -> None:
        state = block.flat.zeros(0)
        for param, grad in zip(block.flat.tensors, block.grads()):
            if grad is None:
                continue
            data, number = param.data, self._number(param)
            if grad.shape != data.shape or grad.dtype != data.dtype:
                raise ValueError(
                    f"{self._name}: parameter {number} is {data.dtype}{list(data.shape)}, "
                    f"its grad {grad.dtype}{list(grad.shape)}"
                )
            if state.dtype != data.dtype:
                raise ValueError(
                    f"{self._name}: parameter {number} is {data.dtype}, its state {state.dtype}; "
                    "make the optimizer after the model has been converted"
                )
            for name, array in (("grad", grad), ("state", state)):
                if not same_device(array, data):
                    raise DeviceError(
                        f"{self._name}: parameter {number} is on {device_of(data)}, its {name} on "
                        f"{device_of(array)}; make the optimizer after the model has been moved"
                    )

    # -- what a recorded step has to know ----------------------------------------------------------

    def changing(self) -> list[Array]:
        """Return the arrays that steps change in place: the parameters' and the rule's."""
        return [
            array
            for block in self._blocks
            for array in (block.flat.writable(), *block.state.values())
        ]

    def flats(self) -> list[Flat]:
        """Return what holds the parameters side by side."""
        return [block.flat for block in self._blocks]

    def reading(self) -> list[Array]:
        """Return the arrays that steps read and leave as they are."""
        return []

    def options(self) -> tuple[Hashable, ...]:
        """Return the numbers and words that a step depends on, but for those that go by `fed`."""
        return options_of(self, {"params", "_lr", "scale"})

    # -- its state ---------------------------------------------------------------------------------

    @property
    def state_bytes(self) -> int:
        """The size of the arrays kept from one step to the next."""
        return sum(array.nbytes for block in self._blocks for array in block.state.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the learning rate and copies of the state's arrays, for `agrad.save`.

        The rule's other arguments, and the factor that a schedule sets, are not in it.
        """
        saved: dict[Tensor, dict[str, Any]] = {}
        for block in self._blocks:
            states = {name: block.flat.split(array) for name, array in block.state.items()}
            for i, param in enumerate(block.flat.tensors):
                saved[param] = {name: parts[i].copy() for name, parts in states.items()}
                saved[param]["steps"] = block.steps
        parameters = {
            str(i): saved[param]
            for i, param in enumerate(self.params)
            if param in saved and saved[param]["steps"]
        }
        return {"lr": self.lr, "parameters": parameters}

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
        known = {str(i): param for i, param in enumerate(self.params)}
        if not saved.keys() <= known.keys():
            raise ValueError(
                f"{self._name}.load_state_dict: the state has parameters "
                f"{sorted(saved.keys() - known.keys())}, the optimizer only {len(known)}"
            )
        steps = {
            param: self._loaded_steps(i, param, saved[i]) if i in saved else 0
            for i, param in known.items()
        }
        self.lr = state["lr"]
        states = {param: saved[i] for i, param in known.items() if i in saved}
        self._blocks = []
        for count in sorted(set(steps.values())):
            for block in self._begun(param for param in steps if steps[param] == count):
                if count:
                    self._load(block, count, [states[param] for param in block.flat.tensors])
                self._blocks.append(block)

    def _loaded_steps(self, i: str, param: Tensor, saved: Any) -> int:
        """Return the steps that a parameter has made, after a look at all that was saved of it."""
        names = self._state(param)
        if require_dict(self._name, f"parameter {i}", saved).keys() != {"steps", *names}:
            raise ValueError(
                f"{self._name}.load_state_dict: parameter {i} needs steps and {sorted(names)}, "
                f"the state has {sorted(saved)}; is it of another rule?"
            )
        for name in names:
            require_array(self._name, f"{name} of parameter {i}", saved[name], param.data)
        # Of a parameter that has made no step there is nothing to save.
        return require_count(self._name, f"steps of parameter {i}", saved["steps"], least=1)

    def _load(self, block: Block, steps: int, saved: list[Any]) -> None:
        tensors = block.flat.tensors
        block.steps = steps
        for name in self._state(tensors[0]):
            array = block.flat.zeros()
            for param, part, own in zip(tensors, block.flat.split(array), saved):
                part[...] = move(own[name], param.device)
            block.state[name] = array

    def _number(self, param: Tensor) -> int:
        return next(i for i, known in enumerate(self.params) if known is param)

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


def with_decay(grad: Array, weight_decay: float, values: Array) -> Array:
    """Return the gradient of the loss plus ½ weight_decay |θ|²."""
    return as_array(grad + weight_decay * values) if weight_decay else grad


def options_of(optimizer: Any, without: set[str]) -> tuple[Hashable, ...]:
    """Return an optimizer's attributes that are numbers, words or tuples of them, but for some."""
    kinds = bool | int | float | str | tuple
    own = {name: value for name, value in vars(optimizer).items() if name not in without}
    return tuple((name, value) for name, value in own.items() if isinstance(value, kinds))


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
