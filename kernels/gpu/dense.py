"""What a dense layer does beside its products, in one pass over memory each.

Its bias is added, or its bias's gradient summed, in the pass of the activation that follows. Sums
of rows are taken of 128 rows at a time, and then of those sums, in an order that depends on their
number alone. Float32 is computed in single precision.
"""

import cupy

from .launch import Kernel, over

__all__ = ["add_bias", "midpoint", "relu", "sum_rows", "tanh"]

_LANES = 16
"""How many threads share a column: as many as a block has columns."""

_ROWS = 128
"""How many rows a block sums, and `dense.cu` with it."""

_READ = "const real*"
_add_bias = Kernel("dense.cu", "add_bias", "real*, const real*, int64, int64")
_midpoint = Kernel("dense.cu", "midpoint", "const real*, const real*, real*, int64")
_sum_rows = Kernel("dense.cu", "sum_rows", "const real*, real*, int64, int64, int64")


def add_bias(z: cupy.ndarray, bias: cupy.ndarray) -> None:
    """Add `bias` (n,) to each row of `z` (m, n), in place.

    Example:
        >>> z = cupy.zeros((2, 2))
        >>> add_bias(z, cupy.array([1.0, 2.0]))
        >>> z
        array([[1., 2.],
               [1., 2.]])
    """
    _add_bias(_over_places(z), z, cupy.ascontiguousarray(bias), *z.shape)


def sum_rows(rows: cupy.ndarray) -> cupy.ndarray:
    """Return the sum (n,) of the rows of an array (m, n), float32 or float64.

    Example:
        >>> sum_rows(cupy.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    return _summed_rows(rows, None)


def midpoint(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """Return (a + b) / 2 for arrays of one shape and dtype, float32 or float64.

    Example:
        >>> midpoint(cupy.array([1.0, 2.0]), cupy.array([3.0, 2.0]))
        array([2., 2.])
    """
    middle = cupy.empty(a.shape, a.dtype)
    _midpoint(over(middle.size), *map(cupy.ascontiguousarray, (a, b)), middle, middle.size)
    return middle


class Activation:
    """The kernels of an activation f, alone and together with a dense layer's bias.

    All take arrays of one dtype, float32 or float64; what is not changed is copied if it is not
    C-contiguous.
    """

    def __init__(self, name: str) -> None:
        def kernel(does: str, parameters: str) -> Kernel:
            return Kernel("dense.cu", f"{name}_{does}", parameters)

        ends = ", ".join([_READ] * 5)
        sums = "real*, real*, int64, int64, int64"
        self._forward = kernel("forward", "const real*, real*, int64")
        self._backward = kernel("backward", "const real*, const real*, real*, int64")
        self._average_backward = kernel("average_backward", f"{ends}, real*, int64")
        self._forward_biased = kernel("forward_biased", "real*, const real*, real*, int64, int64")
        self._forward_in_place = kernel("forward_in_place", "real*, const real*, int64, int64")
        self._backward_biased = kernel("backward_biased", f"const real*, const real*, {sums}")
        self._average_backward_biased = kernel("average_backward_biased", f"{ends}, {sums}")

    def forward(self, x: cupy.ndarray) -> cupy.ndarray:
        """Return f(x).

        Example:
            >>> relu.forward(cupy.array([-1.0, 2.0]))
            array([0., 2.])
        """
        out = cupy.empty(x.shape, x.dtype)
        self._forward(over(out.size), cupy.ascontiguousarray(x), out, out.size)
        return out

    def backward(self, grad: cupy.ndarray, out: cupy.ndarray) -> cupy.ndarray:
        """Return grad · f'(x), given out = f(x).

        Example:
            >>> tanh.backward(cupy.array([8.0, 8.0]), cupy.array([0.0, 0.5]))
            array([8., 6.])
        """
        x_grad = cupy.empty(out.shape, out.dtype)
        arrays = map(cupy.ascontiguousarray, (grad, out))
        self._backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
        return x_grad

    def average_backward(
        self,
        grad: cupy.ndarray,
        a: cupy.ndarray,
        f_a: cupy.ndarray,
        b: cupy.ndarray,
        f_b: cupy.ndarray,
    ) -> cupy.ndarray:
        """Return grad times the divided difference (f(b) - f(a)) / (b - a), f'(a) where b is a.

        Example:
            >>> a, b = cupy.array([-1.0]), cupy.array([3.0])
            >>> relu.average_backward(cupy.array([8.0]), a, relu.forward(a), b, relu.forward(b))
            array([6.])
        """
        x_grad = cupy.empty(a.shape, a.dtype)
        arrays = map(cupy.ascontiguousarray, (grad, a, f_a, b, f_b))
        self._average_backward(over(x_grad.size), *arrays, x_grad, x_grad.size)
        return x_grad

    def forward_biased(
        self, z: cupy.ndarray, bias: cupy.ndarray, in_place: bool = False
    ) -> cupy.ndarray:
        """Add `bias` (n,) to the rows of `z` (m, n), in place, and return f of them.

        With `in_place`, that takes the place of `z` too.

        Example:
            >>> z = cupy.zeros((1, 2))
            >>> relu.forward_biased(z, cupy.array([-1.0, 2.0])), z
            (array([[0., 2.]]), array([[-1.,  2.]]))
        """
        bias = cupy.ascontiguousarray(bias)
        if in_place:
            self._forward_in_place(_over_places(z), z, bias, *z.shape)
            return z
        out = cupy.empty(z.shape, z.dtype)
        self._forward_biased(_over_places(z), z, bias, out, *z.shape)
        return out

    def backward_biased(
        self, grad: cupy.ndarray, out: cupy.ndarray, room: cupy.ndarray | None = None
    ) -> tuple[cupy.ndarray, cupy.ndarray]:
        """Return grad · f'(z) (m, n) and the sum of its rows (n,), given out = f(z).

        The sum is put into `room`, if there is one.

        Example:
            >>> relu.backward_biased(cupy.array([[8.0], [8.0]]), cupy.array([[1.0], [0.0]]))
            (array([[8.],
                   [0.]]), array([8.]))
        """
        return _summed(self._backward_biased, room, grad, out)

    def average_backward_biased(
        self,
        grad: cupy.ndarray,
        a: cupy.ndarray,
        f_a: cupy.ndarray,
        b: cupy.ndarray,
        f_b: cupy.ndarray,
        room: cupy.ndarray | None = None,
    ) -> tuple[cupy.ndarray, cupy.ndarray]:
        """Return what `average_backward` does (m, n), and the sum of its rows (n,).

        The sum is put into `room`, if there is one.

        Example:
            >>> a, b = cupy.array([[-1.0]]), cupy.array([[3.0]])
            >>> f_a, f_b = relu.forward(a), relu.forward(b)
            >>> relu.average_backward_biased(cupy.array([[8.0]]), a, f_a, b, f_b)
            (array([[6.]]), array([6.]))
        """
        return _summed(self._average_backward_biased, room, grad, a, f_a, b, f_b)


def _summed(
    kernel: Kernel, room: cupy.ndarray | None, *arrays: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """Return what a kernel makes of arrays (m, n), and the sum of its rows."""
    result = cupy.empty(arrays[-1].shape, arrays[-1].dtype)
    sums = _chunk_sums(result, room)
    given = map(cupy.ascontiguousarray, arrays)
    kernel(_over_chunks(sums), *given, result, sums, *result.shape, len(sums))
    return result, _total(sums, room)


def _summed_rows(rows: cupy.ndarray, room: cupy.ndarray | None) -> cupy.ndarray:
    sums = _chunk_sums(rows, room)
    _sum_rows(_over_chunks(sums), cupy.ascontiguousarray(rows), sums, *rows.shape, len(sums))
    return _total(sums, room)


def _chunk_sums(rows: cupy.ndarray, room: cupy.ndarray | None) -> cupy.ndarray:
    """Return where the sums of each `_ROWS` rows are to go; without rows, where zeros are."""
    chunks = max(1, -(-len(rows) // _ROWS))
    if chunks == 1 and room is not None:
        return room[None]
    return cupy.empty((chunks, rows.shape[1]), rows.dtype)


def _total(sums: cupy.ndarray, room: cupy.ndarray | None) -> cupy.ndarray:
    if len(sums) > 1:
        return _summed_rows(sums, room)
    return sums[0] if room is None else room


def _over_places(z: cupy.ndarray) -> tuple[int, int]:
    rows, columns = z.shape
    return over(columns * _LANES, -(-rows // _LANES))


def _over_chunks(sums: cupy.ndarray) -> tuple[int, int]:
    chunks, columns = sums.shape
    return over(columns * _LANES, chunks)


relu = Activation("relu")
tanh = Activation("tanh")
