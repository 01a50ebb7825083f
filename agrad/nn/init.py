"""Initial values of parameters, with PyTorch's names and distributions.

Every function fills a floating-point Tensor in place and returns it. Random values are drawn in
float64 from `agrad.random.generator()` and then rounded to the Tensor's dtype, so a seed gives the
same weights in both dtypes. A weight has the shape (out, in, ...). fan_in is the number of inputs
per output, fan_out the number of outputs per input; both include the product of the axes after the
first two.

All functions raise a TypeError if the argument is not a Tensor or not floating-point.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from agrad.arguments import require_real
from agrad.core.tensor import Tensor
from agrad.random import generator

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_T = TypeVar("_T", bound=Tensor)

_GAINS: dict[str, Callable[[float], float]] = {
    "linear": lambda _: 1.0,
    "sigmoid": lambda _: 1.0,
    "tanh": lambda _: 5 / 3,
    "relu": lambda _: math.sqrt(2),
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope**2)),
    "selu": lambda _: 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor for the scale of weights that compensates for an activation.

    Args:
        nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: The negative slope of "leaky_relu", 0.01 by default; no other activation takes one.

    Raises:
        ValueError: The name is unknown, or the activation does not take a `param`.

    Example:
        >>> from agrad import nn
        >>> nn.init.calculate_gain("leaky_relu", 1.0)
        1.0
    """
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"calculate_gain: nonlinearity must be one of {', '.join(_GAINS)}, got {nonlinearity!r}"
        )
    if param is not None and nonlinearity != "leaky_relu":
        raise ValueError(f"calculate_gain: {nonlinearity!r} takes no param, got {param!r}")
    return _GAINS[nonlinearity](0.01 if param is None else param)


# -- values that do not depend on the shape --------------------------------------------------------


def constant_(tensor: _T, val: ArrayLike) -> _T:
    """Fill a tensor with `val`, a number or an array that broadcasts to the tensor.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> nn.init.constant_(ag.tensor([1.0, 2.0]), 0.5)
        tensor([0.5, 0.5])
    """
    _check("constant_", tensor)
    values = np.asarray(val, like=tensor.data)
    require_real("constant_", "val", values.dtype)
    return _fill(tensor, values)


def zeros_(tensor: _T) -> _T:
    """Fill a tensor with 0.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> nn.init.zeros_(ag.tensor([1.0, 2.0]))
        tensor([0., 0.])
    """
    _check("zeros_", tensor)
    return _fill(tensor, 0)


def ones_(tensor: _T) -> _T:
    """Fill a tensor with 1.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> nn.init.ones_(ag.tensor([1.0, 2.0]))
        tensor([1., 1.])
    """
    _check("ones_", tensor)
    return _fill(tensor, 1)


def uniform_(tensor: _T, a: float = 0.0, b: float = 1.0) -> _T:
    """Fill a tensor from the uniform distribution on [a, b).

    Raises:
        ValueError: `a` is larger than `b`.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> ag.seed(0)
        >>> nn.init.uniform_(ag.tensor([0.0, 0.0]), 1.0, 2.0)
        tensor([1.6369617, 1.2697867])
    """
    _check("uniform_", tensor)
    if not a <= b:
        raise ValueError(f"uniform_: a must not be larger than b, got a={a} and b={b}")
    return _fill(tensor, generator().uniform(a, b, tensor.shape))


def normal_(tensor: _T, mean: float = 0.0, std: float = 1.0) -> _T:
    """Fill a tensor from the normal distribution.

    Raises:
        ValueError: `std` is negative.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> nn.init.normal_(ag.tensor([0.0, 0.0]), mean=3.0, std=0.0)
        tensor([3., 3.])
    """
    _check("normal_", tensor)
    if not std >= 0:
        raise ValueError(f"normal_: std must not be negative, got {std}")
    return _fill(tensor, generator().normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: _T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> _T:
    """Fill a tensor from the normal distribution truncated to [a, b].

    `a` and `b` are values, not multiples of `std`.

    Raises:
        ValueError: `std` is not positive, `a` is not smaller than `b`, or [a, b] is so far from the
            mean that its probability rounds to 0.

    Example:
        >>> from agrad import nn
        >>> weight = nn.init.trunc_normal_(nn.Parameter(np.ones((8, 8))), a=-0.5, b=0.5)
        >>> bool(np.abs(weight.data).max() <= 0.5)
        True
    """
    _check("trunc_normal_", tensor)
    if not std > 0:
        raise ValueError(f"trunc_normal_: std must be positive, got {std}")
    if not a < b:
        raise ValueError(f"trunc_normal_: a must be smaller than b, got a={a} and b={b}")
    normal = NormalDist(mean, std)
    # In a tail the CDF or its rest is small, and only erfc gives its digits; the upper is mirrored.
    mirrored = a > mean
    ends = (2 * mean - b, 2 * mean - a) if mirrored else (a, b)
    if ends[1] < mean:
        low, high = (math.erfc((mean - end) / (std * math.sqrt(2))) / 2 for end in ends)
    else:
        low, high = map(normal.cdf, ends)
    if low == high:
        raise ValueError(
            f"trunc_normal_: [{a}, {b}] is too far from mean={mean} for std={std}; move it closer"
        )
    quantiles = generator().uniform(low, high, tensor.shape)
    # The inverse CDF is infinite at 0 and 1.
    quantiles = np.clip(quantiles, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)
    values = np.fromiter(map(normal.inv_cdf, quantiles.flat), float, quantiles.size)
    values = 2 * mean - values if mirrored else values
    return _fill(tensor, values.reshape(tensor.shape).clip(a, b))


# -- values that preserve the scale of activations and gradients -----------------------------------


def xavier_uniform_(tensor: _T, gain: float = 1.0) -> _T:
    """Fill a tensor from the uniform distribution on ±gain·√(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    Raises:
        ValueError: The tensor has fewer than two axes.

    Example:
        >>> from agrad import nn
        >>> weight = nn.init.xavier_uniform_(nn.Parameter(np.ones((64, 32), np.float32)))
        >>> bool(np.abs(weight.data).max() <= 0.25)
        True
    """
    fan_in, fan_out = _fans("xavier_uniform_", tensor)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: _T, gain: float = 1.0) -> _T:
    """Fill a tensor from the normal distribution with std gain·√(2 / (fan_in + fan_out)).

    See `xavier_uniform_`.

    Raises:
        ValueError: The tensor has fewer than two axes.
    """
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    return normal_(tensor, std=gain * math.sqrt(2 / (fan_in + fan_out)))


def kaiming_uniform_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Fill a tensor from the uniform distribution on ±gain·√(3 / fan).

    The gain is that of the nonlinearity; see `calculate_gain`.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015.

    Args:
        tensor: The Tensor to fill.
        a: The negative slope of "leaky_relu"; other nonlinearities ignore it.
        mode: "fan_in" preserves the scale in the forward pass, "fan_out" in the backward pass.
        nonlinearity: A name that `calculate_gain` knows. The default with a = 0 is the ReLU.

    Raises:
        ValueError: The tensor has fewer than two axes, or `mode` or `nonlinearity` is unknown.

    Example:
        >>> from agrad import nn
        >>> weight = nn.init.kaiming_uniform_(nn.Parameter(np.ones((8, 6), np.float32)))
        >>> bool(np.abs(weight.data).max() <= 1.0)
        True
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Fill a tensor from the normal distribution with std gain / √fan.

    See `kaiming_uniform_` for the arguments and errors.
    """
    return normal_(tensor, std=_kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def lecun_normal_(tensor: _T) -> _T:
    """Fill a tensor from the normal distribution with std 1 / √fan_in, which SELU requires.

    Source: Klambauer et al., "Self-normalizing neural networks", NIPS 2017.

    Raises:
        ValueError: The tensor has fewer than two axes.
    """
    fan_in, _ = _fans("lecun_normal_", tensor)
    return normal_(tensor, std=1 / math.sqrt(fan_in))


def orthogonal_(tensor: _T, gain: float = 1.0) -> _T:
    """Fill a tensor with `gain` times a uniformly random matrix with orthonormal rows.

    Axes after the first count as one axis of columns. If there are fewer columns than rows, the
    columns are orthonormal instead.

    Source: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.

    Raises:
        ValueError: The tensor has fewer than two axes.

    Example:
        >>> from agrad import nn
        >>> weight = nn.init.orthogonal_(nn.Parameter(np.ones((2, 3)))).data
        >>> bool(np.allclose(weight @ weight.T, np.eye(2)))
        True
    """
    _fans("orthogonal_", tensor)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    normal = generator().normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    # LAPACK chooses the signs. With a positive diagonal of r, q is unique and uniform.
    q *= np.copysign(1.0, np.diagonal(r))
    return _fill(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def _kaiming_std(operation: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(operation, tensor)))
    if mode not in fans:
        raise ValueError(f'{operation}: mode must be "fan_in" or "fan_out", got {mode!r}')
    slope = a if nonlinearity == "leaky_relu" else None
    return calculate_gain(nonlinearity, slope) / math.sqrt(fans[mode])


def _fans(operation: str, tensor: Tensor) -> tuple[int, int]:
    """Return fan_in and fan_out, each at least 1 so that empty tensors can be filled too."""
    _check(operation, tensor)
    if tensor.ndim < 2:
        raise ValueError(
            f"{operation}: needs at least two axes (out, in), got a tensor of shape "
            f"{tensor.shape}; fill a bias with zeros_, constant_ or uniform_"
        )
    outputs, inputs, *field = tensor.shape
    return max(1, inputs * math.prod(field)), max(1, outputs * math.prod(field))


def _check(operation: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{operation}: tensor must be a Tensor, got a {type(tensor).__name__}")
    if tensor.dtype.kind != "f":
        raise TypeError(f"{operation}: tensor must be floating-point, not {tensor.dtype}")


def _fill(tensor: _T, values: ArrayLike) -> _T:
    array = tensor.writable()
    array[...] = np.asarray(values, like=array)
    return tensor
