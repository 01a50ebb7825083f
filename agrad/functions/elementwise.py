"""Functions of elements."""

from typing import Any

import numpy as np

from agrad.functions.registry import implements
from agrad.ops import arithmetic
from agrad.tensor import Tensor, apply

__all__ = ["add"]


@implements(np.add)
def add(x: Any, y: Any) -> Tensor:
    """Return x + y, broadcast."""
    return apply(arithmetic.Add(), x, y)
