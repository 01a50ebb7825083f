"""Muon: momentum with every direction of a matrix given the same length."""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.tensor import Tensor
from agrad.gpu.deferred import as_dtype
from agrad.optim.block import Part
from agrad.optim.optimizer import Optimizer, require
from agrad.optim.rmsprop import RMSprop

__all__ = ["Muon", "orthogonalize"]


class Muon(Optimizer):
    """Muon (Jordan et al., https://kellerjordan.github.io/posts/muon) for matrices, else RMSprop.

    A matrix's update is Δ = -lr · (s · O + λθ). O is the average m of the gradients (or, looking
    ahead, momentum · m + (1 - momentum) · g) made nearly orthogonal: its singular values all go to
    around 1. s depends on the matrix's shape. Parameters that are no matrices are `RMSprop`'s.

    Args:
        params: the Tensors to train.
        lr: the learning rate.
        weight_decay: the factor λ, for matrices.
        momentum: the share of the average m that is kept.
        nesterov: look ahead.
        ns_coefficients: a, b and c of the Newton-Schulz iteration, see `orthogonalize`.
        eps: what keeps its first quotient finite.
        ns_steps: how many iterations it makes.
        adjust_lr_fn: the factor s for a matrix of m rows and n columns: "original" or None,
            √max(1, m/n), or "match_rms_adamw", 0.2 √max(m, n), whose updates are as large as
            AdamW's (arXiv:2502.16982).
        rmsprop: the arguments of `RMSprop` for the other parameters. Its `lr` is `lr` where not
            given, and otherwise follows every change of `lr` in proportion.

    Raises:
        ValueError, TypeError: an argument is out of its range, or no number.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> weight = ag.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> bias = ag.tensor([0.0, 0.0], requires_grad=True)
        >>> optimizer = optim.Muon([weight, bias], lr=0.02, rmsprop={"lr": 1e-3, "alpha": 0.9})
        >>> (np.array([[1.0, 2.0]], np.float32) @ weight + bias).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None,
        rmsprop: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(params, lr)
        require(self._name, "not be negative", lambda x: x >= 0, weight_decay=weight_decay, eps=eps)
        require(self._name, "be in [0, 1)", lambda x: 0 <= x < 1, momentum=momentum)
        require(
            self._name,
            "be an integer of at least 1",
            lambda x: x >= 1 and x == int(x),
            ns_steps=ns_steps,
        )
        if len(ns_coefficients) != 3:
            raise ValueError(
                f"{self._name}: ns_coefficients must be three numbers, got {ns_coefficients}"
            )
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"{self._name}: adjust_lr_fn must be 'original' or 'match_rms_adamw', "
                f"got {adjust_lr_fn!r}"
            )
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.nesterov = nesterov
        self.ns_coefficients = ns_coefficients
        self.eps = eps
        self.ns_steps = ns_steps
        self.adjust_lr_fn = adjust_lr_fn
        # It lends its rule alone: the blocks, and with them the state, are kept here.
        self._rmsprop = RMSprop(self.params, **{"lr": lr, **(rmsprop or {})})
        self._rmsprop_lr = self._rmsprop.lr / lr if lr else 1.0

    def _state(self, param: Tensor) -> list[str]:
        return ["average"] if param.ndim == 2 else self._rmsprop._state(param)

    def _alike(self, param: Tensor) -> Hashable:
        return param if param.ndim == 2 else None

    def _rule(self, part: Part, grad: Array, out: Array) -> None:
        if "average" not in part.state:
            own = replace(part, rate=part.rate * self._rmsprop_lr)
            self._rmsprop._rule(own, grad, out)
            return
        average = part.state["average"]
        average += (1 - self.momentum) * (grad - average)
        direction = grad + self.momentum * (average - grad) if self.nesterov else average
        rows, columns = part.shape  # type: ignore[misc]
        if self.adjust_lr_fn == "match_rms_adamw":
            factor = 0.2 * math.sqrt(max(rows, columns))
        else:
            factor = math.sqrt(max(1, rows / max(columns, 1)))
        matrix = direction.reshape(rows, columns)
        nearly = orthogonalize(matrix, self.ns_coefficients, self.ns_steps, self.eps)
        np.multiply(nearly.ravel(), as_dtype(-part.rate * factor, out.dtype), out=out)
        if self.weight_decay:
            out -= as_dtype(part.rate * self.weight_decay, out.dtype) * part.values


def orthogonalize(
    matrix: Array, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Array:
    """Return a new matrix of the same singular vectors, its singular values all around 1.

    Newton-Schulz: from X = matrix / |matrix|, `steps` times X ← aX + (bA + cA²)X with A = XXᵀ, each
    of which takes a singular value σ to aσ + bσ³ + cσ⁵. With the coefficients published for Muon,
    they end up between about 0.7 and 1.2 rather than at 1.

    Example:
        >>> import numpy as np
        >>> from agrad.optim.muon import orthogonalize
        >>> matrix = np.random.default_rng(0).normal(size=(3, 5))
        >>> values = np.linalg.svd(orthogonalize(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7))[1]
        >>> bool(0.6 < values.min() and values.max() < 1.3)
        True
    """
    a, b, c = coefficients
    # XXᵀ is the smaller product where X is wider than tall.
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / np.maximum(np.linalg.norm(wide), eps)
    matmul = kernels(x).product.matmul
    for _ in range(steps):
        gram = matmul(x, x.T)
        x = a * x + matmul(b * gram + c * matmul(gram, gram), x)
    return np.ascontiguousarray(x if wide is matrix else x.T, like=x)
