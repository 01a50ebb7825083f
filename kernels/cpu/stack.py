"""Stacks of dense layers with activations, computed for a few rows at a time in the cache.

A call for each layer costs more than its arithmetic if layers are narrow or rows few. Here one
call computes all layers: forward, or back with all gradients, or back with averaged Jacobians.

Rows go through the layers in tiles of LANES. Inside, a tile is stored unit by unit: the LANES
values of a unit form one vector. So every product is a sum of vectors, each times one element of a
weight, which is read where it is: weights need no packing, and widths no padding (see
`microkernel.block_product`). For the gradient of a weight the tiles of its layer's inputs are
transposed back, a panel of LANES inputs at a time.

A sum of products is taken in the order of its terms; the bias is added last, as `dense` does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .activation import SINGLE_RELU, SINGLE_TANH
from .jit import Array, called, kernel
from .microkernel import block_product, lane_sums, midpoints, tallest, transpose
from .threads import in_parallel

__all__ = ["ACTIVATIONS", "Pass", "Stack", "Values"]

Integers = NDArray[np.int64]

LANES = 16
"""Rows of a tile: the float32 numbers of one of `microkernel`'s vectors."""

TILES = 8
"""Tiles that go through a layer together."""

_FASTER = 2
"""How many products take as long as one of those that `in_parallel` reckons with."""

ACTIVATIONS = (None, "relu", "tanh")
_NONE, _RELU, _TANH = range(3)

_relu, _relu_backward, _relu_average = SINGLE_RELU
_tanh, _tanh_backward, _tanh_average = SINGLE_TANH


class Values(NamedTuple):
    """The values that a pass computed, tile by tile, layer after layer.

    Attributes:
        after: Those after each activation, behind the inputs.
        before: Those before each activation; empty if they were not kept.
    """

    after: Array
    before: Array


class Pass(NamedTuple):
    """A forward pass: its weights and biases (w₁, b₁, w₂, …) in one array, and its values."""

    parameters: Array
    values: Values


class Stack:
    """Dense layers, each of the results of the one before: aₗ = f(aₗ₋₁ wₗᵀ + bₗ).

    All arrays are float32 and C-contiguous: inputs (rows, widths[0]), and the weights
    (widths[l + 1], widths[l]) and biases (widths[l + 1],) of all layers one behind the other in one
    array. No width is 0, and there is at least one row.

    Args:
        widths: The number of inputs, and of the units of each layer.
        activations: The activation of each layer, one of ACTIVATIONS.

    Attributes:
        size: The number of all parameters.

    Example:
        >>> stack = Stack([1, 2, 1], ["relu", None])
        >>> parameters = np.array([1, -1, 0, 0, 1, 1, 1], "f4")
        >>> out, here = stack.forward(np.array([[-2], [3]], "f4"), parameters)
        >>> out
        array([[3.],
               [4.]], dtype=float32)
        >>> gradient = np.empty_like(parameters)
        >>> stack.backward(np.ones((2, 1), "f4"), here, here, 2, gradient)
        >>> gradient
        array([ 3., -2.,  1.,  1.,  3.,  2.,  2.], dtype=float32)
    """

    def __init__(self, widths: Sequence[int], activations: Sequence[str | None]) -> None:
        self._widths = np.array(widths, np.int64)
        self._kinds = np.array([ACTIVATIONS.index(name) for name in activations], np.int64)
        self._units = int(self._widths[1:].sum())
        self._products = int((self._widths[1:] * self._widths[:-1]).sum())
        self.size = self._products + self._units

    def forward(
        self, x: Array, parameters: Array, keep: bool = False, spare: Values | None = None
    ) -> tuple[Array, Pass]:
        """Return the results (rows, widths[-1]) of the last layer, and the pass.

        Args:
            x: The inputs.
            parameters: The weights and biases.
            keep: Whether to keep the values before the activations.
            spare: Values of an earlier pass of as many rows, whose memory may be overwritten.
        """
        after, before = spare or (_EMPTY, _EMPTY)
        rows = -(-len(x) // LANES) * LANES
        # The last panel of a layer's inputs may reach beyond them; and vectors are to be aligned.
        slack = LANES * (LANES + 1)
        if not after.size:
            after = np.empty(rows * (self._units + int(self._widths[0])) + slack, np.float32)
        if keep and not before.size:
            before = np.empty(rows * self._units + slack, np.float32)
        out = np.empty((len(x), self._widths[-1]), np.float32)
        kept = before if keep else _EMPTY
        arrays = x, parameters, self._widths, self._kinds, after, kept, out

        def work(part: slice) -> None:
            _forward.compiled(*arrays, part.start, part.stop, tallest())

        in_parallel(work, rows // LANES, len(x) * self._products // _FASTER)
        return out, Pass(parameters, Values(after, kept))

    def backward(
        self,
        grad: Array,
        start: Pass,
        end: Pass,
        moved: int,
        gradient: Array,
        x_grad: Array | None = None,
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
        passes = start.parameters, end.parameters, *start.values, *end.values
        arrays = grad, *passes, _NO_ROWS if x_grad is None else x_grad

        def work(part: slice) -> Array:
            into = gradient if part.start == 0 else np.empty_like(gradient)
            shapes = self._widths, self._kinds, moved, part.start, part.stop, tallest()
            _backward.compiled(*arrays, into, *shapes)
            return into

        tiles = -(-len(grad) // LANES)
        products = 2 * len(grad) * self._products
        _, *others = in_parallel(work, tiles, products // _FASTER)
        for other in others:
            gradient += other


_EMPTY, _NO_ROWS = np.empty(0, np.float32), np.empty((0, 0), np.float32)


@kernel(
    "const float32[:, :], const float32[:], const int64[:], const int64[:], float32[:],"
    "float32[:], float32[:, :], int64, int64, int64"
)
def _forward(
    x: Array,
    parameters: Array,
    widths: Integers,
    kinds: Integers,
    after: Array,
    before: Array,
    out: Array,
    first: int,
    stop: int,
    tall: int,
) -> None:
    widest, tiles = widths.max(), (x.shape[0] + LANES - 1) // LANES
    after, keeps, before = _aligned(after), before.size > 0, _aligned(before)
    biases = _aligned(np.empty((widest + 1) * LANES, np.float32))
    scratch = _aligned(np.empty((widest + 1) * LANES, np.float32))
    for begin in range(first, stop, TILES):
        end = min(begin + TILES, stop)
        n = widths[0]
        for t in range(begin, end):
            _enter(x, t, True, after[t * n * LANES : (t + 1) * n * LANES])
        place, above, weight = 0, 0, 0
        for layer in range(kinds.size):
            n, m = widths[layer], widths[layer + 1]
            following = place + tiles * n * LANES
            bias = weight + m * n
            for i in range(m):
                biases[i * LANES : (i + 1) * LANES] = parameters[bias + i]
            for t in range(begin, end):
                z = scratch[: m * LANES]
                if keeps:
                    z = before[above + t * m * LANES : above + (t + 1) * m * LANES]
                source = _address(after[place + t * n * LANES :])
                _product(
                    *(biases, _address(parameters[weight:]), n, 1, 0, source, n, 1),
                    *(_address(biases), LANES, _address(z), LANES, m, tall),
                )
                result = after[following + t * m * LANES : following + (t + 1) * m * LANES]
                _activate(z, kinds[layer], result)
            place, above, weight = following, above + tiles * m * LANES, bias + m
        m = widths[kinds.size]
        for t in range(begin, end):
            _leave(after[place + t * m * LANES : place + (t + 1) * m * LANES], t, out)


@kernel(
    "const float32[:, :], const float32[:], const float32[:], const float32[:], const float32[:],"
    "const float32[:], const float32[:], float32[:, :], float32[:], const int64[:],"
    "const int64[:], int64, int64, int64, int64"
)
def _backward(
    grad: Array,
    parameters: Array,
    end_parameters: Array,
    after: Array,
    before: Array,
    end_after: Array,
    end_before: Array,
    x_grad: Array,
    gradient: Array,
    widths: Integers,
    kinds: Integers,
    moved: int,
    first: int,
    stop: int,
    tall: int,
) -> None:
    after, before = _aligned(after), _aligned(before)
    end_after, end_before = _aligned(end_after), _aligned(end_before)
    layers, tiles = kinds.size, (grad.shape[0] + LANES - 1) // LANES
    widest, largest = widths.max(), 0
    for layer in range(moved, layers):
        largest = max(largest, widths[layer] * widths[layer + 1])
    middle, square = np.empty(largest, np.float32), np.empty(LANES * LANES, np.float32)
    grads = _aligned(np.empty((TILES * widest + 1) * LANES, np.float32))
    z_grads = _aligned(np.empty((TILES * widest + 1) * LANES, np.float32))
    lanes = _aligned(np.empty((widest + 1) * LANES, np.float32))
    edge = _aligned(np.empty((widest + 1) * LANES, np.float32))
    panel = _aligned(np.empty((TILES * LANES + 1) * LANES, np.float32))
    zeros, sums = np.zeros(LANES, np.float32), np.empty(widest, np.float32)
    bias_sums = np.zeros(widths[1:].sum())
    for begin in range(first, stop, TILES):
        end = min(begin + TILES, stop)
        m = widths[layers]
        for t in range(begin, end):
            _enter(grad, t, False, grads[(t - begin) * m * LANES : (t - begin + 1) * m * LANES])
        place, above = widths[:layers].sum() * tiles * LANES, bias_sums.size * tiles * LANES
        bias, weight = bias_sums.size, gradient.size
        for layer in range(layers - 1, -1, -1):
            n, m = widths[layer], widths[layer + 1]
            below = place - tiles * n * LANES
            above, weight = above - tiles * m * LANES, weight - m - n * m
            lanes[: m * LANES] = 0
            for t in range(begin, end):
                part = slice((t - begin) * m * LANES, (t - begin + 1) * m * LANES)
                here = slice(place + t * m * LANES, place + (t + 1) * m * LANES)
                to_z = z_grads[part], lanes
                if layer < moved:
                    _slope(grads[part], after[here], kinds[layer], *to_z)
                else:
                    there = slice(above + t * m * LANES, above + (t + 1) * m * LANES)
                    ends = end_before[there], end_after[here]
                    _mean_slope(grads[part], before[there], after[here], *ends, kinds[layer], *to_z)
            lane_sums(lanes, m, sums)
            bias -= m
            for i in range(m):
                bias_sums[bias + i] += sums[i]
            for k in range(0, n, LANES):
                for t in range(begin, end):
                    block = below + (t * n + k) * LANES
                    source = _address(after[block:])
                    if layer >= moved:
                        midpoints(source, _address(end_after[block:]), square.size, square)
                        source = _address(square)
                    target = _address(panel[(t - begin) * LANES * LANES :])
                    transpose(panel, source, LANES, target, LANES)
                # Rounding grows with the terms of a sum: sums over some tiles are added up.
                own = gradient[weight + k : weight + n * m]
                product = z_grads, _address(z_grads), LANES, 1, m * LANES, _address(panel)
                counts = LANES, end - begin
                if k + LANES <= n:
                    into = _address(own)
                    known, row = (_address(zeros), 0) if begin == first else (into, n)
                    _product(*product, *counts, known, row, into, n, m, tall)
                else:
                    known, row = _address(zeros), 0
                    if begin > first:
                        known, row = _address(edge), LANES
                        for i in range(m):
                            for j in range(n - k):
                                edge[i * LANES + j] = own[i * n + j]
                    _product(*product, *counts, known, row, _address(edge), LANES, m, tall)
                    for i in range(m):
                        for j in range(n - k):
                            own[i * n + j] = edge[i * LANES + j]
            if layer > 0 or x_grad.size > 0:
                factors = _address(parameters[weight:])
                if layer >= moved:
                    midpoints(factors, _address(end_parameters[weight:]), n * m, middle)
                    factors = _address(middle)
                for t in range(begin, end):
                    source = _address(z_grads[(t - begin) * m * LANES :])
                    target = _address(grads[(t - begin) * n * LANES :])
                    _product(
                        *(grads, factors, 1, n, 0, source, m, 1),
                        *(_address(zeros), 0, target, LANES, n, tall),
                    )
            place = below
        if x_grad.size > 0:
            n = widths[0]
            for t in range(begin, end):
                _leave(grads[(t - begin) * n * LANES : (t - begin + 1) * n * LANES], t, x_grad)
    bias, weight = 0, 0
    for layer in range(layers):
        m = widths[layer + 1]
        weight += widths[layer] * m
        for i in range(m):
            gradient[weight + i] = bias_sums[bias + i]
        bias, weight = bias + m, weight + m


@called
def _address(array: Array) -> Any:
    return np.int64(array.ctypes.data)


@called
def _aligned(array: Array) -> Array:
    """Return the array from the first element on whose address is a multiple of a vector's size."""
    return array[(-np.int64(array.ctypes.data) // 4) % LANES :]


@called
def _product(
    like: Array,
    factors: int,
    row: int,
    factor: int,
    factor_part: int,
    vectors: int,
    count: int,
    parts: int,
    addend: int,
    addend_row: int,
    out: int,
    out_row: int,
    rows: int,
    tall: int,
) -> None:
    """Call `block_product` for any number of rows."""
    for i in range(0, rows, tall):
        block_product(
            *(like, factors + 4 * i * row, row, factor, factor_part, vectors),
            *(count, parts, min(tall, rows - i), addend + 4 * i * addend_row, addend_row),
            *(out + 4 * i * out_row, out_row),
        )


@called
def _enter(x: Array, t: int, repeat: bool, tile: Array) -> None:
    """Write tile t of the rows of x, filled up with the last row or with zeros.

    With the last row nothing overflows that does not overflow anyway.
    """
    n, first = x.shape[1], t * LANES
    rows = min(LANES, x.shape[0] - first)
    whole = n // LANES * LANES if rows == LANES else 0
    for k in range(0, whole, LANES):
        transpose(tile, _address(x[first:, k:]), n, _address(tile[k * LANES :]), LANES)
    for r in range(LANES):
        row = x[first + min(r, rows - 1)]
        for k in range(whole, n):
            tile[k * LANES + r] = row[k] if repeat or r < rows else np.float32(0)


@called
def _leave(tile: Array, t: int, out: Array) -> None:
    """Write a tile to its rows of `out`."""
    m, first = out.shape[1], t * LANES
    rows = min(LANES, out.shape[0] - first)
    whole = m // LANES * LANES if rows == LANES else 0
    for k in range(0, whole, LANES):
        transpose(tile, _address(tile[k * LANES :]), LANES, _address(out[first:, k:]), m)
    for r in range(rows):
        row = out[first + r]
        for k in range(whole, m):
            row[k] = tile[k * LANES + r]


@called
def _activate(z: Array, kind: int, out: Array) -> None:
    if kind == _TANH:
        for i in range(out.size):
            out[i] = _tanh(z[i])
    elif kind == _RELU:
        for i in range(out.size):
            out[i] = _relu(z[i])
    else:
        for i in range(out.size):
            out[i] = z[i]


@called
def _slope(grad: Array, out: Array, kind: int, z_grad: Array, sums: Array) -> None:
    """Multiply a gradient by the derivative, and add the result to the sums.

    In place, LLVM would not vectorize ReLU, whose store it makes a conditional one.
    """
    if kind == _TANH:
        for i in range(z_grad.size):
            z_grad[i] = _tanh_backward(grad[i], out[i])
    elif kind == _RELU:
        for i in range(z_grad.size):
            z_grad[i] = _relu_backward(grad[i], out[i])
    else:
        for i in range(z_grad.size):
            z_grad[i] = grad[i]
    _add(sums, z_grad)


@called
def _mean_slope(
    grad: Array, a: Array, f_a: Array, b: Array, f_b: Array, kind: int, z_grad: Array, sums: Array
) -> None:
    """Multiply a gradient by the divided difference, and add the result to the sums."""
    if kind == _TANH:
        for i in range(z_grad.size):
            z_grad[i] = _tanh_average(grad[i], a[i], f_a[i], b[i], f_b[i])
    elif kind == _RELU:
        for i in range(z_grad.size):
            z_grad[i] = _relu_average(grad[i], a[i], f_a[i], b[i], f_b[i])
    else:
        for i in range(z_grad.size):
            z_grad[i] = grad[i]
    _add(sums, z_grad)


@called
def _add(sums: Array, vector: Array) -> None:
    for i in range(vector.size):
        sums[i] += vector[i]
