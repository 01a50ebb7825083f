"""Functions as methods of the Tensor, and PyTorch's names for changes of shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike

from agrad.core.synonyms import takes_dim
from agrad.ops import activation, arithmetic, reduction, shape, softmax, transcendental
from agrad.ops.cumulative import Cumprod, Cumsum
from agrad.ops.elementary import Elementary
from agrad.ops.operation import Operation

__all__ = ["Methods"]

T = TypeVar("T", bound="Methods[Any]")


class Methods(Generic[T]):
    """The base of `Tensor` (T): methods that only apply an operation or change the shape."""

    __slots__ = ()

    shape: Any
    dtype: Any

    def applied(self, operation: Operation, *others: Any) -> T:
        """Return the result of an operation on this Tensor, followed by other operands."""
        raise TypeError(f"{type(self).__name__}: the class defines no way to apply an operation")

    def _activated(self, operation: Operation) -> T:
        """Apply a function of floats; integers and booleans become float32."""
        floats: Methods[T] = self
        if self.dtype.kind != "f":
            floats = self.applied(shape.Cast(np.float32))
        return floats.applied(operation)

    # -- functions of each element -----------------------------------------------------------------

    def abs(self) -> T:
        """Return |x| of each element; the gradient at 0 is 0."""
        return self.applied(arithmetic.Absolute())

    def square(self) -> T:
        """Return x² of each element."""
        return self.applied(arithmetic.Square())

    def sqrt(self) -> T:
        """Return the square root of each element."""
        return self.applied(arithmetic.Sqrt())

    def reciprocal(self) -> T:
        """Return 1 / x of each element."""
        return self.applied(arithmetic.Reciprocal())

    def exp(self) -> T:
        """Return eˣ of each element."""
        return self.applied(transcendental.Exp())

    def expm1(self) -> T:
        """Return eˣ - 1 of each element, also accurate for small x."""
        return self.applied(transcendental.Expm1())

    def log(self) -> T:
        """Return the natural logarithm of each element."""
        return self.applied(transcendental.Log())

    def log1p(self) -> T:
        """Return log(1 + x) of each element, also accurate for small x."""
        return self.applied(transcendental.Log1p())

    def sin(self) -> T:
        """Return the sine of each element."""
        return self.applied(transcendental.Sin())

    def cos(self) -> T:
        """Return the cosine of each element."""
        return self.applied(transcendental.Cos())

    def tanh(self) -> T:
        """Return the hyperbolic tangent of each element."""
        return self.applied(activation.Tanh())

    def log2(self) -> T:
        """Return the logarithm of each element to base 2."""
        return self.applied(Elementary("log2"))

    def log10(self) -> T:
        """Return the logarithm of each element to base 10."""
        return self.applied(Elementary("log10"))

    def tan(self) -> T:
        """Return the tangent of each element."""
        return self.applied(Elementary("tan"))

    def arcsin(self) -> T:
        """Return the angle from -π/2 to π/2 whose sine is the element."""
        return self.applied(Elementary("arcsin"))

    def arccos(self) -> T:
        """Return the angle from 0 to π whose cosine is the element."""
        return self.applied(Elementary("arccos"))

    def arctan(self) -> T:
        """Return the angle from -π/2 to π/2 whose tangent is the element."""
        return self.applied(Elementary("arctan"))

    def sinh(self) -> T:
        """Return the hyperbolic sine of each element."""
        return self.applied(Elementary("sinh"))

    def cosh(self) -> T:
        """Return the hyperbolic cosine of each element."""
        return self.applied(Elementary("cosh"))

    def arcsinh(self) -> T:
        """Return the number whose hyperbolic sine is the element."""
        return self.applied(Elementary("arcsinh"))

    def arccosh(self) -> T:
        """Return the non-negative number whose hyperbolic cosine is the element."""
        return self.applied(Elementary("arccosh"))

    def arctanh(self) -> T:
        """Return the number whose hyperbolic tangent is the element."""
        return self.applied(Elementary("arctanh"))

    def erf(self) -> T:
        """Return the error function of each element."""
        return self.applied(Elementary("erf"))

    def relu(self) -> T:
        """Return max(x, 0) of each element; see `agrad.nn.functional.relu`."""
        return self._activated(activation.ReLU())

    def sigmoid(self) -> T:
        """Return 1 / (1 + e⁻ˣ) of each element; see `agrad.nn.functional.sigmoid`."""
        return self._activated(activation.Sigmoid())

    def pow(self, exponent: ArrayLike | T) -> T:
        """Return the elements raised to a power; the same as x ** exponent."""
        return self.applied(arithmetic.Power(), exponent)

    def remainder(self, other: ArrayLike | T) -> T:
        """Return the elements modulo those of `other`; the same as x % other."""
        return self.applied(arithmetic.Remainder(), other)

    def logaddexp(self, other: ArrayLike | T) -> T:
        """Return log(eˣ + eʸ) for elements x and the elements y of `other`, without overflow."""
        return self.applied(transcendental.LogAddExp(), other)

    def maximum(self, other: ArrayLike | T) -> T:
        """Return the larger of two elements; equal elements share the gradient."""
        return self.applied(arithmetic.Maximum(), other)

    def minimum(self, other: ArrayLike | T) -> T:
        """Return the smaller of two elements; equal elements share the gradient."""
        return self.applied(arithmetic.Minimum(), other)

    # -- functions along axes ----------------------------------------------------------------------

    @takes_dim
    def logsumexp(self, axis: reduction.Axis = None, keepdims: bool = False) -> T:
        """Return log Σ eˣ over `axis` without overflow."""
        return self._activated(reduction.LogSumExp(axis, keepdims))

    def softmax(self, dim: int) -> T:
        """Return exponentials divided by their sum along the axis `dim`."""
        self._require_axis("softmax", dim)
        return self.applied(softmax.Softmax(dim))

    def log_softmax(self, dim: int) -> T:
        """Return the logarithm of the softmax along the axis `dim`."""
        self._require_axis("log_softmax", dim)
        return self.applied(softmax.LogSoftmax(dim))

    def _require_axis(self, name: str, dim: int) -> None:
        """Raise unless the elements are float32 or float64, and there is an axis to be `dim`."""
        shape.require_floating(name, "input", self.dtype)
        if not self.shape:  # NumPy knows other axes out of range, but takes 0 and -1 of a scalar
            raise np.exceptions.AxisError(dim, 0, name)

    @takes_dim
    def cumsum(self, axis: int | None = None) -> T:
        """Return the sums of the elements up to each one along `axis`; see `agrad.cumsum`."""
        return self._along(axis).applied(Cumsum(0 if axis is None else axis))

    @takes_dim
    def cumprod(self, axis: int | None = None) -> T:
        """Return the products of the elements up to each one along `axis`."""
        return self._along(axis).applied(Cumprod(0 if axis is None else axis))

    def _along(self, axis: int | None) -> Methods[T]:
        """Return the operand of a function along `axis`: if that is None, the raveled elements."""
        return self.applied(shape.Reshape(-1)) if axis is None else self

    def tril(self, k: int = 0) -> T:
        """Return the elements up to the k-th diagonal of matrices, and zeros above it."""
        return np.tril(self, k)  # type: ignore[call-overload, no-any-return]

    def triu(self, k: int = 0) -> T:
        """Return the elements from the k-th diagonal of matrices on, and zeros below it."""
        return np.triu(self, k)  # type: ignore[call-overload, no-any-return]

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> T:
        """Return a diagonal of the matrices that two axes span; see `agrad.diagonal`."""
        return self.applied(shape.Diagonal(offset, axis1, axis2))

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> T:
        """Return the sum of a diagonal of the matrices that two axes span."""
        diagonal: Methods[T] = self.diagonal(offset, axis1, axis2)
        return diagonal.applied(reduction.Sum(-1))

    # -- changes of shape --------------------------------------------------------------------------

    def view(self, *lengths: Any) -> T:
        """Return the elements in another shape, as PyTorch's `view` does; see `reshape`.

        Raises:
            TypeError: A dtype is given; `astype` converts the elements.
        """
        for length in lengths:
            if isinstance(length, type | np.dtype | str):
                raise TypeError(f"view: takes a shape, not the dtype {length!r}; use astype")
        return self.applied(shape.Reshape(lengths[0] if len(lengths) == 1 else lengths))

    def permute(self, *axes: Any) -> T:
        """Return a view with the axes in another order, all of which must be given."""
        return self.applied(shape.Transpose(axes[0] if len(axes) == 1 else axes))

    @takes_dim
    def unsqueeze(self, axis: int) -> T:
        """Return a view with a new axis of length one, at the position `axis` of the result.

        Raises:
            ValueError: `axis` is out of range.
        """
        lengths = list(self.shape)
        lengths.insert(normalize_axis_index(axis, len(lengths) + 1, "unsqueeze: axis"), 1)
        return self.applied(shape.Reshape(tuple(lengths)))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> T:
        """Return the elements with the axes from start_dim to end_dim joined into one.

        Raises:
            ValueError: An axis is out of range, or `end_dim` is before `start_dim`.
        """
        return self.applied(
            shape.Reshape(shape.flattened("flatten", self.shape, start_dim, end_dim))
        )

    @takes_dim
    def flip(self, axis: int | Sequence[int] | None = None) -> T:
        """Return the elements in reverse order along `axis`, by default along all axes."""
        return np.flip(self, axis)  # type: ignore[call-overload, no-any-return]

    @takes_dim
    def repeat(self, repeats: int | Sequence[int], axis: int | None = None) -> T:
        """Return each element several times in succession, as NumPy does; see `agrad.repeat`."""
        return np.repeat(self, repeats, axis)  # type: ignore[call-overload, no-any-return]

    def tile(self, reps: int | Sequence[int]) -> T:
        """Return copies of the whole, side by side along each axis; see `agrad.tile`."""
        return np.tile(self, reps)  # type: ignore[call-overload, no-any-return]

    @takes_dim
    def roll(self, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> T:
        """Return the elements shifted by `shift` places along `axis`; see `agrad.roll`."""
        return np.roll(self, shift, axis)  # type: ignore[call-overload, no-any-return]

    def clone(self) -> T:
        """Return a copy of the elements, through which gradients flow back."""
        return self.applied(shape.Cast(self.dtype))
