"""Measure the order with which the factorized average gradient approaches the true one."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array
from agrad.core.average import average_over_nodes
from agrad.core.tensor import Tensor
from agrad.ops.quadrature import gauss_legendre
from agrad.testing.audit import audit
from agrad.testing.subject import swept_average

__all__ = ["largest", "length", "measure_order", "measure_orders"]

HALVINGS = 30
NODES = 12

Updates = Mapping[Tensor, ArrayLike]


def measure_order(
    f: Callable[[], Tensor], params: Sequence[Tensor], update: Updates, **path: Any
) -> float | None:
    """Return the exponent p of the error of the average gradient, which falls as Δᵖ.

    The error is the distance between the result of `average_backward` and Gauss-Legendre quadrature
    of the gradient, as Δ is halved. Errors close to rounding are left out, and so are updates too
    long for the quadrature to converge.

    Args:
        f: A function without arguments that computes a scalar from the values of `params`.
        params: The float64 leaves to differentiate with respect to.
        update: Δ of each leaf that moves, of the leaf's shape.
        path: `segments` and `extrapolate` of `Tensor.average_backward`.

    Returns:
        The exponent; infinity if the error is too small to measure; None if kinks keep the
        quadrature from converging for every update.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad.testing import measure_order
        >>> x = ag.tensor(np.eye(2), requires_grad=True)
        >>> update = {x: np.full((2, 2), 0.1)}
        >>> round(measure_order(lambda: ag.tanh(x @ x).sum(), [x], update), 1)
        2.0
    """
    (order,) = measure_orders(f, params, update, [path])
    return order


def measure_orders(
    f: Callable[[], Tensor],
    params: Sequence[Tensor],
    update: Updates,
    paths: Sequence[Mapping[str, Any]],
) -> list[float | None]:
    """Return what `measure_order` does for each path, with one quadrature for all of them."""
    scale = max(audit("measure_order", f()).largest, 1.0)
    moves = {leaf: np.asarray(delta, dtype=float) for leaf, delta in update.items()}
    errors: list[list[float]] = [[] for _ in paths]
    measuring = list(zip(paths, errors))
    converged = False
    for _ in range(HALVINGS):
        average = _smooth_average(f, params, moves, 1e-8 * scale)
        if average is None and converged:
            break
        if average is not None:
            converged = True
            for path, found in measuring:
                _, factorized = swept_average(f(), params, moves, **path)
                found.append(norm([factorized[leaf] - average[leaf] for leaf in params]))
            measuring = [pair for pair in measuring if not pair[1][-1] < 1e-12 * scale]
        moves = {leaf: delta / 2 for leaf, delta in moves.items()}
        # With shorter updates, rounding would hide the points next to the ends of the path.
        if not measuring or length(moves) < 1e-3:
            break
    if not converged:
        return [None for _ in paths]
    return [_exponent([error for error in found if error > 1e-11 * scale]) for found in errors]


def _exponent(errors: Sequence[float]) -> float:
    return math.log2(errors[-3] / errors[-1]) / 2 if len(errors) >= 3 else math.inf


def _smooth_average(
    f: Callable[[], Tensor], params: Sequence[Tensor], update: Updates, tolerance: float
) -> dict[Tensor, Array] | None:
    """Return the true average gradient, or None if the gradient has a kink along the path.

    The gradient must be a polynomial along the path. A kink between the nodes of the quadrature
    distorts the polynomial through them. A kink before the first or after the last node shows at
    the ends of the path, where the polynomial must equal the gradient too.
    """
    nodes = gauss_legendre(NODES)
    gradients = [_gradient_at(t, f, params, update) for t, _ in nodes]
    for t in (1e-12, 1 - 1e-12):  # next to the ends, so that a kink exactly there does no harm
        actual = _gradient_at(t, f, params, update)
        shares = [
            math.prod((t - other) / (node - other) for other, _ in nodes if other != node)
            for node, _ in nodes
        ]
        for leaf in params:
            expected = _combination(shares, [g[leaf] for g in gradients])
            if not largest(actual[leaf] - expected) <= tolerance:
                return None
    return {
        leaf: _combination([weight for _, weight in nodes], [g[leaf] for g in gradients])
        for leaf in params
    }


def _gradient_at(
    t: float, f: Callable[[], Tensor], params: Sequence[Tensor], update: Updates
) -> dict[Tensor, Array]:
    """Return the gradient at θ + tΔ, the one-node average over a path twice as long."""
    there = {leaf: 2 * t * np.asarray(delta) for leaf, delta in update.items()}
    return average_over_nodes(f, params, there, nodes=1)


def _combination(shares: Sequence[float], arrays: Sequence[Array]) -> Array:
    return np.asarray(np.tensordot(shares, arrays, axes=1))


def length(update: Mapping[Tensor, Array]) -> float:
    """Return the largest element of the update, relative to the value it moves or to 1."""
    return largest(*[delta / np.maximum(1, np.abs(leaf.data)) for leaf, delta in update.items()])


def largest(*arrays: Array) -> float:
    return max((float(np.abs(array).max(initial=0)) for array in arrays), default=0.0)


def norm(arrays: Sequence[Array]) -> float:
    return math.sqrt(sum(float((a * a).sum()) for a in arrays))
