"""Activation functions."""

from typing import Any

from agrad.ops import activation
from agrad.ops.softmax import LogSoftmax, Softmax
from agrad.tensor import Tensor, apply, as_tensor

__all__ = ["log_softmax", "relu", "softmax", "tanh"]


def relu(input: Any) -> Tensor:
    """Return max(x, 0) of each element x; the slope at 0 is taken as 0.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.relu([-1.0, 2.0])
        tensor([0., 2.])
    """
    return apply(activation.ReLU(), as_tensor(input))


def tanh(input: Any) -> Tensor:
    """Return the hyperbolic tangent of each element.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.tanh([0.0, 20.0])
        tensor([0., 1.])
    """
    return apply(activation.Tanh(), as_tensor(input))


def softmax(input: Any, dim: int) -> Tensor:
    """Return the elements' exponentials, divided by their sum along the axis `dim`.

    Nothing overflows, and elements may be minus infinity.

    Raises:
        TypeError: an input that is not floating-point.
        ValueError: `dim` out of range.

    Example:
        >>> import agrad.nn.functional as F
        >>> F.softmax([[1000.0, 1000.0], [0.0, float("-inf")]], dim=1)
        tensor([[0.5, 0.5],
                [1. , 0. ]])
    """
    return apply(Softmax(dim), _floating("softmax", input))


def log_softmax(input: Any, dim: int) -> Tensor:
    """Return the logarithm of the softmax along the axis `dim`, without its overflow or underflow.

    Raises:
        TypeError: an input that is not floating-point.
        ValueError: `dim` out of range.

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
