"""Each CUDA source compiles for each architecture that agrad supports; no GPU is needed."""

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import host_cuda
import numpy as np
import pytest

# Each architecture once: no source asks which one it is compiled for, see below.
TARGETS = [("float", "sm_80"), ("double", "sm_90"), ("float", "sm_120")]
CUPYS_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
"""The options that CuPy 14 adds to those of a RawModule."""
OPTIMIZED = "sm_90"
"""The architecture for which sources are optimized as CuPy does, which takes most of the time."""
HARDLY_OPTIMIZED = ("--Ofast-compile=max",)
"""The option for the other architectures; errors and warnings do not depend on it."""


class Compiler:
    """NVIDIA's runtime compiler, by its C interface."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))

    def compile(self, text: str, options: tuple[str, ...]) -> tuple[int, str]:
        """Return the size of the machine code, and the compiler's log."""
        program = ctypes.c_void_p()
        at = ctypes.byref(program)
        self.check(self.library.nvrtcCreateProgram(at, text.encode(), None, 0, None, None))
        try:
            encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            result = self.library.nvrtcCompileProgram(program, len(options), encoded)
            log = ctypes.create_string_buffer(self.size("ProgramLog", program))
            self.check(self.library.nvrtcGetProgramLog(program, log))
            return (0 if result else self.size("CUBIN", program)), log.value.decode()
        finally:
            self.check(self.library.nvrtcDestroyProgram(at))

    def size(self, of: str, program: ctypes.c_void_p) -> int:
        size = ctypes.c_size_t()
        self.check(getattr(self.library, f"nvrtcGet{of}Size")(program, ctypes.byref(size)))
        return size.value

    @staticmethod
    def check(result: int) -> None:
        assert result == 0, f"NVRTC error {result}"


def libraries() -> Iterator[Path]:
    """Yield the shared libraries of the package nvidia-cuda-nvrtc."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else []:
        yield from Path(folder).glob("cu*/lib/libnvrtc.so.*")
        yield from Path(folder).glob("cu*/bin/**/nvrtc64_*.dll")


@pytest.fixture(scope="module")
def nvrtc() -> Compiler:
    library = next(libraries(), None)
    if library is None:
        pytest.skip("no CUDA compiler: the package nvidia-cuda-nvrtc is not installed")
    return Compiler(library)


@pytest.fixture(scope="module")
def launch() -> ModuleType:
    cupy = ModuleType("cupy")
    cupy.ndarray = np.ndarray
    return host_cuda.import_over(cupy)["agrad.kernels.gpu.launch"]


@pytest.mark.parametrize(("real", "architecture"), TARGETS)
@pytest.mark.parametrize("source", host_cuda.SOURCES)
def test_compiles(
    source: str, real: str, architecture: str, nvrtc: Compiler, launch: ModuleType
) -> None:
    options = (*launch.OPTIONS, *CUPYS_OPTIONS, f"-Dreal={real}", f"-arch={architecture}")
    if architecture != OPTIMIZED:
        options += HARDLY_OPTIMIZED
    size, log = nvrtc.compile(launch.text_of(source), options)
    assert size > 0, log
    assert not log.strip("\n\0"), log  # no warnings either


@pytest.mark.parametrize("options", [(), HARDLY_OPTIMIZED])
def test_compiler_finds_faults(options: tuple[str, ...], nvrtc: Compiler) -> None:
    options = ("-arch=sm_90", *options)
    size, log = nvrtc.compile("__global__ void kernel(real* x) {}", options)
    assert size == 0
    assert 'identifier "real" is undefined' in log
    size, log = nvrtc.compile("__global__ void kernel() { int unused; }", options)
    assert size > 0
    assert '"unused" was declared but never referenced' in log


def test_included_files_are_part_of_the_text_once(launch: ModuleType) -> None:
    text = launch.text_of("logistic.cu")
    assert "#include" not in text
    assert text.count("struct Segment {") == 1
    assert text.index("struct Segment {") < text.index("double softplus(double a")


def test_every_source_can_be_compiled_beforehand(
    launch: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch.SOURCES == host_cuda.SOURCES
    compiled = []

    class Module:
        def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
            self.made_of = code, options

        def compile(self) -> None:
            compiled.append(self.made_of)

    monkeypatch.setattr(launch.cupy, "RawModule", Module, raising=False)
    launch.compile_file("dense.cu", "float64")
    assert compiled == [(launch.text_of("dense.cu"), (*launch.OPTIONS, "-Dreal=double"))]


@pytest.mark.parametrize("source", host_cuda.SOURCES)
def test_no_source_depends_on_the_architecture(source: str, launch: ModuleType) -> None:
    assert "__CUDA_ARCH" not in launch.text_of(source)


@pytest.mark.parametrize("source", host_cuda.SOURCES)
def test_nothing_is_added_up_by_atomics(source: str, launch: ModuleType) -> None:
    assert "atomic" not in launch.text_of(source)
