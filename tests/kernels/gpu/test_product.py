"""Products that a CUDA graph can record: on the host everywhere, on a GPU with -m gpu.

On the host they call a library with cuBLAS's prototypes (fake_cublas.cpp) on NumPy's memory, which
shows layouts, sizes and the order of calls. Only a GPU can show that a device records them.
"""

import ctypes
import gc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import host_cuda
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from numpy.typing import NDArray

from agrad.testing.strategies import seeds

Array = NDArray[Any]
DTYPES = [np.float32, np.float64]
MAJOR = 99
"""The version of the library, which no real one has, since a real one may be loaded too."""


class DeviceArray(np.ndarray):
    """NumPy's arrays, except that the address is where CuPy's arrays have it."""

    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))


class CUBLASError(RuntimeError):
    """Like CuPy's error, constructed from a status, whose name is its message."""

    def __init__(self, status: int) -> None:
        super().__init__({13: "CUBLAS_STATUS_EXECUTION_FAILED"}[status])
        self.status = status


class HostCupy(host_cuda.HostCupy):
    """NumPy under CuPy's name, with the attributes that a `Recordable` uses."""

    def __init__(self, library: Path) -> None:
        super().__init__({})
        self.stream = 1
        self.capability = "90"
        self.compute_type = 0
        self.cuda = SimpleNamespace(
            cublas=SimpleNamespace(CUBLASError=CUBLASError),
            Device=lambda: SimpleNamespace(compute_capability=self.capability),
            # As CuPy does, whose own import makes the library known under its bare name.
            device=SimpleNamespace(get_cublas_handle=lambda: ctypes.CDLL(str(library))),
            get_current_stream=lambda: SimpleNamespace(ptr=self.stream),
            runtime=SimpleNamespace(runtimeGetVersion=lambda: 1000 * MAJOR + 20),
        )
        self._core = SimpleNamespace(get_compute_type=lambda dtype: self.compute_type)
        self.copies = 0

    ndarray = DeviceArray

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return found if isinstance(found, type) or not callable(found) else on_device(found)

    def empty(self, shape: Any, dtype: Any = np.float64) -> Any:
        """Return new memory filled with a number that shows where nothing was written."""
        return np.full(shape, 123, dtype).view(DeviceArray)

    def ascontiguousarray(self, array: Any) -> Any:
        self.copies += 1
        return np.ascontiguousarray(array).view(DeviceArray)


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        return result.view(DeviceArray) if isinstance(result, np.ndarray) else result

    return call


@dataclass
class Host:
    """The module over a library that notes the calls."""

    cupy: HostCupy
    product: ModuleType
    library: ctypes.CDLL

    def array(self, values: Any, dtype: Any = np.float64) -> Any:
        return self.cupy.array(values, dtype)

    def calls(self) -> list[str]:
        """Return the calls since the last request."""
        return self.library.take_calls().decode().splitlines()


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Host:
    if sys.platform != "linux":
        pytest.skip("a loaded library is found by its bare name only on Linux")
    library = tmp_path_factory.mktemp("cublas") / "fake.so"
    source = Path(host_cuda.__file__).with_name("fake_cublas.cpp")
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Werror"]
    options += [f"-Wl,-soname,libcublas.so.{MAJOR}", "-o", str(library)]
    subprocess.run([host_cuda.compiler(), *options, str(source)], check=True)
    cupy = HostCupy(library)
    product = host_cuda.import_over(cupy)["agrad.kernels.gpu.product"]
    loaded = ctypes.CDLL(str(library))
    loaded.take_calls.restype = ctypes.c_char_p
    return Host(cupy, product, loaded)


@pytest.fixture
def host(module: Host) -> Iterator[Host]:
    gc.collect()  # no handle of an earlier test is given back in this one
    module.cupy.copies = 0
    module.calls()
    yield module
    module.library.let_fail(b"")


# Results -----------------------------------------------------------------------------------------


@dataclass
class Operand:
    """An array of small integers, as a view of a larger one that is NaN beside it."""

    base: Array
    index: tuple[slice, ...]
    axes: tuple[int, ...]

    def on(self, cupy: Any) -> Any:
        return cupy.asarray(self.base)[self.index].transpose(self.axes)


PARTS = [
    (slice(None), lambda n: n),
    (slice(2, -1), lambda n: n + 3),
    (slice(None, None, 2), lambda n: 2 * n),
    (slice(None, None, -1), lambda n: n),
]
"""How an axis may be a part of a longer one, and how long that is."""


@st.composite
def operands(draw: st.DrawFn, shape: tuple[int, ...], dtype: type) -> Operand:
    axes = tuple(draw(st.permutations(range(len(shape)))))
    lengths = [shape[axes.index(axis)] for axis in range(len(shape))]
    # Mostly whole axes: arrays passed on without a copy matter most.
    parts = [draw(st.just(PARTS[0]) | st.sampled_from(PARTS)) for _ in shape]
    index = tuple(part for part, _ in parts)
    base = np.full([room(n) for (_, room), n in zip(parts, lengths)], np.nan, dtype)
    base[index] = np.random.default_rng(draw(seeds)).integers(-9, 10, lengths)
    return Operand(base, index, axes)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Operand, Operand]:
    """Draw two arrays of one dtype whose shapes fit, with one axis or more, some of them empty."""
    shapes, _ = draw(
        mutually_broadcastable_shapes(
            signature=np.matmul.signature, max_dims=3, min_side=0, max_side=4
        )
    )
    dtype = draw(st.sampled_from(DTYPES))
    first, second = (draw(operands(shape, dtype)) for shape in shapes)
    return first, second


@pytest.fixture(scope="module", params=["host", pytest.param("device", marks=pytest.mark.gpu)])
def recorder(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that records products and returns their result on the host."""
    if request.param == "host":
        host = request.getfixturevalue("module")
        return lambda compute: run(host.cupy, host.product, nullcontext(), compute)
    cupy = pytest.importorskip("cupy")
    from agrad.kernels.gpu import product

    return lambda compute: run(cupy, product, cupy.cuda.Stream(), compute)


def run(cupy: Any, product: Any, stream: Any, compute: Callable[..., Any]) -> Any:
    with stream, product.Recordable():
        return cupy.asnumpy(compute(cupy, product.matmul))


def test_products(recorder: Callable[..., Any]) -> None:
    """The integers are so small that sums are the same in any order."""

    @given(problems())
    def property(drawn: tuple[Operand, Operand]) -> None:
        first, second = drawn
        expected = np.matmul(first.on(np), second.on(np))
        result = recorder(lambda cupy, matmul: matmul(first.on(cupy), second.on(cupy)))
        np.testing.assert_array_equal(result, expected, strict=True)

    property()


def test_products_into_an_array(recorder: Callable[..., Any]) -> None:
    @given(problems())
    def property(drawn: tuple[Operand, Operand]) -> None:
        first, second = drawn
        expected = np.matmul(first.on(np), second.on(np))

        def compute(cupy: Any, matmul: Callable[..., Any]) -> Any:
            room = cupy.full(expected.size + 10, 7, expected.dtype)
            out = room[5 : 5 + expected.size].reshape(expected.shape)
            assert matmul(first.on(cupy), second.on(cupy), out=out) is out
            return room

        around = np.full(5, 7, expected.dtype)
        room = np.concatenate([around, np.ravel(expected), around])
        np.testing.assert_array_equal(recorder(compute), room, strict=True)

    property()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_may_take_a_factors_place(recorder: Callable[..., Any], dtype: type) -> None:
    x = np.arange(27, dtype=dtype).reshape(3, 3, 3)

    def compute(cupy: Any, matmul: Callable[..., Any]) -> Any:
        array = cupy.asarray(x)
        matmul(array[0], array[1], out=array[1])
        matmul(array[2].T, array[0], out=array[2])
        return array

    expected = np.stack([x[0], x[0] @ x[1], x[2].T @ x[0]])
    np.testing.assert_array_equal(recorder(compute), expected, strict=True)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_graph_computes_them_again(dtype: type) -> None:
    """With new values at the same addresses, results agree with CuPy's products within rounding."""
    cupy = pytest.importorskip("cupy")
    from agrad.kernels.gpu import product

    rng = np.random.default_rng(0)
    x, y = (cupy.asarray(rng.normal(size=shape), dtype) for shape in [(5, 64, 30), (5, 30, 70)])
    stream, recordable = cupy.cuda.Stream(), product.Recordable()
    with stream, recordable:
        # Which loads their kernels.
        out, rows = product.matmul(x, y), product.matmul(x[0], x[1].T)
        stream.begin_capture()
        product.matmul(x, y, out=out)
        product.matmul(x[0], x[1].T, out=rows)
        graph = stream.end_capture()
        for _ in range(2):
            x[...] = cupy.asarray(rng.normal(size=x.shape), dtype)
            graph.launch()
            stream.synchronize()
            bound = 30 * np.finfo(dtype).eps * cupy.matmul(abs(x), abs(y))
            assert (abs(out - cupy.matmul(x, y)) <= bound).all()
            bound = 30 * np.finfo(dtype).eps * cupy.matmul(abs(x[0]), abs(x[1]).T)
            assert (abs(rows - cupy.matmul(x[0], x[1].T)) <= bound).all()


# Calls --------------------------------------------------------------------------------------------


def as_drawn(x: Any) -> dict[str, Any]:
    """Views of an array of (4, 6, 8) that cuBLAS can take, by (operation, leading, step)."""
    return {
        "matrix": (x[0], (0, 8, None)),
        "transposed": (x[0].T, (1, 8, None)),
        "rows": (x[0, 1:5:2], (0, 16, None)),
        "part": (x[0, 1:4, 2:5], (0, 8, None)),
        "transposed part": (x[0, 1:4, 2:5].T, (1, 8, None)),
        "across": (x[:, 2], (0, 48, None)),
        "row": (x[0, 0, :6], (0, 6, None)),
        "column": (x[0, :, 3], (1, 8, None)),
        "column of a matrix": (x[0, :, 3:4], (0, 8, None)),
        "one row": (x[0, 3:4], (0, 8, None)),
        "stack": (x, (0, 8, 48)),
        "transposed stack": (x.mT, (1, 8, 48)),
        "parts": (x[1:, 1:4, 2:5], (0, 8, 48)),
        "every other": (x[::2], (0, 8, 96)),
        "permuted": (x.swapaxes(0, 1), (0, 48, 8)),
        "split": (x.reshape(2, 2, 6, 8), (0, 8, 48)),
        "repeated": (np.broadcast_to(x[0], (2, 3, 6, 8)).view(DeviceArray), (0, 8, 0)),
    }


@pytest.mark.parametrize("name", as_drawn(np.zeros((4, 6, 8))))
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_cublas_can_take_is_not_copied(name: str, dtype: type, host: Host) -> None:
    x, expected = as_drawn(host.cupy.zeros((4, 6, 8), dtype))[name]
    with host.product.Recordable():
        host.calls()
        host.product.matmul(x, host.cupy.zeros(x.shape[-1], dtype))
        host.product.matmul(host.cupy.zeros(x.shape[-min(2, x.ndim)], dtype), x)
        left, right = host.calls()
    assert host.cupy.copies == 0
    assert factors(left)[1] == expected
    # A column on the right corresponds to a row on the left.
    turned = {"row": (0, 1, None), "column": (0, 8, None)}
    assert factors(right)[0] == turned.get(name, expected)


def factors(call: str) -> list[tuple[int, int, int | None]]:
    """Return (operation, leading, step) of each factor as passed to cuBLAS."""
    name, _, arguments = call.removesuffix(")").partition("(")
    transa, transb, _, _, _, *rest = map(int, arguments.split(", "))
    if "StridedBatched" in name:
        lda, step_a, ldb, step_b, *_ = rest
        return [(transa, lda, step_a), (transb, ldb, step_b)]
    lda, ldb, _ = rest
    return [(transa, lda, None), (transb, ldb, None)]


def test_what_it_cannot_take_is_copied(host: Host) -> None:
    x = host.array(np.arange(120).reshape(2, 3, 4, 5))
    records = np.ones(2, [("matrix", "f8", (3, 4)), ("number", "f4")]).view(DeviceArray)
    rows = np.ones(3, [("row", "f8", 4), ("number", "f4")]).view(DeviceArray)
    views = {
        "every other column": x[0, 0, :, ::2],
        "upside down": x[0, 0, ::-1],
        "backward": x[0, :, :, ::-1],
        "steps of two sizes": x[:, ::2],
        "from the last": x[0, ::-1],
        "no elements side by side": x.transpose(1, 3, 0, 2)[..., ::2],
        "overlapping rows": host.cupy.lib.stride_tricks.as_strided(x, (3, 3), (8, 8)),
        "repeated rows": np.broadcast_to(x[0, 0, 0], (4, 5)).view(DeviceArray),
        "rows in records": rows["row"],
        "matrices in records": records["matrix"],
    }
    with host.product.Recordable():
        for count, (name, view) in enumerate(views.items(), 1):
            ones = host.cupy.ones((view.shape[-1], 2))
            expected = np.matmul(view, ones)
            np.testing.assert_array_equal(host.product.matmul(view, ones), expected, name)
            assert host.cupy.copies == count, name
    far = host.cupy.lib.stride_tricks.as_strided(x, (2, 3), (8 * 2**31, 8))
    layout = host.product._layout(far)
    assert layout is None


def test_a_copy_is_made_before_a_factor_is_repeated(host: Host) -> None:
    x, y = host.cupy.ones((5, 2, 3)), host.cupy.ones((3, 4))
    with host.product.Recordable():
        host.calls()
        host.product.matmul(x, y[:, ::2])
        assert factors(*host.calls()) == [(0, 2, 0), (0, 3, 6)]


def test_order_of_calls(host: Host) -> None:
    """The workspace is set at each entry, after the stream, which resets it."""
    recordable = host.product.Recordable()
    assert host.calls() == ["cublasCreate_v2()", "cublasSetMathMode(0)"]
    x = host.cupy.ones((2, 3), np.float32)
    for number in 1, 2:
        host.cupy.stream = number
        with recordable:
            host.product.matmul(x, x.T)
        stream, workspace, product = host.calls()
        assert stream == f"cublasSetStream_v2({number})"
        address = recordable._workspace.ctypes.data
        assert workspace == f"cublasSetWorkspace_v2({address}, {32 * 2**20})"
        assert product == "cublasSgemm_v2(1, 0, 2, 2, 3, 3, 3, 2)"
    del recordable
    gc.collect()
    assert host.calls() == ["cublasDestroy_v2()"]


def test_outside_the_block_products_are_cupys(host: Host) -> None:
    x = host.cupy.ones((2, 3))
    host.product.matmul(x, x.T)
    with host.product.Recordable():
        with suppress(ZeroDivisionError), host.product.Recordable():
            raise ZeroDivisionError
        host.calls()
        host.product.matmul(x, x.T)
        assert len(host.calls()) == 1
    host.calls()
    out = host.cupy.empty((2, 2))
    host.product.matmul(x, x.T, out=out)
    assert out.tolist() == [[3, 3], [3, 3]]
    assert host.calls() == []


@pytest.mark.parametrize(("capability", "size"), [("80", 4), ("90", 32), ("120", 32)])
def test_the_workspace_is_as_large_as_recommended(
    capability: str, size: int, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.cupy, "capability", capability)
    with host.product.Recordable():
        assert host.calls()[-1].endswith(f", {size * 2**20})")


def test_tf32_only_where_cupy_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.cupy, "compute_type", 7)
    with host.product.Recordable():
        assert "cublasSetMathMode(3)" in host.calls()


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Create_v2", "SetMathMode", "SetStream_v2", "SetWorkspace_v2"])
def test_a_recording_that_cublas_refuses(name: str, host: Host) -> None:
    host.library.let_fail(f"cublas{name}".encode())
    message = r"^CUBLAS_STATUS_EXECUTION_FAILED"
    with pytest.raises(CUBLASError, match=message) as caught, host.product.Recordable():
        pass
    assert caught.value.status == 13
    assert caught.value.__notes__ == [f"in cublas{name}"]
    host.calls()
    assert host.product.matmul(host.cupy.ones(2), host.cupy.ones(2)) == 2
    assert host.calls() == []


@pytest.mark.parametrize("name", ["gemm_v2", "gemmStridedBatched"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_that_cublas_refuses(name: str, dtype: type, host: Host) -> None:
    x = host.cupy.ones((3, 2, 2) if "Strided" in name else (2, 2), dtype)
    name = f"cublas{'S' if dtype == np.float32 else 'D'}{name}"
    with host.product.Recordable():
        host.library.let_fail(name.encode())
        with pytest.raises(CUBLASError, match=r"^CUBLAS_STATUS_EXECUTION_FAILED") as caught:
            host.product.matmul(x, x)
    assert caught.value.__notes__ == [f"in {name}"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_may_lie_apart(dtype: type, host: Host) -> None:
    """The weight gradients of equal layers do, each followed by a bias."""
    rng = np.random.default_rng(0)
    x, y = (
        rng.integers(-9, 9, shape).astype(dtype).view(DeviceArray)
        for shape in ((3, 2, 5), (3, 5, 4))
    )
    whole = np.full((3, 10), 5, dtype).view(DeviceArray)
    out = whole[:, :8].reshape(3, 2, 4)
    assert np.shares_memory(out, whole)
    with host.product.Recordable():
        host.calls()
        assert host.product.matmul(x, y, out=out) is out
        assert len(host.calls()) == 1
        np.testing.assert_array_equal(out, np.matmul(x, y))
        assert (whole[:, 8:] == 5).all()
        apart = np.empty((3, 2, 8), dtype).view(DeviceArray)[:, :, ::2]
        for wrong in apart, np.empty((3, 4, 2), dtype).view(DeviceArray).swapaxes(1, 2):
            with pytest.raises(ValueError, match="C-contiguous and equally far apart"):
                host.product.matmul(x, y, out=wrong)


def test_wrong_dtypes_are_refused(host: Host) -> None:
    x = host.cupy.ones((2, 2))
    with host.product.Recordable():
        host.calls()
        for first, second in ("int64", "int64"), ("float16", "float16"), ("float64", "float32"):
            with pytest.raises(TypeError, match=f"matmul: {first} and {second} cannot be recorded"):
                host.product.matmul(x.astype(first), x.astype(second))
        assert host.calls() == []


@pytest.mark.parametrize(
    ("first", "second"),
    [((), ()), ((), (2,)), ((2,), ()), ((2,), (3,)), ((2, 3), (2, 3)), ((2, 1, 3), (3, 3, 4))],
    ids=str,
)
def test_wrong_shapes_are_refused(
    first: tuple[int, ...], second: tuple[int, ...], host: Host
) -> None:
    with host.product.Recordable():
        message = re.escape(f"matmul: shapes {first} and {second} do not fit")
        with pytest.raises(ValueError, match=message):
            host.product.matmul(host.cupy.ones(first), host.cupy.ones(second))


def test_wrong_results_are_refused(host: Host) -> None:
    x = host.cupy.ones((2, 2), np.float32)
    room = host.cupy.zeros((2, 4), np.float32)
    with host.product.Recordable():
        for out in room, room[:, ::2], x.astype(np.float64):
            with pytest.raises(ValueError, match=r"matmul: out is .*float32 one of shape \(2, 2\)"):
                host.product.matmul(x, x, out=out)
    assert not room.any()


def test_sizes_that_cublas_does_not_take(host: Host) -> None:
    one = host.cupy.ones((1, 1), np.float32)
    most = 2**31 - 1
    with host.product.Recordable():
        for first, second in (
            ((most + 1, 1), (1, 1)),
            ((1, most + 1), (most + 1, 1)),
            ((1, 1), (1, most + 1)),
            ((2**16, 1, 1, 1), (2**15, 1, 1)),
        ):
            x, y = (host.cupy.broadcast_to(one, shape) for shape in (first, second))
            with pytest.raises(OverflowError, match=rf"matmul: shapes .* beyond {most}"):
                host.product.matmul(x, y)
