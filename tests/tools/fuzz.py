"""Damaged and hostile files for every loader, a million of each, and the properties required.

    python tests/tools/fuzz.py weights --keep                 # a million, into the page's table
    python tests/tools/fuzz.py weights --start 417 --cases 1  # a single one again

A case depends only on the loader and its number. The loader must either refuse the file with
agrad's own error, or accept it and return a valid result. Anything else is a finding: another
exception, more than a second of processor time, or more memory than `MEMORY`. A finding names the
number, which reproduces it. Cases run with --keep, at once or in pieces, go to
results/reliability/fuzz/results.json, the source of the table in docs/reliability.md. Needs Linux.
"""

import argparse
import json
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from fuzz_loaders import FILE, LOADERS, Loader
from reliability_page import table_text, write_block
from source_tree import ROOT

RESULTS = ROOT / "results" / "reliability" / "fuzz" / "results.json"
SECONDS = 1.0
"""The processor time of a case, at most."""
MEMORY = 2**28
"""The memory of a case, at most; the largest file has 2**16 bytes, or unzips to 2**20."""


class Finding(Exception):
    """A case that is neither refused nor valid."""


class _TooSlow(BaseException):
    """Not an Exception: no loader may catch it."""


def try_case(loader: Loader, path: Path, number: int) -> bool:
    """Return whether the loader accepts the file of that number, or raise a Finding.

    Only inside `watch` is a slow case stopped.
    """
    content = loader.make(Random(number))
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        result = loader.load(path)
    except loader.errors as error:
        if not str(error).strip():
            raise Finding(f"case {number}: the error says nothing") from error
        return False
    except (Exception, _TooSlow) as error:
        raise Finding(f"case {number}: {type(error).__name__}: {error}") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        loader.require_valid(result, content)
    except Exception as error:
        raise Finding(f"case {number}: accepted, but not valid: {error!r}") from error
    return True


@contextmanager
def watch() -> Iterator[None]:
    """Stop cases that take too long."""

    def stop(*_: Any) -> None:
        raise _TooSlow(f"more than {SECONDS} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGPROF, before)


# -- the command -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Some cases of a loader, all of them refused or valid."""

    loader: str
    start: int
    cases: int
    accepted: int
    seconds: float
    slowest_case_seconds: float
    memory_growth_bytes: int
    """The growth of the process, from the first thousandth of the cases to the last."""


def run(name: str, start: int, cases: int) -> Piece:
    """Try `cases` cases, with limited memory for the process."""
    accepted, slowest, settled = 0, 0.0, 0
    limit = _pages_of_process() * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder, watch():
        path = Path(folder, FILE)
        for number in range(start, start + cases):
            if number - start == cases // 1000:
                settled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            before = time.process_time()
            accepted += try_case(LOADERS[name], path, number)
            slowest = max(slowest, time.process_time() - before)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - settled
    seconds = time.perf_counter() - began
    return Piece(name, start, cases, accepted, round(seconds, 1), round(slowest, 4), 1024 * growth)


def _pages_of_process() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0])


def _memory_folder() -> str | None:
    """Return a folder in memory, if there is one: a million files are written."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def known_pieces() -> list[Piece]:
    return [Piece(**entry) for entry in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def keep(piece: Piece) -> None:
    """Add the piece to the results, replacing pieces that it overlaps."""
    stop = piece.start + piece.cases
    others = [
        other
        for other in known_pieces()
        if other.loader != piece.loader
        or other.start >= stop
        or other.start + other.cases <= piece.start
    ]
    pieces = sorted([*others, piece], key=lambda p: ([*LOADERS].index(p.loader), p.start))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(asdict(known)) for known in pieces)
    RESULTS.write_text(f"[\n{lines}\n]\n")


def table() -> list[list[str]]:
    """Return the rows of the page's table, starting with the head."""
    rows = [["loader", "cases", "refused", "accepted", "s", "slowest case, ms", "growth, MB"]]
    for name in LOADERS:
        pieces = [piece for piece in known_pieces() if piece.loader == name]
        cases, accepted = (sum(getattr(p, key) for p in pieces) for key in ("cases", "accepted"))
        slowest = max((piece.slowest_case_seconds for piece in pieces), default=0)
        growth = max((piece.memory_growth_bytes for piece in pieces), default=0)
        seconds = sum(piece.seconds for piece in pieces)
        counts = [f"{count:,}" for count in (cases, cases - accepted, accepted)]
        costs = [f"{seconds:.0f}", f"{1e3 * slowest:.0f}", f"{growth / 1e6:.1f}"]
        rows.append([name, *counts, *costs])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("loader", choices=LOADERS)
    parser.add_argument("--start", type=int, default=0, help="the first case's number")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true", help="in the results and on the page")
    options = parser.parse_args()
    piece = run(options.loader, options.start, options.cases)
    print(json.dumps(asdict(piece)))
    if options.keep:
        keep(piece)
        write_block("fuzz", table_text(table()))


if __name__ == "__main__":
    main()
