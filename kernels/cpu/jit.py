"""Numba kernels compiled at their first call, for declared types only, and cached on disk.

There are five decorators. `kernel` compiles a function of arrays. Kernels may call functions marked
`inline` (scalar), `called` (longer) or `emitted` (written in LLVM code). `elementwise` makes a
function of two arrays from a scalar formula. None of them imports Numba before the first call.
"""

import contextlib
import functools
import hashlib
import inspect
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numba.core.types import Type

__all__ = [
    "Array",
    "Number",
    "at_the_place_of",
    "cache_folder",
    "called",
    "elementwise",
    "emitted",
    "inline",
    "kernel",
]

# Annotations are for readers and type checkers: Numba goes by the signature and ignores them.
Array = NDArray[Any]
Number = np.floating[Any]
"""A number of the precision that its formula is compiled for."""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

# Fused multiply-adds are welcome; the other flags of fastmath break NaN, inf or compensated sums.
_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}

# One lock for all kernels, because they share inline functions, which must be compiled once. (Numba
# compiles one function at a time anyway.)
_COMPILING = threading.Lock()


def kernel(
    signature: str, reassociate: bool = False
) -> "Callable[[Callable[[*Arguments], Result]], Kernel[*Arguments, Result]]":
    """Compile a function of arrays with Numba when it is first called.

    The compiled code releases the GIL and is cached on disk, see `cache_folder`. A damaged
    cache entry is dropped and the function compiled again.

    Args:
        signature: The arguments' types, as in `"const real[:, :], int64, real[:]"`. `real`
            stands for float32 and float64; both are compiled. Arrays are C-contiguous. `const`
            arrays are only read, and may be read-only or unaligned.
        reassociate: Whether LLVM may reorder the kernel's own sums to vectorize them. The order is
            then fixed for one kind of machine.

    Returns:
        A decorator. What it returns raises TypeError when called with other types.

    Example:
        >>> @kernel("const real[:], real, real[:]")
        ... def scale(x, factor, out):
        ...     for i in range(out.size):
        ...         out[i] = factor * x[i]
        >>> out = np.empty(2, np.float32)
        >>> scale(np.ones(2, np.float32), 3.0, out)
        >>> out
        array([3., 3.], dtype=float32)
    """
    return lambda function: Kernel(function, signature, reassociate)


class Kernel(Generic[*Arguments, Result]):
    """A function as `kernel` returns it.

    Attributes:
        compiled: The compiled function. Calling it directly skips the Python call of the kernel.
    """

    def __init__(
        self, function: Callable[[*Arguments], Result], signature: str, reassociate: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self._signature = signature
        self._reassociate = reassociate

    def __call__(self, *arguments: *Arguments) -> Result:
        return self.compiled(*arguments)

    @functools.cached_property
    def compiled(self) -> Callable[[*Arguments], Result]:
        """The compiled function, whose call skips the kernel's Python call."""
        with _COMPILING:  # another thread may have been first
            known: Callable[[*Arguments], Result] | None = vars(self).get("compiled")
            return known or _compile(self.__wrapped__, self._signature, self._reassociate)


class inline(Generic[*Arguments, Result]):
    """Mark a scalar function that kernels may call and that is always inlined.

    Inlining lets LLVM vectorize the loop around the call. Called from Python, the function is an
    ordinary one.
    """

    def __init__(self, function: Callable[[*Arguments], Result]) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function

    def __call__(self, *arguments: *Arguments) -> Result:
        return self.__wrapped__(*arguments)

    @functools.cached_property
    def _dispatcher(self) -> Any:
        import numba

        return numba.njit(self.__wrapped__, forceinline=True, **_OPTIONS)

    @property
    def _numba_type_(self) -> "Type":
        """The attribute that Numba looks up for an unknown global of a kernel."""
        kind: Type = self._dispatcher._numba_type_
        return kind


class called(inline[*Arguments, Result]):
    """Mark a function that kernels may call and that need not be inlined.

    Inlined, a long function called in several places would be compiled several times.
    """

    @functools.cached_property
    def _dispatcher(self) -> Any:
        import numba

        return numba.njit(self.__wrapped__, **_OPTIONS)


class emitted(inline[*tuple[Any, ...], None]):
    """Mark a function that writes the LLVM code of its call in a kernel.

    When the kernel is compiled, the function is called with llvmlite's builder and the values of
    the arguments; an array's value is the pointer to its first element. The code returns nothing.

    Example:
        >>> @emitted
        ... def double(builder, x):
        ...     number = builder.load(x)
        ...     builder.store(builder.fadd(number, number), x)
        >>> @kernel("real[:]")
        ... def double_second(x):
        ...     double(x[1:])
        >>> x = np.ones(3)
        >>> double_second(x)
        >>> x
        array([1., 2., 1.])
    """

    def __init__(self, function: Callable[..., None]) -> None:
        super().__init__(function)

    @functools.cached_property
    def _dispatcher(self) -> Any:
        import numba
        from numba import types
        from numba.extending import intrinsic

        def typed(typing: Any, *arguments: "Type") -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                operands = (
                    context.make_array(kind)(context, builder, value).data
                    if isinstance(kind, types.Array)
                    else value
                    for kind, value in zip(signature.args, values)
                )
                self.__wrapped__(builder, *operands)
                return context.get_dummy_value()

            return types.void(*arguments), generate

        typed.__signature__ = inspect.signature(self.__wrapped__)  # type: ignore[attr-defined]
        write = intrinsic(typed)
        return numba.njit(lambda *arguments: write(*arguments), forceinline=True)


class elementwise(inline[float, float, *tuple[float, ...], float]):
    """Make a function of two arrays from a formula of two numbers and at most one constant.

    The formula is evaluated in double precision for float32 arrays too, and rounded once. The
    arrays have one shape and one dtype, float32 or float64, and any strides; the result is a
    new C-contiguous array of that shape and dtype. Another formula may call the function; it then
    calls the formula.

    Raises:
        ValueError: The shapes differ.
        TypeError: The dtypes differ, or are neither float32 nor float64.

    Example:
        >>> @elementwise
        ... def weighted_mean(a, b, weight):
        ...     return a + weight * (b - a)
        >>> weighted_mean(np.zeros(2), np.ones(2), 0.25)
        array([0.25, 0.25])
    """

    def __init__(self, formula: Callable[..., float]) -> None:
        super().__init__(formula)
        parameters = formula.__code__.co_argcount - 2
        template = (_loop, _loop_with_parameter)[parameters]
        signature = "const real[:], const real[:], real[:]" + ", float64" * parameters
        names = {"formula": self, "np": np}
        self._loop = kernel(signature)(at_the_place_of(formula, template, names))

    @overload  # inside a formula
    def __call__(self, a: float, b: float, *parameters: float) -> float: ...
    @overload
    def __call__(self, a: Array, b: Array, *parameters: float) -> Array: ...
    def __call__(self, a: Any, b: Any, *parameters: float) -> Any:
        if a.shape != b.shape:
            name = self.__wrapped__.__name__
            raise ValueError(f"{name}: a has shape {a.shape}, b {b.shape}; pass one shape")
        out = np.empty(a.shape, a.dtype)
        self._loop(a.ravel(), b.ravel(), out.ravel(), *parameters)
        return out


# ruff: noqa: F821 -- `formula` is bound when a loop is copied.
if TYPE_CHECKING:
    formula: Callable[..., float]


def _loop(a: Array, b: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = formula(np.float64(a[i]), np.float64(b[i]))


def _loop_with_parameter(a: Array, b: Array, out: Array, parameter: float) -> None:
    for i in range(out.size):
        out[i] = formula(np.float64(a[i]), np.float64(b[i]), parameter)


def at_the_place_of(
    original: Callable[..., Any], template: Callable[..., Any], names: dict[str, Any]
) -> FunctionType:
    """Copy `template` with global `names`, posing as `original`.

    Numba files its cache under a function's file, line and name, and drops an entry when that file
    changes. So each copy of a loop has to claim the place of its formula.
    """
    place = original.__code__
    code = template.__code__.replace(
        co_filename=place.co_filename, co_firstlineno=place.co_firstlineno, co_name=place.co_name
    )
    copy = FunctionType(code, names, original.__name__)
    copy.__module__, copy.__qualname__ = original.__module__, original.__qualname__
    return copy


def cache_folder() -> Path | None:
    """Return the folder for compiled kernels, or None if no folder can be written.

    It is below the one that `NUMBA_CACHE_DIR` names, if that is set; else beside the modules; or,
    if that folder is not writable, in the user's cache folder. It is created if necessary.
    """
    try:
        return Path(_cache_of(_loop).cache_path)
    except RuntimeError:
        return None


def _cache_of(function: Callable[..., Any]) -> Any:
    """Return Numba's cache of a function.

    Raises:
        RuntimeError: There is no source file, or no folder can be written.
    """
    import numba.core.caching

    caching: Any = numba.core.caching
    return caching.FunctionCache(function)


def _compile(
    function: Callable[[*Arguments], Result], signature: str, reassociate: bool
) -> Callable[[*Arguments], Result]:
    stamped = _stamped(function)
    compiled: Callable[[*Arguments], Result]
    try:
        compiled = _compile_for(stamped, signature, reassociate, cached=True)
    except Exception:
        # Numba unpickles cached files unchecked, so a damaged one can raise anything; and writing
        # one fails on a full disk. If there is another cause, it raises again.
        with contextlib.suppress(OSError, RuntimeError):
            _cache_of(stamped).flush()
        compiled = _compile_for(stamped, signature, reassociate, cached=False)
    return compiled


def _compile_for(
    function: Callable[..., Any], signature: str, reassociate: bool, cached: bool
) -> Any:
    import numba

    arguments: list[tuple[str, str, str]] = re.findall(r"(const )?(\w+)(\[[:, ]+\])?", signature)
    reals = ("float32", "float64") if re.search(r"\breal\b", signature) else ("float64",)
    licences = _OPTIONS["fastmath"] | ({"reassoc"} if reassociate else set())
    options = _OPTIONS | {"fastmath": licences}
    dispatcher = numba.njit(nogil=True, **options)(function)
    if cached:
        # Without a source file or a writable folder, each process compiles for itself.
        with contextlib.suppress(RuntimeError):
            dispatcher.enable_caching()
    for real in reals:
        dispatcher.compile(tuple(_type(*argument, real) for argument in arguments))
    dispatcher.disable_compile()
    return dispatcher


def _stamped(function: Callable[..., Any]) -> FunctionType:
    """Copy a kernel with a digest of all source files of its folder in its closure.

    Numba drops a cached kernel when the kernel's own file or its closure changes, but not when the
    file of a function that it inlines does.
    """
    code = function.__code__
    copy = FunctionType(
        code.replace(co_freevars=(*code.co_freevars, "sources")),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        (*(function.__closure__ or ()), CellType(_digest(Path(code.co_filename).parent))),
    )
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return copy


@functools.cache
def _digest(folder: Path) -> str:
    files = sorted(folder.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _type(const: str, name: str, dimensions: str, real: str) -> "Type":
    from numba import types

    scalar: Type = getattr(types, real if name == "real" else name)
    if not dimensions:
        return scalar
    # A plain array can be passed as a read-only or unaligned one, but not the other way round.
    array: Type = types.Array(
        scalar, dimensions.count(":"), "C", readonly=bool(const), aligned=not const
    )
    return array
