"""Run a case of an operation on a device, and collect all results."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import agrad as ag
from agrad.backend import Array, move
from agrad.errors import HigherDerivativeError
from agrad.testing.strategies import Case, operations, seeds


class Drawn(NamedTuple):
    """A case of an operation, and the other inputs of its sweeps."""

    case: Case
    inputs: list[Array]
    updates: list[Array]
    cotangent: Array


@st.composite
def drawn(draw: Any, name: str) -> Drawn:
    case, dtype = draw(operations(name)), draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(seeds))
    inputs = [array.astype(dtype) for array in case.inputs]
    updates = [
        np.asarray(domain.step(x, rng.uniform(-0.3, 0.3, x.shape).astype(dtype)) - x)
        for x, domain in zip(inputs, case.domains, strict=True)
    ]
    with ag.no_grad():
        shape = case(*map(ag.tensor, inputs)).shape
    return Drawn(case, inputs, updates, rng.normal(size=shape).astype(dtype))


def results(drawn: Drawn, device: str) -> list[Array]:
    """Return the value, the gradients, the value at the end and the average gradients.

    After these come the recorded gradients and their gradients, if the operation has any.
    """
    inputs, updates, cotangent = carried(list(drawn[1:]), device)
    leaves = [ag.tensor(array, requires_grad=True) for array in inputs]
    out = drawn.case.function(*leaves, **carried(dict(drawn.case.options), device))
    out.backward(cotangent, retain_graph=True)
    higher = higher_gradients(out, leaves, cotangent)
    end = (out * cotangent).sum().average_backward(dict(zip(leaves, updates, strict=True)))
    averages = [x.average_grad for x in leaves]
    return [out.data, *[x.grad for x in leaves], end, *averages, *higher]


def higher_gradients(out: ag.Tensor, leaves: list[ag.Tensor], cotangent: Array) -> list[Array]:
    """Return the recorded gradients, and the gradients of their sum."""
    try:
        recorded = ag.grad(out, leaves, cotangent, create_graph=True)
    except HigherDerivativeError:
        return []
    slopes = [slope for slope in recorded if slope.requires_grad]
    ones = [np.ones_like(slope.data) for slope in slopes]
    second = ag.grad(slopes, leaves, ones, retain_graph=True, allow_unused=True) if slopes else []
    return [slope.data for slope in (*recorded, *second) if slope is not None]


def carried(value: Any, device: str) -> Any:
    """Return `value` with its arrays on a device."""
    if isinstance(value, np.ndarray):
        return move(value, device)
    if type(value) in (list, tuple):
        return type(value)(carried(part, device) for part in value)
    if isinstance(value, dict):
        return {key: carried(part, device) for key, part in value.items()}
    return value
