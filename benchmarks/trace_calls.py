"""Count the files and calls behind `y = tanh(x @ w)`: forward, backward and average.

    python benchmarks/trace_calls.py

The forward pass computes x @ w and its tanh; `backward` and `average_backward` then take the
gradients. These need a single element: y has one in the first table, and is summed in the second.
x and w both require gradients, and w moves. Every phase runs before it is traced,
so that nothing is compiled or imported; graphs and results are kept, so that nothing is freed.

The counts are of calls of Python functions in agrad's own files, `agrad/` and `kernels/`, as
`sys.setprofile` reports them: each resumption of a generator is a call. A move is a call or a
return in one of these files that follows one in another file, within a phase. Frames of Python
itself and of libraries do not count.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import agrad as ag
from agrad import kernels

FOLDERS = {
    package.__name__.rpartition(".")[2]: Path(package.__path__[0]) for package in (ag, kernels)
}


def source(path: str) -> str | None:
    """Return the path of a file within agrad's repository, or None for any other file."""
    for name, folder in FOLDERS.items():
        if folder in Path(path).parents:
            return str(name / Path(path).relative_to(folder))
    return None


def trace(phase: Callable[[], None]) -> list[tuple[str, str]]:
    """Run `phase` and return its calls and returns in agrad: ("call" or "return", file)."""
    seen: list[tuple[str, str]] = []

    def record(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "return"):
            seen.append((event, frame.f_code.co_filename))

    # A garbage collection during the phase would call the finalizers of earlier objects.
    gc.collect()
    gc.disable()
    sys.setprofile(record)
    try:
        phase()
    finally:
        sys.setprofile(None)
        gc.enable()
    return [(event, name) for event, path in seen if (name := source(path))]


def moves(events: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the moves between files, each as (from, to)."""
    files = [name for _, name in events]
    return [move for move in pairwise(files) if move[0] != move[1]]


def phases(rows: int = 8, columns: int = 4) -> dict[str, Callable[[], None]]:
    """Return the three phases for a y of this shape, by name, in the order they must run in."""
    rng = np.random.default_rng(0)
    x = ag.tensor(rng.normal(size=(rows, 6)), dtype="float32", requires_grad=True)
    w = ag.tensor(rng.normal(size=(6, columns)), dtype="float32", requires_grad=True)
    update = {w: np.full(w.shape, 0.1, "float32")}
    kept: dict[str, Any] = {}

    def forward() -> None:
        kept["y"] = y = ag.tanh(x @ w)
        kept["loss"] = y if y.size == 1 else y.sum()

    def backward() -> None:
        kept["loss"].backward(retain_graph=True)

    def average() -> None:
        kept["end"] = kept["loss"].average_backward(update, retain_graph=True)

    return {"forward": forward, "backward": backward, "average": average}


def main() -> None:
    print(f"Python {'.'.join(map(str, sys.version_info[:2]))}")
    print_counts("y = tanh(x @ w)", phases(1, 1))
    print_counts("tanh(x @ w).sum()", phases())


def print_counts(title: str, run: dict[str, Callable[[], None]]) -> None:
    """Print the files, calls and moves of each phase, and the calls of each file."""
    for _ in range(2):
        for phase in run.values():
            phase()
    events = {name: trace(phase) for name, phase in run.items()}

    print(f"\n{title}\n")
    print(f"{'phase':<40} {'files':>5} {'calls':>6} {'moves':>6}")
    total: Counter[str] = Counter()
    for name, seen in events.items():
        counts = Counter(event for event, _ in seen) + Counter(moves=len(moves(seen)))
        files = len({file for _, file in seen})
        print(f"{name:<40} {files:>5} {counts['call']:>6} {counts['moves']:>6}")
        total += counts
    calls = Counter(file for seen in events.values() for event, file in seen if event == "call")
    entered = Counter(file for seen in events.values() for _, file in moves(seen))
    print(f"{'together':<40} {len(calls):>5} {total['call']:>6} {total['moves']:>6}")

    print(f"\n{'file':<46} {'calls':>6} {'moves into it':>13}")
    for file, count in calls.most_common():
        print(f"{file:<46} {count:>6} {entered[file]:>13}")


if __name__ == "__main__":
    main()
