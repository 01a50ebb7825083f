"""The memory of an imaginary device: its pools, when it is free, and who may reuse it.

CuPy's pools reuse memory without references. The stand-in never reuses NumPy's memory, so it spoils
the contents of memory that a device might have reused.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from weakref import WeakValueDictionary, finalize, ref

import numpy as np


class MemoryPool:
    """A pool of memory, known by the arrays that are made while it is in use."""

    def malloc(self, size: int) -> Any:
        """Only identifies the pool for `using_allocator`; NumPy allocates the arrays."""

    def free_all_blocks(self) -> None:
        """Return free memory; note the rest as `left`."""
        own = [memory for memory in _known.values() if memory.pool() is self]
        self.left = [memory for memory in own if memory.freed is None]
        for memory in own:
            if memory.freed is not None:
                memory.pool = ref(_Gone())


class _Gone:
    """An object whose weak references are dead at once."""


_DEFAULT = MemoryPool()


class _Current(threading.local):
    """The default pool, then those that this thread has selected; the last one is used."""

    def __init__(self) -> None:
        self.pools = [_DEFAULT]


_current = _Current()
_clock = count()


@contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    """Allocate the arrays of the `with` block in the pool whose method `malloc` is given."""
    _current.pools.append(allocator.__self__)
    try:
        yield
    finally:
        _current.pools.pop()


def get_default_memory_pool() -> MemoryPool:
    return _DEFAULT


class Memory:
    """The memory of a NumPy array, the root, which owns it for itself and its views.

    Attributes:
        root: That array.
        pool: A weak reference to its pool.
        taken: When it was allocated.
        freed: When the owner on the device died; None while it lives.
    """

    def __init__(self, root: np.ndarray) -> None:
        self.root = root
        self.pool = ref(_current.pools[-1])
        self.taken = next(_clock)
        self.freed: int | None = None

    def belong_to(self, owner: Any) -> None:
        """Be free as soon as `owner` is gone."""
        self.freed = None
        finalize(owner, self._free).atexit = False

    def _free(self) -> None:
        self.freed = next(_clock)

    def spoil(self) -> None:
        """Fill it with values that cannot be mistaken for results."""
        kind = self.root.dtype.kind
        integer = np.iinfo(self.root.dtype).max if kind in "iu" else None
        self.root.fill({"b": False, "i": integer, "u": integer}.get(kind, np.nan))


_known: WeakValueDictionary[int, Memory] = WeakValueDictionary()


def root_of(array: np.ndarray) -> np.ndarray:
    """Return the array that owns the memory of `array`, also through a memoryview."""
    while array.base is not None:
        array = array.base.obj if isinstance(array.base, memoryview) else array.base
    return array


def memory_of(array: np.ndarray) -> Memory:
    """Return the memory of an array; new memory belongs to the current pool."""
    root = root_of(array)
    memory = _known.get(id(root))
    if memory is None:
        memory = _known[id(root)] = Memory(root)
    return memory


def placed(array: np.ndarray, root: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the array at the same place in the memory of `other` as `array` in that of `root`."""
    offset = _address(array) - _address(root)
    memory = other.ravel(order="K").view(np.uint8)
    return np.ndarray(array.shape, array.dtype, memory, offset, array.strides)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def hand_on(used: list[Memory]) -> bool:
    """Spoil the memory among `used` that is free; return whether its pools still hold it.

    Its contents are lost. Since the caller still writes to it, the arrays that were allocated in
    the same pool since it became free may be overwritten, so they are spoiled too.
    """
    freed: dict[MemoryPool, int] = {}
    for memory in used:
        if memory.freed is not None:
            pool = memory.pool()
            if pool is None:
                return False
            freed[pool] = min(memory.freed, freed.get(pool, memory.freed))
            memory.spoil()
    for memory in list(_known.values()):
        pool = memory.pool()
        if memory.freed is None and pool in freed and memory.taken > freed[pool]:
            memory.spoil()
    return True
