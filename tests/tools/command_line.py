"""Run the command `agrad` in this process or another, and inspect its results."""

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
    """Run the command in this process; exit codes are those of a real process."""
    return CliRunner().invoke(cli.app, list(map(str, words)))


def fail(*words, **environment):
    """Run the command in this process, which must fail; return its message and exit code."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.setattr(sys, "argv", ["agrad", *map(str, words)])
        for name, value in environment.items():
            patch.setenv(name, value)
        code = cli.run()
    return subprocess.CompletedProcess(words, code, out.getvalue(), error.getvalue())


def run(*words, code=MAIN, **environment):
    """Run the command as another process."""
    process = start(*words, code=code, **environment)
    output, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, output, error)


def start(*words, code=MAIN, terminal=None, **environment):
    """Start the command as another process, in its own session."""
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
    """Return whether the command failed with code 1 and one line that has all the words."""
    assert result.returncode == 1, result
    (line,) = result.stderr.splitlines()
    assert line.startswith("agrad: ")
    assert all(word in line for word in words), line
    return True
