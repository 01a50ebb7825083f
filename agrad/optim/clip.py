"""Clipping of gradients, in place."""

import math
from collections.abc import Iterable

import numpy as np

from agrad.arguments import require, require_not_negative
from agrad.core.tensor import Tensor
from agrad.errors import NonFiniteError
from agrad.gpu.deferred import values
from agrad.optim.arguments import listed_params

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def clip_grad_norm_(
    params: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0
) -> float:
    """Scale all gradients by one factor so that their joint norm is at most `max_norm`.

    As in PyTorch, the factor is max_norm / (norm + 1e-6) if that is below 1, and 1 otherwise.

    Args:
        params: The Tensors whose gradients to clip, or a single one; Tensors without a gradient are
            skipped.
        max_norm: The largest norm; with inf, the norm is only computed.
        norm_type: p of the p-norm, or inf.

    Returns:
        The joint norm before clipping.

    Raises:
        TypeError: `params` is not a Tensor or an iterable of Tensors.
        ValueError: `max_norm` or `norm_type` is not positive, or `params` is a used-up iterator.
        NonFiniteError: A gradient is NaN or infinite. Nothing has changed.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([3.0, 4.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> optim.clip_grad_norm_([x], max_norm=5.0)
        10.0
        >>> x.grad.round(3)
        array([3., 4.], dtype=float32)
    """
    for name, value in (("max_norm", max_norm), ("norm_type", norm_type)):
        if value != math.inf:
            require("clip_grad_norm_", "be positive", lambda x: x > 0, **{name: value})
    listed = listed_params("clip_grad_norm_", params)
    grads = [param.grad for param in listed if param.grad is not None]
    # In double precision the square of a large float32 does not overflow.
    norms = (np.linalg.norm(grad.ravel().astype(np.float64), norm_type) for grad in grads)
    total = float(np.linalg.norm(values(tuple(norms)), norm_type)) if grads else 0.0
    if not math.isfinite(total):
        raise NonFiniteError(
            f"clip_grad_norm_: the norm of the gradients is {total}; lower the learning rate, or "
            "look for NaN in the inputs"
        )
    factor = max_norm / (total + 1e-6)
    if factor < 1:
        for grad in grads:
            grad *= factor
    return total


def clip_grad_value_(params: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip each element of the gradients to [-clip_value, clip_value].

    Args:
        params: The Tensors whose gradients to clip, or a single one; Tensors without a gradient are
            skipped.
        clip_value: The largest magnitude.

    Raises:
        TypeError: `params` is not a Tensor or an iterable of Tensors.
        ValueError: `clip_value` is negative, or `params` is a used-up iterator.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([3.0, -0.25], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> optim.clip_grad_value_([x], 1.0)
        >>> x.grad
        array([ 1. , -0.5], dtype=float32)
    """
    require_not_negative("clip_grad_value_", clip_value=clip_value)
    for param in listed_params("clip_grad_value_", params):
        if param.grad is not None:
            np.clip(param.grad, -clip_value, clip_value, out=param.grad)
