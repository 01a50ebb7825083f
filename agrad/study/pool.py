"""Run jobs in this process, or on the workers of a `dask.distributed` cluster."""

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any

from threadpoolctl import threadpool_limits

from agrad.extras import optional_import
from agrad.study.runs import Job, machine

__all__ = ["LostError", "connected", "perform", "results_of"]

_PATIENCE = 0.5
"""The seconds between looks at the scheduler while no job is done."""

# Dask's workers return freed memory to the system at once, and every step fetches it again.
_MEMORY = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
}

Outcome = tuple[dict[str, Any], dict[str, Any]]


class LostError(ConnectionError):
    """Workers or the scheduler were lost with jobs that they had not done."""


def perform(job: Job) -> Outcome:
    """Run a job with one BLAS thread; return its result and the facts about this machine."""
    with threadpool_limits(1):
        return job.result(), machine(getattr(job, "device", "cpu"))


@contextmanager
def connected(workers: int, scheduler: str | None = None) -> Iterator[Any]:
    """Yield a client of the scheduler at an address, or of a cluster of this machine's processes.

    Without an address, yield None if one worker suffices or `dask.distributed` is not installed.
    Everything then runs in this process.

    Raises:
        ImportError: There is an address, and `dask.distributed` is not installed.
        OSError: The scheduler does not answer.
    """
    if scheduler is None and (workers == 1 or find_spec("distributed") is None):
        yield None
        return
    dask, distributed = (
        optional_import(name, "a study on several machines", "cluster")
        for name in ("dask", "distributed")
    )
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is not None:
        with distributed.Client(scheduler, set_as_default=False) as client:
            yield client
        return
    with ExitStack() as stack:
        with _interrupts_not_inherited(), dask.config.set(_MEMORY):
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
            stack.enter_context(cluster)
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        yield client


def results_of(jobs: Sequence[Job], client: Any) -> Iterator[tuple[Job, Outcome]]:
    """Yield each job with its outcome as soon as it is done, timed jobs last and one at a time.

    A job whose worker is lost starts again on another; whatever was yielded is not done again.

    Raises:
        LostError: Jobs have lost several workers, or the scheduler is gone. All others that could
            be done have been yielded.
    """
    timed = [job for job in jobs if job.timed]
    others = [job for job in jobs if not job.timed]
    if client is None:
        for job in (*others, *timed):
            yield job, perform(job)
        return
    lost = 0
    for batch in (others, *([job] for job in timed)):
        for done in _on_workers(batch, client):
            if isinstance(done, Exception):
                lost += 1
            else:
                yield done
    if lost:
        raise LostError(
            f"study: {lost} of {len(jobs)} runs were lost with their workers, perhaps because "
            "memory ran out; the finished runs are kept, give the same command again"
        )


def _on_workers(jobs: Sequence[Job], client: Any) -> Iterator[tuple[Job, Outcome] | Exception]:
    distributed = optional_import("distributed", "a study on several machines", "cluster")
    futures = {client.submit(perform, job, pure=False): job for job in jobs}
    done: SimpleQueue[Any] = SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    try:
        for _ in futures:
            future = _next(done, client)
            if future.status == "error":
                error = future.exception()
                if not isinstance(error, distributed.KilledWorker):
                    raise error
                yield error
            else:
                yield futures[future], future.result()
    finally:
        if client.status == "running":
            client.cancel(list(futures))


def _next(done: "SimpleQueue[Any]", client: Any) -> Any:
    """Return the next future that is done.

    Raises:
        LostError: The scheduler is gone; its futures would never be done.
    """
    while client.status == "running":
        with suppress(Empty):
            future = done.get(timeout=_PATIENCE)
            if future.status in ("finished", "error"):
                return future
    raise LostError(
        "study: the scheduler is gone; the finished runs are kept, start it again and give the "
        "same command"
    )


@contextmanager
def _interrupts_not_inherited() -> Iterator[None]:
    """Keep Ctrl-C from processes started inside the block: only the parent handles it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
