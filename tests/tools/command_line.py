"""The command `agrad` run in this process or as one of its own, and what it left behind."""

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("click")

from click.testing import CliRunner

from agrad.cli.app import app

needs_signals = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


def invoke(*words):
    """The command in this process, for its words; exit codes are those of a real process."""
    return CliRunner().invoke(app, list(map(str, words)))


def run(*words, code="import sys; from agrad.cli import main; sys.exit(main())", **environment):
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "agrad", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
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
    """Whether the process failed with code 1 and one line that says so."""
    assert result.returncode == 1, result
    (line,) = result.stderr.splitlines()
    assert line.startswith("agrad: ")
    assert all(word in line for word in words), line
    return True
