"""What the benchmarks share: threads, turns, and the figures of a race.

All contestants of a race share one process and the same cores, and take turns: each round times a
few steps of each, in an order that rotates. Reported are the medians over the rounds of each
round's median and of the ratios within a round, with the quartiles beside them: a ratio within a
round compares what the machine did at nearly one time.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Contestants = dict[str, Callable[[], object]]
Figures = dict[str, list[float]]


def pin(threads: int) -> None:
    """Give this process so many cores, and the libraries loaded from now on as many threads.

    Thread pools that take no wishes, such as JAX's, are held to the cores.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        # The last cores: the first one is where a system's own work goes.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


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
            for _ in range(steps):
                start = time.perf_counter()
                contestants[name]()
                times.append(time.perf_counter() - start)
            seconds[name].append(float(np.median(times)))
    return seconds


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the median, and the first and the third quartile."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return [float(middle), float(low), float(high)]


def ratios(seconds: Figures, pairs: Sequence[tuple[str, str]]) -> Figures:
    """Return the quartiles of each pair's ratio within a round."""
    return {
        f"{name} / {other}": quartiles(np.divide(seconds[name], seconds[other]))
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
    """Write the figures as JSON, where a path was given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")
