"""Processes of the command `agrad` that start with its imports and kernels loaded.

A server process runs the command twice, and then forks once for each process that a test requests.
A fork behaves like a separate Python: it has its own arguments, environment, session and buffered
output, and Python ends it like any program.
"""

import array
import atexit
import fcntl
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import TextIO

_WARM_UP = ("train --depth 1 --width 8 --iterations 2", "demo --iterations 1")


class Process:
    """A process of the server, with the methods of `subprocess.Popen` that tests use.

    Args:
        code: The code that it runs in place of a script.
        words: The arguments in its `sys.argv`.
        environment: Its environment variables, all of them.
        terminal: The terminal that it belongs to and prints to; None for pipes.

    Attributes:
        pid: Its number, which is also that of its session and its group.
        stdout: Its output, which must be read to the end before the process is released.
        stderr: Likewise.
        returncode: As in `subprocess.Popen`, after `poll`, `wait` or `communicate`.
    """

    def __init__(
        self,
        code: str,
        words: tuple[str, ...],
        environment: dict[str, str],
        terminal: int | None = None,
    ) -> None:
        out, out_end = os.pipe()
        error, error_end = os.pipe()
        status, status_end = os.pipe()
        request = json.dumps({"code": code, "words": words, "environment": environment})
        standard = [out_end, error_end] if terminal is None else [terminal, terminal]
        ends = array.array("i", [*standard, status_end])
        _server().sendmsg(
            [request.encode() + b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ends)]
        )
        for end in (out_end, error_end, status_end):
            os.close(end)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(error)
        self.returncode: int | None = None
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            with self._status:
                self.returncode = int(self._status.read())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended.

        Raises:
            TimeoutExpired: It has not; it and its children are killed.
        """
        if self.returncode is None:
            select.select([self._status], [], [], timeout)
        code = self.poll()
        if code is None:
            raise self._killed(timeout)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the rest of the output once no process has it open, and wait.

        Raises:
            TimeoutExpired: A process still has it open; the process and its children are killed.
        """
        texts = {}

        def read(file: TextIO) -> None:
            with file:
                texts[file] = file.read()

        readers = [Thread(target=read, args=[f], daemon=True) for f in (self.stdout, self.stderr)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise self._killed(timeout)
        self.wait(timeout)
        return texts[self.stdout], texts[self.stderr]

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, not to its children."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def _killed(self, timeout: float | None) -> subprocess.TimeoutExpired:
        os.killpg(self.pid, signal.SIGKILL)
        return subprocess.TimeoutExpired(["agrad"], timeout or 0)


@functools.cache
def _server() -> socket.socket:
    """Start the server, which ends with this process."""
    here, there = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, __file__, str(there.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[there.fileno()],
        start_new_session=True,  # Ctrl-C is for the tests
    )
    there.close()
    stack = ExitStack()
    stack.callback(process.wait)
    stack.callback(here.close)
    atexit.register(stack.close)
    return here


def serve(connection: socket.socket) -> str:
    """Fork a process for each request; return only in the forks, with the code to run."""
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        message, ends, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        if not message:
            sys.exit()
        while not message.endswith(b"\n"):
            message += connection.recv(1 << 16)
        if not os.fork():
            break
        for end in ends:
            os.close(end)

    signal.signal(signal.SIGCHLD, ignored)
    connection.close()
    out, error, status = ends
    process = os.fork()
    if process:  # this one waits for it, as the parent
        os.close(out)
        os.close(error)
        os.write(status, f"{process}\n".encode())
        _, code = os.waitpid(process, 0)
        os.write(status, str(os.waitstatus_to_exitcode(code)).encode())
        os._exit(0)
    os.setsid()
    request = json.loads(message)
    sys.argv = ["agrad", *request["words"]]
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.stdout.close()
    sys.stderr.close()
    os.dup2(out, 1)
    os.dup2(error, 2)
    for end in ends:
        os.close(end)
    if os.isatty(1):
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
    encoding = os.environ.get("PYTHONIOENCODING")
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding, "backslashreplace", closefd=False)
    code_to_run: str = request["code"]
    return code_to_run


def warm_up() -> None:
    """Import and compile everything that the command needs, and draw a figure."""
    from agrad.cli.app import app

    with tempfile.TemporaryDirectory() as folder:
        for words, option, name in zip(_WARM_UP, ("--out", "--figure"), ("run", "figure.png")):
            app.main([*words.split(), option, str(Path(folder, name))], standalone_mode=False)
    gc.freeze()


if __name__ == "__main__":
    warm_up()
    exec(serve(socket.socket(fileno=int(sys.argv[1]))), {"__name__": "__main__"})
