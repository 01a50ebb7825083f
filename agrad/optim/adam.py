"""Adam, and Adam with decoupled weight decay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from agrad.arguments import require_not_negative, require_share
from agrad.backend import Array, kernels
from agrad.optim.group import Params
from agrad.optim.rule import Rule, with_decay
from agrad.optim.rule_optimizer import RuleOptimizer, option

__all__ = ["Adam", "AdamRule", "AdamW", "AdamWRule"]


@dataclass(frozen=True)
class AdamRule(Rule):
    """The rule of `Adam`, with its options."""

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    amsgrad: bool
    cautious: bool = False

    def __post_init__(self) -> None:
        beta1, beta2 = self.betas
        require_share(self.name, **{"betas[0]": beta1, "betas[1]": beta2})
        require_not_negative(self.name, eps=self.eps, weight_decay=self.weight_decay)
        object.__setattr__(self, "betas", (beta1, beta2))

    @property
    def state(self) -> tuple[str, ...]:
        return ("average", "square_average", *(["peak"] if self.amsgrad else []))

    def numbers(self, rate: float, steps: int) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        return rate / (1 - beta1**steps), math.sqrt(1 - beta2**steps)

    def update(
        self,
        out: Array,
        grad: Array,
        values: Array,
        state: Mapping[str, Array],
        numbers: tuple[float, ...],
    ) -> None:
        self._adam(out, with_decay(grad, self.weight_decay, values), state, *numbers)

    def _adam(
        self,
        out: Array,
        grad: Array,
        state: Mapping[str, Array],
        rate: float,
        root_correction: float,
    ) -> None:
        kernel = kernels(grad).optimizer
        average, square = state["average"], state["square_average"]
        numbers = rate, *self.betas, self.eps, root_correction, self.cautious
        if self.amsgrad:
            kernel.amsgrad(out, grad, average, square, state["peak"], *numbers)
        else:
            kernel.adam(out, grad, average, square, *numbers)


@dataclass(frozen=True)
class AdamWRule(AdamRule):
    """The rule of `AdamW`, with its options."""

    def decay(self, rate: float) -> float:
        return rate * self.weight_decay

    def update(
        self,
        out: Array,
        grad: Array,
        values: Array,
        state: Mapping[str, Array],
        numbers: tuple[float, ...],
    ) -> None:
        self._adam(out, grad, state, *numbers)


class Adam(RuleOptimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980): Δ = -lr · m̂ / (√v̂ + eps).

    m̂ and v̂ are the exponential averages of g and of g², corrected for their start at zero.

    Args:
        params: The Tensors to train, or parameter groups, see `RuleOptimizer`.
        lr: The learning rate.
        betas: The share of each average that a step keeps.
        eps: Keeps the quotient finite.
        weight_decay: The factor λ of λθ, added to g.
        amsgrad: Divide by the largest average of g² so far (Reddi et al., arXiv:1904.09237).
        cautious: Leave out elements of Δ that go up the slope, see `RuleOptimizer`.

    Raises:
        ValueError, TypeError: An argument is out of its range, or is not a number.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([1.0, -20.0], requires_grad=True)
        >>> optimizer = optim.Adam([x], lr=0.5, betas=(0.5, 0.75))
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x
        tensor([  0.5, -19.5], requires_grad=True)
    """

    betas: tuple[float, float] = option("betas")
    eps: float = option("eps")
    weight_decay: float = option("weight_decay")
    amsgrad: bool = option("amsgrad")
    cautious: bool = option("cautious")

    _rule_type: type[AdamRule] = AdamRule

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        cautious: bool = False,
    ) -> None:
        super().__init__(params, lr, self._rule_type(betas, eps, weight_decay, amsgrad, cautious))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101).

    Like `Adam`, but the decay adds -lr · λθ to Δ rather than λθ to g. `cautious` never affects the
    decay.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([1.0, -20.0], requires_grad=True)
        >>> optimizer = optim.AdamW([x], lr=0.5, betas=(0.5, 0.75), weight_decay=0.5)
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x
        tensor([  0.25, -14.5 ], requires_grad=True)
    """

    _rule_type = AdamWRule

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        cautious: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, cautious=cautious)
