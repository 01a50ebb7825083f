"""Adam, and Adam with decoupled weight decay."""

from collections.abc import Iterable

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.tensor import Tensor
from agrad.gpu.deferred import as_dtype
from agrad.optim.block import Part
from agrad.optim.optimizer import Optimizer, require, with_decay

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980): Δ = -lr · m̂ / (√v̂ + eps).

    m̂ and v̂ are the exponential averages of g and of g², corrected for their start at zero.

    Args:
        params: the Tensors to train.
        lr: the learning rate.
        betas: the shares of the two averages that are kept.
        eps: what keeps the quotient finite.
        weight_decay: the factor λ of λθ, added to g.
        amsgrad: divide by the largest average of g² so far (Reddi et al., arXiv:1904.09237).

    Raises:
        ValueError, TypeError: an argument is out of its range, or no number.

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

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr)
        beta1, beta2 = betas
        require(
            self._name,
            "be in [0, 1)",
            lambda x: 0 <= x < 1,
            **{"betas[0]": beta1, "betas[1]": beta2},
        )
        require(self._name, "not be negative", lambda x: x >= 0, eps=eps, weight_decay=weight_decay)
        self.betas = (beta1, beta2)
        self.eps = eps
        self.weight_decay = weight_decay
        self.amsgrad = amsgrad

    def _state(self, param: Tensor) -> list[str]:
        return ["average", "square_average"] + (["peak"] if self.amsgrad else [])

    def _rule(self, part: Part, grad: Array, out: Array) -> None:
        self._adam(part, with_decay(grad, self.weight_decay, part.values), out)

    def _adam(self, part: Part, grad: Array, out: Array) -> None:
        beta1, beta2 = self.betas
        rule = kernels(grad).optimizer
        (rule.amsgrad if self.amsgrad else rule.adam)(
            out,
            grad,
            *part.state.values(),
            part.rate / (1 - beta1**part.steps),
            beta1,
            beta2,
            self.eps,
            np.sqrt(1 - beta2**part.steps),
        )


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, arXiv:1711.05101).

    As `Adam`, but the decay is -lr · λθ in Δ rather than λθ in g.

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

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    def _rule(self, part: Part, grad: Array, out: Array) -> None:
        self._adam(part, grad, out)
        if self.weight_decay:
            out -= as_dtype(part.rate * self.weight_decay, out.dtype) * part.values
