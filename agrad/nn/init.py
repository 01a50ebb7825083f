"""Initial values of parameters, by PyTorch's names and with PyTorch's distributions.

Every function fills a Tensor in place and returns it. Random values are drawn in float64 from
`agrad.random.generator()` and then rounded to the Tensor's dtype, so that one seed gives the same
weights in either. A weight has the shape (out, in, ...): fan_in counts the inputs of one output,
fan_out the outputs of one input, both times the size of what follows the first two axes.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

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
    """Return the factor on the weights' scale that makes up for what an activation takes away.

    Args:
        nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the negative slope of "leaky_relu", 0.01 where None; no other takes one.

    Raises:
        ValueError: another name, or a `param` that the activation does not take.

    Example:
        >>> from agrad import nn
        >>> nn.init.calculate_gain("leaky_relu", 1.0)
        1.0
    """
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}; known are {', '.join(_GAINS)}"
        )
    if param is not None and nonlinearity != "leaky_relu":
        raise ValueError(f"calculate_gain: {nonlinearity!r} takes no param, got {param!r}")
    return _GAINS[nonlinearity](0.01 if param is None else param)


# -- values that do not depend on the shape --------------------------------------------------------


def constant_(tensor: _T, val: ArrayLike) -> _T:
    """Fill with `val`.

    Raises:
        TypeError: not a Tensor, or of another dtype than a floating-point one; so for all below.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> nn.init.constant_(ag.tensor([1.0, 2.0]), 0.5)
        tensor([0.5, 0.5])
    """
    _check("constant_", tensor)
    return _fill(tensor, val)


def zeros_(tensor: _T) -> _T:
    """Fill with 0."""
    _check("zeros_", tensor)
    return _fill(tensor, 0)


def ones_(tensor: _T) -> _T:
    """Fill with 1."""
    _check("ones_", tensor)
    return _fill(tensor, 1)


def uniform_(tensor: _T, a: float = 0.0, b: float = 1.0) -> _T:
    """Fill from the uniform distribution on [a, b).

    Raises:
        ValueError: a is larger than b.

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
    """Fill from the normal distribution.

    Raises:
        ValueError: std is negative.
    """
    _check("normal_", tensor)
    if not std >= 0:
        raise ValueError(f"normal_: std must not be negative, got {std}")
    return _fill(tensor, generator().normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: _T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> _T:
    """Fill from the normal distribution limited to [a, b], which are values, not multiples of std.

    Raises:
        ValueError: std is not positive, a is not smaller than b, or [a, b] lies so far from the
            mean that its probability rounds to 0.
    """
    _check("trunc_normal_", tensor)
    if not std > 0:
        raise ValueError(f"trunc_normal_: std must be positive, got {std}")
    if not a < b:
        raise ValueError(f"trunc_normal_: a must be smaller than b, got a={a} and b={b}")
    normal = NormalDist(mean, std)
    low, high = normal.cdf(a), normal.cdf(b)
    if low == high:
        raise ValueError(
            f"trunc_normal_: [{a}, {b}] is too far from mean={mean} for std={std}; move it closer"
        )
    quantiles = generator().uniform(low, high, tensor.shape)
    # The quantiles 0 and 1 are infinite.
    quantiles = np.clip(quantiles, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)
    values = np.fromiter(map(normal.inv_cdf, quantiles.flat), float, quantiles.size)
    return _fill(tensor, values.reshape(tensor.shape).clip(a, b))


# -- values that keep the scale of what passes through ---------------------------------------------


def xavier_uniform_(tensor: _T, gain: float = 1.0) -> _T:
    """Fill from the uniform distribution on ±gain·√(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    Raises:
        ValueError: fewer than two axes; so for all below.

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
    """Fill from the normal distribution of std gain·√(2 / (fan_in + fan_out)).

    See `xavier_uniform_`.
    """
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    return normal_(tensor, std=gain * math.sqrt(2 / (fan_in + fan_out)))


def kaiming_uniform_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Fill from the uniform distribution on ±gain·√(3 / fan), the gain being the nonlinearity's.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015.

    Args:
        tensor: what to fill.
        a: the negative slope of "leaky_relu"; unused by others.
        mode: "fan_in" keeps the scale in the forward pass, "fan_out" in the backward pass.
        nonlinearity: what `calculate_gain` knows; the default with a = 0 is the ReLU.
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Fill from the normal distribution of std gain / √fan; see `kaiming_uniform_`."""
    return normal_(tensor, std=_kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def lecun_normal_(tensor: _T) -> _T:
    """Fill from the normal distribution of std 1 / √fan_in, which SELU asks for.

    Source: Klambauer et al., "Self-normalizing neural networks", NIPS 2017.
    """
    fan_in, _ = _fans("lecun_normal_", tensor)
    return normal_(tensor, std=1 / math.sqrt(fan_in))


def orthogonal_(tensor: _T, gain: float = 1.0) -> _T:
    """Fill with `gain` times a random matrix of orthonormal rows, or columns where there are fewer.

    Axes after the first are taken as one. The matrix is uniform over all such.

    Source: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.

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
    # LAPACK chooses the signs; without them in r, the decomposition is unique and q uniform.
    q *= np.copysign(1.0, np.diagonal(r))
    return _fill(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def _kaiming_std(operation: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(operation, tensor)))
    if mode not in fans:
        raise ValueError(f'{operation}: mode must be "fan_in" or "fan_out", got {mode!r}')
    slope = a if nonlinearity == "leaky_relu" else None
    return calculate_gain(nonlinearity, slope) / math.sqrt(fans[mode])


def _fans(operation: str, tensor: Tensor) -> tuple[int, int]:
    """Return fan_in and fan_out, at least 1 each so that an empty tensor can be filled too."""
    _check(operation, tensor)
    if tensor.ndim < 2:
        raise ValueError(
            f"{operation}: needs at least two axes (out, in), the tensor has shape {tensor.shape}; "
            "fill a bias with zeros_, constant_ or uniform_"
        )
    outputs, inputs, *field = tensor.shape
    return max(1, inputs * math.prod(field)), max(1, outputs * math.prod(field))


def _check(operation: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{operation}: fills a Tensor in place, got a {type(tensor).__name__}")
    if tensor.dtype.kind != "f":
        raise TypeError(f"{operation}: the tensor must be floating-point, not {tensor.dtype}")


def _fill(tensor: _T, values: ArrayLike) -> _T:
    array = tensor.writable()
    array[...] = np.asarray(values, like=array)
    return tensor
