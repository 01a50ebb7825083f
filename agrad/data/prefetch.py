"""Batches that a thread loads ahead of the training."""

import threading
from collections.abc import Iterator, Mapping
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
        batches: The batches. From then on, use them only through this object.
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
        """
        self._batches.load_state_dict(self._state)  # a loop left early may have loaded more
        loaded: Queue[Any] = Queue(self._size)
        stopped = threading.Event()
        thread = threading.Thread(target=self._fill, args=(loaded, stopped), daemon=True)
        thread.start()
        try:
            while (item := loaded.get()) is not _END:
                batch, self._state, self._epoch, error = item
                if error is not None:
                    raise error
                yield batch
        finally:
            stopped.set()
            while thread.is_alive():  # it may wait for a place in the queue
                while not loaded.empty():
                    loaded.get()
                thread.join(0.01)

    def _fill(self, loaded: "Queue[Any]", stopped: threading.Event) -> None:
        try:
            for batch in self._batches:
                loaded.put((batch, self._batches.state_dict(), self._batches.epoch, None))
                if stopped.is_set():
                    return
        except BaseException as error:  # raised again where the batch is taken
            loaded.put((None, self._batches.state_dict(), self._batches.epoch, error))
        loaded.put(_END)

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
        self._batches.load_state_dict(state)
        self._state, self._epoch = self._batches.state_dict(), self._batches.epoch
