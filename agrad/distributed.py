"""Training over the processes of MPI, each of which computes its rows of every batch.

An optimizer minimizes the sum of the losses that it is given. With several processes, the ranks,
the sum includes the losses of all of them: each value, gradient and average gradient of the losses
is summed over the ranks before the optimizer uses it. So all ranks take the same step, the one that
a single process would take on the whole batch.
"""

import os
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from agrad import random
from agrad.backend import Array, device_of
from agrad.core.tensor import Tensor
from agrad.gpu import cuda

__all__ = ["Ranks", "launched", "ranks"]

_PATIENCE = 1.0
"""How many seconds a failing rank waits for the others to fail too."""

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""The variables in which Open MPI, MPICH, Intel MPI and MVAPICH give the number of processes."""


def launched() -> int:
    """Return how many processes `mpiexec` has started this one with; 1 without it.

    Example:
        >>> import agrad as ag
        >>> ag.distributed.launched()
        1
    """
    return max(int(os.environ.get(name, 1)) for name in _SIZES)


@contextmanager
def ranks(
    report: Callable[[BaseException], object] = traceback.print_exception,
) -> Iterator["Ranks"]:
    """Yield the ranks that `mpiexec` has started, of which this process is one.

    No rank waits for one that is gone: if a single rank leaves the block with an exception, it
    reports the exception and ends all ranks by MPI_Abort. An exception that all ranks raise, such
    as a NonFiniteError, is raised as usual. Leaving the block without one waits for the other
    ranks.

    Args:
        report: Called with the exception that ends all ranks; by default it prints the traceback.

    Raises:
        ImportError: mpi4py or an MPI library is missing, or the library is not the one whose
            `mpiexec` has started this process.

    Example:
        Each process that `mpiexec -n 4 python program.py` starts computes a quarter of each batch.
        Started without it, a program is one rank, which trains as if `ranks` were not there.

        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad import nn, optim
        >>> from agrad.data import Batches
        >>> from agrad.train import train
        >>> def program():
        ...     with ag.distributed.ranks() as ranks:
        ...         model = nn.Linear(4, 4)
        ...         optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1))
        ...         batches = Batches(np.eye(4, dtype=np.float32), np.arange(4), batch_size=4)
        ...         ranks.share({"model": model, "optimizer": optimizer, "batches": batches})
        ...         for step in train(model, optimizer, batches, 50):
        ...             if ranks.rank == 0 and step.iteration % 10 == 0:
        ...                 print(step.iteration, step.loss)
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"agrad.distributed: mpi4py with an MPI library is missing ({error}); "
            'install both with pip install "agrad[mpi]"'
        ) from error
    world = MPI.COMM_WORLD
    if launched() > 1 and world.Get_size() != launched():
        library = MPI.Get_library_version().split(",")[0].splitlines()[0]
        raise ImportError(
            f"agrad.distributed: mpiexec has started {launched()} processes, but mpi4py uses "
            f"{library}, which knows of {world.Get_size()}; use the mpiexec of that library"
        )
    leaving = world.Dup()
    try:
        yield Ranks(world)
    except BaseException as error:
        others, end = leaving.Ibarrier(), time.monotonic() + _PATIENCE
        while not others.Test():
            if time.monotonic() > end:
                rank = f"rank {world.Get_rank()} of {world.Get_size()}"
                print(f"agrad: {rank} fails alone, which ends all of them", file=sys.stderr)
                report(error)
                sys.stderr.flush()
                world.Abort(1)
            time.sleep(_PATIENCE / 100)
        raise
    leaving.Ibarrier().Wait()


class Ranks:
    """The processes that train together, as seen from one of them.

    Every method must be called by all ranks, in the same order.

    Args:
        comm: The communicator of mpi4py that joins them.

    Attributes:
        rank: The number of this process, from 0.
        size: The number of processes.
        rows: Which rows of a batch this process computes: every `size`-th, from `rank` on. So the
            first rows of a batch are the first rows of all ranks.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.rows = slice(self.rank, None, self.size)
        self._parts: dict[Any, Array] = {}

    def share(self, parts: Mapping[str, Any]) -> None:
        """Give all ranks the states of rank 0's parts, and let optimizers sum over the ranks.

        The random generators get the state of rank 0's, too. Call it after creating all parts and,
        on rank 0, restoring them from a checkpoint.

        Args:
            parts: Modules, optimizers, `Batches` and other parts of a training with a state, by the
                same names on all ranks.

        Raises:
            ValueError, TypeError: A part does not fit that of rank 0.
        """
        states = {name: part.state_dict() for name, part in parts.items()}
        states, draws = self.broadcast((states, random.get_state()))
        if self.rank:
            if states.keys() != parts.keys():
                raise ValueError(
                    f"Ranks.share: rank 0 has the parts {sorted(states)}, rank {self.rank} has "
                    f"{sorted(parts)}"
                )
            for name, part in parts.items():
                part.load_state_dict(states[name])
            random.set_state(draws)
        if self.size > 1:
            for part in parts.values():
                if hasattr(part, "ranks"):
                    part.ranks = self

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value, which can be pickled, on all ranks."""
        return self._comm.bcast(value, root=0)

    def largest(self, what: str, number: int) -> int:
        """Return the largest number of a rank.

        Args:
            what: What the number is, in words, the same on all ranks.
            number: That of this rank.
        """
        return int(self._gathered(what, number).max())

    def require_same(self, what: str, data: bytes) -> None:
        """Raise a ValueError unless all ranks have the same bytes."""
        self._require_equal(what, self._gathered(what, zlib.crc32(data)))

    @staticmethod
    def _require_equal(what: str, sums: Array) -> None:
        if (sums != sums[0]).any():
            wrong = np.flatnonzero(sums != sums[0])[0]
            raise ValueError(
                f"Ranks: rank {wrong} differs from rank 0 in {what}; give all ranks the same data "
                "and the same model, and call Ranks.share before the first step"
            )

    def total(self, what: str, number: float) -> float:
        """Return the sum of a number over the ranks, in their order."""
        return float(sum(self._gathered(what, number).tolist()))

    def summed(
        self, leaves: Iterable[Tensor], grads: Mapping[Tensor, Array] | None
    ) -> dict[Tensor, Array] | None:
        """Return gradients added up over the ranks; None if a rank has none.

        Args:
            leaves: Those whose gradients are summed, in an order that all ranks have.
            grads: The gradients on this rank; arrays that lie side by side are changed in place.
                None if they could not be computed.

        Raises:
            ValueError: Another rank has gradients of other leaves.
        """
        places = [(i, leaf) for i, leaf in enumerate(leaves) if grads and leaf in grads]
        numbers = bytes(str([i for i, _ in places]), "ascii")
        sums = self._gathered("gradients", -1 if grads is None else zlib.crc32(numbers))
        if grads is None or (sums < 0).any():
            return None
        self._require_equal("which parameters have a gradient", sums)
        known = [leaf for _, leaf in places]
        arrays = [grads[leaf] for leaf in known]
        whole = _side_by_side(known, arrays)
        if whole is not None:
            self._add_up(whole)
            return dict(zip(known, arrays))
        total: dict[Tensor, Array] = {}
        for dtype in {array.dtype: None for array in arrays}:
            alike = [leaf for leaf in known if grads[leaf].dtype == dtype]
            joined = np.concatenate([grads[leaf].ravel() for leaf in alike])
            self._add_up(joined)
            ends = np.cumsum([grads[leaf].size for leaf in alike])[:-1].tolist()
            for leaf, part in zip(alike, np.split(joined, ends)):
                total[leaf] = part.reshape(grads[leaf].shape)
        return total

    def average(self, buffers: Iterable[Tensor], weight: float) -> None:
        """Replace each buffer of floating-point numbers by its weighted mean over the ranks.

        Args:
            buffers: Those of a module.
            weight: That of this rank; those of all ranks sum to 1.
        """
        for buffer in buffers:
            if buffer.dtype.kind == "f":
                values = buffer.writable()
                mean = np.ascontiguousarray(values).reshape(-1) * values.dtype.type(weight)
                self._add_up(mean)
                values[...] = mean.reshape(values.shape)

    def _gathered(self, what: str, number: float) -> Array:
        """Return a number of each rank.

        Raises:
            ValueError: Another rank gathers something else, because its program took another
                branch.
        """
        sent = np.array([zlib.crc32(what.encode()), number], np.float64)
        received = np.empty((self.size, 2))
        self._comm.Allgather(sent, received)
        if (received[:, 0] != sent[0]).any():
            other = np.flatnonzero(received[:, 0] != sent[0])[0]
            raise ValueError(
                f"Ranks: rank {self.rank} compares {what}, and rank {other} something else; all "
                "ranks must make the same steps with the same options"
            )
        numbers: Array = received[:, 1]
        return numbers

    def _add_up(self, array: Array) -> None:
        """Add one-dimensional arrays of one length up over the ranks, in place.

        Each rank sums a part of the elements, in the order of the ranks, and sends it to all. The
        sums then have the same bits on all ranks, whatever algorithms the MPI library chooses.
        """
        cuts = [array.size * i // self.size for i in range(self.size + 1)]
        sizes = [end - start for start, end in pairwise(cuts)]
        own = sizes[self.rank]
        key = array.size, array.dtype, device_of(array)
        if key not in self._parts:  # new memory would have to be faulted in page by page
            self._parts[key] = np.empty_like(array, shape=(self.size, own))
        parts = self._parts[key]
        every = (sizes, cuts[:-1])
        _finish(array)
        self._comm.Alltoallv(
            [array, every], [parts, ([own] * self.size, [own * i for i in range(self.size)])]
        )
        total = parts[0]
        for part in parts[1:]:
            total += part
        _finish(array)
        self._comm.Allgatherv([total, own], [array, every])


def _finish(array: Array) -> None:
    """Wait until a GPU has computed an array, which MPI reads without asking its stream."""
    if device_of(array) != "cpu":
        cuda.synchronize()


def _side_by_side(leaves: list[Tensor], arrays: list[Array]) -> Array | None:
    """Return the array that consists of these gradients of leaves; None if there is none."""
    home = leaves[0].home if leaves else None
    flat = None if home is None else home.flat()
    return flat.whole(arrays) if flat is not None and len(flat.tensors) == len(leaves) else None
