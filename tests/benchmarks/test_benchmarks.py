"""The benchmarks: what they compute from timings, how they set threads, and how they resume."""

import importlib.util
import json
import math
import subprocess
import sys
import threading
import time
from itertools import cycle
from pathlib import Path

import accuracy
import dense
import dense_report
import dense_step
import engine_lines
import first_use
import floor
import libraries
import pytest
import race
import time_to_loss
import trace_calls
from source_tree import ROOT


def test_threads_can_be_set_before_a_blas_is_loaded() -> None:
    # A loaded BLAS has its threads, and ignores later changes of the environment.
    script = "import race, sys; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT / "benchmarks", check=True)


def test_a_library_with_other_threads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = [{"filepath": "blas.so", "num_threads": 2}]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: libraries)
    race.refuse_other_threads(2)
    with pytest.raises(SystemExit, match=r"blas.so has 2 threads, not 1"):
        race.refuse_other_threads(1)


def test_a_race_is_planned_by_the_time_it_has() -> None:
    assert race.plan({"": lambda: None}, seconds=1) == (15, 10)
    assert race.plan({"": lambda: time.sleep(0.02)}, seconds=0.04) == (7, 1)


def test_ratios_are_taken_within_a_round() -> None:
    seconds = {"a": [1.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]}
    assert race.ratios(seconds, [("a", "b"), ("a", "absent")]) == {"a / b": [2.0, 1.5, 2.5]}


def test_a_turn_waits_for_threads_that_still_compute() -> None:
    end = time.perf_counter() + 0.1

    def compute() -> None:
        while time.perf_counter() < end:
            pass

    thread = threading.Thread(target=compute)
    thread.start()
    race.settle()
    assert time.perf_counter() > end
    thread.join()


def test_pairs_of_steps_are_timed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "settle", lambda: None)
    pauses = cycle((0.002, 0.006))
    contestants = {"every second": lambda: time.sleep(next(pauses))}
    times = dense_step.race_pairs(contestants, seconds=0.1, clock=time.perf_counter)
    assert 0.004 <= min(times["every second"]) < 0.007


def test_contestants_must_begin_with_the_same_loss() -> None:
    steps = {"a": lambda: 2.3, "b": lambda: 2.30001, "floor": lambda: None}
    dense_step.refuse_other_losses(steps)
    with pytest.raises(SystemExit, match=r"'c': 2\.4"):
        dense_step.refuse_other_losses(steps | {"c": lambda: 2.4})


def test_the_bytes_of_a_step_are_those_counted_by_hand() -> None:
    # 5 examples of 3 numbers, 2 hidden units, 1 logit: 11 parameters.
    parameters = 6 + 2 + 2 + 1
    forward = (15 + 8 + 10) + (10 + 3 + 5)
    back = (10 + 15 + 8) + (5 + 10 + 2 + 3 + 10)
    plain = forward + (5 + 5) + back
    at_the_end = (15 + 2 * 8 + 10) + (10 + 2 * 3 + 5)
    averages = (10 + 2 * 15 + 8) + (5 + 2 * 10 + 2 * 2 + 3 + 10)
    measured = plain + 4 * parameters + at_the_end + (5 + 5 + 5) + averages + 5 * parameters
    unmeasured = plain + 6 * parameters
    assert floor.step_bytes([(2, 3), (1, 2)], examples=5) == {
        "RMSprop": 4 * (plain + 5 * parameters),
        "Adam": 4 * (plain + 7 * parameters),
        "average gradient on RMSprop": 4 * measured,
        "average gradient every 2": 4 * (measured + parameters + unmeasured) // 2,
    }


# -- the whole race --------------------------------------------------------------------------------


def test_cells_of_the_whole_race() -> None:
    cells = list(dense.cells(dense.parse(["--out", "folder"])))
    assert len(cells) == len({cell.file for cell in cells}) == 2 * (4 * 3 + 3)
    assert {cell.width for cell in cells if cell.activation == "relu"} == {64}
    compiled = {(cell.width, cell.batch_size) for cell in cells if cell.compiled}
    assert compiled == {(64, 32), (64, 128), (64, 512), (512, 128)}


def test_an_interrupted_race_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        commands.append(command)
        if "--out" in command:
            if len(commands) == 2:
                raise KeyboardInterrupt
            Path(command[command.index("--out") + 1]).touch()

    words = ["dense.py", "--widths", "64", "--threads", "1", "--activations", "tanh"]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path)])
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(KeyboardInterrupt):
        dense.main()
    dense.main()
    batches = [c[c.index("--batch-size") + 1] for c in commands if "--batch-size" in c]
    assert batches == ["32", "128", "128", "512"]
    assert all("--compile" in command for command in commands[:-1])
    assert commands[-1] == [
        sys.executable,
        str(ROOT / "benchmarks" / "dense_report.py"),
        str(tmp_path),
    ]


def write_cell(folder: Path, activation: str, width: int, scale: float) -> None:
    names = [*dense_report.STYLES, *dense_report.TIMES.values()]
    names += ["Bytes alone", "agrad Adam, captured", "PyTorch Adam"]
    seconds = {name: [1e-3 * scale] * 3 for name in names if name != "PyTorch RMSprop, compiled"}
    content = {
        "options": {"activation": activation, "threads": 1, "batch_size": 128, "width": width},
        "seconds_per_step_by_round": seconds | {"PyTorch RMSprop": [4e-3 * scale] * 3},
        "bytes_that_must_move": floor.step_bytes([(width, 784), (10, width)], 128),
    }
    (folder / f"{activation}-{width}-batch-128-threads-1.json").write_text(json.dumps(content))


def test_the_report_of_a_race(tmp_path: Path) -> None:
    for activation, width in (("relu", 64), ("tanh", 512), ("tanh", 64)):
        write_cell(tmp_path, activation, width, width / 64)
    cells = dense_report.load(tmp_path)
    assert [(cell.activation, cell.width) for cell in cells] == [
        ("tanh", 64),
        ("tanh", 512),
        ("relu", 64),
    ]
    lines = dense_report.page(cells).splitlines()
    assert "| tanh | 1 | 128 | 512 | 32 | 8 |  | 8 | 8 | 8 | 8 | 8 | 8 | 8 |" in lines
    ratios = [line for line in lines if line.startswith("| tanh | 1 | 128 | 64 | 0.25 (0.25 to")]
    assert len(ratios) == 1
    assert cells[0].ratio("PyTorch RMSprop, compiled", "PyTorch RMSprop") is None
    # Products and copy take 1 ms each: a plain step of 1 ms takes half of their sum.
    assert any("| 1 (1.00) | 2 (0.50) |" in line for line in lines)


def test_the_figure_of_a_race_is_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cell(tmp_path, "tanh", 64, 1.0)
    monkeypatch.setattr(sys, "argv", ["dense_report.py", str(tmp_path)])
    pictures = []
    for _ in range(2):
        dense_report.main()
        pictures.append((tmp_path / "times.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_a_report_without_files(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no files of cells"):
        dense_report.load(tmp_path)


# -- time to a loss --------------------------------------------------------------------------------


def run_of(losses: list[float]) -> time_to_loss.Run:
    remaining = iter(losses)
    return time_to_loss.Run(lambda images, labels: next(remaining), cycle([(None, None)]))


def test_a_run_continues_until_it_arrives() -> None:
    run = run_of([3.0, 2.0, 1.0, 0.5])
    arrived = lambda losses: losses[-1:] == [1.0]  # noqa: E731
    run.advance(2, arrived)
    assert time_to_loss.arrival_of(run, arrived) == (math.inf, math.inf)
    for _ in range(2):
        run.advance(2, arrived)
    assert run.losses == [3.0, 2.0, 1.0]
    assert time_to_loss.arrival_of(run, arrived) == (3, sum(run.seconds))


def test_a_run_that_is_not_finite_makes_no_more_steps() -> None:
    run = run_of([3.0, math.nan])
    run.advance(4)
    assert run.losses == [3.0, math.inf, math.inf, math.inf]


def test_the_best_rate_has_the_lowest_median() -> None:
    losses = {"a": {1e-2: [0.1, math.inf, math.inf], 1e-3: [0.5, 0.4, 0.3]}}
    assert time_to_loss.best_rates(losses) == {"a": 1e-3}


def test_seconds_are_compared_within_a_seed() -> None:
    arrival, baseline = time_to_loss.Arrival, time_to_loss.BASELINE
    races = [
        {baseline: arrival(320, 1.0), "agrad": arrival(100, 0.5)},
        {baseline: arrival(310, 4.0), "agrad": arrival(200, 1.0)},
        {baseline: arrival(320, 1.0), "agrad": arrival(math.inf, math.inf)},
    ]
    found = time_to_loss.summary(races)["agrad"]
    assert found["iterations"] == [200, 100, math.inf]
    assert found["seconds over PyTorch RMSprop's"] == [0.5, 0.25, math.inf]
    assert time_to_loss.finite(found)["seconds"] == [1.0, 0.5, None]


# -- first use -------------------------------------------------------------------------------------


def test_the_slowest_imports() -> None:
    printed = """import time: self [us] | cumulative | imported package
import time:       120 |        120 |   agrad.core.context
import time:      3400 |      90000 | agrad
"""
    assert first_use.slowest(printed) == [("agrad", 3400), ("agrad.core.context", 120)]


# -- calls and moves -------------------------------------------------------------------------------


def test_moves_are_counted_between_files() -> None:
    files = ("tensor.py", "graph.py", "graph.py", "tensor.py")
    events = list(zip(("call", "call", "return", "return"), files))
    assert trace_calls.moves(events) == [("tensor.py", "graph.py"), ("graph.py", "tensor.py")]


def test_code_is_neither_blank_nor_docstring_nor_comment(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    text = """'''A module.

About it.
'''

# Why.
x = 1  # of this


def f():
    '''Return x.'''
    return x
"""
    file.write_text(text, encoding="utf-8")
    lines, code = engine_lines.lines_of(file)
    assert lines == {1, 3, 4, 6, 7, 10, 11, 12}
    assert code == {7, 10, 12}


def test_blank_lines_and_names_of_files_do_not_count() -> None:
    log = """commit 12 Add a line

diff --git a/a.py b/a.py
--- a/a.py
+++ b/a.py
@@ -1,2 +1,4 @@
 x = 1
-y = 1
+y = 2
+
+z = 3
commit 34 Remove it
--- a/a.py
+++ b/a.py
-z = 3
-
"""
    assert engine_lines.growth(log) == {"12 Add a line": 1, "34 Remove it": -1}


def test_only_files_of_agrad_are_traced() -> None:
    run = trace_calls.phases()
    for phase in run.values():
        phase()
    events = trace_calls.trace(run["forward"])
    files = {file for _, file in events}
    assert {file.partition("/")[0] for file in files} <= {"agrad", "kernels"}
    assert any("kernels/cpu/" in file for file in files)
    assert all((ROOT / file).is_file() for file in files)
    calls = sum(event == "call" for event, _ in events)
    assert 2 * calls == len(events) == len(trace_calls.trace(run["forward"]))


def test_the_errors_of_estimates() -> None:
    """Second and fourth order on a smooth network; no error in a single layer."""
    single, deep = (accuracy.Network("tanh", depth, seed=0) for depth in (1, 3))
    assert single.errors(0.1)["factorized"] < 1e-14
    long, short = deep.errors(0.1), deep.errors(0.05)
    powers = {name: math.log2(long[name] / short[name]) for name in long}
    expected = {"gradient": 1, "midpoint": 2, "trapezoid": 2, "factorized": 2, "extrapolated": 4}
    assert {name: round(power) for name, power in powers.items()} == expected
    assert accuracy.Network("relu", 1, seed=0).errors(0.003)["gradient"] < 0.01


def test_the_size_of_a_package_leaves_out_blank_lines_and_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("some/__init__.py", "a = 1\n\n   \nb = 2\n"),
        ("some/part/of.py", "# a comment\n"),
        ("some/part/data.txt", "x\n"),
        ("some/tests/test_of.py", "c = 3\n"),
        ("some/test_it.py", "c = 3\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert libraries.size_of("some") == 3


def test_the_libraries_train_the_same_network() -> None:
    installed = [name for name in libraries.STEPS if importlib.util.find_spec(name)]
    chosen = [name for name in installed if name in ("agrad", "torch", "autograd", "micrograd")]
    network = libraries.Network(**libraries.NETWORKS["tiny"])
    contestants = libraries.contestants_of(network, chosen)
    for _ in range(3):
        dense_step.refuse_other_losses(contestants)
    assert "micrograd" not in libraries.contestants_of(
        libraries.Network(2, 4, 3, outputs=2, batch=4), ["micrograd"]
    )
