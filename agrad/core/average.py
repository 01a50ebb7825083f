"""The true average gradient by quadrature, as a reference for the factorized one."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array
from agrad.core.context import no_grad
from agrad.core.program import Program
from agrad.core.tensor import Tensor, checked_updates, values_restored
from agrad.ops.quadrature import gauss_kronrod, gauss_legendre

__all__ = ["average_gradient", "average_over_nodes"]

_PIECES = 64  # of the path, at most


def average_gradient(
    f: Callable[[], Tensor],
    params: Iterable[Tensor],
    update: Mapping[Tensor, ArrayLike],
    nodes: int | None = None,
    tolerance: float = 1e-3,
) -> dict[Tensor, Array]:
    """Return the average gradient ∫₀¹ ∇L(θ + tΔ) dt by adaptive quadrature.

    Along the path, the gradient of a network with kinks, such as ReLU's, jumps many times. So the
    path is cut into at most 64 pieces, until the estimated error falls below the tolerance. Each
    piece takes 15 forward and backward passes; a smooth loss needs a single piece. For its
    factorized average, `Tensor.average_backward` takes two forward passes and one sweep back. The
    results differ by O(|Δ|²).

    A warning says how accurate the result is if the estimate, or the gap between ⟨average, Δ⟩ and
    the change of the loss, exceeds the tolerance. While this function runs, the parameters hold
    values on the path; afterwards they have their own values again. No `.grad` changes.

    The 7-point Gauss and the 15-point Kronrod rule together estimate the error, as in QUADPACK
    (Piessens et al., 1983).

    Args:
        f: A function without arguments that computes the scalar loss L from the values of
            `params`; called once for each node, and at both ends.
        params: The leaves θ to differentiate with respect to, or a single leaf.
        update: The update Δ of each leaf that moves, of the leaf's shape; other leaves do not move.
        nodes: A fixed number of Gauss-Legendre nodes in place of adaptive quadrature; the result is
            exact if the loss is a polynomial of degree 2·nodes in t.
        tolerance: The error to allow, relative to the mean length of the gradient on the path.

    Returns:
        For each parameter, an array of its shape and dtype, summed in float64.

    Raises:
        ValueError: There is no parameter, perhaps because an iterator of them was used up; one
            requires no gradient, is not a leaf, or does not affect the loss; an
            update belongs to a tensor that is not in `params` or has a different shape; the loss
            has more than one element; `nodes` is below 1, or the tolerance not positive.
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
        raise ValueError("average_gradient: params is empty; pass the leaves that f depends on")
    if not tolerance > 0:
        raise ValueError(f"average_gradient: tolerance must be positive, got {tolerance}")
    path = _Path(f, params, update)
    with values_restored(params):
        total, error = path.adaptive(tolerance) if nodes is None else (path.fixed(nodes), 0.0)
        average = path.by_parameter(total)
        gap, scale = path.gap(total)
    if not (error <= tolerance and gap <= tolerance * scale):  # NaN is neither below nor above
        estimate = f"an estimated error of {error:.1e} of the gradient's mean length, and "
        warnings.warn(
            f"average_gradient: the result has {estimate if nodes is None else ''}an "
            f"incompleteness of {gap:.1e}, which is the difference between the change of the loss "
            f"and the sum of the products of averages and updates, of size {scale:.1e}; "
            + ("cut the update into parts" if nodes is None else "leave out nodes"),
            stacklevel=2,
        )
    return average


def average_over_nodes(
    f: Callable[[], Tensor],
    params: Sequence[Tensor],
    update: Mapping[Tensor, ArrayLike],
    nodes: int,
) -> dict[Tensor, Array]:
    """Return what `average_gradient` does for a fixed number of nodes, without its warning."""
    path = _Path(f, params, update)
    with values_restored(params):
        return path.by_parameter(path.fixed(nodes))


class _Path:
    """The path of the parameters along an update. Its gradients are vectors of all parameters."""

    def __init__(
        self,
        f: Callable[[], Tensor],
        params: Sequence[Tensor],
        update: Mapping[Tensor, ArrayLike],
    ) -> None:
        self.f, self.params = f, params
        _require_leaves(params)
        self.starts = [param.data for param in params]
        leaves = dict(zip(params, self.starts, strict=True))
        moves = checked_updates("average_gradient", update, leaves, "in params")
        self.deltas = [moves.get(param, np.zeros_like(leaves[param])) for param in params]
        self.reached = [False] * len(params)

    def move(self, position: float) -> None:
        """Give the parameters their values at a position from 0 to 1."""
        for param, start, delta in zip(self.params, self.starts, self.deltas, strict=True):
            param.data = start + position * delta

    def gradient(self, position: float) -> Array:
        """Return the gradient at a position."""
        self.move(position)
        grads = _gradients(self.f())
        for i, param in enumerate(self.params):
            self.reached[i] |= param in grads
        return _vector([grads.get(param, np.zeros_like(param.data)) for param in self.params])

    def fixed(self, nodes: int) -> Array:
        """Return the average gradient by Gauss-Legendre quadrature."""
        total = np.zeros_like(_vector(self.starts))
        for position, weight in gauss_legendre(nodes):
            total += weight * self.gradient(position)
        return total

    def adaptive(self, tolerance: float) -> tuple[Array, float]:
        """Return the average gradient and its error by halving the worst pieces of the path.

        The error is relative to the mean length of the gradient; the pieces' errors are taken to be
        independent.
        """
        pieces = [self._piece(0.0, 1.0)]
        while True:
            error = math.sqrt(sum(piece.error**2 for piece in pieces))
            length = sum(piece.length for piece in pieces)
            if not error > tolerance * length or len(pieces) == _PIECES:
                return sum(piece.integral for piece in pieces), error / length if length else 0.0
            worst = pieces.pop(max(range(len(pieces)), key=lambda i: pieces[i].error))
            middle = (worst.first + worst.last) / 2
            pieces += [self._piece(worst.first, middle), self._piece(middle, worst.last)]

    def _piece(self, first: float, last: float) -> "_Piece":
        integral: Any = 0.0
        difference: Any = 0.0
        length = 0.0
        for position, weight, rough_weight in gauss_kronrod():
            gradient = (last - first) * self.gradient(first + position * (last - first))
            integral = integral + weight * gradient
            difference = difference + (weight - rough_weight) * gradient
            length += weight * _length(gradient)
        return _Piece(first, last, integral, _length(difference), length)

    def gap(self, average: Array) -> tuple[float, float]:
        """Return by how much an average misses the change of the loss, and the size of its terms.

        A gap that the rounding of the loss can explain counts as none.
        """
        ends = []
        for position in 0.0, 1.0:
            self.move(position)
            with no_grad():
                ends.append(float(self.f().item()))
        terms = average * _vector(self.deltas)
        gap, scale = abs(float(terms.sum()) - (ends[1] - ends[0])), float(np.abs(terms).sum())
        eps = max(float(np.finfo(param.dtype).eps) for param in self.params)
        return (0.0 if gap < 64 * eps * (abs(ends[0]) + abs(ends[1])) else gap), scale

    def by_parameter(self, average: Array) -> dict[Tensor, Array]:
        """Return the average gradient of each parameter.

        Raises:
            ValueError: There is a parameter that the loss never depends on.
        """
        for i, start in enumerate(self.starts):
            if not self.reached[i]:
                raise ValueError(
                    f"average_gradient: the loss does not depend on params[{i}], of shape "
                    f"{start.shape}; f must compute the loss from the tensors in params at every "
                    "call"
                )
        stops = np.cumsum([start.size for start in self.starts]).tolist()
        parts = zip(self.params, [0, *stops], stops, strict=False)
        return {
            param: average[first:stop].reshape(param.shape).astype(param.dtype)
            for param, first, stop in parts
        }


class _Piece(NamedTuple):
    """A piece of the path, and the integrals over it of the gradient and of its length."""

    first: float
    last: float
    integral: Any
    error: float
    length: float


def _vector(arrays: Sequence[Array]) -> Array:
    return np.concatenate([array.ravel().astype(np.float64) for array in arrays])


def _length(vector: Any) -> float:
    return math.sqrt(float((vector * vector).sum()))


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


def _require_leaves(params: Sequence[Tensor]) -> None:
    for i, param in enumerate(params):
        if not isinstance(param, Tensor):
            raise TypeError(
                f"average_gradient: params[{i}] is a {type(param).__name__}, not a Tensor"
            )
        if not param.is_leaf or not param.requires_grad:
            reason = "requires no gradient" if param.is_leaf else "is computed, not a leaf"
            raise ValueError(f"average_gradient: params[{i}], of shape {param.shape}, {reason}")
