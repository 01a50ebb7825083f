"""The kernels for the GPU against those for the CPU: on the host everywhere, on a GPU with -m gpu.

On the host the launchers run on NumPy arrays and the CUDA sources as C++ (see host_cuda.py). This
tests shapes, indices, barriers and formulas, but not what only a GPU can show.
"""

import ctypes
import dataclasses
import doctest
import inspect
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import host_cuda
import numpy as np
import pytest
from agrad.kernels import cpu
from exact_quotients import CASES, Case, check, pairs, running
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agrad.testing.strategies import LAYOUTS, seeds

Array = NDArray[Any]
DTYPES = [np.float32, np.float64]
# A block has 256 threads; those that sum take 16 elements each.
SIZES = [0, 1, 7, 255, 256, 257, 1000, 16 * 256 - 1, 16 * 256 + 1, 9000]
dtypes = st.sampled_from(DTYPES)


class OnNumpy:
    """The GPU's kernels with NumPy arrays in and out; changes in place reach those arrays."""

    def __init__(self, cupy: Any, modules: dict[str, ModuleType]) -> None:
        self.cupy = cupy
        self.modules = {name.rpartition(".")[2]: module for name, module in modules.items()}

    def __getattr__(self, module: str) -> Any:
        return OnNumpyModule(self.cupy, self.modules[module])


class OnNumpyModule:
    """A module, or an activation in one."""

    def __init__(self, cupy: Any, module: Any) -> None:
        self.cupy = cupy
        self.module = module

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.module, name)
        if not callable(function):
            return OnNumpyModule(self.cupy, function)

        def call(*arguments: Any) -> Any:
            moved = [
                self.cupy.asarray(value) if isinstance(value, np.ndarray) else value
                for value in arguments
            ]
            result = function(*moved)
            for value, there in zip(arguments, moved):
                if isinstance(value, np.ndarray) and value.flags.writeable:
                    value[...] = self.cupy.asnumpy(there)
            if isinstance(result, tuple):
                return tuple(map(self.cupy.asnumpy, result))
            return self.cupy.asnumpy(result)

        return call


@pytest.fixture(scope="module")
def host_cupy(tmp_path_factory: pytest.TempPathFactory) -> host_cuda.HostCupy:
    return host_cuda.HostCupy(host_cuda.build(tmp_path_factory.mktemp("cuda")))


@pytest.fixture(scope="module")
def host(host_cupy: host_cuda.HostCupy) -> OnNumpy:
    return OnNumpy(host_cupy, host_cuda.import_over(host_cupy))


@pytest.fixture(scope="module", params=["host", pytest.param("device", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> OnNumpy:
    if request.param == "host":
        return request.getfixturevalue("host")
    cupy = pytest.importorskip("cupy")
    from agrad.kernels import gpu

    return OnNumpy(cupy, {name: getattr(gpu, name) for name in gpu.__all__})


def assert_ulps(actual: Any, expected: Any, ulps: float, least: float = 0.0) -> None:
    """Compare within ulps of the expected value, or of `least` if that is larger."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    info = np.finfo(expected.dtype)
    scale = np.maximum(np.abs(expected), max(least, float(info.tiny)))
    with np.errstate(invalid="ignore", over="ignore"):
        close = np.abs(actual - expected) <= ulps * info.eps * scale
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    if expected.dtype == np.float32:
        # As CuPy compiles, a device takes subnormal numbers for zero.
        same |= (np.abs(actual) < info.tiny) & (np.abs(expected) < info.tiny)
    np.testing.assert_array_equal(
        np.where(close | same, expected, actual), expected, err_msg=f"more than {ulps} ulps off"
    )


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: type, most: int) -> Array:
    """Return integers so small that sums and products of a few are exact in any order."""
    return rng.integers(-most, most + 1, shape).astype(dtype)


# Interface ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", cpu.__all__)
def test_names_and_signatures_are_the_cpus(host: OnNumpy, module: str) -> None:
    ours, theirs = host.modules[module], getattr(cpu, module)
    names = getattr(theirs, "__all__", None) or [
        name
        for name, value in vars(theirs).items()
        if isinstance(value, FunctionType) and value.__module__ == theirs.__name__
    ]
    assert set(names) <= set(ours.__all__)
    for name in names:
        assert parameters_of(getattr(ours, name)) == parameters_of(getattr(theirs, name))


def parameters_of(value: Any) -> Any:
    """Return the names of a function's parameters; of an activation, those of its methods.

    For NumPy's own functions, compare only the first parameters.
    """
    if isinstance(value, np.ufunc):
        return [*(f"x{i + 1}" for i in range(value.nin)), "out"]
    if callable(value):
        return list(inspect.signature(value).parameters)
    return {name: parameters_of(getattr(value, name)) for name in dir(value) if name[0] != "_"}


@pytest.mark.parametrize("module", [*cpu.__all__, "random"])
def test_examples(host: OnNumpy, module: str, doctest_flags: int) -> None:
    results = doctest.testmod(host.modules[module], optionflags=doctest_flags)
    assert results.attempted > 0
    assert results.failed == 0


def test_every_kernel_has_a_launcher(host: OnNumpy) -> None:
    activations = host.modules["activation"].relu, host.modules["activation"].tanh
    launched = {
        value.name
        for holder in (*host.modules.values(), *activations)
        for value in vars(holder).values()
        if type(value).__name__ == "Kernel"
    }
    assert set(host_cuda.kernels()) == launched


def test_wrong_arrays_are_refused(gpu: OnNumpy) -> None:
    x = np.ones(4, np.float32)
    with pytest.raises(TypeError, match="gelu: arrays are float32 or float64, not int64"):
        gpu.gelu.gelu(np.ones(4, np.int64))
    sigmoid = "sigmoid_divided_difference"
    with pytest.raises(TypeError, match=f"{sigmoid}: float64 array of shape"):
        running("sigmoid", gpu)(x, np.ones(4))
    with pytest.raises(
        ValueError, match=rf"{sigmoid}: a has shape \(4,\), b \(3,\); pass one shape"
    ):
        running("sigmoid", gpu)(x, x[:3])
    rmsprop = gpu.optimizer.module.rmsprop
    x, spread = gpu.cupy.asarray(x), gpu.cupy.zeros(8, np.float32)[::2]
    with pytest.raises(TypeError, match=r"rmsprop: float32 array .* C-contiguous"):
        rmsprop(x, x, spread, 0.1, 0.9, 1e-8)


# Elementwise --------------------------------------------------------------------------------------

# Clip's divided difference is computed by NumPy's functions on either device.
CASES = [case for case in CASES if case.name != "clip"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_divided_differences_are_exact(case: Case, dtype: type, host: OnNumpy) -> None:
    case = dataclasses.replace(case, kernels=host)

    @settings(max_examples=5)
    @given(st.lists(pairs(dtype), min_size=1, max_size=20))
    def property(examples: list[tuple[float, float]]) -> None:
        a, b = np.array(examples, dtype).T
        check(case, a, b)

    property()


SPECIAL = [0.0, 1e-3, 0.7, 1.3, 6.0, 40.0, 300.0, 1e30, math.inf]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_divided_differences_are_the_cpus(case: Case, dtype: type, gpu: OnNumpy) -> None:
    rng = np.random.default_rng(0)
    values = [math.nan, *SPECIAL, *(-x for x in SPECIAL)]
    special = np.array(list(itertools.product(values, repeat=2))).T
    a = rng.normal(size=700) * 10 ** rng.uniform(-6, 2, 700)
    b = a * (1 + rng.choice([-1, 1], 700) * 10 ** rng.uniform(-16, 1, 700))
    a, b = np.concatenate([special, [a, b]], axis=1).astype(dtype)
    theirs = dataclasses.replace(case, kernels=gpu)
    # The CPU's values are within their ulps. float32 adds one ulp here; float64 adds as many, and
    # the 5 ulps of a device's erfc. Where the result passes through zero without a factor that
    # does, its scale is 1.
    through_zero = case.name in ("silu", "gelu", "sin", "cos")
    with np.errstate(all="ignore"):
        ulps = case.ulps + 1 if dtype == np.float32 else 16
        assert_ulps(theirs(a, b), case(a, b), ulps, least=float(through_zero))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout: str, dtype: type, gpu: OnNumpy) -> None:
    a, b = np.random.default_rng(0).uniform(0.1, 2, (2, 4, 6)).astype(dtype)
    a, b = LAYOUTS[layout](a), LAYOUTS[layout](b)
    for name in "relu", "leaky_relu":
        slope = () if name == "relu" else (0.5,)
        expected = running(name)(a, b - 1, *slope)
        assert_ulps(running(name, gpu)(a, b - 1, *slope), expected, 1)
    assert_ulps(gpu.gelu.gelu(a), cpu.gelu.gelu(a), 8)
    empty = np.empty((3, 0), dtype)
    assert gpu.gelu.gelu(empty).shape == gpu.divided_difference.exp(empty, empty).shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_logistic_function(dtype: type, gpu: OnNumpy) -> None:
    x = np.concatenate([np.linspace(-80, 80, 3001), [-1e4, 1e4, math.nan, 1e-30, -0.0]])
    x, grad = x.astype(dtype), np.linspace(-2, 2, 3006).astype(dtype)
    for name in "sigmoid", "silu":
        expected = getattr(cpu.logistic, name)(x)
        assert_ulps(getattr(gpu.logistic, name)(x), expected, 4)
    expected = cpu.logistic.silu_backward(grad, x)
    # The derivative goes through zero.
    assert_ulps(gpu.logistic.silu_backward(grad, x), expected, 8, least=0.2)
    out = cpu.logistic.sigmoid(x)
    expected = cpu.logistic.sigmoid_backward(grad, out)
    assert_ulps(gpu.logistic.sigmoid_backward(grad, out), expected, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["erf", "gelu", "gelu_derivative"])
def test_gelu(name: str, dtype: type, gpu: OnNumpy) -> None:
    x = np.concatenate([np.linspace(-40, 40, 3001), [math.inf, math.nan, 1e-30, -0.0]])
    x = x.astype(dtype)
    with np.errstate(all="ignore"):
        expected = getattr(cpu.gelu, name)(x)
    ulps = 1 if dtype == np.float32 else 8
    # The derivative goes through zero.
    least = 0.2 if name == "gelu_derivative" else 0
    assert_ulps(getattr(gpu.gelu, name)(x), expected, ulps, least)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_average_of_erf(dtype: type, gpu: OnNumpy) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=700) * 10 ** rng.uniform(-6, 0.5, 700)
    b = a * (1 + rng.choice([-1, 1], 700) * 10 ** rng.uniform(-16, 1, 700))
    special = np.array(list(itertools.product([math.nan, *SPECIAL, -1.0, -math.inf], repeat=2))).T
    a, b = np.concatenate([special, [a, b]], axis=1).astype(dtype)
    expected = cpu.gelu.erf_divided_difference(a, b)
    found = gpu.gelu.erf_divided_difference(a, b)
    assert_ulps(found, expected, 1 if dtype == np.float32 else 64)


POWER_SHAPES = [
    ((3, 4), ()),
    ((), ()),
    ((300,), (1,)),
    ((1,), (2, 3)),
    ((3, 1), (4,)),
    ((0, 2), (2,)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", POWER_SHAPES, ids=str)
@pytest.mark.parametrize("name", ["in_base", "in_exponent"])
def test_powers(name: str, shapes: tuple[Any, Any], dtype: type, gpu: OnNumpy) -> None:
    rng = np.random.default_rng(1)
    ends, others = shapes
    a, b, other = (np.asarray(rng.uniform(0.1, 4, s), dtype) for s in (ends, ends, others))
    b.flat[::2] = a.flat[::2] * dtype(1 + 1e-5)
    for signs in itertools.product([1, -1, 0], repeat=3):
        arrays = [np.asarray(x * dtype(sign)) for x, sign in zip((a, b, other), signs)]
        with np.errstate(all="ignore"):
            expected = getattr(cpu.power, name)(*arrays)
        # For float64, two logarithms and an exponential are off.
        ulps = 1 if dtype == np.float32 else 24
        assert_ulps(getattr(gpu.power, name)(*arrays), expected, ulps)
    mixed = getattr(gpu.power, name)(a, b, other.astype(np.float64))
    assert mixed.dtype == np.float64


# Dense layers -------------------------------------------------------------------------------------

# A block is 16 columns wide and sums 128 rows, of which each thread takes every 16th.
TABLES = [(0, 3), (3, 0), (1, 1), (5, 17), (128, 16), (129, 33), (300, 5), (16500, 2)]


def ends_of(activation: Any, a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """Return a, f(a), b, f(b) for the activation's own f."""
    return a, activation.forward(a), b, activation.forward(b)


def table_problem(shape: tuple[int, int], dtype: type) -> list[Array]:
    """Return a gradient, two ends that are equal in places, and a bias."""
    rng = np.random.default_rng(shape)
    grad, a, b = 2 * rng.normal(size=(3, *shape)).astype(dtype)
    a.flat[::3], b.flat[::5] = 0, a.flat[::5]
    return [grad, a, b, rng.normal(size=shape[1]).astype(dtype)]


def assert_sums(actual: Array, expected: Array, rows: Array) -> None:
    """Compare sums of some thousand numbers in any order, within 4 eps of the sum of magnitudes."""
    scale = np.abs(rows).sum(axis=0) + np.finfo(rows.dtype).tiny
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert (np.abs(actual - expected) <= 4 * np.finfo(rows.dtype).eps * scale).all()


@pytest.mark.parametrize("shape", TABLES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_and_biases_of_rows(dtype: type, shape: tuple[int, int], gpu: OnNumpy) -> None:
    rows, z, _, bias = table_problem(shape, dtype)
    assert_sums(gpu.dense.sum_rows(rows), rows.sum(axis=0, dtype=np.float64).astype(dtype), rows)
    expected = z + bias
    gpu.dense.add_bias(z, bias)
    np.testing.assert_array_equal(z, expected)
    np.testing.assert_array_equal(gpu.dense.midpoint(rows, z), (rows + z) / 2)


@pytest.mark.parametrize("shape", TABLES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_activations(name: str, dtype: type, shape: tuple[int, int], gpu: OnNumpy) -> None:
    """ReLU gives the CPU's bits; the CPU's tanh may be off by 3 ulps, and a device's by 2."""
    ours, theirs = getattr(gpu.activation, name), getattr(cpu.activation, name)
    grad, a, b, _ = table_problem(shape, dtype)
    exact = name == "relu"
    out = theirs.forward(a)
    assert_ulps(ours.forward(a), out, 0 if exact else 5)
    expected = theirs.backward(grad, out)
    # The CPU fuses 1 - out^2, which is small where out is not.
    assert_ulps(ours.backward(grad, out), expected, 0 if exact else 2, least=4)
    ends = ends_of(theirs, a, b)
    expected = theirs.average_backward(grad, *ends)
    assert_ulps(ours.average_backward(grad, *ends), expected, 1 if exact else 16)


@pytest.mark.parametrize("shape", TABLES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_a_bias_with_an_activation_is_one_without(
    name: str, dtype: type, shape: tuple[int, int], gpu: OnNumpy
) -> None:
    """The bits are the same, as captured steps repeat recorded ones."""
    activation = getattr(gpu.activation, name)
    grad, a, b, bias = table_problem(shape, dtype)
    room = np.full_like(bias, 7)
    z, sums = a.copy(), a.copy()
    out = activation.forward_biased(z, bias)
    gpu.dense.add_bias(sums, bias)
    np.testing.assert_array_equal(z, sums)
    np.testing.assert_array_equal(out, activation.forward(sums))
    in_place = a.copy()
    activation.forward_biased(in_place, bias, True)
    np.testing.assert_array_equal(in_place, out)
    z_grad, bias_grad = activation.backward_biased(grad, out)
    np.testing.assert_array_equal(z_grad, activation.backward(grad, out))
    np.testing.assert_array_equal(bias_grad, gpu.dense.sum_rows(z_grad))
    ends = ends_of(activation, a, b)
    z_grad, bias_grad = activation.average_backward_biased(grad, *ends, room)
    np.testing.assert_array_equal(z_grad, activation.average_backward(grad, *ends))
    np.testing.assert_array_equal(bias_grad, gpu.dense.sum_rows(z_grad))
    np.testing.assert_array_equal(bias_grad, room)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_and_its_mean_slope_from_values(dtype: type, host: OnNumpy) -> None:
    """The mean slope has the factors 1 + |tanh| of both ends, each accurate to an ulp."""
    case = next(case for case in CASES if case.name == "tanh")
    case = dataclasses.replace(case, kernels=host, ulps=8)

    @settings(max_examples=30)
    @given(st.lists(pairs(dtype), min_size=1, max_size=20))
    def property(examples: list[tuple[float, float]]) -> None:
        a, b = np.array(examples, dtype).T
        check(case, a, b)

    property()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_activations_of_what_is_not_finite(name: str, dtype: type, gpu: OnNumpy) -> None:
    ours, theirs = getattr(gpu.activation, name), getattr(cpu.activation, name)
    values = [math.nan, *SPECIAL, *(-x for x in SPECIAL)]
    a, b = np.array(list(itertools.product(values, repeat=2)), dtype).T.copy()
    grad = np.ones_like(a)
    with np.errstate(all="ignore"):
        ends = ends_of(theirs, a, b)
        assert_ulps(ours.forward(a), ends[1], 5)
        assert_ulps(ours.backward(grad, ends[1]), theirs.backward(grad, ends[1]), 2, least=1)
        expected = theirs.average_backward(grad, *ends)
        assert_ulps(ours.average_backward(grad, *ends), expected, 16)


# Selection and sums of rows -----------------------------------------------------------------------


@st.composite
def lines(draw: st.DrawFn) -> tuple[Array, Array]:
    """Draw rows of lines between small integers: many of them meet, and many are equal."""
    shape = draw(st.sampled_from([(0, 3), (1, 1), (5, 2), (300, 3), (2, 3, 17), (3, 0)]))
    rng = np.random.default_rng(draw(seeds))
    dtype = draw(dtypes)
    start, end = (integers(rng, shape, dtype, 3) for _ in range(2))
    for value in draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), max_size=3)):
        if start.size:
            array = rng.choice([0, 1])
            (start, end)[array].flat[rng.integers(start.size)] = value
    return start, end


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_of_an_lstm(dtype: type, gpu: OnNumpy) -> None:
    rng = np.random.default_rng(0)
    projected, sums, sums_grad = rng.normal(size=(3, 6, 4 * 5)).astype(dtype)
    before, hidden, cell, grad, cell_grad = rng.normal(size=(5, 6, 5)).astype(dtype)
    results = []
    for kernels in (gpu, cpu):
        arrays = [x.copy() for x in (projected, sums, before, hidden, cell)]
        grads = [x.copy() for x in (grad, cell_grad, sums_grad)]
        kernels.recurrent.lstm_step(*arrays)
        kernels.recurrent.lstm_step_backward(arrays[1], before, arrays[4], *grads)
        results.append((*arrays, *grads))
    for ours, theirs in zip(*results):
        assert_ulps(ours, theirs, 32, least=1.0)


def test_average_shares(gpu: OnNumpy) -> None:
    @settings(max_examples=40)
    @given(lines())
    def property(drawn: tuple[Array, Array]) -> None:
        expected = cpu.selection.average_shares(*drawn)
        # Sums of a few crossing times, each accurate to an ulp or two.
        assert_ulps(gpu.selection.average_shares(*drawn), expected, 8, least=1.0)

    property()


@pytest.mark.parametrize("shape", [(1, 5000), (20, 128), (3, 129), (9, 40)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_average_shares_of_long_rows(dtype: type, shape: tuple[int, int], gpu: OnNumpy) -> None:
    """With ties at the start, at the end and of times, and with a row of NaN."""
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, *shape)).astype(dtype)
    start[0, 7::13], end[0, 7::13] = 3, 0.5  # leading lines that are equal all the way
    end[0, 5::11] = 7
    start[0, 5:30:11] = 2.5
    start[1:2, 3] = math.nan
    expected = cpu.selection.average_shares(start, end)
    assert_ulps(gpu.selection.average_shares(start, end), expected, 8, least=1.0)
    with np.errstate(invalid="ignore"):
        assert np.allclose(expected[:1].sum(axis=1), 1)


@pytest.mark.parametrize("count", [2047, 2048, 2049, 5000])
def test_a_row_of_an_embedding_that_is_named_often(count: int, gpu: OnNumpy) -> None:
    rng = np.random.default_rng(0)
    indices = np.where(rng.random(count + 40) < 0.95, 3, rng.integers(0, 5, count + 40))
    indices[:count] = 3
    rows = rng.normal(size=(len(indices), 40)).astype(np.float32)
    table, expected = np.ones((5, 40), np.float32), np.ones((5, 40), np.float32)
    cpu.embedding.add_rows(indices, rows, -1, expected)
    gpu.embedding.add_rows(indices, rows, -1, table)
    np.testing.assert_array_equal(table, expected)


def test_rows_of_an_embedding(gpu: OnNumpy) -> None:
    @settings(max_examples=12)
    @given(
        st.sampled_from([0, 1, 5, 60, 4000]),
        st.sampled_from([1, 3, 257]),
        dtypes,
        seeds,
        st.booleans(),
    )
    def property(count: int, width: int, dtype: type, seed: int, skips: bool) -> None:
        rng = np.random.default_rng(seed)
        indices = rng.integers(0, 7, count)
        rows, table = (rng.normal(size=(n, width)).astype(dtype) for n in (count, 7))
        expected = table.copy()
        skipped = 2 if skips else -1
        cpu.embedding.add_rows(indices, rows, skipped, expected)
        gpu.embedding.add_rows(indices, rows, skipped, table)
        np.testing.assert_array_equal(table, expected)  # the same sums in the same order

    property()


# Stacks -------------------------------------------------------------------------------------------

STACKS = {
    (7, 5): ["tanh"],
    (3, 64, 64, 64, 2): ["tanh", "relu", None, None],
    (70, 33, 33, 130, 1): ["relu", "tanh", "tanh", "relu"],
}


def of_stack(
    side: Any, cupy: Any, widths: tuple[int, ...], x: Array, ends: list[Array], moved: int
) -> list[Array]:
    """Return the results of both passes, and the gradients of parameters and inputs."""
    stack = side.Stack(widths, STACKS[widths])
    x = cupy.asarray(x)
    outs, passes = zip(*(stack.forward(x, cupy.asarray(end), True) for end in ends))
    grad = cupy.sin(outs[0] + cupy.ones_like(outs[0]))
    gradient, x_grad = cupy.empty(stack.size, np.float32), cupy.empty(x.shape, np.float32)
    stack.backward(grad, *passes, moved, gradient, x_grad)
    alone = cupy.empty(stack.size, np.float32)
    stack.backward(grad, *passes, moved, alone)
    out, lean = stack.forward(x, cupy.asarray(ends[0]))
    assert lean.values.before.size == 0
    for one, other in (alone, gradient), (out, outs[0]):
        np.testing.assert_array_equal(cupy.asnumpy(one), cupy.asnumpy(other))
    return [cupy.asnumpy(array) for array in (*outs, gradient, x_grad)]


@pytest.mark.parametrize("rows", [1, 8, 19])
@pytest.mark.parametrize("widths", STACKS, ids=str)
def test_stacks_of_layers(widths: tuple[int, ...], rows: int, gpu: OnNumpy) -> None:
    """Gradients are means from the first layer on that has moved, whichever it is."""
    rng, layers = np.random.default_rng(0), len(widths) - 1
    sizes = [n * m + m for n, m in itertools.pairwise(widths)]
    start = rng.normal(scale=0.3, size=sum(sizes)).astype(np.float32)
    update = rng.normal(scale=0.1, size=start.size).astype(np.float32)
    x = rng.normal(size=(rows, widths[0])).astype(np.float32)
    host = host_cuda.HostCupy({})
    for moved in range(layers + 1):
        end = start.copy()
        end[sum(sizes[:moved]) :] += update[sum(sizes[:moved]) :]
        ends = [start, end]
        expected = of_stack(cpu.stack, host, widths, x, ends, moved)
        found = of_stack(gpu.modules["stack"], gpu.cupy, widths, x, ends, moved)
        for ours, theirs in zip(found, expected):
            # Sums of up to 130 products, whose terms may cancel.
            assert_ulps(ours, theirs, 64, least=float(abs(theirs).max()))


def test_how_many_launches_a_stack_takes(host: OnNumpy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which docs/gpu.md counts in the graph of a step."""
    module, counts = host.modules["stack"], Counter[str]()

    def counted(name: str) -> None:
        function = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    for name in ("_forward", "_backward", "_bias_gradients", "matmul", "midpoint"):
        counted(name)
    widths = 5, 4, 4, 4, 2
    stack = module.Stack(widths, ["tanh", "tanh", "tanh", None])
    parameters, x = np.ones(stack.size, np.float32), np.ones((3, 5), np.float32)
    out, here = stack.forward(x, parameters, True)
    _, there = stack.forward(x, parameters.copy(), True)
    gradient = np.empty_like(parameters)
    stack.backward(out, here, here, 4, gradient)
    # The two layers of one shape share a product.
    assert counts == {"_forward": 2, "_backward": 1, "_bias_gradients": 1, "matmul": 3}
    stack.backward(out, here, there, 0, gradient)
    assert counts["midpoint"] == 1


# Softmax ------------------------------------------------------------------------------------------


@st.composite
def classified(draw: st.DrawFn) -> tuple[Any, ...]:
    """Draw logits at the start and at the end, and the other arguments of `cross_entropy`."""
    rows = draw(st.sampled_from([0, 1, 5, 12]))
    n = draw(st.sampled_from([1, 3, 10, 64, 65, 257, 700]))
    rng, dtype = np.random.default_rng(draw(seeds)), draw(dtypes)
    start, step = 3 * rng.normal(size=(2, rows, n))
    if draw(st.booleans()):
        start[:, 1:2] = -math.inf
    classes = rng.integers(0, n, rows)
    classes[1:][rng.random(max(0, rows - 1)) < 0.2] = -1
    weight = draw(st.none() | st.just(rng.uniform(0.5, 2, n).astype(dtype)))
    ends = [x.astype(dtype) for x in (start, start + step)]
    return *ends, classes, weight, -1, draw(st.sampled_from(["none", "sum", "mean"]))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy_of_many_examples(reduction: str, gpu: OnNumpy) -> None:
    """Sums over examples are taken in parts, one for each block."""
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 8300, 2))
    classes, weight = rng.integers(-1, 2, 8300), np.array([0.5, 2.0])
    rest = classes, weight, -1, reduction
    grad = np.linspace(1, 2, 8300 if reduction == "none" else 1)
    for name, inputs in {
        "cross_entropy": (start,),
        "cross_entropy_backward": (grad, start),
        "cross_entropy_average_backward": (grad, start, end),
    }.items():
        expected = getattr(cpu.softmax, name)(*inputs, *rest)
        # These are sums of thousands of terms in another order, and some of the averages cancel.
        ulps = 1024 if "average" in name else 64
        assert_ulps(getattr(gpu.softmax, name)(*inputs, *rest), expected, ulps, least=1.0)
    classes[[4500, 8200]] = 2, -7
    assert gpu.softmax.first_outside(classes, 2, -1) == 4500
    classes[4500] = 0
    assert gpu.softmax.first_outside(classes, 2, -1) == 8200


def test_cross_entropy(gpu: OnNumpy) -> None:
    @settings(max_examples=20)
    @given(classified())
    def property(drawn: tuple[Any, ...]) -> None:
        start, end, *rest = drawn
        rows, reduction = len(start), rest[-1]
        if reduction == "mean" and rows == 0:
            return  # without examples it is not defined, and NumPy, but not CuPy, warns
        expected = cpu.softmax.cross_entropy(start, *rest)
        # The CPU's exponentials and logarithms are accurate to an ulp.
        assert_ulps(gpu.softmax.cross_entropy(start, *rest), expected, 8, least=1.0)
        grad = np.linspace(1, 2, rows if reduction == "none" else 1).astype(start.dtype)
        expected = cpu.softmax.cross_entropy_backward(grad, start, *rest)
        result = gpu.softmax.cross_entropy_backward(grad, start, *rest)
        # A probability near 1, minus 1, has only a few digits.
        assert_ulps(result, expected, 16, least=1.0)
        expected = cpu.softmax.cross_entropy_average_backward(grad, start, end, *rest)
        result = gpu.softmax.cross_entropy_average_backward(grad, start, end, *rest)
        # The correction is a small quotient of the rounding errors of the logarithms.
        assert_ulps(result, expected, 256, least=1.0)
        expected = cpu.softmax.average_softmax(start, end)
        assert_ulps(gpu.softmax.average_softmax(start, end), expected, 256, least=1.0)

    property()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (12, 10), (5, 700)], ids=str)
def test_softmax_of_rows(shape: tuple[int, int], dtype: type, masked: bool, gpu: OnNumpy) -> None:
    rng = np.random.default_rng(0)
    x, grad = rng.normal(size=(2, *shape)).astype(dtype)
    x[:1, 1:2], x[1:2] = math.nan, -math.inf
    with np.errstate(invalid="ignore"):
        out, expected = gpu.softmax.softmax(x, masked), cpu.softmax.softmax(x, masked)
    assert_ulps(out, expected, 16)
    out = np.where(np.isnan(expected), 0, expected)
    expected = cpu.softmax.softmax_backward(grad, out)
    # The sums of gradients are in single precision here.
    assert_ulps(gpu.softmax.softmax_backward(grad, out), expected, 16, least=1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 10, 100])
def test_averaged_softmax_of_long_moves(n: int, dtype: type, gpu: OnNumpy) -> None:
    rng = np.random.default_rng(n)
    start = rng.normal(size=(24, n)).astype(dtype)
    end = (start + rng.choice([10, 30, 100], (24, 1)) * rng.normal(size=(24, n))).astype(dtype)
    start[0, 1], end[1, 1], end[2, 0] = -np.inf, -np.inf, -np.inf
    result = gpu.softmax.average_softmax(start, end)
    assert result.min() >= 0
    assert_ulps(result, cpu.softmax.average_softmax(start, end), 256, least=1.0)


@pytest.mark.parametrize("kernels", ["cpu", "gpu"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_classes_outside_touch_nothing(
    dtype: type, weighted: bool, kernels: str, gpu: OnNumpy
) -> None:
    """Such classes may be found after the step: the other examples keep their results."""
    softmax = (gpu if kernels == "gpu" else cpu).softmax
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 9, 5)).astype(dtype)
    weight = rng.uniform(0.5, 2, 5).astype(dtype) if weighted else None
    wrong, classes = np.array([1, 3, 4, 7, 8]), rng.integers(0, 5, 9)
    others = np.delete(np.arange(9), wrong)
    expected = classes.copy()
    classes[wrong] = [5, -2, 10**15, -(2**63), 2**63 - 1]
    grad = np.linspace(1, 2, 9).astype(dtype)
    for name, inputs in {
        "cross_entropy": (start,),
        "cross_entropy_backward": (grad, start),
        "cross_entropy_average_backward": (grad, start, end),
    }.items():
        results = (
            getattr(softmax, name)(*inputs, labels, weight, -1, "none")[others]
            for labels in (classes, expected)
        )
        np.testing.assert_array_equal(*results)
    assert softmax.first_outside(classes, 5, -1) == 1


@pytest.mark.parametrize("kernels", ["cpu", "gpu"])
def test_indices_outside_touch_nothing(kernels: str, gpu: OnNumpy) -> None:
    indices = np.array([-1, 2, 5, 10**15, 2, -(2**63), 2**63 - 1, -4])
    rows, table = np.random.default_rng(0).normal(size=(8, 3)), np.zeros((5, 3))
    (gpu if kernels == "gpu" else cpu).embedding.add_rows(indices, rows, -1, table)
    np.testing.assert_array_equal(table[2], rows[1] + rows[4])
    assert not np.delete(table, 2, axis=0).any()


def test_the_first_class_outside(gpu: OnNumpy) -> None:
    for classes, expected in ([], -1), ([0, -1, 2], -1), ([0, -1, 3, 9], 2), ([-2, 3], 0):
        assert gpu.softmax.first_outside(np.array(classes, np.int64), 3, -1) == expected


# Normalization ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(0, 3), (1, 1), (5, 2), (70, 10), (9, 128), (3, 257), (2, 700)], ids=str
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm(dtype: type, weighted: bool, shape: tuple[int, int], gpu: OnNumpy) -> None:
    rng = np.random.default_rng(0)
    grad, start, end = rng.normal(size=(3, *shape)).astype(dtype)
    weight, end_weight, bias = rng.normal(size=(3, shape[1])).astype(dtype)
    if not weighted:
        weight = end_weight = bias = None
    ours, theirs = cpu.normalization, gpu.normalization
    expected = [
        ours.layer_norm(start, weight, bias, 1e-5),
        *ours.layer_norm_backward(grad, start, weight, 1e-5),
        *ours.layer_norm_average_backward(grad, start, end, weight, end_weight, 1e-5),
    ]
    results = [
        theirs.layer_norm(start, weight, bias, 1e-5),
        *theirs.layer_norm_backward(grad, start, weight, 1e-5),
        *theirs.layer_norm_average_backward(grad, start, end, weight, end_weight, 1e-5),
    ]
    # Differences from means, even for rows of two elements with a small variance.
    for result, reference in zip(results, expected, strict=True):
        assert_ulps(result, reference, 64, least=np.abs(reference).max(initial=1.0))


# Convolution --------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, ...]:
    """Draw x, weight, bias, the size of the output and the geometry of windows."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(pair)
    before, after = (draw(st.tuples(st.integers(0, 4), st.integers(0, 4))) for _ in range(2))
    groups = draw(st.integers(1, 3))
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    # The smallest length that has this many windows, or a longer one that extends past the last.
    spare = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    spans = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, stride, kernel, dilation)]
    lengths = [max(1, span - b - a + rest) for span, b, a, rest in zip(spans, before, after, spare)]
    images, channels, filters = (draw(st.integers(least, 3)) for least in (0, 1, 1))
    rng, dtype = np.random.default_rng(draw(seeds)), draw(dtypes)
    x = integers(rng, (images, groups * channels, *lengths), dtype, 5)
    weight = integers(rng, (groups * filters, channels, *kernel), dtype, 5)
    bias = draw(st.none() | st.just(integers(rng, (groups * filters,), dtype, 5)))
    return x, weight, bias, size, cpu.conv.Geometry(stride, before, dilation, groups)


def check_convolution(
    gpu: OnNumpy, x: Array, weight: Array, bias: Array | None, size: Any, geometry: Any
) -> None:
    """Check one with small integers, whose sums are exact in any order."""
    expected = cpu.conv.convolve(x, weight, bias, size, geometry)
    np.testing.assert_array_equal(gpu.conv.convolve(x, weight, bias, size, geometry), expected)
    grad = np.arange(expected.size, dtype=x.dtype).reshape(expected.shape) % 11 - 5
    for name, inputs in {
        "input_gradient": (grad, weight, x.shape[2:]),
        "weight_gradient": (grad, x, weight.shape[2:]),
    }.items():
        expected = getattr(cpu.conv, name)(*inputs, geometry)
        np.testing.assert_array_equal(getattr(gpu.conv, name)(*inputs, geometry), expected)


def test_convolutions(gpu: OnNumpy) -> None:
    @given(convolutions())
    def property(drawn: tuple[Any, ...]) -> None:
        check_convolution(gpu, *drawn)

    property()


def test_convolution_of_images_that_do_not_fit_at_once(
    gpu: OnNumpy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.conv.module, "_COLUMN_BYTES", 3 * 8 * 2 * 9 * 25)
    rng = np.random.default_rng(0)
    x, weight = (integers(rng, shape, np.float64, 5) for shape in ((7, 2, 7, 7), (3, 2, 3, 3)))
    geometry = cpu.conv.Geometry((1, 1), (0, 0), (1, 1), 1)
    check_convolution(gpu, x, weight, np.ones(3), (5, 5), geometry)


# Pooling ------------------------------------------------------------------------------------------


@st.composite
def poolings(draw: st.DrawFn) -> tuple[Any, ...]:
    """Draw x, the gradient of the output, and windows, some of them only in padding."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(pair)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    lengths = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rng, dtype = np.random.default_rng(draw(seeds)), draw(dtypes)
    planes = draw(st.integers(0, 9))
    x, end = (integers(rng, (planes, *lengths), dtype, 2) for _ in range(2))
    if x.size and draw(st.booleans()):
        x.flat[rng.integers(x.size)] = math.nan
    grad = integers(rng, (planes, *size), dtype, 5)
    return x, end, grad, cpu.pooling.Window(kernel, stride, padding, dilation)


def test_pooling_of_the_largest(gpu: OnNumpy) -> None:
    @given(poolings())
    def property(drawn: tuple[Any, ...]) -> None:
        x, end, grad, window = drawn
        size = grad.shape[1:]
        pool, pool_there = cpu.pooling, gpu.pooling
        expected = pool.max_pool(x, size, window)
        np.testing.assert_array_equal(pool_there.max_pool(x, size, window), expected)
        expected = pool.max_gradient(grad, x, window)
        np.testing.assert_array_equal(pool_there.max_gradient(grad, x, window), expected)
        expected = pool.average_max_gradient(grad, x, end, window)
        # Parts of up to nine windows, each at most 5, are added in another order.
        result = pool_there.average_max_gradient(grad, x, end, window)
        assert_ulps(result, expected, 8, least=45.0)

    property()


@st.composite
def spans(draw: st.DrawFn, length: int) -> Array:
    """Draw ascending starts and stops of windows along an axis; some windows may be empty."""
    count = draw(st.integers(1, 5))
    ends = draw(st.lists(st.integers(0, length), min_size=2 * count, max_size=2 * count))
    starts, stops = sorted(ends[:count]), sorted(ends[count:])
    return np.array([starts, stops], np.int64)


@st.composite
def mean_poolings(draw: st.DrawFn) -> tuple[Any, ...]:
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rows, columns = draw(spans(height)), draw(spans(width))
    rng, dtype = np.random.default_rng(draw(seeds)), draw(dtypes)
    size = rows.shape[1], columns.shape[1]
    planes = draw(st.integers(0, 9))
    x, grad = (rng.normal(size=(planes, *s)).astype(dtype) for s in ((height, width), size))
    return x, grad, rows, columns, rng.integers(1, 9, size).astype(dtype)


def test_pooling_of_means(gpu: OnNumpy) -> None:
    @given(mean_poolings())
    def property(drawn: tuple[Any, ...]) -> None:
        x, grad, *windows = drawn
        expected = cpu.pooling.mean_pool(x, *windows)
        np.testing.assert_array_equal(gpu.pooling.mean_pool(x, *windows), expected)
        expected = cpu.pooling.mean_gradient(grad, x.shape[1:], *windows)
        result = gpu.pooling.mean_gradient(grad, x.shape[1:], *windows)
        np.testing.assert_array_equal(result, expected)

    property()


# Optimizers ---------------------------------------------------------------------------------------

UPDATES = {
    "scale": (0, (-0.1,)),
    "add_scaled": (0, (-0.1,)),
    "heavy_ball": (1, (0.1, 0.9, 0.7, True, False)),
    "heavy_ball, cautious": (1, (0.1, 0.9, 0.7, False, True)),
    "rmsprop": (1, (0.1, 0.999, 1e-8)),
    "centered_rmsprop": (2, (0.1, 0.99, 1e-3)),
    "adam": (2, (0.1, 0.9, 0.999, 1e-8, 0.3, False)),
    "adam, cautious": (2, (0.1, 0.9, 0.999, 1e-8, 0.3, True)),
    "amsgrad": (3, (0.1, 0.9, 0.999, 1e-8, 0.3, False)),
    "amsgrad, cautious": (3, (0.1, 0.9, 0.999, 1e-8, 0.3, True)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_updates(name: str, dtype: type, size: int, gpu: OnNumpy) -> None:
    kernel, _, cautious = name.partition(", ")
    states, numbers = UPDATES[name]
    rng = np.random.default_rng(size)
    # A variance, not the difference of two numbers that cancel.
    square, small = 1 + rng.random(size), 0.1 * rng.normal(size=size)
    ours = [
        np.zeros(size, dtype),
        *(x.astype(dtype) for x in (rng.normal(size=size), square, small, square)[: 1 + states]),
    ]
    if kernel in ("adam", "amsgrad"):
        ours[2], ours[3] = ours[3], ours[2]
    theirs = [x.copy() for x in ours]
    getattr(cpu.optimizer, kernel)(*ours, *numbers)
    getattr(gpu.optimizer, kernel)(*theirs, *numbers)
    for delta, grad, *_ in (ours, theirs) if cautious else ():
        assert (np.sign(delta) * grad <= 0).all()
        assert size < 9 or not delta.all()
    for actual, expected in zip(theirs, ours):
        # Sums of two products, fused or not, of which one may be the smaller by cancellation.
        assert_ulps(actual, expected, 8, least=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_updates_by_numbers_on_the_device(name: str, dtype: type, gpu: OnNumpy) -> None:
    """The bits are those that the host's numbers give."""
    kernel = name.partition(",")[0]
    states, numbers = UPDATES[name]
    parameters = parameters_of(getattr(cpu.optimizer, kernel))[-len(numbers) :]
    there = [
        np.array(value) if parameter in ("factor", "lr", "fresh", "root_correction") else value
        for parameter, value in zip(parameters, numbers, strict=True)
    ]
    arrays = [x.astype(dtype) for x in np.random.default_rng(0).random((2 + states, 300))]
    others = [x.copy() for x in arrays]
    getattr(gpu.optimizer, kernel)(*arrays, *numbers)
    getattr(gpu.optimizer, kernel)(*others, *there)
    np.testing.assert_array_equal(others, arrays)


def test_numbers_on_the_device_are_read_when_the_kernel_runs(
    host: OnNumpy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated launch reads the present value at the address, as in a CUDA graph."""
    optimizer, dtype = host.modules["optimizer"], np.dtype(np.float64)
    delta, grad, square_average, rate = np.zeros(3), np.ones(3), np.ones(3), host.cupy.array(0.5)
    optimizer.rmsprop(delta, grad, square_average, rate, 0.5, 0.0)
    launch, launches = optimizer._rmsprop._functions[dtype], []
    monkeypatch.setitem(
        optimizer._rmsprop._functions, dtype, lambda *arguments: launches.append(arguments)
    )
    optimizer.rmsprop(delta, grad, square_average, rate, 0.5, 0.0)
    rate[...] = 2
    launch(*launches[0])
    assert delta.tolist() == [-2.0] * 3


@pytest.mark.parametrize("rate", [np.ones(1), np.array(1, np.float32), np.array(1)], ids=str)
def test_numbers_on_the_device_are_of_one_kind(rate: Array, gpu: OnNumpy) -> None:
    x = np.ones(3, np.float32)
    message = r"rmsprop: \w+ array of shape .* where a number, or a float64 array without axes, is"
    with pytest.raises(TypeError, match=message):
        gpu.optimizer.rmsprop(x, x, x, rate, 0.9, 0.0)


def search_problem(size: int, dtype: type) -> list[Array]:
    rng = np.random.default_rng(size)
    return [rng.normal(size=size).astype(dtype) for _ in range(4)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_search_of_elements(dtype: type, size: int, gpu: OnNumpy) -> None:
    ours = search_problem(size, dtype)
    ours[0][::7] = 0
    ours[1][::21] = 0
    ours[2][::14] = 0
    ours[3][::5] = 0
    theirs = [x.copy() for x in ours]
    expected = cpu.optimizer.search_elements(*ours)
    sums = gpu.optimizer.search_elements(*theirs)
    for actual, array in zip(theirs, ours):
        assert_ulps(actual, array, 4, least=1e-3)
    # Fractions in float32 may differ by an ulp of theirs.
    np.testing.assert_allclose(sums, expected, rtol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shortening_by_a_known_curvature(dtype: type, size: int, gpu: OnNumpy) -> None:
    grad, curvature, delta, _ = search_problem(size, dtype)
    grad[::7] = 0
    curvature[::14] = 0
    delta[::5] = 0
    theirs = delta.copy()
    cpu.optimizer.shorten_elements(grad, curvature, delta)
    gpu.optimizer.shorten_elements(grad, curvature, theirs)
    assert_ulps(theirs, delta, 4, least=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.9])
def test_blend_of_curvatures(smoothing: float, dtype: type, size: int, gpu: OnNumpy) -> None:
    own, average, delta, curvature = search_problem(size, dtype)
    own[::3] = average[::3] = 0
    delta[::5] = 0
    average[1::7] = math.nan
    weight = np.abs(np.roll(curvature, 1))
    ours = [own, average, delta, curvature, weight]
    theirs = [x.copy() for x in ours]
    cpu.optimizer.blend_curvature(*ours, smoothing)
    gpu.optimizer.blend_curvature(*theirs, smoothing)
    # A compiler may fuse products into sums that cancel; of float32, they are taken in float64.
    tolerance = 1e-6 if dtype == np.float32 else 1e-11
    for actual, array in zip(theirs, ours):
        np.testing.assert_allclose(actual, array, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_search_of_what_is_not_finite(dtype: type, gpu: OnNumpy) -> None:
    values = [0.0, 1.0, -2.0, math.inf, -math.inf, math.nan]
    ours = list(np.array(list(itertools.product(values, repeat=4)), dtype).T.copy())
    theirs = [x.copy() for x in ours]
    with np.errstate(all="ignore"):
        cpu.optimizer.search_elements(*ours)
        gpu.optimizer.search_elements(*theirs)
    for actual, expected in zip(theirs, ours):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    "shape", [(0, 3), (3, 0), (1, 1), (5, 300), (1, 9000), (40, 1), (2, 4097)], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_search_of_groups(dtype: type, shape: tuple[int, int], gpu: OnNumpy) -> None:
    arrays = [x.reshape(shape) for x in search_problem(math.prod(shape), dtype)]
    ours, theirs = np.empty((3, shape[0])), np.empty((3, shape[0]))
    cpu.optimizer.loss_shares(*arrays, ours)
    gpu.optimizer.loss_shares(*arrays, theirs)
    # Sums of up to 9000 numbers around 1 of either sign, in another order.
    np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-11)
    fractions, fractions_there = np.empty(shape[0], dtype), np.empty(shape[0], dtype)
    expected = cpu.optimizer.search_groups(ours, fractions)
    sums = gpu.optimizer.search_groups(ours, fractions_there)
    assert_ulps(fractions_there, fractions, 2)
    np.testing.assert_allclose(sums, expected, rtol=1e-12)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_all_finite(value: float, gpu: OnNumpy) -> None:
    x = np.ones(1000, np.float32)
    assert gpu.optimizer.all_finite(x)
    assert gpu.optimizer.all_finite(x[:0])
    x[777] = value
    assert not gpu.optimizer.all_finite(x)


# Random numbers -----------------------------------------------------------------------------------


def scrambled(host_cupy: host_cuda.HostCupy, counter: Array, key: int) -> Array:
    """Return the result of philox.cuh for a counter, four words, and a key."""
    words = counter.astype(np.uint32)
    host_cupy.libraries["float"].scramble(ctypes.c_void_p(words.ctypes.data), ctypes.c_uint64(key))
    return words


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", -1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            0x299F31D0_A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers_of_philox(
    counter: str, key: int, expected: str, host_cupy: host_cuda.HostCupy
) -> None:
    """The answers that its authors publish with Random123."""
    given, answer = (np.array([int(word, 16) for word in w.split()]) for w in (counter, expected))
    np.testing.assert_array_equal(scrambled(host_cupy, given, key), answer)


def test_uniform_numbers_are_the_words_of_philox(
    host: OnNumpy, host_cupy: host_cuda.HostCupy
) -> None:
    """The numbers are the upper 24 bits of the words, four for each counter."""
    key = 0x123456789ABCDEF0
    words = [scrambled(host_cupy, np.array([block, 0, 0, 0]), key) for block in range(700)]
    numbers = host.random.uniform((5, 560), key)
    np.testing.assert_array_equal(numbers.ravel() * 2**24, np.ravel(words) // 2**8)
    assert numbers.dtype == np.float32


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3,), (4,), (5,), (2, 3, 7), (2000,)], ids=str)
def test_uniform_numbers_are_a_function_of_key_and_place(
    shape: tuple[int, ...], gpu: OnNumpy
) -> None:
    for key in 0, -1, 2**63 - 1:
        numbers = gpu.random.uniform(shape, key)
        assert numbers.shape == shape
        expected = gpu.random.uniform((3000,), key)[: numbers.size]
        np.testing.assert_array_equal(numbers.ravel(), expected)
        np.testing.assert_array_equal(gpu.random.uniform(shape, np.array(key)), numbers)


def test_uniform_numbers_are_uniform(gpu: OnNumpy) -> None:
    count = 1_000_000
    numbers = gpu.random.uniform((count,), 7).astype(np.float64)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # Means of a million: five standard deviations of the mean, of the square and of a product.
    assert abs(numbers.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / count)
    assert abs((numbers**2).mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / count)
    centered = numbers - 1 / 2
    for distance in 1, 2, 3, 4:
        products = centered[distance:] * centered[:-distance]
        assert abs(products.mean()) < 5 / 12 / math.sqrt(count)
    # Of a million drawn from 2^24, birthdays leave 970,781 different ones, give or take 164.
    assert abs(len(np.unique(numbers)) - 970_781) < 5 * 164
    assert (gpu.random.uniform((count,), 8) != numbers).mean() > 0.999


# Grids and barriers -------------------------------------------------------------------------------


def one_of_each(gpu: OnNumpy) -> Iterator[Any]:
    """Yield the results of every kernel, at sizes of several blocks."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 30))
    wide = rng.normal(size=(400, 50))
    for case in CASES:
        yield running(case.name, gpu)(a, b, *case.parameters)
    yield gpu.gelu.erf(a)
    yield gpu.gelu.erf_divided_difference(a, b)
    yield gpu.gelu.gelu(a)
    yield gpu.gelu.gelu_derivative(a)
    yield gpu.logistic.sigmoid(a)
    yield gpu.logistic.sigmoid_backward(a, b)
    yield gpu.logistic.silu(a)
    yield gpu.logistic.silu_backward(a, b)
    for activation in (gpu.activation.relu, gpu.activation.tanh):
        yield activation.forward(a)
        yield activation.backward(a, b)
        yield activation.average_backward(b, *ends_of(activation, a, b))
        rows, bias = wide[:, ::-1].copy(), wide[0]
        yield activation.forward_biased(rows, bias)
        yield rows
        yield activation.forward_biased(rows.copy(), bias, True)
        yield from activation.backward_biased(wide, rows)
        yield from activation.average_backward_biased(wide, *ends_of(activation, wide, rows))
    gpu.dense.add_bias(wide, wide[1].copy())
    yield gpu.dense.midpoint(a, b)
    yield gpu.dense.sum_rows(wide)
    yield gpu.power.in_base(abs(a), abs(b), b)
    yield gpu.power.in_exponent(a, b, abs(b))
    yield gpu.selection.average_shares(a.reshape(-1, 2), b.reshape(-1, 2))
    yield gpu.normalization.layer_norm(a, a[0], b[0], 1e-5)
    yield from gpu.normalization.layer_norm_backward(a, b, a[0], 1e-5)
    yield from gpu.normalization.layer_norm_average_backward(a, a, b, a[0], b[0], 1e-5)
    examples = rng.integers(0, 30, 30), abs(a[0]), -1, "mean"
    yield gpu.softmax.cross_entropy(a, *examples)
    yield gpu.softmax.cross_entropy_backward(np.ones(1), a, *examples)
    yield gpu.softmax.cross_entropy_average_backward(np.ones(1), a, b, *examples)
    yield gpu.softmax.average_softmax(a, b)
    yield gpu.softmax.softmax(a, True)
    yield gpu.softmax.softmax_backward(a, b)
    table = np.zeros((5, 300))
    gpu.embedding.add_rows(rng.integers(0, 5, 40), rng.normal(size=(40, 300)), 3, table)
    yield table
    x, weight = rng.normal(size=(5, 4, 9, 9)), rng.normal(size=(2, 4, 3, 3))
    geometry = cpu.conv.Geometry((1, 1), (1, 1), (1, 1), 1)
    out = gpu.conv.convolve(x, weight, None, (9, 9), geometry)
    yield out
    yield gpu.conv.input_gradient(out, weight, (9, 9), geometry)
    planes = x.reshape(-1, 9, 9)
    window = cpu.pooling.Window((3, 3), (2, 2), (1, 1), (1, 1))
    grad = gpu.pooling.max_pool(planes, (5, 5), window)
    yield grad
    yield gpu.pooling.max_gradient(grad, planes, window)
    yield gpu.pooling.average_max_gradient(grad, planes, planes[::-1], window)
    windows = np.array([[0, 3, 5], [4, 7, 9]])
    yield gpu.pooling.mean_pool(planes, windows, windows, np.full((3, 3), 9.0))
    yield gpu.pooling.mean_gradient(planes[:, :3, :3], (9, 9), windows, windows, np.ones((3, 3)))
    for name, (states, numbers) in UPDATES.items():
        arrays = [np.ones(900), *abs(rng.normal(size=(1 + states, 900)))]
        getattr(gpu.optimizer, name.partition(",")[0])(*arrays, *numbers)
        yield from arrays
    own, average, delta, curvature = search_problem(900, np.float64)
    gpu.optimizer.blend_curvature(own, average, delta, curvature, abs(own), 0.5)
    yield average
    yield curvature
    gpu.optimizer.shorten_elements(own, curvature, delta)
    yield delta
    shares = np.empty((3, 30))
    gpu.optimizer.loss_shares(a, a + b, b, a * b, shares)
    yield shares
    yield gpu.random.uniform((9000,), 1)


def sums_of_each(gpu: OnNumpy) -> Iterator[Any]:
    """Yield the results of kernels that sum over a block: these depend on the grid."""
    arrays = search_problem(9000, np.float64)
    yield gpu.optimizer.search_elements(*(x.copy() for x in arrays))
    shares, fractions = np.empty((3, 2)), np.empty(2)
    gpu.optimizer.loss_shares(*(x.reshape(2, 4500) for x in arrays), shares)
    yield shares
    yield gpu.optimizer.search_groups(shares, fractions)
    yield fractions


def test_kernels_loop_over_what_is_beyond_the_grid(
    host: OnNumpy, host_cupy: host_cuda.HostCupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(one_of_each(host))
    monkeypatch.setattr(host_cupy, "largest_grid", 2)
    for actual, value in zip(one_of_each(host), expected, strict=True):
        np.testing.assert_array_equal(actual, value)


def test_the_order_of_threads_and_blocks_does_not_matter(
    host: OnNumpy, host_cupy: host_cuda.HostCupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [*one_of_each(host), *sums_of_each(host)]
    monkeypatch.setattr(host_cupy, "backward", True)
    for actual, value in zip([*one_of_each(host), *sums_of_each(host)], expected, strict=True):
        np.testing.assert_array_equal(actual, value)
    # This includes blocks that continue with the next piece: they must not write what is still
    # read.
    monkeypatch.setattr(host_cupy, "largest_grid", 2)
    for actual, value in zip(one_of_each(host), expected):
        np.testing.assert_array_equal(actual, value)
