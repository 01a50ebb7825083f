"""NumPy's operators and methods, as a Tensor has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from agrad.backend import Array, beside
from agrad.ops import arithmetic, linalg, reduction, shape
from agrad.ops.operation import Operation

if TYPE_CHECKING:
    from agrad.core.tensor import Tensor

__all__ = ["ArrayMethods", "plain", "plain_index"]


class ArrayMethods:
    """What a Tensor shares with NumPy's arrays: operators and methods of the same name and meaning.

    Each records one operation through `_apply`. Comparisons, `argmax` and `argmin` have no gradient
    and return plain arrays.
    """

    __slots__ = ()
    __array_priority__ = 1000

    _data: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self._data.shape

    @staticmethod
    def _apply(operation: Operation, *inputs: Any) -> Tensor:
        raise TypeError("ArrayMethods: what mixes this in defines _apply")

    def numpy(self) -> Array:
        raise TypeError("ArrayMethods: what mixes this in defines numpy")

    # -- arithmetic --------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Add(), self, other)

    def __radd__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Add(), other, self)

    def __sub__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Subtract(), self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Subtract(), other, self)

    def __mul__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Multiply(), self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Multiply(), other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Divide(), self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Divide(), other, self)

    def __pow__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Power(), self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return self._apply(arithmetic.Power(), other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return self._apply(linalg.Matmul(), self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return self._apply(linalg.Matmul(), other, self)

    def __neg__(self) -> Tensor:
        return self._apply(arithmetic.Negative(), self)

    def __pos__(self) -> Tensor:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return self._apply(arithmetic.Absolute(), self)

    # -- comparison --------------------------------------------------------------------------------

    def __eq__(self, other: Any) -> Any:
        return self._data == plain(other)

    def __ne__(self, other: Any) -> Any:
        return self._data != plain(other)

    def __lt__(self, other: Any) -> Any:
        return self._data < plain(other)

    def __le__(self, other: Any) -> Any:
        return self._data <= plain(other)

    def __gt__(self, other: Any) -> Any:
        return self._data > plain(other)

    def __ge__(self, other: Any) -> Any:
        return self._data >= plain(other)

    # By identity, as for any object that can change: Tensors are keys of updates and gradients.
    __hash__ = object.__hash__

    # -- reductions --------------------------------------------------------------------------------

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the sum over `axis` (an int, several, or None for all)."""
        return self._apply(reduction.Sum(axis, keepdims), self)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the mean over `axis`."""
        return self._apply(reduction.Mean(axis, keepdims), self)

    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the variance over `axis`, the sum of squares divided by n - ddof."""
        return self._apply(reduction.Var(axis, ddof, keepdims), self)

    def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the standard deviation over `axis`; where it is 0, so is its gradient."""
        return self._apply(reduction.Std(axis, ddof, keepdims), self)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the largest element over `axis`; equal ones share the gradient."""
        return self._apply(reduction.Max(axis, keepdims), self)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the smallest element over `axis`; equal ones share the gradient."""
        return self._apply(reduction.Min(axis, keepdims), self)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the product over `axis`."""
        return self._apply(reduction.Prod(axis, keepdims), self)

    def argmax(self, axis: int | None = None) -> Any:
        """Return the index of the largest element, as a plain array."""
        return self._data.argmax(axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Return the index of the smallest element, as a plain array."""
        return self._data.argmin(axis)

    # -- shape and elements ------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return self.swapaxes(-1, -2)

    def transpose(self, *axes: Any) -> Tensor:
        """Return a view with permuted axes (reversed where none are given)."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return self._apply(shape.Transpose(order), self)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Return a view with two axes exchanged."""
        order = shape.axes_after(np.swapaxes, len(self.shape), axis1, axis2)
        return self._apply(shape.Transpose(order), self)

    def reshape(self, *newshape: Any) -> Tensor:
        """Return the elements in another shape; one length may be -1."""
        lengths = newshape[0] if len(newshape) == 1 else newshape
        return self._apply(shape.Reshape(lengths), self)

    def ravel(self) -> Tensor:
        """Return the elements along one axis."""
        return self.reshape(-1)

    flatten = ravel

    def squeeze(self, axis: Any = None) -> Tensor:
        """Return a view without `axis`, of length one (all such where None)."""
        return self.reshape(np.squeeze(np.broadcast_to(0, self.shape), axis).shape)

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """Return the elements limited to [min, max], numbers or constant arrays, or None."""
        for bound in (min, max):
            if getattr(bound, "requires_grad", False):
                raise TypeError(
                    "clip: a bound requires a gradient, but bounds are constants; "
                    "use maximum and minimum"
                )
        low, high = (
            bound
            if bound is None or np.isscalar(bound)
            else beside("clip", name, plain(bound), self._data)
            for name, bound in (("min", min), ("max", max))
        )
        return self._apply(arithmetic.Clip(low, high), self)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """Return the elements converted to `dtype`; between floating types gradients flow back."""
        cast = shape.Cast(dtype)
        return self._apply(cast, self if cast.dtype.kind == "f" else self._data)

    def dot(self, other: Any) -> Tensor:
        """Return the product with `other` by the rules of np.dot."""
        return self._apply(linalg.dot(self.shape, np.shape(plain(other))), self, other)

    def __getitem__(self, index: Any) -> Tensor:
        return self._apply(shape.GetItem(plain_index(index)), self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a Tensor of no axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)


def plain(value: Any) -> Any:
    """Return a Tensor's array, and anything else as it is."""
    return value._data if isinstance(value, ArrayMethods) else value


def plain_index(index: Any) -> Any:
    """Return an index with arrays in place of its Tensors."""
    if isinstance(index, tuple):
        return tuple(plain(part) for part in index)
    return plain(index)
