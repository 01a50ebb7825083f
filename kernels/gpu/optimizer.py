"""Updates of the optimizers and the line search of the average gradient, one pass over memory each.

The arrays of a call have one shape and one dtype, float32 or float64, and are C-contiguous, since
some are changed in place. A single number is returned as an array without axes on the device;
reading it waits for the device.

Numbers that change from step to step may be such arrays too, of float64: a `factor`, the learning
rate `lr`, the share `fresh` of a new direction, and Adam's `root_correction`. They are read when
the kernel runs.
"""

import cupy

from .launch import Kernel, over, summing

__all__ = [
    "adam",
    "add_scaled",
    "all_finite",
    "amsgrad",
    "blend_curvature",
    "centered_rmsprop",
    "heavy_ball",
    "loss_shares",
    "rmsprop",
    "scale",
    "search_elements",
    "search_groups",
    "shorten_elements",
    "sum_of_squares",
]


def _update(name: str, parameters: str) -> Kernel:
    return Kernel("optimizer.cu", name, f"real*, const real*, {parameters}")


_scale = _update("scale", "int64, Number")
_add_scaled = _update("add_scaled", "int64, Number")
_heavy_ball = _update("heavy_ball", "real*, int64, Number, real, Number, bool, bool")
_rmsprop = _update("rmsprop", "real*, int64, Number, double, real")
_centered_rmsprop = _update("centered_rmsprop", "real*, real*, int64, Number, double, real")
_adam = _update("adam", "real*, real*, int64, Number, double, double, real, Number, bool")
_amsgrad = _update(
    "amsgrad", "real*, real*, real*, int64, Number, double, double, real, Number, bool"
)
_sum_of_squares = Kernel("optimizer.cu", "sum_of_squares", "const real*, double*, int64")
_blend_curvature = Kernel(
    "optimizer.cu",
    "blend_curvature",
    "const real*, real*, const real*, real*, real*, int64, real",
)
_shorten_elements = Kernel(
    "optimizer.cu", "shorten_elements", "const real*, const real*, real*, int64"
)
_search_elements = Kernel(
    "optimizer.cu",
    "search_elements",
    "const real*, const real*, real*, real*, double*, int64",
)
_loss_shares = Kernel(
    "optimizer.cu",
    "loss_shares",
    "const real*, const real*, const real*, const real*, double*, int64, int64",
)
_search_groups = Kernel("optimizer.cu", "search_groups", "const double*, real*, double*, int64")


def scale(out: cupy.ndarray, x: cupy.ndarray, factor: float | cupy.ndarray) -> None:
    """out = factor · x.

    Example:
        >>> out = cupy.empty(2)
        >>> scale(out, cupy.array([1.0, 2.0]), cupy.array(-0.5))
        >>> out
        array([-0.5, -1. ])
    """
    _scale(over(out.size), out, x, out.size, factor)


def add_scaled(out: cupy.ndarray, x: cupy.ndarray, factor: float | cupy.ndarray) -> None:
    """out = out + factor · x."""
    _add_scaled(over(out.size), out, x, out.size, factor)


def heavy_ball(
    delta: cupy.ndarray,
    direction: cupy.ndarray,
    buffer: cupy.ndarray,
    lr: float | cupy.ndarray,
    momentum: float,
    fresh: float | cupy.ndarray,
    nesterov: bool,
    cautious: bool,
) -> None:
    """delta = -lr · buffer, where buffer = momentum · buffer + fresh · direction.

    If `cautious`, an element that opposes its direction is 0.
    """
    numbers = lr, momentum, fresh, nesterov, cautious
    _heavy_ball(over(delta.size), delta, direction, buffer, delta.size, *numbers)


def rmsprop(
    delta: cupy.ndarray,
    grad: cupy.ndarray,
    square_average: cupy.ndarray,
    lr: float | cupy.ndarray,
    alpha: float,
    eps: float,
) -> None:
    """delta = -lr · grad / (√square_average + eps).

    Example:
        >>> delta, square_average = cupy.empty(2), cupy.zeros(2)
        >>> rmsprop(delta, cupy.array([2.0, -4.0]), square_average, 0.5, 0.75, 0.0)
        >>> delta, square_average
        (array([-1.,  1.]), array([1., 4.]))
        >>> rmsprop(delta, cupy.array([1.0, 2.0]), square_average, cupy.array(1.0), 0.75, 0.0)
        >>> delta
        array([-1., -1.])
    """
    _rmsprop(over(delta.size), delta, grad, square_average, delta.size, lr, alpha, eps)


def centered_rmsprop(
    delta: cupy.ndarray,
    grad: cupy.ndarray,
    square_average: cupy.ndarray,
    grad_average: cupy.ndarray,
    lr: float | cupy.ndarray,
    alpha: float,
    eps: float,
) -> None:
    """`rmsprop` with the gradient's variance instead of its mean square."""
    arrays = delta, grad, square_average, grad_average
    _centered_rmsprop(over(delta.size), *arrays, delta.size, lr, alpha, eps)


def adam(
    delta: cupy.ndarray,
    grad: cupy.ndarray,
    average: cupy.ndarray,
    square_average: cupy.ndarray,
    lr: float | cupy.ndarray,
    beta1: float,
    beta2: float,
    eps: float,
    root_correction: float | cupy.ndarray,
    cautious: bool,
) -> None:
    """delta = -lr · average / (√square_average / root_correction + eps).

    If `cautious`, an element that opposes its gradient is 0.

    Example:
        >>> delta, square_average = cupy.empty(2), cupy.zeros(2)
        >>> grad, average = cupy.array([2.0, 2.0]), cupy.array([2.0, -4.0])
        >>> adam(delta, grad, average, square_average, 0.5, 0.5, 0.75, 0.0, 1.0, True)
        >>> delta
        array([-1.,  0.])
    """
    arrays = delta, grad, average, square_average
    numbers = lr, beta1, beta2, eps, root_correction, cautious
    _adam(over(delta.size), *arrays, delta.size, *numbers)


def amsgrad(
    delta: cupy.ndarray,
    grad: cupy.ndarray,
    average: cupy.ndarray,
    square_average: cupy.ndarray,
    peak: cupy.ndarray,
    lr: float | cupy.ndarray,
    beta1: float,
    beta2: float,
    eps: float,
    root_correction: float | cupy.ndarray,
    cautious: bool,
) -> None:
    """`adam` with the largest square average so far."""
    arrays = delta, grad, average, square_average, peak
    numbers = lr, beta1, beta2, eps, root_correction, cautious
    _amsgrad(over(delta.size), *arrays, delta.size, *numbers)


def all_finite(values: cupy.ndarray) -> cupy.ndarray:
    """Return whether no element is NaN or infinite.

    Example:
        >>> bool(all_finite(cupy.array([1.0, -2.0]))), bool(all_finite(cupy.array([1.0, cupy.inf])))
        (True, False)
    """
    return cupy.isfinite(values).all()


def sum_of_squares(values: cupy.ndarray) -> cupy.ndarray:
    """Return the sum of squares, taken in float64.

    Example:
        >>> float(sum_of_squares(cupy.array([3.0, -4.0])))
        25.0
    """
    grid = summing(values.size)
    sums = cupy.empty(grid[0])
    _sum_of_squares(grid, values, sums, values.size)
    return sums.sum()


def blend_curvature(
    own_grad: cupy.ndarray,
    average_grad: cupy.ndarray,
    delta: cupy.ndarray,
    curvature: cupy.ndarray,
    weight: cupy.ndarray,
    smoothing: float,
) -> None:
    """Blend the curvature s of a measured step, ĝ - p = sΔ, into that of earlier steps.

    Each element's `curvature` is the least-squares fit over all measured steps. `weight` is the sum
    of their Δ², of which the earlier ones are multiplied by `smoothing`. p + sΔ, with the new fit,
    overwrites ĝ. Where p and ĝ are 0, the step tells nothing, and has no weight. Where ĝ is not
    finite, nothing changes.

    Example:
        >>> own, average, delta = cupy.zeros(1), cupy.array([6.0]), cupy.array([2.0])
        >>> curvature, weight = cupy.array([1.0]), cupy.array([8.0])
        >>> blend_curvature(own, average, delta, curvature, weight, 0.5)
        >>> curvature, weight, average
        (array([2.]), array([8.]), array([4.]))
    """
    grid = over(delta.size)
    _blend_curvature(grid, own_grad, average_grad, delta, curvature, weight, delta.size, smoothing)


def shorten_elements(grad: cupy.ndarray, curvature: cupy.ndarray, delta: cupy.ndarray) -> None:
    """Shorten each element of `delta` to the minimizer t of t·gΔ + t²·sΔ², its share of the loss.

    s is the curvature as `blend_curvature` fits it. See `search_elements` for the sign of Δ.

    Example:
        >>> delta = cupy.array([2.0, 2.0])
        >>> shorten_elements(cupy.array([-1.0, -1.0]), cupy.array([0.5, 0.0]), delta)
        >>> delta
        array([1., 2.])
    """
    _shorten_elements(over(delta.size), grad, curvature, delta, delta.size)


def search_elements(
    grad: cupy.ndarray,
    own_grad: cupy.ndarray,
    average_grad: cupy.ndarray,
    delta: cupy.ndarray,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """Shorten each element of `delta` to the minimizer t of its share of the loss along it.

    The share of element i is t·gΔ + t²·(ĝ - p)Δ, where ĝ and p, the average and the ordinary
    gradient, are those of the loss that was measured. The best t depends on Δ only by its sign, and
    with the sign alone nothing can underflow. Where Δ is 0, t is that of an element on which the
    loss does not depend. The fractions t overwrite `average_grad`.

    Returns the sums of -s·pΔ and of -pΔ over the elements with pΔ < 0, whose updates promise to
    reduce the measured loss; s minimizes the element's share of that, s·pΔ + s²·(ĝ - p)Δ.

    Example:
        >>> grad, average_grad = cupy.array([-1.0, -1.0]), cupy.array([0.0, -1.0])
        >>> delta = cupy.array([2.0, 2.0])
        >>> used, usable = search_elements(grad, grad, average_grad, delta)
        >>> average_grad, delta
        (array([0.5, 1. ]), array([1., 2.]))
        >>> float(used), float(usable)
        (3.0, 4.0)
    """
    grid = summing(delta.size)
    sums = cupy.empty((2, grid[0]))
    _search_elements(grid, grad, own_grad, average_grad, delta, sums, delta.size)
    used, usable = sums.sum(axis=1)
    return used, usable


def loss_shares(
    grad: cupy.ndarray,
    own_grad: cupy.ndarray,
    average_grad: cupy.ndarray,
    delta: cupy.ndarray,
    shares: cupy.ndarray,
) -> None:
    """Fill `shares` with Σ gΔ, Σ (ĝ - p)Δ and Σ pΔ over each row, for a joint search.

    ĝ and p are as in `search_elements`.

    Example:
        >>> shares = cupy.empty((3, 1))
        >>> grad, delta = cupy.array([[1.0, -2.0]]), cupy.array([[3.0, 4.0]])
        >>> loss_shares(grad, grad, grad + 1, delta, shares)
        >>> shares.ravel()
        array([-5.,  7., -5.])
    """
    rows, columns = delta.shape
    grid = summing(columns, rows)
    sums = cupy.empty((3, rows, grid[0]))
    _loss_shares(grid, grad, own_grad, average_grad, delta, sums, rows, columns)
    cupy.sum(sums, axis=2, out=shares)


def search_groups(
    shares: cupy.ndarray, fractions: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """Find each group's best fraction from its `loss_shares`.

    Returns the sums of -s Σ pΔ and of -Σ pΔ over the groups in which Σ pΔ is negative; s minimizes
    the group's share of the measured loss.

    Example:
        >>> shares, fractions = cupy.array([[-2.0], [2.0], [-2.0]]), cupy.empty(1)
        >>> used, usable = search_groups(shares, fractions)
        >>> fractions, float(used), float(usable)
        (array([0.5]), 1.0, 2.0)
    """
    grid = summing(fractions.size)
    sums = cupy.empty((2, grid[0]))
    _search_groups(grid, shares, fractions, sums, fractions.size)
    used, usable = sums.sum(axis=1)
    return used, usable
