"""Elementwise functions: arithmetic, powers, exponentials and selections. All of them broadcast.

Arguments are Tensors, arrays, nested sequences or numbers of any shapes that broadcast; dtypes
promote as in NumPy, but scalars are weak: they take the dtype of the arrays. Shapes that do not
broadcast raise a ValueError.
"""

from typing import Any

import numpy as np

from agrad.backend import beside, is_array
from agrad.core.tensor import Tensor, apply, as_tensor, choices_in, plain, promoted
from agrad.functions.registry import implements
from agrad.ops import activation, arithmetic, transcendental
from agrad.ops.elementary import Elementary

__all__ = [
    "abs",
    "absolute",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "clip",
    "cos",
    "cosh",
    "divide",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "power",
    "reciprocal",
    "remainder",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
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


@implements(np.log2)
def log2(x: Any) -> Tensor:
    """Return the logarithm of x to base 2.

    Example:
        >>> import agrad as ag
        >>> ag.log2([1.0, 8.0])
        tensor([0., 3.])
    """
    return apply(Elementary("log2"), x)


@implements(np.log10)
def log10(x: Any) -> Tensor:
    """Return the logarithm of x to base 10.

    Example:
        >>> import agrad as ag
        >>> ag.log10([1.0, 1000.0])
        tensor([0., 3.])
    """
    return apply(Elementary("log10"), x)


@implements(np.tan)
def tan(x: Any) -> Tensor:
    """Return the tangent of x.

    Example:
        >>> import agrad as ag
        >>> ag.tan([0.0, 1.0]).data.round(3)
        array([0.   , 1.557], dtype=float32)
    """
    return apply(Elementary("tan"), x)


@implements(np.arcsin)
def arcsin(x: Any) -> Tensor:
    """Return the angle from -π/2 to π/2 whose sine is x.

    Example:
        >>> import agrad as ag
        >>> ag.arcsin([0.0, 0.5]).data.round(3)
        array([0.   , 0.524], dtype=float32)
    """
    return apply(Elementary("arcsin"), x)


@implements(np.arccos)
def arccos(x: Any) -> Tensor:
    """Return the angle from 0 to π whose cosine is x.

    Example:
        >>> import agrad as ag
        >>> ag.arccos([0.0, 0.5]).data.round(3)
        array([1.571, 1.047], dtype=float32)
    """
    return apply(Elementary("arccos"), x)


@implements(np.arctan)
def arctan(x: Any) -> Tensor:
    """Return the angle from -π/2 to π/2 whose tangent is x.

    Example:
        >>> import agrad as ag
        >>> ag.arctan([0.0, 1.0]).data.round(3)
        array([0.   , 0.785], dtype=float32)
    """
    return apply(Elementary("arctan"), x)


@implements(np.sinh)
def sinh(x: Any) -> Tensor:
    """Return the hyperbolic sine of x.

    Example:
        >>> import agrad as ag
        >>> ag.sinh([0.0, 1.0]).data.round(3)
        array([0.   , 1.175], dtype=float32)
    """
    return apply(Elementary("sinh"), x)


@implements(np.cosh)
def cosh(x: Any) -> Tensor:
    """Return the hyperbolic cosine of x.

    Example:
        >>> import agrad as ag
        >>> ag.cosh([0.0, 1.0]).data.round(3)
        array([1.   , 1.543], dtype=float32)
    """
    return apply(Elementary("cosh"), x)


@implements(np.arcsinh)
def arcsinh(x: Any) -> Tensor:
    """Return the number whose hyperbolic sine is x.

    Example:
        >>> import agrad as ag
        >>> ag.arcsinh([0.0, 1.0]).data.round(3)
        array([0.   , 0.881], dtype=float32)
    """
    return apply(Elementary("arcsinh"), x)


@implements(np.arccosh)
def arccosh(x: Any) -> Tensor:
    """Return the non-negative number whose hyperbolic cosine is x.

    Example:
        >>> import agrad as ag
        >>> ag.arccosh([1.0, 2.0]).data.round(3)
        array([0.   , 1.317], dtype=float32)
    """
    return apply(Elementary("arccosh"), x)


@implements(np.arctanh)
def arctanh(x: Any) -> Tensor:
    """Return the number whose hyperbolic tangent is x.

    Example:
        >>> import agrad as ag
        >>> ag.arctanh([0.0, 0.5]).data.round(3)
        array([0.   , 0.549], dtype=float32)
    """
    return apply(Elementary("arctanh"), x)


def erf(x: Any) -> Tensor:
    """Return the error function of x, 2/√π times the integral of e^(-t²) from 0 to x.

    Example:
        >>> import agrad as ag
        >>> ag.erf([0.0, 1.0]).data.round(3)
        array([0.   , 0.843], dtype=float32)
    """
    return apply(Elementary("erf"), x)


@implements(np.logaddexp)
def logaddexp(x: Any, y: Any) -> Tensor:
    """Return log(eˣ + eʸ) without overflow.

    Example:
        >>> import agrad as ag
        >>> ag.logaddexp(1000.0, [1000.0, 0.0]).data.round(1)
        array([1000.7, 1000. ], dtype=float32)
    """
    return apply(transcendental.LogAddExp(), x, y)


@implements(np.remainder)
def remainder(x: Any, y: Any) -> Tensor:
    """Return x - y ⌊x / y⌋, which has the sign of y; the same as x % y.

    Where ⌊x / y⌋ changes along an update the remainder jumps, and an average backward pass raises
    a `ChoiceChangedError`.

    Example:
        >>> import agrad as ag
        >>> ag.remainder(ag.tensor([5.0, -5.0]), 3)
        tensor([2., 1.])
    """
    return apply(arithmetic.Remainder(), x, y)


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
    choices = choices_in(condition)
    if choices:  # beside booleans with axes, Python's floats would count as float64
        x, y = promoted((x, y))
    return apply(arithmetic.Where(chosen), x, y, *choices)


@implements(np.positive)
def _positive(x: Tensor) -> Tensor:
    return x
