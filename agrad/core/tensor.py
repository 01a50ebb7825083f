"""The Tensor: an array, and the node of the graph that produced it."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from agrad.backend import (
    Array,
    as_array,
    beside,
    device_of,
    is_array,
    is_on,
    move,
    scalar,
    set_writable,
)
from agrad.core.anomaly import recorded_at, remember
from agrad.core.context import grad_enabled, is_grad_enabled, recorder
from agrad.core.program import Node, Program, compute
from agrad.errors import CaptureError
from agrad.gpu import cuda
from agrad.ops import arithmetic, linalg, reduction, shape
from agrad.ops.device import HOST, Move, require_one_device
from agrad.ops.operation import Operation

__all__ = [
    "Home",
    "Pin",
    "Tensor",
    "accumulate",
    "all_writable",
    "apply",
    "arrays_of",
    "as_tensor",
    "as_tensors",
    "is_stray_view",
    "pin_together",
    "pinned",
    "plain",
    "plain_index",
    "promoted",
    "record",
    "require_gradients",
    "sources",
    "tensor",
    "values_restored",
    "wanting",
]


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

    __slots__ = ("__weakref__", "arrays")

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays
        for array in arrays:
            if isinstance(array, np.ndarray):
                array.setflags(write=False)

    def __del__(self) -> None:
        for array in self.arrays:
            if isinstance(array, np.ndarray):
                array.setflags(write=True)

    def holds(self, array: Array) -> bool:
        """Return whether the array is one of the pinned ones."""
        return any(pinned is array for pinned in self.arrays)


class Home(NamedTuple):
    """Where a `Flat` holds a leaf: the number of its part, and the array it is a part of."""

    flat: weakref.ref[Any]
    part: int
    array: weakref.ref[Array]


class Tensor:
    """An array that remembers how it was computed.

    Args:
        data: array, nested sequence or scalar; copied. Python floats become float32; data with
            a dtype keeps it, in the machine's byte order.
        requires_grad: whether it gets gradients; only for float32 and float64.
        dtype: the dtype to convert to.

    Attributes:
        grad: array of the same shape and dtype, or None: where `backward` accumulates.
        average_grad: likewise, where `average_backward` accumulates.
        node: the recorded operation that computed it; None for a leaf.

    An array that a recorded graph still needs is read-only: changing it in place raises NumPy's
    ValueError rather than making gradients silently wrong. (A writable NumPy view of `.data` taken
    beforehand is out of reach.) Assigning to `.data` replaces the array and leaves recorded graphs
    as they were.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([[1.0, 2.0]], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        array([[2., 4.]], dtype=float32)
    """

    __slots__ = (
        *("__weakref__", "_data", "home", "_pin", "_requires_grad"),
        *("average_grad", "grad", "node"),
    )

    implementations: ClassVar[dict[Any, Callable[..., Any]]] = {}
    """For each NumPy function and ufunc, the implementation for Tensors."""

    __array_priority__ = 1000

    def __init__(
        self, data: ArrayLike | Tensor, requires_grad: bool = False, dtype: DTypeLike | None = None
    ) -> None:
        self._data = _as_owned_array(data, dtype)
        self.node: Node | None = None
        self._pin: weakref.ref[Pin] | None = None
        self.home: Home | None = None
        self.grad: Array | None = None
        self.average_grad: Array | None = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    @classmethod
    def _wrap(cls, array: Array) -> Tensor:
        """Return a Tensor on `array` itself, which nothing else may use."""
        self = Tensor.__new__(Tensor)
        self._data = array
        self.node = self._pin = self.home = self.grad = self.average_grad = None
        self._requires_grad = False
        return self

    # -- attributes --------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array itself, not a copy."""
        return self._data

    @data.setter
    def data(self, value: ArrayLike | Tensor) -> None:
        here = beside("Tensor.data", "value", plain(value), self._data)
        array = _as_owned_array(here, self.dtype)
        if self.node is not None:
            raise ValueError("Tensor.data: only a leaf's values can be replaced; this is a result")
        if array.shape != self.shape:
            raise ValueError(
                f"Tensor.data: the new values have shape {array.shape}, the tensor {self.shape}"
            )
        self._data = array

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
        """Whether no recorded operation computed it."""
        return self.node is None

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
        """Where the array lives: "cpu", or "cuda:0" and so on."""
        return device_of(self._data)

    def to(self, device: str) -> Tensor:
        """Return the Tensor on a device; itself, if it is already there.

        Gradients flow back to the original device.

        Args:
            device: "cpu"; "cuda" for CuPy's current GPU, or "cuda:1" and so on.

        Raises:
            DeviceError: there is no such device, or it cannot be used.

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

    def __bool__(self) -> bool:
        return bool(self._data)

    def numpy(self) -> Array:
        """Return the array itself, not a copy.

        Raises:
            TypeError: it is not on the CPU.
        """
        if not isinstance(self._data, np.ndarray):
            raise TypeError(f"numpy: the tensor is on {self.device}; use .cpu().numpy()")
        return self._data

    def item(self) -> float | int | bool:
        """Return the single element as a Python number.

        Raises:
            ValueError: there is not exactly one element.
        """
        with cuda.failures_explained():
            number: float | int | bool = self._data.item()
            return number

    def tolist(self) -> Any:
        """Return the elements as nested Python lists."""
        return self._data.tolist()

    def detach(self) -> Tensor:
        """Return a Tensor on a read-only view of the same values, outside any graph."""
        view = self._data.view()
        set_writable([view], False)
        return Tensor._wrap(view)

    def writable(self) -> Array:
        """Return the array to change in place; if a graph needs it, replace it by a copy first.

        Raises:
            CaptureError: in a function being captured; its replays would not repeat the change.
        """
        if recorder.get() is not None:
            raise CaptureError(
                f"capture: the function changes a Tensor of shape {self.shape} in place, which its "
                "replays would not; leave this part uncaptured"
            )
        if not self.is_writable():
            self._data = self._data.copy()
        return self._data

    def is_writable(self) -> bool:
        """Return whether the array may be changed in place: no graph needs its values."""
        if isinstance(self._data, np.ndarray):
            return bool(self._data.flags.writeable)
        # CuPy has no such flag: the array must not be pinned, nor a view of one that may be.
        pin = self._pin() if self._pin is not None else None
        return not self._is_view() and (pin is None or not pin.holds(self._data))

    def settle(self, array: Array, home: Home) -> None:
        """Replace the array by a part of a shared one that has the same values."""
        self._data = array
        self.home = home

    def _is_view(self) -> bool:
        """Whether the array is part of another, unless a `Flat` shares that one among leaves."""
        base = self._data.base
        return base is not None and (self.home is None or self.home.array() is not base)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Change elements of a leaf in place, without recording.

        Raises:
            TypeError: a gradient is required, and cannot follow a change in place.
        """
        operands = [self, *([value] if isinstance(value, Tensor) else [])]
        if self.node is not None or (
            is_grad_enabled() and any(tensor._requires_grad for tensor in operands)
        ):
            raise TypeError(
                "Tensor.__setitem__: gradients cannot follow a change in place; build the result "
                "with where or concatenate, or change a leaf's values inside no_grad()"
            )
        elements = beside("Tensor.__setitem__", "value", plain(value), self._data)
        self.writable()[plain_index(index)] = elements

    # -- gradients ---------------------------------------------------------------------------------

    def backward(self, grad: ArrayLike | None = None, *, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to `.grad` of every leaf that requires one.

        Args:
            grad: the gradient with respect to this Tensor, of its shape; 1 for a single element.
            retain_graph: keep the graph's buffers for another sweep, instead of freeing them.

        Raises:
            ValueError: no gradient is required; there are several elements and no `grad`; `grad`
                has another shape; an earlier sweep freed the graph (`FreedGraphError`).
        """
        self._require_graph("backward")
        if grad is None:
            self._require_scalar("backward", "pass grad, or reduce it with sum() or mean()")
            seed = np.ones_like(self._data)
        else:
            seed = beside("backward", "grad", plain(grad), self._data, self.dtype)
            if seed.shape != self.shape:
                raise ValueError(
                    f"backward: grad has shape {seed.shape}, the tensor has shape {self.shape}"
                )
        if self.node is None:
            accumulate("grad", {self: seed.copy()})
            return
        try:
            accumulate("grad", Program(self.node).backward(seed, retain_graph))
        except (MemoryError, RuntimeError) as error:
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
            updates: the update of each leaf that moves, of the leaf's shape.
            segments: cut the path into this many equal parts and average over them; the error
                falls as 1/segments².
            extrapolate: combine `segments` and twice as many as (4·fine - coarse)/3, which leaves
                an error of O(|update|⁴) on smooth graphs.
            retain_graph: keep the graph's buffers for another sweep, instead of freeing them.

        Returns:
            The value at the end of the updates, a 0-d array.

        Raises:
            ValueError: there are several elements; there is no graph, or it was freed; an update
                belongs to a tensor that is not a leaf of the graph, or has another shape.
            AverageUndefinedError: an operation has no kind.
            NonFiniteError: the value at the end of the updates is NaN or infinite.

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
        self._require_graph("average_backward")
        self._require_scalar("average_backward", "reduce it with sum() or mean()")
        if not isinstance(segments, int) or segments < 1:
            raise ValueError(
                f"average_backward: segments must be a positive integer, got {segments!r}"
            )
        if self.node is None:
            raise ValueError("average_backward: the tensor is a leaf; nothing was computed from it")
        program = Program(self.node)
        program.require_averages()
        moves = _checked_updates(updates, program)

        def path(share: float) -> dict[Any, Array]:
            ends = {
                leaf: start + (update if share == 1 else share * update)
                for leaf, (start, update) in moves.items()
            }
            return {leaf: as_array(end) if end.ndim == 0 else end for leaf, end in ends.items()}

        try:
            end, grads = program.average(path, segments, extrapolate, retain_graph)
            accumulate("average_grad", grads)
        except (MemoryError, RuntimeError) as error:
            cuda.explain(error)
            raise
        return end.reshape(())

    def zero_grad(self) -> None:
        """Clear both gradients."""
        self.grad = self.average_grad = None

    def _require_graph(self, operation: str) -> None:
        if not self.requires_grad:
            raise ValueError(
                f"{operation}: the tensor depends on no tensor that requires a gradient; set "
                "requires_grad=True on a leaf, and compute outside no_grad()"
            )

    def _require_scalar(self, operation: str, remedy: str) -> None:
        if self.size != 1:
            raise ValueError(
                f"{operation}: needs a single element, the tensor has shape {self.shape}; {remedy}"
            )

    # -- arithmetic --------------------------------------------------------------------------------

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

    # -- comparison --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> Array:  # type: ignore[override]  # for each element
        truth: Array = self._data == plain(other)
        return truth

    def __ne__(self, other: object) -> Array:  # type: ignore[override]  # for each element
        truth: Array = self._data != plain(other)
        return truth

    def __lt__(self, other: ArrayLike | Tensor) -> Array:
        truth: Array = self._data < plain(other)
        return truth

    def __le__(self, other: ArrayLike | Tensor) -> Array:
        truth: Array = self._data <= plain(other)
        return truth

    def __gt__(self, other: ArrayLike | Tensor) -> Array:
        truth: Array = self._data > plain(other)
        return truth

    def __ge__(self, other: ArrayLike | Tensor) -> Array:
        truth: Array = self._data >= plain(other)
        return truth

    # By identity, as for any object that can change: Tensors are keys of updates and gradients.
    __hash__ = object.__hash__

    # -- reductions --------------------------------------------------------------------------------

    def sum(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the sum over `axis` (an int, several, or None for all)."""
        return apply(reduction.Sum(axis, keepdims), self)

    def mean(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the mean over `axis`."""
        return apply(reduction.Mean(axis, keepdims), self)

    def var(self, axis: reduction.Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the variance over `axis`, the sum of squares divided by n - ddof."""
        return apply(reduction.Var(axis, ddof, keepdims), self)

    def std(self, axis: reduction.Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Return the standard deviation over `axis`; where it is 0, so is its gradient."""
        return apply(reduction.Std(axis, ddof, keepdims), self)

    def max(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the largest element over `axis`; equal ones share the gradient."""
        return apply(reduction.Max(axis, keepdims), self)

    def min(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the smallest element over `axis`; equal ones share the gradient."""
        return apply(reduction.Min(axis, keepdims), self)

    def prod(self, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
        """Return the product over `axis`."""
        return apply(reduction.Prod(axis, keepdims), self)

    def argmax(self, axis: int | None = None) -> Array | np.intp:
        """Return the index of the largest element, as a plain array."""
        return self._data.argmax(axis)

    def argmin(self, axis: int | None = None) -> Array | np.intp:
        """Return the index of the smallest element, as a plain array."""
        return self._data.argmin(axis)

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
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
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

    flatten = ravel

    def squeeze(self, axis: reduction.Axis = None) -> Tensor:
        """Return a view without `axis`, of length one; None for all such axes."""
        return self.reshape(np.squeeze(np.broadcast_to(0, self.shape), axis).shape)

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
            TypeError: a gradient is to flow through another dtype than float32 and float64, or the
                dtype has another byte order than the machine.
        """
        cast = shape.Cast(dtype)
        return apply(cast, self if cast.dtype.kind == "f" else self._data)

    def dot(self, other: ArrayLike | Tensor) -> Tensor:
        """Return the product with `other` by the rules of np.dot."""
        return apply(linalg.dot(self.shape, np.shape(plain(other))), self, other)

    def __getitem__(self, index: Any) -> Tensor:
        return apply(shape.GetItem(plain_index(index)), self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a Tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    # -- NumPy's functions -------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method}: not defined for Tensors; use x.numpy()")
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

    Example:
        >>> import agrad as ag
        >>> ag.tensor([1.0, 2.0])
        tensor([1., 2.])
        >>> ag.tensor(np.arange(3)).dtype
        dtype('int64')
    """
    return Tensor(data, requires_grad, dtype)


def as_tensor(value: ArrayLike | Tensor) -> Tensor:
    """Return `value` itself if it is a Tensor, else a new one."""
    return value if isinstance(value, Tensor) else Tensor(value)


def as_tensors(*values: Any) -> list[Any]:
    """Return operands of one operation as Tensors, see `promoted`; None stays None.

    Example:
        >>> [x.dtype.name for x in as_tensors(tensor(np.zeros(2)), 0.1, [1, 2])]
        ['float64', 'float64', 'float64']
    """
    operands = [value for value in values if value is not None]
    dtypes = {value.dtype if isinstance(value, Tensor) else None for value in operands}
    if len(dtypes) == 1 and None not in dtypes:
        return list(values)
    given = iter(promoted(operands))
    return [None if value is None else as_tensor(next(given)) for value in values]


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
        OverflowError: an integer is out of the range of the dtype.
        TypeError: an operand does not consist of real numbers.
    """
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
    common = np.result_type(*(dtype for strength, dtype in operands if strength == strongest))
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
    typed = array is value or hasattr(value, "dtype")
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
    array = value.astype(common)
    if strength == _PYTHON and recorder.get() is None:
        like = next((other._data for other in values if isinstance(other, Tensor)), None)
        return np.asarray(array, like=like)
    return array


def apply(operation: Operation, *inputs: Any) -> Tensor:
    """Compute an operation on Tensors, arrays or scalars, and record it if a gradient is needed.

    Raises:
        ValueError, TypeError: the operation rejects its inputs; the message names it.
        DeviceError: they are on different devices, or their GPU is out of memory.
    """
    capturing = recorder.get()
    if capturing is not None:
        operands = tuple(promoted(inputs)) if operation.promotes else inputs
        traced: Tensor = capturing.record(operation, operands)
        return traced
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if operation.promotes and (
        len(tensors) < len(inputs) or (len(inputs) > 1 and _differ(tensors))
    ):
        inputs = tuple(promoted(inputs))
        tensors = [value for value in inputs if isinstance(value, Tensor)]
    recording = grad_enabled.get() and any(t._requires_grad for t in tensors)
    arrays = tuple(_operand(value, tensors, recording) for value in inputs)
    if not HOST.issuperset(map(type, arrays)):
        require_one_device(operation, arrays)
    if not recording:
        return Tensor._wrap(compute(operation, arrays)[1])

    parents = tuple(sources(inputs))
    # Pinned before use, so that a view of an input is read-only from the start.
    return record(operation, arrays, parents, pinned(tensors))


def arrays_of(tensors: Iterable[Tensor]) -> list[Array]:
    """Return the arrays of Tensors."""
    return [tensor._data for tensor in tensors]


def all_writable(tensors: Iterable[Tensor]) -> bool:
    """Return whether the arrays of all tensors may be changed in place."""
    return all(tensor.is_writable() for tensor in tensors)


def wanting(tensors: Sequence[Tensor]) -> list[bool]:
    """Return whether each Tensor requires a gradient."""
    return [tensor._requires_grad for tensor in tensors]


def sources(inputs: Sequence[Any]) -> list[Any]:
    """Return the node or leaf of each input that requires a gradient, None for the others."""
    return [
        (value.node or value) if isinstance(value, Tensor) and value._requires_grad else None
        for value in inputs
    ]


def record(
    operation: Operation, arrays: tuple[Array, ...], parents: tuple[Any, ...], pins: list[Pin]
) -> Tensor:
    """Compute an operation and record it.

    Args:
        operation: what to compute.
        arrays: its inputs.
        parents: the source of each input, as in `Node`.
        pins: keep the inputs read-only.
    """
    operation, out = compute(operation, arrays)
    require_gradients(operation, out)
    result = Tensor._wrap(out)
    # Even if it is a view: if it is writable, only this operation uses its memory.
    if result.is_writable():
        pins = [*pins, pin_together([result])]
    result.node = Node(operation, arrays, result._data, parents, pins)
    result._requires_grad = True
    if recorded_at.get() is not None:
        remember(result.node)
    return result


def require_gradients(operation: Operation, out: Array) -> None:
    """Raise a TypeError if gradients are not defined for the dtype of a result."""
    if out.dtype not in _DIFFERENTIABLE:
        name = "astype" if isinstance(operation, shape.Cast) else type(operation).__name__
        raise TypeError(
            f"{name}: the result is {out.dtype}, but gradients flow through "
            "float32 and float64 alone; detach() the inputs if no gradient is to flow"
        )


def pinned(tensors: Sequence[Tensor]) -> list[Pin]:
    """Return the pins on the tensors' arrays; pin those that are not yet read-only."""
    loose = [tensor for tensor in tensors if tensor.is_writable() and not is_stray_view(tensor)]
    pins: list[Pin] = []
    if len(loose) < len(tensors):
        known = [(tensor._pin(), tensor._data) for tensor in tensors if tensor._pin is not None]
        pins = list({pin for pin, array in known if pin is not None and pin.holds(array)})
    return pins + [pin_together([tensor]) for tensor in dict.fromkeys(loose)]


def pin_together(tensors: Sequence[Tensor]) -> Pin:
    """Return a new pin on the tensors' arrays, none of which is read-only yet."""
    pin = Pin([tensor._data for tensor in tensors])
    reference = weakref.ref(pin)
    for tensor in tensors:
        tensor._pin = reference
    return pin


def is_stray_view(tensor: Tensor) -> bool:
    """Whether the array is a view of memory outside any graph, which no pin can protect."""
    return tensor.node is None and tensor._is_view()


def _differ(tensors: list[Tensor]) -> bool:
    """Return whether the tensors may have more than one dtype."""
    first = tensors[0]._data.dtype
    for tensor in tensors:  # noqa: SIM110 -- any() takes longer, and every operation asks
        if tensor._data.dtype is not first:
            return True
    return False


def _operand(value: Any, tensors: list[Tensor], recording: bool) -> Array:
    """Return an operand as an array; for a graph, one that cannot change unnoticed."""
    if isinstance(value, Tensor):
        return value._data.copy() if recording and is_stray_view(value) else value._data
    if isinstance(value, np.generic):
        return scalar(value, value.dtype, tensors[0]._data if tensors else np.empty(()))
    if is_array(value):
        return _as_owned_array(value, None) if recording else value
    array = _as_owned_array(value, None)
    return np.asarray(array, like=tensors[0]._data) if tensors else array


def _as_owned_array(data: Any, dtype: DTypeLike | None) -> Array:
    if isinstance(data, Tensor):
        data = data._data
    if dtype is not None:
        shape.require_byte_order("tensor", np.dtype(dtype))
    array: Array = _real(np.array(data, dtype=dtype, like=data if is_array(data) else None))
    if dtype is None and array.dtype == np.float64 and not hasattr(data, "dtype"):
        array = array.astype(np.float32)
    return array


def _real(array: Any) -> Any:
    """Return an array of real numbers, or a scalar, in the machine's byte order."""
    if array.dtype.kind not in _KINDS:
        raise TypeError(f"tensor: elements must be real numbers or booleans, not {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _checked_updates(
    updates: Mapping[Tensor, ArrayLike], program: Program
) -> dict[Any, tuple[Array, Array]]:
    """Return the recorded array of each leaf, and its update as an array of that dtype."""
    moves = {}
    for i, (leaf, update) in enumerate(updates.items()):
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"average_backward: update {i} is for a {type(leaf).__name__}, not a Tensor"
            )
        if leaf not in program.leaves:
            reason = "computed, not a leaf" if leaf.node is not None else "not in the graph"
            raise ValueError(
                f"average_backward: the tensor of update {i}, {leaf.shape}, is {reason}"
            )
        start = program.start_of(leaf)
        delta = beside("average_backward", f"update {i}", plain(update), start)
        if delta.shape != start.shape:
            raise ValueError(
                f"average_backward: update {i} has shape {delta.shape}, its tensor {start.shape}"
            )
        if delta.dtype.kind not in "biuf":
            raise TypeError(f"average_backward: update {i} has dtype {delta.dtype}")
        moves[leaf] = start, delta.astype(start.dtype, copy=False)
    return moves


@contextmanager
def values_restored(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Restore the very same arrays after the block; a graph or an optimizer may hold them."""
    arrays = [(tensor._data, tensor._pin) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, (array, pin) in zip(tensors, arrays, strict=True):
            tensor._data, tensor._pin = array, pin


def accumulate(name: str, grads: Mapping[Any, Array]) -> None:
    """Add to the leaves' `.grad` or `.average_grad`."""
    for leaf, grad in grads.items():
        known = getattr(leaf, name)
        # 0-d arrays add up to scalars.
        setattr(leaf, name, grad if known is None else as_array(known + grad))


def plain(value: Any) -> Any:
    """Return a Tensor's array, and anything else unchanged."""
    return value._data if isinstance(value, Tensor) else value


def plain_index(index: Any) -> Any:
    """Return an index with its Tensors replaced by their arrays."""
    if isinstance(index, tuple):
        return tuple(plain(part) for part in index)
    return plain(index)
