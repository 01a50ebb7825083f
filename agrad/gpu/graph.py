"""A function on the GPU recorded as one CUDA graph, which runs by a single launch.

A graph holds the addresses of its arrays. The arrays that it makes lie in its own memory. All other
arrays that it reads or changes must still exist, at the same addresses, in each run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import is_
from typing import Any

import numpy as np

from agrad.backend import Array, kernels, scalar
from agrad.core.flat import Flat, Memory
from agrad.gpu import cuda
from agrad.gpu.deferred import Action, deferring

__all__ = ["Graph", "Recorder"]

Body = Callable[..., Array]
Conclusion = Callable[[], float]
Actions = list[tuple[Action, tuple[Any, ...]]]


class Recorder:
    """Shared by graphs that never run at the same time.

    Attributes:
        stream: The stream on which they are rehearsed and recorded.
        pool: The memory in which they are rehearsed.
        products: What lets cuBLAS' products be recorded.
    """

    def __init__(self, like: Array) -> None:
        self.stream = cuda.new_stream()
        self.pool = cuda.new_pool()
        self.products = kernels(like).product.Recordable()
        self._copied: list[Array] = []
        self._copies: list[Array] = []

    def copies_of(self, arrays: list[Array]) -> list[Array]:
        """Return an array to copy each array into, the same one in each call."""
        if len(arrays) != len(self._copied) or not all(map(is_, arrays, self._copied)):
            self._copied = arrays
            self._copies = [np.empty_like(array) for array in arrays]
        return self._copies


class Graph:
    """A function of arrays, and the graph of its launches.

    The function is called twice. `rehearse` computes, which compiles kernels, in memory that can be
    given back after `record`, which computes nothing. Everything the function needs from the host
    is deferred until a run has ended: the graph is a `Deferral`, see `agrad.gpu.deferred`.

    The graph shares neither its pool nor the buffers of a `Flat` with other graphs. If it did, an
    earlier graph could overwrite results of this one that a third must read.

    Args:
        body: The function, which returns an array of one element.
        arguments: Its arrays, copied into those that the graph reads.
        changing: The outside arrays that it changes.
        flats: Each `Flat` whose buffers it uses.
        recorder: The resources it shares with other graphs.
    """

    def __init__(
        self,
        body: Body,
        arguments: Sequence[Array],
        changing: list[Array],
        flats: Sequence[Flat],
        recorder: Recorder,
    ) -> None:
        self._body = body
        self._changing = changing
        self._buffers: dict[Flat, list[Memory]] = {flat: [] for flat in flats}
        self._recorder = recorder
        self._pool = cuda.new_pool()
        self._graph: Any = None
        self._numbers: Array | None = None
        self._copies = recorder.copies_of(changing)
        with self._computing_in(self._pool, self._buffers):
            self._arguments = [array.copy() for array in arguments]

    def __del__(self) -> None:
        """Give back the memory, which dropping a CuPy pool does not do."""
        pool = self._pool
        vars(self).clear()
        pool.free_all_blocks()

    @contextmanager
    def _computing_in(self, pool: Any, memories: dict[Flat, list[Memory]]) -> Iterator[None]:
        """Compute on the recorder's stream, in a pool and in buffers, inside the block."""
        with ExitStack() as stack:
            stack.enter_context(cuda.computing_on(self._recorder.stream, pool))
            stack.enter_context(self._recorder.products)
            for flat, buffers in memories.items():
                stack.enter_context(flat.with_buffers(buffers))
            yield

    # -- recording and running ---------------------------------------------------------------------

    def rehearse(self) -> Conclusion | None:
        """Run the function eagerly; return its conclusion, to be called after `record`.

        The conclusion performs the deferred actions and returns the function's result. It is
        None if a condition failed. In that case, as after an error, nothing has changed.
        """
        with self._computing_in(self._recorder.pool, {flat: [] for flat in self._buffers}):
            try:
                self._call()
            except BaseException:
                self._restore()
                raise
            self._count = len(self._feeds)
            return self._outcome()

    def record(self) -> None:
        """Record the function's launches for `run`, from the state that `rehearse` started from.

        Raises:
            RuntimeError, TypeError: The function does something that a CUDA graph cannot do.
            MemoryError: The GPU is out of memory; `record` may be called again.
        """
        like = self._arguments[0]
        with self._computing_in(self._pool, self._buffers):
            self._numbers = np.empty_like(like, shape=(self._count,), dtype=np.float64)
            self._graph = cuda.record(self._recorder.stream, self._call)

    def run(self, arguments: Sequence[Array]) -> float | None:
        """Run the graph on arguments of the same shapes and dtypes and return its result.

        The result is None if a deferred condition failed. Nothing has changed then.
        """
        for own, array in zip(self._arguments, arguments):
            own[...] = array
        numbers = np.empty(len(self._feeds))
        for i, (make, dtype) in enumerate(self._feeds):
            numbers[i : i + 1].view(dtype)[0] = make()
        self._numbers.set(numbers)  # type: ignore[union-attr]
        self._graph.launch()
        conclude = self._outcome()
        return None if conclude is None else conclude()

    def _call(self) -> None:
        self._conditions: list[Array] = []
        self._feeds: list[tuple[Callable[[], float], type]] = []
        self._actions: Actions = []
        self._kept: list[Any] = []
        for copy, array in zip(self._copies, self._changing):
            copy[...] = array
        with deferring(self):
            result = self._body(*self._arguments)
        numbers = [value for _, values in self._actions for value in values if cuda.is_array(value)]
        reported = [result, *self._conditions, *numbers]
        # Not np.stack: for many arrays, CuPy copies their addresses from the host.
        self._report = np.empty_like(result, shape=(len(reported),), dtype=np.float64)
        for i, value in enumerate(reported):
            self._report[i] = value

    def _outcome(self) -> Conclusion | None:
        """Read the report of a run, which waits for the GPU once, and return the conclusion."""
        result, *numbers = self._report.tolist()
        held = numbers[: len(self._conditions)]
        if not all(held):
            self._restore()
            return None
        return partial(_conclude, result, self._actions, numbers[len(held) :])

    def _restore(self) -> None:
        for copy, array in zip(self._copies, self._changing):
            array[...] = copy

    # -- the deferral ------------------------------------------------------------------------------

    def condition(self, condition: Array) -> None:
        """Note a condition to check after each run."""
        self._conditions.append(condition)

    def feed(self, make: Callable[[], float], dtype: type) -> Array:
        """Return the array without axes that holds the number in each run."""
        self._feeds.append((make, dtype))
        if self._numbers is None:
            return scalar(make(), dtype, like=self._arguments[0])
        number: Array = self._numbers[len(self._feeds) - 1].view(dtype)
        return number

    def action(self, action: Action, numbers: tuple[Any, ...]) -> None:
        """Note a function to call after each run."""
        self._actions.append((action, numbers))

    def keep(self, value: Any) -> None:
        """Keep arrays as long as the graph exists."""
        self._kept.append(value)


def _conclude(result: float, actions: Actions, numbers: list[float]) -> float:
    """Call the deferred actions, with `numbers` for their arrays, and return the run's result."""
    read = iter(numbers)
    for action, values in actions:
        action(*(next(read) if cuda.is_array(value) else float(value) for value in values))
    return result
