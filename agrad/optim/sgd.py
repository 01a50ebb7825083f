"""Gradient descent with momentum."""

from collections.abc import Iterable

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.tensor import Tensor
from agrad.gpu.deferred import as_dtype
from agrad.optim.block import Part
from agrad.optim.optimizer import Optimizer, require, with_decay

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent: Δ = -lr · b, where b ← momentum · b + (1 - dampening) · g.

    Args:
        params: the Tensors to train.
        lr: the learning rate.
        momentum: the share of b that is kept; 0 keeps none, and b is g.
        dampening: reduces what g adds to b, from the second step on.
        weight_decay: the factor λ of λθ, added to g.
        nesterov: look ahead, Δ = -lr · (g + momentum · b); needs momentum, and no dampening.

    Raises:
        ValueError, TypeError: an argument is out of its range, or no number.

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

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr)
        require(
            self._name,
            "not be negative",
            lambda x: x >= 0,
            momentum=momentum,
            weight_decay=weight_decay,
        )
        require(self._name, "be in [0, 1]", lambda x: 0 <= x <= 1, dampening=dampening)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                f"{self._name}: nesterov needs a momentum and no dampening, "
                f"got momentum={momentum} and dampening={dampening}"
            )
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov

    def _state(self, param: Tensor) -> list[str]:
        return ["momentum"] if self.momentum else []

    def _rule(self, part: Part, grad: Array, out: Array) -> None:
        grad = with_decay(grad, self.weight_decay, part.values)
        if self.momentum:
            fresh = 1.0 if part.first else 1 - self.dampening
            kernels(grad).optimizer.heavy_ball(
                out, grad, part.state["momentum"], part.rate, self.momentum, fresh, self.nesterov
            )
        else:
            np.multiply(grad, as_dtype(-part.rate, grad.dtype), out=out)
