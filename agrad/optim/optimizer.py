"""What all optimizers share: the checks around a step, and what a recorded step needs."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any, Protocol, overload

import numpy as np

from agrad.arguments import require_not_negative
from agrad.backend import Array
from agrad.core.flat import Flat
from agrad.core.tensor import GradOf, Tensor, gradients_of
from agrad.distributed import Ranks
from agrad.errors import NonFiniteError
from agrad.gpu.deferred import holds, number
from agrad.optim.losses import listed

__all__ = ["Optimizer", "Scheduled"]

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
        lr: The learning rate, which can be set.
        scale_source: The factor `scale`, or the schedule that gives it.
        fraction: The share of its update that the last measured step used; None before the first,
            and for optimizers that do not measure.
        cuts: How often steps have been cut, because they raised the loss or were much longer than
            the last measured one.
        zero_steps: How many steps have changed nothing, after all cuts.
        ranks: The ranks that step together, as `Ranks.share` sets them; None for this process
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
        require_not_negative(self.name, scale=value)
        self.scale_source = float(value)

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
            loss: A Tensor of one element computed from the parameters, or a sequence of them.
            probe: Likewise, the loss on a few rows of the batch, for an optimizer that measures its
                step: it measures on them instead. Others do not use it.

        Returns:
            The loss, or the sum of the losses, before the step; None without a loss.

        Raises:
            NonFiniteError: A loss or a gradient is NaN or infinite.
            TypeError: A loss is not a Tensor.
            ValueError: There is no loss, and no parameter has a gradient; a loss has several
                elements, no graph, or a freed one; none depends on the parameters; a gradient
                comes from elsewhere, or from only some of the losses; the last step used
                the same gradients, and `zero_grad` has not been called since; a gradient does not
                have its parameter's shape and dtype; over several ranks there is a gradient, or no
                loss.
            DeviceError: A gradient or the optimizer's state is not on its parameter's device.

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
            ValueError, TypeError: The state is invalid, or belongs to another optimizer or other
                parameters; nothing has changed.
        """
