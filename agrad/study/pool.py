"""Making the runs of a study: those that its results file lacks, several at a time."""

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
    """Return the runs that the results file holds, and the experiments that it lacks.

    Raises:
        ValueError: it holds no runs, or those of another study, that is of other data or of
            another number of iterations.
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
    """Make the runs that the results file lacks, and give each as it is added to the file.

    Each worker is a process of its own with one thread for the BLAS, so that results do not depend
    on how many there are. Where the loop is left early, the runs in the making are given up.

    Raises:
        ValueError: see `remaining`.
        ChildProcessError: a worker was killed from outside.
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
            "study: a worker process was killed, perhaps for want of memory; the runs made "
            "so far are kept, try again with fewer workers"
        ) from error
    finally:
        for worker in set(active_children()) - set(others):
            worker.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_not_inherited() -> Iterator[None]:
    """Keep a Ctrl-C in the terminal from the processes started here: it is the parent's alone."""
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
