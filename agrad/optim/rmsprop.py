"""RMSprop: each gradient over the root of its mean square."""

from collections.abc import Iterable

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.tensor import Tensor
from agrad.optim.block import Part
from agrad.optim.optimizer import Optimizer, require, with_decay

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop: Δ = -lr · g / (√v + eps), where v ← alpha · v + (1 - alpha) · g².

    Source: G. Hinton, Neural Networks for Machine Learning, lecture 6e.

    Args:
        params: the Tensors to train.
        lr: the learning rate.
        alpha: the share of v that is kept.
        eps: what keeps the quotient finite.
        weight_decay: the factor λ of λθ, added to g.
        momentum: the share of the last update's direction that is added to the new one.
        centered: divide by the gradient's standard deviation, √(v - m²) with m its mean, instead.

    Raises:
        ValueError, TypeError: an argument is out of its range, or no number.

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

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(params, lr)
        require(self._name, "be in [0, 1)", lambda x: 0 <= x < 1, alpha=alpha)
        require(
            self._name,
            "not be negative",
            lambda x: x >= 0,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
        )
        self.alpha = alpha
        self.eps = eps
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.centered = centered

    def _state(self, param: Tensor) -> list[str]:
        names = ["square_average"]
        if self.centered:
            names.append("grad_average")
        if self.momentum:
            names.append("momentum")
        return names

    def _rule(self, part: Part, grad: Array, out: Array) -> None:
        grad = with_decay(grad, self.weight_decay, part.values)
        if not self.momentum:
            self._scale(part.state, grad, part.rate, out)
            return
        direction = np.empty_like(grad)
        self._scale(part.state, grad, -1.0, direction)
        kernels(grad).optimizer.heavy_ball(
            out, direction, part.state["momentum"], part.rate, self.momentum, 1.0, False
        )

    def _scale(self, state: dict[str, Array], grad: Array, lr: float, out: Array) -> None:
        """Put -lr · g / (√v + eps) into `out`."""
        averages = [state["square_average"]]
        rule = kernels(grad).optimizer.rmsprop
        if self.centered:
            averages.append(state["grad_average"])
            rule = kernels(grad).optimizer.centered_rmsprop
        rule(out, grad, *averages, lr, self.alpha, self.eps)
