"""What optimizers share: parameters, state, and steps.

Parameters that step together lie side by side in one array, and so do their gradients and the
rule's state. A rule therefore updates any number of parameters at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, overload

import numpy as np

from agrad.backend import Array, device_of, kernels, move, same_device
from agrad.core.flat import Buffer, Flat
from agrad.core.tensor import GradOf, Tensor, gradients_of
from agrad.distributed import Ranks
from agrad.errors import DeviceError, NonFiniteError
from agrad.gpu.deferred import after, each_fed, holds, number
from agrad.optim.arguments import require_not_negative, require_trainable
from agrad.optim.block import Block, blocks_of, by_gradient
from agrad.optim.group import ParameterGroup, Params, groups_of
from agrad.optim.losses import Losses, listed
from agrad.optim.rule import Rule
from agrad.optim.state import require_array, require_count, require_dict

__all__ = ["Optimizer", "Ready", "RuleOptimizer", "Scheduled", "option"]

_USED: GradOf = (None,)
"""Marks gradients that a step on a loss has used, by this very tuple."""


class Scheduled(Protocol):
    """A schedule, as an optimizer sees it."""

    def current(self) -> float:
        """Return the factor on the learning rate in force."""


class Optimizer(ABC):
    """Trains parameters by their gradients, one step at a time.

    `RuleOptimizer` applies a rule such as Adam's; `AverageGradient` first measures how far a
    rule's update may go.

    Attributes:
        lr: the learning rate, which can be set.
        scale_source: the factor `scale`, or the schedule that gives it.
        fraction: the share of its update that the last measured step used; None before the first,
            and for optimizers that do not measure.
        cuts: how often steps have been cut, because they raised the loss or were much longer than
            the last measured one.
        zero_steps: how many steps have changed nothing, after all cuts.
        ranks: the ranks that step together, as `Ranks.share` sets them; None for this process
            alone.
    """

    lr: float
    fraction: float | None = None
    cuts: int = 0
    zero_steps: int = 0
    ranks: Ranks | None = None
    scale_source: float | Scheduled = 1.0
    automatic: bool = False
    """Whether the optimizer changes `lr` by itself."""

    @property
    def probe_size(self) -> int | None:
        """How many examples the next step would measure on; None for all, or if it does not."""
        return None

    @property
    @abstractmethod
    def params(self) -> tuple[Tensor, ...]:
        """The parameters, in the order given."""

    @property
    def scale(self) -> float:
        """The factor that a schedule puts on `lr`, by the rate in force; it can be set."""
        source = self.scale_source
        return source if isinstance(source, int | float) else source.current()

    @scale.setter
    def scale(self, value: float) -> None:
        self.scale_source = value

    @property
    def rate(self) -> float:
        """The effective learning rate, lr · scale."""
        return self.lr * self.scale

    @property
    def name(self) -> str:
        """The name at the start of error messages."""
        return type(self).__name__

    @property
    def state_kind(self) -> str:
        """What the state belongs to, for a checkpoint to compare."""
        return type(self).__name__

    def zero_grad(self) -> None:
        """Clear the gradients and average gradients of the parameters."""
        for param in self.params:
            param.zero_grad()

    # -- a step ------------------------------------------------------------------------------------

    @overload
    def step(self, loss: None = None, probe: None = None) -> None: ...

    @overload
    def step(
        self, loss: Tensor | Iterable[Tensor], probe: Tensor | Iterable[Tensor] | None = None
    ) -> float: ...

    def step(
        self,
        loss: Tensor | Iterable[Tensor] | None = None,
        probe: Tensor | Iterable[Tensor] | None = None,
    ) -> float | None:
        """Update the parameters that have a gradient.

        Given several losses, such as those of a batch's parts, the step minimizes their sum. The
        optimizer first runs the backward pass of each, unless a parameter already has a gradient:
        then the gradients must come from backward passes of these very losses, and may have been
        clipped or changed in other ways since. The optimizer also checks that the losses and the
        gradients are finite. After an error, neither the parameters nor the state have changed.

        Over several ranks the losses are those of all ranks, and no gradient may be there yet: it
        would be this rank's alone.

        Args:
            loss: a Tensor of one element computed from the parameters, or a sequence of them.
            probe: likewise, the loss on a few rows of the batch, for an optimizer that measures its
                step: it measures on them instead. Others do not use it.

        Returns:
            The loss, or the sum of the losses, before the step; None without a loss.

        Raises:
            NonFiniteError: a loss or a gradient is NaN or infinite.
            TypeError: a loss is not a Tensor.
            ValueError: there is no loss, and no parameter has a gradient; a loss has several
                elements, no graph, or a freed one; none depends on the parameters; a gradient
                comes from elsewhere, or from only some of the losses; the last step used
                the same gradients, and `zero_grad` has not been called since; a gradient does not
                have its parameter's shape and dtype; over several ranks there is a gradient, or no
                loss.
            DeviceError: a gradient or the optimizer's state is not on its parameter's device.

        Example:
            Two halves of a batch, each with its own graph:

            >>> import agrad as ag
            >>> from agrad import optim
            >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
            >>> optimizer = optim.SGD([x], lr=0.5)
            >>> optimizer.step([(x * half).sum() / 2 for half in ([1.0, 0.0], [3.0, 4.0])])
            6.0
            >>> x
            tensor([0., 1.], requires_grad=True)
        """
        if self.ranks is not None and (loss is None or self.has_gradients()):
            self._require_one_process("step")
        if loss is None:
            if probe is not None:
                raise ValueError(f"{self.name}.step: a probe needs the loss that it is a part of")
            self.step_by_gradients()
            return None
        losses = listed(f"{self.name}.step", loss)
        rows = () if probe is None else listed(f"{self.name}.step", probe, "probe")
        value = reduce(add, [self._finite(each) for each in losses])
        for each in rows:
            self._finite(each, "probe")
        if self.has_gradients():
            self._require_gradients_of(losses)
        self.step_on_losses(losses, rows)
        return value

    def _require_one_process(self, method: str) -> None:
        """Raise a ValueError if gradients that `step` has not computed are those of one rank."""
        if self.ranks is not None:
            raise ValueError(
                f"{self.name}.{method}: over {self.ranks.size} ranks, gradients from elsewhere are "
                "those of this rank alone; call zero_grad(), and pass step the loss without a "
                "backward pass of your own"
            )

    @abstractmethod
    def step_by_gradients(self) -> None:
        """Make a step from the existing gradients, without a loss."""

    @abstractmethod
    def step_on_losses(self, losses: tuple[Tensor, ...], probe: tuple[Tensor, ...]) -> None:
        """Make a step on losses that are finite and have graphs; gradients are theirs alone.

        The probe's losses are finite and have graphs, too; there are none without a probe.
        """

    def _finite(self, loss: Tensor, name: str = "loss") -> float:
        """Return the value of a loss, or raise if it is not finite."""
        value: float = number(loss.data)
        if self.ranks is not None:
            value = self.ranks.total(f"the {name} of a step", value)
        if not holds(np.isfinite(value)):
            raise NonFiniteError(
                f"{self.name}.step: the {name} is {value}; lower the learning rate, "
                "or look for NaN in the inputs"
            )
        return value

    def _require_gradients_of(self, losses: tuple[Tensor, ...]) -> None:
        """Raise a ValueError unless the gradients come from backward passes of all the losses."""
        roots = {loss.node for loss in losses}
        found = set()
        grad_of: GradOf | None = None
        for i, param in enumerate(self.params):
            if param.grad is None or not param.requires_grad:
                continue
            if param.grad_of is _USED:
                raise ValueError(
                    f"{self.name}.step: the gradients are those of the last step; call zero_grad()"
                )
            if grad_of is not None and param.grad_of is grad_of:
                continue  # checked: one sweep gives all its gradients the same tuple
            grad_of = param.grad_of
            sources = {root and root() for root in grad_of or (None,)}
            if not sources <= roots:
                what = "this loss" if len(losses) == 1 else "these losses"
                raise ValueError(
                    f"{self.name}.step: parameter {i}, {param.shape}, has a gradient that is not "
                    f"of {what} alone; call zero_grad() before the backward passes, and pass "
                    "every loss that has had one"
                )
            found |= sources
        for i, loss in enumerate(losses):
            if loss.node not in found:
                raise ValueError(
                    f"{self.name}.step: loss[{i}] has no part in the gradients, but another loss "
                    "has; run the backward pass of each loss, or leave all of them to step"
                )

    def has_gradients(self) -> bool:
        """Return whether a parameter that is not frozen has a gradient."""
        for param, grad in zip(self.params, gradients_of(self.params)):
            if grad is not None and param.requires_grad:
                return True
        return False

    def require_gradients(self) -> None:
        """Raise a ValueError unless a parameter has a gradient, after the losses' sweeps."""
        if not self.has_gradients():
            raise ValueError(f"{self.name}.step: the loss depends on none of the parameters")

    def mark_gradients(self) -> None:
        """Note that a step has used the gradients."""
        for param, grad in zip(self.params, gradients_of(self.params)):
            if grad is not None:
                param.grad_of = _USED

    # -- what a recorded step needs ----------------------------------------------------------------

    @abstractmethod
    def changing(self) -> list[Array]:
        """Return the arrays that steps change in place: the parameters' and the rule's."""

    @abstractmethod
    def flats(self) -> list[Flat]:
        """Return each `Flat` that holds parameters."""

    def reading(self) -> list[Array]:
        """Return the arrays that the next step reads and does not change."""
        return []

    @abstractmethod
    def options(self) -> Hashable:
        """Return everything the next step depends on, except arrays and fed numbers."""

    # -- state -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def state_bytes(self) -> int:
        """The size of the arrays kept from one step to the next."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that steps change, except the parameters, for `agrad.save`."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`, given the same options and matching parameters.

        Raises:
            ValueError, TypeError: the state is invalid, or belongs to another optimizer or other
                parameters; nothing has changed.
        """


class Ready(NamedTuple):
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
    decay is made in any case. Unlike the authors' code, the rule does not enlarge the other
    elements of Δ in turn, and moves those with gᵢ = 0.

    Args:
        params: the Tensors to train, distinct leaves, of which one at least requires a gradient; or
            the parameter groups.
        lr: the learning rate.
        rule: computes the update.

    Attributes:
        lr: the learning rate; of several groups, the highest. Setting it keeps the ratios between
            the groups' rates. (If all are 0, it becomes the rate of all.)
        rule: the rule. On the package's own optimizers its options are attributes too, as in
            `optimizer.weight_decay = 0`. Setting one sets it for all groups. Reading it raises a
            ValueError if the groups differ.
        param_groups: the groups, of which options can be read and set.

    Raises:
        TypeError: `params` is neither an iterable of Tensors nor of dicts; an argument is not of
            its type.
        ValueError: an argument is out of its range; there are no parameters, or one is given twice
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
            TypeError, ValueError: as for the optimizer; nothing has changed.
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
            ValueError: the groups differ.
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
            ValueError: none has one.
        """
        if not self.has_gradients():
            raise ValueError(
                f"{self.name}.step: no parameter has a gradient; run the loss's backward pass first"
            )
        self._apply(self.ready())

    def step_on_losses(self, losses: tuple[Tensor, ...], probe: tuple[Tensor, ...]) -> None:
        """Update the parameters, after backward passes unless they already have gradients."""
        if not self.has_gradients():
            Losses(losses, self.params, self.ranks).backward(retain_graph=False)
            self.require_gradients()
        ready = self.ready()
        self.require_finite(ready, self.name)
        self.mark_gradients()
        self._apply(ready)

    def _apply(self, ready: Iterable[Ready]) -> None:
        """Compute the rule's updates, and add them to the parameters chunk by chunk."""
        for block, grad in ready:
            values, numbers = block.flat.writable(), self._begun(block)
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
            ValueError: a gradient does not have its parameter's shape and dtype, or the optimizer
                steps over several ranks; nothing has changed.
        """
        self._require_one_process("propose")
        proposals: dict[Tensor, Array] = {}
        for ready in self.ready():
            out = ready.block.flat.buffer()
            self.proposal(ready, out)
            proposals |= zip(ready.block.flat.tensors, out.views)
        return proposals

    @staticmethod
    def apply(updates: Mapping[Tensor, Array]) -> None:
        """Add the updates to their parameters."""
        for param, delta in updates.items():
            data = param.writable()
            np.add(data, delta, out=data)

    def ready(self) -> list[Ready]:
        """Return the blocks of the parameters that have a gradient, with their gradients.

        A block is split in two if only some of its parameters have one.

        Raises:
            ValueError: a gradient does not have its parameter's shape and dtype, or the state does
                not have its dtype; nothing has changed.
            DeviceError: a gradient or the rule's state is not on its parameter's device.
        """
        blocks: list[Block] = []
        ready: list[Ready] = []
        for block in self._blocks or _fresh_blocks(self._groups):
            grads = block.grads
            grad = block.flat.whole(grads)
            if grad is not None and block.flat.has_values():
                # Arrays in their places were checked when they were put there.
                blocks.append(block)
                ready.append(Ready(block, grad))
                continue
            self._require_fit(block, grads)
            for part in by_gradient(block):
                blocks.append(part)
                grads = grads if part is block else part.grads
                if grads[0] is not None:
                    ready.append(Ready(part, part.flat.gather(grads)))
        self._blocks = blocks
        return ready

    def proposal(self, ready: Ready, out: Buffer, decay: Array | None = None) -> None:
        """Write the block's update into `out`, and update its state.

        A decoupled weight decay is a part of it, unless there is an array that it is added to.
        """
        block, grad = ready
        values, numbers = block.flat.adopt(), self._begun(block)
        for where in block.chunks():
            block.update(out.array[where], grad, values, where, numbers)
        block.decay(out.array if decay is None else decay, values, numbers)

    def require_finite(self, ready: Iterable[Ready], owner: str) -> None:
        """Raise unless all gradients are finite.

        Raises:
            NonFiniteError: a gradient is not; the message begins with `owner` and names the
                parameter.
        """
        for block, grad in ready:
            if holds(kernels(grad).optimizer.all_finite(grad)):
                continue
            pairs = zip(block.flat.tensors, block.flat.split(grad))
            wrong = next(param for param, grad in pairs if not np.isfinite(grad).all())
            raise NonFiniteError(
                f"{owner}.step: the gradient of parameter {self.number_of(wrong)}, {wrong.shape}, "
                "is not finite; lower the learning rate, or look for NaN in the inputs"
            )

    def _begun(self, block: Block) -> tuple[float, ...]:
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
            ValueError: the state is invalid, or belongs to another rule, or other parameters or
                groups; nothing has changed.
            TypeError: a saved learning rate is not a number; nothing has changed.
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
        values = [getattr(group.rule, name) for group in optimizer.param_groups]
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
