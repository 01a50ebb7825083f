"""Inputs of functions as Tensors of floating-point numbers."""

from typing import Any

import numpy as np

from agrad.core.tensor import Tensor, as_tensor
from agrad.ops.shape import require_floating

__all__ = ["activated", "floating"]


def floating(operation: str, name: str, value: Any) -> Tensor:
    """Return a value as a Tensor, which must hold one of the dtypes that have gradients.

    Args:
        operation: The function, for the message.
        name: The argument, for the message.
        value: An array or Tensor of any shape.

    Raises:
        TypeError: `value` is neither float32 nor float64.

    Example:
        >>> floating("softmax", "input", [0.0, 1.0])
        tensor([0., 1.])
    """
    tensor = as_tensor(value)
    require_floating(operation, name, tensor.dtype)
    return tensor


def activated(input: Any) -> Tensor:
    """Return the input of a function of each element: integers and booleans become float32.

    Other floating-point dtypes, such as float16, are kept: such a function can compute them, even
    though they have no gradients.

    Example:
        >>> activated([1, 2]).dtype
        dtype('float32')
    """
    x = as_tensor(input)
    return x if x.dtype.kind == "f" else x.astype(np.float32)
