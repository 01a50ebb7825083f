"""Modules that hold modules or parameters, in a list or by name."""

from __future__ import annotations

import operator
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import count
from typing import Any, Self, overload

from agrad.nn.module import Module, Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterList", "Sequential"]


class _Container(Module):
    """A module whose attributes are named by its user."""

    def _check(self, kind: type[Any], name: str, value: Any) -> None:
        """Raise unless `value` is a Module or Parameter that can be added under `name`."""
        if not isinstance(value, kind):
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a {type(value).__name__}, "
                f"not a {kind.__name__}"
            )
        if not name or "." in name or hasattr(self, name):
            raise ValueError(
                f"{type(self).__name__}: {name!r} cannot name a {kind.__name__.lower()}: it is "
                "empty, contains a dot, or is the name of an attribute; choose another"
            )


class ModuleList(_Container):
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
        self._check(Module, name, module)
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
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}: [{index}] must be a Module, got a {type(module).__name__}"
            )
        setattr(self, list(self._own(Module))[operator.index(index)], module)


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


class ModuleDict(_Container):
    """Modules by name, for your own `forward` to choose from, in the order of their addition.

    Args:
        modules: A dict of modules by name.

    Raises:
        TypeError: An entry is not a Module.
        ValueError: A name is empty, contains a dot, or is the name of an attribute.

    Example:
        >>> from agrad import nn
        >>> heads = nn.ModuleDict({"price": nn.Linear(8, 1), "kind": nn.Linear(8, 3)})
        >>> heads["age"] = nn.Linear(8, 1)
        >>> list(heads), heads["kind"]
        (['price', 'kind', 'age'], Linear(in_features=8, out_features=3, bias=True))
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add modules by name; those of known names are replaced.

        Raises:
            TypeError, ValueError: As for the constructor; nothing has changed.
        """
        for name, module in modules.items():
            self._check_item(name, module)
        for name, module in modules.items():
            setattr(self, name, module)

    def _check_item(self, name: str, module: Module) -> None:
        if name not in self or not isinstance(module, Module):
            self._check(Module, name, module)
        self.require_acyclic(name, module)

    def __setitem__(self, name: str, module: Module) -> None:
        self._check_item(name, module)
        setattr(self, name, module)

    def __getitem__(self, name: str) -> Module:
        return self._own(Module)[name]

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        delattr(self, name)

    def pop(self, name: str) -> Module:
        """Remove a module and return it.

        Raises:
            KeyError: There is no module of that name.
        """
        module = self[name]
        del self[name]
        return module

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._own(Module).keys()

    def values(self) -> ValuesView[Module]:
        """Return the modules."""
        return self._own(Module).values()

    def items(self) -> ItemsView[str, Module]:
        """Return pairs of names and modules."""
        return self._own(Module).items()

    def __contains__(self, name: object) -> bool:
        return name in self._own(Module)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own(Module))

    def __len__(self) -> int:
        return len(self._own(Module))


class ParameterList(_Container):
    """A list of parameters, which are named "0", "1" and so on.

    Args:
        values: The parameters. Other Tensors, arrays and sequences are copied into new parameters.

    Raises:
        TypeError: A value is neither float32 nor float64.

    Example:
        >>> from agrad import nn
        >>> scales = nn.ParameterList([[1.0, 2.0], [3.0]]).append([4.0])
        >>> [(name, scale.tolist()) for name, scale in scales.named_parameters()]
        [('0', [1.0, 2.0]), ('1', [3.0]), ('2', [4.0])]
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.extend(values)

    def append(self, value: Any) -> Self:
        """Append a parameter, or a new one with the values of `value`.

        Raises:
            TypeError: `value` is neither float32 nor float64.
        """
        return self.extend([value])

    def extend(self, values: Iterable[Any]) -> Self:
        """Append parameters, or new ones with the given values.

        Raises:
            TypeError: A value is neither float32 nor float64; nothing was appended.
        """
        parameters = [_as_parameter(value) for value in values]
        for i, parameter in enumerate(parameters, start=len(self)):
            setattr(self, str(i), parameter)
        return self

    def __len__(self) -> int:
        return len(self._own(Parameter))

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._own(Parameter).values())

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Parameter | Self:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return list(self)[index]

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, list(self._own(Parameter))[index], _as_parameter(value))

    def extra_repr(self) -> str:
        lines = [
            f"  ({name}): Parameter of shape {parameter.shape}, {parameter.dtype}"
            for name, parameter in self._own(Parameter).items()
        ]
        return "".join(f"\n{line}" for line in lines) + ("\n" if lines else "")


def _as_parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)
