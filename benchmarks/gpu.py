"""Make all measurements on one NVIDIA GPU, in under nine minutes.

    python benchmarks/gpu.py --out results/gpu/results.json

Needs a checkout with agrad installed from it (`pip install -e ".[test,cuda13x]"`), a build of
PyTorch for CUDA, `compute-sanitizer` on the PATH, and MNIST in the folder named by AGRAD_DATA; no
network. A part that lacks something says so in the results, and the other parts still run. The file
is rewritten after each part, so a part that is killed does not cost the others their figures.

Parts: `tests`, the suite marked gpu; `sanitizer`, memcheck and racecheck on every operation;
`step`, the dense network's training step beside PyTorch's; `convolution`, forward plus backward
beside cuDNN's; `roofline`, the kernels' bandwidth beside that of a copy; `memory`, 10,000 steps;
`mnist`, `agrad study 5 --device cuda` with one seed, in the folder `study` beside the
file, where a later call resumes it.

Float32, no TF32. Steps are timed by the clock, with the GPU synchronized before and after; kernels
by CUDA events. Figures are medians over rounds in which the contestants take turns.
"""

import argparse
import gc
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from gpu_speed import Missing, convolution, make_batch, require, roofline, step
from race import write

import agrad
from agrad import nn, optim
from agrad.data.download import folder
from agrad.errors import DeviceError
from agrad.gpu import cuda
from agrad.study.runs import machine
from agrad.train import capture_step, train_step

ROOT = Path(__file__).resolve().parent.parent
BUDGET = 520.0
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

    deadline = time.monotonic() + BUDGET
    content: dict[str, Any] = {
        "machine": machine("cuda") | {"cupy": cupy.__version__, "gpus": found},
        "driver_cuda": cuda.driver_version(),
        "runtime_cuda": cupy.cuda.runtime.runtimeGetVersion(),
    }
    failed = False
    for name in options.parts:
        print(f"-- {name}", flush=True)
        start = time.monotonic()
        try:
            outcome = PARTS[name](deadline, options.out)
        except Missing as missing:
            outcome = {"missing": str(missing)}
        except Exception as error:
            outcome = {"failed": repr(error)}
        outcome["seconds"] = round(time.monotonic() - start, 1)
        failed |= "failed" in outcome
        content[name] = outcome
        print({key: outcome[key] for key in ("missing", "failed", "seconds") if key in outcome})
        write(options.out, content)
        gc.collect()
        cupy.get_default_memory_pool().free_all_blocks()
    return int(failed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the results file, JSON")
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="by default all"
    )
    return parser.parse_args()


def run(command: list[str], deadline: float, most: float) -> dict[str, Any]:
    """Run a command in the checkout, and return its exit code and the end of its output."""
    seconds = max(1.0, min(most, deadline - time.monotonic()))
    try:
        result = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        return {"failed": f"not done after {seconds:.0f} s", "output": said.splitlines()[-20:]}
    outcome = {"exit_code": result.returncode, "output": result.stdout.splitlines()[-20:]}
    print("\n".join(outcome["output"]), flush=True)
    return outcome | ({"failed": "see output"} if result.returncode else {})


# -- correctness and memory ------------------------------------------------------------------------


def tests(deadline: float, out: Path) -> dict[str, Any]:
    """Run the tests marked gpu."""
    require("pytest", "hypothesis")
    return run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-rs"], deadline, most=150)


def sanitizer(deadline: float, out: Path) -> dict[str, Any]:
    """Run every operation and the tests of single kernels under memcheck and racecheck."""
    require("pytest", "hypothesis")
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        raise Missing("compute-sanitizer, from the CUDA toolkit")
    words = ["-q", "-x", "-m", "gpu", "-k", "agrees_with_the_cpu or device", "tests"]
    operations = [sys.executable, "-m", "pytest", "--hypothesis-profile", "brief", *words]
    checks = {
        check: run([tool, "--tool", check, "--error-exitcode", "9", *operations], deadline, most=70)
        for check in ("memcheck", "racecheck")
    }
    unclean = [check for check, outcome in checks.items() if "failed" in outcome]
    return checks | ({"failed": " and ".join(unclean)} if unclean else {})


def memory(deadline: float, out: Path) -> dict[str, Any]:
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
    outcome: dict[str, Any] = {}
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
        outcome[name] = {"steps": 1000 * len(used), "bytes_after_each_1000": used}
        if any(used[-1][where] > used[0][where] for where in used[0]):
            outcome["failed"] = f"memory has grown: steps {name}"
    return outcome


def mnist(deadline: float, out: Path) -> dict[str, Any]:
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
    return outcome | {"runs_made": len(runs), "results": str(file)}


PARTS = {
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
