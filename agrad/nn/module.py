"""Modules: functions that own parameters, and are made of other modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from agrad.backend import Array, is_array, move
from agrad.core.context import recorder
from agrad.core.tensor import Tensor, as_tensor, plain

__all__ = ["IncompatibleKeys", "Module", "Parameter"]

_Kind = TypeVar("_Kind")


class Parameter(Tensor):
    """A Tensor to be trained: a leaf that requires a gradient, and that a `Module` finds.

    Args:
        data: array, nested sequence or scalar; copied. Python floats become float32, NumPy's arrays
            and scalars keep their dtype, which must be float32 or float64.
        requires_grad: false for a parameter that is frozen.
        dtype: the dtype to convert to.

    Raises:
        TypeError: a gradient is required of another dtype.

    Example:
        >>> from agrad import nn
        >>> nn.Parameter([1.0, 2.0])
        Parameter containing:
        tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(
        self,
        data: ArrayLike | Tensor,
        requires_grad: bool = True,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(data, requires_grad, dtype)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class IncompatibleKeys(NamedTuple):
    """The names that a state and a module do not share."""

    missing: list[str]
    unexpected: list[str]


class Module:
    """A function that owns parameters and is made of other modules.

    A subclass assigns Parameters, Modules and (by `register_buffer`) buffers to its attributes,
    where this class finds them by their type, and defines `forward`, which calling the module runs.
    What is found comes in the order of assignment: a module's own first, then its children's, depth
    first.

    Attributes:
        training: whether layers such as Dropout behave as in training; see `train` and `eval`.

    Example:
        >>> import agrad as ag
        >>> from agrad import nn
        >>> class Affine(nn.Module):
        ...     def __init__(self, features):
        ...         self.scale = nn.Parameter([1.0] * features)
        ...         self.shift = nn.Parameter([0.0] * features)
        ...
        ...     def forward(self, x):
        ...         return self.scale * x + self.shift
        >>> affine = Affine(2)
        >>> affine(ag.tensor([3.0, 4.0])).tolist()
        [3.0, 4.0]
        >>> [name for name, _ in affine.named_parameters()]
        ['scale', 'shift']
    """

    # Defaults of the class, replaced in an instance: there is nothing for __init__ to prepare, so
    # none of a subclass's own needs to call it.
    training: bool = True
    _persistence: Mapping[str, bool] = MappingProxyType({})

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the output: what a subclass defines."""
        raise TypeError(f"{type(self).__name__}: the module defines no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        tape = recorder.get()
        if tape is not None:
            tape.enter(self)
        return self.forward(*inputs, **options)

    # -- what it owns ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        # What an optimizer holds, or a state names, must not vanish from the module unnoticed.
        known = vars(self).get(name)
        kinds = (Parameter, Module, *([Tensor] if name in self._persistence else []))
        kind = next((kind for kind in kinds if isinstance(known, kind)), None)
        if kind is not None and not isinstance(value, kind | None):
            raise TypeError(
                f"{type(self).__name__}.{name}: is a {kind.__name__}, and a {type(value).__name__} "
                f"cannot take its place; assign a {kind.__name__} or None, or delete it first"
            )
        if isinstance(value, Module) and any(module is self for module in value.modules()):
            raise ValueError(f"{type(self).__name__}.{name}: a module cannot contain itself")
        super().__setattr__(name, value)

    def register_buffer(
        self, name: str, value: ArrayLike | Tensor, persistent: bool = True
    ) -> None:
        """Make `value` the attribute `name`: a Tensor that is kept with the module but not trained.

        Args:
            name: the attribute's name.
            value: array, nested sequence, scalar or Tensor. A later plain assignment replaces it.
            persistent: whether `state_dict` contains it.

        Raises:
            ValueError: the name is not an identifier, or is taken.
            TypeError: `value` is a Parameter.

        Example:
            >>> from agrad import nn
            >>> module = nn.Module()
            >>> module.register_buffer("steps", np.zeros((), int))
            >>> module.state_dict()
            {'steps': array(0)}
        """
        if not name.isidentifier():
            raise ValueError(f"register_buffer: {name!r} is not an identifier")
        if hasattr(self, name):
            raise ValueError(f"register_buffer: {type(self).__name__} has an attribute {name!r}")
        if isinstance(value, Parameter):
            raise TypeError(f"register_buffer: {name!r} is a Parameter; assign it as an attribute")
        self._persistence = {**self._persistence, name: persistent}
        setattr(self, name, as_tensor(value))

    def _own(self, kind: type[_Kind]) -> dict[str, _Kind]:
        """Return the attributes of a kind."""
        return {name: value for name, value in vars(self).items() if isinstance(value, kind)}

    def _own_buffers(self) -> dict[str, Tensor]:
        own = self._own(Tensor)
        return {name: own[name] for name in self._persistence if name in own}

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield the module and all below it with their names; a shared one under each name."""
        yield prefix, self
        for name, child in self._own(Module).items():
            yield from child._walk(_join(prefix, name))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield the module itself, named "", and all below it, each once, under its first name."""
        return _once(self._walk())

    def modules(self) -> Iterator[Module]:
        """Yield the module itself and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules directly below this one, each once, under its first name."""
        return _once(iter(self._own(Module).items()))

    def children(self) -> Iterator[Module]:
        """Yield the modules directly below this one, each once."""
        return (module for _, module in self.named_children())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield every Parameter, each once, under its first name, such as "encoder.0.weight"."""
        return _once(
            (_join(prefix, name), parameter)
            for prefix, module in self.named_modules()
            for name, parameter in module._own(Parameter).items()
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield every Parameter, each once, as an optimizer takes them."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every buffer, each once, under its first name."""
        return _once(
            (_join(prefix, name), buffer)
            for prefix, module in self.named_modules()
            for name, buffer in module._own_buffers().items()
        )

    def buffers(self) -> Iterator[Tensor]:
        """Yield every buffer, each once."""
        return (buffer for _, buffer in self.named_buffers())

    # -- its state ---------------------------------------------------------------------------------

    def _named_state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for prefix, module in self._walk():
            for name, parameter in module._own(Parameter).items():
                state[_join(prefix, name)] = parameter
            for name, buffer in module._own_buffers().items():
                if module._persistence[name]:
                    state[_join(prefix, name)] = buffer
        return state

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the parameters' and the persistent buffers' arrays by name.

        Being copies (where PyTorch gives references), they stay what they are as training goes on.
        An array that modules share comes under each of its names.

        Example:
            >>> from agrad import nn
            >>> {name: array.shape for name, array in nn.Linear(3, 2).state_dict().items()}
            {'weight': (2, 3), 'bias': (2,)}
        """
        return {name: tensor.data.copy() for name, tensor in self._named_state().items()}

    def load_state_dict(
        self, state: Mapping[str, ArrayLike | Tensor], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy values by name into the parameters and the persistent buffers.

        Args:
            state: what `state_dict` returned: arrays or Tensors by name, on whatever device.
            strict: whether each name of the module must be in `state`, and no other.

        Returns:
            The names that `state` lacks and those that it alone has; both empty if `strict`.

        Raises:
            ValueError: a missing or unexpected name, another shape or dtype. The message lists them
                all, and the module is left as it was.

        Example:
            >>> from agrad import nn
            >>> source, target = nn.Linear(3, 2), nn.Linear(3, 2, bias=False)
            >>> target.load_state_dict(source.state_dict(), strict=False)
            IncompatibleKeys(missing=[], unexpected=['bias'])
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                "load_state_dict: state must be a dict of arrays by name, "
                f"not {type(state).__name__}"
            )
        own = self._named_state()
        keys = IncompatibleKeys(
            missing=[name for name in own if name not in state],
            unexpected=[name for name in state if name not in own],
        )
        values = {
            name: value if is_array(value) else np.asarray(value)
            for name, value in ((name, plain(value)) for name, value in state.items())
            if name in own
        }
        problems = [
            f"{name} is {_describe(value)} in the state, {_describe(own[name].data)} in the module"
            for name, value in values.items()
            if (value.shape, value.dtype) != (own[name].shape, own[name].dtype)
        ]
        if strict:
            problems += [f"{name} is missing" for name in keys.missing]
            problems += [f"{name} is unexpected" for name in keys.unexpected]
        if problems:
            raise ValueError(
                f"load_state_dict: the state does not fit {type(self).__name__}:"
                + "".join(f"\n  {problem}" for problem in problems)
            )
        for name, value in values.items():
            own[name].writable()[...] = move(value, own[name].device)
        return keys

    def to(self, target: DTypeLike) -> Self:
        """Move every parameter, gradient and buffer to a device, or convert what is floating-point.

        The Parameters stay the same objects. Make an optimizer afterwards: its state is of the
        dtype, and on the device, of the parameters it was made for.

        Args:
            target: a device: "cpu", "cuda" for CuPy's current GPU, or "cuda:1" and so on; or the
                dtype to convert to, float32 or float64.

        Raises:
            DeviceError: a device that cannot be used, or has no room.
            TypeError: a dtype that gradients are not defined for.
            ValueError: a string that is neither a dtype nor a device. After any of these all is as
                it was.

        Example:
            >>> from agrad import nn
            >>> nn.Linear(3, 2).to("float64").weight.dtype
            dtype('float64')
        """
        tensors = (*self.parameters(), *self.buffers())
        if isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda"):
            _change(tensors, lambda array: move(array, target))
            return self
        try:
            dtype = np.dtype(target)
        except TypeError:
            raise ValueError(
                f'to: {target!r} is neither a dtype nor a device, such as "cpu", "cuda" or "cuda:1"'
            ) from None
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"to: a module's dtype can be float32 or float64, not {dtype}")
        floating = [tensor for tensor in tensors if tensor.dtype.kind == "f"]
        _change(floating, lambda array: array.astype(dtype, copy=False))
        return self

    def zero_grad(self) -> None:
        """Forget the gradients, average gradients included, of every parameter."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze every parameter (False) or train it again."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def train(self, mode: bool = True) -> Self:
        """Let this module and all below it behave as in training."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Let this module and all below it behave as in use: the same as `train(False)`."""
        return self.train(False)

    # -- its text ----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's text: the options it has."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"({name}): {child!r}".replace("\n", "\n  ")
            for name, child in self._own(Module).items()
        ]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "".join(f"\n  {line}" for line in ([extra] if extra else []) + lines)
        return f"{type(self).__name__}({body}\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _once(named: Iterator[tuple[str, _Kind]]) -> Iterator[tuple[str, _Kind]]:
    """Yield each object under its first name alone."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _describe(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _change(tensors: Iterable[Tensor], function: Callable[[Array], Array]) -> None:
    """Give tensors and their gradients what a function makes of the arrays; all, or none.

    The arrays may be of another dtype or device then, which assigning to `.data` does not allow.
    """
    changed = [
        (tensor, name, function(array))
        for tensor in tensors
        for name in ("_data", "grad", "average_grad")
        if (array := getattr(tensor, name)) is not None
    ]
    for tensor, name, array in changed:
        setattr(tensor, name, array)
