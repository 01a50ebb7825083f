"""Schedules: the learning rate as a function of the number of steps."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from agrad.optim.arguments import require, require_integer
from agrad.optim.optimizer import Optimizer
from agrad.optim.state import require_count, require_dict

__all__ = ["CosineAnnealingLR", "LinearLR", "Schedule", "SequentialLR", "StepLR"]


class Schedule:
    """Gives an optimizer its `scale`, the factor on its learning rate, from step to step.

    `lr` itself does not change, and may be set or loaded at any time; `rate` is the effective rate.
    The factor is the same for all parameter groups.
    If an AverageGradient sets its rate automatically, the factor scales its step instead. A
    subclass defines `factor`.

    Args:
        optimizer: the optimizer, which takes its scale from this schedule from now on, or until
            another schedule is made for it.

    Attributes:
        steps: the number of steps made.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{self._name}: optimizer must be an Optimizer, got a {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.steps = 0
        self.current()  # an error comes here, not in a later step
        optimizer.scale_source = self

    def factor(self, steps: int) -> float:
        """Return the factor on the learning rate after `steps` steps."""
        raise TypeError(f"{self._name}: the schedule defines no factor")

    def step(self) -> None:
        """Count a step of the optimizer, and give the factor for the next one."""
        self.steps += 1
        self.optimizer.scale_source = self

    def current(self) -> float:
        """Return the factor on the learning rate after the steps made."""
        return self.factor(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps made."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises:
            ValueError: the state does not fit; nothing has changed.
        """
        if require_dict(self._name, "the state", state).keys() != {"steps"}:
            raise ValueError(f"{self._name}.load_state_dict: expected steps, got {sorted(state)}")
        self.steps = require_count(self._name, "steps", state["steps"])
        self.optimizer.scale_source = self

    @property
    def _name(self) -> str:
        return type(self).__name__


class StepLR(Schedule):
    """Multiply the rate by `gamma` every `step_size` steps.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> optimizer = optim.SGD([ag.tensor(0.0, requires_grad=True)], lr=8.0)
        >>> schedule = optim.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for _ in range(4):
        ...     print(optimizer.rate)
        ...     schedule.step()
        8.0
        8.0
        4.0
        4.0
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        require_integer(self._name, step_size=step_size)
        require(self._name, "not be negative", lambda x: x >= 0, gamma=gamma)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """Return `gamma` to the power of the number of complete periods of `step_size`."""
        return float(self.gamma ** (steps // self.step_size))


class CosineAnnealingLR(Schedule):
    """Lower the rate to `eta_min` in `T_max` steps, along half a period of a cosine.

    After `T_max` the rate follows the cosine up again, and so on. `eta_min` is a rate, not a
    factor, whatever `lr` is or becomes. If `lr` is automatic or 0, `eta_min` must be 0. With
    several parameter groups it is the lowest value of the highest rate; the ratios stay the same.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> optimizer = optim.SGD([ag.tensor(0.0, requires_grad=True)], lr=8.0)
        >>> schedule = optim.CosineAnnealingLR(optimizer, T_max=2)
        >>> for _ in range(3):
        ...     print(round(optimizer.rate, 9))
        ...     schedule.step()
        8.0
        4.0
        0.0
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        require_integer(self._name, T_max=T_max)
        require(self._name, "not be negative", lambda x: x >= 0, eta_min=eta_min)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """Return the factor on the cosine, by the learning rate in force.

        Raises:
            ValueError: `eta_min` is not 0, and the learning rate is automatic or 0.
        """
        optimizer = self.optimizer
        if self.eta_min and (optimizer.automatic or optimizer.lr == 0):
            raise ValueError(
                f"{self._name}: eta_min must be 0 if the learning rate is automatic or 0, "
                f"got {self.eta_min}"
            )
        lowest = self.eta_min / optimizer.lr if self.eta_min else 0.0
        wave = (1 + math.cos(math.pi * steps / self.T_max)) / 2
        return lowest + (1 - lowest) * wave


class LinearLR(Schedule):
    """A warm-up: from `start_factor` to `end_factor` times the rate in `total_iters` steps.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> optimizer = optim.SGD([ag.tensor(0.0, requires_grad=True)], lr=8.0)
        >>> schedule = optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> for _ in range(4):
        ...     print(optimizer.rate)
        ...     schedule.step()
        4.0
        6.0
        8.0
        8.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        require_integer(self._name, total_iters=total_iters)
        require(
            self._name,
            "not be negative",
            lambda x: x >= 0,
            start_factor=start_factor,
            end_factor=end_factor,
        )
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """Return the factor on the line; `end_factor` after its end."""
        way = min(steps, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * way


class SequentialLR(Schedule):
    """One schedule after another, each counting its own steps from 0.

    Args:
        optimizer: the optimizer of all of them.
        schedulers: the schedules; do not step them yourself.
        milestones: the step at which each schedule except the first begins.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> optimizer = optim.SGD([ag.tensor(0.0, requires_grad=True)], lr=8.0)
        >>> warm_up = optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> decay = optim.CosineAnnealingLR(optimizer, T_max=4)
        >>> schedule = optim.SequentialLR(optimizer, [warm_up, decay], milestones=[2])
        >>> for _ in range(5):
        ...     print(round(optimizer.rate, 3))
        ...     schedule.step()
        4.0
        6.0
        8.0
        6.828
        4.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[Schedule],
        milestones: Sequence[int],
    ) -> None:
        for i, milestone in enumerate(milestones):
            require(
                self._name,
                "be an integer that is not negative",
                lambda x: x >= 0 and x == int(x),
                **{f"milestones[{i}]": milestone},
            )
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(set(milestones)):
            raise ValueError(
                f"{self._name}: milestones must increase, one for each of the {len(schedulers)} "
                f"schedulers but the first, got {list(milestones)}"
            )
        for i, schedule in enumerate(schedulers):
            if schedule.optimizer is not optimizer:
                raise ValueError(f"{self._name}: schedulers[{i}] belongs to another optimizer")
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """Return the factor of the active schedule."""
        turn = bisect_right(self.milestones, steps)
        begin = self.milestones[turn - 1] if turn > 0 else 0
        return self.schedulers[turn].factor(steps - begin)
