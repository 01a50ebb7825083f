"""Reductions over axes."""

from typing import Any

import numpy as np

from agrad.functions.registry import implements
from agrad.tensor import Tensor, as_tensor

__all__ = ["sum"]


@implements(np.sum)
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the sum over `axis` (all axes where None)."""
    return as_tensor(x).sum(axis, keepdims)
