"""Properties of the convolution kernels other than their values, which test_functional compares."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import numpy as np
import pytest
from agrad.kernels.cpu import conv, threads
from agrad.kernels.cpu.planes import Geometry
from threadpoolctl import threadpool_limits

GEOMETRY = Geometry((1, 1), (1, 1), (1, 1), 1)


def gradients(dtype: Any = np.float32) -> tuple[np.ndarray, ...]:
    """Return the output of some convolution and both gradients."""
    rng = np.random.default_rng(0)
    shapes = (7, 5, 12, 9), (6, 5, 3, 3), (7, 6, 12, 9)
    x, weight, grad = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    return (
        conv.convolve(x, weight, None, (12, 9), GEOMETRY),
        conv.input_gradient(grad, weight, (12, 9), GEOMETRY),
        conv.weight_gradient(grad, x, (3, 3), GEOMETRY),
    )


def test_threads_take_parts_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    enough = 10 * threads._LEAST_PRODUCTS
    parts = [range(5)[part] for part in threads.in_parallel(lambda part: part, 5, enough)]
    assert parts == [range(1), range(1, 3), range(3, 5)]
    assert threads.in_parallel(lambda part: part, 5, 100) == [slice(0, 5)]
    assert threads.in_parallel(lambda part: part, 0, 0) == [slice(0, 0)]


def test_no_thread_outlives_an_error_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "blas_threads", lambda: 2)
    failed, ended = Event(), Event()

    def work(part: slice) -> None:
        if part.start == 0:
            failed.set()
            raise KeyboardInterrupt
        failed.wait()
        sleep(0.01)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        threads.in_parallel(work, 2, 2 * threads._LEAST_PRODUCTS)
    assert ended.is_set()


def test_threads_are_as_many_as_the_blas_has() -> None:
    with threadpool_limits(1):
        assert threads.blas_threads() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution_in_threads(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs are identical bit for bit; sums over the batch differ only by rounding."""
    alone = gradients(dtype)
    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    monkeypatch.setattr(threads, "_LEAST_PRODUCTS", 1)
    together, again = gradients(dtype), gradients(dtype)
    for one, other in zip(together, again):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(alone[:2], together[:2]):
        np.testing.assert_array_equal(one, other)
    # sums of 756 products
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(alone[2], together[2], rtol=0, atol=tolerance * alone[2].max())
    assert (alone[2] != together[2]).any()  # it was divided


NARROW = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from agrad.kernels.cpu import conv, microkernel, planes
microkernel.widest = conv.widest = lambda: 1
microkernel.register_bytes = planes.register_bytes = lambda: 16
from test_conv import gradients
np.savez(sys.argv[2], *gradients())
"""


def test_the_blas_of_another_library_does_not_count() -> None:
    """SciPy's BLAS is loaded after the limit has been set, and ignores it."""
    pytest.importorskip("sklearn")
    code = """
from threadpoolctl import threadpool_info, threadpool_limits
import numpy
with threadpool_limits(1, "blas"):
    import sklearn.datasets
    from agrad.kernels.cpu.threads import blas_threads
    print(blas_threads())
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert output == "1\n"


def test_a_machine_with_short_registers(tmp_path: Path) -> None:
    """Kernels are compiled for a tile of one vector where registers are shorter or fewer."""
    command = [sys.executable, "-c", NARROW, str(Path(__file__).parent), str(tmp_path / "out.npz")]
    subprocess.check_call(command, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")})
    with np.load(tmp_path / "out.npz") as narrow:
        for name, known in zip(narrow.files, gradients()):
            np.testing.assert_allclose(narrow[name], known, rtol=0, atol=1e-5 * known.max())
