"""Make all measurements on one NVIDIA GPU, in under ten minutes.

    python benchmarks/gpu.py --out results/gpu/results.json

Needs a checkout with agrad installed from it (`pip install -e ".[test,cuda13x]"`), a build of
PyTorch for CUDA, `compute-sanitizer` on the PATH, and MNIST in the folder named by AGRAD_DATA; no
network. A part that lacks something says so in the results, and the other parts still run. The file
is rewritten after each figure, so a kill loses no earlier figure. A command that runs past its
limit is killed with all processes that it has started, so that none of them disturbs the following
parts.

Parts: `kernels`, which compiles all kernels in parallel, so that no other part has to; `tests`, the
suite marked gpu; `sanitizer`, compute-sanitizer's four tools on every operation; `step`, the dense
network's training step beside PyTorch's; `convolution`, forward plus backward beside cuDNN's;
`roofline`, the kernels' bandwidth beside that of a copy; `memory`, 10,000 steps; `mnist`, `agrad
study 5 --device cuda` with one seed, in the folder `study` beside the file, where a later call
resumes it.

Float32, no TF32. Steps are timed by the clock, with the GPU synchronized before and after; kernels
by CUDA events. Figures are medians over rounds in which the contestants take turns.
"""

import argparse
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gpu_speed import Missing, Note, convolution, make_batch, require, roofline, step
from race import write

import agrad
from agrad import nn, optim
from agrad.data.download import folder
from agrad.errors import DeviceError
from agrad.gpu import cuda
from agrad.study.runs import machine
from agrad.train import capture_step, train_step

ROOT = Path(__file__).resolve().parent.parent
BUDGET = 580.0
"""Seconds for all parts."""


def main() -> int:
    """Run the parts and return the exit code: 1 if there is no GPU or a part has failed."""
    options = parse()
    try:
        found = [asdict(gpu) for gpu in cuda.gpus()]
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 1
    import cupy

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `ended` ends commands
    deadline = time.monotonic() + BUDGET
    content: dict[str, Any] = {
        "machine": machine("cuda") | {"cupy": cupy.__version__, "gpus": found},
        "driver_cuda": cuda.driver_version(),
        "runtime_cuda": cupy.cuda.runtime.runtimeGetVersion(),
    }
    failed = [not make(name, deadline, options.out, content) for name in options.parts]
    return int(any(failed))


def make(name: str, deadline: float, out: Path, content: dict[str, Any]) -> bool:
    """Run a part, write each figure to the file as soon as it is known, and return the success."""
    import cupy

    print(f"-- {name}", flush=True)
    start = time.monotonic()
    outcome: dict[str, Any] = {}
    content[name] = outcome

    def note(figure: str, value: Any) -> None:
        outcome[figure] = value
        write(out, content)

    try:
        PARTS[name](deadline, out, note)
    except Missing as missing:
        outcome["missing"] = str(missing)
    except Exception as error:
        outcome["failed"] = repr(error)
    note("seconds", round(time.monotonic() - start, 1))
    print({key: outcome[key] for key in ("missing", "failed", "seconds") if key in outcome})
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    return "failed" not in outcome


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the results file, JSON")
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="by default all"
    )
    return parser.parse_args()


def run(
    command: list[str], deadline: float, most: float, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a command in the checkout, and return its exit code and the end of its output.

    If it runs past `most` seconds or the deadline, all of its processes are killed.
    """
    seconds = max(1.0, min(most, deadline - time.monotonic()))
    late = False
    with ended(command, environment) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            late = True
            kill(process)
            said, _ = process.communicate()  # includes the output before the limit
    outcome = {"exit_code": process.returncode, "output": said.splitlines()[-20:]}
    print("\n".join(outcome["output"]), flush=True)
    if late:
        return outcome | {"failed": f"not done after {seconds:.0f} s"}
    return outcome | ({"failed": "see output"} if process.returncode else {})


@contextmanager
def ended(
    command: list[str], environment: dict[str, str] | None
) -> Iterator["subprocess.Popen[str]"]:
    """Start a command in its own process group, and end all of the group with the block."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        with process:
            yield process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill all remaining processes of a group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# -- correctness and memory ------------------------------------------------------------------------


def compile_kernels(deadline: float, out: Path, note: Note) -> None:
    """Compile agrad's kernels, and CuPy's that operations use, into CuPy's cache on disk."""
    from agrad.kernels.gpu import launch

    require("pytest", "hypothesis", "xdist")
    start = time.monotonic()
    jobs = [(source, real) for source in launch.SOURCES for real in ("float32", "float64")]
    workers = min(len(jobs), len(os.sched_getaffinity(0)))
    # A process that has used CUDA must not be forked.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(launch.compile_file, *zip(*jobs)))
    note("agrad's", {"files": len(jobs), "processes": workers, "seconds": since(start)})
    start = time.monotonic()
    # More processes would fill the GPU's memory with contexts.
    words = ["-n", str(min(workers, 8)), *OPERATIONS]
    outcome = run([sys.executable, "-m", "pytest", *words], deadline, most=90)
    note("CuPy's", {"output": outcome["output"], "seconds": since(start)})


def since(start: float) -> float:
    return round(time.monotonic() - start, 1)


OPERATIONS = [
    "--hypothesis-profile", "brief", "-q", "-m", "gpu", "-k", "agrees_with_the_cpu or device",
    "tests",
]  # fmt: skip
"""Arguments of pytest for every operation and the tests of single kernels."""


def tests(deadline: float, out: Path, note: Note) -> None:
    """Run the tests marked gpu."""
    require("pytest", "hypothesis")
    words = ["-q", "-m", "gpu", "-rs"]
    for key, value in run([sys.executable, "-m", "pytest", *words], deadline, most=150).items():
        note(key, value)


def sanitizer(deadline: float, out: Path, note: Note) -> None:
    """Run every operation and the tests of single kernels under each of the sanitizer's tools.

    Without CuPy's pool, each array is an allocation of its own: within the pool's large ones,
    memcheck would not see an access beyond an array, nor initcheck that memory was used before.
    """
    require("pytest", "hypothesis")
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        raise Missing("compute-sanitizer, from the CUDA toolkit")
    operations = [sys.executable, "-m", "pytest", "-p", "without_pool", "-x", *OPERATIONS]
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    unclean = []
    for check in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", *operations]
        outcome = run(command, deadline, most=45, environment=environment)
        note(check, outcome)
        unclean += [check] if "failed" in outcome else []
    if unclean:
        note("failed", " and ".join(unclean))


def memory(deadline: float, out: Path, note: Note) -> None:
    """Check that 10,000 steps take no more memory than the first thousand."""
    import cupy

    agrad.seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)).to("cuda")
    optimizer = optim.AverageGradient(optim.RMSprop(model.parameters(), lr=1e-5))
    inputs, labels = make_batch(32, 16, 4)
    steps = {
        "as they are": partial(train_step, model, optimizer),
        "by a graph": capture_step(model, optimizer),
    }
    grown = []
    for name, make_step in steps.items():
        used = []
        until = min(deadline, time.monotonic() + 40)
        while len(used) < 10 and time.monotonic() < until:
            for _ in range(1000):
                make_step(inputs, labels)
            gc.collect()
            free, total = cupy.cuda.runtime.memGetInfo()
            used.append(
                {"pool": cupy.get_default_memory_pool().used_bytes(), "device": total - free}
            )
        note(name, {"steps": 1000 * len(used), "bytes_after_each_1000": used})
        if any(used[-1][where] > used[0][where] for where in used[0]):
            grown.append(name)
    if grown:
        note("failed", f"memory has grown: steps {' and '.join(grown)}")


def mnist(deadline: float, out: Path, note: Note) -> None:
    """Run the study of the rates on MNIST from the command line."""
    require("click", "matplotlib", "pooch", "rich", "sklearn", "threadpoolctl")
    if not (folder() / "mnist").is_dir():
        raise Missing(f"MNIST in {folder() / 'mnist'}; `agrad train --data mnist` downloads it")
    results = out.resolve().parent / "study"
    words = ["study", "5", "--device", "cuda", "--seeds", "1"]
    command = [sys.executable, "-m", "agrad", *words, "--out", str(results)]
    outcome = run(command, deadline, most=BUDGET)
    file = results / "results.json"
    runs = json.loads(file.read_text())["rows"] if file.exists() else []
    for key, value in (outcome | {"runs_made": len(runs), "results": str(file)}).items():
        note(key, value)


PARTS = {
    "kernels": compile_kernels,
    "tests": tests,
    "sanitizer": sanitizer,
    "step": step,
    "convolution": convolution,
    "roofline": roofline,
    "memory": memory,
    "mnist": mnist,
}


if __name__ == "__main__":
    sys.exit(main())
