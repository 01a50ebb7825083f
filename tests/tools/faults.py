"""Kill a training run repeatedly, and compare it with an undisturbed one.

python tests/tools/faults.py --kills 200

Each life of the run is a process of `agrad train`, forked from this one to skip the imports and
ended by SIGKILL at a random moment. The next life continues with --resume. After each kill the
script checks the folder that the next life will find. A kill loses nothing that the kernel already
has, so this does not test power failures.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

import agrad as ag
from agrad.checkpoint import Checkpoints
from agrad.cli import main as agrad

WORDS = ("train", "--depth", "4", "--width", "32", "--batch-size", "32", "--decay", "0")
OFTEN = ("--checkpoint-every", "2", "--keep", "2")
FAR = 1_000_000


def agrad_here(*words: str) -> int:
    """Run `agrad` in this process and return its exit code."""
    sys.argv = ["agrad", *words]
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        return agrad()


def report_saves(pipe: int) -> None:
    """Make this process write the iteration of each saved checkpoint into the pipe."""
    save = Checkpoints.save

    def reporting_save(self: Checkpoints, iteration: int, *rest: Any, **options: Any) -> Path:
        path = save(self, iteration, *rest, **options)
        os.write(pipe, f"{iteration}\n".encode())
        return path

    Checkpoints.save = reporting_save  # type: ignore[method-assign]


def killed_life(seconds: float, saves: int, *words: str) -> int:
    """Kill `agrad` some seconds after its last save; return the last iteration saved, or -1."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        report_saves(writing)
        os._exit(agrad_here(*words))
    os.close(writing)
    with open(reading) as file:
        reported = [file.readline() for _ in range(saves)]
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{words} ended by itself"
        reported += file.readlines()
        return max(map(int, reported), default=-1)


def leftovers(folder: Path) -> int:
    """Return the number of files that a killed process was writing."""
    return len(list(folder.rglob(".agrad-*")))


def reached(folder: Path) -> int:
    """Return the iteration to continue after, -1 without a checkpoint.

    The folder's lock must be free, no checkpoint damaged, and no line of metrics cut.
    """
    with warnings.catch_warnings(), Checkpoints(folder / "checkpoints") as checkpoints:
        warnings.simplefilter("error")
        last = checkpoints.latest()
    metrics = folder / "metrics.jsonl"
    if metrics.exists():
        for number, line in enumerate(metrics.read_text().splitlines(), 1):
            assert json.loads(line)["iteration"] == number
    return last.iteration if last else -1


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def seconds_of_ten_iterations(folder: Path) -> float:
    """Return the seconds of a short run on this machine now, without its imports."""
    words = (*WORDS, *OFTEN, "--iterations", "10", "--out")
    assert agrad_here(*words, str(folder / "imports")) == 0
    start = time.monotonic()
    assert agrad_here(*words, str(folder / "timed")) == 0
    return time.monotonic() - start


def run(folder: Path, kills: int, seed: int) -> str:
    """Kill a run `kills` times, finish it, compare it with an undisturbed one; return the figures.

    Every second life ends at any moment, even during its start. The others first save a checkpoint,
    however long that takes on a busy machine, so that the run progresses. After that no life is
    longer than a run of ten iterations.

    Raises:
        AssertionError: Something was lost, or the runs differ.
    """
    longest = seconds_of_ten_iterations(folder)
    killed, alone = folder / "killed", folder / "alone"
    begin = (*WORDS, "--iterations", str(FAR), "--out", str(killed))
    go_on = ("train", "--resume", str(killed))
    moments = random.Random(seed)
    start = time.monotonic()
    last = -1
    writing = further = 0
    for kill in range(1, kills + 1):
        words = begin if last < 0 else go_on
        reported = killed_life(moments.uniform(0, longest), kill % 2, *words, *OFTEN)
        writing += leftovers(killed) > 0
        found = reached(killed)
        assert found >= max(last, reported), f"kill {kill}: {reported} was saved, {found} is left"
        further += found > last
        last = found
    seconds = time.monotonic() - start

    assert last >= 0, f"no life of up to {longest:.1f} s saved a checkpoint"
    end = str(last + 10)
    assert agrad_here(*go_on, "--iterations", end) == 0
    assert agrad_here(*WORDS, "--iterations", end, "--out", str(alone)) == 0
    found, expected = (ag.load(path / "weights.safetensors") for path in (killed, alone))
    assert all(np.array_equal(found[name], expected[name]) for name in expected), "weights differ"
    assert losses(killed) == losses(alone), "losses differ"
    assert not leftovers(killed)
    return (
        f"{kills} kills in {seconds:.0f} s, {writing} of them in mid-write; "
        f"{further} lives saved a further checkpoint\n"
        f"{end} iterations: weights and losses are those of a run left alone"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), options.kills, options.seed))


if __name__ == "__main__":
    main()
