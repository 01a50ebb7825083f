"""The stand-in's streams and CUDA graphs: misuse that would fail on a device fails on it too."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import fake_cupy
import fake_graphs
import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.backend import kernels

try:
    import cupy as real_cupy
except ImportError:
    real_cupy = None


@pytest.fixture(scope="module", autouse=True)
def cupy() -> Iterator[Any]:
    with fake_cupy.installed() as module:
        yield module


@pytest.fixture(autouse=True)
def no_capture_is_left_open() -> Iterator[None]:
    """Otherwise the tests after a failure would be meaningless."""
    yield
    if fake_graphs._capturing is not None:
        with suppress(RuntimeError):
            fake_graphs._capturing.stream.end_capture()


class Recording:
    """A stream and a pool, and their recording."""

    def __init__(self, cupy: Any) -> None:
        self.cuda = cupy.cuda
        self.stream = cupy.cuda.Stream()
        self.pool = cupy.cuda.MemoryPool()
        self.products = kernels(on_gpu(0)).product.Recordable()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        """Return the graph of a call, and the result of the call."""
        with self.cuda.using_allocator(self.pool.malloc):
            return self.without_pool(function, *arguments)

    def without_pool(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        with self.stream, self.products:
            self.stream.begin_capture()
            try:
                result = function(*arguments)
            except BaseException:
                with suppress(RuntimeError):
                    self.stream.end_capture()
                raise
            return self.stream.end_capture(), result


@pytest.fixture
def record(cupy: Any) -> Recording:
    return Recording(cupy)


def on_gpu(values: Any, dtype: Any = np.float64) -> Any:
    return ag.tensor(np.asarray(values, dtype)).to("cuda").data


NAMES = [
    "Stream.begin_capture",
    "Stream.end_capture",
    "Stream.is_capturing",
    "Stream.synchronize",
    "Stream.__enter__",
    "Graph.launch",
    "MemoryPool.malloc",
    "MemoryPool.free_all_blocks",
    "get_current_stream",
    "using_allocator",
    "runtime.deviceSynchronize",
    "compiler.CompileException",
    "device.get_cublas_handle",
]


@pytest.mark.skipif(real_cupy is None, reason="CuPy is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_cupy_has_what_the_stand_in_has(name: str) -> None:
    found = real_cupy.cuda
    for part in name.split("."):
        found = getattr(found, part)


# -- recordings ------------------------------------------------------------------------------------


def test_nothing_is_done_before_the_launch(record: Recording) -> None:
    x, total, large = on_gpu([1, 2, 3]), on_gpu(10), on_gpu(14)
    rest = x[1:]

    def step() -> Any:
        total.__iadd__(x.sum())
        x[0] = 7
        assert np.multiply(x[1:], 2, out=rest) is rest
        np.put_along_axis(x, np.zeros(1, np.int64, like=x), large, 0)
        return x + 1, x > 4, x.astype(np.int64)

    graph, (y, above, whole) = record(step)
    assert x.tolist() == [1, 2, 3]
    assert total.item() == 10
    assert np.isnan(y.get()).all()
    assert whole.tolist() == [np.iinfo(np.int64).max] * 3
    assert (y.dtype, above.dtype, y.shape) == (np.float64, np.bool_, (3,))
    assert y.base is None
    graph.launch()
    assert (x.tolist(), total.item()) == ([14, 4, 6], 16)
    assert (y.tolist(), above.tolist()) == ([15, 5, 7], [True, False, True])
    assert whole.tolist() == [14, 4, 6]


def test_a_launch_takes_the_values_that_are_there(record: Recording) -> None:
    x, rate, factor = on_gpu([1, 2]), on_gpu(2), 3
    graph, y = record(lambda: x * rate * factor)
    for values in [1, 2], [5, 6]:
        x.set(np.array(values, np.float64))
        graph.launch()
        assert y.tolist() == [6 * value for value in values]
    rate.set(np.array(10.0))
    factor = 100  # frozen, as every number of Python's
    graph.launch()
    assert y.tolist() == [150, 180]


def test_views_are_of_the_same_memory(record: Recording) -> None:
    x = on_gpu(np.arange(12).reshape(3, 4))

    def step() -> Any:
        views = x.T, x[1:, ::2], x.reshape(4, 3), x[0], x[0, 0], np.moveaxis(x, 0, 1), *x
        views = *views, *np.split(x, 3), np.broadcast_to(x, (2, 3, 4)), x.view(np.int64)
        x[2].__imul__(2)
        return views

    graph, views = record(step)
    assert {view.base is x for view in views} == {True}
    assert len(record_of(graph).calls) == 1  # views are not computed
    expected = on_gpu(np.arange(12).reshape(3, 4))
    expected[2] *= 2
    graph.launch()
    assert views[1].tolist() == expected[1:, ::2].tolist()
    assert views[6].tolist() == expected[0].tolist()
    assert np.ascontiguousarray(x, like=x) is x.astype(x.dtype, copy=False) is x


def record_of(graph: Any) -> Any:
    return graph._recorded


def test_layouts_are_those_of_a_call(record: Recording) -> None:
    """Sums are then added in the same order."""
    x = on_gpu(np.arange(6).reshape(2, 3))
    _, y = record(lambda: np.exp(x.T))
    assert y.host.strides == np.exp(x.T).host.strides
    assert not y.host.flags.c_contiguous


@pytest.mark.parametrize("on_device", [False, True])
def test_kernels_are_recorded(record: Recording, on_device: bool) -> None:
    """They may change arrays in place, return arrays, and read numbers on the device."""
    rng = np.random.default_rng(0)
    grad, average, square = (rng.random(5).astype(np.float32) for _ in range(3))
    delta = np.empty(5, np.float32)
    ours = [on_gpu(array, np.float32) for array in (delta, grad, average, square)]
    numbers = [0.1, 0.9, 0.99, 1e-8, 0.5, False]
    given = [on_gpu(0.1), *numbers[1:4], on_gpu(0.5), False] if on_device else numbers
    update = kernels(ours[0]).optimizer.adam
    graph, _ = record(update, *ours, *given)
    assert ours[2].tolist() == average.tolist()
    for rate in (0.1, 0.2) if on_device else (0.1, 0.1):
        if on_device:
            given[0].set(np.array(rate))
        ag.kernels.cpu.optimizer.adam(delta, grad, average, square, rate, *numbers[1:])
        graph.launch()
        for array, known in zip(ours, (delta, grad, average, square)):
            assert array.tolist() == known.tolist()
    if on_device:
        update(*ours, *given)
        ag.kernels.cpu.optimizer.adam(delta, grad, average, square, 0.2, *numbers[1:])
        assert ours[0].tolist() == delta.tolist()


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("in_place", [False, True])
def test_kernels_that_return_what_they_are_given(
    record: Recording, name: str, in_place: bool
) -> None:
    values, bias = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0.5, -0.5])
    z, b = on_gpu(values), on_gpu(bias)
    graph, y = record(getattr(kernels(z).activation, name).forward_biased, z, b, in_place)
    assert (y is z) == in_place
    assert z.tolist() == values.tolist()
    expected = getattr(ag.kernels.cpu.activation, name).forward_biased(values, bias, in_place)
    graph.launch()
    assert y.tolist() == expected.tolist()
    assert z.tolist() == values.tolist()


def test_single_numbers_of_kernels_stay_on_the_device(record: Recording) -> None:
    x = on_gpu([1, 2])
    graph, finite = record(kernels(x).optimizer.all_finite, x)
    for value in (1.0, np.inf):
        x.set(np.array([value, 0]))
        graph.launch()
        assert finite.item() == np.isfinite(value)


# -- refusals --------------------------------------------------------------------------------------

LOOKS: dict[str, Callable[[Any], Any]] = {
    "item": lambda x: x[0].item(),
    "get": lambda x: x.get(),
    "tolist": lambda x: x.tolist(),
    "tobytes": lambda x: x.tobytes(),
    "bool": lambda x: bool(x[0]),
    "int": lambda x: int(x[0]),
    "float": lambda x: float(x[0]),
    "format": lambda x: f"{x}",
    "array_equal": lambda x: np.array_equal(x, x),
    "flatnonzero": lambda x: np.flatnonzero(x),
    "index by booleans": lambda x: x[x > 1],
    "synchronize": lambda x: fake_graphs.get_current_stream().synchronize(),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_spoils_the_capture(name: str, cupy: Any) -> None:
    x, stream = on_gpu([1, 2]), cupy.cuda.Stream()
    with stream:
        stream.begin_capture()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match=f"Unsupported: {name}"):
            LOOKS[name](x)
        with pytest.raises(RuntimeError, match="Invalidated"):
            x + 1
        with pytest.raises(RuntimeError, match="Invalidated"):
            stream.is_capturing()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Invalidated"):
            stream.end_capture()
        assert not stream.is_capturing()
        LOOKS[name](x)


COPIES: dict[str, Callable[[Any], Any]] = {
    "set": lambda x: x.set(np.zeros(2)),
    "copy by asarray": lambda x: np.asarray(np.zeros(2), like=x),
    "copy by array": lambda x: np.array([1, 2], like=x),
    "copy by ascontiguousarray": lambda x: np.ascontiguousarray(1.0, like=x),
    "copy of an index": lambda x: x[[0, 1]],
    "addresses for concatenate": lambda x: np.concatenate([x] * 9),
    "addresses for stack": lambda x: np.stack([x] * 9),
    "copy of a value": lambda x: x.__setitem__(np.zeros_like(x, dtype=np.int64), 0.0),
    "copy of a value to put": lambda x: np.put_along_axis(x, (x > 1).astype(np.int64), 0, 0),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_from_the_host_are_refused(name: str, record: Recording) -> None:
    x = on_gpu([1, 2])

    def step() -> Any:
        with pytest.raises(RuntimeError, match=f"{name}: .*H2D transfers are disallowed"):
            COPIES[name](x)
        return x + 1

    graph, y = record(step)
    graph.launch()  # the capture was as valid as before
    assert y.tolist() == [2, 3]
    COPIES[name](x)


@pytest.mark.parametrize("join", [ag.stack, ag.concatenate])
@pytest.mark.parametrize("count", [8, 9, 65])
def test_many_tensors_are_joined(join: Any, count: int, record: Recording) -> None:
    arrays = np.arange(6.0 * count).reshape(count, 2, 3)
    parts = [ag.tensor(array).to("cuda") for array in arrays]
    graph, joined = record(lambda: join(parts, axis=1).data)
    graph.launch()
    np.testing.assert_array_equal(joined.get(), join(list(arrays), axis=1))


def test_few_arrays_or_of_several_dtypes_are_joined_without(record: Recording) -> None:
    x = on_gpu([1, 2])
    several = [x, *[x.astype(np.float32)] * 8]
    graph, joined = record(lambda: (np.stack([x] * 8), np.concatenate(several)))
    graph.launch()
    assert joined[0].tolist() == [[1, 2]] * 8
    assert joined[1].tolist() == [1, 2] * 9


PRODUCTS: dict[str, Callable[[Any], Any]] = {
    "@": lambda x: x @ x,
    "matmul": lambda x: np.matmul(x, x),
    "einsum": lambda x: np.einsum("ij,jk", x, x),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_cupys_are_refused(name: str, record: Recording) -> None:
    x = on_gpu(np.eye(2))
    with pytest.raises(NotImplementedError, match="cuBLAS API during stream capture"):
        record(PRODUCTS[name], x)


def test_products_are_recorded_inside_recordable(record: Recording, cupy: Any) -> None:
    x, y = on_gpu([[1, 2], [3, 4]]), on_gpu(np.zeros((2, 2)))
    matmul = kernels(x).product.matmul
    graph, (z, same) = record(lambda: (matmul(x, x), matmul(x, x, out=y)))
    assert same is y
    graph.launch()
    assert z.tolist() == y.tolist() == matmul(x, x).tolist() == [[7, 10], [15, 22]]
    with pytest.raises(TypeError, match="int64 and int64"):
        record(matmul, *[x.astype(np.int64)] * 2)
    with pytest.raises(ValueError, match="not C-contiguous"):
        record(matmul, x, x, y.T)
    stream = cupy.cuda.Stream()
    with stream:
        stream.begin_capture()
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            matmul(x, x)
        with record.products, cupy.cuda.Stream(), pytest.raises(RuntimeError, match="on the strea"):
            matmul(x, x)
        stream.end_capture()
    record.products = None
    with pytest.raises(RuntimeError, match="IllegalAddress"):
        graph.launch()


def test_captures_are_balanced(cupy: Any) -> None:
    stream, other = cupy.cuda.Stream(), cupy.cuda.Stream()
    with pytest.raises(RuntimeError, match="default"):
        cupy.cuda.get_current_stream().begin_capture()
    with pytest.raises(RuntimeError, match="IllegalState"):
        stream.end_capture()
    stream.begin_capture()
    assert stream.is_capturing()
    assert not other.is_capturing()
    for again in stream, other:
        with pytest.raises(RuntimeError, match="IllegalState"):
            again.begin_capture()
    with pytest.raises(RuntimeError, match="IllegalState"):
        other.end_capture()
    stream.end_capture()
    assert not stream.is_capturing()


def test_other_streams_compute_meanwhile(cupy: Any) -> None:
    x, stream, other = on_gpu([1, 2]), cupy.cuda.Stream(), cupy.cuda.Stream()
    with stream:
        stream.begin_capture()
        with other:
            x *= 2
            assert cupy.cuda.get_current_stream() is other
            assert x.tolist() == [2, 4]
        stream.end_capture().launch()
    assert x.tolist() == [2, 4]


def test_the_default_stream_would_wait_for_the_capture(cupy: Any) -> None:
    x, stream = on_gpu([1, 2]), cupy.cuda.Stream()
    stream.begin_capture()
    with pytest.raises(RuntimeError, match="Implicit"):
        x + 1
    with pytest.raises(RuntimeError, match="Invalidated"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(RuntimeError, match="Unsupported: deviceSynchronize"):
        cupy.cuda.runtime.deviceSynchronize()
    with pytest.raises(RuntimeError, match="Invalidated"):
        stream.end_capture()


def test_no_launch_in_a_capture(record: Recording) -> None:
    x = on_gpu([1, 2])
    graph, _ = record(lambda: x + 1)
    with pytest.raises(RuntimeError, match="a graph in a graph"):
        record(graph.launch)


def test_launches_are_no_waits(record: Recording) -> None:
    x = on_gpu([1, 2])
    graph, y = record(lambda: x + 1)
    with fake_cupy.waits() as noted:
        graph.launch(record.stream)
        record.stream.synchronize()
        y.get()
        x.set(np.zeros(2))
    assert noted == ["synchronize", "get", "set"]


# -- memory ----------------------------------------------------------------------------------------


def test_what_is_freed_is_lost(record: Recording) -> None:
    """A graph does not keep the arrays that it reads."""
    x = on_gpu([1, 2])
    graph, y = record(np.add, x, 1)
    graph.launch()
    assert y.tolist() == [2, 3]
    view = x[:]
    del x
    graph.launch()  # there is a view of it
    assert y.tolist() == [2, 3]
    del view
    graph.launch()
    assert np.isnan(y.get()).all()


def test_what_only_a_cycle_holds_is_lost(record: Recording) -> None:
    holder: list[Any] = [on_gpu([1, 2])]
    holder.append(holder)

    def step() -> Any:
        return holder[0] + 1

    def last_step() -> Any:
        nonlocal holder
        result, holder = step(), []
        return result

    graph, y = record(last_step)
    graph.launch()
    assert np.isnan(y.get()).all()


def test_a_graph_has_to_write_before_it_reads(record: Recording) -> None:
    """Its own memory no longer holds the values of the last launch."""
    x = on_gpu([1, 2])

    def step() -> Any:
        between = np.zeros_like(x)
        between += x
        unfilled = np.empty_like(x)
        unfilled += x
        return between + 0, unfilled + 0

    graph, (filled, unfilled) = record(step)
    for _ in range(2):
        graph.launch()
        assert filled.tolist() == [1, 2]
        assert np.isnan(unfilled.get()).all()


def test_a_state_made_in_the_capture_may_lie_where_others_did(record: Recording) -> None:
    """A launch first computes the values that were there before."""
    x = on_gpu([1, 2])

    def step() -> Any:
        early = np.empty_like(x)
        x.__iadd__((x * 0).sum())  # between these a pool has back the product
        return early, np.empty_like(x)

    graph, (early, late) = record(step)
    for array in early, late:
        array.set(np.ones(2))
    graph.launch()
    assert early.tolist() == [1, 1]
    assert np.isnan(late.get()).all()


def test_a_pool_of_its_own_is_needed(record: Recording) -> None:
    """In a shared pool, a graph would write over the arrays of others."""
    x, before = on_gpu([1, 2]), on_gpu([3, 4])
    graph, y = record.without_pool(lambda: x * 2 + 1)
    after = on_gpu([3, 4])
    graph.launch()
    assert y.tolist() == [3, 5]
    assert before.tolist() == [3, 4]
    assert np.isnan(after.get()).all()
    graph, y = record(lambda: x * 2 + 1)
    after = on_gpu([3, 4])
    graph.launch()
    assert (y.tolist(), after.tolist()) == ([3, 5], [3, 4])


def test_a_pool_has_to_live_as_long_as_the_graph(record: Recording, cupy: Any) -> None:
    x = on_gpu([1, 2])
    graph, _ = record(lambda: x * 2 + 1)
    graph.launch()
    record.pool = None
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="IllegalAddress"):
        graph.launch()


def test_what_is_given_back_is_not_there(record: Recording, cupy: Any) -> None:
    x = on_gpu([1, 2])
    graph, result = record(lambda: x * 2 + 1)
    record.pool.free_all_blocks()
    assert [memory.root for memory in record.pool.left] == [result.host]
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="IllegalAddress"):
        graph.launch()


# -- arrays ----------------------------------------------------------------------------------------


def test_empty_arrays_are_not_filled() -> None:
    x = on_gpu([1, 2])
    for empty in np.empty_like(x), np.empty(2, like=x):
        assert np.isnan(empty.get()).all()


def test_like_an_array_there_is_no_single_number() -> None:
    """CuPy treats the shape () as no shape."""
    x = on_gpu([1, 2])
    for array in (
        np.zeros_like(x, shape=()),
        np.ones_like(x, shape=()),
        np.empty_like(x, shape=()),
        np.full_like(x, 3, shape=()),
    ):
        assert array.shape == (2,)
    assert np.zeros((), like=x).shape == ()


def test_an_array_is_copied_to_another_device_only(cupy: Any) -> None:
    x = on_gpu([1, 2])
    assert cupy.asarray(x) is x
    with cupy.cuda.Device(1):
        y = cupy.asarray(x)
    y += 1
    assert (y.device.id, y.tolist(), x.tolist()) == (1, [2, 3], [1, 2])


def test_set_takes_an_array_like_its_own() -> None:
    x = on_gpu([[1, 2], [3, 4]])
    x.set(np.array([[5.0, 6.0], [7.0, 8.0]]).T)
    assert x.tolist() == [[5, 7], [6, 8]]
    for wrong in [[1.0] * 2] * 2, x, np.ones((2, 2), np.float32):
        with pytest.raises(TypeError, match="set"):
            x.set(wrong)
    with pytest.raises(ValueError, match="Shape mismatch"):
        x.set(np.ones(4))
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, 0].set(np.ones(2))


def test_indices_out_of_range_are_wrapped_around(record: Recording) -> None:
    x, ids = on_gpu(np.arange(6).reshape(2, 3)), on_gpu([0, 3, 7, -1], np.int64)
    graph, (rows, elements, taken) = record(
        lambda: (x[ids], x[None, ..., ids], np.take(x, ids, axis=1))
    )
    graph.launch()
    assert rows[:, 0].tolist() == [0, 3, 3, 3]
    assert elements[0, 1].tolist() == taken[1].tolist() == [3, 3, 4, 5]
    x[ids[2:], 0] = 9
    assert x.tolist() == [[0, 1, 2], [9, 4, 5]]


# -- all of it -------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    ag.seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 8),
        nn.Tanh(),
        nn.LayerNorm(8),
        nn.Linear(8, 2),
    )


def test_a_network_runs_as_a_graph(record: Recording) -> None:
    rng = np.random.default_rng(0)
    batches = [
        [rng.normal(size=shape).astype(np.float32) for shape in ((5, 1, 4, 4), (5, 2))]
        for _ in range(3)
    ]

    def step(model: Any, x: Any, y: Any) -> list[Any]:
        loss = F.mse_loss(model(ag.tensor(x)), y)
        loss.backward()
        return [loss.data, *(p.grad for p in parameters)]

    model = network().to("cuda")
    parameters = list(model.parameters())
    state = {name: array.copy() for name, array in model.state_dict().items()}
    expected = []
    for x, y in batches:
        expected.append([a.get() for a in step(model, on_gpu(x, x.dtype), on_gpu(y, y.dtype))])
        for p in parameters:
            p.grad = None
    statistics = [buffer.data.get() for buffer in model.buffers()]

    model.load_state_dict(state)
    inputs = [on_gpu(array, array.dtype) for array in batches[0]]
    captured = ag.capture(model)
    graph, results = record(step, captured, *inputs)
    for batch, known in zip(batches, expected):
        for array, values in zip(inputs, batch):
            array.set(values)
        graph.launch()
        for result, value in zip(results, known, strict=True):
            np.testing.assert_array_equal(result.get(), value)
    for buffer, value in zip(model.buffers(), statistics):
        np.testing.assert_array_equal(buffer.data.get(), value)
