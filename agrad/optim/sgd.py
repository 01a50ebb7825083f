"""Gradient descent with momentum."""

from collections.abc import Mapping
from dataclasses import dataclass

from agrad.arguments import require, require_not_negative
from agrad.backend import Array, kernels
from agrad.optim.group import Params
from agrad.optim.rule import Rule, require_momentum_if_cautious, with_decay
from agrad.optim.rule_optimizer import RuleOptimizer, option

__all__ = ["SGD", "SGDRule"]


@dataclass(frozen=True)
class SGDRule(Rule):
    """The rule of `SGD`, with its options."""

    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    cautious: bool = False

    def __post_init__(self) -> None:
        require_not_negative(self.name, momentum=self.momentum, weight_decay=self.weight_decay)
        require(self.name, "be in [0, 1]", lambda x: 0 <= x <= 1, dampening=self.dampening)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"{self.name}: nesterov needs momentum and no dampening, "
                f"got momentum={self.momentum} and dampening={self.dampening}"
            )

        require_momentum_if_cautious(self, self.momentum)

    @property
    def state(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def numbers(self, rate: float, steps: int) -> tuple[float, ...]:
        if not self.momentum:
            return (-rate,)
        return rate, 1.0 if steps == 1 else 1 - self.dampening

    def update(
        self,
        out: Array,
        grad: Array,
        values: Array,
        state: Mapping[str, Array],
        numbers: tuple[float, ...],
    ) -> None:
        grad = with_decay(grad, self.weight_decay, values)
        kernel = kernels(grad).optimizer
        if not self.momentum:
            kernel.scale(out, grad, *numbers)
            return
        rate, fresh = numbers
        numbers = rate, self.momentum, fresh, self.nesterov, self.cautious
        kernel.heavy_ball(out, grad, state["momentum"], *numbers)


class SGD(RuleOptimizer):
    """Stochastic gradient descent: Δ = -lr · b, where b ← momentum · b + (1 - dampening) · g.

    Args:
        params: The Tensors to train, or parameter groups, see `RuleOptimizer`.
        lr: The learning rate.
        momentum: The share of b that a step keeps; with 0, b is g.
        dampening: Reduces what g adds to b, from the second step on.
        weight_decay: The factor λ of λθ, added to g.
        nesterov: Look ahead, Δ = -lr · (g + momentum · b); needs momentum and no dampening.
        cautious: Leave out elements of Δ that go up the slope, see `RuleOptimizer`; needs momentum.

    Raises:
        ValueError, TypeError: An argument is out of its range, or is not a number.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = optim.SGD([x], lr=0.25)
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x
        tensor([0.5, 1. ], requires_grad=True)
    """

    momentum: float = option("momentum")
    dampening: float = option("dampening")
    weight_decay: float = option("weight_decay")
    nesterov: bool = option("nesterov")
    cautious: bool = option("cautious")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        cautious: bool = False,
    ) -> None:
        super().__init__(params, lr, SGDRule(momentum, dampening, weight_decay, nesterov, cautious))
