"""The Tensor: an array, and the node of the graph that produced it."""

from __future__ import annotations

import functools
import html
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, ClassVar, NamedTuple, Self, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from agrad.arguments import exactly
from agrad.backend import (
    Array,
    as_array,
    beside,
    device_of,
    is_array,
    is_on,
    move,
    require_no_mask,
    scalar,
    set_writable,
)
from agrad.core.anomaly import recorded_at, remember
from agrad.core.context import grad_enabled, is_grad_enabled, recorder, remembering
from agrad.core.drawing import Drawing, draw
from agrad.core.hooks import Hook, Hooked, RemovableHandle, require_hook
from agrad.core.methods import Methods
from agrad.core.program import Node, Path, Program, compute
from agrad.core.synonyms import takes_dim
from agrad.errors import CaptureError, FreedGraphError, NonFiniteError
from agrad.gpu import cuda
from agrad.gpu.deferred import holds
from agrad.ops import arithmetic, linalg, reduction, shape
from agrad.ops.choice import Choice
from agrad.ops.device import Move
from agrad.ops.operation import Operation

__all__ = [
    "Home",
    "Pin",
    "Tensor",
    "accumulate",
    "accumulate_from",
    "all_writable",
    "apply",
    "arrays_of",
    "as_tensor",
    "as_tensors",
    "averages_along",
    "checked_updates",
    "choices_in",
    "chosen",
    "gradients_of",
    "is_stray_view",
    "on_new_array",
    "pin_together",
    "pinned",
    "plain",
    "plain_index",
    "promoted",
    "record",
    "recorded",
    "require_gradients",
    "sources",
    "tensor",
    "values_restored",
    "wanting",
]

_accumulating = threading.RLock()

_SEQUENCES = (list, tuple)
"""What may hold Tensors."""

_NUMBERS = frozenset([bool, int, float, type(None)])


GradOf = tuple[weakref.ref[Node] | None, ...]


_DIFFERENTIABLE = {np.dtype(np.float32), np.dtype(np.float64)}
_KINDS = {"b": 0, "i": 1, "u": 1, "f": 2}
_PYTHON, _SCALAR, _TENSOR, _WITH_AXES = range(4)  # how strong operands are in promotion
_PYTHON_DTYPES = {bool: np.dtype(bool), int: np.dtype(np.int64), float: np.dtype(np.float64)}


class Pin:
    """Keeps arrays read-only for as long as a graph needs the values of one of them.

    A change in place between forward and backward would make gradients silently wrong; with the
    array pinned, NumPy raises at the line that attempts it. CuPy cannot do this, so
    agrad's own in-place changes check the pin.
    """

    __slots__ = ("__weakref__", "_ids", "arrays")

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays
        self._ids: frozenset[int] | None = None
        # Passing the flag by keyword takes three times as long, and every operation makes a pin.
        for array in arrays:
            if isinstance(array, np.ndarray):
                array.setflags(False)  # type: ignore[call-arg]

    # The class is a default, since at the interpreter's exit the module's names may be gone.
    def __del__(self, host_array: type[Any] = np.ndarray) -> None:
        for array in self.arrays:
            if isinstance(array, host_array):
                array.setflags(True)

    def holds(self, array: Array) -> bool:
        """Return whether the array is one of the pinned ones."""
        if len(self.arrays) == 1:
            return self.arrays[0] is array
        if self._ids is None:
            # Identities are safe, since the pin keeps the arrays alive; a large model has too many
            # to scan.
            self._ids = frozenset(map(id, self.arrays))
        return id(array) in self._ids


class Home(NamedTuple):
    """Where a `Flat` holds a leaf: the number of its part, and the array it is a part of."""

    flat: weakref.ref[Any]
    part: int
    array: weakref.ref[Array]


class Tensor(Methods["Tensor"]):
    """An array that remembers how it was computed.

    Args:
        data: Array, nested sequence or scalar; copied. Python floats become float32; data with
            a dtype keeps it, in the machine's byte order. Of a Tensor, the values alone are copied,
            outside any graph.
        requires_grad: Whether it gets gradients; only for float32 and float64.
        dtype: The dtype to convert to.

    Attributes:
        grad_of: The nodes whose sweeps have added up to `grad`, as weak references; None stands for
            an unknown source. Only `accumulate_from` and optimizers set it.
        node: The recorded operation that computed it; None for a leaf.

    An array that a recorded graph still needs is read-only: changing it in place raises NumPy's
    ValueError rather than making gradients silently wrong. (agrad cannot protect it from a writable
    NumPy view of `.data` taken beforehand, nor, once an optimizer has moved a parameter, from an
    older Tensor that is a view of it.) Assigning to `.data` replaces the array and leaves recorded
    graphs as they were. An operator such as `x -= y` does the same to a leaf, provided that the
    leaf requires no gradient or the operator is inside `no_grad`; on a result it is recorded.

    np.array raises a TypeError for a Tensor that requires a gradient, because the array would lose
    it. It works inside `no_grad`, and once the graph is freed.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([[1.0, 2.0]], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        array([[2., 4.]], dtype=float32)
    """

    __slots__ = (
        "__weakref__",
        "_average_grad",
        "_data",
        "_grad",
        "_pin",
        "_requires_grad",
        "grad_of",
        "home",
        "node",
    )

    implementations: ClassVar[dict[Any, Callable[..., Any]]] = {}
    """For each NumPy function and ufunc, the implementation for Tensors."""

    __array_priority__ = 1000
    __pandas_priority__ = 5000  # above that of pandas' own types, which leave operators to agrad

    def __init__(
        self, data: ArrayLike | Tensor, requires_grad: bool = False, dtype: DTypeLike | None = None
    ) -> None:
        _require_unfrozen(data)
        if isinstance(data, _SEQUENCES):
            data = _as_stacked(data)
            if getattr(data, "_requires_grad", False):
                raise TypeError(
                    f"{type(self).__name__}: data holds Tensors that require a gradient, which a "
                    "new leaf would lose; join them with stack or concatenate, or detach them"
                )
        self._data = _as_owned_array(data, dtype)
        self.node: Node | None = None
        self._pin: weakref.ref[Pin] | None = None
        self.home: Home | None = None
        self._grad: Array | None = None
        self._average_grad: Array | None = None
        self.grad_of: GradOf | None = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    @classmethod
    def _wrap(cls, array: Array) -> Tensor:
        """Return a Tensor on `array` itself, which nothing else may use."""
        self = Tensor.__new__(Tensor)
        self._data = array
        self.node = self._pin = self.home = self._grad = self._average_grad = self.grad_of = None
        self._requires_grad = False
        return self

    # -- attributes --------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array itself, not a copy."""
        return self._data

    @data.setter
    def data(self, value: ArrayLike | Tensor) -> None:
        here = beside("Tensor.data", "value", plain(value), self._data, self.dtype)
        array = _as_owned_array(here, self.dtype)
        if self.node is not None:
            raise ValueError("Tensor.data: only a leaf's values can be replaced; this is a result")
        self._require_no_capture()
        if array.shape != self.shape:
            raise ValueError(
                f"Tensor.data: the new values have shape {array.shape}, the tensor {self.shape}"
            )
        self._data = array

    @property
    def grad(self) -> Array | None:
        """The gradient, an array of the Tensor's shape and dtype, to which `backward` adds.

        None before the first backward pass. An array of that shape and dtype can be assigned and is
        not copied; anything else that fits is converted.
        """
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike | Tensor | None) -> None:
        self._grad = self._as_gradient("grad", value)

    @property
    def average_grad(self) -> Array | None:
        """The average gradient, where `average_backward` adds up; see `grad`."""
        return self._average_grad

    @average_grad.setter
    def average_grad(self, value: ArrayLike | Tensor | None) -> None:
        self._average_grad = self._as_gradient("average_grad", value)

    def _as_gradient(self, name: str, value: Any) -> Array | None:
        """Return a value for a gradient of this Tensor."""
        if value is None:
            return None
        here = beside(f"Tensor.{name}", "value", plain(value), self._data, self.dtype)
        if here.shape != self.shape:
            raise ValueError(
                f"Tensor.{name}: the value has shape {here.shape}, the tensor {self.shape}"
            )
        return here

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this Tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self.dtype not in _DIFFERENTIABLE:
            raise TypeError(
                f"requires_grad: gradients are defined for float32 and float64, not {self.dtype}; "
                "convert the tensor first, e.g. with dtype=np.float32"
            )
        if not value and self.node is not None:
            raise ValueError("requires_grad: cannot be False for a computed tensor; use detach()")
        self._requires_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """Whether it is not the result of a recorded operation."""
        return self.node is None

    @property
    def is_choice(self) -> bool:
        """Whether it is the outcome of comparisons, which a graph compares again."""
        return self.node is not None and not self._requires_grad

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def device(self) -> str:
        """The device of the array, such as "cpu" or "cuda:0"."""
        return device_of(self._data)

    def to(self, device: str) -> Tensor:
        """Return the Tensor on a device; itself, if it is already there.

        Gradients flow back to the original device.

        Args:
            device: "cpu"; "cuda" for CuPy's current GPU, or "cuda:1" and so on.

        Raises:
            DeviceError: The device does not exist, or cannot be used.

        Example:
            >>> import agrad as ag
            >>> ag.tensor([1.0, 2.0]).to("cpu").device
            'cpu'
        """
        return self if is_on(self._data, device) else apply(Move(device), self)

    def cpu(self) -> Tensor:
        """Return the Tensor in the computer's own memory: the same as `to("cpu")`."""
        return self.to("cpu")

    def __repr__(self) -> str:
        values = move(self._data, "cpu")
        text = np.array2string(values, separator=", ", prefix="tensor(")
        extra = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        extra += "" if self._data is values else f", device={self.device!r}"
        return f"tensor({text}{extra}{', requires_grad=True' if self.requires_grad else ''})"

    def _repr_html_(self) -> str:
        about = f"shape {self.shape}, {self.dtype}, {self.device}"
        return f"<pre>{html.escape(repr(self))}</pre><small>{about}</small>"

    def __bool__(self) -> bool:
        self._require_no_freezing()
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        self._require_no_freezing()
        return operator.index(self._data)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.ndim == 0 else super().__format__(spec)

    def numpy(self) -> Array:
        """Return the array itself, not a copy.

        Raises:
            TypeError: It is not on the CPU.
        """
        if not isinstance(self._data, np.ndarray):
            raise TypeError(f"numpy: the tensor is on {self.device}; use .cpu().numpy()")
        return self._data

    def item(self) -> float | int | bool:
        """Return the single element as a Python number.

        Raises:
            ValueError: There is not exactly one element.
            CaptureError: In a function being captured.
        """
        self._require_no_freezing()
        with cuda.failures_explained():
            number: float | int | bool = self._data.item()
            return number

    def tolist(self) -> Any:
        """Return the elements as nested Python lists."""
        self._require_no_freezing()
        return self._data.tolist()

    def _require_no_freezing(self) -> None:
        if recorder.get() is not None:
            raise CaptureError(
                f"capture: the function looks at the values of a Tensor of shape {self.shape}, "
                "which its replays would not; compute with operations on Tensors, or leave this "
                "part uncaptured"
            )

    def detach(self) -> Tensor:
        """Return a Tensor on a read-only view of the same values, outside any graph.

        Raises:
            CaptureError: In a function being captured; its replays would keep the values.
        """
        if recorder.get() is not None:
            raise CaptureError(
                "capture: the function detaches a Tensor, whose values would be frozen; detach it "
                "outside the function, or leave this part uncaptured"
            )
        view = self._data.view()
        set_writable([view], False)
        return Tensor._wrap(view)

    def writable(self) -> Array:
        """Return the array to change in place; if a graph needs it, replace it by a copy first.

        Raises:
            TypeError: An operation computed the Tensor, and its gradient cannot follow the change.
            CaptureError: In a function being captured; its replays would not repeat the change.
        """
        self._require_no_capture()
        if self.node is not None:
            raise TypeError(
                f"Tensor.writable: an operation computed the tensor, of shape {self.shape}, and "
                "gradients cannot follow a change in place; use detach()"
            )
        if not self.is_writable():
            self._data = self._data.copy()
        return self._data

    def _require_no_capture(self) -> None:
        if recorder.get() is not None:
            raise CaptureError(
                f"capture: the function changes a Tensor of shape {self.shape} in place, which its "
                "replays would not; leave this part uncaptured"
            )

    def is_writable(self) -> bool:
        """Return whether the array may be changed in place: no graph needs its values."""
        if isinstance(self._data, np.ndarray):
            base = self._data.base
            whole = base if isinstance(base, np.ndarray) else self._data
            return self._data.flags.writeable and whole.flags.writeable
        # CuPy has no such flag: the array must not be pinned, nor a view of one that may be.
        pin = self._pin() if self._pin is not None else None
        return not self._is_view() and (pin is None or not pin.holds(self._data))

    def settle(self, array: Array, home: Home) -> None:
        """Replace the array by a part of a shared one that has the same values."""
        self._data = array
        self.home = home

    def convert(self, array: Array) -> None:
        """Replace the array by one of the same shape, perhaps of another dtype or device.

        This is for a leaf that moves as a whole, as in `Module.to`: the caller then replaces its
        gradients by arrays of the new dtype and device. Nothing is checked. To give a leaf new
        values, assign to `data`, which keeps the dtype and the device.
        """
        self._data = array

    def _is_view(self) -> bool:
        """Whether the array is part of another, unless a `Flat` shares that one among leaves."""
        base = self._data.base
        return base is not None and (self.home is None or self.home.array() is not base)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Change elements of a leaf in place, without recording.

        Raises:
            TypeError: A gradient is required, and cannot follow a change in place.
        """
        operands = [self, *([value] if isinstance(value, Tensor) else [])]
        if (self.node is not None and not self.is_choice) or (
            is_grad_enabled() and any(tensor._requires_grad for tensor in operands)
        ):
            raise TypeError(
                "Tensor.__setitem__: gradients cannot follow a change in place; build the result "
                "with where or concatenate, or change a leaf's values inside no_grad()"
            )
        elements = beside("Tensor.__setitem__", "value", plain(value), self._data, self.dtype)
        changed = (
            self._data.copy() if self.is_choice else self._writable_itself("Tensor.__setitem__")
        )
        changed[plain_index(index)] = elements
        if self.is_choice:  # it remembers no comparison that its elements no longer come from
            self.node, self._data = None, changed

    def _writable_itself(self, name: str) -> Array:
        """Return the array to change in place, unless others would miss the change to a copy."""
        if recorder.get() is None and self._is_view() and not self.is_writable():
            raise ValueError(
                f"{name}: the tensor is a read-only view of another's values, because it was "
                "detached or because a graph needs them; change the other Tensor, or a copy"
            )
        return self.writable()

    # -- copies ------------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        """Return another Tensor: of a leaf with its own values, else of the same graph and array.

        Two leaves on one array would protect it from changes in place for one graph, not for both.
        """
        twin = type(self).__new__(type(self))
        twin.__setstate__(self._lasting())
        twin.node = self.node
        if self.is_leaf:
            twin._data = self._data.copy(order="K")
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Return what `copy.deepcopy` and `pickle` copy.

        Raises:
            TypeError: An operation computed the Tensor; the graph cannot be copied.
        """
        if self.node is not None:
            raise TypeError(
                f"Tensor: a computed tensor, here of shape {self.shape}, can be neither "
                "deep-copied nor pickled, because its graph cannot; use detach()"
            )
        return self._lasting()

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.node = self._pin = self.home = self.grad_of = None

    def _lasting(self) -> dict[str, Any]:
        """Return all attributes but those that refer to this Tensor's graph or place in memory."""
        attributes, slots = cast(Any, object.__getstate__(self))
        bound = ("node", "_pin", "home", "grad_of")
        lasting = {name: value for name, value in slots.items() if name not in bound}
        return lasting | (attributes or {})

    # -- gradients ---------------------------------------------------------------------------------

    def backward(self, grad: ArrayLike | None = None, *, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to `.grad` of every leaf that requires one.

        Args:
            grad: The gradient with respect to this Tensor, of its shape; 1 for a single element.
            retain_graph: Keep the graph's buffers for another sweep, instead of freeing them.

        Raises:
            ValueError: No gradient is required; there are several elements and no `grad`; `grad`
                has another shape; an earlier sweep freed the graph (`FreedGraphError`).
        """
        self.require_graph("backward")
        if grad is None:
            self.require_scalar("backward", "pass grad, or reduce it with sum() or mean()")
            seed = np.ones_like(self._data)
        else:
            seed = beside("backward", "grad", plain(grad), self._data, self.dtype)
            if seed.shape != self.shape:
                raise ValueError(
                    f"backward: grad has shape {seed.shape}, the tensor has shape {self.shape}"
                )
        if self.node is None:
            accumulate("grad", {self: seed.copy()})
            self.grad_of = (None,)
            return
        try:
            accumulate_from(self.node, Program(self.node).backward(seed, retain_graph))
        except Exception as error:
            cuda.explain(error)
            raise

    def average_backward(
        self,
        updates: Mapping[Tensor, ArrayLike],
        *,
        segments: int = 1,
        extrapolate: bool = False,
        retain_graph: bool = False,
    ) -> Array:
        """Add the factorized average gradient along `updates` to `.average_grad` of every leaf.

        The recorded graph runs again at the leaves' values plus `updates` (other leaves do not
        move), and one reverse sweep uses every operation's averaged Jacobian. Then the sum over the
        leaves of ⟨average_grad, update⟩ equals the change of this Tensor's value, exactly up to
        rounding, and differs from the true average gradient by O(|update|²).

        Args:
            updates: The update of each leaf that moves, of the leaf's shape.
            segments: Cut the path into this many equal parts and average over them; the error
                falls as 1/segments².
            extrapolate: Combine `segments` and twice as many as (4·fine - coarse)/3, which leaves
                an error of O(|update|⁴) on smooth graphs.
            retain_graph: Keep the graph's buffers for another sweep, instead of freeing them.

        Returns:
            The value at the end of the updates, a 0-d array.

        Raises:
            ValueError: There are several elements; there is no graph, or it was freed; an update
                belongs to a tensor that is not a leaf of the graph, or has another shape.
            TypeError: `updates` is not a mapping of Tensors to arrays.
            AverageUndefinedError: An operation has no kind.
            ChoiceChangedError: An operation chose differently when it ran again, see
                `agrad.ops.choice`.
            NonFiniteError: The value at the end of the updates is NaN or infinite; or it is finite,
                but an average gradient is NaN, and none has been added.
            DeviceError: An update is not on its leaf's device.

        Example:
            >>> import agrad as ag
            >>> w1 = ag.tensor(0.0, requires_grad=True)
            >>> w2 = ag.tensor(0.0, requires_grad=True)
            >>> loss = w1 * w1 * w2
            >>> loss.average_backward({w1: 1.0, w2: 1.0})
            array(1., dtype=float32)
            >>> w1.average_grad, w2.average_grad
            (array(0.5, dtype=float32), array(0.5, dtype=float32))
        """
        end, grads = averages_along(self, updates, segments, extrapolate, retain_graph)
        _require_numbers(grads)
        accumulate("average_grad", grads)
        return end

    def draw(
        self,
        names: Iterable[tuple[str, Tensor]] | None = None,
        updates: Mapping[Tensor, ArrayLike] | None = None,
    ) -> Drawing:
        r"""Return a drawing of the recorded graph: its operations and leaves, with their shapes.

        Leaves with a `.grad` g or an `.average_grad` ĝ show them: a number, or the length ‖g‖ of an
        array. With `updates`, each node and leaf also shows its value before and after them, the λ
        that reaches it on the average sweep, and λδ, its share in the change of the value. The
        parts that the leaves show sum to the change. Drawing takes a forward pass and a sweep then;
        it changes neither values nor gradients, and the graph stays.

        Notebooks show the drawing where Graphviz is installed, and its DOT text elsewhere.

        Args:
            names: The leaves' names, such as `model.named_parameters()`.
            updates: The update of each leaf that moves, as `average_backward` takes it. The Tensor
                must have a single element then.

        Raises:
            ValueError: There is no graph, or it was freed (`FreedGraphError`); as for
                `average_backward`.
            AverageUndefinedError: There are updates, and an operation has no kind.
            NonFiniteError: The value at the end of the updates is NaN or infinite.

        Example:
            >>> import agrad as ag
            >>> w = ag.tensor([1.0, 2.0], requires_grad=True)
            >>> print(np.tanh(w).sum().draw([("w", w)]))
            digraph {
              node [shape=box];
              n0 [label="w\n(2,)", shape=ellipse];
              n1 [label="Tanh\n(2,)"];
              n0 -> n1;
              n2 [label="Sum\n()"];
              n1 -> n2;
            }
            >>> w = ag.tensor(1.0, requires_grad=True)
            >>> print((w * w).draw([("w", w)], {w: 2.0}))
            digraph {
              node [shape=box];
              n0 [label="w\n()\n1 → 3, λ = 4, λδ = 8", shape=ellipse];
              n1 [label="Multiply\n()\n1 → 9, λ = 1, λδ = 8"];
              n0 -> n1;
              n0 -> n1;
            }
        """
        self.require_graph("draw")
        if self.node is None:
            raise ValueError(
                f"draw: the tensor, of shape {self.shape}, is a leaf; nothing was computed from it"
            )
        if updates is None:
            return draw(Program(self.node), names, None)
        self.require_scalar("draw", "reduce it with sum() or mean() to draw it with updates")
        program, path = _program_along(self, updates)
        return draw(program, names, path(1))

    def register_hook(self, hook: Hook) -> RemovableHandle:
        """Call a function with this result's gradient in backward passes; it may replace it.

        The gradient is that of all that was computed from this Tensor. `backward` and `agrad.grad`
        call the hook before they pass the gradient on; `agrad.grad` returns the gradient of this
        Tensor itself from before the hook. `average_backward` refuses a graph with hooks: a changed
        average gradient would not explain the change of the value.

        Args:
            hook: Called with the gradient, an array, or a Tensor with `create_graph`. It must not
                change it in place. A result other than None replaces the gradient.

        Returns:
            A handle whose `remove` removes the hook; it can be used in a `with` statement.

        Raises:
            ValueError: This Tensor is a leaf, whose gradient is its `.grad` after the backward
                pass; or it requires no gradient.
            TypeError: `hook` is not callable.
            CaptureError: In a function being captured.

        Example:
            >>> import agrad as ag
            >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
            >>> y = x * 3
            >>> handle = y.register_hook(lambda grad: grad.clip(-1, 1))
            >>> (5 * y).sum().backward()
            >>> x.grad
            array([3., 3.], dtype=float32)
        """
        require_hook("register_hook", hook)
        if recorder.get() is not None:
            raise CaptureError(
                "capture: register_hook: replays would not call the hook; leave this part "
                "uncaptured"
            )
        self.require_graph("register_hook")
        if self.node is None:
            raise ValueError(
                f"register_hook: the tensor, of shape {self.shape}, is a leaf; change its .grad "
                "after backward(), or register the hook on a result"
            )
        if self.node.out is None:
            raise FreedGraphError("register_hook: the graph was freed by an earlier sweep")
        if not isinstance(self.node.operation, Hooked):
            self.node.operation = Hooked(self.node.operation)
        return RemovableHandle(self.node.operation, "hooks").add(hook)

    def zero_grad(self) -> None:
        """Clear both gradients."""
        self._grad = self._average_grad = None

    def require_graph(self, operation: str) -> None:
        """Raise a ValueError unless gradients can flow through this Tensor."""
        if not self.requires_grad:
            raise ValueError(
                f"{operation}: the tensor depends on no tensor that requires a gradient; set "
                "requires_grad=True on a leaf, and compute outside no_grad()"
            )

    def require_scalar(self, operation: str, remedy: str) -> None:
        """Raise a ValueError unless it has a single element."""
        if self.size != 1:
            raise ValueError(
                f"{operation}: needs a single element, the tensor has shape {self.shape}; {remedy}"
            )

    # -- arithmetic --------------------------------------------------------------------------------

    def applied(self, operation: Operation, *others: Any) -> Tensor:
        return apply(operation, self, *others)

    def __add__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Add(), self, other)

    def __radd__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Add(), other, self)

    def __sub__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Subtract(), self, other)

    def __rsub__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Subtract(), other, self)

    def __mul__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Multiply(), self, other)

    def __rmul__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Multiply(), other, self)

    def __truediv__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Divide(), self, other)

    def __rtruediv__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Divide(), other, self)

    def __pow__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Power(), self, other)

    def __rpow__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Power(), other, self)

    def __mod__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Remainder(), self, other)

    def __rmod__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(arithmetic.Remainder(), other, self)

    def __matmul__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(linalg.Matmul(), self, other)

    def __rmatmul__(self, other: ArrayLike | Tensor) -> Tensor:
        return apply(linalg.Matmul(), other, self)

    def __neg__(self) -> Tensor:
        return apply(arithmetic.Negative(), self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return apply(arithmetic.Absolute(), self)

    # -- arithmetic in place -----------------------------------------------------------------------

    def __iadd__(self, other: ArrayLike | Tensor) -> Self:
        return self._in_place("+=", arithmetic.Add(), other)

    def __isub__(self, other: ArrayLike | Tensor) -> Self:
        return self._in_place("-=", arithmetic.Subtract(), other)

    def __imul__(self, other: ArrayLike | Tensor) -> Self:
        return self._in_place("*=", arithmetic.Multiply(), other)

    def __itruediv__(self, other: ArrayLike | Tensor) -> Self:
        return self._in_place("/=", arithmetic.Divide(), other)

    def __ipow__(self, other: ArrayLike | Tensor) -> Self:
        return self._in_place("**=", arithmetic.Power(), other)

    def __imod__(self, other: ArrayLike | Tensor) -> Self:
        return self._in_place("%=", arithmetic.Remainder(), other)

    def __imatmul__(self, other: ArrayLike | Tensor) -> Self:
        return self._in_place("@=", linalg.Matmul(), other)

    def _in_place(self, name: str, operation: Operation, other: Any) -> Self:
        """Change the values of a leaf in place, or apply the operation to a result."""
        leaf, recording = self.is_leaf, grad_enabled.get()
        if leaf and recording and self._requires_grad:
            raise TypeError(
                f"{name}: a leaf that requires a gradient cannot change in place while gradients "
                f"are recorded; change it inside no_grad(), or write x = x {name[:-1]} y for a new "
                "Tensor"
            )
        if not leaf and not recording:
            raise TypeError(
                f"{name}: the graph that computed this tensor cannot follow a change inside "
                f"no_grad(); write x = x {name[:-1]} y for a new Tensor"
            )
        result = apply(operation, self, other)
        if result.shape != self.shape:
            raise ValueError(
                f"{name}: the result has shape {result.shape}, the tensor that it should change "
                f"{self.shape}"
            )
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(f"{name}: the result is {result.dtype}, and the tensor {self.dtype}")
        self._become(name, result if result.dtype == self.dtype else result.astype(self.dtype))
        return self

    def _become(self, name: str, result: Any) -> None:
        """Take over a result; a leaf that needs no graph for it keeps its own memory."""
        if result.node is None:
            values = self._writable_itself(name)
            values[...] = result._data
        else:
            self._data, self._pin, self.node = result._data, result._pin, result.node
            self._requires_grad, self.home = result._requires_grad, None

    # -- comparison --------------------------------------------------------------------------------

    # Of Tensors that require gradients a comparison is a boolean Tensor, otherwise an array.

    def __eq__(self, other: object) -> Any:  # for each element
        return chosen(np.equal, self, other)

    def __ne__(self, other: object) -> Any:  # for each element
        return chosen(np.not_equal, self, other)

    def __lt__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.less, self, other)

    def __le__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.less_equal, self, other)

    def __gt__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.greater, self, other)

    def __ge__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.greater_equal, self, other)

    def __and__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.bitwise_and, self, other)

    def __rand__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.bitwise_and, other, self)

    def __or__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.bitwise_or, self, other)

    def __ror__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.bitwise_or, other, self)

    def __xor__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.bitwise_xor, self, other)

    def __rxor__(self, other: ArrayLike | Tensor) -> Any:
        return chosen(np.bitwise_xor, other, self)

    def __invert__(self) -> Any:
        return chosen(np.invert, self)

    @takes_dim
    def all(self, axis: reduction.Axis = None, keepdims: bool = False) -> Any:
        """Return whether all elements over `axis` are true, as a plain array or bool."""
        return self._data.all(axis, keepdims=keepdims)

    @takes_dim
    def any(self, axis: reduction.Axis = None, keepdims: bool = False) -> Any:
        """Return whether any element over `axis` is true, as a plain array or bool."""
        return self._data.any(axis, keepdims=keepdims)

    # By identity, as for any object that can change: Tensors are keys of updates and gradients.
    __hash__ = object.__hash__

    # -- reductions --------------------------------------------------------------------------------

    @takes_dim
    def sum(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the sum over `axis` (an int, several, or None for all)."""
        return apply(reduction.Sum(axis, keepdims), self)

    @takes_dim
    def mean(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the mean over `axis`."""
        return apply(reduction.Mean(axis, keepdims), self)

    @takes_dim
    def var(self, axis: reduction.Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the variance over `axis`, the sum of squares divided by n - ddof."""
        return apply(reduction.Var(axis, ddof, keepdims), self)

    @takes_dim
    def std(self, axis: reduction.Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the standard deviation over `axis`; where it is 0, so is its gradient."""
        return apply(reduction.Std(axis, ddof, keepdims), self)

    @takes_dim
    def max(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the largest element over `axis`; equal ones share the gradient."""
        return apply(reduction.Max(axis, keepdims), self)

    @takes_dim
    def min(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the smallest element over `axis`; equal ones share the gradient."""
        return apply(reduction.Min(axis, keepdims), self)

    @takes_dim
    def prod(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the product over `axis`."""
        return apply(reduction.Prod(axis, keepdims), self)

    @takes_dim
    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Return the index of the largest element, as a plain array."""
        array: Any = self._data
        return array.argmax(axis, keepdims=keepdims)

    @takes_dim
    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Return the index of the smallest element, as a plain array."""
        array: Any = self._data
        return array.argmin(axis, keepdims=keepdims)

    # -- shape and elements ------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return self.swapaxes(-1, -2)

    def transpose(self, *axes: Any) -> Tensor:
        """Return a view with permuted axes (reversed if none are given)."""
        order = axes[0] if len(axes) == 1 else axes or None
        return apply(shape.Transpose(order), self)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Return a view with two axes exchanged."""
        order = shape.axes_after(np.swapaxes, len(self.shape), axis1, axis2)
        return apply(shape.Transpose(order), self)

    def reshape(self, *newshape: Any) -> Tensor:
        """Return the elements in another shape; one length may be -1."""
        lengths = newshape[0] if len(newshape) == 1 else newshape
        return apply(shape.Reshape(lengths), self)

    def ravel(self) -> Tensor:
        """Return the elements along one axis."""
        return self.reshape(-1)

    @takes_dim
    def argsort(self, axis: int | None = -1) -> Array:
        """Return the indices that sort the elements along `axis`, as a plain array."""
        order: Array = np.argsort(self._data, axis, kind="stable")
        return order

    @takes_dim
    def squeeze(self, axis: reduction.Axis = None) -> Tensor:
        """Return a view without `axis`, of length one; None for all such axes."""
        try:
            return self.reshape(np.squeeze(np.broadcast_to(0, self.shape), axis).shape)
        except ValueError as error:
            raise type(error)(f"squeeze: {error}; axis={axis}, x has shape {self.shape}") from None

    def clip(self, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor:
        """Return the elements limited to [min, max], numbers or constant arrays, or None."""
        for bound in (min, max):
            if getattr(bound, "requires_grad", False):
                raise TypeError(
                    "clip: a bound requires a gradient, but bounds are constants; "
                    "use maximum and minimum"
                )
        given = {"min": min, "max": max}
        given = {name: bound for name, bound in given.items() if bound is not None}
        _, *weak = promoted([self, *given.values()])
        bounds: dict[str, Any] = {
            name: bound.item()
            if isinstance(bound, np.generic)
            else beside("clip", name, plain(bound), self._data)
            for name, bound in zip(given, weak, strict=True)
        }
        return apply(arithmetic.Clip(bounds.get("min"), bounds.get("max")), self)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """Return the elements converted to `dtype`; between floating types gradients flow back.

        Raises:
            TypeError: Gradients would flow through a dtype other than float32 and float64, or the
                byte order of the dtype is not the machine's.
        """
        cast = shape.Cast(dtype)
        return apply(cast, self if cast.dtype.kind == "f" or self.is_choice else self._data)

    def dot(self, other: ArrayLike | Tensor) -> Tensor:
        """Return the product with `other` by the rules of np.dot."""
        factor = _as_stacked(other)
        return apply(linalg.dot(self.shape, np.shape(factor)), self, factor)

    def __getitem__(self, index: Any) -> Tensor:
        parts = index if isinstance(index, tuple) else (index,)
        return apply(shape.GetItem(plain_index(index)), self, *choices_in(*parts))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a Tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        self._require_no_freezing()
        array = np.array(self.numpy(), dtype=dtype, copy=copy)
        freed = self.node is not None and self.node.out is None
        if self._requires_grad and grad_enabled.get() and not freed:
            raise TypeError(
                "np.array: the tensor requires a gradient, which a NumPy array would lose; join "
                "Tensors with stack or concatenate, or take only the values: x.numpy(), float(x), "
                "or any function inside no_grad()"
            )
        return array

    # -- NumPy's functions -------------------------------------------------------------------------

    @property
    def _mask(self) -> Any:
        # np.ma would compute with `_data` past all protocols; it asks for the mask of each operand.
        raise TypeError(
            "np.ma: masked arrays have no gradients; replace the masked elements first, e.g. with "
            "array.filled(0)"
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method}: not defined for Tensors; use x.numpy()")
        if options.get("out") is not None:
            return _into_arrays(ufunc, inputs, options)
        return self._implementation(ufunc)(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return self._implementation(function)(*args, **options)

    def _implementation(self, function: Any) -> Callable[..., Any]:
        try:
            return Tensor.implementations[function]
        except KeyError:
            raise TypeError(
                f"np.{function.__name__}: agrad does not differentiate it; call it on x.numpy() if "
                "you need no gradient"
            ) from None


def tensor(
    data: ArrayLike | Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Return a new Tensor with a copy of `data`; see `Tensor`.

    A nested sequence may hold Tensors. It is then joined as by `stack`, and gradients flow back to
    them.

    Raises:
        TypeError: The elements are not real numbers; `requires_grad` is set for a sequence of
            Tensors that require a gradient.

    Example:
        >>> import agrad as ag
        >>> ag.tensor([1.0, 2.0])
        tensor([1., 2.])
        >>> ag.tensor(np.arange(3)).dtype
        dtype('int64')
        >>> x = ag.tensor(2.0, requires_grad=True)
        >>> ag.tensor([x, 3.0 * x])
        tensor([2., 6.], requires_grad=True)
    """
    stacked: Any = _as_stacked(data) if isinstance(data, _SEQUENCES) and not requires_grad else data
    if stacked is data:
        return Tensor(data, requires_grad, dtype)
    tensor: Tensor = stacked if dtype is None else stacked.astype(dtype)
    return tensor


def on_new_array(array: Array) -> Tensor:
    """Return a Tensor on an array that was made for it and that nothing else uses."""
    return Tensor._wrap(array)


def as_tensor(value: ArrayLike | Tensor) -> Tensor:
    """Return `value` itself if it is a Tensor, else a new one; Tensors in a sequence are joined."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, _SEQUENCES) and _holds_tensor(value):
        return apply(shape.Stack(), *value)
    _require_unfrozen(value)
    return Tensor._wrap(_as_owned_array(value, None))


def _require_unfrozen(value: Any) -> None:
    """Raise a CaptureError if a captured function makes a Tensor from more than a single number."""
    if recorder.get() is not None and not isinstance(value, bool | int | float | np.generic):
        raise CaptureError(
            f"capture: the function makes a Tensor from a {type(value).__name__}, whose values "
            "would be frozen; pass it as an argument, or make it a Tensor outside the function"
        )


def as_tensors(*values: Any) -> list[Any]:
    """Return operands of one operation as Tensors, see `promoted`; None stays None.

    Example:
        >>> [x.dtype.name for x in as_tensors(tensor(np.zeros(2)), 0.1, [1, 2])]
        ['float64', 'float64', 'float64']
    """
    common = _one_dtype(values) if recorder.get() is None else None
    if common is None:
        given = iter(promoted([_as_stacked(value) for value in values if value is not None]))
        return [None if value is None else as_tensor(next(given)) for value in values]
    found: list[Any] = []
    for value in values:
        known = value is None or isinstance(value, Tensor)
        found.append(value if known else Tensor(value, dtype=common))
    return found


def promoted(values: Sequence[Any]) -> list[Any]:
    """Return the operands of one operation, with the weak ones in the dtype of the strong ones.

    This is agrad's one rule for dtypes, close to PyTorch's. Arrays and Tensors that have axes
    promote by NumPy's rules, as the operation computes with them. All others are weak: they count
    only if they are of a higher kind, booleans being below integers and these below floats. They
    are, from the strongest to the weakest: Tensors without axes; NumPy's scalars and arrays without
    axes; Python's numbers and nested sequences of them, whose floats are float32 among themselves.

    Returns:
        Tensors and arrays with axes as they were; Tensors without axes cast by an operation;
        numbers as NumPy scalars; sequences as arrays on the device of the Tensors.

    Raises:
        OverflowError: An integer is out of the range of the dtype, also one in a sequence.
        TypeError: An operand does not consist of real numbers.
    """
    if recorder.get() is not None and any(isinstance(value, _SEQUENCES) for value in values):
        return list(values)  # which a capture refuses
    operands = [_weighed(value) for value in values]
    common = _common_dtype(*[(strength, dtype) for _, strength, dtype in operands])
    return [
        value if strength == _WITH_AXES else _in_dtype(common, value, strength, dtype, values)
        for value, strength, dtype in operands
    ]


@functools.lru_cache(maxsize=256)
def _common_dtype(*operands: tuple[int, np.dtype[Any]]) -> np.dtype[Any]:
    """Return the dtype of the result for operands of these strengths and dtypes."""
    strongest = max(strength for strength, _ in operands)
    strong = [dtype for strength, dtype in operands if strength == strongest]
    if strongest != _WITH_AXES:  # a count beside a loss does not make it float64
        highest = max(_KINDS[dtype.kind] for dtype in strong)
        strong = [dtype for dtype in strong if _KINDS[dtype.kind] == highest]
    common = np.result_type(*strong)
    for weaker in range(strongest)[::-1]:
        dtypes = [dtype for strength, dtype in operands if strength == weaker]
        higher = [dtype for dtype in dtypes if _KINDS[dtype.kind] > _KINDS[common.kind]]
        common = np.result_type(common, *higher)
    single = strongest == _PYTHON and common.kind == "f"
    return np.dtype(np.float32) if single else common


def _weighed(value: Any) -> tuple[Any, int, np.dtype[Any]]:
    """Return an operand, how strong it is in promotion, and its dtype."""
    dtype = _PYTHON_DTYPES.get(type(value))
    if dtype is not None:
        return value, _PYTHON, dtype
    if isinstance(value, Tensor):
        return value, _WITH_AXES if value.ndim else _TENSOR, value.dtype
    if isinstance(value, np.generic):
        return _real(value), _SCALAR, value.dtype
    array = _real(value if is_array(value) else np.asarray(value))
    typed = hasattr(value, "__array__")
    return array, _PYTHON if not typed else _WITH_AXES if array.ndim else _SCALAR, array.dtype


def _in_dtype(
    common: np.dtype[Any], value: Any, strength: int, dtype: np.dtype[Any], values: Sequence[Any]
) -> Any:
    """Return a weak operand as `promoted` does."""
    if strength == _TENSOR:
        # Integers of two sizes are left to the operation: casting could make them overflow.
        return value.astype(common) if dtype != common and common.kind == "f" else value
    if not is_array(value):
        return common.type(value.item() if strength == _SCALAR else value)
    if strength == _SCALAR and isinstance(value, np.ndarray):
        return np.asarray(value.item(), common)  # raises if the integer does not fit
    array = exactly("tensor", "sequence", value, common)
    if strength == _PYTHON and recorder.get() is None:
        like = next((other._data for other in values if isinstance(other, Tensor)), None)
        return np.asarray(array, like=like)
    return array


def apply(operation: Operation, *inputs: Any) -> Tensor:
    """Compute an operation on Tensors, arrays or scalars, and record it if a gradient is needed.

    Raises:
        ValueError, TypeError: The operation rejects its inputs; the message names it.
        DeviceError: They are on different devices, or their GPU is out of memory.
    """
    capturing = recorder.get()
    common = _one_dtype(inputs) if capturing is None else None
    if common is None:
        inputs = tuple(map(_as_stacked, inputs))
        if operation.promotes:
            inputs = tuple(promoted(inputs))
    if capturing is not None:
        traced: Tensor = capturing.record(operation, inputs)
        return traced
    # Loops in place of comprehensions, each of which is a call: this runs for every operation.
    tensors, wanted = [], False
    for value in inputs:
        if isinstance(value, Tensor):
            tensors.append(value)
            wanted = wanted or value._requires_grad
    recording = (wanted or _remembers(operation, tensors)) and grad_enabled.get()
    arrays: list[Array] = []
    parents: list[Any] = []
    for value in inputs:
        if not isinstance(value, Tensor):
            arrays.append(_operand(value, tensors, recording, common))
            parents.append(None)
        elif value.node is not None:
            arrays.append(value._data)
            parents.append(value.node)
        else:
            arrays.append(value._data.copy() if recording and value._is_view() else value._data)
            parents.append(value if value._requires_grad else None)
    if not recording:
        return Tensor._wrap(compute(operation, tuple(arrays))[1])

    # Pinned before use, so that a view of an input is read-only from the start.
    pins = pinned(tensors) if operation.differentiable else []
    return record(operation, tuple(arrays), tuple(parents), pins)


def _remembers(operation: Operation, tensors: list[Tensor]) -> bool:
    """Return whether a result without a gradient remembers the choices that it comes from.

    Sums over the steps of a training do not: they would keep the graph of every step.
    """
    choices = [tensor.is_choice for tensor in tensors]
    return any(choices) and (len(choices) == 1 or not operation.differentiable or remembering.get())


def chosen(function: Any, *operands: Any) -> Any:
    """Return the outcome of a comparison or logical function for each element.

    If an operand requires a gradient, or is such an outcome itself, it is a boolean Tensor, which
    a graph compares again at the end of an average pass; otherwise a plain array. While a function
    is captured, comparisons of its arguments are recorded, unless they require a gradient.
    """
    tensors = [value for value in operands if isinstance(value, Tensor)]
    constant = not any(tensor._requires_grad for tensor in tensors)
    capturing = recorder.get()
    if capturing is not None and constant and capturing.traces(operands):
        return apply(Choice(function), *operands)
    if grad_enabled.get() and recorder.get() is None:
        numbers = all(value is not None and not isinstance(value, str) for value in operands)
        if numbers and any(tensor._requires_grad or tensor.is_choice for tensor in tensors):
            return apply(Choice(function), *operands)
    # NumPy's operators compare with anything, its functions with numbers alone.
    function = {np.equal: operator.eq, np.not_equal: operator.ne}.get(function, function)
    return function(*map(plain, operands))


def choices_in(*values: Any) -> list[Tensor]:
    """Return those values that are outcomes of comparisons, if gradients are recorded."""
    found = [value for value in values if isinstance(value, Tensor) and value.is_choice]
    return found if grad_enabled.get() else []


def arrays_of(tensors: Iterable[Tensor]) -> list[Array]:
    """Return the arrays of Tensors."""
    return [tensor._data for tensor in tensors]


def gradients_of(tensors: Iterable[Tensor]) -> list[Array | None]:
    """Return the gradients of Tensors, None where there is none."""
    return [tensor._grad for tensor in tensors]


def all_writable(tensors: Iterable[Tensor]) -> bool:
    """Return whether the arrays of all tensors may be changed in place."""
    # Every step asks twice, and a call for each leaf takes twice as long.
    return all(
        tensor._data.flags.writeable if type(tensor._data) is np.ndarray else tensor.is_writable()
        for tensor in tensors
    )


def wanting(tensors: Sequence[Tensor]) -> list[bool]:
    """Return whether each Tensor requires a gradient."""
    return [tensor._requires_grad for tensor in tensors]


def sources(inputs: Sequence[Any]) -> list[Any]:
    """Return the node or leaf of each input that requires a gradient, None for the others."""
    found: list[Any] = []
    for value in inputs:
        if not isinstance(value, Tensor):
            found.append(None)
        else:
            found.append(value.node or (value if value._requires_grad else None))
    return found


def recorded(source: Any, array: Array, pins: list[Pin]) -> Tensor:
    """Return a Tensor on an array of a graph, which has the given source, see `sources`.

    Args:
        source: A node, a leaf or None.
        array: The array that the source gave.
        pins: Those of the node that the array belongs to.
    """
    if isinstance(source, Tensor):
        if source._data is array:
            return source
        # The leaf has other values by now, and the graph those of the recording.
        return record(shape.Reshape(array.shape), (array,), (source,), pins)
    tensor = Tensor._wrap(array)
    tensor._pin = next((weakref.ref(pin) for pin in pins if pin.holds(array)), None)
    if source is not None:
        tensor.node, tensor._requires_grad = source, source.differentiable
    return tensor


def record(
    operation: Operation, arrays: tuple[Array, ...], parents: tuple[Any, ...], pins: list[Pin]
) -> Tensor:
    """Compute an operation and record it.

    Args:
        operation: What to compute.
        arrays: Its inputs.
        parents: The source of each input, as in `Node`.
        pins: Keep the inputs read-only.
    """
    operation, out = compute(operation, arrays)
    result = Tensor._wrap(out)
    # Even if it is a view: if it is writable, only this operation uses its memory.
    if result.is_writable():
        pins = [*pins, _pin(result)]
    result.node = node = Node(operation, arrays, out, parents, pins)
    result._requires_grad = node.differentiable
    if node.differentiable:
        require_gradients(operation, out)
    if recorded_at.get() is not None:
        remember(node)
    return result


def require_gradients(operation: Operation, out: Array) -> None:
    """Raise a TypeError if gradients are not defined for the dtype of a result."""
    if out.dtype.char not in "fd":
        name = "astype" if isinstance(operation, shape.Cast) else type(operation).__name__
        raise TypeError(
            f"{name}: the result is {out.dtype}, but gradients flow through "
            "float32 and float64 alone; detach() the inputs if none should"
        )


def pinned(tensors: Sequence[Tensor]) -> list[Pin]:
    """Return the pins on the tensors' arrays; pin those that are not yet read-only."""
    pins: list[Pin] = []
    for tensor in tensors:
        if not tensor.is_writable():
            pin = tensor._pin() if tensor._pin is not None else None
            if pin is not None and pin not in pins and pin.holds(tensor._data):
                pins.append(pin)
        elif not is_stray_view(tensor):
            pins.append(_pin(tensor))
    return pins


def is_stray_view(tensor: Tensor) -> bool:
    """Whether the array is a view of memory outside any graph, which no pin can protect."""
    return tensor.node is None and tensor._is_view()


def _pin(tensor: Tensor) -> Pin:
    """Return a new pin on a tensor's array, which is not read-only yet."""
    pin = Pin((tensor._data,))
    tensor._pin = weakref.ref(pin)
    return pin


def pin_together(tensors: Sequence[Tensor]) -> Pin:
    """Return a new pin on the tensors' arrays, none of which is read-only yet."""
    pin = Pin(arrays_of(tensors))
    reference = weakref.ref(pin)
    for tensor in tensors:
        tensor._pin = reference
    return pin


def _one_dtype(values: Sequence[Any]) -> np.dtype[Any] | None:
    """Return the dtype of operands that need no promotion, None if they may need it.

    These are Tensors and arrays of one dtype, and numbers of Python beside floating ones; None
    counts for nothing.
    """
    first: Any = None
    numbers = False
    for value in values:
        dtype: Any
        if isinstance(value, Tensor):
            dtype = value._data.dtype
        elif value is None:
            continue
        elif type(value) in _PYTHON_DTYPES:
            numbers = True
            continue
        else:
            dtype = getattr(value, "dtype", None)
        if first is None:
            first = dtype
        if dtype is None or dtype is not first:
            return None
    if first is None or not first.isnative or first.kind not in _KINDS:
        return None
    return None if numbers and first.kind != "f" else first


def _operand(
    value: Any, tensors: list[Tensor], recording: bool, common: np.dtype[Any] | None
) -> Array:
    """Return an operand other than a Tensor as an array, frozen if recording."""
    if common is not None and type(value) in _PYTHON_DTYPES:
        return scalar(value, common, tensors[0]._data if tensors else np.empty(()))
    if isinstance(value, np.generic):
        return scalar(value, value.dtype, tensors[0]._data if tensors else np.empty(()))
    if is_array(value):
        usual = type(value) is np.ndarray or not isinstance(value, np.ma.MaskedArray)
        return _as_owned_array(value, None) if recording or not usual else value
    array = _as_owned_array(value, None)
    return np.asarray(array, like=tensors[0]._data) if tensors else array


def _as_owned_array(data: Any, dtype: DTypeLike | None) -> Array:
    if isinstance(data, Tensor):
        data = data._data
    if type(data) is not np.ndarray:
        require_no_mask("tensor", "data", data)
    if dtype is not None:
        shape.require_byte_order("tensor", np.dtype(dtype))
        _real(data if is_array(data) else np.asarray(data))  # before a conversion to real numbers
    array: Array = np.array(data, dtype=dtype, like=data if is_array(data) else None)
    if array.dtype not in _DIFFERENTIABLE:
        array = _real(array)
    if dtype is None and array.dtype == np.float64 and not hasattr(data, "__array__"):
        array = array.astype(np.float32)
    return array


def _as_stacked(value: Any) -> Any:
    """Return a nested sequence that holds Tensors as one Tensor, and anything else unchanged."""
    found = isinstance(value, _SEQUENCES) and _holds_tensor(value)
    return apply(shape.Stack(), *value) if found else value


def _holds_tensor(sequence: Sequence[Any]) -> bool:
    if _NUMBERS.issuperset(map(type, sequence)):
        return False
    return any(
        isinstance(part, Tensor) or (isinstance(part, _SEQUENCES) and _holds_tensor(part))
        for part in sequence
    )


def _into_arrays(ufunc: np.ufunc, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Call a ufunc that writes to arrays, which can hold its result but no gradient of it."""
    name = f"np.{ufunc.__name__}"
    if any(isinstance(array, Tensor) for array in options["out"]):
        raise TypeError(f"{name}: out= must not be a Tensor; change it with x[...] or an operator")
    if grad_enabled.get() and any(getattr(value, "requires_grad", False) for value in inputs):
        raise TypeError(
            f"{name}: out= is an array, which would lose the gradient of the result; leave it out "
            "(y = y + x in place of y += x), or detach the Tensor"
        )
    return ufunc(*map(plain, inputs), **options)


def _real(array: Any) -> Any:
    """Return an array of real numbers, or a scalar, in the machine's byte order."""
    if array.dtype.kind not in _KINDS:
        raise TypeError(f"tensor: elements must be real numbers or booleans, not {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def averages_along(
    loss: Tensor,
    updates: Mapping[Tensor, ArrayLike],
    segments: int = 1,
    extrapolate: bool = False,
    retain_graph: bool = False,
) -> tuple[Array, dict[Any, Array]]:
    """Return the value and the average gradients that `Tensor.average_backward` finds.

    No `.average_grad` changes, and averages may be NaN.
    """
    loss.require_graph("average_backward")
    loss.require_scalar("average_backward", "reduce it with sum() or mean()")
    if not isinstance(segments, int) or segments < 1:
        raise ValueError(f"average_backward: segments must be a positive integer, got {segments!r}")
    program, path = _program_along(loss, updates)
    try:
        end, grads = program.average(path, segments, extrapolate, retain_graph)
    except Exception as error:
        cuda.explain(error)
        raise
    return end.reshape(()), grads


def _program_along(loss: Tensor, updates: Mapping[Tensor, ArrayLike]) -> tuple[Program, Path]:
    """Return a loss's program, which has averages, and its leaves' path along the updates."""
    if loss.node is None:
        raise ValueError("average_backward: the tensor is a leaf; nothing was computed from it")
    program = Program(loss.node)
    program.require_averages()
    starts = program.starts()
    moves = {
        leaf: update.astype(starts[leaf].dtype, copy=False)
        for leaf, update in checked_updates(
            "average_backward", updates, starts, "in the graph"
        ).items()
    }

    def path(share: float) -> dict[Any, Array]:
        ends = {
            leaf: starts[leaf] + (update if share == 1 else share * update)
            for leaf, update in moves.items()
        }
        return {leaf: as_array(end) if end.ndim == 0 else end for leaf, end in ends.items()}

    return program, path


def checked_updates(
    owner: str, updates: Mapping[Tensor, ArrayLike], leaves: Mapping[Any, Array], among: str
) -> dict[Any, Array]:
    """Return the updates as arrays of real numbers, each of the shape of its leaf.

    Args:
        owner: The function that takes them, for the messages.
        updates: The update of each leaf that moves.
        leaves: The array of each leaf that may move.
        among: Where the leaves are, for the messages.

    Raises:
        TypeError: An update is for something other than a Tensor, or holds no real numbers.
        ValueError: An update is for a Tensor that is not in `leaves`, or has another shape.
        DeviceError: An update is on another device than its leaf.

    Example:
        >>> x = tensor([1.0, 2.0], requires_grad=True)
        >>> checked_updates("average_backward", {x: [1.0, 0.0]}, {x: x.data}, "in the graph")[x]
        array([1., 0.])
    """
    checked = {}
    for i, (leaf, update) in enumerate(updates.items()):
        if not isinstance(leaf, Tensor):
            raise TypeError(f"{owner}: update {i} is for a {type(leaf).__name__}, not a Tensor")
        if leaf not in leaves:
            reason = f"not {among}" if leaf.node is None else "computed, not a leaf"
            raise ValueError(f"{owner}: the tensor of update {i}, {leaf.shape}, is {reason}")
        start = leaves[leaf]
        delta = beside(owner, f"update {i}", plain(update), start)
        if delta.shape != start.shape:
            raise ValueError(
                f"{owner}: update {i} has shape {delta.shape}, its tensor {start.shape}"
            )
        checked[leaf] = delta
    return checked


def _require_numbers(averages: Mapping[Any, Array]) -> None:
    """Raise if an average gradient has NaN."""
    finite = reduce(
        operator.and_, [np.isfinite(average).all() for average in averages.values()], np.True_
    )
    if finite is np.True_ or holds(finite):
        return
    for leaf, average in averages.items():
        if np.isnan(average).any():
            raise NonFiniteError(
                f"average_backward: the average gradient of a leaf of shape {leaf.shape} has NaN, "
                "although the value at the end of the updates is finite; mask the operand, not the "
                "result, of an operation that leaves its domain, as in where(x > 0, sqrt(x), 0)"
            )


@contextmanager
def values_restored(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Restore the same array objects after the block; a graph or an optimizer may hold them."""
    arrays = [(tensor._data, tensor._pin) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, (array, pin) in zip(tensors, arrays, strict=True):
            tensor._data, tensor._pin = array, pin


def accumulate(name: str, grads: Mapping[Any, Array]) -> None:
    """Add to the leaves' `.grad` or `.average_grad`, which threads may share."""
    slot = f"_{name}"  # of the shape and the dtype that the property would check
    with _accumulating:
        for leaf, grad in grads.items():
            known = getattr(leaf, slot)
            if known is not None:
                grad = known + grad
                if type(grad) is not np.ndarray:  # 0-d arrays add up to scalars
                    grad = as_array(grad)
            setattr(leaf, slot, grad)


def accumulate_from(root: Node, grads: Mapping[Any, Array]) -> None:
    """Add the gradients that a sweep from `root` gave to the leaves' `.grad`, and note the root."""
    origin = (weakref.ref(root),)
    with _accumulating:
        for leaf in grads:
            leaf.grad_of = origin if leaf._grad is None else (*_known(leaf.grad_of), *origin)
        accumulate("grad", grads)


def _known(grad_of: GradOf | None) -> GradOf:
    """Return the sources of a gradient, or (None,), for unknown, if any of them is gone."""
    known = grad_of and all(root is not None and root() is not None for root in grad_of)
    return grad_of if grad_of and known else (None,)


def plain(value: Any) -> Any:
    """Return a Tensor's array, and anything else unchanged."""
    return value._data if isinstance(value, Tensor) else value


def plain_index(index: Any) -> Any:
    """Return an index with its Tensors replaced by their arrays."""
    if isinstance(index, tuple):
        return tuple(map(plain_index, index))
    if isinstance(index, slice):
        bounds = index.start, index.stop, index.step
        return slice(*map(plain, bounds)) if _holds_tensor(bounds) else index
    return plain(index)
