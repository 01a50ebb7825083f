"""Modules made of a list of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Self, overload

from agrad.nn.module import Module

__all__ = ["ModuleList", "Sequential"]


class ModuleList(Module):
    """A list of modules, for a `forward` of one's own to go through.

    Args:
        modules: the modules, named "0", "1" and so on; or a dict of modules by name.

    Raises:
        TypeError: what is no Module.
        ValueError: a name that is taken by an attribute, empty, or with a dot.

    A slice shares the modules with the list it is taken from, and keeps their names.

    Example:
        >>> from agrad import nn
        >>> layers = nn.ModuleList([nn.Linear(2, 2), nn.Tanh()]).append(nn.Linear(2, 1))
        >>> len(layers), layers[-1]
        (3, Linear(in_features=2, out_features=1, bias=True))
    """

    def __init__(self, modules: Iterable[Module] | Mapping[str, Module] = ()) -> None:
        if not isinstance(modules, Mapping):
            modules = {str(i): module for i, module in enumerate(modules)}
        for name, module in modules.items():
            self._add(name, module)

    def _add(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a {type(module).__name__}, not a Module"
            )
        if not name or "." in name or hasattr(self, name):
            raise ValueError(
                f"{type(self).__name__}: {name!r} cannot name a module: it is empty, contains a "
                "dot, or is the name of an attribute; choose another"
            )
        setattr(self, name, module)

    def append(self, module: Module) -> Self:
        """Add a module at the end, named by the first free number from the length on."""
        names = map(str, count(len(self)))
        self._add(next(name for name in names if not hasattr(self, name)), module)
        return self

    def __len__(self) -> int:
        return len(self._own(Module))

    def __iter__(self) -> Iterator[Module]:
        return iter(self._own(Module).values())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        items = list(self._own(Module).items())
        if isinstance(index, slice):
            return type(self)(dict(items[index]))
        return items[index][1]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, list(self._own(Module))[index], module)


class Sequential(ModuleList):
    """Modules applied one after the other.

    Args:
        modules: the modules, named "0", "1" and so on; or one dict of modules by name.

    Raises:
        TypeError: what is no Module.
        ValueError: a name that is taken by an attribute, empty, or with a dot.

    Example:
        >>> from agrad import nn
        >>> nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        Sequential(
          (0): Linear(in_features=3, out_features=8, bias=True)
          (1): Tanh()
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        named = len(modules) == 1 and isinstance(modules[0], Mapping)
        super().__init__(modules[0] if named else modules)  # type: ignore[arg-type]

    def forward(self, input: Any) -> Any:
        """Return the last module's output, each having been given the one before's."""
        for module in self:
            input = module(input)
        return input
