"""RMSprop: each gradient over the root of its mean square."""

from collections.abc import Iterable

import numpy as np

from agrad.backend import Array, kernels
from agrad.optim.optimizer import Optimizer, Slot, require, with_decay
from agrad.tensor import Tensor

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

    def _begin(self, param: Tensor) -> dict[str, Array]:
        names = ["square_average"]
        if self.centered:
            names.append("grad_average")
        if self.momentum:
            names.append("momentum")
        return {name: np.zeros_like(param.data, order="C") for name in names}

    def _rule(self, slot: Slot, grad: Array) -> Array:
        grad = with_decay(grad, self.weight_decay, slot.param)
        if not self.momentum:
            return self._scaled(slot, grad, self.rate)
        direction = self._scaled(slot, grad, -1.0)
        delta = np.empty_like(direction)
        kernels(grad).optimizer.heavy_ball(
            delta.ravel(),
            direction.ravel(),
            slot.state["momentum"].ravel(),
            self.rate,
            self.momentum,
            1.0,
            False,
        )
        return delta

    def _scaled(self, slot: Slot, grad: Array, lr: float) -> Array:
        """Return -lr · g / (√v + eps)."""
        delta = np.empty_like(grad, order="C")
        flat, square_average = delta.ravel(), slot.state["square_average"].ravel()
        if self.centered:
            kernels(grad).optimizer.centered_rmsprop(
                flat,
                grad.ravel(),
                square_average,
                slot.state["grad_average"].ravel(),
                lr,
                self.alpha,
                self.eps,
            )
        else:
            kernels(grad).optimizer.rmsprop(
                flat, grad.ravel(), square_average, lr, self.alpha, self.eps
            )
        return delta
