"""What the benchmarks share: threads, turns, and the figures of a race.

All contestants of a race share one process and the same cores, and take turns: each round times a
few steps of each, in an order that rotates. Before each turn all threads have gone to sleep: those
of a BLAS look for more work for a tenth of a second, on the cores that the next one needs. Reported
are the medians over the rounds of each round's median and of the ratios within a round, with the
quartiles beside them: a ratio within a round compares what the machine did at nearly one time.

Nothing that computes is imported here: a library makes its threads when it is loaded, which has to
be after `pin`. `refuse_other_threads` looks whether it was.
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
    """Give this process so many cores, and the libraries loaded from now on as many threads.

    Thread pools that take no wishes, such as JAX's, are held to the cores. For this the threads
    must not be there yet: call it before anything loads NumPy.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        # The last cores: the first one is where a system's own work goes.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def refuse_other_threads(threads: int) -> None:
    """End here if a BLAS or OpenMP that was loaded has another number of threads."""
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["num_threads"] != threads:
            raise SystemExit(
                f"{library['filepath']} has {library['num_threads']} threads, not {threads}"
            )


def race(contestants: Contestants, rounds: int, steps: int) -> Figures:
    """Return for each contestant its median seconds a step in each round."""
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
                start = time.perf_counter()
                contestants[name]()
                times.append(time.perf_counter() - start)
            seconds[name].append(median(times))
    return seconds


def settle() -> None:
    """Wait until no thread of this process computes, a second at the most."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            break


def plan(contestants: Contestants, seconds: float) -> tuple[int, int]:
    """Return the rounds, 7 to 15, and their steps, 1 to 10, of a race of about so many seconds.

    Each contestant is called twice, and the second time is taken.
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
    """Return the median, and the first and the third quartile."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return [middle, low, high]


def ratios(seconds: Figures, pairs: Sequence[tuple[str, str]]) -> Figures:
    """Return the quartiles of each pair's ratio within a round."""
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
    """Write the figures as JSON, where a path was given: the whole file, or none."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=2) + "\n")
        part.replace(path)
