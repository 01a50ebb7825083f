"""One step of an LSTM, without its products: the state after it, and its gradient.

Gates are computed from sums (N, 4 H), in the order i, f, g, o; g by tanh, the others by the
sigmoid. Each loop over a row has few arrays, so that LLVM vectorizes it.
"""

import numpy as np

from .activation import tanh_formulas
from .exponential import DOUBLE, SINGLE, exp, single_exp
from .jit import Array, called, kernel

__all__ = ["lstm_step", "lstm_step_backward"]

_single_tanh, _double_tanh = tanh_formulas(SINGLE).value, tanh_formulas(DOUBLE).value


def lstm_step(projected: Array, sums: Array, before: Array, hidden: Array, cell: Array) -> None:
    """Add `projected` to the sums, in place, and write the states after the step.

    Args:
        projected: (N, 4 H), float32 or float64, like all others.
        sums: (N, 4 H).
        before: (N, H), the cell state before the step.
        hidden: (N, H), written: o tanh c.
        cell: (N, H), written: c = f before + i g.

    Example:
        >>> sums, before, hidden, cell = np.zeros((1, 4)), np.ones((1, 1)), *np.empty((2, 1, 1))
        >>> lstm_step(np.array([[0.0, 0.0, 50.0, 50.0]]), sums, before, hidden, cell)
        >>> hidden.round(4), cell
        (array([[0.7616]]), array([[1.]]))
    """
    _lstm_step(np.ascontiguousarray(projected), sums, np.ascontiguousarray(before), hidden, cell)


def lstm_step_backward(
    sums: Array, before: Array, cell: Array, grad: Array, cell_grad: Array, sums_grad: Array
) -> None:
    """Write the gradient of the sums, and replace that of the cell state by the one before.

    Args:
        sums: (N, 4 H), float32 or float64, like all others.
        before: (N, H), the cell state before the step.
        cell: (N, H), that after it.
        grad: (N, H), the gradient of the hidden state.
        cell_grad: (N, H), that of the cell state, without the part through the hidden state.
        sums_grad: (N, 4 H), written.

    Example:
        >>> sums, (before, cell) = np.zeros((1, 4)), np.ones((2, 1, 1))
        >>> grad, cell_grad, sums_grad = np.zeros((1, 1)), np.ones((1, 1)), np.empty((1, 4))
        >>> lstm_step_backward(sums, before, cell, grad, cell_grad, sums_grad)
        >>> sums_grad, cell_grad
        (array([[0.  , 0.25, 0.5 , 0.  ]]), array([[0.5]]))
    """
    sums, before, cell, grad = map(np.ascontiguousarray, (sums, before, cell, grad))
    _lstm_step_backward(sums, before, cell, grad, cell_grad, sums_grad)


@called
def _gates(sums: Array, gates: Array) -> None:
    """Write the gates of a row."""
    n = sums.size // 4
    real = gates.dtype.type
    for j in range(4 * n):
        size = abs(sums[j])
        small = real(single_exp(-size) if sums.itemsize == 4 else exp(-size))
        gates[j] = (small if sums[j] < 0 else real(1)) / (real(1) + small)
    _tanh(sums[2 * n : 3 * n], gates[2 * n : 3 * n])


@called
def _tanh(x: Array, out: Array) -> None:
    real = out.dtype.type
    for j in range(out.size):
        out[j] = real(_single_tanh(x[j]) if x.itemsize == 4 else _double_tanh(x[j]))


@kernel("const real[:, :], real[:, :], const real[:, :], real[:, :], real[:, :]")
def _lstm_step(projected: Array, sums: Array, before: Array, hidden: Array, cell: Array) -> None:
    n = before.shape[1]
    gates, squashed = np.empty(4 * n, sums.dtype), np.empty(n, sums.dtype)
    for row in range(len(before)):
        for j in range(4 * n):
            sums[row, j] += projected[row, j]
        _gates(sums[row], gates)
        for j in range(n):
            cell[row, j] = gates[n + j] * before[row, j] + gates[j] * gates[2 * n + j]
        _tanh(cell[row], squashed)
        for j in range(n):
            hidden[row, j] = gates[3 * n + j] * squashed[j]


@kernel(
    "const real[:, :], const real[:, :], const real[:, :], const real[:, :], real[:, :], real[:, :]"
)
def _lstm_step_backward(
    sums: Array, before: Array, cell: Array, grad: Array, cell_grad: Array, sums_grad: Array
) -> None:
    n, real = before.shape[1], sums.dtype.type
    gates, squashed = np.empty(4 * n, sums.dtype), np.empty(n, sums.dtype)
    one = real(1)
    for row in range(len(before)):
        _gates(sums[row], gates)
        _tanh(cell[row], squashed)
        for j in range(n):
            o, t = gates[3 * n + j], squashed[j]
            cell_grad[row, j] += grad[row, j] * (o * (one - t * t))
            sums_grad[row, 3 * n + j] = grad[row, j] * (t * (o * (one - o)))
        for j in range(n):
            i, g = gates[j], gates[2 * n + j]
            sums_grad[row, j] = cell_grad[row, j] * (g * (i * (one - i)))
            sums_grad[row, 2 * n + j] = cell_grad[row, j] * (i * (one - g * g))
        for j in range(n):
            f = gates[n + j]
            sums_grad[row, n + j] = cell_grad[row, j] * (before[row, j] * (f * (one - f)))
            cell_grad[row, j] *= f
