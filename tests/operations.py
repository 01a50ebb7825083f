"""Every operation, with what it takes to test it: calls with random parameters and valid inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import NONZERO, REAL, Domain, arrays, axes, broadcastable, shapes

import agrad as ag
from agrad.backend import Array
from agrad.ops import activation, arithmetic, linalg, reduction
from agrad.ops.operation import Operation


@dataclass(frozen=True)
class Case:
    """A function of Tensors, inputs at which it is smooth, and the domains they may move in."""

    function: Callable[..., ag.Tensor]
    inputs: tuple[Array, ...]
    domains: tuple[Domain, ...]
    reference: Callable[..., Any] | None = None
    """NumPy's function of arrays, where there is one."""


@dataclass(frozen=True)
class Entry:
    """The operation that the cases record, among others where it is one step of a function."""

    operation: type[Operation]
    cases: st.SearchStrategy[Case]


def elementwise(
    function: Callable[..., ag.Tensor], reference: Callable[..., Any] | None, *domains: Domain
) -> st.SearchStrategy[Case]:
    """Cases of a function of broadcast elements."""

    @st.composite
    def cases(draw: Any) -> Case:
        inputs = draw(arrays(*zip(draw(broadcastable(len(domains))), domains, strict=True)))
        return Case(function, inputs, domains, reference)

    return cases()


def reduced(
    name: str, domain: Domain = REAL, min_side: int = 0, **parameters: st.SearchStrategy[Any]
) -> st.SearchStrategy[Case]:
    """Cases of a reduction that Tensors and arrays have as a method of one name."""

    @st.composite
    def cases(draw: Any) -> Case:
        shape = draw(shapes(min_side=min_side))
        options = {"axis": draw(axes(len(shape))), "keepdims": draw(st.booleans())}
        options |= {key: draw(strategy) for key, strategy in parameters.items()}

        def function(x: Any) -> Any:
            return getattr(x, name)(**options)

        return Case(function, draw(arrays((shape, domain))), (domain,), function)

    return cases()


@st.composite
def affine(draw: Any) -> Case:
    *batch, n, m = draw(shapes(min_dims=2, max_dims=4, max_side=3))
    with_bias = draw(st.booleans())
    inputs = draw(arrays(((*batch, n), REAL), ((m, n), REAL), *[((m,), REAL)] * with_bias))

    def function(*tensors: ag.Tensor) -> ag.Tensor:
        return ag.tensor(0.0)._apply(linalg.Affine(), *tensors)

    def reference(x: Array, weight: Array, bias: Array | float = 0.0) -> Array:
        return x @ weight.T + bias

    return Case(function, inputs, (REAL,) * len(inputs), reference)


ENTRIES = {
    "add": Entry(arithmetic.Add, elementwise(lambda x, y: x + y, np.add, REAL, REAL)),
    "subtract": Entry(
        arithmetic.Subtract, elementwise(lambda x, y: x - y, np.subtract, REAL, REAL)
    ),
    "negative": Entry(arithmetic.Negative, elementwise(lambda x: -x, np.negative, REAL)),
    "multiply": Entry(
        arithmetic.Multiply, elementwise(lambda x, y: x * y, np.multiply, REAL, REAL)
    ),
    "square": Entry(arithmetic.Multiply, elementwise(lambda x: x * x, np.square, REAL)),
    "divide": Entry(arithmetic.Divide, elementwise(lambda x, y: x / y, np.divide, REAL, NONZERO)),
    "affine": Entry(linalg.Affine, affine()),
    "sum": Entry(reduction.Sum, reduced("sum")),
    "tanh": Entry(
        activation.Tanh, elementwise(lambda x: x._apply(activation.Tanh(), x), np.tanh, REAL)
    ),
    "relu": Entry(
        activation.ReLU,
        elementwise(lambda x: x._apply(activation.ReLU(), x), lambda x: np.maximum(x, 0), REAL),
    ),
}
