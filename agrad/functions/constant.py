"""NumPy's functions without a gradient, which return plain arrays when called on Tensors.

Example:
    >>> import agrad as ag
    >>> x = ag.tensor([-2.0, 3.0], requires_grad=True)
    >>> np.sign(x), np.zeros(2) < x
    (array([-1.,  1.], dtype=float32), array([False,  True]))
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor
from agrad.functions.registry import implements

__all__: list[str] = []

_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
_APPROXIMATE = (np.allclose, np.array_equal, np.isclose)
_LOGIC = (np.logical_and, np.logical_not, np.logical_or, np.logical_xor, np.all, np.any)
_PREDICATES = (np.isfinite, np.isinf, np.isnan, np.signbit)
_STEPS = (np.sign, np.ceil, np.floor, np.rint, np.trunc)
_COUNTS = (np.argmax, np.argmin, np.argsort, np.count_nonzero)
_LIKE = (np.empty_like, np.full_like, np.ones_like, np.zeros_like)


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*inputs: Any, **options: Any) -> Any:
        if options.get("out") is not None:
            raise TypeError(f"np.{function.__name__}: out= must not be given with a Tensor")
        return function(*map(_array, inputs), **options)

    return call


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


for _functions in (_COMPARISONS, _APPROXIMATE, _LOGIC, _PREDICATES, _STEPS, _COUNTS, _LIKE):
    for _function in _functions:
        implements(_function)(_on_arrays(_function))


# A captured function may ask for shapes, of Tensors that have no values yet.


@implements(np.shape)
def _shape(x: Tensor) -> tuple[int, ...]:
    return x.shape


@implements(np.ndim)
def _ndim(x: Tensor) -> int:
    return x.ndim


@implements(np.size)
def _size(x: Tensor, axis: Any = None) -> int:
    return np.size(np.broadcast_to(0, x.shape), axis)
