"""Updates of the optimizers and the line search of the average gradient, one pass over memory each.

The arrays of a call have one shape and one dtype, float32 or float64. Decays are passed in double
precision: in float32, 1 - 0.999 would be wrong in its fourth digit.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import Array, called, inline, kernel

# Elements processed at a time, each with its own partial sum: a single sum would be a chain of
# additions, each waiting for the previous one, and would keep LLVM from vectorizing the loop.
_LANES = 64


def scale(out: NDArray[Any], x: NDArray[Any], factor: float) -> None:
    """out = factor · x."""
    np.multiply(x, factor, out=out)


def add_scaled(out: NDArray[Any], x: NDArray[Any], factor: float) -> None:
    """out = out + factor · x."""
    out += factor * x


@called
def leave_out_opposed(delta: Array, grad: Array) -> None:
    """Set the elements of `delta` that go up the slope to 0.

    This is a separate pass, so that the other elements keep their bits. It depends only on signs,
    as a product could underflow; minimum and maximum are vectorized.
    """
    zero = delta.dtype.type(0)
    for i in range(delta.size):
        step = delta[i] if grad[i] <= zero else min(delta[i], zero)
        delta[i] = step if grad[i] >= zero else max(step, zero)


@kernel("real[:], const real[:], real[:], real, real, real, boolean, boolean")
def heavy_ball(
    delta: Array,
    direction: Array,
    buffer: Array,
    lr: float,
    momentum: float,
    fresh: float,
    nesterov: bool,
    cautious: bool,
) -> None:
    """delta = -lr · buffer, where buffer = momentum · buffer + fresh · direction.

    If `cautious`, an element that opposes its direction is 0.
    """
    for i in range(delta.size):
        buffer[i] = momentum * buffer[i] + fresh * direction[i]
        step = direction[i] + momentum * buffer[i] if nesterov else buffer[i]
        delta[i] = -lr * step
    if cautious:
        leave_out_opposed(delta, direction)


@kernel("real[:], const real[:], real[:], real, float64, real")
def rmsprop(
    delta: Array, grad: Array, square_average: Array, lr: float, alpha: float, eps: float
) -> None:
    """delta = -lr · grad / (√square_average + eps)."""
    real = delta.dtype.type
    keep, fresh = real(alpha), real(1 - alpha)
    for i in range(delta.size):
        square_average[i] = keep * square_average[i] + fresh * (grad[i] * grad[i])
        delta[i] = -lr * grad[i] / (math.sqrt(square_average[i]) + eps)


@kernel("real[:], const real[:], real[:], real[:], real, float64, real")
def centered_rmsprop(
    delta: Array,
    grad: Array,
    square_average: Array,
    grad_average: Array,
    lr: float,
    alpha: float,
    eps: float,
) -> None:
    """`rmsprop` with the gradient's variance instead of its mean square."""
    real = delta.dtype.type
    keep, fresh = real(alpha), real(1 - alpha)
    for i in range(delta.size):
        square_average[i] = keep * square_average[i] + fresh * (grad[i] * grad[i])
        grad_average[i] += fresh * (grad[i] - grad_average[i])
        variance = square_average[i] - grad_average[i] * grad_average[i]
        # Rounding can make the variance of a constant gradient negative.
        delta[i] = -lr * grad[i] / (math.sqrt(max(variance, real(0))) + eps)


@kernel("real[:], const real[:], real[:], real[:], real, float64, float64, real, real, boolean")
def adam(
    delta: Array,
    grad: Array,
    average: Array,
    square_average: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    root_correction: float,
    cautious: bool,
) -> None:
    """delta = -lr · average / (√square_average / root_correction + eps).

    If `cautious`, an element that opposes its gradient is 0.
    """
    real = delta.dtype.type
    fresh, keep, fresh_square = real(1 - beta1), real(beta2), real(1 - beta2)
    for i in range(delta.size):
        average[i] += fresh * (grad[i] - average[i])
        square_average[i] = keep * square_average[i] + fresh_square * (grad[i] * grad[i])
        delta[i] = -lr * average[i] / (math.sqrt(square_average[i]) / root_correction + eps)
    if cautious:
        leave_out_opposed(delta, grad)


@kernel(
    "real[:], const real[:], real[:], real[:], real[:], real, float64, float64, real, real, boolean"
)
def amsgrad(
    delta: Array,
    grad: Array,
    average: Array,
    square_average: Array,
    peak: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    root_correction: float,
    cautious: bool,
) -> None:
    """`adam` with the largest square average so far."""
    real = delta.dtype.type
    fresh, keep, fresh_square = real(1 - beta1), real(beta2), real(1 - beta2)
    for i in range(delta.size):
        average[i] += fresh * (grad[i] - average[i])
        square_average[i] = keep * square_average[i] + fresh_square * (grad[i] * grad[i])
        peak[i] = max(peak[i], square_average[i])
        delta[i] = -lr * average[i] / (math.sqrt(peak[i]) / root_correction + eps)
    if cautious:
        leave_out_opposed(delta, grad)


@kernel("const real[:]")
def all_finite(values: Array) -> bool:
    """Return whether no element is NaN or infinite."""
    others = 0
    for i in range(values.size):
        others += not abs(values[i]) < math.inf
    return others == 0


@kernel("const real[:]")
def sum_of_squares(values: Array) -> float:
    """Return the sum of squares, taken in float64."""
    sums = np.zeros(_LANES)
    for start in range(0, values.size, _LANES):
        x = values[start : start + _LANES]
        for i in range(x.size):
            sums[i] += np.float64(x[i]) * np.float64(x[i])
    return float(sums.sum())


@inline
def best_fraction(slope: float, curvature: float, one: float) -> float:
    """The t in [0, 1] that minimizes t · slope + t² · curvature; 0 if that is not finite.

    If both are 0, any t does, and it is 1: the update, which has other reasons, is made in full.
    `one` has the type of the others, which a literal would make float64.
    """
    zero, end = one - one, slope + curvature
    # In place of `and`, which branches, so that LLVM vectorizes loops.
    whole = one if (end < 0) & (end > -math.inf) else zero
    whole = one if (slope == 0) & (curvature == 0) else whole
    vertex = -slope / (curvature + curvature)
    vertex = min(max(vertex, zero), one)
    return vertex if curvature > 0 else whole


@kernel("const real[:], real[:], const real[:], real[:], real[:], real")
def blend_curvature(
    own_grad: Array,
    average_grad: Array,
    delta: Array,
    curvature: Array,
    weight: Array,
    smoothing: float,
) -> None:
    """Blend the curvature s of a measured step, ĝ - p = sΔ, into that of earlier steps.

    Each element's `curvature` is the least-squares fit over all measured steps. `weight` is the sum
    of their Δ², of which the earlier ones are multiplied by `smoothing`. p + sΔ, with the new fit,
    overwrites ĝ. Where p and ĝ are 0, the step tells nothing, and has no weight. Where ĝ is not
    finite, nothing changes.
    """
    real = delta.dtype.type
    for i in range(delta.size):
        p, average, d = np.float64(own_grad[i]), np.float64(average_grad[i]), np.float64(delta[i])
        kept = np.float64(smoothing) * np.float64(weight[i])
        total = kept if (p == 0) & (average == 0) else kept + d * d
        fit = real((kept * np.float64(curvature[i]) + (average - p) * d) / total)
        fits = (total > 0) & (abs(fit) < math.inf)
        curvature[i] = fit if fits else curvature[i]
        weight[i] = real(total) if fits else weight[i]
    # LLVM does not vectorize a loop that would have to compare this many arrays for overlap.
    for i in range(delta.size):
        average = average_grad[i]
        fitted = own_grad[i] + curvature[i] * delta[i]
        average_grad[i] = fitted if abs(average) < math.inf else average


@kernel("const real[:], const real[:], real[:]")
def shorten_elements(grad: Array, curvature: Array, delta: Array) -> None:
    """Shorten each element of `delta` to the minimizer t of t·gΔ + t²·sΔ², its share of the loss.

    s is the curvature as `blend_curvature` fits it. See `search_elements` for the sign of Δ.
    """
    real = delta.dtype.type
    up, down, none = real(1), real(-1), real(0)
    for i in range(delta.size):
        sign = up if delta[i] > 0 else down if delta[i] < 0 else none
        delta[i] *= best_fraction(sign * grad[i], sign * (curvature[i] * delta[i]), up)


@kernel("const real[:], const real[:], real[:], real[:]")
def search_elements(
    grad: Array, own_grad: Array, average_grad: Array, delta: Array
) -> tuple[float, float]:
    """Shorten each element of `delta` to the minimizer t of its share of the loss along it.

    The share of element i is t·gΔ + t²·(ĝ - p)Δ, where ĝ and p, the average and the ordinary
    gradient, are those of the loss that was measured. The best t depends on Δ only by its sign, and
    with the sign alone nothing can underflow. Where Δ is 0, t is that of an element on which the
    loss does not depend. The fractions t overwrite `average_grad`.

    Returns the sums of -s·pΔ and of -pΔ over the elements with pΔ < 0, whose updates promise to
    reduce the measured loss; s minimizes the element's share of that, s·pΔ + s²·(ĝ - p)Δ.
    """
    real = delta.dtype.type
    up, down, none = real(1), real(-1), real(0)
    used, usable = np.zeros(_LANES), np.zeros(_LANES)
    shares = np.empty(_LANES, delta.dtype)
    for start in range(0, delta.size, _LANES):
        lanes = slice(start, start + _LANES)
        g, p, average, d = grad[lanes], own_grad[lanes], average_grad[lanes], delta[lanes]
        # A loop that also took the sums, in another precision, would take twice as long.
        for i in range(d.size):
            sign = up if d[i] > 0 else down if d[i] < 0 else none
            rise = sign * (average[i] - p[i])
            shares[i] = best_fraction(sign * p[i], rise, up)
            average[i] = best_fraction(sign * g[i], rise, up)
        for i in range(d.size):
            promise = max(-(np.float64(p[i]) * np.float64(d[i])), 0.0)
            usable[i] += promise
            used[i] += shares[i] * promise
        for i in range(d.size):
            d[i] *= average[i]
    return used.sum(), usable.sum()


@kernel("const real[:, :], const real[:, :], const real[:, :], const real[:, :], float64[:, :]")
def loss_shares(
    grad: Array, own_grad: Array, average_grad: Array, delta: Array, shares: Array
) -> None:
    """Fill `shares` with Σ gΔ, Σ (ĝ - p)Δ and Σ pΔ over each row, for a joint search.

    ĝ and p are as in `search_elements`.
    """
    for row in range(delta.shape[0]):
        slope = curvature = own_slope = 0.0
        for column in range(delta.shape[1]):
            d = np.float64(delta[row, column])
            slope += grad[row, column] * d
            curvature += (average_grad[row, column] - own_grad[row, column]) * d
            own_slope += own_grad[row, column] * d
        shares[0, row] = slope
        shares[1, row] = curvature
        shares[2, row] = own_slope


@kernel("const float64[:, :], real[:]")
def search_groups(shares: Array, fractions: Array) -> tuple[float, float]:
    """Find each group's best fraction from its `loss_shares`.

    Returns the sums of -s Σ pΔ and of -Σ pΔ over the groups in which Σ pΔ is negative; s minimizes
    the group's share of the measured loss.
    """
    one = fractions.dtype.type(1)
    used = usable = 0.0
    for i in range(fractions.size):
        fractions[i] = best_fraction(shares[0, i], shares[1, i], one)
        promise = max(-shares[2, i], 0.0)
        used += best_fraction(shares[2, i], shares[1, i], one) * promise
        usable += promise
    return used, usable
