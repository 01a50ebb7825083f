"""Run the experiments that are missing in a results file, several at a time."""

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing import active_children, get_context
from pathlib import Path

from agrad.study.data import load_data
from agrad.study.runs import Experiment, Run, load_runs, save_runs

__all__ = ["remaining", "run_all"]


def remaining(
    plan: Sequence[Experiment], path: str | os.PathLike[str]
) -> tuple[list[Run], list[Experiment]]:
    """Return the runs in the results file, and the experiments of `plan` that it lacks.

    Raises:
        ValueError: The file is not a list of runs, or belongs to another study, that is, to other
            data or a different number of iterations.
    """
    runs = load_runs(path) if Path(path).exists() else []
    for run in runs:
        if (run.study, run.iterations) != (plan[0].study, plan[0].iterations):
            raise ValueError(
                f"{os.fspath(path)!r} holds {run.study} of {run.iterations} iterations, not "
                f"{plan[0].study} of {plan[0].iterations}; choose another folder"
            )
    known = {run.key for run in runs}
    return runs, [experiment for experiment in plan if experiment.key not in known]


def run_all(
    data: str, plan: Sequence[Experiment], path: str | os.PathLike[str], workers: int = 1
) -> Generator[Run]:
    """Run the experiments that the results file lacks; add each run to the file and yield it.

    Each worker is a process with one BLAS thread, so the results do not depend on the number of
    workers. If the loop is left early, unfinished runs are discarded.

    Raises:
        ValueError: See `remaining`.
        ChildProcessError: A worker was killed from outside.
    """
    runs, todo = remaining(plan, path)
    if not todo:
        return
    others = active_children()
    pool = ProcessPoolExecutor(min(workers, len(todo)), get_context("spawn"), _one_thread)
    try:
        with _interrupts_not_inherited():
            pending = [pool.submit(_make_run, data, experiment) for experiment in todo]
        for future in as_completed(pending):
            runs.append(future.result())
            save_runs(path, runs)
            yield runs[-1]
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "study: a worker process was killed, perhaps because memory ran out; the finished "
            "runs are kept, try again with fewer workers"
        ) from error
    finally:
        for worker in set(active_children()) - set(others):
            worker.terminate()
        pool.shutdown(cancel_futures=True)


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


def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


_load_once = cache(load_data)


def _make_run(data: str, experiment: Experiment) -> Run:
    return experiment.run(_load_once(data))
