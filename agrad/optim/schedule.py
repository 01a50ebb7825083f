"""Schedules: the learning rate as a function of the number of steps."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agrad.arguments import integer, require, require_not_negative
from agrad.optim.optimizer import Optimizer
from agrad.optim.state import require_count, require_dict

__all__ = [
    "CosineAnnealingLR",
    "LinearLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
]


class Schedule:
    """Gives an optimizer its `scale`, the factor on its learning rate, from step to step.

    `lr` itself does not change, and may be set or loaded at any time; `rate` is the effective rate.
    The factor is the same for all parameter groups.
    If an AverageGradient sets its rate automatically, the factor scales its step instead. A
    subclass defines `factor`.

    Args:
        optimizer: The optimizer, which takes its scale from this schedule from now on, or until
            another schedule is made for it.

    Attributes:
        steps: The number of steps made.
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
            ValueError: The state does not fit; nothing has changed.
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
        integer(self._name, "step_size", step_size, least=1)
        require_not_negative(self._name, gamma=gamma)
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
        integer(self._name, "T_max", T_max, least=1)
        require_not_negative(self._name, eta_min=eta_min)
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
        integer(self._name, "total_iters", total_iters, least=1)
        require_not_negative(self._name, start_factor=start_factor, end_factor=end_factor)
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
        optimizer: The optimizer of all of them.
        schedulers: The schedules; do not step them yourself.
        milestones: The step at which each schedule except the first begins.

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
            integer(self._name, f"milestones[{i}]", milestone, least=0)
        if (
            not schedulers
            or len(milestones) != len(schedulers) - 1
            or list(milestones) != sorted(set(milestones))
        ):
            raise ValueError(
                f"{self._name}: milestones must increase, one for each of the {len(schedulers)} "
                f"schedulers but the first, got {list(milestones)}"
            )
        for i, schedule in enumerate(schedulers):
            if not isinstance(schedule, Schedule) or isinstance(schedule, ReduceLROnPlateau):
                raise TypeError(
                    f"{self._name}: schedulers[{i}] must be a schedule by steps, got a "
                    f"{type(schedule).__name__}"
                )
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


class OneCycleLR(Schedule):
    """One cycle: from a low rate up to `max_lr`, and down to almost 0.

    The momentum does not change, unlike in PyTorch by default. After `total_steps` the rate stays
    constant. With several parameter groups, `max_lr` is the peak of the highest rate; the ratios
    stay the same.

    Args:
        optimizer: The optimizer.
        max_lr: The peak, a rate and not a factor, whatever `lr` is; None for `lr` itself, as an
            automatic rate requires.
        total_steps: The number of steps of the cycle, at least 2.
        pct_start: The share of the cycle in which the rate rises.
        anneal_strategy: The form of rise and fall: "cos" or "linear".
        div_factor: The first rate is `max_lr` / `div_factor`.
        final_div_factor: The last rate is the first / `final_div_factor`.
        three_phase: Whether the rate falls to the first rate symmetrically to the rise, and then to
            the last one; otherwise it falls straight to the last.

    Raises:
        ValueError: An argument is out of its range; the learning rate is automatic or 0 and
            `max_lr` is given.

    Source: Smith and Topin, "Super-Convergence", arXiv:1708.07120.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> optimizer = optim.SGD([ag.tensor(0.0, requires_grad=True)], lr=1.0)
        >>> schedule = optim.OneCycleLR(optimizer, max_lr=8.0, total_steps=5, pct_start=0.5)
        >>> for _ in range(5):
        ...     print(round(optimizer.rate, 3))
        ...     schedule.step()
        0.32
        6.08
        7.236
        2.764
        0.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | None,
        total_steps: int,
        *,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        integer(self._name, "total_steps", total_steps, least=1)
        require(self._name, "be at least 2", lambda x: x >= 2, total_steps=total_steps)
        require(self._name, "be in [0, 1]", lambda x: 0 <= x <= 1, pct_start=pct_start)
        require(
            self._name,
            "be positive",
            lambda x: x > 0,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            **({} if max_lr is None else {"max_lr": max_lr}),
        )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f'{self._name}: anneal_strategy must be "cos" or "linear", got {anneal_strategy!r}'
            )
        self.max_lr = max_lr
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.three_phase = three_phase
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """Return the factor on the cycle, by the learning rate in force.

        Raises:
            ValueError: `max_lr` is given, and the learning rate is automatic or 0.
        """
        optimizer = self.optimizer
        if self.max_lr is not None and (optimizer.automatic or optimizer.lr == 0):
            raise ValueError(
                f"{self._name}: max_lr must be None if the learning rate is automatic or 0, "
                f"got {self.max_lr}"
            )
        peak = 1.0 if self.max_lr is None else self.max_lr / optimizer.lr
        first = peak / self.div_factor
        last = first / self.final_div_factor
        top, bottom = self.pct_start * self.total_steps - 1, self.total_steps - 1
        phases = [(0.0, top, first, peak), (top, bottom, peak, last)]
        if self.three_phase:
            phases[1:] = [(top, 2 * top, peak, first), (2 * top, bottom, first, last)]
        now = min(steps, bottom)
        begin, end, start, stop = next((phase for phase in phases if now <= phase[1]), phases[-1])
        return self._between(start, stop, (now - begin) / (end - begin) if end > begin else 1.0)

    def _between(self, start: float, end: float, way: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * way
        return end + (start - end) / 2 * (1 + math.cos(math.pi * way))


class ReduceLROnPlateau(Schedule):
    """Multiply the rate by `factor` when a metric has stopped improving.

    Args:
        optimizer: The optimizer.
        mode: "min" if a lower metric is better, "max" if a higher one is.
        factor: The factor, in (0, 1).
        patience: The number of steps without an improvement that are allowed.
        threshold: How much better than the best a metric must be.
        threshold_mode: Whether the threshold is a share of the best metric, "rel", or a difference,
            "abs".
        cooldown: The number of steps after a reduction that do not count.
        min_lr: A rate below which the schedule does not go; 0 for an automatic rate.
        eps: A reduction of the rate by less is left out.

    Raises:
        ValueError: An argument is out of its range; the learning rate is automatic or 0 and
            `min_lr` is not 0.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> optimizer = optim.SGD([ag.tensor(0.0, requires_grad=True)], lr=8.0)
        >>> schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        >>> for loss in (3.0, 2.0, 2.0, 2.5, 1.0):
        ...     schedule.step(loss)
        ...     print(optimizer.rate)
        8.0
        8.0
        8.0
        4.0
        4.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        for name, value, known in (
            ("mode", mode, ("min", "max")),
            ("threshold_mode", threshold_mode, ("rel", "abs")),
        ):
            if value not in known:
                raise ValueError(f"{self._name}: {name} must be one of {known}, got {value!r}")
        require(self._name, "be in (0, 1)", lambda x: 0 < x < 1, factor=factor)
        require_not_negative(
            self._name,
            threshold=threshold,
            min_lr=min_lr,
            eps=eps,
        )
        self.mode = mode
        self.reduction = factor
        self.patience = integer(self._name, "patience", patience, least=0)
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = integer(self._name, "cooldown", cooldown, least=0)
        self.min_lr = min_lr
        self.eps = eps
        self.scale = 1.0
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        super().__init__(optimizer)

    def current(self) -> float:
        """Return the product of the reductions so far, at least `min_lr` as a rate.

        Raises:
            ValueError: `min_lr` is not 0, and the learning rate is automatic or 0.
        """
        return max(self.scale, min(self._lowest(), 1.0))

    def _lowest(self) -> float:
        optimizer = self.optimizer
        if self.min_lr and (optimizer.automatic or optimizer.lr == 0):
            raise ValueError(
                f"{self._name}: min_lr must be 0 if the learning rate is automatic or 0, "
                f"got {self.min_lr}"
            )
        return self.min_lr / optimizer.lr if self.min_lr else 0.0

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Count a metric, usually the validation loss after an epoch; perhaps reduce the rate.

        NaN is never an improvement.
        """
        if isinstance(metrics, bool) or not isinstance(metrics, int | float | np.number):
            raise TypeError(f"{self._name}: metrics must be a number, got {type(metrics).__name__}")
        lowest = self._lowest()
        self.steps += 1
        if not math.isnan(metrics) and (self.best is None or self._is_better(metrics, self.best)):
            self.best = float(metrics)
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            reduced = max(self.scale * self.reduction, lowest)
            if self.optimizer.lr * (self.scale - reduced) > self.eps:
                self.scale = reduced
        self.optimizer.scale_source = self

    def _is_better(self, metric: float, best: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        relative = self.threshold_mode == "rel"
        bound = best * (1 + sign * self.threshold) if relative else best + sign * self.threshold
        return sign * metric > sign * bound

    def state_dict(self) -> dict[str, Any]:
        """Return the factor, the best metric and the counts."""
        return {name: getattr(self, name) for name in _PLATEAU}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises:
            ValueError: The state does not fit; nothing has changed.
            TypeError: The factor or the best metric is not a number; nothing has changed.
        """
        if require_dict(self._name, "the state", state).keys() != set(_PLATEAU):
            raise ValueError(
                f"{self._name}.load_state_dict: expected {sorted(_PLATEAU)}, got {sorted(state)}"
            )
        require(self._name, "be in [0, 1]", lambda x: 0 <= x <= 1, scale=state["scale"])
        if state["best"] not in (None, math.inf, -math.inf):
            require(self._name, "be a number", lambda _: True, best=state["best"])
        for name in _PLATEAU_COUNTS:
            require_count(self._name, name, state[name])
        for name in _PLATEAU:
            setattr(self, name, state[name])
        self.optimizer.scale_source = self


_PLATEAU_COUNTS = ("steps", "num_bad_epochs", "cooldown_counter")
_PLATEAU = ("scale", "best", *_PLATEAU_COUNTS)
