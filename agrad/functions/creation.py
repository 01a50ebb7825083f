"""New Tensors: constants, ranges and random numbers.

All take `dtype`, of real numbers or booleans, `device` ("cpu", "cuda", "cuda:1" …) and
`requires_grad` by name. Floats are float32 unless `dtype` says otherwise. A shape is given as its
lengths or as one sequence.

A captured function may create constants, which are the same in each of its calls, but no random
numbers.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from agrad.arguments import exactly, require_real
from agrad.backend import Array, move
from agrad.core.context import recorder
from agrad.core.tensor import Tensor, as_tensor, on_new_array
from agrad.errors import CaptureError
from agrad.ops.shape import require_byte_order
from agrad.random import generator

__all__ = [
    "arange",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randn",
    "randn_like",
    "zeros",
    "zeros_like",
]


def zeros(
    *shape: int | Sequence[int],
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return zeros.

    Raises:
        ValueError: A length is negative.
        TypeError: A length is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.zeros(2, 3)
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    return _made("zeros", np.zeros(_lengths("zeros", shape), _float(dtype)), device, requires_grad)


def ones(
    *shape: int | Sequence[int],
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return ones.

    Raises:
        ValueError: A length is negative.
        TypeError: A length is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.ones((2,), requires_grad=True)
        tensor([1., 1.], requires_grad=True)
    """
    return _made("ones", np.ones(_lengths("ones", shape), _float(dtype)), device, requires_grad)


def full(
    shape: int | Sequence[int],
    fill_value: float,
    *,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return a Tensor filled with one number, by default in the dtype of the number's kind.

    Raises:
        ValueError: A length is negative.
        TypeError: A length is not an integer, or `fill_value` is not a number.
        OverflowError: `dtype` is an integer type that cannot hold `fill_value`.

    Example:
        >>> import agrad as ag
        >>> ag.full((2, 2), 0.5)
        tensor([[0.5, 0.5],
                [0.5, 0.5]])
    """
    array = _filled("full", _lengths("full", (shape,)), fill_value, dtype)
    return _made("full", _single(array, dtype), device, requires_grad)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return start, start + step and so on, before `stop`; from 0 if only a stop is given.

    The numbers are integers if all arguments are.

    Raises:
        ValueError: `step` is 0.

    Example:
        >>> import agrad as ag
        >>> ag.arange(3), ag.arange(0.0, 1.0, 0.25)
        (tensor([0, 1, 2], dtype=int64), tensor([0.  , 0.25, 0.5 , 0.75]))
    """
    first, last = (0, start) if stop is None else (start, stop)
    if step == 0:
        raise ValueError("arange: step must not be 0")
    numbers: Array = np.arange(first, last, step, dtype)  # type: ignore[call-overload]
    return _made("arange", _single(numbers, dtype), device, requires_grad)


def linspace(
    start: float,
    stop: float,
    num: int = 50,
    *,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return `num` numbers at equal distances, the first `start` and the last `stop`.

    Raises:
        ValueError: `num` is negative.
        TypeError: `num` is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.linspace(0, 1, 5)
        tensor([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    if np.asarray(num).dtype.kind not in "iu":
        raise TypeError(f"linspace: num must be an integer, got {num!r}")
    if num < 0:
        raise ValueError(f"linspace: num must not be negative, got {num}")
    numbers = np.linspace(start, stop, num, dtype=_float(dtype))
    return _made("linspace", numbers, device, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    k: int = 0,
    *,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return a matrix (n, m), by default square, with ones on its k-th diagonal.

    Raises:
        ValueError: A length is negative.
        TypeError: A length is not an integer.

    Example:
        >>> import agrad as ag
        >>> ag.eye(2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    rows, columns = _lengths("eye", (n, n if m is None else m))
    return _made("eye", np.eye(rows, columns, k, _float(dtype)), device, requires_grad)


def rand(
    *shape: int | Sequence[int],
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return random numbers, uniform on [0, 1), from agrad's generator.

    Raises:
        ValueError: A length is negative.
        TypeError: A length is not an integer, or the dtype is neither float32 nor float64.
        CaptureError: In a function being captured, whose calls would all get the same numbers.

    Example:
        >>> import agrad as ag
        >>> ag.seed(0)
        >>> ag.rand(2, dtype="float64")
        tensor([0.63696169, 0.26978671], dtype=float64)
    """
    drawn = _drawn("rand", "random", _lengths("rand", shape), dtype)
    return _made("rand", drawn, device, requires_grad)


def randn(
    *shape: int | Sequence[int],
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return normally distributed random numbers of mean 0 and variance 1, see `rand`.

    Example:
        >>> import agrad as ag
        >>> ag.seed(0)
        >>> ag.randn(2, dtype="float64")
        tensor([ 0.12573022, -0.13210486], dtype=float64)
    """
    drawn = _drawn("randn", "standard_normal", _lengths("randn", shape), dtype)
    return _made("randn", drawn, device, requires_grad)


def zeros_like(
    x: Any,
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return zeros of the shape, and by default the dtype and the device, of `x`.

    Example:
        >>> import agrad as ag
        >>> ag.zeros_like(ag.tensor([1, 2]))
        tensor([0, 0], dtype=int64)
    """
    return full_like(x, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def ones_like(
    x: Any,
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ones of the shape, and by default the dtype and the device, of `x`.

    Example:
        >>> import agrad as ag
        >>> ag.ones_like([1.0, 2.0])
        tensor([1., 1.])
    """
    return full_like(x, 1, dtype=dtype, device=device, requires_grad=requires_grad)


def full_like(
    x: Any,
    fill_value: float,
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return one number in the shape, and by default in the dtype and on the device, of `x`.

    Example:
        >>> import agrad as ag
        >>> ag.full_like([1.0, 2.0], 7)
        tensor([7., 7.])
    """
    x = as_tensor(x)
    array = _filled("full_like", x.shape, fill_value, x.dtype if dtype is None else dtype)
    return _made("full_like", array, device or x.device, requires_grad)


def rand_like(
    x: Any,
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return random numbers as from `rand`, of the shape, dtype and device of `x`.

    Example:
        >>> import agrad as ag
        >>> ag.rand_like(ag.ones(2, 3)).shape
        (2, 3)
    """
    x = as_tensor(x)
    drawn = _drawn("rand_like", "random", x.shape, x.dtype if dtype is None else dtype)
    return _made("rand_like", drawn, device or x.device, requires_grad)


def randn_like(
    x: Any,
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return random numbers as from `randn`, of the shape, dtype and device of `x`.

    Example:
        >>> import agrad as ag
        >>> ag.randn_like(ag.ones(2, 3)).shape
        (2, 3)
    """
    x = as_tensor(x)
    drawn = _drawn("randn_like", "standard_normal", x.shape, x.dtype if dtype is None else dtype)
    return _made("randn_like", drawn, device or x.device, requires_grad)


def _made(name: str, array: Array, device: str, requires_grad: bool) -> Tensor:
    require_real(name, "the result", array.dtype)
    require_byte_order(name, array.dtype)
    tensor = on_new_array(move(array, device))
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _filled(name: str, shape: tuple[int, ...], value: Any, dtype: DTypeLike | None) -> Array:
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "biuf":
        raise TypeError(f"{name}: fill_value must be a number, got {value!r:.50}")
    number = number if dtype is None else exactly(name, "fill_value", number, np.dtype(dtype))
    filled: Array = np.full(shape, number)
    return filled


def _single(array: Array, dtype: DTypeLike | None) -> Array:
    """Return Python's floats, which NumPy makes float64, as float32."""
    is_double = dtype is None and array.dtype == np.float64
    return array.astype(np.float32) if is_double else array


def _lengths(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """Return a shape given as lengths or as one sequence of them."""
    lengths = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    try:
        checked = tuple(operator.index(length) for length in lengths)
    except TypeError:
        raise TypeError(
            f"{name}: a shape consists of integers, got {tuple(lengths)}; pass a dtype by "
            "name, as dtype=…"
        ) from None
    if any(length < 0 for length in checked):
        raise ValueError(f"{name}: the lengths of a shape must not be negative, got {checked}")
    return checked


def _float(dtype: DTypeLike | None) -> DTypeLike:
    """Return float32 for None, which NumPy takes for float64."""
    return np.float32 if dtype is None else dtype


def _drawn(name: str, draw: str, shape: tuple[int, ...], dtype: DTypeLike | None) -> Array:
    """Return numbers that a method of the generator draws."""
    if recorder.get() is not None:
        raise CaptureError(
            f"capture: {name} draws numbers, which would be the same in each call; pass them as an "
            "argument"
        )
    kind = np.dtype(_float(dtype))
    if kind not in (np.float32, np.float64):
        raise TypeError(f"{name}: dtype must be float32 or float64, not {kind}")
    numbers: Array = np.asarray(getattr(generator(), draw)(shape, dtype=kind))
    return numbers
