"""Activation functions: of each element, or of the elements along an axis.

The result has the dtype of the input. A function of each element takes integers and booleans as
float32; those along an axis reject them.
"""

from typing import Any

from agrad.core.tensor import Tensor, apply, as_tensor
from agrad.nn.functional.windows import activated
from agrad.ops import activation
from agrad.ops.softmax import LogSoftmax, Softmax

__all__ = [
    "elu",
    "gelu",
    "leaky_relu",
    "log_softmax",
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

    Example:
        >>> import agrad.nn.functional as F
        >>> F.softplus([-200.0, 0.0, 200.0])
        tensor([  0.       ,   0.6931472, 200.       ])
    """
    return apply(activation.Softplus(beta), activated(input))


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


def gelu(input: Any) -> Tensor:
    """Return x·Φ(x) for each element x, Φ the standard normal distribution function.

    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016; exact, not the tanh approximation.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.gelu([0.0, 10.0])
        tensor([ 0., 10.])
    """
    return apply(activation.GELU(), activated(input))


def softmax(input: Any, dim: int) -> Tensor:
    """Return the elements' exponentials, divided by their sum along the axis `dim`.

    It does not overflow, and elements may be minus infinity.

    Raises:
        TypeError: the input is not floating-point.
        ValueError: `dim` is out of range.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.softmax([[1000.0, 1000.0], [0.0, float("-inf")]], dim=1)
        tensor([[0.5, 0.5],
                [1. , 0. ]])
    """
    return apply(Softmax(dim), _floating("softmax", input))


def log_softmax(input: Any, dim: int) -> Tensor:
    """Return the logarithm of the softmax along the axis `dim`, without overflow or underflow.

    Raises:
        TypeError: the input is not floating-point.
        ValueError: `dim` is out of range.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.log_softmax([0.0, 1000.0], dim=0)
        tensor([-1000.,     0.])
    """
    return apply(LogSoftmax(dim), _floating("log_softmax", input))


def _floating(name: str, input: Any) -> Tensor:
    x = as_tensor(input)
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: input must be floating-point, got {x.dtype}; use astype")
    return x
