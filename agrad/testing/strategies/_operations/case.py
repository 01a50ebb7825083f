"""Test cases of operations: a function of Tensors, and valid arguments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from agrad.backend import Array
from agrad.core.tensor import Tensor
from agrad.ops.operation import Operation
from agrad.testing.strategies._arrays import broadcastable
from agrad.testing.strategies._points import Domain, points

__all__ = ["Case", "Cases", "Entry", "elementwise"]


@dataclass(frozen=True, repr=False)
class Case:
    """A function of Tensors with valid arguments. Calling the case keeps the options.

    Attributes:
        function: The function; it takes one Tensor per input, and the options.
        inputs: Float64 arrays at which the function is smooth.
        domains: The domain of each input.
        options: The other arguments.
        reference: A NumPy function of the same arguments, if there is one.
        name: The name of the function in failing examples; if empty, its key in `OPERATIONS`.
    """

    function: Callable[..., Any]
    inputs: tuple[Array, ...]
    domains: tuple[Domain, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    name: str = ""

    def __call__(self, *inputs: Any) -> Tensor:
        out: Tensor = self.function(*inputs, **self.options)
        return out

    def __repr__(self) -> str:
        names = [f"x{i}" for i in range(len(self.inputs))]
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        lines = [f"{self.name or 'f'}({', '.join(names + options)}) at"]
        for name, array in zip(names, self.inputs, strict=True):
            values = repr(array).replace("\n", "\n" + " " * (len(name) + 3))
            lines.append(f"{name} = {values}")
        return "\n".join(lines)


Cases = st.SearchStrategy[Case]


@dataclass(frozen=True)
class Entry:
    """Cases of a function, and an operation that it records, possibly among others."""

    operation: type[Operation]
    cases: Cases


def elementwise(
    function: Callable[..., Tensor], reference: Callable[..., Any] | None, *domains: Domain
) -> Cases:
    """Draw cases of an elementwise function of inputs that broadcast, one for each domain.

    Example:
        >>> from hypothesis import find
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad.testing import strategies as ags
        >>> case = find(ags.elementwise(ag.exp, np.exp, ags.REAL), lambda case: True)
        >>> case.inputs[0].dtype
        dtype('float64')
    """

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        drawn = draw(broadcastable(len(domains)))
        inputs = draw(points(*zip(drawn, domains, strict=True)))
        return Case(function, inputs, domains, reference=reference)

    return cases()
