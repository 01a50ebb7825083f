"""Batches that a thread loads ahead of the training."""

import threading
from collections.abc import Iterator, Mapping
from copy import copy
from queue import Queue
from typing import Any

from agrad.arguments import integer
from agrad.data.batches import Batches

__all__ = ["Prefetch"]

_END = object()


class Prefetch:
    """`Batches` that a thread loads ahead while the caller works on the current batch.

    The batches and their order are the same. So is the state: it describes the last batch yielded,
    not the last one loaded. Prefetching pays off if a data set reads files or a transform takes
    long.

    Args:
        batches: The batches. From then on, use them only through this object, one loop at a time.
        size: The number of batches to load ahead, at least 1.

    Raises:
        TypeError: `batches` is not `Batches`, or `size` not an integer.
        ValueError: `size` is below 1.

    Example:
        >>> import numpy as np
        >>> from agrad.data import Batches, Prefetch
        >>> batches = Prefetch(Batches(np.arange(5), batch_size=2, shuffle=False))
        >>> [x.tolist() for (x,) in batches], batches.epoch
        ([[0, 1], [2, 3], [4]], 1)
    """

    def __init__(self, batches: Batches, size: int = 2) -> None:
        if not isinstance(batches, Batches):
            raise TypeError(f"Prefetch: batches must be Batches, got a {type(batches).__name__}")
        self._size = integer("Prefetch", "size", size, least=1)
        self._batches = batches
        self._state = batches.state_dict()
        self._epoch = batches.epoch
        self._loop: _Loop | None = None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._batches)

    @property
    def epoch(self) -> int:
        """The number of completed epochs; one is complete once its last batch has been yielded."""
        return self._epoch

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the remaining batches of the current epoch.

        Raises:
            Exception: Any error of the data set or the transform, at the batch in which it
                occurred.
            RuntimeError: Another loop has begun since, or a state has been loaded.
        """
        self._stop()
        self._batches.load_state_dict(self._state)  # a loop left early may have loaded more
        self._loop = loop = _Loop(self._batches, self._size)
        try:
            while True:
                item = loop.loaded.get()
                if loop is not self._loop:
                    raise RuntimeError(
                        "Prefetch: another loop has begun since, or a state has been loaded; "
                        "loop once at a time"
                    )
                if item is _END:
                    return
                batch, self._state, self._epoch, error = item
                if error is not None:
                    raise error
                yield batch
        finally:
            loop.stop()
            if loop is self._loop:
                self._loop = None

    def _stop(self) -> None:
        """End a loop that is still under way; if it goes on, it raises an error."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy begins with, which has no loop under way."""
        return {**vars(self), "_loop": None}

    def forever(self) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of epoch after epoch, without end."""
        while True:
            yield from self

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the batches after the last one that was yielded."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the position saved in `state`, which may be that of `Batches` too.

        Raises:
            ValueError, TypeError: As for `Batches`; nothing has changed.
        """
        copy(self._batches).load_state_dict(state)  # raises before a loop is stopped
        self._stop()
        self._batches.load_state_dict(state)
        self._state, self._epoch = self._batches.state_dict(), self._batches.epoch


class _Loop:
    """A thread that loads batches into a queue, each with the state and the epoch after it."""

    def __init__(self, batches: Batches, size: int) -> None:
        self.loaded: Queue[Any] = Queue(size)
        self._batches = batches
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        batches = self._batches
        try:
            for batch in batches:
                self.loaded.put((batch, batches.state_dict(), batches.epoch, None))
                if self._stopped.is_set():
                    return
        except BaseException as error:  # raised again where the batch is taken
            self.loaded.put((None, batches.state_dict(), batches.epoch, error))
        self.loaded.put(_END)

    def stop(self) -> None:
        """End the thread, and leave nothing but the end in the queue."""
        self._stopped.set()
        while self._thread.is_alive():  # it may wait for a place in the queue
            self._drop()
            self._thread.join(0.01)
        self._drop()
        self.loaded.put(_END)

    def _drop(self) -> None:
        while not self.loaded.empty():
            self.loaded.get()
