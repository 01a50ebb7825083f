"""The calls of benchmarks/gpu.py: kernels run on NumPy's arrays, steps on the stand-in."""

from typing import Any

import fake_cupy
import gpu_speed
import numpy as np
import pytest
from agrad.kernels import cpu


@pytest.fixture
def x(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(gpu_speed, "_normal", lambda n: rng.normal(size=n).astype(np.float32))
    return np.ones(64 * 64, np.float32)


def test_every_kernel_that_is_timed_runs(x: np.ndarray) -> None:
    names = set()
    with np.errstate(all="ignore"):
        for name, arrays, call in gpu_speed._hot_kernels(x):
            call()
            assert arrays >= 1
            assert name not in names
            names.add(name)
    assert {"tanh backward_biased", "cross_entropy", "rmsprop"} <= names


def kernels_of(module: Any) -> set[str]:
    """Return the names of a module's functions and of its activations' methods."""
    found = set()
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value):
            found.add(name)
        else:
            found |= {f"{name} {method}" for method in dir(value) if method[0] != "_"}
    return found


LAYERS = ["activation", "dense", "gelu", "logistic", "normalization", "softmax"]


@pytest.mark.parametrize("module", LAYERS)
def test_every_kernel_of_a_layer_is_timed(module: str, x: np.ndarray) -> None:
    timed = {name for name, *_ in gpu_speed._hot_kernels(x)}
    # `first_outside` looks only at labels.
    assert kernels_of(getattr(cpu, module)) <= timed | {"first_outside"}


def test_agrads_steps_run_as_graphs() -> None:
    with fake_cupy.installed():
        steps = gpu_speed._own_steps(8, *gpu_speed.make_batch(4, 784, 10))
        for step in steps.values():
            step()
    assert list(steps) == [
        "agrad RMSprop",
        "agrad RMSprop, graph",
        "agrad average gradient",
        "agrad average gradient, graph",
    ]


def test_every_ratio_is_of_contestants() -> None:
    with fake_cupy.installed():
        known = {*gpu_speed._own_steps(8, *gpu_speed.make_batch(4, 784, 10)), "PyTorch RMSprop"}
    known.add("PyTorch RMSprop, graph")
    assert {name for pair in gpu_speed._PAIRS for name in pair} <= known
