"""`agrad doctor`: report what agrad finds on this machine, and what to install for a GPU."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

import agrad
from agrad.cli.output import make_console, say
from agrad.data.download import folder
from agrad.errors import DeviceError
from agrad.gpu import cuda

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
