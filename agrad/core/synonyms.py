"""PyTorch's names of two options, beside NumPy's: `dim` for `axis`, `keepdim` for `keepdims`."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["takes_dim"]

_Result = TypeVar("_Result")
_AXIS_OF = {"dim": "axis", "keepdim": "keepdims"}


def takes_dim(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Make a function with the options `axis` and `keepdims` accept `dim` and `keepdim`, too.

    Raises:
        TypeError: When called with an option under both of its names.

    Example:
        >>> import numpy as np
        >>> @takes_dim
        ... def length(x, axis=None):
        ...     return x.shape[axis]
        >>> length(np.zeros((2, 3)), dim=1)
        3
    """

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> _Result:
        if options:
            for name, axis in _AXIS_OF.items():
                if name in options:
                    if axis in options:
                        raise TypeError(
                            f"{function.__name__}: {name} is another name of {axis}; pass one"
                        )
                    options[axis] = options.pop(name)
        return function(*arguments, **options)

    return call
