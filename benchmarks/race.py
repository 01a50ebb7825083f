"""Threads, turns and figures: what all races share.

The contestants of a race share one process and the same cores, and take turns: each round times a
few steps of each, in an order that rotates. Before each turn the race waits until all threads
sleep: a BLAS's threads spin for a tenth of a second after their work, on the cores that the next
contestant needs. A contestant's time is the median over the rounds of each round's median. Ratios
are taken within a round, so that they compare times under nearly the same conditions, and reported
as median and quartiles.

This module imports no numerical library. Libraries create their threads when they are loaded, which
must happen after `pin`; `refuse_other_threads` checks that it did.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

Contestants = dict[str, Callable[[], object]]
Figures = dict[str, list[float]]


def pin(threads: int) -> None:
    """Give this process `threads` cores, and the libraries loaded from now on as many threads.

    The cores also limit thread pools that accept no setting, such as JAX's. A thread that already
    exists keeps its cores, so call this before anything loads NumPy.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        # The last cores: the system runs its own work on the first.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def refuse_other_threads(threads: int) -> None:
    """Exit if a loaded BLAS or OpenMP has another number of threads."""
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["num_threads"] != threads:
            raise SystemExit(
                f"{library['filepath']} has {library['num_threads']} threads, not {threads}"
            )


def race(
    contestants: Contestants,
    rounds: int,
    steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Figures:
    """Return each contestant's median seconds per step in each round, by the clock."""
    names = list(contestants)
    for name in names:
        for _ in range(max(3, steps // 2)):
            contestants[name]()
    seconds: Figures = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times = []
            settle()
            for _ in range(steps):
                start = clock()
                contestants[name]()
                times.append(clock() - start)
            seconds[name].append(median(times))
    return seconds


def settle() -> None:
    """Wait until no thread of this process computes, for at most a second."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            break


def plan(contestants: Contestants, seconds: float) -> tuple[int, int]:
    """Return the rounds (7 to 15) and the steps per round (1 to 10) of a race of about `seconds`.

    Each contestant is called twice; the second call is timed.
    """
    for call in contestants.values():
        call()
    start = time.perf_counter()
    for call in contestants.values():
        call()
    calls = seconds / (time.perf_counter() - start)
    steps = min(max(int(calls / 15), 1), 10)
    return min(max(int(calls / steps), 7), 15), steps


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the median, the first and the third quartile."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return [middle, low, high]


def ratios(seconds: Figures, pairs: Sequence[tuple[str, str]]) -> Figures:
    """Return the median and quartiles of each pair's ratio within a round."""
    return {
        f"{name} / {other}": quartiles([a / b for a, b in zip(seconds[name], seconds[other])])
        for name, other in pairs
        if name in seconds and other in seconds
    }


def show(title: str, seconds: Figures, of_ratios: Figures) -> None:
    """Print the medians and quartiles."""
    print(title)
    for name, times in seconds.items():
        middle, low, high = (1e3 * value for value in quartiles(times))
        print(f"  {name:<42} {middle:8.3f} ms   ({low:.3f} to {high:.3f})")
    for name, (middle, low, high) in of_ratios.items():
        print(f"  {name}: {middle:.2f}   ({low:.2f} to {high:.2f})", flush=True)


def write(path: Path | None, content: dict) -> None:
    """Write the figures as JSON if there is a path: the whole file or nothing."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=2) + "\n")
        part.replace(path)
