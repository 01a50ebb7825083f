"""The examples run, and print what they promise."""

import ast
import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from source_tree import ROOT

import agrad as ag
import agrad.nn.functional as F

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def output(name: str, *options: str) -> str:
    """Return what an example prints, run as a script in this process, whose imports it shares."""
    path = str(ROOT / "examples" / name)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [path, *options])
        runpy.run_path(path, run_name="__main__")
    return printed.getvalue()


def test_each_has_a_test_here() -> None:
    assert EXAMPLES == [
        "char_transformer.py",
        "cnn_augmentation.py",
        "finetune.py",
        "imdb_lstm.py",
        "order.py",
        "physics_informed.py",
        "sklearn_grid_search.py",
        "tabular_regression.py",
        "tiny.py",
        "train_digits.py",
        "vae.py",
    ]


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


def test_finetune() -> None:
    pytest.importorskip("sklearn")
    text = output("finetune.py", "--epochs", "6")
    accuracies = re.findall(r"digits \d to \d: test accuracy ([\d.]+)%", text)
    assert len(accuracies) == 2
    assert min(map(float, accuracies)) > 85
    assert "16,933 parameters, 16,773 trainable" in text
    assert text.endswith("the convolution is unchanged\n")


def test_cnn_augmentation() -> None:
    pytest.importorskip("sklearn")
    short = ("--data", "digits", "--examples", "400", "--epochs", "8")
    found = re.findall(
        r"(\w+) augmentation: .* accuracy ([\d.]+)%", output("cnn_augmentation.py", *short)
    )
    assert [name for name, _ in found] == ["without", "with"]
    assert min(float(accuracy) for _, accuracy in found) > 60


def test_vae() -> None:
    pytest.importorskip("sklearn")
    text = output("vae.py", "--epochs", "8")
    losses = [float(loss) for loss in re.findall(r"\nepoch \d/8  loss ([\d.]+)", "\n" + text)]
    assert len(losses) == 8
    assert float(re.findall(r"at most ([\d.]+) nats", text)[0]) < 28 < losses[0]
    drawn = text.splitlines()[-8:]
    assert {len(line) for line in drawn} == {6 * 16 + 5 * 3}


def test_char_transformer() -> None:
    text = output("char_transformer.py", "--steps", "30", "--length", "16")
    loss, guess = map(float, re.findall(r"loss ([\d.]+), that of a guess ([\d.]+)", text)[0])
    assert 2 < loss < guess < 4
    written = text.partition(f"guess {guess:.3f}\n")[2]
    start = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")[:20]
    assert written.startswith(start)
    assert len(written) == 20 + 200 + 1


def test_imdb_lstm(data_path: Path) -> None:
    text = output("imdb_lstm.py", "--reviews", "300", "--words", "30", "--epochs", "1")
    assert text.count("validation accuracy") == 1
    loss, accuracy = map(float, re.findall(r"test loss ([\d.]+), test acc\w+ ([\d.]+)%", text)[0])
    # Five steps do not learn: the loss of a guess is 0.693.
    assert 0.6 < loss < 0.75
    assert 40 < accuracy < 70


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


# -- the scalar engine -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        return __import__("tiny")


def test_the_idea_takes_sixty_lines() -> None:
    """Lines of code up to the printed example, without docstrings, comments or blank lines."""
    source = (
        (ROOT / "examples" / "tiny.py").read_text(encoding="utf-8").partition("\nif __name__")[0]
    )
    docstrings = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    described = {n for node in docstrings for n in range(node.lineno, (node.end_lineno or 0) + 1)}
    code = [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if number not in described and line.strip() and not line.lstrip().startswith("#")
    ]
    assert len(code) <= 60


def test_the_ledger_of_a_product() -> None:
    header, *rows = [re.split(r" {2,}", line) for line in output("tiny.py").splitlines()]
    assert header == ["node", "x⁰", "x¹", "δ", "J", "J̄", "λ", "λδ"]
    assert [row[0] for row in rows] == ["w₁", "w₂", "h = w₁²", "y = hw₂"]
    w1, w2, h, y = [float(row[-1]) for row in rows]
    assert (w1, w2, h, y) == (6, 5, 6, 11)
    assert w1 + w2 == y  # the leaves' column sums to the root's
    assert (w1 + w2) + h == h + y  # what goes into the inner nodes is what comes out of them
    assert rows[-1][4:6] == ["1, 1", "2, 2.5"]


@st.composite
def graphs(draw: Any) -> tuple[list[tuple[float, float]], list[tuple[str, int, int]]]:
    """Draw leaves with their updates, and instructions with the places of their operands."""
    numbers = st.floats(-2, 2, width=32)
    leaves = draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3))
    steps = []
    for count in range(len(leaves), len(leaves) + draw(st.integers(1, 8))):
        operands = [draw(st.integers(0, count - 1)) for _ in range(2)]
        steps.append((draw(st.sampled_from(["add", "mul", "tanh", "relu"])), *operands))
    return leaves, steps


@settings(max_examples=100)
@example(([(1.0, 1.0), (1.0, 2.0)], [("mul", 0, 0), ("mul", 2, 1)]))
@example(([(0.0, 0.0)], [("relu", 0, 0), ("tanh", 1, 0)]))
@given(graph=graphs())
def test_the_scalar_engine_is_agrad(tiny: Any, graph: Any) -> None:
    leaves, steps = graph
    functions = {
        "add": (lambda x, y: x + y, lambda x, y: x + y),
        "mul": (lambda x, y: x * y, lambda x, y: x * y),
        "tanh": (lambda x, y: x.tanh(), lambda x, y: ag.tanh(x)),
        "relu": (lambda x, y: x.relu(), lambda x, y: F.relu(x)),
    }
    ours = [tiny.Value(start, start + delta) for start, delta in leaves]
    theirs = [ag.tensor(np.array(start), requires_grad=True) for start, _ in leaves]
    updates = {leaf: delta for leaf, (_, delta) in zip(list(theirs), leaves, strict=True)}
    for name, i, k in steps:
        one, other = functions[name]
        ours.append(one(ours[i], ours[k]))
        theirs.append(other(theirs[i], theirs[k]))
    assume(max(abs(value.start) + abs(value.end) for value in ours) < 1e3)
    order = tiny.sweep(ours[-1])
    used = {leaf: delta for i, (leaf, delta) in enumerate(updates.items()) if ours[i] in order}
    end = theirs[-1].average_backward(used)
    scale = 1 + max(abs(value.grad) for value in order)
    assert (ours[-1].start, ours[-1].end) == pytest.approx((theirs[-1].item(), float(end)), 1e-12)
    for value, leaf in zip(ours, updates):
        if leaf in used:
            assert value.grad == pytest.approx(float(leaf.average_grad), abs=1e-11 * scale)
    change = sum(v.grad * (v.end - v.start) for v in order if not v.inputs)
    assert change == pytest.approx(ours[-1].end - ours[-1].start, abs=1e-11 * scale)
