"""The command `agrad` run in this process or as one of its own, and what it left behind."""

import io
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest

pytest.importorskip("click")

from click.testing import CliRunner

from agrad.cli import app as cli

MAIN = "import sys; from agrad.cli import main; sys.exit(main())"

needs_signals = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


def invoke(*words):
    """The command in this process, for its words; exit codes are those of a real process."""
    return CliRunner().invoke(cli.app, list(map(str, words)))


def fail(*words, **environment):
    """The command in this process, with the message and the exit code of its failure."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.setattr(sys, "argv", ["agrad", *map(str, words)])
        for name, value in environment.items():
            patch.setenv(name, value)
        code = cli.run()
    return subprocess.CompletedProcess(words, code, out.getvalue(), error.getvalue())


def run(*words, code=MAIN, **environment):
    """The command as a process of its own."""
    process = start(*words, code=code, **environment)
    output, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, output, error)


def start(*words, code=MAIN, terminal=None, **environment):
    """The command as a process that runs, in a session of its own."""
    words, environment = tuple(map(str, words)), {**os.environ, **environment}
    if os.name != "nt":
        import forked

        return forked.Process(code, words, environment, terminal)
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("nothing came of it")


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def one_line(result, *words):
    """Whether the command failed with code 1 and one line that says so."""
    assert result.returncode == 1, result
    (line,) = result.stderr.splitlines()
    assert line.startswith("agrad: ")
    assert all(word in line for word in words), line
    return True
