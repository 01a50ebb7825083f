"""NumPy's functions without a gradient: on Tensors too they return plain arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from agrad.functions.registry import implements
from agrad.tensor import Tensor

__all__: list[str] = []

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    *(np.isfinite, np.isinf, np.isnan, np.signbit),
    *(np.sign, np.floor, np.ceil, np.trunc, np.rint),
    *(np.argmax, np.argmin, np.argsort, np.count_nonzero, np.all, np.any),
    *(np.allclose, np.isclose, np.array_equal),
    *(np.shape, np.ndim, np.size),
    *(np.zeros_like, np.ones_like, np.full_like, np.empty_like),
)


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*inputs: Any, **options: Any) -> Any:
        if options.get("out") is not None:
            raise TypeError(f"np.{function.__name__}: out= must not be given with Tensors")
        return function(*map(_plain, inputs), **options)

    return call


def _plain(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


for function in FUNCTIONS:
    implements(function)(_on_arrays(function))
