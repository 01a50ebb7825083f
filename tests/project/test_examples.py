"""The examples run, and print what they promise."""

import re
import subprocess
import sys

import pytest
from source_tree import ROOT

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def output(name: str) -> str:
    return subprocess.check_output([sys.executable, ROOT / "examples" / name], text=True)


def test_each_has_a_test_here() -> None:
    assert [
        *("order.py", "sklearn_grid_search.py", "tabular_regression.py", "train_digits.py"),
    ] == EXAMPLES


def test_train_digits() -> None:
    pytest.importorskip("sklearn")
    accuracies = re.findall(r"test accuracy ([\d.]+)%", output("train_digits.py"))
    assert len(accuracies) == 20
    assert float(accuracies[-1]) > 90


def test_tabular_regression() -> None:
    pytest.importorskip("sklearn")
    text = output("tabular_regression.py")
    stopped, best = map(int, re.findall(r"after (\d+) epochs, the best was epoch (\d+)", text)[0])
    assert text.count("\nepoch ") == stopped == best + 15 < 200
    assert float(re.findall(r"test R² ([\d.]+)", text)[0]) > 0.3


def test_sklearn_grid_search() -> None:
    pytest.importorskip("sklearn", minversion="1.6")
    text = output("sklearn_grid_search.py")
    scores = re.findall(r"cross-validated accuracy ([\d.]+)%", text)
    assert len(scores) == 4
    assert float(re.findall(r"of the best ([\d.]+)%", text)[0]) > 90


def test_order() -> None:
    lines = [line.split() for line in output("order.py").splitlines()[2:]]
    assert len(lines) == 6
    _, gradient, factorized, extrapolated, *errors = zip(*[map(float, line) for line in lines])
    # Halving Δ divides the errors by 2, 4 and 16; printed to two digits.
    for distances, factor in ((gradient, 2), (factorized, 4), (extrapolated, 16)):
        assert distances[-2] / distances[-1] == pytest.approx(factor, rel=0.15)
    assert max(map(max, errors)) < 1e-14
