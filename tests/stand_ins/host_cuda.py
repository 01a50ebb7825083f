"""agrad.kernels.gpu on NumPy arrays: its launchers and CUDA sources, the latter compiled as C++.

NumPy replaces CuPy, with a `RawModule` whose kernels run on the host, see host_cuda.h.
"""

import ctypes
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from source_tree import FOLDERS

FOLDER = FOLDERS["agrad.kernels"] / "gpu"
SOURCES = sorted(path.name for path in FOLDER.glob("*.cu"))
REALS = ("float", "double")


class HostCupy(ModuleType):
    """NumPy under CuPy's name, with kernels from libraries compiled from the CUDA sources."""

    def __init__(self, libraries: dict[str, ctypes.CDLL]) -> None:
        super().__init__("cupy")
        self.libraries = libraries
        self.largest_grid = 2**16
        """Larger grids are cut: kernels must loop over the rest."""
        self.backward = False
        """The order in which blocks run, and threads between barriers."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def array(value: Any, *arguments: Any) -> np.ndarray:
        array = np.array(value, *arguments)
        return array if array.ndim else array.view(Located)

    @staticmethod
    def asarray(value: Any) -> np.ndarray:
        array = np.asarray(value)
        return array if array.ndim else array.view(Located)

    @staticmethod
    def asnumpy(array: Any) -> Any:
        return array

    @staticmethod
    def empty(shape: Any, dtype: Any = np.float64) -> np.ndarray:
        """Return new memory filled with a number that shows where nothing was written."""
        return np.full(shape, 12345, dtype)

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> "HostModule":
        (real,) = (option.removeprefix("-Dreal=") for option in options if "real" in option)
        return HostModule(self, self.libraries[real], {"float": "f4", "double": "f8"}[real])


class Located(np.ndarray):
    """An array without axes that has its address where CuPy's arrays have it."""

    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))


class HostModule:
    """The interface of CuPy's RawModule that agrad uses."""

    def __init__(self, cupy: HostCupy, library: ctypes.CDLL, real: str) -> None:
        self.cupy = cupy
        self.library = library
        self.types = {np.dtype(type_): name for name, type_ in TYPES.items()} | {
            np.dtype(real): "real"
        }

    def get_function(self, name: str) -> Callable[..., None]:
        launch = self.library[f"launch_{name}"]
        launch.restype = ctypes.c_bool
        parameters = parameters_of(self.library, name)

        def run(grid: tuple[int, int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            assert [self.type_of(value) for value in arguments] == parameters
            guarded: list[Guarded] = []

            def address(array: np.ndarray) -> np.ndarray:
                guarded.append(Guarded(array))
                return np.array(guarded[-1].address)

            # A kernel receives a pointer to each argument; the argument of an array is its address.
            passed = []
            for value in arguments:
                if is_pointer(value):
                    value = address(value)
                elif is_number_elsewhere(value):
                    value = value.copy()
                    value["at"] = address(number_at(value))
                passed.append(np.asarray(value))
            places = (ctypes.c_void_p * len(passed))(*(value.ctypes.data for value in passed))
            grid = tuple(min(blocks, self.cupy.largest_grid) for blocks in grid)
            assert launch(*grid, *block, self.cupy.backward, places), f"{name}: barrier not reached"
            for array in guarded:
                array.copy_back()

        return run

    def type_of(self, value: Any) -> str:
        """Return the C type of an argument, without `const`."""
        name = "struct" if value.dtype.names else self.types[value.dtype]
        return f"{name}*" if is_pointer(value) else name


class Guarded:
    """A copy of an array surrounded by numbers that no kernel may change, and none should read.

    The numbers are NaN if possible, and show in results that depend on them.
    """

    MARGIN = 64

    def __init__(self, array: np.ndarray) -> None:
        guard = np.nan if array.dtype.kind == "f" else 0
        self.array = array
        self.room = np.full(array.size + 2 * self.MARGIN, guard, array.dtype)
        self.inside = self.room[self.MARGIN :][: array.size]
        self.inside[...] = array.ravel()
        self.margins = np.delete(self.room, self.where)
        self.address = self.inside.ctypes.data

    @property
    def where(self) -> slice:
        return slice(self.MARGIN, self.MARGIN + self.array.size)

    def copy_back(self) -> None:
        """Check the memory around the copy, and copy its contents back."""
        np.testing.assert_array_equal(np.delete(self.room, self.where), self.margins)
        if self.array.flags.writeable:
            self.array.reshape(-1)[...] = self.inside


SCRAMBLE = """
extern "C" void scramble(Philox* random, uint64 key) { random->scramble(key); }
"""

TYPES = {"bool": "?", "double": "f8", "int64": "i8"}


def parameters_of(library: ctypes.CDLL, kernel: str) -> list[str]:
    """Return the types of a kernel's parameters, without `const`."""
    parameters = library[f"parameters_of_{kernel}"]
    parameters.restype = ctypes.c_char_p
    return parameters().decode().replace("const ", "").split(", ")


def is_pointer(value: Any) -> bool:
    # CuPy passes NumPy's arrays of one element by value; here those are structures.
    return isinstance(value, np.ndarray) and value.dtype.names is None


def is_number_elsewhere(value: Any) -> bool:
    """Return whether a structure holds the address of a number."""
    return "at" in (value.dtype.names or ()) and value["at"] != 0


def number_at(value: np.ndarray) -> np.ndarray:
    """Return the number at the address that a structure holds."""
    room = ctypes.c_char * value.dtype["value"].itemsize
    return np.frombuffer(room.from_address(int(value["at"])), value.dtype["value"])


def compiler() -> str:
    """Return the path of a C++ compiler, or skip the test."""
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler: neither g++ nor clang++ is on the path")
    return found


def kernels() -> list[str]:
    """Return the names of all kernels, including those that macros define."""
    includes = "\n".join(f'#include "{name}"' for name in SOURCES)
    options = ["-E", "-P", "-xc++", "-D__global__=__global__", f"-I{FOLDER}", "-"]
    text = subprocess.run(
        [compiler(), *options], input=includes, capture_output=True, text=True, check=True
    )
    return re.findall(r"__global__ void (\w+)\(", text.stdout)


def build(folder: Path) -> dict[str, ctypes.CDLL]:
    """Compile all sources, once for each type of `real`."""
    source = folder / "kernels.cpp"
    lines = [f'#include "{name}"' for name in ("host_cuda.h", *SOURCES)]
    lines += [f"LAUNCH_FROM_PYTHON({name})" for name in kernels()]
    lines.append(SCRAMBLE)
    source.write_text("\n".join(lines))
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Werror"]
    options += [f"-I{Path(__file__).parent}", f"-I{FOLDER}"]
    runs = {
        real: subprocess.Popen(
            [compiler(), *options, f"-Dreal={real}", "-o", folder / f"{real}.so", source],
            stderr=subprocess.PIPE,
            text=True,
        )
        for real in REALS
    }
    for run in runs.values():
        _, errors = run.communicate()
        assert run.returncode == 0, errors
    return {real: ctypes.CDLL(str(folder / f"{real}.so")) for real in REALS}


def import_over(cupy: ModuleType) -> dict[str, ModuleType]:
    """Import agrad.kernels.gpu with a module in CuPy's place, and restore sys.modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", cupy)
        importlib.import_module("agrad.kernels.gpu")
        names = [name for name in sys.modules if name.startswith("agrad.kernels.gpu")]
        modules = {name: sys.modules.pop(name) for name in names}
        del sys.modules["agrad.kernels"].gpu
    return modules
