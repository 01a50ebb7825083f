"""The examples run, and print what they promise."""

import re
import subprocess
import sys

import pytest
from source_tree import ROOT

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def output(name: str, *options: str) -> str:
    return subprocess.check_output([sys.executable, ROOT / "examples" / name, *options], text=True)


def test_each_has_a_test_here() -> None:
    assert EXAMPLES == ["order.py", "physics_informed.py", "train_digits.py"]


def test_train_digits() -> None:
    pytest.importorskip("sklearn")
    accuracies = re.findall(r"test accuracy ([\d.]+)%", output("train_digits.py"))
    assert len(accuracies) == 20
    assert float(accuracies[-1]) > 90


def test_order() -> None:
    lines = [line.split() for line in output("order.py").splitlines()[2:]]
    assert len(lines) == 6
    _, gradient, factorized, extrapolated, *errors = zip(*[map(float, line) for line in lines])
    # Halving Δ divides the errors by 2, 4 and 16; printed to two digits.
    for distances, factor in ((gradient, 2), (factorized, 4), (extrapolated, 16)):
        assert distances[-2] / distances[-1] == pytest.approx(factor, rel=0.15)
    assert max(map(max, errors)) < 1e-14


def test_physics_informed() -> None:
    *steps, last = output("physics_informed.py", "--steps", "400").splitlines()
    assert len(steps) == 10
    residuals = [float(line.split()[3]) for line in steps]
    assert residuals[-1] < residuals[0] / 2
    # The whole training comes to 3e-3; without the differential equation, u = 1 errs by 1.7.
    assert float(last.split()[-1]) < 0.6
