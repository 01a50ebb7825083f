"""Arrays side by side in one, so that one pass does for all of them what would take many."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import NamedTuple

import numpy as np

from agrad.backend import Array
from agrad.core.tensor import Home, Tensor

__all__ = ["Buffer", "Flat", "GradientPlaces"]


class Buffer(NamedTuple):
    """A one-dimensional array, and views of its parts in the shapes that they have."""

    array: Array
    views: tuple[Array, ...]


class Flat:
    """Leaves of one dtype on one device, and buffers that lay arrays out as theirs are.

    The leaves' own values are the parts of one such buffer from `adopt` on. Other buffers are for
    their gradients and updates; one that nobody refers to any more is handed out again, so that
    nothing is allocated in the long run.

    Attributes:
        tensors: the leaves, in order.

    Example:
        >>> import agrad as ag
        >>> from agrad.core.flat import Flat
        >>> weight, bias = ag.tensor([[1.0, 2.0]]), ag.tensor([3.0])
        >>> flat = Flat([weight, bias])
        >>> flat.adopt()
        array([1., 2., 3.], dtype=float32)
        >>> flat.writable()[...] *= 2
        >>> weight
        tensor([[2., 4.]])
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tuple(tensors)
        self._like = self.tensors[0]._data
        self._shapes = [tensor.shape for tensor in self.tensors]
        self._ends = np.cumsum([tensor.size for tensor in self.tensors]).tolist()
        self._values = Buffer(self.zeros(0), ())
        self._buffers = [self._new()]
        for buffer in self._buffers:  # counted as `buffer` counts, whose loop refers to it too
            self._idle = _references(buffer)

    @property
    def size(self) -> int:
        """The number of elements of all leaves."""
        return self._ends[-1]

    def adopt(self) -> Array:
        """Let the leaves' arrays be the parts of one, and return that: with the values they have.

        A leaf that has been given another array since gets its values into its part.
        """
        views = self._values.views
        if not views or not all(map(is_, [tensor._data for tensor in self.tensors], views)):
            self._move_in()
        return self._values.array

    def writable(self) -> Array:
        """Return what `adopt` does, to be changed: a copy, if a graph needs an array as it is."""
        self.adopt()
        if not all(tensor.is_writable() for tensor in self.tensors):
            self._move_in()
        return self._values.array

    def has(self, array: Array, part: int) -> bool:
        """Return whether an array is that part of the leaves' values."""
        return bool(self._values.views) and self._values.views[part] is array

    def _move_in(self) -> None:
        self._values = self._new()
        for i, (tensor, part) in enumerate(zip(self.tensors, self._values.views)):
            part[...] = tensor._data
            tensor._data = part
            tensor.home = Home(weakref.ref(self), i, weakref.ref(self._values.array))

    def buffer(self) -> Buffer:
        """Return a buffer that nobody else uses, of no values in particular."""
        for buffer in self._buffers:
            if _references(buffer) == self._idle:
                return buffer
        buffer = self._new()
        self._buffers.append(buffer)
        return buffer

    @contextmanager
    def with_buffers(self, buffers: list[Buffer]) -> Iterator[None]:
        """Use these buffers, and no others, inside the `with` block; new ones are added to them."""
        self._buffers, others = buffers, self._buffers
        try:
            yield
        finally:
            self._buffers = others

    def gather(self, arrays: Sequence[Array]) -> Array:
        """Return one array that has these, one for each leaf, in the layout of the leaves.

        It is a buffer itself if they are its parts.
        """
        gathered = self.buffer_of(arrays)
        if gathered is None:
            gathered = self.buffer()
            for part, array in zip(gathered.views, arrays):
                part[...] = array
        return gathered.array

    def buffer_of(self, arrays: Sequence[Array]) -> Buffer | None:
        """Return the buffer of which these arrays are the parts, or None."""
        for buffer in (self._values, *self._buffers):
            if buffer.views and all(map(is_, arrays, buffer.views)):
                return buffer
        return None

    def split(self, array: Array) -> tuple[Array, ...]:
        """Return views of the parts of an array of this layout."""
        parts = zip([0, *self._ends], self._ends, self._shapes)
        return tuple([array[start:end].reshape(shape) for start, end, shape in parts])

    def zeros(self, size: int | None = None) -> Array:
        """Return so many zeros, as many as the leaves have elements where it is not said."""
        return np.zeros_like(self._like, shape=(self.size if size is None else size,))

    def _new(self) -> Buffer:
        array = np.empty_like(self._like, shape=(self.size,))
        return Buffer(array, self.split(array))


class GradientPlaces:
    """Where the gradients of leaves go that are parts of a `Flat`: side by side, as the leaves are.

    Args:
        leaves: the leaves, None for those that want no gradient.
    """

    def __init__(self, leaves: Sequence[Tensor | None]) -> None:
        self._count = len(leaves)
        self._parts: dict[weakref.ref[Flat], list[tuple[int, int]]] = {}
        for i, leaf in enumerate(leaves):
            home = None if leaf is None else leaf.home
            flat = None if home is None else home.flat()
            if flat is not None and flat.has(leaf.data, home.part):
                self._parts.setdefault(home.flat, []).append((i, home.part))

    def arrays(self) -> list[Array | None]:
        """Return an array for the gradient of each leaf, None for leaves of no `Flat`."""
        arrays: list[Array | None] = [None] * self._count
        for reference, parts in self._parts.items():
            flat = reference()
            if flat is not None:
                views = flat.buffer().views
                for i, part in parts:
                    arrays[i] = views[part]
        return arrays


def _references(buffer: Buffer) -> tuple[int, int, int]:
    """Return how often a buffer is referred to, its array, and its views.

    Whatever view anybody has, of whatever part, refers to the array that owns the memory.
    """
    array, views = buffer
    return sys.getrefcount(buffer), sys.getrefcount(array), sum(map(sys.getrefcount, views))
