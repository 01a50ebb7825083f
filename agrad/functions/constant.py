"""NumPy's functions without a gradient, which return plain arrays when called on Tensors.

Comparisons and logical functions of Tensors that require a gradient return boolean Tensors.

Example:
    >>> import agrad as ag
    >>> x = ag.tensor([-2.0, 3.0], requires_grad=True)
    >>> np.sign(x), np.zeros(2) < x
    (array([-1.,  1.], dtype=float32), tensor([False,  True], dtype=bool))
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor, chosen, plain
from agrad.functions.registry import implements

__all__: list[str] = []

_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
_APPROXIMATE = (np.allclose, np.array_equal, np.isclose)
_LOGIC = (
    np.logical_and,
    np.logical_not,
    np.logical_or,
    np.logical_xor,
    np.bitwise_and,
    np.bitwise_or,
    np.bitwise_xor,
    np.invert,
)
_PREDICATES = (np.all, np.any, np.isfinite, np.isinf, np.isnan, np.signbit)
_STEPS = (np.sign, np.ceil, np.floor, np.rint, np.trunc)
_COUNTS = (np.argmax, np.argmin, np.argsort, np.argwhere, np.count_nonzero)
_PLACES = (np.flatnonzero, np.nonzero)
_LIKE = (np.empty_like, np.full_like, np.ones_like, np.zeros_like)


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*inputs: Any, **options: Any) -> Any:
        if options.get("out") is not None:
            raise TypeError(f"np.{function.__name__}: out= must not be given with a Tensor")
        return function(*map(plain, inputs), **options)

    return call


def _as_choice(function: Callable[..., Any]) -> Callable[..., Any]:
    on_arrays = _on_arrays(function)

    def call(*inputs: Any, **options: Any) -> Any:
        return on_arrays(*inputs, **options) if options else chosen(function, *inputs)

    return call


for _functions in (_APPROXIMATE, _PREDICATES, _STEPS, _COUNTS, _PLACES, _LIKE):
    for _function in _functions:
        implements(_function)(_on_arrays(_function))
for _choice in (*_COMPARISONS, *_LOGIC):
    implements(_choice)(_as_choice(_choice))


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
