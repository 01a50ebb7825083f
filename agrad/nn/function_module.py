"""The base class of modules without parameters."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar

from agrad.core.tensor import Tensor
from agrad.nn.module import Module
from agrad.ops.operation import owned

__all__ = ["FunctionModule"]


@dataclass(eq=False, repr=False)
class FunctionModule(Module):
    """A function as a module. A subclass is a dataclass whose fields are the function's options.

    The options belong to the module: lists become tuples, and arrays are copied.

    Example:
        >>> from dataclasses import dataclass
        >>> import agrad as ag
        >>> from agrad.nn.function_module import FunctionModule
        >>> @dataclass(eq=False, repr=False)
        ... class Clip(FunctionModule):
        ...     min: float = 0.0
        ...     max: float = 1.0
        ...     function = staticmethod(ag.clip)
        >>> Clip(max=2.0)
        Clip(min=0.0, max=2.0)
        >>> Clip(max=2.0)(ag.tensor([-1.0, 3.0]))
        tensor([0., 2.])
    """

    function: ClassVar[Callable[..., Tensor]]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value if isinstance(value, Tensor) else owned(value))

    def forward(self, *inputs: Any) -> Tensor:
        """Apply the function to the inputs, with the options of the module."""
        return self.function(*inputs, **self._options())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())

    def _options(self) -> dict[str, Any]:
        kind: Any = type(self)
        names = _names(kind)
        return {name: getattr(self, name) for name in names} if names else {}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names of the options of a class, found once: every call needs them."""
    return tuple([field.name for field in fields(kind)])
