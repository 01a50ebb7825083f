"""Stacks of dense layers with activations, computed for a few rows at a time in one launch.

A launch for each layer costs more than its arithmetic if layers are narrow or rows few. Here a
block takes eight rows through all layers, forward or back; the gradients of the weights of equal
layers are then one product, a matrix for each layer. None of this has run on a device yet.

A sum of products is taken in the order of its terms; the bias is added last, as `dense` does.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import cupy

from ..cpu.stack import ACTIVATIONS, Pass, Values
from .dense import midpoint
from .launch import THREADS, Kernel, over
from .product import matmul

__all__ = ["ACTIVATIONS", "Pass", "Stack", "Values"]

_ROWS = 8
"""Rows of a block; the same as in stack.cu."""

_WIDTH = 16
"""Columns of a block that sums rows; the same as in stack.cu."""

_LAYOUT = "const int64*, const int64*"
_forward = Kernel(
    "stack.cu",
    "stack_forward",
    f"const real*, const real*, {_LAYOUT}, real*, real*, int64, int64, bool",
)
_backward = Kernel(
    "stack.cu",
    "stack_backward",
    f"{', '.join(['const real*'] * 7)}, {_LAYOUT}, real*, real*, int64, int64, int64, bool",
)
_bias_gradients = Kernel(
    "stack.cu", "stack_bias_gradients", "const real*, const int64*, real*, int64, int64"
)


class Stack:
    """Dense layers, each of the results of the one before: aₗ = f(aₗ₋₁ wₗᵀ + bₗ).

    Arrays have one dtype, float32 or float64, and are C-contiguous: inputs (rows, widths[0]), and
    the weights (widths[l + 1], widths[l]) and biases (widths[l + 1],) of all layers one behind the
    other in one array. No width is 0, and there is at least one row.

    Args:
        widths: The number of inputs, and of the units of each layer.
        activations: The activation of each layer, one of ACTIVATIONS.

    Attributes:
        size: The number of all parameters.

    Example:
        >>> stack = Stack([1, 2, 1], ["relu", None])
        >>> parameters = cupy.array([1, -1, 0, 0, 1, 1, 1], "f4")
        >>> out, here = stack.forward(cupy.array([[-2], [3]], "f4"), parameters)
        >>> out
        array([[3.],
               [4.]], dtype=float32)
        >>> gradient = cupy.empty_like(parameters)
        >>> stack.backward(cupy.ones((2, 1), "f4"), here, here, 2, gradient)
        >>> gradient
        array([ 3., -2.,  1.,  1.,  3.,  2.,  2.], dtype=float32)
    """

    def __init__(self, widths: Sequence[int], activations: Sequence[str | None]) -> None:
        self._shapes = list(zip(widths[1:], widths))
        self._widths = cupy.array(widths, cupy.int64)
        self._kinds = cupy.array([ACTIVATIONS.index(name) for name in activations], cupy.int64)
        self._weights = [0, *accumulate(m * n + m for m, n in self._shapes)]
        self._inputs = [0, *accumulate(n for _, n in self._shapes)]
        self._units = [0, *accumulate(m for m, _ in self._shapes)]
        self.size = self._weights[-1]

    def forward(
        self,
        x: cupy.ndarray,
        parameters: cupy.ndarray,
        keep: bool = False,
        spare: Values | None = None,
    ) -> tuple[cupy.ndarray, Pass]:
        """Return the results (rows, widths[-1]) of the last layer, and the pass.

        Args:
            x: The inputs.
            parameters: The weights and biases.
            keep: Whether to keep the values before the activations.
            spare: Unused, because CuPy's pool reuses memory itself.
        """
        rows, width = x.shape
        after = cupy.empty(rows * (width + self._units[-1]), x.dtype)
        before = cupy.empty(rows * self._units[-1] if keep else 0, x.dtype)
        arrays = x, parameters, self._widths, self._kinds, after, before
        _forward(_over_tiles(rows), *arrays, len(self._shapes), rows, keep)
        out = after[rows * self._inputs[-1] :].reshape(rows, -1)
        return out, Pass(parameters, Values(after, before))

    def backward(
        self,
        grad: cupy.ndarray,
        start: Pass,
        end: Pass,
        moved: int,
        gradient: cupy.ndarray,
        x_grad: cupy.ndarray | None = None,
    ) -> None:
        """Pull the gradient (rows, widths[-1]) of the results back to the parameters.

        From layer `moved` on, the Jacobians are the means over the segment between the two passes,
        which must have kept the values before the activations; below they are those of `start`.

        Args:
            grad: The gradient of the last layer's results.
            start: A pass.
            end: A pass with as many rows.
            moved: The number of layers that are the same in both, and their inputs.
            gradient: The array to be overwritten by the gradient of the parameters.
            x_grad: The array to be overwritten by the gradient of the inputs, if needed.
        """
        rows, layers = len(grad), len(self._shapes)
        z_grads = cupy.empty(rows * self._units[-1], grad.dtype)
        passes = start.parameters, end.parameters, *start.values, *end.values
        into = z_grads, grad[:0] if x_grad is None else x_grad
        arrays = grad, *passes, self._widths, self._kinds, *into
        _backward(_over_tiles(rows), *arrays, layers, moved, rows, x_grad is not None)
        inputs = start.values.after
        if moved < layers:
            inputs, first = midpoint(inputs, end.values.after), rows * self._inputs[moved]
            if first:
                inputs[:first] = start.values.after[:first]
        for first, count in self._equal_layers():
            m, n = self._shapes[first]
            z_grad = _matrices(z_grads, rows * self._units[first], count, rows, m)
            values = _matrices(inputs, rows * self._inputs[first], count, rows, n)
            part = gradient[self._weights[first] : self._weights[first + count]]
            weights = part.reshape(count, -1)[:, : m * n].reshape(count, m, n)
            matmul(z_grad.swapaxes(1, 2), values, out=weights)
        grid = over(-(-max(m for m, _ in self._shapes) // _WIDTH) * THREADS, layers)
        _bias_gradients(grid, z_grads, self._widths, gradient, layers, rows)

    def _equal_layers(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the number of each run of layers of one shape."""
        first = 0
        for layer in range(1, len(self._shapes) + 1):
            if layer == len(self._shapes) or self._shapes[layer] != self._shapes[first]:
                yield first, layer - first
                first = layer


def _matrices(values: cupy.ndarray, first: int, count: int, rows: int, width: int) -> cupy.ndarray:
    return values[first : first + count * rows * width].reshape(count, rows, width)


def _over_tiles(rows: int) -> tuple[int, int]:
    return over(-(-rows // _ROWS) * THREADS)
