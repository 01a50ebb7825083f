"""Functions as methods of the Tensor, and PyTorch's names for changes of shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike

from agrad.core.synonyms import takes_dim
from agrad.ops import activation, arithmetic, reduction, shape, softmax, transcendental
from agrad.ops.operation import Operation

if TYPE_CHECKING:
    from agrad.core.tensor import Tensor

__all__ = ["Methods"]


class Methods:
    """The base of `Tensor` with the methods that only apply an operation or change the shape."""

    __slots__ = ()

    shape: Any
    dtype: Any

    def applied(self, operation: Operation, *others: Any) -> Tensor:
        """Return the result of an operation on this Tensor, followed by other operands."""
        raise TypeError(f"{type(self).__name__}: the class defines no way to apply an operation")

    def _activated(self, operation: Operation) -> Tensor:
        """Apply a function of each element; integers and booleans become float32."""
        if self.dtype.kind == "f":
            return self.applied(operation)
        return self.applied(shape.Cast(np.float32)).applied(operation)

    # -- functions of each element -----------------------------------------------------------------

    def abs(self) -> Tensor:
        """Return |x| of each element; the gradient at 0 is 0."""
        return self.applied(arithmetic.Absolute())

    def square(self) -> Tensor:
        """Return x² of each element."""
        return self.applied(arithmetic.Square())

    def sqrt(self) -> Tensor:
        """Return the square root of each element."""
        return self.applied(arithmetic.Sqrt())

    def reciprocal(self) -> Tensor:
        """Return 1 / x of each element."""
        return self.applied(arithmetic.Reciprocal())

    def exp(self) -> Tensor:
        """Return eˣ of each element."""
        return self.applied(transcendental.Exp())

    def expm1(self) -> Tensor:
        """Return eˣ - 1 of each element, also accurate for small x."""
        return self.applied(transcendental.Expm1())

    def log(self) -> Tensor:
        """Return the natural logarithm of each element."""
        return self.applied(transcendental.Log())

    def log1p(self) -> Tensor:
        """Return log(1 + x) of each element, also accurate for small x."""
        return self.applied(transcendental.Log1p())

    def sin(self) -> Tensor:
        """Return the sine of each element."""
        return self.applied(transcendental.Sin())

    def cos(self) -> Tensor:
        """Return the cosine of each element."""
        return self.applied(transcendental.Cos())

    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent of each element."""
        return self.applied(activation.Tanh())

    def relu(self) -> Tensor:
        """Return max(x, 0) of each element; see `agrad.nn.functional.relu`."""
        return self._activated(activation.ReLU())

    def sigmoid(self) -> Tensor:
        """Return 1 / (1 + e⁻ˣ) of each element; see `agrad.nn.functional.sigmoid`."""
        return self._activated(activation.Sigmoid())

    def pow(self, exponent: ArrayLike | Tensor) -> Tensor:
        """Return the elements raised to a power; the same as x ** exponent."""
        return self.applied(arithmetic.Power(), exponent)

    def maximum(self, other: ArrayLike | Tensor) -> Tensor:
        """Return the larger of two elements; equal elements share the gradient."""
        return self.applied(arithmetic.Maximum(), other)

    def minimum(self, other: ArrayLike | Tensor) -> Tensor:
        """Return the smaller of two elements; equal elements share the gradient."""
        return self.applied(arithmetic.Minimum(), other)

    # -- functions along axes ----------------------------------------------------------------------

    @takes_dim
    def logsumexp(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return log Σ eˣ over `axis` without overflow."""
        return self.applied(reduction.LogSumExp(axis, keepdims))

    def softmax(self, dim: int) -> Tensor:
        """Return exponentials divided by their sum along the axis `dim`."""
        return self.applied(softmax.Softmax(dim))

    def log_softmax(self, dim: int) -> Tensor:
        """Return the logarithm of the softmax along the axis `dim`."""
        return self.applied(softmax.LogSoftmax(dim))

    # -- changes of shape --------------------------------------------------------------------------

    def view(self, *lengths: Any) -> Tensor:
        """Return the elements in another shape, as PyTorch's `view` does; see `reshape`.

        Raises:
            TypeError: A dtype is given; `astype` converts the elements.
        """
        for length in lengths:
            if isinstance(length, type | np.dtype | str):
                raise TypeError(f"view: takes a shape, not the dtype {length!r}; use astype")
        return self.applied(shape.Reshape(lengths[0] if len(lengths) == 1 else lengths))

    def permute(self, *axes: Any) -> Tensor:
        """Return a view with the axes in another order, all of which must be given."""
        return self.applied(shape.Transpose(axes[0] if len(axes) == 1 else axes))

    @takes_dim
    def unsqueeze(self, axis: int) -> Tensor:
        """Return a view with a new axis of length one, at the position `axis` of the result.

        Raises:
            ValueError: There is no such position.
        """
        lengths = list(self.shape)
        lengths.insert(normalize_axis_index(axis, len(lengths) + 1, "unsqueeze: axis"), 1)
        return self.applied(shape.Reshape(tuple(lengths)))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Return the elements with the axes from start_dim to end_dim joined into one.

        Raises:
            ValueError: There are no such axes.
        """
        lengths: tuple[int, ...] = self.shape or (1,)
        start = normalize_axis_index(start_dim, len(lengths), "flatten: start_dim")
        stop = normalize_axis_index(end_dim, len(lengths), "flatten: end_dim") + 1
        if start >= stop:
            raise ValueError(
                f"flatten: start_dim={start_dim} is after end_dim={end_dim} in a tensor of shape "
                f"{self.shape}"
            )
        joined = math.prod(lengths[start:stop])
        return self.applied(shape.Reshape((*lengths[:start], joined, *lengths[stop:])))

    @takes_dim
    def flip(self, axis: int | Sequence[int] | None = None) -> Tensor:
        """Return the elements in reverse order along `axis`, by default along all axes."""
        return np.flip(self, axis)  # type: ignore[call-overload, no-any-return]

    def clone(self) -> Tensor:
        """Return a copy of the elements, through which gradients flow back."""
        return self.applied(shape.Cast(self.dtype))
