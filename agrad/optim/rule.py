"""Rules: the mathematics of an update, separate from the parameters it applies to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar

from agrad.backend import Array
from agrad.core.tensor import Tensor

__all__ = ["Rule", "require_momentum_if_cautious", "with_decay"]


class Rule(ABC):
    """How an update follows from the gradient: the options and the arithmetic.

    A subclass is a frozen dataclass of its options, which it checks on creation. The optimizer
    keeps the state and counts the steps, so one rule serves any number of parameters. Every rule's
    update is proportional to the learning rate.

    Example:
        Descent by the sign of the gradient:

        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad import optim
        >>> @dataclass(frozen=True)
        ... class SignRule(optim.Rule):
        ...     def numbers(self, rate, steps):
        ...         return (-rate,)
        ...     def update(self, out, grad, values, state, numbers):
        ...         np.multiply(np.sign(grad), numbers[0], out=out)
        >>> x = ag.tensor([1.0, -20.0], requires_grad=True)
        >>> optimizer = optim.RuleOptimizer([x], lr=0.5, rule=SignRule())
        >>> optimizer.step((x * x).sum())
        401.0
        >>> x
        tensor([  0.5, -19.5], requires_grad=True)
    """

    whole: ClassVar[bool] = False
    """Whether the rule updates a whole parameter in its shape, rather than element by element."""

    @property
    def name(self) -> str:
        """The optimizer's name, with which errors begin."""
        return type(self).__name__.removesuffix("Rule")

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the state arrays of each parameter, which start as zeros."""
        return ()

    def options(self, lr: float) -> dict[str, Any]:
        """Return the options by the names that a parameter group has for them.

        Args:
            lr: The group's learning rate, for options that are rates.
        """
        if not is_dataclass(self):
            return {}
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def with_options(self, options: Mapping[str, Any], lr: float) -> "Rule":
        """Return the rule with some options changed.

        Args:
            options: The new values by name, as from `options`.
            lr: The learning rate of the group that the options are for.

        Raises:
            ValueError, TypeError: An option is out of its range, or is not of its type.
        """
        return replace(self, **options) if options else self  # type: ignore[type-var]

    def for_param(self, param: Tensor) -> "Rule":
        """Return the rule for this parameter: this rule, or another if it does not apply."""
        return self

    @abstractmethod
    def numbers(self, rate: float, steps: int) -> tuple[float, ...]:
        """Return all numbers in the update that change from step to step.

        Args:
            rate: The learning rate in force.
            steps: How many steps the parameters have made, counting this one.
        """

    def decay(self, rate: float) -> float:
        """Return the share of the parameters that a decoupled weight decay takes in a step.

        It is proportional to the rate, and no part of the update.
        """
        return 0.0

    @abstractmethod
    def update(
        self,
        out: Array,
        grad: Array,
        values: Array,
        state: Mapping[str, Array],
        numbers: tuple[float, ...],
    ) -> None:
        """Write the update into `out`, and update the state.

        The arrays have one shape and dtype and are C-contiguous. They are
        one-dimensional, and hold consecutive elements of any parameters; if the rule is `whole`,
        they have the parameter's own shape.

        Args:
            out: Receives the update.
            grad: The gradients, read-only.
            values: The parameters, read-only.
            state: The state arrays, by name.
            numbers: What `numbers` returns for this step. While a step is recorded as a CUDA graph,
                each is a float64 array without axes, for kernels to read when the graph runs.
        """


def with_decay(grad: Array, weight_decay: float, values: Array) -> Array:
    """Return the gradient of the loss plus ½ weight_decay |θ|²."""
    return grad + float(weight_decay) * values if weight_decay else grad


def require_momentum_if_cautious(rule: Any, momentum: float) -> None:
    """Raise a ValueError if a rule is cautious, but has no momentum that could oppose the slope."""
    if rule.cautious and not momentum:
        raise ValueError(f"{rule.name}: cautious needs momentum, got momentum={momentum}")
