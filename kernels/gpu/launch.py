"""CUDA kernels of the files beside this one: compiled at the first call, checked at each call."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from .number import GIVEN, given

THREADS = 256
"""Of every block; the same as in `reduction.cuh`."""

OPTIONS = ("-std=c++17", "-fmad=false")
"""Without contraction, a device computes what the tests ran on the host.

Some formulas depend on it: they need the rounding error of a product, which fusing would hide. In
series, where fusing pays, the sources say `fma`.
"""

_SUMMED = 16
"""Elements that a thread sums before the tree over its block, which costs about as much."""

_SHORT = 128
"""The most elements of a short row; the same as in `reduction.cuh`."""

_MOST_BLOCKS = 65535
"""Along either axis of the grid: CUDA's limit for the second. Kernels loop over the rest."""


def over(elements: int, rows: int = 1) -> tuple[int, int]:
    """Return the grid for a kernel that loops over elements along x and over rows along y."""
    return min(-(-elements // THREADS), _MOST_BLOCKS), min(rows, _MOST_BLOCKS)


def over_rows(rows: int, n: int) -> tuple[int, int]:
    """Return the grid for a kernel with a team of threads to each row of n elements.

    A short row takes a warp, of which a block has eight: see `team_of` in reduction.cuh.
    """
    return over(1, -(-rows // 8) if n <= _SHORT else rows)


def summing(elements: int, rows: int = 1) -> tuple[int, int]:
    """Return the grid for a kernel that sums elements, with a sum for each block."""
    return over(-(-elements // _SUMMED), rows)


class Kernel:
    """A kernel of a CUDA file, for float32 or float64, whichever its arrays have.

    Args:
        source: The file, as in `"optimizer.cu"`.
        name: The kernel's name.
        parameters: The types that it declares, as in `"const real*, real*, int64, real"`. A pointer
            takes a C-contiguous array of exactly that type, `real` being float32 for all of a
            call's arrays or float64 for all. Numbers are converted. A `Number` (float64) or a `Key`
            (int64) may also be an array without axes, which is read when the kernel runs.

    A kernel without such an array is compiled with those for float32.
    """

    def __init__(self, source: str, name: str, parameters: str) -> None:
        self.source = source
        self.name = name
        types = [parameter.removeprefix("const ") for parameter in parameters.split(", ")]
        self._deciding = types.index("real*") if "real*" in types else None
        # Computed once, as launches dominate a step of a deep network of small layers.
        self._forms = {real: [_form(name, type_, real) for type_ in types] for real in _REALS}
        self._functions: dict[np.dtype[Any], Any] = {}

    def __call__(self, grid: tuple[int, int], *arguments: Any) -> None:
        """Launch blocks of `THREADS` threads on the current stream; an empty grid does nothing.

        Raises:
            TypeError: An array has another dtype or layout than the kernel takes.
        """
        real = _REALS[0] if self._deciding is None else arguments[self._deciding].dtype
        if real not in self._forms:
            raise TypeError(f"{self.name}: arrays are float32 or float64, not {real}")
        passed = []
        for argument, (dtype, number) in zip(arguments, self._forms[real], strict=True):
            if dtype is not None and (argument.dtype != dtype or not argument.flags.c_contiguous):
                raise TypeError(
                    f"{self.name}: {argument.dtype} array of shape {argument.shape} and strides "
                    f"{argument.strides} where a C-contiguous {dtype} one is taken; convert it"
                )
            passed.append(argument if number is None else number(argument))
        if 0 in grid:
            return
        if real not in self._functions:
            self._functions[real] = _compiled(self.source, self.name, real)
        self._functions[real](grid, (THREADS,), tuple(passed))


def divided_difference(name: str, source: str, parameters: int = 0) -> Kernel:
    """Return a kernel that `elementwise.cuh` defines for the divided difference of `name`."""
    types = "const real*, const real*, real*, int64" + ", double" * parameters
    return Kernel(source, f"{name}_divided_difference", types)


def of_pairs(kernel: Kernel, a: cupy.ndarray, b: cupy.ndarray, *parameters: float) -> cupy.ndarray:
    """Return a divided difference for each pair of elements of two arrays.

    Raises:
        ValueError: The shapes differ.
        TypeError: The dtypes differ, or are neither float32 nor float64.
    """
    if a.shape != b.shape:
        raise ValueError(f"{kernel.name}: a has shape {a.shape}, b {b.shape}; pass one shape")
    out = cupy.empty(a.shape, a.dtype)
    pairs = map(cupy.ascontiguousarray, (a, b))
    kernel(over(out.size), *pairs, out, out.size, *parameters)
    return out


SOURCES = sorted(path.name for path in Path(__file__).parent.glob("*.cu"))
"""The CUDA files."""

_REALS = np.dtype(np.float32), np.dtype(np.float64)
_TYPES = {
    "bool": np.dtype(np.bool_),
    "double": np.dtype(np.float64),
    "int64": np.dtype(np.int64),
}


def _form(name: str, type_: str, real: np.dtype[Any]) -> tuple[np.dtype[Any] | None, Any]:
    """Return the dtype of an array, or what converts a number; for other structures neither."""
    if type_ in GIVEN:
        return None, partial(given, name, GIVEN[type_])
    dtype = (_TYPES | {"real": real}).get(type_.removesuffix("*"))
    if dtype is None:
        return None, None
    return (dtype, None) if type_.endswith("*") else (None, dtype.type)


def _compiled(source: str, name: str, real: np.dtype[Any]) -> Any:
    return _module(source, real).get_function(name)


def compile_file(source: str, real: str) -> None:
    """Compile all kernels of a file for "float32" or "float64" into CuPy's cache on disk."""
    _module(source, np.dtype(real)).compile()


def _module(source: str, real: np.dtype[Any]) -> Any:
    options = (*OPTIONS, f"-Dreal={'float' if real == np.float32 else 'double'}")
    return cupy.RawModule(code=text_of(source), options=options)


def text_of(source: str) -> str:
    """Return the text of a CUDA file with each file that it includes inserted once.

    CuPy caches a compiled file under its text, and would not notice a change in an included file.
    """
    return "".join(_pieces(source, set()))


def _pieces(source: str, included: set[str]) -> Iterator[str]:
    included.add(source)
    for line in (Path(__file__).parent / source).read_text(encoding="utf-8").splitlines(True):
        directive = re.fullmatch(r'#include "(.+)"\s*', line)
        if not directive:
            yield line if line.strip() != "#pragma once" else ""
        elif directive[1] not in included:
            yield from _pieces(directive[1], included)
