"""RMSprop: each gradient divided by its root mean square."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agrad.arguments import require_not_negative, require_share
from agrad.backend import Array, kernels
from agrad.optim.group import Params
from agrad.optim.rule import Rule, require_momentum_if_cautious, with_decay
from agrad.optim.rule_optimizer import RuleOptimizer, option

__all__ = ["RMSprop", "RMSpropRule"]


@dataclass(frozen=True)
class RMSpropRule(Rule):
    """The rule of `RMSprop`, with its options."""

    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    cautious: bool = False

    def __post_init__(self) -> None:
        require_share(self.name, alpha=self.alpha)
        require_not_negative(
            self.name, eps=self.eps, weight_decay=self.weight_decay, momentum=self.momentum
        )
        require_momentum_if_cautious(self, self.momentum)

    @property
    def state(self) -> tuple[str, ...]:
        return (
            "square_average",
            *(["grad_average"] if self.centered else []),
            *(["momentum"] if self.momentum else []),
        )

    def numbers(self, rate: float, steps: int) -> tuple[float, ...]:
        return (rate,)

    def update(
        self,
        out: Array,
        grad: Array,
        values: Array,
        state: Mapping[str, Array],
        numbers: tuple[float, ...],
    ) -> None:
        (rate,) = numbers
        grad = with_decay(grad, self.weight_decay, values)
        if not self.momentum:
            self._scale(out, grad, state, rate)
            return
        direction = np.empty_like(grad)
        self._scale(direction, grad, state, -1.0)
        kernels(grad).optimizer.heavy_ball(
            out, direction, state["momentum"], rate, self.momentum, 1.0, False, self.cautious
        )

    def _scale(self, out: Array, grad: Array, state: Mapping[str, Array], lr: float) -> None:
        """Write -lr · g / (√v + eps) into `out`."""
        kernel = kernels(grad).optimizer
        square = state["square_average"]
        if self.centered:
            mean = state["grad_average"]
            kernel.centered_rmsprop(out, grad, square, mean, lr, self.alpha, self.eps)
        else:
            kernel.rmsprop(out, grad, square, lr, self.alpha, self.eps)


class RMSprop(RuleOptimizer):
    """RMSprop: Δ = -lr · g / (√v + eps), where v ← alpha · v + (1 - alpha) · g².

    Source: G. Hinton, Neural Networks for Machine Learning, lecture 6e.

    Args:
        params: The Tensors to train, or parameter groups, see `RuleOptimizer`.
        lr: The learning rate.
        alpha: The share of v that a step keeps.
        eps: Keeps the quotient finite.
        weight_decay: The factor λ of λθ, added to g.
        momentum: The share of the last update's direction that is added to the new one.
        centered: Divide by the gradient's standard deviation, √(v - m²) with m its mean.
        cautious: Leave out elements of Δ that go up the slope, see `RuleOptimizer`; needs momentum.

    Raises:
        ValueError, TypeError: An argument is out of its range, or is not a number.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([1.0, -20.0], requires_grad=True)
        >>> optimizer = optim.RMSprop([x], lr=0.1, alpha=0.75)
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x
        tensor([  0.8, -19.8], requires_grad=True)
    """

    alpha: float = option("alpha")
    eps: float = option("eps")
    weight_decay: float = option("weight_decay")
    momentum: float = option("momentum")
    centered: bool = option("centered")
    cautious: bool = option("cautious")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = RMSpropRule.alpha,
        eps: float = RMSpropRule.eps,
        weight_decay: float = RMSpropRule.weight_decay,
        momentum: float = RMSpropRule.momentum,
        centered: bool = RMSpropRule.centered,
        *,
        cautious: bool = RMSpropRule.cautious,
    ) -> None:
        rule = RMSpropRule(alpha, eps, weight_decay, momentum, centered, cautious)
        super().__init__(params, lr, rule)
