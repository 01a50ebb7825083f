"""Trainings of the studies: their settings and their results."""

import math
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import agrad
from agrad.data import Batches
from agrad.errors import NonFiniteError
from agrad.gpu import cuda
from agrad.kernels.cpu.threads import blas_threads
from agrad.nn import Module
from agrad.optim import Optimizer
from agrad.study.data import DataSet, load_data
from agrad.study.measures import POINTS, curve, seconds_per_step
from agrad.study.methods import make_optimizer
from agrad.study.networks import make_network
from agrad.train import Step, evaluate, train

__all__ = ["TUNING", "Experiment", "Job", "Run", "load_once", "machine", "rounded"]

TUNING = 1000
"""The first of the seeds by which rates are chosen; scoring seeds count from 0."""

load_once = cache(load_data)


class Job(Protocol):
    """A frozen dataclass of settings that JSON can hold, with a method that computes a result."""

    @property
    def timed(self) -> bool:
        """Whether the result holds seconds, so that the job must have the machine to itself."""

    def result(self) -> dict[str, Any]:
        """Run the job and return its result, which JSON can hold; infinity is allowed."""


@dataclass(frozen=True)
class Run:
    """The results of one training run.

    `train_loss` has the mean loss of each mini-batch before its step. It is infinite from the first
    iteration whose loss was not finite. `test_loss` and `test_accuracy` have an entry for each
    evaluation. `seconds` counts training alone; for `seconds_per_iteration` see
    `agrad.study.measures.seconds_per_step`.
    """

    experiment: "Experiment"
    train_loss: list[float]
    test_loss: list[float]
    test_accuracy: list[float]
    seconds: float
    seconds_per_iteration: float
    optimizer_state_bytes: int


@dataclass(frozen=True)
class Experiment:
    """The settings of one training run; equal seeds give equal initial weights and batches.

    `network` is one of `agrad.study.networks.KINDS`. The test set is evaluated `evaluations` times,
    at equal distances, the last time at the end.
    """

    data: str
    activation: str
    method: str
    lr: float
    seed: int
    iterations: int = 320
    batch_size: int = 128
    network: str = "dense"
    depth: int = 30
    width: int = 64
    init: str | None = None
    evaluations: int = 1
    device: str = "cpu"

    timed = False

    @property
    def model(self) -> str:
        """The name of the network in reports."""
        return f"{self.activation} {self.depth}x{self.width}"

    def begin(self, data: DataSet) -> tuple[Module, Optimizer, Iterator[Step]]:
        """Return the untrained network, its optimizer, and the steps, which train it when taken.

        Args:
            data: The data set, on the experiment's device.
        """
        agrad.seed(self.seed)
        options = {"depth": self.depth, "width": self.width, "activation": self.activation}
        model = make_network(self.network, data, init=self.init, **options).to(self.device)
        optimizer = make_optimizer(self.method, model.parameters(), self.lr)
        batches = Batches(*data.train, batch_size=self.batch_size, seed=self.seed, drop_last=True)
        return model, optimizer, train(model, optimizer, batches, self.iterations, capture=True)

    def run(self, data: DataSet, on_step: Callable[[Step], object] = lambda step: None) -> Run:
        """Train and evaluate a network; a loss that is not finite ends the training early.

        Args:
            data: The data set.
            on_step: Called with each step.
        """
        data = data.to(self.device)
        model, optimizer, steps = self.begin(data)
        stops = {self.iterations * (i + 1) // self.evaluations for i in range(self.evaluations)}
        losses: list[float] = []
        seconds: list[float] = []
        tests = []
        try:
            for step in steps:
                losses.append(step.loss)
                seconds.append(step.seconds)
                on_step(step)
                if len(losses) in stops:
                    tests.append(evaluate(model, *data.test))
        except NonFiniteError:
            losses += [math.inf] * (self.iterations - len(losses))
            tests += [evaluate(model, *data.test)] * (self.evaluations - len(tests))
        return Run(
            experiment=self,
            train_loss=rounded(losses),
            test_loss=rounded([test.loss for test in tests]),
            test_accuracy=rounded([test.accuracy for test in tests]),
            seconds=sum(seconds),
            seconds_per_iteration=seconds_per_step(seconds) if seconds else 0.0,
            optimizer_state_bytes=optimizer.state_bytes,
        )

    def result(self) -> dict[str, Any]:
        """Return the curve of the training loss (see `curve`) and the tests.

        The curve of a tuning seed is its last point alone, since only that chooses a rate.
        """
        data = load_once(self.data)
        run = self.run(data)
        return {
            "curve": curve(run.train_loss, POINTS if self.seed < TUNING else 1),
            "chance": rounded([math.log(data.classes)])[0],
            "test_loss": run.test_loss,
            "test_accuracy": run.test_accuracy,
        }


def rounded(values: list[float], digits: int = 5) -> list[float]:
    """Return the values rounded to `digits` significant digits; NaN becomes infinity."""
    return [float(f"{v:.{digits}g}") if not math.isnan(v) else math.inf for v in values]


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the facts about the machine that matter for timings.

    Args:
        device: The device that was used.

    Returns:
        The processor, its cores, the number of BLAS threads, the system, the versions of Python,
        NumPy and agrad, and the GPU if `device` is one.
    """
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
        names = [line for line in text.splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": blas_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "agrad": agrad.__version__,
        **({} if device == "cpu" else {"gpu": cuda.gpus()[cuda.number_of(device)].name}),
    }
