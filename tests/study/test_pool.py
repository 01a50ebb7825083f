"""Jobs in this process and on clusters whose workers and schedulers die."""

import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from agrad.study.pool import LostError, connected, perform, results_of
from agrad.study.runs import Experiment

distributed = pytest.importorskip("distributed")

# dask closes its sockets only when it is garbage-collected.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@dataclass(frozen=True)
class Sleep:
    """A job that reports in which process and when it ran."""

    name: int
    seconds: float = 0.0
    timed: bool = False
    device: str = "cpu"

    def result(self) -> dict[str, Any]:
        start = time.time()
        time.sleep(self.seconds)
        if self.name < 0:
            raise ValueError(f"no job has the name {self.name}")
        threads = max(library["num_threads"] for library in threadpool_info())
        return {"pid": os.getpid(), "start": start, "end": time.time(), "threads": threads}


@dataclass(frozen=True)
class Deadly:
    """A job that kills its worker, as the system does when memory runs out."""

    timed = False
    device = "cpu"

    def result(self) -> dict[str, Any]:
        time.sleep(0.5)  # until the results of earlier jobs have left the worker
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


@pytest.fixture(scope="module")
def cluster():
    """Two workers that import this module, like a study's workers import agrad."""
    with connected(2) as client:
        folder = os.path.dirname(__file__)
        client.run(lambda: sys.path.insert(0, folder) if folder not in sys.path else None)
        yield client


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let pickle find this module by its name, although the test runner imports it by its path."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Sleep.__module__])


def test_one_worker_is_this_process():
    with connected(1) as client:
        assert client is None
        jobs = [Sleep(0, timed=True), Sleep(1)]
        found = list(results_of(jobs, client))
    assert [job for job, _ in found] == jobs[::-1]
    assert {outcome[0]["pid"] for _, outcome in found} == {os.getpid()}
    assert {outcome[0]["threads"] for _, outcome in found} == {1}


def test_workers_train_as_this_process_does(cluster):
    jobs = [
        Experiment("digits", "tanh", method, 1e-3, seed, iterations=3, depth=2, width=8)
        for method in ("adam", "average-adam")
        for seed in (0, 1)
    ]
    for job, outcome in results_of(jobs, cluster):
        assert outcome == perform(job)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators differ")
def test_workers_keep_the_memory_that_a_step_frees(cluster):
    assert cluster.submit(page_faults, pure=False).result() < 2000


def page_faults() -> int:
    """Return the page faults of a hundred temporary arrays of 1 MiB, 25,600 if each is returned."""
    import resource  # of POSIX

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        np.ones(2**17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_timed_jobs_come_last_and_alone(cluster):
    jobs = [*(Sleep(i, 0.05, timed=True) for i in range(3)), *(Sleep(i, 0.05) for i in range(4))]
    found = [(job.timed, result) for job, (result, _) in results_of(jobs, cluster)]
    assert [timed for timed, _ in found] == [False] * 4 + [True] * 3
    ends = [0.0]
    for timed, result in found:
        assert result["threads"] == 1
        if timed:
            assert result["start"] >= max(ends)
        ends.append(result["end"])


def test_a_job_that_fails_raises_its_error(cluster):
    with pytest.raises(ValueError, match="no job has the name -1"):
        list(results_of([Sleep(-1)], cluster))


def test_a_killed_worker_loses_only_its_runs(cluster):
    jobs = [Sleep(i, 0.2) for i in range(8)]
    runs = results_of(jobs, cluster)
    first = list(islice(runs, 2))
    os.kill(first[0][1][0]["pid"], signal.SIGKILL)
    found = [*first, *runs]
    assert sorted(job.name for job, _ in found) == list(range(8))


def test_a_run_that_kills_every_worker_is_given_up_and_the_others_are_kept(monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    found = []
    with connected(2) as client:
        # The scheduler blames all runs that a lost worker had been given: the deadly one is last.
        jobs = [*map(Sleep, range(4)), Deadly(), Sleep(4, timed=True)]
        runs = results_of(jobs, client)
        with pytest.raises(LostError, match="1 of 6 runs were lost with their workers"):
            found += (job.name for job, _ in runs)
    assert sorted(found) == list(range(5))


def test_a_lost_scheduler_loses_nothing_that_was_reported(tmp_path):
    file = tmp_path / "scheduler.json"
    words = ("--no-dashboard", "--scheduler-file", str(file))
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    dask = [sys.executable, "-m", "distributed.cli"]
    scheduler = subprocess.Popen(
        [*dask[:2], "distributed.cli.dask_scheduler", "--port", "0", *words], **quiet
    )
    worker = subprocess.Popen(
        [*dask[:2], "distributed.cli.dask_worker", *words, "--nthreads", "2", "--no-nanny"], **quiet
    )
    try:
        while not file.exists() and scheduler.poll() is None:
            time.sleep(0.05)
        address = distributed.Client(scheduler_file=str(file), set_as_default=False)
        with address:
            where = address.scheduler.address
        with connected(1, where) as client:
            runs = results_of([Sleep(0), Sleep(1, 60.0)], client)
            assert next(runs)[0] == Sleep(0)
            scheduler.kill()
            with pytest.raises(LostError, match="finished runs are kept, start it again"):
                list(runs)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
