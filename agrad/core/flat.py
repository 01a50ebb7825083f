"""Arrays side by side in one array, so that one pass processes all of them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, address, alias
from agrad.core.tensor import Home, Tensor, all_writable, arrays_of

__all__ = ["Buffer", "Flat", "GradientPlaces", "Memory", "adjacent_view"]

_lending = threading.Lock()  # so that no two threads borrow the same memory


class Buffer(NamedTuple):
    """A one-dimensional array, and views of its parts in the leaves' shapes."""

    array: Array
    views: tuple[Array, ...]


class Memory:
    """The memory of one buffer, lent to one borrower at a time.

    A loan is a fresh array on this memory. Every view of it, and every view of a view, refers to
    that array, because its own base is not an array. So the loan ends exactly when the last view
    of any part is gone, and a weak reference shows when.

    Args:
        own: The buffer that owns the memory. It never leaves `Flat`, except as scratch.
        use: The purpose of scratch memory; None for memory to lend.
    """

    __slots__ = ("_lent", "own", "use")

    def __init__(self, own: Buffer, use: str | None = None) -> None:
        self.own = own
        self.use = use
        self._lent: weakref.ref[Array] | None = None

    @property
    def is_lent(self) -> bool:
        """Whether any part of a loan is referenced."""
        return self._lent is not None and self._lent() is not None

    @property
    def is_free(self) -> bool:
        """Whether it can be lent."""
        return self.use is None and not self.is_lent

    def lend(self) -> Array:
        """Return a fresh array on this memory, which must be free."""
        array = alias(self.own.array)
        self._lent = weakref.ref(array)
        return array


class Flat:
    """Leaves of one dtype on one device, side by side, and buffers in the same layout.

    After `adopt`, the leaves' own values are the parts of one array. Buffers hold their gradients
    and updates. `buffer` lends memory and reclaims it when no part of the loan is referenced any
    more; `scratch` returns the same memory each time. Once every buffer exists, nothing more is
    allocated, unless `release` frees memory.

    Attributes:
        tensors: The leaves, in order.

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
        self._like = np.empty_like(self.tensors[0].data, shape=(0,))
        ends = np.cumsum([tensor.size for tensor in self.tensors]).tolist()
        self.size: int = ends[-1]
        """The number of elements of all leaves."""
        # A slice is already one-dimensional: only other shapes need a call of reshape.
        self._parts = [
            (slice(start, end), tensor.shape if tensor.ndim != 1 else None)
            for tensor, start, end in zip(self.tensors, [0, *ends], ends)
        ]
        self._values: Buffer | None = None
        self._last: Buffer | None = None
        self._memories: list[Memory] = []

    def __reduce__(self) -> tuple[type[Flat], tuple[tuple[Tensor, ...]]]:
        """Copy and pickle the leaves alone: their copies are parts of no array yet."""
        return Flat, (self.tensors,)

    # -- the leaves' values ------------------------------------------------------------------------

    def adopt(self) -> Array:
        """Make the leaves' arrays the parts of one array, keeping their values, and return it.

        If a leaf has received another array since, its values are copied into its part.
        """
        values = self._values
        if values is None or not _are_parts(arrays_of(self.tensors), values):
            return self._moved_in()
        return values.array

    def writable(self) -> Array:
        """Return `adopt`'s array to change in place: a copy if a graph needs the old values."""
        values = self.adopt()
        return values if all_writable(self.tensors) else self._moved_in()

    def has_values(self) -> bool:
        """Return whether the leaves' arrays are still the parts that `adopt` made."""
        return self._values is not None and _are_parts(arrays_of(self.tensors), self._values)

    def has(self, array: Array, part: int) -> bool:
        """Return whether an array is the leaves' value numbered `part`."""
        return self._values is not None and self._values.views[part] is array

    def slice_of(self, first: int, last: int) -> slice:
        """Return where the parts from one number to another lie in an array of this layout."""
        return slice(self._parts[first][0].start, self._parts[last][0].stop)

    def _moved_in(self) -> Array:
        """Move the leaves' values into a new array, and return it."""
        self._values = self._new()
        flat, array = weakref.ref(self), weakref.ref(self._values.array)
        for i, (tensor, part) in enumerate(zip(self.tensors, self._values.views)):
            part[...] = tensor.data
            tensor.settle(part, Home(flat, i, array))
        return self._values.array

    # -- buffers -----------------------------------------------------------------------------------

    def buffer(self) -> Buffer:
        """Lend an unused buffer with arbitrary values.

        The loan lasts as long as anything refers to the array or to a view of any part of it.
        """
        with _lending:
            array = self._free().lend()
        self._last = buffer = Buffer(array, self.split(array))
        return buffer

    def scratch(self, use: str) -> Buffer:
        """Return the same buffer at each call for the same use; its values must not be kept."""
        for memory in self._memories:
            if memory.use == use:
                return memory.own
        return self._added(use).own

    def release(self, *uses: str) -> None:
        """Give back the scratch for these uses, and idle memory beyond that of one loan."""
        with _lending:
            self._last = None
            lent = [each for each in self._memories if each.is_lent]
            free = [each for each in self._memories if each.is_free]
            kept = [each for each in self._memories if each.use and each.use not in uses]
            self._memories = kept + (lent or free[:1])

    @contextmanager
    def with_buffers(self, memories: list[Memory]) -> Iterator[None]:
        """Use this memory, and no other, inside the `with` block; new memory is added to it."""
        others = self._memories, self._last
        self._memories, self._last = memories, None
        try:
            yield
        finally:
            self._memories, self._last = others

    def gather(self, arrays: Sequence[Array]) -> Array:
        """Return one array with these arrays, one for each leaf, in the layout of the leaves.

        If they already are the parts of one, return that one; otherwise copy them.
        """
        whole = self.whole(arrays)
        if whole is None:
            with _lending:
                memory = self._free()
                whole = memory.lend()
            for part, array in zip(memory.own.views, arrays):
                part[...] = array
        return whole

    def whole(self, arrays: Sequence[Any]) -> Array | None:
        """Return the array of which these are the parts, in order; None if there is none.

        It recognizes the leaves' values and the buffer lent last.
        """
        for buffer in (self._values, self._last):
            if buffer is not None and _are_parts(arrays, buffer):
                return buffer.array
        return None

    def split(self, array: Array) -> tuple[Array, ...]:
        """Return views of the parts of an array of this layout."""
        return tuple(
            [
                array[where] if shape is None else array[where].reshape(shape)
                for where, shape in self._parts
            ]
        )

    def zeros(self, size: int | None = None) -> Array:
        """Return `size` zeros; by default one for each element of the leaves."""
        return np.zeros_like(self._like, shape=(self.size if size is None else size,))

    def _new(self) -> Buffer:
        array = np.empty_like(self._like, shape=(self.size,))
        return Buffer(array, self.split(array))

    def _free(self) -> Memory:
        """Return memory that is not in use, not even by `whole`."""
        self._last = None
        return next((memory for memory in self._memories if memory.is_free), None) or self._added()

    def _added(self, use: str | None = None) -> Memory:
        memory = Memory(self._new(), use)
        self._memories.append(memory)
        return memory


class GradientPlaces:
    """Destinations for the gradients of leaves in a `Flat`: side by side, like the leaves.

    Args:
        leaves: The leaf of each slot, None if it needs no gradient.
        runs: For each further slot, the slots of leaves whose gradients one operation writes
            together, into adjacent memory.
    """

    def __init__(
        self, leaves: Mapping[int, Tensor | None], runs: Mapping[int, Sequence[int]]
    ) -> None:
        self._parts: dict[weakref.ref[Flat], list[tuple[int, int]]] = {}
        homes: dict[int, Home] = {}
        for slot, leaf in leaves.items():
            if leaf is None or leaf.home is None:
                continue
            flat = leaf.home.flat()
            if flat is not None and flat.has(leaf.data, leaf.home.part):
                self._parts.setdefault(leaf.home.flat, []).append((slot, leaf.home.part))
                homes[slot] = leaf.home
        self._runs = {slot: _run_of([homes.get(i) for i in run]) for slot, run in runs.items()}

    def arrays(self, count: int) -> list[Array | None]:
        """Return an array for each of `count` slots; the slot of a run gets one for all its leaves.

        The array is None for a leaf outside any `Flat`, and for a run not adjacent in one.
        """
        arrays: list[Array | None] = [None] * count
        for reference, parts in self._parts.items():
            flat = reference()
            if flat is not None:
                buffer = flat.buffer()
                for slot, part in parts:
                    arrays[slot] = buffer.views[part]
                for slot, run in self._runs.items():
                    if run is not None and run[0] is reference:
                        arrays[slot] = buffer.array[run[1]]
        return arrays


def _run_of(homes: Sequence[Home | None]) -> tuple[weakref.ref[Flat], slice] | None:
    """Return the `Flat` in which the leaves are adjacent, and their slice of its arrays."""
    first = homes[0]
    flat = None if first is None else first.flat()
    if first is None or flat is None:
        return None
    parts = [home.part for home in homes if home is not None and home.flat is first.flat]
    if parts != list(range(first.part, first.part + len(homes))):
        return None
    return first.flat, flat.slice_of(parts[0], parts[-1])


def adjacent_view(arrays: Sequence[Array]) -> Array | None:
    """Return one view of all the arrays; None unless they are adjacent parts of one array."""
    base = arrays[0].base
    if type(base) is not type(arrays[0]) or base.ndim != 1 or not base.flags.c_contiguous:
        return None
    stop = first = address(arrays[0]) - address(base)
    for array in arrays:
        place = address(array) - address(base)
        alike = array.base is base and array.dtype == base.dtype and array.flags.c_contiguous
        if not alike or place != stop:
            return None
        stop += array.nbytes
    view: Array = base[first // base.itemsize : stop // base.itemsize]
    return view


def _are_parts(arrays: Sequence[Any], buffer: Buffer) -> bool:
    """Return whether the arrays are the buffer's own views."""
    return all(map(is_, arrays, buffer.views))
