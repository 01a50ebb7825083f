"""Elementwise functions: arithmetic, powers, exponentials and selections. All of them broadcast.

Arguments are Tensors, arrays, nested sequences or numbers of any shapes that broadcast; dtypes
promote as in NumPy, but scalars are weak: they take the dtype of the arrays. Shapes that do not
broadcast raise a ValueError.
"""

from typing import Any

import numpy as np

from agrad.backend import beside, is_array
from agrad.core.tensor import Tensor, apply, as_tensor, choices_in, plain
from agrad.functions.registry import implements
from agrad.ops import activation, arithmetic, transcendental

__all__ = [
    "abs",
    "absolute",
    "add",
    "clip",
    "cos",
    "divide",
    "exp",
    "expm1",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "power",
    "reciprocal",
    "sin",
    "sqrt",
    "square",
    "subtract",
    "tanh",
    "where",
]


@implements(np.add)
def add(x: Any, y: Any) -> Tensor:
    """Return x + y.

    Example:
        >>> import agrad as ag
        >>> ag.add(ag.tensor([1.0, 2.0]), 1)
        tensor([2., 3.])
    """
    return apply(arithmetic.Add(), x, y)


@implements(np.subtract)
def subtract(x: Any, y: Any) -> Tensor:
    """Return x - y.

    Example:
        >>> import agrad as ag
        >>> ag.subtract(ag.tensor([1.0, 2.0]), 1)
        tensor([0., 1.])
    """
    return apply(arithmetic.Subtract(), x, y)


@implements(np.multiply)
def multiply(x: Any, y: Any) -> Tensor:
    """Return the elementwise product x · y.

    Example:
        >>> import agrad as ag
        >>> ag.multiply(ag.tensor([[1.0], [2.0]]), ag.tensor([3.0, 4.0]))
        tensor([[3., 4.],
                [6., 8.]])
    """
    return apply(arithmetic.Multiply(), x, y)


@implements(np.divide)
def divide(x: Any, y: Any) -> Tensor:
    """Return x / y.

    Example:
        >>> import agrad as ag
        >>> ag.divide(1, ag.tensor([1.0, 2.0]))
        tensor([1. , 0.5])
    """
    return apply(arithmetic.Divide(), x, y)


@implements(np.negative)
def negative(x: Any) -> Tensor:
    """Return -x.

    Example:
        >>> import agrad as ag
        >>> ag.negative(ag.tensor([1.0, -2.0]))
        tensor([-1.,  2.])
    """
    return apply(arithmetic.Negative(), x)


@implements(np.power)
def power(x: Any, y: Any) -> Tensor:
    """Return x raised to the power y.

    The gradient with respect to y is 0 at x = 0 for y ≥ 0, and NaN for negative x.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([-1.0, 0.0, 3.0], requires_grad=True)
        >>> ag.power(x, 2).sum().backward()
        >>> x.grad
        array([-2.,  0.,  6.], dtype=float32)
    """
    return apply(arithmetic.Power(), x, y)


@implements(np.square)
def square(x: Any) -> Tensor:
    """Return x².

    Example:
        >>> import agrad as ag
        >>> ag.square(ag.tensor([1.0, -2.0]))
        tensor([1., 4.])
    """
    return apply(arithmetic.Square(), x)


@implements(np.sqrt)
def sqrt(x: Any) -> Tensor:
    """Return the square root of x.

    Example:
        >>> import agrad as ag
        >>> ag.sqrt(ag.tensor([1.0, 4.0]))
        tensor([1., 2.])
    """
    return apply(arithmetic.Sqrt(), x)


@implements(np.reciprocal)
def reciprocal(x: Any) -> Tensor:
    """Return 1 / x.

    Example:
        >>> import agrad as ag
        >>> ag.reciprocal(ag.tensor([2.0, -4.0]))
        tensor([ 0.5 , -0.25])
    """
    return apply(arithmetic.Reciprocal(), x)


@implements(np.absolute)
def absolute(x: Any) -> Tensor:
    """Return |x|; the gradient at 0 is 0.

    Example:
        >>> import agrad as ag
        >>> ag.absolute(ag.tensor([1.0, -2.0]))
        tensor([1., 2.])
    """
    return apply(arithmetic.Absolute(), x)


abs = absolute


@implements(np.exp)
def exp(x: Any) -> Tensor:
    """Return eˣ.

    Example:
        >>> import agrad as ag
        >>> ag.exp(ag.tensor([0.0, 1.0])).data.round(3)
        array([1.   , 2.718], dtype=float32)
    """
    return apply(transcendental.Exp(), x)


@implements(np.expm1)
def expm1(x: Any) -> Tensor:
    """Return eˣ - 1, which is also accurate for small x.

    Example:
        >>> import agrad as ag
        >>> ag.expm1(ag.tensor([0.0, 1e-8]))
        tensor([0.e+00, 1.e-08])
    """
    return apply(transcendental.Expm1(), x)


@implements(np.log)
def log(x: Any) -> Tensor:
    """Return the natural logarithm of x.

    Example:
        >>> import agrad as ag
        >>> ag.log(ag.tensor([1.0, 2.0])).data.round(3)
        array([0.   , 0.693], dtype=float32)
    """
    return apply(transcendental.Log(), x)


@implements(np.log1p)
def log1p(x: Any) -> Tensor:
    """Return log(1 + x), which is also accurate for small x.

    Example:
        >>> import agrad as ag
        >>> ag.log1p(ag.tensor([0.0, 1e-8]))
        tensor([0.e+00, 1.e-08])
    """
    return apply(transcendental.Log1p(), x)


@implements(np.sin)
def sin(x: Any) -> Tensor:
    """Return the sine of x.

    Example:
        >>> import agrad as ag
        >>> ag.sin(ag.tensor([0.0, 1.0])).data.round(3)
        array([0.   , 0.841], dtype=float32)
    """
    return apply(transcendental.Sin(), x)


@implements(np.cos)
def cos(x: Any) -> Tensor:
    """Return the cosine of x.

    Example:
        >>> import agrad as ag
        >>> ag.cos(ag.tensor([0.0, 1.0])).data.round(3)
        array([1.  , 0.54], dtype=float32)
    """
    return apply(transcendental.Cos(), x)


@implements(np.tanh)
def tanh(x: Any) -> Tensor:
    """Return the hyperbolic tangent of x.

    Example:
        >>> import agrad as ag
        >>> ag.tanh(ag.tensor([0.0, 1.0])).data.round(3)
        array([0.   , 0.762], dtype=float32)
    """
    return apply(activation.Tanh(), x)


@implements(np.maximum)
def maximum(x: Any, y: Any) -> Tensor:
    """Return the larger of x and y; equal elements share the gradient.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> ag.maximum(x, 2).sum().backward()
        >>> x.grad
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return apply(arithmetic.Maximum(), x, y)


@implements(np.minimum)
def minimum(x: Any, y: Any) -> Tensor:
    """Return the smaller of x and y; equal elements share the gradient.

    Example:
        >>> import agrad as ag
        >>> ag.minimum(ag.tensor([1.0, 2.0, 3.0]), 2)
        tensor([1., 2., 2.])
    """
    return apply(arithmetic.Minimum(), x, y)


@implements(np.clip)
def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """Return x clipped to [min, max].

    Bounds are numbers, constant arrays, or None for no bound. The gradient at a bound is 1.

    Raises:
        TypeError: A bound requires a gradient.

    Example:
        >>> import agrad as ag
        >>> ag.clip(ag.tensor([-2.0, 0.5, 2.0]), -1, 1)
        tensor([-1. ,  0.5,  1. ])
    """
    return as_tensor(x).clip(min, max)


@implements(np.where)
def where(condition: Any, x: Any, y: Any) -> Tensor:
    """Return the elements of x where the boolean array `condition` is true, and of y elsewhere.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([-1.0, 2.0])
        >>> ag.where(x > 0, x, 0)
        tensor([0., 2.])
    """
    like = next(filter(is_array, map(plain, (x, y, condition))), np.empty(0))
    chosen = beside("where", "condition", plain(condition), like).astype(bool, copy=False)
    return apply(arithmetic.Where(chosen), x, y, *choices_in(condition))


@implements(np.positive)
def _positive(x: Tensor) -> Tensor:
    return x
