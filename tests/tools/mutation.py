"""Plant each fault of mutants.py in a copy of the source tree: the suite must find every one.

    python tests/tools/mutation.py                 # all of them, some minutes
    python tests/tools/mutation.py --new           # those that have no result yet

The checkout itself never changes. Each mutant gets a fresh copy. First the tests that it names run
there; if it survives, all tests of their files; if it still survives, the whole suite except slow
and packaging tests. The tests that fail must then pass without the fault. Hypothesis uses the fixed
examples of CI, so that results can be reproduced. They go to
results/reliability/mutation/results.json, the source of the table in docs/reliability.md.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from mutants import MUTANTS, Mutant
from reliability_page import table_text, write_block
from source_tree import ROOT

RESULTS = ROOT / "results" / "reliability" / "mutation" / "results.json"
SECONDS = 300
"""The limit of a test run, in seconds. A fault that exceeds it counts as found."""
_WHOLE_SUITE = ("tests", "--ignore=tests/project/test_packaging.py")
_PASSED, _FAILED, _INTERRUPTED, _NOTHING_TO_RUN = 0, 1, 2, 5


@dataclass(frozen=True)
class Result:
    """The fate of a mutant: the test that killed it, or None if it survived."""

    file: str
    old: str
    new: str
    fault: str
    killed_by: str | None
    seconds: float

    def is_of(self, mutant: Mutant) -> bool:
        """Return whether it is the result of the same change."""
        return (self.file, self.old, self.new) == (mutant.file, mutant.old, mutant.new)


def copy_of(tree: Path, name: str) -> Path:
    """Copy a source tree, with all that Numba and Python have compiled, beside the first copy.

    Times are copied too, so that compiled files stay valid unless their source changes.
    """
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "results")
    copy = shutil.copytree(tree, _scratch() / name, symlinks=True, ignore=unwanted)
    if not (copy / "agrad" / "kernels").exists():
        (copy / "agrad" / "kernels").symlink_to("../kernels")  # where an installation has it
    return copy


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="mutation-"))


def failing_test(tree: Path, *selection: str) -> str | None:
    """Return the first test that fails in a tree; None if all pass or there are none."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", *selection]
    options = ["-p", "no:cacheprovider", "--hypothesis-profile=mutation"]
    try:
        run = subprocess.run(
            [*command, *options],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} s"
    if run.returncode in (_PASSED, _NOTHING_TO_RUN):
        return None
    if run.returncode < 0:
        return f"a crash, signal {-run.returncode}"
    # A failing fixture is an error of the test that uses it; other errors name no test.
    failed = re.findall(r"^(?:FAILED|ERROR) tests/(\S+::.*?)(?: - .*)?$", run.stdout, re.MULTILINE)
    # Workers that are stopped at the first failure end the run as an interrupted one.
    if run.returncode not in (_FAILED, _INTERRUPTED) or not failed:
        raise RuntimeError(f"the tests could not be run:\n{run.stdout}\n{run.stderr}")
    return str(failed[0])


def files_named(name: str) -> list[str]:
    """Return the test files of that name, in any folder."""
    files = sorted((ROOT / "tests").rglob(f"test_{name}.py"))
    return [file.relative_to(ROOT).as_posix() for file in files]


def selections(mutant: Mutant) -> Iterator[tuple[str, ...]]:
    """Yield the tests to run, starting with those most likely to kill."""
    files = tuple(file for name in mutant.tests.split() for file in files_named(name))
    if mutant.only:
        yield (*files, "-k", mutant.only)
    yield files
    yield _WHOLE_SUITE


@cache
def pristine() -> Path:
    """Return a copy without a fault, in which Python finds all of agrad."""
    tree = copy_of(ROOT, "pristine")
    script = "import agrad, agrad.kernels.cpu as cpu; print(agrad.__file__); print(cpu.__file__)"
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", script]
    found = subprocess.check_output(command, cwd=tree, env=environment, text=True)
    assert all(line.startswith(f"{tree}{os.sep}") for line in found.splitlines()), found
    return tree


def require_sound(results: list[Result]) -> None:
    """Raise a RuntimeError unless the tests that killed mutants pass without a fault."""
    killers = {
        f"tests/{result.killed_by}" for result in results if "::" in (result.killed_by or "")
    }
    failed = failing_test(pristine(), *sorted(killers)) if killers else None
    if failed is not None:
        raise RuntimeError(f"{failed} fails without any fault; nothing can be told from it")


def try_mutant(mutant: Mutant) -> Result:
    """Plant a fault in a copy and run tests until one fails."""
    for selection in selections(mutant):
        start = time.perf_counter()
        tree = copy_of(pristine(), "mutant")
        try:
            file = tree / mutant.file
            file.write_text(mutant.plant(file.read_text()))
            killed_by = failing_test(tree, *selection)
        finally:
            shutil.rmtree(tree)
        if killed_by is not None:
            break
    seconds = round(time.perf_counter() - start, 1)
    return Result(mutant.file, mutant.old, mutant.new, mutant.fault, killed_by, seconds)


def known_results() -> list[Result]:
    """Return the results that there are, in the order of the mutants."""
    entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    results = [Result(**entry) for entry in entries]
    return [result for mutant in MUTANTS for result in results if result.is_of(mutant)]


def save(results: list[Result]) -> None:
    """Write the results, and the page's table."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    write_block("mutation", block(results))


def block(results: list[Result]) -> str:
    """Return the text of the page about the results."""
    killed = [result for result in results if result.killed_by]
    rows = [["file", "fault", "killed by", "s"]]
    rows += [
        [
            f"`{r.file}`",
            r.fault,
            f"`{r.killed_by}`" if r.killed_by else "**nothing**",
            f"{r.seconds}",
        ]
        for r in results
    ]
    seconds = sum(result.seconds for result in results)
    return f"{len(killed)} of {len(results)} killed, in {seconds:.0f} s.\n\n{table_text(rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--new", action="store_true", help="only those without a result")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin none after these")
    options = parser.parse_args()
    for mutant in MUTANTS:
        mutant.plant((ROOT / mutant.file).read_text())  # raises where one no longer fits
    known = known_results() if options.new else []
    todo = [m for m in MUTANTS if not any(result.is_of(m) for result in known)]
    found: list[Result] = []
    start = time.perf_counter()
    try:
        with suppress(KeyboardInterrupt):  # what has been found until then is kept
            for mutant in todo:
                if time.perf_counter() - start > options.seconds:
                    break
                result = try_mutant(mutant)
                print(f"{result.seconds:6.1f} s  {result.fault}: {result.killed_by}", flush=True)
                found.append(result)
        require_sound(found)
    finally:
        shutil.rmtree(_scratch())
    results = [r for mutant in MUTANTS for r in (*known, *found) if r.is_of(mutant)]
    save(results)
    if survivors := [result.fault for result in results if result.killed_by is None]:
        sys.exit(f"{len(survivors)} survived; write the tests that are missing: {survivors}")


if __name__ == "__main__":
    main()
