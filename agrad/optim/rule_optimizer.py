"""An optimizer that applies a rule.

Parameters that step together lie side by side in one array, and so do their gradients and the
rule's state. A rule therefore updates any number of parameters at once.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from agrad.arguments import require_not_negative
from agrad.backend import Array, device_of, kernels, move, same_device
from agrad.core.flat import Buffer, Flat
from agrad.core.tensor import Tensor
from agrad.errors import DeviceError, NonFiniteError
from agrad.gpu.deferred import after, each_fed, holds
from agrad.optim.arguments import require_trainable
from agrad.optim.block import Block, blocks_of, by_gradient
from agrad.optim.group import ParameterGroup, Params, groups_of
from agrad.optim.losses import Losses
from agrad.optim.optimizer import Optimizer
from agrad.optim.rule import Rule
from agrad.optim.state import require_array, require_count, require_dict

__all__ = ["BlockGradient", "RuleOptimizer", "option"]


class BlockGradient(NamedTuple):
    """A block whose parameters have valid gradients, and those gradients in one array."""

    block: Block
    grad: Array


class RuleOptimizer(Optimizer):
    """An optimizer that applies a rule.

    Like PyTorch's, it takes Tensors, or a list of dicts, the parameter groups. A group's dict holds
    its "params", and any arguments of the optimizer in which the group differs from the others.
    Frozen parameters (`requires_grad=False`) may be among them. They do not change, and train from
    the first step on for which `requires_grad` is True again.

    The rules with momentum can be `cautious` (Liang et al., arXiv:2411.16085): where the momentum
    would move a parameter against the present gradient, Δᵢgᵢ > 0, the step leaves it alone. g is
    the gradient that the rule gets, with the weight decay that is added to it; decoupled weight
    decay always applies. Unlike the authors' code, the rule does not enlarge the other
    elements of Δ in turn, and moves those with gᵢ = 0.

    Args:
        params: The Tensors to train, distinct leaves, of which one at least requires a gradient; or
            the parameter groups.
        lr: The learning rate.
        rule: Computes the update.

    Attributes:
        lr: The learning rate; of several groups, the highest. Setting it keeps the ratios between
            the groups' rates. (If all are 0, it becomes the rate of all.)
        rule: The rule. On the package's own optimizers its options are attributes too, as in
            `optimizer.weight_decay = 0`. Setting one sets it for all groups. Reading it raises a
            ValueError if the groups differ.
        param_groups: The groups, of which options can be read and set.

    Raises:
        TypeError: `params` is neither an iterable of Tensors nor of dicts; an argument is not of
            its type.
        ValueError: An argument is out of its range; there are no parameters, or one is given twice
            or is not a leaf; none requires a gradient; a group is empty or has an unknown option.

    Example:
        No weight decay on biases, and a rate of their own:

        >>> import agrad as ag
        >>> from agrad import nn, optim
        >>> layer = nn.Linear(3, 2)
        >>> optimizer = optim.AdamW(
        ...     [
        ...         {"params": [layer.weight]},
        ...         {"params": [layer.bias], "weight_decay": 0.0, "lr": 1e-2},
        ...     ],
        ...     lr=1e-3,
        ... )
        >>> optimizer.param_groups[1]["weight_decay"]
        0.0
        >>> optimizer.lr *= 2
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.002, 0.02]
    """

    def __init__(self, params: Params, lr: float, rule: Rule) -> None:
        self._groups = groups_of(self.name, params, lr, rule)
        self._params = _params_of(self._groups)
        require_trainable(self.name, self._params)
        self._defaults = lr, rule
        self._blocks: list[Block] = []

    @property
    def params(self) -> tuple[Tensor, ...]:
        """The parameters, in the order given, group after group."""
        return self._params

    @property
    def param_groups(self) -> tuple[ParameterGroup, ...]:
        """The groups, as mappings with PyTorch's keys, whose options can be set."""
        return tuple(self._groups)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters to train, such as those of layers that were frozen before.

        Args:
            param_group: "params", and the options in which the group differs from the arguments
                that the optimizer was made with.

        Raises:
            TypeError, ValueError: As for the optimizer; nothing has changed.
        """
        name = f"{self.name}.add_param_group"
        if not isinstance(param_group, Mapping):
            raise TypeError(f"{name}: expected a dict, got a {type(param_group).__name__}")
        added = groups_of(name, [param_group], *self._defaults, self._groups)
        self._groups += added
        self._params = _params_of(self._groups)
        if self._blocks:
            self._blocks += _fresh_blocks(added)

    @property
    def lr(self) -> float:
        """The learning rate, before a schedule's factor; of several groups, the highest."""
        return max(group.lr for group in self._groups)

    @lr.setter
    def lr(self, value: float) -> None:
        require_not_negative(self.name, lr=value)
        value, highest = float(value), self.lr
        for group in self._groups:
            group.lr = value * (group.lr / highest) if highest else value

    @property
    def rule(self) -> Rule:
        """The rule of all groups, with its options.

        Raises:
            ValueError: The groups differ.
        """
        rule: Rule = _common(f"{self.name}.rule", [group.rule for group in self._groups])
        return rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        for group in self._groups:
            group.rule = rule

    # -- a step ------------------------------------------------------------------------------------

    def step_by_gradients(self) -> None:
        """Update the parameters that have a gradient.

        Raises:
            ValueError: None has one.
        """
        if not self.has_gradients():
            raise ValueError(
                f"{self.name}.step: no parameter has a gradient; run the loss's backward pass first"
            )
        self._apply(self.block_gradients())

    def step_on_losses(self, losses: tuple[Tensor, ...], probe: tuple[Tensor, ...]) -> None:
        """Update the parameters, after backward passes unless they already have gradients."""
        if not self.has_gradients():
            Losses(losses, self.params, self.ranks).backward(retain_graph=False)
            self.require_gradients()
        gradients = self.block_gradients()
        self.require_finite(gradients, self.name)
        self.mark_gradients()
        self._apply(gradients)

    def _apply(self, gradients: Iterable[BlockGradient]) -> None:
        """Compute the rule's updates, and add them to the parameters chunk by chunk."""
        for block, grad in gradients:
            values, numbers = block.flat.writable(), self._begin_step(block)
            updates = np.empty_like(values, shape=(block.chunk,))
            for where in block.chunks():
                chunk = values[where]
                update = updates[: chunk.size]
                block.update(update, grad, values, where, numbers)
                block.decay(update, chunk, numbers)
                chunk += update

    def propose(self) -> dict[Tensor, Array]:
        """Return the update of each parameter that has a gradient, without applying it.

        The rule's own state advances as in `step`. The arrays belong to the caller, who may change
        them and pass them to `apply`.

        Raises:
            ValueError: A gradient does not have its parameter's shape and dtype, or the optimizer
                steps over several ranks; nothing has changed.
        """
        self._require_one_process("propose")
        proposals: dict[Tensor, Array] = {}
        for gradient in self.block_gradients():
            flat = gradient.block.flat
            out = flat.buffer()
            self.write_update(gradient, out)
            proposals |= zip(flat.tensors, out.views)
        return proposals

    @staticmethod
    def apply(updates: Mapping[Tensor, Array]) -> None:
        """Add the updates to their parameters."""
        for param, delta in updates.items():
            data = param.writable()
            np.add(data, delta, out=data)

    def block_gradients(self) -> list[BlockGradient]:
        """Return the blocks of the parameters that have a gradient, with their gradients.

        A block is split in two if only some of its parameters have one.

        Raises:
            ValueError: A gradient does not have its parameter's shape and dtype, or the state does
                not have its dtype; nothing has changed.
            DeviceError: A gradient or the rule's state is not on its parameter's device.
        """
        blocks: list[Block] = []
        found: list[BlockGradient] = []
        for block in self._blocks or _fresh_blocks(self._groups):
            grads = block.grads
            grad = block.flat.whole(grads)
            if grad is not None and block.flat.has_values():
                # Arrays in their places were checked when they were put there.
                blocks.append(block)
                found.append(BlockGradient(block, grad))
                continue
            self._require_fit(block, grads)
            for part in by_gradient(block):
                blocks.append(part)
                grads = grads if part is block else part.grads
                if grads[0] is not None:
                    found.append(BlockGradient(part, part.flat.gather(grads)))
        self._blocks = blocks
        return found

    def write_update(
        self, gradient: BlockGradient, out: Buffer, decay: Array | None = None
    ) -> None:
        """Write the rule's update of a block into `out`, and update the block's state.

        A decoupled weight decay is a part of it, unless there is an array that it is added to.
        """
        block, grad = gradient
        values, numbers = block.flat.adopt(), self._begin_step(block)
        for where in block.chunks():
            block.update(out.array[where], grad, values, where, numbers)
        block.decay(out.array if decay is None else decay, values, numbers)

    def require_finite(self, gradients: Iterable[BlockGradient], owner: str) -> None:
        """Raise unless all gradients are finite.

        Raises:
            NonFiniteError: A gradient is not; the message begins with `owner` and names the
                parameter.
        """
        for block, grad in gradients:
            if holds(kernels(grad).optimizer.all_finite(grad)):
                continue
            pairs = zip(block.flat.tensors, block.flat.split(grad))
            wrong = next(param for param, grad in pairs if not np.isfinite(grad).all())
            raise NonFiniteError(
                f"{owner}.step: the gradient of parameter {self.number_of(wrong)}, {wrong.shape}, "
                "is not finite; lower the learning rate, or look for NaN in the inputs"
            )

    def _begin_step(self, block: Block) -> tuple[float, ...]:
        """Count a step of the block, and return the rule's numbers for it.

        While a step is recorded, these are arrays that hold the numbers of each run.
        """
        block.complete()
        numbers = each_fed(lambda: block.numbers(self.scale))
        after(block.count)
        return numbers

    def _require_fit(self, block: Block, grads: Iterable[Any]) -> None:
        state = block.flat.zeros(0)
        for param, grad in zip(block.flat.tensors, grads):
            if grad is None:
                continue
            data = param.data
            if grad.shape != data.shape or grad.dtype != data.dtype:
                raise ValueError(
                    f"{self.name}: parameter {self.number_of(param)} is "
                    f"{data.dtype}{list(data.shape)}, its grad {grad.dtype}{list(grad.shape)}"
                )
            if state.dtype != data.dtype:
                raise ValueError(
                    f"{self.name}: parameter {self.number_of(param)} is {data.dtype}, its state "
                    f"{state.dtype}; make the optimizer after the model has been converted"
                )
            if type(grad) is type(state) is type(data) is np.ndarray:
                continue
            for name, array in (("grad", grad), ("state", state)):
                if not same_device(array, data):
                    raise DeviceError(
                        f"{self.name}: parameter {self.number_of(param)} is on {device_of(data)}, "
                        f"its {name} on {device_of(array)}; make the optimizer after the model has "
                        "been moved"
                    )

    def number_of(self, param: Tensor) -> int:
        """Return a parameter's place among the parameters."""
        return next(i for i, known in enumerate(self.params) if known is param)

    # -- what a recorded step needs ----------------------------------------------------------------

    def changing(self) -> list[Array]:
        """Return the arrays that steps change in place: the parameters' and the rule's."""
        return [
            array
            for block in self._blocks
            for array in (block.flat.writable(), *block.state.values())
        ]

    def flats(self) -> list[Flat]:
        """Return each `Flat` that holds parameters."""
        return [block.flat for block in self._blocks]

    def options(self) -> Hashable:
        """Return everything the next step depends on, except arrays and fed numbers."""
        return tuple([group.rule for group in self._groups])

    # -- state -------------------------------------------------------------------------------------

    @property
    def state_bytes(self) -> int:
        """The size of the arrays kept from one step to the next."""
        return sum(array.nbytes for block in self._blocks for array in block.state.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the learning rates and copies of the state's arrays, for `agrad.save`.

        The rule's options, and the factor that a schedule sets, are not in it.
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
        state = {"lr": self.lr, "parameters": parameters}
        return state if len(self._groups) == 1 else state | {"groups": self._saved_groups()}

    def _saved_groups(self) -> dict[str, Any]:
        return {
            str(i): {"lr": group.lr, "size": len(group.params)}
            for i, group in enumerate(self._groups)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`, given the same rules and matching parameters.

        The state of an optimizer with one group, or of a version without groups, fits several
        groups of the same parameters too: their rates keep their ratios.

        Raises:
            ValueError: The state is invalid, or belongs to another rule, or other parameters or
                groups; nothing has changed.
            TypeError: A saved learning rate is not a number; nothing has changed.
        """
        names = {"lr", "parameters"}
        if require_dict(self.name, "the state", state).keys() not in (names, names | {"groups"}):
            raise ValueError(
                f"{self.name}.load_state_dict: expected lr and parameters, and groups if there are "
                f"several, got {sorted(state)}"
            )
        rates = self._loaded_rates(state["lr"], state["groups"]) if "groups" in state else {}
        saved = require_dict(self.name, "parameters", state["parameters"])
        known = {str(i): param for i, param in enumerate(self.params)}
        if not saved.keys() <= known.keys():
            raise ValueError(
                f"{self.name}.load_state_dict: the state has parameters "
                f"{sorted(saved.keys() - known.keys())}, but the optimizer has only {len(known)}"
            )
        rules = {
            param: group.rule.for_param(param) for group in self._groups for param in group.params
        }
        steps = {
            param: self._loaded_steps(i, rules[param], param, saved[i]) if i in saved else 0
            for i, param in known.items()
        }
        self.lr = state["lr"]
        for group, rate in rates.items():
            group.lr = rate
        states = {param: saved[i] for i, param in known.items() if i in saved}
        self._blocks = []
        for group in self._groups:
            for count in sorted({steps[param] for param in group.params}):
                alike = [param for param in group.params if steps[param] == count]
                for block in blocks_of(group, alike, count):
                    if count:
                        _load(block, [states[param] for param in block.flat.tensors])
                    self._blocks.append(block)

    def _loaded_rates(self, highest: Any, saved: Any) -> dict[ParameterGroup, float]:
        """Check everything saved for the groups, and return their learning rates."""
        own = self._saved_groups()
        if require_dict(self.name, "groups", saved).keys() != own.keys():
            raise ValueError(
                f"{self.name}.load_state_dict: the optimizer has {len(own)} groups, the state has "
                f"{sorted(saved)}"
            )
        rates = {}
        for i, group in enumerate(self._groups):
            if require_dict(self.name, f"group {i}", saved[str(i)]).keys() != {"lr", "size"}:
                raise ValueError(
                    f"{self.name}.load_state_dict: group {i} needs lr and size, the state has "
                    f"{sorted(saved[str(i)])}"
                )
            size = require_count(self.name, f"size of group {i}", saved[str(i)]["size"])
            if size != len(group.params):
                raise ValueError(
                    f"{self.name}.load_state_dict: group {i} has {len(group.params)} parameters, "
                    f"the state {size}"
                )
            rates[group] = saved[str(i)]["lr"]
            require_not_negative(f"{self.name}: group {i}", lr=rates[group])
        require_not_negative(self.name, lr=highest)
        if highest != max(rates.values()):
            raise ValueError(
                f"{self.name}.load_state_dict: lr must be the highest of the groups, "
                f"{max(rates.values())}, the state has {highest!r:.50}"
            )
        return rates

    def _loaded_steps(self, i: str, rule: Rule, param: Tensor, saved: Any) -> int:
        """Check everything saved for a parameter, and return the number of steps it has made."""
        names = rule.state
        if require_dict(self.name, f"parameter {i}", saved).keys() != {"steps", *names}:
            raise ValueError(
                f"{self.name}.load_state_dict: parameter {i} needs steps and {sorted(names)}, "
                f"the state has {sorted(saved)}; was it saved by another rule?"
            )
        for name in names:
            require_array(self.name, f"{name} of parameter {i}", saved[name], param.data)
        # Nothing is saved for a parameter that has made no step.
        return require_count(self.name, f"steps of parameter {i}", saved["steps"], least=1)


def _params_of(groups: Iterable[ParameterGroup]) -> tuple[Tensor, ...]:
    return tuple(param for group in groups for param in group.params)


def _fresh_blocks(groups: Iterable[ParameterGroup]) -> list[Block]:
    """Return the blocks of the groups' parameters before their first step."""
    return [block for group in groups for block in blocks_of(group, group.params)]


def _load(block: Block, saved: list[Any]) -> None:
    """Load the saved state of a block's parameters into its arrays."""
    tensors = block.flat.tensors
    block.complete()
    for name, array in block.state.items():
        for param, part, own in zip(tensors, block.flat.split(array), saved):
            part[...] = move(own[name], param.device)


def option(name: str) -> Any:
    """Return a property of a `RuleOptimizer` that reads and sets an option of its rules."""

    def get(optimizer: RuleOptimizer) -> Any:
        values = [group[name] for group in optimizer.param_groups]
        return _common(f"{optimizer.name}.{name}", values)

    def set_(optimizer: RuleOptimizer, value: Any) -> None:
        groups = optimizer.param_groups
        rules = [group.rule.with_options({name: value}, group.lr) for group in groups]
        for group, rule in zip(groups, rules):
            group.rule = rule

    return property(get, set_)


def _common(name: str, values: list[Any]) -> Any:
    """Return what all groups have, or raise a ValueError."""
    if any(value != values[0] for value in values):
        raise ValueError(
            f"{name}: the groups differ, {values}; read that of each from param_groups"
        )
    return values[0]
