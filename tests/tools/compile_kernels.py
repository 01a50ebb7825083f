"""Compile all CPU kernels into their cache, so that no two processes compile one at once.

    python tests/tools/compile_kernels.py

Each module is compiled by one of two processes, since its kernels share functions; those of the
softmax, which take the longest, come first. On Linux they are forks, which need not import Numba.
"""

import gc
import importlib
import inspect
import pkgutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numba  # noqa: F401  for the forks
import numpy as np
from agrad.kernels import cpu
from agrad.kernels.cpu.jit import Kernel, elementwise

PROCESSES = 2


def compile_module(name: str) -> int:
    """Compile the kernels of a module and return how many there are."""
    module = importlib.import_module(f"{cpu.__name__}.{name}")
    kernels = [  # the loops of activations are not members of their module
        each
        for each in gc.get_objects()
        if isinstance(each, Kernel | elementwise) and each.__module__ == module.__name__
    ]
    for kernel in kernels:
        if isinstance(kernel, elementwise):
            kernel(*np.ones((2, 1)), *[0.5] * (len(inspect.signature(kernel).parameters) - 2))
        else:
            assert kernel.compiled
    return len(kernels)


def main() -> None:
    names = [module.name for module in pkgutil.iter_modules(cpu.__path__)]
    modules = sorted(names, key=lambda name: name != "softmax")
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(PROCESSES, context) as pool:
        compiled = sum(pool.map(compile_module, modules))
    print(f"{compiled} kernels compiled")


if __name__ == "__main__":
    main()
