"""Tensors on a device: on a stand-in for CuPy everywhere, and on a GPU where there is one."""

import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fake_cupy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operations import ENTRIES, Case
from strategies import seeds

import agrad as ag
from agrad.backend import Array, move

every_operation = pytest.mark.parametrize("name", ENTRIES)


@pytest.fixture(scope="module", autouse=True)
def cupy() -> Iterator[Any]:
    with fake_cupy.installed() as module:
        yield module


# -- every operation -------------------------------------------------------------------------------


def carried(value: Any, device: str) -> Any:
    """Return a case's function, and the constants in its closure, for tensors on a device."""
    if isinstance(value, np.ndarray):
        return move(value, device)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(carried(part, device) for part in value)
    if isinstance(value, dict):
        return {key: carried(part, device) for key, part in value.items()}
    if isinstance(value, types.FunctionType) and value.__closure__:
        cells = [types.CellType(carried(cell.cell_contents, device)) for cell in value.__closure__]
        return types.FunctionType(
            value.__code__, value.__globals__, value.__name__, value.__defaults__, tuple(cells)
        )
    return value


def sweeps(
    function: Callable[..., ag.Tensor],
    inputs: Sequence[Array],
    updates: Sequence[Array],
    cotangent: Array,
) -> list[Array]:
    """Return the value, the gradients, the value at the end and the average gradients."""
    leaves = [ag.tensor(array, requires_grad=True) for array in inputs]
    out = function(*leaves)
    out.backward(cotangent, retain_graph=True)
    end = (out * cotangent).sum().average_backward(dict(zip(leaves, updates, strict=True)))
    return [out.data, *[x.grad for x in leaves], end, *[x.average_grad for x in leaves]]


@every_operation
@settings(max_examples=10)
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]), seed=seeds)
def test_an_operation_stays_on_its_device(name: str, data: Any, dtype: Any, seed: int) -> None:
    """All of it is computed from and by the device's arrays, and to the same bits."""
    case: Case = data.draw(ENTRIES[name].cases)
    rng = np.random.default_rng(seed)
    inputs = [array.astype(dtype) for array in case.inputs]
    updates = [
        domain.step(x, rng.uniform(-0.3, 0.3, x.shape).astype(dtype)) - x
        for x, domain in zip(inputs, case.domains, strict=True)
    ]
    with ag.no_grad():
        shape = case.function(*map(ag.tensor, inputs)).shape
    constants = inputs, updates, rng.normal(size=shape).astype(dtype)
    expected = sweeps(case.function, *constants)
    device = "cuda:0"
    results = sweeps(carried(case.function, device), *carried(constants, device))
    for result, known in zip(results, expected, strict=True):
        assert type(result) is fake_cupy.ndarray
        assert (result.shape, result.dtype) == (known.shape, known.dtype)
        np.testing.assert_array_equal(result.get(), known)
