"""What it takes to test an operation: a function of Tensors, and arguments that it accepts."""

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
    """A function of Tensors with valid arguments; calling it on other inputs keeps the options.

    Attributes:
        function: of as many Tensors as there are inputs, and of the options.
        inputs: float64 arrays at which it is smooth.
        domains: where each input may be moved to.
        options: the other arguments.
        reference: NumPy's function of arrays and the same options, where there is one.
        name: what a failing example calls the function; if empty, by its key in `OPERATIONS`.
    """

    function: Callable[..., Any]
    inputs: tuple[Array, ...]
    domains: tuple[Domain, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    name: str = ""

    def __call__(self, *inputs: Any) -> Tensor:
        return self.function(*inputs, **self.options)

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
    """Cases of a function, and the operation that it records, perhaps among others."""

    operation: type[Operation]
    cases: Cases


def elementwise(
    function: Callable[..., Tensor], reference: Callable[..., Any] | None, *domains: Domain
) -> Cases:
    """Cases of a function of broadcast elements, one input for each domain."""

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        drawn = draw(broadcastable(len(domains)))
        inputs = draw(points(*zip(drawn, domains, strict=True)))
        return Case(function, inputs, domains, reference=reference)

    return cases()
