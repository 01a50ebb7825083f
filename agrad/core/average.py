"""The true average gradient by quadrature, as a reference for the factorized one."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array, beside
from agrad.core.program import Program
from agrad.core.tensor import Tensor, plain, values_restored
from agrad.ops.quadrature import gauss_legendre

__all__ = ["average_gradient"]


def average_gradient(
    f: Callable[[], Tensor],
    params: Iterable[Tensor],
    update: Mapping[Tensor, ArrayLike],
    nodes: int = 8,
) -> dict[Tensor, Array]:
    """Return the average gradient ∫₀¹ ∇L(θ + tΔ) dt by Gauss-Legendre quadrature.

    This takes `nodes` forward and backward passes. For its factorized average,
    `Tensor.average_backward` takes two forward passes and one sweep back. The results differ by
    O(|Δ|²). While this function runs, the parameters hold values on the path; afterwards they have
    their own values again. No `.grad` changes.

    Args:
        f: A function without arguments that computes the scalar loss L from the values of
            `params`; called once for each node.
        params: The leaves θ to differentiate by, or a single one.
        update: The update Δ of each leaf that moves, of the leaf's shape; other leaves do not move.
        nodes: The number of quadrature nodes; the result is exact if the loss is a polynomial of
            degree 2·nodes in t.

    Returns:
        For each parameter, an array of its shape and dtype, summed in float64.

    Raises:
        ValueError: There is no parameter, perhaps because an iterator of them was used up; one
            requires no gradient, is not a leaf, or does not affect the loss; an
            update belongs to a tensor that is not in `params` or has a different shape; the loss
            has more than one element; or `nodes` is below 1.
        TypeError: `f` does not return a Tensor, a parameter is not a Tensor, or an update does not
            hold real numbers.

    Example:
        For w₁²·w₂ the average gradient is (⅔, ⅓) and the factorized one (½, ½); both are complete.

        >>> import agrad as ag
        >>> w1 = ag.tensor(0.0, requires_grad=True)
        >>> w2 = ag.tensor(0.0, requires_grad=True)
        >>> average = ag.average_gradient(lambda: w1 * w1 * w2, [w1, w2], {w1: 1.0, w2: 1.0})
        >>> [round(float(average[w]), 6) for w in (w1, w2)]
        [0.666667, 0.333333]
    """
    params = [params] if isinstance(params, Tensor) else list(params)
    if not params:
        raise ValueError("average_gradient: params is empty; there is nothing to differentiate by")
    deltas = _checked_updates(params, update)
    starts = [param.data for param in params]
    total = [np.zeros_like(start, dtype=np.float64) for start in starts]
    reached = [False] * len(starts)
    with values_restored(params):
        for position, weight in gauss_legendre(nodes):
            for param, start, delta in zip(params, starts, deltas, strict=True):
                param.data = start + position * delta
            grads = _gradients(f())
            for i, param in enumerate(params):
                if param in grads:
                    reached[i] = True
                    total[i] += weight * grads[param]
    for i, start in enumerate(starts):
        if not reached[i]:
            raise ValueError(
                f"average_gradient: the loss does not depend on params[{i}], of shape "
                f"{start.shape}; f must compute the loss from the tensors in params at every call"
            )
    return {param: grad.astype(param.dtype) for param, grad in zip(params, total, strict=True)}


def _gradients(loss: Tensor) -> Mapping[Tensor, Array]:
    """Return the gradient of each leaf without changing its `.grad`."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"average_gradient: f returned a {type(loss).__name__}, not a Tensor")
    if loss.size != 1:
        raise ValueError(
            f"average_gradient: f returned a tensor of shape {loss.shape}; it must have a single "
            "element: reduce it with sum() or mean()"
        )
    one = np.ones_like(loss.data)
    if loss.node is None:
        return {loss: one} if loss.requires_grad else {}
    return Program(loss.node).backward(one, retain_graph=False)


def _checked_updates(params: Sequence[Tensor], update: Mapping[Tensor, ArrayLike]) -> list[Array]:
    """Return the update of each parameter, zeros by default."""
    for i, param in enumerate(params):
        if not isinstance(param, Tensor):
            raise TypeError(
                f"average_gradient: params[{i}] is a {type(param).__name__}, not a Tensor"
            )
        if not param.is_leaf or not param.requires_grad:
            reason = "requires no gradient" if param.is_leaf else "is computed, not a leaf"
            raise ValueError(f"average_gradient: params[{i}], of shape {param.shape}, {reason}")
    deltas = {param: np.zeros_like(param.data) for param in params}
    for i, (param, values) in enumerate(update.items()):
        if param not in deltas:
            raise ValueError(f"average_gradient: the tensor of update {i} is not in params")
        delta = beside("average_gradient", f"update {i}", plain(values), param.data)
        if delta.shape != param.shape:
            raise ValueError(
                f"average_gradient: update {i} has shape {delta.shape}, its tensor {param.shape}"
            )
        if delta.dtype.kind not in "biuf":
            raise TypeError(
                f"average_gradient: update {i} has dtype {delta.dtype}; it must hold real numbers"
            )
        deltas[param] = delta
    return [deltas[param] for param in params]
