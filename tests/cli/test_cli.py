"""The command line: arguments, files, exit codes and interrupts."""

import gzip
import json
import math
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import agrad as ag
from agrad.checkpoint import Checkpoints
from agrad.data import digits
from agrad.errors import FolderInUseError
from agrad.locking import locked
from agrad.study.networks import dense_network
from agrad.study.results import Results, Settings
from agrad.study.runs import Experiment
from agrad.train import evaluate

pytest.importorskip("click")

from command_line import MAIN, fail, invoke, lines, needs_signals, one_line, run, start, wait_for
from rich.console import Console

from agrad.cli import interrupt, progress, study, train
from agrad.cli.output import require_writable
from agrad.study.claims import CLAIMS
from agrad.study.designs import Trainings
from agrad.train import Step

TINY = ("--depth", "1", "--width", "8", "--iterations", "3")
STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name != "nt" else [])]
FILES = ["checkpoints", "loss.png", "metrics.jsonl", "settings.json", "weights.safetensors"]


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["demo"], ["train"], ["study"]])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(words, option):
    result = invoke(*words, option)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert "..." not in result.output.partition("Commands:")[2], "a summary was cut off"
    assert max(map(len, result.output.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demos"], "demo"),
        (["demo", "--iterations", "0"], "--iterations"),
        (["train"], "--out"),
        (["train", "--out", "x", "--depth", "-1"], "--depth"),
        (["train", "--out", "x", "--width", "0"], "--width"),
        (["train", "--out", "x", "--batch-size", "0"], "--batch-size"),
        (["train", "--out", "x", "--iterations", "0"], "--iterations"),
        (["train", "--out", "x", "--epochs", "0"], "--epochs"),
        (["train", "--out", "x", "--seed", "-1"], "--seed"),
        (["train", "--out", "x", "--momentum", "1"], "--momentum"),
        (["train", "--out", "x", "--data", "cifar"], "--data"),
        (["train", "--out", "x", "--data", "imdb"], "--data imdb needs --model conv"),
        (["train", "--out", "x", "--activation", "sine"], "--activation"),
        (["train", "--out", "x", "--init", "ones"], "--init"),
        (["train", "--out", "x", "--optimizer", "lion"], "--optimizer"),
        (["train", "--out", "x", "--lr", "fast"], "'fast' is neither a positive number nor auto"),
        (["train", "--out", "x", "--lr", "0"], "--lr"),
        (["train", "--out", "x", "--lr", "nan"], "--lr"),
        (["train", "--out", "x", "--lr", "inf"], "--lr"),
        (["train", "--out", "x", "--no-average"], "--no-average needs a learning rate"),
        (
            ["train", "--out", "x", "--cautious", "--optimizer", "sgd"],
            "--cautious with --optimizer sgd needs --momentum",
        ),
        (["train", "--out", "x", "--no-average", "--lr", "auto"], "--no-average needs"),
        (["train", "--out", "x", "--momentum", "0.9"], "--momentum cannot be combined with"),
        (["train", "--out", "x", "--iterations", "1", "--epochs", "1"], "exclude each other"),
        (["train", "--out", "x", "--no-average", "--momentum", "0.9"], "adam; --no-average needs"),
        (["train", "--no-average"], "FOLDER or --resume FOLDER; --no-average needs a learning"),
        (["study", "3"], "--out"),
        (["study", "--out", "x"], "CLAIM"),
        (["study", "13", "--out", "x"], "'13' is not one of"),
        (["study", "3", "--out", "x", "--workers", "0"], "--workers"),
        (["study", "3", "--out", "x", "--seeds", "0"], "--seeds"),
    ],
)
def test_wrong_words(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_the_version_and_the_module():
    result = subprocess.run(
        [sys.executable, "-m", "agrad", "--version"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout == f"agrad, version {ag.__version__}\n"


def test_wrong_words_end_a_process_with_2():
    result = run("train")
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: ")


def test_the_help_marks_what_is_required():
    help = " ".join(invoke("train", "--help").output.split())
    assert "[required, unless --resume is given]" in help
    assert "[required]" in invoke("study", "--help").output


# -- train -----------------------------------------------------------------------------------------


def test_train_leaves_everything_in_its_folder(tmp_path):
    out = tmp_path / "a" / "run"
    result = invoke("train", *TINY, "--seed", "5", "--out", out)
    assert result.exit_code == 0, result.output
    assert "iteration 3/3" in result.output
    assert "examples/s" in result.output
    assert f"Settings, metrics, weights, plot and checkpoints: {out}" in result.output
    assert sorted(path.name for path in out.iterdir()) == FILES

    settings = json.loads((out / "settings.json").read_text())
    assert settings["seed"] == 5
    assert settings["lr"] == "auto"
    assert settings["iterations"] == 3
    assert (settings["probe"], settings["decay"]) == (64, 0.4)
    *steps, test = map(json.loads, lines(out / "metrics.jsonl"))
    assert [step["iteration"] for step in steps] == [1, 2, 3]
    for step in steps:
        assert step.keys() == {"iteration", "loss", "seconds", "rate", "fraction", "cuts"}
        assert 0 < step["rate"] < 1
        assert 0 <= step["fraction"] <= 1
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")

    model = dense_network(64, 10, depth=1, width=8)
    model.load_state_dict(ag.load(out / "weights.safetensors"))
    found = evaluate(model, *digits("test"))
    assert found.loss == test["test_loss"]
    assert found.accuracy == test["test_accuracy"]


def test_train_with_every_option(tmp_path):
    out = tmp_path / "run"
    words = "--data digits --depth 2 --width 7 --activation selu --init orthogonal --seed 1"
    words += " --optimizer muon --no-average --lr 0.01 --momentum 0.5 --batch-size 500 --epochs 2"
    words += " --probe 16 --decay 0.25 --cautious"
    assert invoke("train", *words.split(), "--out", out).exit_code == 0
    settings = json.loads((out / "settings.json").read_text())
    settings.pop("machine")
    assert settings == {
        "data": "digits",
        "model": "dense",
        "depth": 2,
        "width": 7,
        "activation": "selu",
        "init": "orthogonal",
        "optimizer": "muon",
        "average": False,
        "lr": 0.01,
        "probe": 16,
        "decay": 0.25,
        "momentum": 0.5,
        "cautious": True,
        "batch_size": 500,
        "iterations": 4,
        "epochs": 2,
        "device": "cpu",
        "seed": 1,
    }
    assert ag.load(out / "weights.safetensors")["1.weight"].shape == (7, 64)


def test_train_a_convolutional_network(tmp_path):
    out = tmp_path / "run"
    words = "--model conv --depth 3 --activation relu --iterations 2 --batch-size 20"
    assert invoke("train", *words.split(), "--out", out).exit_code == 0
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["model"], settings["depth"], settings["width"]) == ("conv", 3, 32)
    shapes = [array.shape for array in ag.load(out / "weights.safetensors").values()]
    assert (32, 32, 3, 3) in shapes
    assert (10, 32) in shapes


@pytest.mark.usefixtures("data_path")
def test_train_on_the_film_reviews(tmp_path):
    out = tmp_path / "run"
    words = "--data imdb --model conv --depth 4 --width 4 --iterations 2 --batch-size 20"
    assert invoke("train", *words.split(), "--out", out).exit_code == 0
    shapes = [array.shape for array in ag.load(out / "weights.safetensors").values()]
    assert (5000, 4) in shapes
    assert (2, 4) in shapes


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "rmsprop", "sgd"])
@pytest.mark.parametrize("rest", [[], ["--lr", "1e-3"], ["--no-average", "--lr", "1e-3"]])
def test_train_with_every_rule(optimizer, rest, tmp_path):
    result = invoke("train", *TINY, "--optimizer", optimizer, *rest, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output


def test_equal_seeds_give_equal_weights(tmp_path):
    words = ("train", *TINY)
    assert run(*words, "--out", tmp_path / "a").returncode == 0
    assert invoke(*words, "--out", tmp_path / "b").exit_code == 0
    assert invoke(*words, "--seed", 1, "--out", tmp_path / "c").exit_code == 0
    first, again, other = (
        (tmp_path / name / "weights.safetensors").read_bytes() for name in ("a", "b", "c")
    )
    assert first == again
    assert first != other


def test_a_lost_training_keeps_the_last_good_weights(tmp_path):
    out = tmp_path / "run"
    words = "--no-average --optimizer sgd --lr 1e30 --depth 2 --width 8 --activation relu"
    result = fail("train", *words.split(), "--out", out)
    assert one_line(result, "(iteration ", "lower the learning rate", str(out))
    assert sorted(path.name for path in out.iterdir()) == FILES
    steps = [json.loads(line) for line in lines(out / "metrics.jsonl")]
    assert f"(iteration {len(steps) + 1})" in result.stderr
    assert np.isfinite([step["loss"] for step in steps]).all()
    model = dense_network(64, 10, depth=2, width=8, activation="relu")
    model.load_state_dict(ag.load(out / "weights.safetensors"))
    assert np.isfinite(evaluate(model, *digits("test")).loss)


def test_weights_lost_in_the_last_step_are_not_kept(tmp_path):
    out = tmp_path / "run"
    words = "--no-average --optimizer sgd --lr 1e38 --activation relu --iterations 1 --depth 2"
    assert one_line(fail("train", *words.split(), "--out", out), "the test loss is")
    weights = ag.load(out / "weights.safetensors")
    ag.seed(0)
    expected = dense_network(64, 10, depth=2, activation="relu").state_dict()
    np.testing.assert_array_equal(weights["1.weight"], expected["1.weight"])


# -- what cannot be done ---------------------------------------------------------------------------


def test_a_folder_with_a_run_is_left_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "lo')  # as a killed run leaves it
    assert one_line(fail("train", *TINY, "--out", tmp_path), "already holds a run", "another --out")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("command", ["train", "study 3", "demo"])
def test_a_file_in_place_of_a_folder(command, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    words = ["--figure", out / "a.png"] if command == "demo" else ["--out", out]
    result = fail(*command.split(), *words)
    assert one_line(result, "cannot write to the folder", "choose another")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing stops root")
def test_a_folder_that_must_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    assert one_line(run("train", *TINY, "--out", tmp_path / "run"), "cannot write")


def test_too_large_a_batch(tmp_path):
    result = fail("train", "--batch-size", "5000", "--out", tmp_path / "run")
    assert one_line(result, "lower batch_size")


DAMAGED = {
    "empty": b"",
    "no gzip": b"no gzip",
    "no IDX": gzip.compress(b"no IDX"),
    "cut off": gzip.compress(b"\0\0\x08\x03" + bytes(10_000))[:-20],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("command", ["train --data mnist", "study 5"])
def test_a_damaged_data_file(command, content, tmp_path):
    path = tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    words = (*command.split(), "--out", tmp_path / "run")
    result = fail(*words, AGRAD_DATA=str(tmp_path / "data"))
    assert one_line(result, str(path), "damaged", "delete it")


@needs_signals
@pytest.mark.parametrize(
    "words",
    [
        ("train", "--data", "mnist"),
        ("train", "--data", "imdb", "--model", "conv"),
        ("study", "5"),
    ],
)
def test_a_pipe_in_place_of_a_data_file_is_refused(words, tmp_path):
    pipes = ("mnist/train-images-idx3-ubyte.gz", "imdb/aclImdb_v1.tar.gz")
    for path in (tmp_path / "data" / pipe for pipe in pipes):
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
    result = run(*words, "--out", tmp_path / "run", AGRAD_DATA=str(tmp_path / "data"))
    assert one_line(result, "Not a regular file", str(tmp_path / "data"))


@needs_signals
def test_a_pipe_in_place_of_a_results_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "results.json")
    result = run("study", "3", "--out", tmp_path)
    assert one_line(result, "Not a regular file", "results.json")


def test_two_studies_do_not_share_a_folder(tmp_path):
    with locked("study", tmp_path):
        result = run("study", "3", "--quick", "--out", tmp_path)
    assert one_line(result, "study: another run writes to", str(tmp_path))
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_folder_can_be_printed_in_any_encoding(encoding, tmp_path):
    out = tmp_path / ("é日本" if os.name == "nt" else "é日本\udcff")
    result = run("train", *TINY, "--out", out, PYTHONIOENCODING=encoding)
    assert result.returncode == 0, result.stderr
    assert (out / "weights.safetensors").exists()
    assert result.stderr == ""
    again = run("train", *TINY, "--out", out, PYTHONIOENCODING=encoding)
    assert one_line(again, "already holds a run")
    if encoding == "ascii":
        files = ("--figure", out / "demo.png", "--json", out / "demo.json")
        demo = run("demo", "--iterations", "2", *files, PYTHONIOENCODING=encoding)
        assert demo.returncode == 0, demo.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_no_control_character_of_a_path_reaches_the_terminal(tmp_path):
    characters = "\x1b\x07\x7f\x9b\n\r\u202e"
    out = tmp_path / f"a{characters}[31mb"
    escaped = "\\x1b\\x07\\x7f\\x9b"
    for words in (
        ("train", *TINY, "--out", out),
        ("train", "--resume", out / "missing"),
        ("demo", "--figure", out),
        ("doctor",),
    ):
        result = run(*words, AGRAD_DATA=str(out))
        printed = result.stdout + result.stderr
        assert not any(c in printed for c in characters.replace("\n", "")), (words, printed)
        assert escaped in printed, (words, printed)
    assert (out / "weights.safetensors").exists()


def test_a_command_to_resume_can_be_pasted_into_a_shell(tmp_path):
    out = tmp_path / "my run"
    process = start("train", "--depth", "1", "--iterations", "1000000", "--out", out)
    wait_for(lambda: len(lines(out / "metrics.jsonl")) > 2, process)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert f"agrad train --resume '{out}'" in output


def test_a_damaged_results_file(tmp_path):
    (tmp_path / "results.json").write_text('[{"study": "dense-dig')
    assert one_line(fail("study", "3", "--out", tmp_path), "results.json", "move it away")


PACKAGES = ["click", "matplotlib", "pooch", "rich", "sklearn"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package(package):
    code = f"import sys; sys.modules[{package!r}] = None\n"
    result = run("demo", code=code + MAIN)
    assert one_line(result, package, 'pip install "agrad[demo]"')


def test_optional_packages_are_imported_only_when_needed():
    code = f"import sys; sys.modules.update(dict.fromkeys({PACKAGES}))\n" + MAIN
    result = subprocess.run([sys.executable, "-c", code, "demo"], capture_output=True, text=True)
    assert one_line(result, *PACKAGES, 'pip install "agrad[demo]"')


# -- interrupts ------------------------------------------------------------------------------------


@needs_signals
@pytest.mark.parametrize("number", STOPPING)
def test_an_interrupted_training_saves_whole_steps(number, tmp_path):
    out = tmp_path / "run"
    words = ("--depth", "2", "--width", "8", "--batch-size", "16", "--decay", "0")
    process = start("train", *words, "--iterations", "1000000", "--out", out)
    wait_for(lambda: len(lines(out / "metrics.jsonl")) > 20, process)
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error.splitlines()[-1] == "agrad: interrupted"
    assert "Traceback" not in error
    assert sorted(path.name for path in out.iterdir()) == FILES
    steps = [json.loads(line) for line in lines(out / "metrics.jsonl")]
    go_on = f"to resume: agrad train --resume {out}"
    assert f"Stopped after iteration {len(steps)} of 1000000; {go_on}" in output

    whole = invoke("train", *words, "--iterations", len(steps), "--out", tmp_path / "whole")
    assert whole.exit_code == 0
    weights = "weights.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def require_whole(out, error=""):
    """Require a checkpoint of the last step in the metrics, and all other files of a run."""
    assert sorted(path.name for path in out.iterdir()) == FILES, error
    steps = lines(out / "metrics.jsonl")
    assert (out / "checkpoints" / f"{len(steps):08}.safetensors").exists(), error
    result = invoke("train", "--resume", out, "--iterations", len(steps) + 2)
    assert result.exit_code == 0, result.output


@needs_signals
@pytest.mark.parametrize("repeat", range(2))
def test_a_closed_terminal_loses_nothing(repeat, tmp_path):
    import pty

    out = tmp_path / "run"
    words = ("--depth", "2", "--width", "8", "--iterations", "1000000", "--out", out)
    terminal, its_end = pty.openpty()
    process = start("train", *words, terminal=its_end)
    os.close(its_end)
    try:
        while len(lines(out / "metrics.jsonl")) < 50 + 13 * repeat:
            os.read(terminal, 1 << 16)
    finally:
        os.close(terminal)  # the kernel sends SIGHUP, and no more can be written to it
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 128 + signal.SIGHUP
    require_whole(out)


@needs_signals
def test_an_ignored_hangup_stays_ignored(tmp_path):
    out = tmp_path / "run"
    words = ("train", "--depth", "1", "--iterations", "400", "--out", out)
    nohup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = start(*words, code=nohup + MAIN)
    wait_for(lambda: len(lines(out / "metrics.jsonl")) > 2, process)
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert len(lines(out / "metrics.jsonl")) == 401  # with the test at the end


@needs_signals
def test_a_pipe_that_nobody_reads_loses_nothing(tmp_path):
    out = tmp_path / "run"
    prelude = "from agrad.cli import progress; progress._SECONDS_BETWEEN_LINES = 0.0\n"
    words = ("train", "--depth", "2", "--width", "8", "--iterations", "1000000", "--out", str(out))
    process = start(*words, code=prelude + MAIN)
    assert process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        error = process.stderr.read()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE, error
    assert error.split() == ["agrad:", "interrupted"]
    require_whole(out, error)


def test_an_output_lost_at_the_end_of_an_epoch_keeps_its_validation(tmp_path, monkeypatch):
    def lost(console, line):
        raise interrupt.Interrupted(13)

    monkeypatch.setattr(progress, "say", lost)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", math.inf)
    words = ("--validation", "0.2", "--batch-size", "256", "--iterations", "4")  # an epoch
    assert invoke("train", *words, *TINY[:-2], "--out", tmp_path).exit_code == 1
    last = json.loads(lines(tmp_path / "metrics.jsonl")[-1])
    assert {"iteration", "validation_loss"} <= last.keys()
    state = ag.load(tmp_path / "checkpoints" / "00000004.safetensors")
    assert state["checkpoint"]["metrics"]["validations"] == [last]


@needs_signals
@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("moment", ["load_data", "make_network", "Checkpoints"])
def test_an_interrupt_before_the_first_step_leaves_no_folder(moment, number, tmp_path):
    """It comes while data are read, the network is made, or the folder is created."""
    prelude = f"""
import os, sys
from agrad.cli import main
import agrad.cli.train as train
do = train.{moment}
def do_and_interrupt(*words, **options):
    os.kill(os.getpid(), {int(number)})
    return do(*words, **options)
train.{moment} = do_and_interrupt
sys.exit(main())
"""
    result = run("train", *TINY, "--out", tmp_path / "a" / "run", code=prelude)
    assert result.returncode == 128 + number, result.stderr
    assert result.stderr.split() == ["agrad:", "interrupted"]
    assert not list(tmp_path.iterdir())


@needs_signals
@pytest.mark.parametrize("call", ["save_checkpoint", "write_json", "JSONLines"])
def test_an_interrupt_while_the_folder_is_begun_leaves_a_whole_run(call, tmp_path):
    prelude = f"""
import os, sys, signal
from agrad.cli import main, run_folder
owner = run_folder.RunFolder if {call!r} == "save_checkpoint" else run_folder
do = getattr(owner, {call!r})
def do_and_interrupt(*words, **options):
    setattr(owner, {call!r}, do)
    os.kill(os.getpid(), signal.SIGINT)
    return do(*words, **options)
setattr(owner, {call!r}, do_and_interrupt)
sys.exit(main())
"""
    out = tmp_path / "run"
    result = run("train", *TINY, "--out", out, code=prelude)
    assert result.returncode == 130, result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        name for name in FILES if "png" not in name
    ]
    assert "Stopped after iteration 0 of 3" in result.stdout
    assert json.loads((out / "settings.json").read_text())["iterations"] == 3
    assert invoke("train", "--resume", out).exit_code == 0


@pytest.mark.parametrize("early", [True, False])
def test_a_folder_in_which_another_run_starts_is_left_to_it(early, tmp_path, monkeypatch):
    """It starts before this one, or as soon as this one has found no folder."""
    out = tmp_path / "run"
    with ExitStack() as stack:

        def start_other():
            stack.enter_context(Checkpoints(out / "checkpoints"))

        def start_other_first(folder):
            start_other()
            require_writable(folder)

        if early:
            start_other()
        else:
            monkeypatch.setattr(train, "require_writable", start_other_first)
        assert one_line(fail("train", *TINY, "--out", out), "another run writes to")
        with pytest.raises(FolderInUseError):
            Checkpoints(out / "checkpoints")


def test_a_folder_that_was_there_before_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = fail("train", "--batch-size", "5000", "--out", tmp_path)
    assert one_line(result, "lower batch_size")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@needs_signals
def test_an_interrupted_demo_ends_in_one_line(tmp_path):
    process = start("demo", "--iterations", "150", "--figure", tmp_path / "demo.png")
    assert process.stdout.readline().startswith("RMSprop: iteration ")
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.split() == ["agrad:", "interrupted"]
    assert not list(tmp_path.iterdir())


def tiny(monkeypatch):
    """Replace claim 11 by a claim that takes a second."""
    cell = Experiment("digits", "tanh", "", 0.0, 0, 2, depth=2, width=8, evaluations=0)
    design = Trainings({"tiny": cell}, ("rmsprop", "average-rmsprop"), range(-6, -4), 1)
    monkeypatch.setitem(
        CLAIMS,
        "11",
        replace(CLAIMS["11"], design=lambda quick: design, findings=CLAIMS["3"].findings),
    )
    return design


def test_a_study_resumes_and_takes_more_seeds(tmp_path, monkeypatch):
    design = tiny(monkeypatch)
    path = tmp_path / "results.json"

    def study(*words):
        result = invoke("study", "11", *words, "--out", tmp_path)
        assert result.exit_code == 0, result.output
        return result.output

    first = study("--quick", "--seeds", "2")
    assert "claim 11, 1/4" in first
    assert "holds" not in first
    whole = Results.load(path)
    assert whole.settings == Settings(("11",), True, 2)
    assert not whole.missing(design.jobs(whole, 2))
    kept = replace(whole.settings), len(whole)
    assert f"holds {len(whole)} runs" in study("--quick", "--seeds", "1")
    assert (Results.load(path).settings, len(Results.load(path))) == kept
    study("--quick", "--seeds", "3")
    assert len(Results.load(path)) == len(whole) + 2
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        ".lock",
        "claim-11.png",
        "report.html",
        "results.json",
    ]
    result = invoke("study", "11", "--out", tmp_path)
    assert "choose another folder" in str(result.exception)


def test_without_dask_there_is_one_worker(tmp_path, monkeypatch):
    tiny(monkeypatch)
    monkeypatch.setattr("agrad.study.pool.find_spec", lambda name: None)
    words = ("study", "11", "--quick", "--seeds", "1", "--workers", "2", "--out", tmp_path)
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert 'One worker: more need pip install "agrad[cluster]"' in result.output


def test_every_claim_gets_a_few_seeds_before_any_gets_all():
    order = study._order(("3", "7"), 9)
    assert order == [("3", 5), ("7", 5), ("3", 9), ("7", 9)]
    assert study._order(("3",), 3) == [("3", 3)]


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("1", "mnist, tanh 2x32, estimates in batches of 32, seed 0"),
        ("12", "mnist, tanh 30x32, race in batches of 32, seed 0"),
        ("3", "mnist, tanh 30x32, rmsprop at 0.0003, seed 1000: 0.25"),
    ],
)
def test_a_study_says_what_it_has_run(claim, words):
    results = Results(Settings((claim,), True, 3))
    job = next(iter(CLAIMS[claim].design(True).jobs(results, 3)))
    assert study._described(job, {"curve": [1.0, 0.25]}) == words


@needs_signals
def test_an_interrupted_study_keeps_its_runs_and_resumes(tmp_path):
    process = start("study", "11", "--quick", "--out", tmp_path)
    results = tmp_path / "results.json"
    wait_for(results.exists, process)
    os.killpg(process.pid, signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, (output, error)
    assert error.split() == ["agrad:", "interrupted"]
    made = Results.load(results)
    assert 0 < len(made) < 112


# -- demo ------------------------------------------------------------------------------------------


def test_the_demo_ends_with_a_table_a_figure_and_json(tmp_path):
    figure, path = tmp_path / "demo.png", tmp_path / "demo.json"
    result = run("demo", "--iterations", "4", "--figure", figure, "--json", path, COLUMNS="80")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= 115
    assert figure.read_bytes().startswith(b"\x89PNG")
    methods = json.loads(path.read_text())["methods"]
    names = ["rmsprop", "adam", "average-adam", "average-adam-auto"]
    assert [row["method"] for row in methods] == names
    for row in methods:
        assert f"{row['final_train_loss']:.3f}" in result.stdout
        assert f"{row['test_accuracy']:.1%}" in result.stdout
        assert f"{row['optimizer_state_bytes']:,}" in result.stdout
    assert methods[0]["iterations_to_target"] == 4
    assert methods[0]["optimizer_state_bytes"] * 2 == methods[1]["optimizer_state_bytes"]


# -- interrupts and progress by themselves ---------------------------------------------------------


@needs_signals
def test_a_signal_waits_for_the_end_of_a_step_and_is_never_lost():
    before = signal.getsignal(signal.SIGINT)

    def one_between_checks():
        with interrupt.interrupts_between_steps() as check:
            check()
            signal.raise_signal(signal.SIGTERM)
            check()

    def one_after_the_last_check():
        with interrupt.interrupts_between_steps():
            signal.raise_signal(signal.SIGTERM)

    def two():
        with interrupt.interrupts_between_steps():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)

    for held in (one_between_checks, one_after_the_last_check):
        with pytest.raises(interrupt.Interrupted, match="SIGTERM"):
            held()
    with pytest.raises(interrupt.Interrupted, match="SIGINT"):
        two()
    assert signal.getsignal(signal.SIGINT) is before


def plain_step(iteration, loss, seconds, fraction=None, cuts=0):
    return Step(iteration, loss, seconds, 100, 1e-3, fraction, cuts)


def test_progress_of_steps_that_are_measured(capsys):
    console = Console(width=100)
    with progress.step_progress(console, "digits", 2) as show:
        show(plain_step(1, 3.0, 1.0, fraction=0.5, cuts=2))
        show(plain_step(2, 3.0, 0.5, fraction=0.25, cuts=1))
    shown = "loss 3.0000  rate 1.0e-03, 25% used, 3 cuts  200 examples/s  done"
    assert capsys.readouterr().out == f"digits: iteration 2/2  {shown}\n"


def test_progress_in_lines_counts_no_compilation(capsys):
    console = Console(width=100)
    with progress.step_progress(console, "digits", 3) as show:
        for step in (plain_step(1, 3.0, 60.0), plain_step(2, 2.0, 0.5), plain_step(3, 2.0, 0.5)):
            show(step)
    assert capsys.readouterr().out == ("digits: iteration 3/3  loss 2.8100  200 examples/s  done\n")


def test_progress_in_a_terminal():
    console = Console(force_terminal=True, width=80, record=True)
    with progress.step_progress(console, "digits", 400) as show:
        for i in range(1, 101):
            show(plain_step(i, 2.0, 0.5))
    (line,) = console.export_text().splitlines()[-1:]
    assert line.split()[0] == "digits"
    assert "100/400 loss 2.0000  200 examples/s  2 min 30 s left" in line


def test_folders_are_made_for_figures(tmp_path):
    path = Path(tmp_path, "a", "b", "demo.png")
    assert invoke("demo", "--iterations", "1", "--figure", path).exit_code == 0
    assert path.exists()
