"""Modules: functions that own parameters and other modules."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from agrad.backend import Array, is_array, move, require_no_mask
from agrad.core.context import recorder
from agrad.core.hooks import RemovableHandle, require_hook
from agrad.core.tensor import Tensor, as_tensor, plain
from agrad.nn.hooks import BackwardHook, WatchedCall

__all__ = ["ForwardHook", "IncompatibleKeys", "Module", "Parameter", "RemovableHandle"]

_Kind = TypeVar("_Kind")


class Parameter(Tensor):
    """A trainable Tensor: a leaf that requires a gradient and belongs to a `Module`.

    Args:
        data: An array, nested sequence or scalar, which is copied. Python floats become float32;
            NumPy arrays and scalars keep their dtype, which must be float32 or float64.
        requires_grad: False for a frozen parameter.
        dtype: The dtype to convert to.

    Raises:
        TypeError: A gradient is required, but the dtype is neither float32 nor float64.

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
    """The names that only a module has, and the names that only a state has."""

    missing: list[str]
    unexpected: list[str]


ForwardHook = Callable[["Module", tuple[Any, ...], Any], Any]
"""Takes a module, the inputs of its call and its output; returns None or another output."""


class Module:
    """A function that owns parameters and other modules.

    A subclass assigns Parameters and Modules to its attributes and adds buffers with
    `register_buffer`; this class finds them by type. A subclass also defines `forward`, which runs
    when the module is called. Parameters, buffers and modules are listed in the order of
    assignment: first the module's own, then those of its children, depth first.

    Attributes:
        training: Whether layers such as Dropout are in training mode; see `train` and `eval`.
        backward_hooks: The hooks of `register_full_backward_hook`, by their handles.

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

    # Class attributes are the defaults, so there is no __init__ that a subclass must call.
    training: bool = True
    _persistence: Mapping[str, bool] = MappingProxyType({})
    _forward_hooks: Mapping[RemovableHandle, ForwardHook] = MappingProxyType({})
    backward_hooks: Mapping[RemovableHandle, BackwardHook] = MappingProxyType({})

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the output. Subclasses must define it.

        Raises:
            TypeError: The subclass does not.
        """
        raise TypeError(f"{type(self).__name__}: the module defines no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        tape = recorder.get()
        if tape is not None:
            tape.enter(self)
        watched = None
        if self.backward_hooks:
            watched = WatchedCall(self, self.backward_hooks)
            inputs = watched.enter(inputs)
        output = self.forward(*inputs, **options)
        if self._forward_hooks:
            for hook in self._forward_hooks.values():  # a dict that hooks replace, not change
                replaced = hook(self, inputs, output)
                output = output if replaced is None else replaced
        return output if watched is None else watched.leave(output)

    def register_forward_hook(self, hook: ForwardHook) -> RemovableHandle:
        """Call a function with the output of every call of the module; it may replace it.

        In a captured model it runs when the model is recorded, like all other Python.

        Args:
            hook: Called after `forward` with the module, the tuple of its inputs and its output.
                A result other than None replaces the output.

        Returns:
            A handle whose `remove` removes the hook; it can be used in a `with` statement.

        Raises:
            TypeError: `hook` is not callable.

        Example:
            >>> from agrad import nn
            >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
            >>> shapes = []
            >>> hook = lambda module, inputs, output: shapes.append(output.shape)
            >>> with model[1].register_forward_hook(hook):
            ...     output = model(np.ones((4, 3), np.float32))
            >>> shapes
            [(4, 8)]
        """
        require_hook("register_forward_hook", hook)
        return RemovableHandle(self, "_forward_hooks").add(hook)

    def register_full_backward_hook(self, hook: BackwardHook) -> RemovableHandle:
        """Call a function with each later call's gradients; it may replace those of the inputs.

        Backward passes call it once the gradients of the call's inputs are known. A module with
        such a hook cannot be captured (pass `capture=False` to `fit` or `train`), and
        `average_backward` refuses its calls, as for `Tensor.register_hook`.

        Args:
            hook: Called with the module, the gradients of its inputs by position, and those of its
                outputs, two tuples of arrays. An input that requires no gradient has None, as has
                an output that was not used. A result other than None replaces the gradients of the
                inputs: a tuple of them, or a single gradient for a single input.

        Returns:
            A handle whose `remove` removes the hook for later calls; it can be used in a `with`
            statement.

        Raises:
            TypeError: `hook` is not callable. When the module is called: it returns neither a
                Tensor nor a tuple of Tensors; or several, and no input requires a gradient; or
                inputs that require one differ in their dtypes.

        Example:
            >>> import agrad as ag
            >>> from agrad import nn
            >>> layer = nn.Linear(3, 2)
            >>> norms = []
            >>> def hook(module, grad_input, grad_output):
            ...     norms.append(np.linalg.norm(grad_output[0]))
            >>> handle = layer.register_full_backward_hook(hook)
            >>> layer(np.ones((4, 3), np.float32)).sum().backward()
            >>> print(norms[0].round(3))
            2.828
        """
        require_hook("register_full_backward_hook", hook)
        return RemovableHandle(self, "backward_hooks").add(hook)

    # -- parts -------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        # A parameter that an optimizer or a state refers to must not silently leave the module.
        known = vars(self).get(name)
        kinds = (Parameter, Module, *([Tensor] if name in self._persistence else []))
        kind = next((kind for kind in kinds if isinstance(known, kind)), None)
        if kind is not None and not isinstance(value, kind | None):
            raise TypeError(
                f"{type(self).__name__}.{name}: is a {kind.__name__}, and a {type(value).__name__} "
                f"cannot replace it; assign a {kind.__name__} or None, or delete it first"
            )
        if isinstance(value, Parameter | Module) and "." in name:
            raise ValueError(
                f"{type(self).__name__}: {name!r} cannot name a {type(value).__name__}, since a "
                "dot separates the names in state_dict"
            )
        self.require_acyclic(name, value)
        super().__setattr__(name, value)

    def require_acyclic(self, name: str, value: Any) -> None:
        """Raise a ValueError if an attribute's value is or contains the module itself."""
        if isinstance(value, Module) and any(module is self for module in value.modules()):
            raise ValueError(f"{type(self).__name__}.{name}: a module cannot contain itself")

    def register_buffer(
        self, name: str, value: ArrayLike | Tensor, persistent: bool = True
    ) -> None:
        """Set attribute `name` to a Tensor that belongs to the module but is not trained.

        Args:
            name: The name of the attribute.
            value: An array, nested sequence, scalar or Tensor. To replace it later, assign to the
                attribute.
            persistent: Whether `state_dict` contains it.

        Raises:
            ValueError: The name is not an identifier, or the attribute exists already.
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
            raise ValueError(
                f"register_buffer: {type(self).__name__} already has an attribute {name!r}"
            )
        if isinstance(value, Parameter):
            raise TypeError(f"register_buffer: {name!r} is a Parameter; assign it as an attribute")
        tensor = as_tensor(value)
        self._persistence = {**self._persistence, name: persistent}
        setattr(self, name, tensor)

    def _own(self, kind: type[_Kind]) -> dict[str, _Kind]:
        """Return the attributes of type `kind`."""
        return {name: value for name, value in vars(self).items() if isinstance(value, kind)}

    def _own_buffers(self) -> dict[str, Tensor]:
        own = self._own(Tensor)
        return {name: own[name] for name in self._persistence if name in own}

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield the module and its descendants by name; a shared one under each of its names."""
        yield prefix, self
        for name, child in self._own(Module).items():
            yield from child._walk(_join(prefix, name))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield the module itself, named "", and its descendants, each once under its first name.

        Example:
            >>> from agrad import nn
            >>> model = nn.Sequential(nn.Flatten(), nn.Tanh())
            >>> [name for name, _ in model.named_modules()]
            ['', '0', '1']
        """
        return _once(self._walk())

    def modules(self) -> Iterator[Module]:
        """Yield the module itself and its descendants, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules directly below this one, each once under its first name."""
        return _once(iter(self._own(Module).items()))

    def children(self) -> Iterator[Module]:
        """Yield the modules directly below this one, each once."""
        return (module for _, module in self.named_children())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield every Parameter, each once under its first name, such as "encoder.0.weight".

        Example:
            >>> from agrad import nn
            >>> [(name, p.shape) for name, p in nn.Linear(3, 2).named_parameters()]
            [('weight', (2, 3)), ('bias', (2,))]
        """
        return _once(
            (_join(prefix, name), parameter)
            for prefix, module in self.named_modules()
            for name, parameter in module._own(Parameter).items()
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield every Parameter, each once, for an optimizer."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every buffer, each once under its first name."""
        return _once(
            (_join(prefix, name), buffer)
            for prefix, module in self.named_modules()
            for name, buffer in module._own_buffers().items()
        )

    def buffers(self) -> Iterator[Tensor]:
        """Yield every buffer, each once."""
        return (buffer for _, buffer in self.named_buffers())

    # -- state -------------------------------------------------------------------------------------

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
        """Return copies of the arrays of parameters and persistent buffers by name.

        Unlike PyTorch's references, the copies do not change as training continues. An array that
        modules share is listed under each of its names.

        Example:
            >>> from agrad import nn
            >>> {name: array.shape for name, array in nn.Linear(3, 2).state_dict().items()}
            {'weight': (2, 3), 'bias': (2,)}
        """
        return {name: tensor.data.copy() for name, tensor in self._named_state().items()}

    def load_state_dict(
        self, state: Mapping[str, ArrayLike | Tensor], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy values by name into parameters and persistent buffers.

        Args:
            state: A result of `state_dict`: arrays or Tensors by name, on any device.
            strict: Whether `state` must have exactly the names of the module.

        Returns:
            The names missing in `state` and those unknown to the module; both empty if `strict`.

        Raises:
            TypeError: `state` is not a dict, or has masked elements.
            ValueError: A name is missing or unexpected, a shape or dtype differs, or a buffer is a
                computed Tensor. The message lists all problems, and the module is unchanged.

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
        values = {}
        for name, value in state.items():
            if name in own:
                require_no_mask("load_state_dict", name, value)
                array = plain(value)
                values[name] = array if is_array(array) else np.asarray(array)
        problems = [
            f"{name} is {_describe(value)} in the state, {_describe(own[name].data)} in the module"
            for name, value in values.items()
            if (value.shape, value.dtype) != (own[name].shape, own[name].dtype)
        ]
        problems += [f"{name} is computed in the module" for name in values if own[name].node]
        if strict:
            problems += [f"{name} is missing" for name in keys.missing]
            problems += [f"{name} is unexpected" for name in keys.unexpected]
        if problems:
            raise ValueError(
                f"load_state_dict: the state does not fit {type(self).__name__}:"
                + "".join(f"\n  {problem}" for problem in problems)
            )
        replaced = {id(_whole(own[name].data)) for name in values}
        for name, value in values.items():
            # The module's own values, perhaps under other names, must outlast their replacement.
            if id(_whole(value)) in replaced:
                values[name] = value.copy()
        for name, value in values.items():
            own[name].writable()[...] = move(value, own[name].device)
        return keys

    def to(self, target: DTypeLike) -> Self:
        """Move parameters, gradients and buffers to a device, or convert them to a dtype.

        Parameters remain the same objects. Create the optimizer afterwards, since its state has the
        dtype and the device that the parameters had when it was created. If an error is raised,
        nothing has changed.

        Args:
            target: A device ("cpu", "cuda" for CuPy's current GPU, or "cuda:1" and so on), or a
                dtype, float32 or float64. Arrays that are not floating-point keep their dtype.

        Raises:
            DeviceError: The device cannot be used, or is out of memory.
            TypeError: Gradients are not defined for the dtype.
            ValueError: The target is neither a dtype nor a device.

        Example:
            >>> from agrad import nn
            >>> nn.Linear(3, 2).to("float64").weight.dtype
            dtype('float64')
        """
        tensors = (*self.parameters(), *self.buffers())
        if isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda"):
            _change(tensors, lambda array: move(array, target))
            return self
        dtype = None
        with suppress(TypeError):
            dtype = None if target is None else np.dtype(target)  # which takes None for float64
        if dtype is None:
            raise ValueError(
                f'to: {target!r} is neither a dtype nor a device, such as "cpu", "cuda" or "cuda:1"'
            )
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"to: a module's dtype can be float32 or float64, not {dtype}")
        floating = [tensor for tensor in tensors if tensor.dtype.kind == "f"]
        _change(floating, lambda array: array.astype(dtype, copy=False))
        return self

    def float(self) -> Self:
        """Convert parameters, gradients and buffers to float32; the same as `to("float32")`."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Convert parameters, gradients and buffers to float64; the same as `to("float64")`."""
        return self.to(np.float64)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call a function with each descendant and then with this module, to set initial values.

        Example:
            >>> from agrad import nn
            >>> def reset(module):
            ...     if isinstance(module, nn.Linear):
            ...         nn.init.zeros_(module.bias)
            >>> model = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).apply(reset)
            >>> model[0].bias.tolist()
            [0.0, 0.0]
        """
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def zero_grad(self) -> None:
        """Clear the gradients and average gradients of all parameters."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` of all parameters: False freezes them, True makes them trainable.

        Example:
            >>> from agrad import nn
            >>> nn.Linear(3, 2).requires_grad_(False).weight.requires_grad
            False
        """
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def train(self, mode: bool = True) -> Self:
        """Put this module and its descendants into training mode, or into evaluation mode.

        Raises:
            TypeError: `mode` is not a bool.

        Example:
            >>> from agrad import nn
            >>> model = nn.Sequential(nn.Dropout(0.5)).train(False)
            >>> model.training, model[0].training
            (False, False)
        """
        if not isinstance(mode, bool):
            raise TypeError(f"Module.train: mode must be a bool, got {type(mode).__name__}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and its descendants into evaluation mode; the same as `train(False)`."""
        return self.train(False)

    # -- text --------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return the text between the parentheses of the module's repr: its options."""
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

    def __str__(self) -> str:
        """Return the repr, with the shapes and the number of parameters of every module.

        Example:
            >>> from agrad import nn
            >>> print(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)))
            Sequential(
              (0): Linear(in_features=3, out_features=8, bias=True)  # weight (8, 3), bias (8,)
              (1): Tanh()
              (2): Linear(in_features=8, out_features=2, bias=True)  # weight (2, 8), bias (2,)
            )  # 50 parameters
        """
        count = sum(parameter.size for parameter in self.parameters())
        frozen = sum(p.size for p in self.parameters() if not p.requires_grad)
        total = f"{count:,} parameters" + (f", {frozen:,} of them frozen" if frozen else "")
        return f"{self._with_shapes()}{':' if self._is_leaf() else '  #'} {total}"

    def _is_leaf(self) -> bool:
        return not self._own(Module) and bool(self._own(Parameter))

    def _with_shapes(self) -> str:
        """Return the repr with the shapes of the parameters."""
        own = {**self._own(Parameter), **self._own_buffers()}
        shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in own.items())
        note = f"  # {shapes}" if shapes else ""
        children = self._own(Module)
        if not children or type(self).__repr__ is not Module.__repr__:
            return f"{self!r}{note}"
        extra = self.extra_repr()
        lines = [extra] if extra else []
        lines += [
            f"({name}): {child._with_shapes()}".replace("\n", "\n  ")
            for name, child in children.items()
        ]
        body = "".join(f"\n  {line}" for line in lines)
        return f"{type(self).__name__}({body}\n){note}"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _once(named: Iterator[tuple[str, _Kind]]) -> Iterator[tuple[str, _Kind]]:
    """Yield each object once, under its first name."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _whole(array: Any) -> Any:
    """Return what owns the memory of an array: the array itself, or what it is a view of."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def _describe(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _change(tensors: Iterable[Tensor], function: Callable[[Array], Array]) -> None:
    """Apply a function to the arrays of tensors and of their gradients; change all or none.

    The function may change dtype or device, which assigning to `.data` does not allow.
    """
    changed = []
    for tensor in tensors:
        array = function(tensor.data)
        grads = [
            None if grad is None else function(grad) for grad in (tensor.grad, tensor.average_grad)
        ]
        changed.append((tensor, array, grads))
    for tensor, array, grads in changed:
        tensor.convert(array)
        tensor.grad, tensor.average_grad = grads
