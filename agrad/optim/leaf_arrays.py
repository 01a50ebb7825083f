"""Arrays that an optimizer keeps for its parameters, in the layout in which it updates them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agrad.backend import Array
from agrad.core.flat import Flat
from agrad.core.tensor import Tensor
from agrad.optim.state import owned

__all__ = ["LeafArrays", "values_of", "zero"]


class LeafArrays:
    """An array for each leaf, of its shape, dtype and device; those of a `Flat` side by side.

    When leaves are laid out in another way, for example because some have no gradient, their arrays
    follow.

    Args:
        initial: Gives the values of a leaf's array when it is first asked for.

    Example:
        >>> import agrad as ag
        >>> from agrad.core.flat import Flat
        >>> leaves = [ag.tensor([1.0, 2.0]), ag.tensor([[3.0]])]
        >>> arrays = LeafArrays(values_of)
        >>> arrays.of(Flat(leaves))
        array([1., 2., 3.], dtype=float32)
        >>> arrays.by_leaf()[leaves[1]]
        array([[3.]], dtype=float32)
    """

    def __init__(self, initial: Callable[[Tensor], Any]) -> None:
        self._initial = initial
        self._whole: dict[Flat, Array] = {}
        self._loose: dict[Tensor, Array] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, whose arrays may be read-only."""
        vars(self).update(state)
        self._whole = {flat: owned(array) for flat, array in self._whole.items()}

    def __iter__(self) -> Iterator[Array]:
        """Yield all arrays."""
        return iter([*self._whole.values(), *self._loose.values()])

    @property
    def nbytes(self) -> int:
        """The size of all arrays."""
        return sum(array.nbytes for array in self)

    def of(self, flat: Flat) -> Array:
        """Return the arrays of the leaves of a `Flat` as one, to change in place."""
        whole = self._whole.get(flat)
        return self._laid_out(flat) if whole is None else whole

    def _laid_out(self, flat: Flat) -> Array:
        known = self.by_leaf()
        whole = flat.zeros()
        for leaf, part in zip(flat.tensors, flat.split(whole)):
            part[...] = known.pop(leaf) if leaf in known else self._initial(leaf)
        others = [other for other in self._whole if set(other.tensors) <= known.keys()]
        self._whole = {other: self._whole[other] for other in others} | {flat: whole}
        for other in others:
            for leaf in other.tensors:
                del known[leaf]
        self._loose = known
        return whole

    def by_leaf(self) -> dict[Tensor, Array]:
        """Return the array of each leaf that has one."""
        arrays = dict(self._loose)
        for flat, whole in self._whole.items():
            arrays |= zip(flat.tensors, flat.split(whole))
        return arrays

    def load(self, arrays: Mapping[Tensor, Array]) -> None:
        """Replace all arrays."""
        self._whole, self._loose = {}, dict(arrays)


def zero(_: Tensor) -> float:
    """Return 0 for any leaf."""
    return 0.0


def values_of(leaf: Tensor) -> Array:
    """Return the leaf's values."""
    return leaf.data
