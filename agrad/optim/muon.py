"""Muon: momentum that gives every direction of a matrix the same length."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from agrad.arguments import integer, require_not_negative, require_share
from agrad.backend import Array, kernels
from agrad.core.tensor import Tensor
from agrad.optim.group import Params
from agrad.optim.rmsprop import RMSpropRule
from agrad.optim.rule import Rule
from agrad.optim.rule_optimizer import RuleOptimizer, option

__all__ = ["Muon", "MuonRule", "Proportional", "orthogonalize"]

Adjustment = Literal["original", "match_rms_adamw"]


@dataclass(frozen=True)
class MuonRule(Rule):
    """The rule of `Muon` for matrices, with its options, and the rule for all other parameters.

    `proportion` is the others' learning rate at one for matrices, if the two are not the same.
    """

    weight_decay: float
    momentum: float
    nesterov: bool
    ns_coefficients: tuple[float, float, float]
    eps: float
    ns_steps: int
    adjust_lr_fn: Adjustment | None
    others: RMSpropRule
    proportion: tuple[float, float] | None
    cautious: bool = False

    whole = True

    def __post_init__(self) -> None:
        require_not_negative(self.name, weight_decay=self.weight_decay, eps=self.eps)
        require_share(self.name, momentum=self.momentum)
        integer(self.name, "ns_steps", self.ns_steps, least=1)
        if len(self.ns_coefficients) != 3:
            raise ValueError(
                f"{self.name}: ns_coefficients must be three numbers, got {self.ns_coefficients}"
            )
        object.__setattr__(self, "ns_coefficients", tuple(self.ns_coefficients))
        if self.adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"{self.name}: adjust_lr_fn must be 'original' or 'match_rms_adamw', "
                f"got {self.adjust_lr_fn!r}"
            )

    @property
    def state(self) -> tuple[str, ...]:
        return ("average",)

    def options(self, lr: float) -> dict[str, Any]:
        options = super().options(lr)
        others, proportion = options.pop("others"), options.pop("proportion")
        rmsprop = others.options(lr)
        if proportion is not None:
            others_lr, own_lr = proportion
            rmsprop["lr"] = others_lr * (lr / own_lr if own_lr else 1.0)
        return options | {"rmsprop": MappingProxyType(rmsprop)}

    def with_options(self, options: Mapping[str, Any], lr: float) -> Rule:
        options = dict(options)
        if "rmsprop" in options:
            options |= _others(options.pop("rmsprop"), lr)
        return super().with_options(options, lr)

    def for_param(self, param: Tensor) -> Rule:
        return self if param.ndim == 2 else self._proportional

    @cached_property
    def _proportional(self) -> Rule:
        others_lr, lr = self.proportion or (1.0, 1.0)
        return Proportional(self.others, others_lr / lr if lr else 1.0)

    def numbers(self, rate: float, steps: int) -> tuple[float, ...]:
        return (-rate,)

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
        (minus_rate,) = numbers
        average, momentum = state["average"], float(self.momentum)
        average += (1 - momentum) * (grad - average)
        direction = grad + momentum * (average - grad) if self.nesterov else average
        nearly = orthogonalize(direction, self.ns_coefficients, self.ns_steps, self.eps)
        if self.cautious:
            nearly *= np.sign(nearly) * grad >= 0
        factor = minus_rate * self._factor(*grad.shape)
        kernels(grad).optimizer.scale(out, nearly, factor)

    def _factor(self, rows: int, columns: int) -> float:
        """Return s, the factor on the update of a matrix of that shape."""
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1, rows / max(columns, 1)))


@dataclass(frozen=True)
class Proportional(Rule):
    """Another rule, at `factor` times the optimizer's learning rate."""

    rule: Rule
    factor: float

    @property
    def state(self) -> tuple[str, ...]:
        return self.rule.state

    def numbers(self, rate: float, steps: int) -> tuple[float, ...]:
        return self.rule.numbers(rate * self.factor, steps)

    def decay(self, rate: float) -> float:
        return self.rule.decay(self.factor * rate)

    def update(
        self,
        out: Array,
        grad: Array,
        values: Array,
        state: Mapping[str, Array],
        numbers: tuple[float, ...],
    ) -> None:
        self.rule.update(out, grad, values, state, numbers)


class Muon(RuleOptimizer):
    """Muon (Jordan et al., https://kellerjordan.github.io/posts/muon) for matrices, else RMSprop.

    A matrix's update is Δ = -lr · (s · O + λθ). O is the average m of the gradients (or, with
    nesterov, momentum · m + (1 - momentum) · g) made nearly orthogonal: its singular values all
    become roughly 1. s depends on the matrix's shape. `RMSprop` updates all other parameters.

    Args:
        params: The Tensors to train, or parameter groups, see `RuleOptimizer`.
        lr: The learning rate.
        weight_decay: The factor λ, for matrices.
        momentum: The share of the average m that a step keeps.
        nesterov: Look ahead, as above.
        ns_coefficients: a, b and c of the Newton-Schulz iteration, see `orthogonalize`.
        eps: Keeps its first quotient finite.
        ns_steps: The number of its iterations.
        adjust_lr_fn: The factor s for a matrix of m rows and n columns: "original" or None,
            √max(1, m/n), or "match_rms_adamw", 0.2 √max(m, n), which makes updates as large as
            AdamW's (arXiv:2502.16982).
        rmsprop: The arguments of `RMSprop` for the other parameters. Its `lr` defaults to
            `lr`, and otherwise changes in proportion to it, so that `lr` must not be 0 then. A
            parameter group may have its own.
        cautious: Leave out elements of s · O that go up the slope, see `RuleOptimizer`. For the
            other parameters it is an argument of `rmsprop`.

    Raises:
        ValueError, TypeError: An argument is out of its range, or is not a number.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> weight = ag.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> bias = ag.tensor([0.0, 0.0], requires_grad=True)
        >>> optimizer = optim.Muon([weight, bias], lr=0.02, rmsprop={"lr": 1e-3, "alpha": 0.9})
        >>> (np.array([[1.0, 2.0]], np.float32) @ weight + bias).sum().backward()
        >>> optimizer.step()
    """

    weight_decay: float = option("weight_decay")
    momentum: float = option("momentum")
    nesterov: bool = option("nesterov")
    ns_coefficients: tuple[float, float, float] = option("ns_coefficients")
    eps: float = option("eps")
    ns_steps: int = option("ns_steps")
    adjust_lr_fn: Adjustment | None = option("adjust_lr_fn")
    rmsprop: Mapping[str, Any] = option("rmsprop")
    cautious: bool = option("cautious")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Adjustment | None = None,
        rmsprop: Mapping[str, Any] | None = None,
        *,
        cautious: bool = False,
    ) -> None:
        require_not_negative(self.name, lr=lr)
        if lr == 0 and rmsprop and rmsprop.get("lr", 0) != 0:
            raise ValueError("Muon: lr is 0, and the lr of rmsprop cannot be in proportion to it")
        rule = MuonRule(
            weight_decay,
            momentum,
            nesterov,
            ns_coefficients,
            eps,
            ns_steps,
            adjust_lr_fn,
            **_others(rmsprop or {}, lr),
            cautious=cautious,
        )
        super().__init__(params, lr, rule)


def _others(rmsprop: Mapping[str, Any], lr: float) -> dict[str, Any]:
    """Return the fields of `MuonRule` for arguments of `RMSprop`, at that rate for matrices."""
    known = ["lr", *(field.name for field in fields(RMSpropRule))]
    if unknown := [name for name in rmsprop if name not in known]:
        raise ValueError(
            f"Muon: rmsprop has no option {unknown[0]!r}; its options are {', '.join(known)}"
        )
    options = dict(rmsprop)
    own_lr = options.pop("lr", lr)
    require_not_negative("RMSprop", lr=own_lr)
    proportion = (float(own_lr), float(lr)) if "lr" in rmsprop else None
    return {"others": RMSpropRule(**options), "proportion": proportion}


def orthogonalize(
    matrix: Array, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Array:
    """Return a new matrix with the same singular vectors and singular values near 1.

    Newton-Schulz: from X = matrix / |matrix|, `steps` times X ← aX + (bA + cA²)X with A = XXᵀ. Each
    step maps a singular value σ to aσ + bσ³ + cσ⁵. With the coefficients published for Muon, the
    singular values end up between about 0.7 and 1.2 rather than at 1.

    Example:
        >>> import numpy as np
        >>> from agrad.optim.muon import orthogonalize
        >>> matrix = np.random.default_rng(0).normal(size=(3, 5))
        >>> values = np.linalg.svd(orthogonalize(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7))[1]
        >>> bool(0.6 < values.min() and values.max() < 1.3)
        True
    """
    a, b, c = map(float, coefficients)
    # XXᵀ is the smaller product if X is wider than tall.
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / np.maximum(np.linalg.norm(wide), float(eps))
    matmul = kernels(x).product.matmul
    for _ in range(steps):
        gram = matmul(x, x.T)
        x = a * x + matmul(b * gram + c * matmul(gram, gram), x)
    return np.ascontiguousarray(x if wide is matrix else x.T, like=x)
