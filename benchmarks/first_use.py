"""Measure how long a new user waits: for the import, and for the first demo on a fresh machine.

    python benchmarks/first_use.py --out results/speed/first-use/results.json

`import agrad` is timed inside fresh processes, including NumPy, with all files in the system's
cache. Python's -X importtime shows which modules take the most time. `agrad demo` is timed from
outside, first with an empty folder for compiled kernels and then with the full one. Needs the extra
`demo`.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from race import quartiles, write

IMPORT = "import time; t = time.perf_counter(); import agrad; print(time.perf_counter() - t)"


def import_seconds(processes: int) -> list[float]:
    """Return the seconds of the import in each process, after a first one that is not counted."""
    command = [sys.executable, "-c", IMPORT]
    found = [float(subprocess.check_output(command, text=True)) for _ in range(processes + 1)]
    return found[1:]


def slowest_imports(count: int) -> dict[str, int]:
    """Return the modules that take the most time themselves, with their microseconds."""
    command = [sys.executable, "-X", "importtime", "-c", "import agrad"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return dict(slowest(printed)[:count])


def slowest(printed: str) -> list[tuple[str, int]]:
    """Return the modules in the output of -X importtime, in descending order of their own time."""
    lines = re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", printed)
    return sorted(((name, int(own)) for own, name in lines), key=lambda entry: -entry[1])


def demo_seconds() -> dict[str, float]:
    """Return the seconds of the demo, before and after its kernels are compiled."""
    with tempfile.TemporaryDirectory() as folder:
        figure = str(Path(folder, "demo.png"))
        command = [sys.executable, "-m", "agrad", "demo", "--figure", figure]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(Path(folder, "kernels"))}
        seconds = {}
        for name in ("nothing compiled yet", "all compiled"):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment)
            seconds[name] = time.perf_counter() - start
    return seconds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=15, help="the number of imports to time")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    return parser.parse_args()


def main() -> None:
    options = parse()
    seconds = import_seconds(options.processes)
    middle, low, high = quartiles(seconds)
    print(f"import agrad: {middle:.3f} s ({low:.3f} to {high:.3f})")
    modules = slowest_imports(10)
    for name, own in modules.items():
        print(f"  {name:<42} {own / 1e3:6.1f} ms by itself")
    demo = demo_seconds()
    for name, value in demo.items():
        print(f"agrad demo, {name}: {value:.1f} s")

    from agrad.study.runs import machine

    content = {
        "machine": machine(),
        "import_seconds": seconds,
        "slowest_imports_microseconds": modules,
        "demo_seconds": demo,
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
