"""`agrad doctor`: report what agrad finds on this machine, and what to install for a GPU."""

import os
import platform
import stat
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import click

import agrad
from agrad.cli.output import make_console, say
from agrad.data.download import folder
from agrad.errors import DeviceError
from agrad.gpu import cuda
from agrad.kernels.cpu.jit import cache_folder

__all__ = ["doctor"]


@click.command(short_help="Report versions, BLAS, data folder and GPU.")
def doctor() -> None:
    """Report what agrad finds on this machine, and what to install if no GPU can be used."""
    console = make_console()
    for name, finding in [*_libraries(), *_devices()]:
        say(console, f"{name:<8} {finding}")


def _libraries() -> Iterator[tuple[str, str]]:
    from threadpoolctl import threadpool_info

    yield "agrad", f"{agrad.__version__}, in {Path(agrad.__file__).parent}"
    yield "Python", platform.python_version()
    yield "NumPy", version("numpy")
    yield "Numba", version("numba")
    for library in threadpool_info():
        if library["user_api"] == "blas":
            threads = library["num_threads"]
            yield "BLAS", f"{library['internal_api']} {library['version']}, threads: {threads}"
    reason = "set by AGRAD_DATA" if os.environ.get("AGRAD_DATA") else "AGRAD_DATA is not set"
    yield "data", f"{folder()} ({reason})"
    kernels = cache_folder()
    if kernels is None:
        yield "kernels", "cached nowhere: no folder can be written, so each process compiles them"
        return
    yield "kernels", f"cached in {kernels}"
    kernels = kernels.resolve()
    for path in (kernels, *kernels.parents):
        writers = _writers(path, path is kernels)
        if writers:
            yield (
                "WARNING",
                f"{path} {writers}: whoever can write there can run code as you, because Numba "
                "loads compiled kernels from there; take the permission away, or set "
                "NUMBA_CACHE_DIR to a folder of your own",
            )


def _writers(path: Path, may_not_add: bool) -> str | None:
    """Return who else can change a folder's contents, or None if nobody can.

    Args:
        path: The folder.
        may_not_add: Whether a file that somebody adds is a change too.
    """
    if os.name == "nt":  # access is decided by lists that the mode does not show
        return None
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & stat.S_ISVTX and not may_not_add:  # only owners rename or remove files
        return None
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if status.st_mode & stat.S_IWGRP and not _is_alone_in(status.st_gid):
        return f"can be written by group {status.st_gid}"
    return None


def _is_alone_in(group: int) -> bool:
    """Return whether nobody but this user, or root, is in a group, as in a user's own."""
    import grp
    import pwd

    own = {0, os.geteuid()}
    with suppress(KeyError):
        members = grp.getgrgid(group).gr_mem
        users = {pwd.getpwnam(name).pw_uid for name in members}
        users |= {user.pw_uid for user in pwd.getpwall() if user.pw_gid == group}
        return users <= own
    return False


def _devices() -> Iterator[tuple[str, str]]:
    driver = cuda.driver_version()
    yield "driver", "none for NVIDIA GPUs" if driver is None else "for CUDA {}.{}".format(*driver)
    try:
        found = cuda.gpus()
    except DeviceError as error:
        yield "GPU", f"none usable: {error}"
        return
    import cupy

    yield "CuPy", cupy.__version__
    for number, gpu in enumerate(found):
        free, total = (size / 2**30 for size in (gpu.free_bytes, gpu.total_bytes))
        yield (
            f"cuda:{number}",
            f"{gpu.name}, compute capability {gpu.compute_capability}, "
            f"{free:.1f} of {total:.1f} GiB free",
        )
        try:
            cuda.require_libraries(number)
        except DeviceError as error:
            yield "WARNING", f"cuda:{number} cannot be used: {error}"
        else:
            yield f"cuda:{number}", "compiles a kernel, runs it, and has cuBLAS"
