"""Show where the time of a training step of the deep dense network goes.

    python benchmarks/profile_step.py --width 64 --method average --capture

First the script times the unchanged step by phases and counts its page faults: memory that went
back to the system after one step and returns in the next. Then it times every operation, fused
dense step and optimizer kernel of the same step separately, which adds overhead; the rest of each
phase is Python. Finally it times the floor: the matrix products of a plain step alone. All figures
are medians over the steps, in processor seconds of the main thread, which other programs hardly
affect. Needs the extra `demo`.
"""

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from agrad.kernels import cpu
from floor import gemm_steps
from threadpoolctl import threadpool_limits

import agrad
import agrad.nn.functional as F
from agrad import optim
from agrad.ops.operation import Operation
from agrad.study.networks import dense_network
from agrad.tracing.captured import Replay
from agrad.tracing.dense import DenseStep, StackStep


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--activation", choices=("tanh", "relu"), default="tanh")
    parser.add_argument("--method", choices=("plain", "average"), default="plain")
    parser.add_argument("--capture", action="store_true", help="replay a captured model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100)
    return parser.parse_args()


class Profile:
    """Samples by name, one per step: seconds, and numbers of page faults."""

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.inside: dict[str, float] = defaultdict(float)
        self.nested = False

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, timed under `name` unless another timed call runs it."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self.nested:
                return function(*arguments, **options)
            self.nested = True
            start = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self.inside[name] += time.thread_time() - start
                self.nested = False

        return call

    def run(self, phases: dict[str, Callable[[], None]], steps: int) -> None:
        """Run the phases for some steps, and keep the samples of each step."""
        self.samples.clear()
        for _ in range(steps):
            self.inside.clear()
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for name, phase in phases.items():
                before = sum(self.inside.values())
                start = time.thread_time()
                phase()
                seconds = time.thread_time() - start
                self.samples[name].append(seconds)
                python = seconds - (sum(self.inside.values()) - before)
                self.samples[f"{name}, Python"].append(python)
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
            self.samples["page faults"].append(faults)
            for name, seconds in self.inside.items():
                self.samples[f"  {name}"].append(seconds)

    def show(self, name: str, scale: float = 1e6) -> None:
        print(f"  {name:<42} {scale * np.median(self.samples[name]):8.0f}")


def watch(profile: Profile) -> None:
    """Time every operation except Replay, which runs others, and the optimizers' kernels."""
    kinds = [Operation]
    for kind in kinds:  # the loop extends the list
        kinds += [child for child in kind.__subclasses__() if child not in (*kinds, Replay)]
        for name in ("forward", "backward", "average_backward"):
            setattr(kind, name, profile.timed(f"{kind.__name__}.{name}", getattr(kind, name)))
    for step in DenseStep, StackStep:
        for name in ("run", "pull"):
            setattr(step, name, profile.timed(f"{step.__name__}.{name}", getattr(step, name)))
    for name, function in vars(cpu.optimizer).items():
        if hasattr(function, "__wrapped__"):
            setattr(cpu.optimizer, name, profile.timed(f"optimizer.{name}", function))


def step_phases(options: argparse.Namespace, model: Any, images: Any, labels: Any) -> dict:
    """Return the phases of a step, by name."""
    optimizer: Any = optim.RMSprop(model.parameters(), lr=1e-4, alpha=0.9)
    average = options.method == "average"
    if average:
        optimizer = optim.AverageGradient(optimizer)
    forward = agrad.capture(model) if options.capture else model
    loss = None

    def run_forward() -> None:
        nonlocal loss
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(images), labels)

    if average:
        # After a backward pass by the caller, `step` would sweep the graph once more.
        return {"forward": run_forward, "backward and optimizer": lambda: optimizer.step(loss)}
    return {
        "forward": run_forward,
        "backward": lambda: loss.backward(),
        "optimizer": lambda: optimizer.step(),
    }


def main() -> None:
    options = parse()
    threadpool_limits(options.threads)
    random = np.random.default_rng(0)
    images = random.random((options.batch_size, 784), dtype=np.float32)
    labels = random.integers(10, size=options.batch_size)
    agrad.seed(0)
    model = dense_network(
        784, 10, depth=options.depth, width=options.width, activation=options.activation
    )
    phases = step_phases(options, model, agrad.tensor(images), labels)
    profile = Profile()
    profile.run(phases, 20)
    profile.run(phases, options.steps)
    print("The unchanged step, µs:")
    for name in phases:
        profile.show(name)
    profile.show("page faults", scale=1)

    watch(profile)
    profile.run(phases, 20)
    profile.run(phases, options.steps)
    print("The step with each operation timed, µs:")
    names = [name for name in profile.samples if name.startswith("  ") or "Python" in name]
    for name in sorted(names, key=lambda name: -np.median(profile.samples[name])):
        if np.median(profile.samples[name]) > 5e-6:
            profile.show(name)

    products = gemm_steps([parameter.data for parameter in model.parameters()], images)
    profile.run(products, options.steps)
    print("A plain step's matrix products, µs:")
    profile.show("GEMMs alone")


if __name__ == "__main__":
    main()
