"""Modules that hold a list of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Self, overload

from agrad.nn.module import Module

__all__ = ["ModuleList", "Sequential"]


class ModuleList(Module):
    """A list of modules, for your own `forward` to iterate over.

    A slice shares its modules with the original list and keeps their names.

    Args:
        modules: The modules, which are named "0", "1" and so on; or a dict of modules by name.

    Raises:
        TypeError: An entry is not a Module.
        ValueError: A name is empty, contains a dot, or is the name of an attribute.

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
        """Append a module. Its name is the first free number, counted from the length.

        Raises:
            TypeError: `module` is not a Module.
        """
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
    """Modules applied one after another.

    Args:
        modules: The modules, which are named "0", "1" and so on; or one dict of modules by name.

    Raises:
        TypeError: An entry is not a Module.
        ValueError: A name is empty, contains a dot, or is the name of an attribute.

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
        """Return the output of the last module; each module takes that of the previous one."""
        for module in self:
            input = module(input)
        return input
