"""Count the lines of the engine: the modules that recording, sweeping and capturing enter.

    python benchmarks/engine_lines.py
    python benchmarks/engine_lines.py --since COMMIT

The phases are those of trace_calls.py, and a network of two dense layers: recorded, captured, and
replayed, with a sweep and an average sweep after each. Modules of `agrad/core` and `agrad/tracing`
count; operations, kernels and NumPy's functions do not: the engine runs them.

For each module there are three numbers: its non-blank lines; its lines of code, without docstrings
and comments; and the lines of code in functions that the phases call. The module of the Tensor has
NumPy's whole interface, of which the phases call a small part, so only that part of it counts.

With --since, it counts the non-blank lines that each later commit has added to these modules, less
those that it has removed: the cost of each feature of the engine.
"""

import argparse
import ast
import inspect
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
from trace_calls import phases, source

import agrad as ag
from agrad import nn

TENSOR = "agrad/core/tensor.py"
ENGINE = ("agrad/core/", "agrad/tracing/")


def network_phases() -> list[Callable[[], Any]]:
    """Return the phases of a network of two dense layers, eager and captured."""
    ag.seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    forward = ag.capture(model)
    update = {param: np.full(param.shape, 0.1, "float32") for param in model.parameters()}

    def sweeps(call: Any) -> None:
        loss = call(x).sum()
        loss.average_backward(update, retain_graph=True)
        loss.backward()

    # The first call records a captured function, and the later ones replay it.
    return [lambda: sweeps(model), lambda: sweeps(forward), lambda: sweeps(forward)]


def called_code(run: Iterable[Callable[[], Any]]) -> dict[str, set[CodeType]]:
    """Return the functions that the phases call, by their files in agrad's engine."""
    called: dict[str, set[CodeType]] = defaultdict(set)

    def record(frame: FrameType, event: str, _: Any) -> None:
        name = source(frame.f_code.co_filename)
        if event == "call" and name is not None and name.startswith(ENGINE):
            called[frame.f_code.co_filename].add(frame.f_code)

    sys.setprofile(record)
    try:
        for phase in run:
            phase()
    finally:
        sys.setprofile(None)
    return called


def lines_of(path: Path) -> tuple[set[int], set[int]]:
    """Return the numbers of a file's non-blank lines, and of its lines of code."""
    text = path.read_text(encoding="utf-8")
    lines = {n for n, line in enumerate(text.splitlines(), 1) if line.strip()}
    docstrings = {
        n
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    with path.open("rb") as file:
        comments = {
            token.start[0]
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
        }
    return lines, lines - docstrings - comments


def lines_in(functions: Iterable[CodeType]) -> set[int]:
    """Return the numbers of the lines of functions, with their signatures."""
    found: set[int] = set()
    for code in functions:
        texts, first = inspect.getsourcelines(code)
        found |= set(range(first, first + len(texts)))
    return found


def growth(log: str) -> dict[str, int]:
    """Return how many non-blank lines each commit adds, from a log with patches."""
    found: dict[str, int] = {}
    for line in log.splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
            found[commit] = 0
        elif line[1:].strip() and not line.startswith(("+++ ", "--- ")):
            found[commit] += line.startswith("+") - line.startswith("-")
    return found


def print_growth(since: str, names: Iterable[str]) -> None:
    """Print the lines that each commit after `since` has added to these files."""
    command = ["git", "log", "--no-merges", "--reverse", "--format=commit %h %s", "--patch"]
    command += [f"{since}..HEAD", "--", *names]
    folder = Path(__file__).parent.parent
    log = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    changes = growth(log)
    for commit, lines in changes.items():
        print(f"{lines:>+6}  {commit}")
    print(f"{sum(changes.values()):>+6}  together")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the lines of the engine.")
    parser.add_argument("--since", metavar="COMMIT", help="count what each later commit has added")
    since = parser.parse_args().since
    for phase in network_phases():
        phase()  # so that kernels are compiled; the phases traced have a function of their own
    called = called_code([*phases().values(), *network_phases()])
    if since is not None:
        names = sorted(filter(None, map(source, called)))
        print_growth(since, [name for name in names if name != TENSOR])
        return
    print(f"{'module':<28} {'lines':>6} {'code':>6} {'code called':>12}")
    total = np.zeros(3, int)
    for path, functions in sorted(called.items()):
        name, (lines, code) = source(path), lines_of(Path(path))
        inside = lines_in(function for function in functions if function.co_name != "<module>")
        counts = np.array([len(lines), len(code), len(code & inside)])
        if name == TENSOR:
            counts = np.array([len(lines & inside), len(code & inside), len(code & inside)])
            name += ", called"
        total += counts
        print(f"{name:<28} {counts[0]:>6} {counts[1]:>6} {counts[2]:>12}")
    print(f"{'together':<28} {total[0]:>6} {total[1]:>6} {total[2]:>12}")


if __name__ == "__main__":
    main()
