"""Registration of agrad's functions as implementations of NumPy's."""

from collections.abc import Callable
from typing import Any, TypeVar

from agrad.core.tensor import Tensor

__all__ = ["implements"]

F = TypeVar("F", bound=Callable[..., Any])


def implements(*numpy_functions: Any) -> Callable[[F], F]:
    """Register the decorated function as the implementation of NumPy functions on Tensors."""

    def register(function: F) -> F:
        for numpy_function in numpy_functions:
            Tensor.implementations[numpy_function] = function
        return function

    return register
