"""The memory of a device that is not there: which pool it is of, when it is free, who may have it.

CuPy's pools hand out again what nobody refers to any more. NumPy's arrays never lie where others
have lain; so what a device would do to memory that has changed hands is done to it on purpose.
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
        """Stand for what `using_allocator` is given; no array of NumPy's is made by it."""

    def free_all_blocks(self) -> None:
        """Give back free memory; note the rest as `left`."""
        own = [memory for memory in _known.values() if memory.pool() is self]
        self.left = [memory for memory in own if memory.freed is None]
        for memory in own:
            if memory.freed is not None:
                memory.pool = ref(_Gone())


class _Gone:
    """What no weak reference to finds."""


_DEFAULT = MemoryPool()


class _Current(threading.local):
    """The default pool, and those that this thread allocates from, the last of which is used."""

    def __init__(self) -> None:
        self.pools = [_DEFAULT]


_current = _Current()
_clock = count()


@contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    """Make arrays inside the `with` block in the pool whose method `malloc` is given."""
    _current.pools.append(allocator.__self__)
    try:
        yield
    finally:
        _current.pools.pop()


def get_default_memory_pool() -> MemoryPool:
    return _DEFAULT


class Memory:
    """The memory of an array of NumPy's, its root, that owns it for itself and its views.

    Attributes:
        root: that array.
        pool: a weak reference to the pool it is of.
        taken: when that was.
        freed: when the owner on the device was gone, None while it exists.
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
        """Put into it what nobody would take for a result."""
        kind = self.root.dtype.kind
        integer = np.iinfo(self.root.dtype).max if kind in "iu" else None
        self.root.fill({"b": False, "i": integer, "u": integer}.get(kind, np.nan))


_known: WeakValueDictionary[int, Memory] = WeakValueDictionary()


def root_of(array: np.ndarray) -> np.ndarray:
    """Return the array whose memory `array` is a view of, or itself; also through a memoryview."""
    while array.base is not None:
        array = array.base.obj if isinstance(array.base, memoryview) else array.base
    return array


def memory_of(array: np.ndarray) -> Memory:
    """Return the memory in which an array lies; of a new one, in the pool that is in use."""
    root = root_of(array)
    memory = _known.get(id(root))
    if memory is None:
        memory = _known[id(root)] = Memory(root)
    return memory


def placed(array: np.ndarray, root: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the array that lies in the memory of `other` as this one lies in that of `root`."""
    offset = _address(array) - _address(root)
    memory = other.ravel(order="K").view(np.uint8)
    return np.ndarray(array.shape, array.dtype, memory, offset, array.strides)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def hand_on(used: list[Memory]) -> bool:
    """Give to others all of some memory that is free; return whether it is still there at all.

    What was in it is gone. As those who use it do so still, they may write where others have their
    arrays by now: all that were made in the same pool since it was free.
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
