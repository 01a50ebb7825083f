"""Activation functions: of each element, or of the elements along an axis.

The result has the dtype of the input. A function of each element takes integers and booleans as
float32; those along an axis reject them.
"""

import math
from typing import Any

from numpy.lib.array_utils import normalize_axis_index

from agrad.arguments import require
from agrad.core.arguments import activated
from agrad.core.tensor import Tensor, apply, as_tensor, as_tensors
from agrad.functions import clip, split
from agrad.ops import activation

__all__ = [
    "elu",
    "gelu",
    "glu",
    "hardswish",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]


def relu(input: Any) -> Tensor:
    """Return max(x, 0) for each element x; the slope at 0 is taken as 0.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.relu([-1.0, 2.0])
        tensor([0., 2.])
    """
    return apply(activation.ReLU(), activated(input))


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """Return x where it is positive and `negative_slope` times x elsewhere.

    Maas et al., "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.leaky_relu([-1.0, 2.0], negative_slope=0.5)
        tensor([-0.5,  2. ])
    """
    return apply(activation.LeakyReLU(negative_slope), activated(input))


def elu(input: Any, alpha: float = 1.0) -> Tensor:
    """Return x where it is positive and alpha·(eˣ - 1) elsewhere.

    Clevert et al., "Fast and Accurate Deep Network Learning by Exponential Linear Units", 2016.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.elu([-100.0, 2.0])
        tensor([-1.,  2.])
    """
    return apply(activation.ELU(alpha), activated(input))


def selu(input: Any) -> Tensor:
    """Return ELU with the factor and alpha that keep mean 0 and variance 1 from layer to layer.

    Klambauer et al., "Self-Normalizing Neural Networks", 2017.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.selu([-100.0, 1.0])
        tensor([-1.7580993,  1.050701 ])
    """
    return apply(activation.SELU(), activated(input))


def tanh(input: Any) -> Tensor:
    """Return the hyperbolic tangent of each element.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.tanh([0.0, 20.0])
        tensor([0., 1.])
    """
    return apply(activation.Tanh(), activated(input))


def sigmoid(input: Any) -> Tensor:
    """Return the logistic function 1 / (1 + e⁻ˣ) of each element x.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.sigmoid([-1000.0, 0.0, 1000.0])
        tensor([0. , 0.5, 1. ])
    """
    return apply(activation.Sigmoid(), activated(input))


def softplus(input: Any, beta: float = 1.0) -> Tensor:
    """Return log(1 + e^(beta·x)) / beta for each element x, a smooth max(x, 0).

    Args:
        input: Of any shape.
        beta: Positive; the larger, the closer to max(x, 0).

    Raises:
        ValueError: `beta` is not positive and finite.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.softplus([-200.0, 0.0, 200.0])
        tensor([  0.       ,   0.6931472, 200.       ])
    """
    require("softplus", "be positive", lambda x: x > 0, beta=beta)
    return apply(activation.Softplus(beta), activated(input))


def logsigmoid(input: Any) -> Tensor:
    """Return log(1 / (1 + e⁻ˣ)) for each element x, without overflow.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.logsigmoid([-200.0, 0.0])
        tensor([-200.       ,   -0.6931472])
    """
    return -softplus(-activated(input))


def softsign(input: Any) -> Tensor:
    """Return x / (1 + |x|) for each element x.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.softsign([-3.0, 1.0])
        tensor([-0.75,  0.5 ])
    """
    return apply(activation.Softsign(), activated(input))


def silu(input: Any) -> Tensor:
    """Return x·sigmoid(x) for each element x, also known as swish.

    Elfwing et al., "Sigmoid-Weighted Linear Units", 2018.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.silu([-1000.0, 0.0, 1000.0])
        tensor([  -0.,    0., 1000.])
    """
    return apply(activation.SiLU(), activated(input))


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """Return x·Φ(x) for each element x, Φ the standard normal distribution function.

    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.

    Args:
        input: Of any shape.
        approximate: "none"; or "tanh" for x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2, which differs
            by less than 0.0005.

    Raises:
        ValueError: `approximate` is neither "none" nor "tanh".

    Example:
        >>> import agrad.nn.functional as F
        >>> F.gelu([0.0, 10.0])
        tensor([ 0., 10.])
    """
    x = activated(input)
    if approximate == "none":
        return apply(activation.GELU(), x)
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * x * (1 + 0.044715 * (x * x))))


def mish(input: Any) -> Tensor:
    """Return x·tanh(log(1 + eˣ)) for each element x.

    Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.mish([-1000.0, 0.0, 1000.0])
        tensor([  -0.,    0., 1000.])
    """
    x = activated(input)
    return x * tanh(softplus(x))


def hardswish(input: Any) -> Tensor:
    """Return x·min(max(x + 3, 0), 6)/6 for each element x, a piecewise swish.

    Howard et al., "Searching for MobileNetV3", 2019.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.hardswish([-4.0, 0.0, 3.0])
        tensor([-0.,  0.,  3.])
    """
    x = activated(input)
    return x * ((x + 3).clip(0, 6) / 6)


def prelu(input: Any, weight: Any) -> Tensor:
    """Return x where it is positive and x times a learned weight elsewhere.

    He et al., "Delving Deep into Rectifiers", 2015.

    Args:
        input: (N, C, ...), or of any shape for a single weight.
        weight: (1,); or (C,), a weight for each channel.

    Raises:
        ValueError: The shapes do not match.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.prelu([[-1.0, -1.0], [2.0, 2.0]], weight=[0.5, 0.25])
        tensor([[-0.5 , -0.25],
                [ 2.  ,  2.  ]])
    """
    input, weight = as_tensors(input, weight)
    x = activated(input)
    if weight.shape != (1,) and weight.shape != x.shape[1:2]:
        raise ValueError(
            "prelu: weight must have shape (1,) or one element for each channel of input, "
            f"of shape {x.shape}; got {weight.shape}"
        )
    slopes = weight.reshape((-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else ())
    # One of the two terms is exactly 0. At 0 the slope is the weight, as in PyTorch.
    out: Tensor = relu(x) + slopes * clip(x, max=0.0)
    return out


def glu(input: Any, dim: int = -1) -> Tensor:
    """Split the axis `dim` into halves a and b, and return a·sigmoid(b).

    Dauphin et al., "Language Modeling with Gated Convolutional Networks", 2017.

    Raises:
        ValueError: `dim` is out of range, or the axis has an odd length.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.glu([1.0, 2.0, 0.0, 1000.0])
        tensor([0.5, 2. ])
    """
    x = activated(input)
    axis = normalize_axis_index(dim, x.ndim, "glu: dim")
    if x.shape[axis] % 2:
        raise ValueError(
            f"glu: axis {axis} of input, of shape {x.shape}, has an odd length and cannot be halved"
        )
    a, b = split(x, 2, axis)
    return a * sigmoid(b)


def softmax(input: Any, dim: int) -> Tensor:
    """Return the elements' exponentials, divided by their sum along the axis `dim`.

    It does not overflow, and elements may be minus infinity.

    Raises:
        TypeError: The input is neither float32 nor float64.
        ValueError: `dim` is out of range.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.softmax([[1000.0, 1000.0], [0.0, float("-inf")]], dim=1)
        tensor([[0.5, 0.5],
                [1. , 0. ]])
    """
    return as_tensor(input).softmax(dim)


def log_softmax(input: Any, dim: int) -> Tensor:
    """Return the logarithm of the softmax along the axis `dim`, without overflow or underflow.

    Raises:
        TypeError: The input is neither float32 nor float64.
        ValueError: `dim` is out of range.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.log_softmax([0.0, 1000.0], dim=0)
        tensor([-1000.,     0.])
    """
    return as_tensor(input).log_softmax(dim)
