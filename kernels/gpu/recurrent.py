"""One step of an LSTM, without its products: the state after it, and its gradient.

`agrad.kernels.cpu.recurrent` says what the arguments are.
"""

import cupy

from .activation import tanh
from .logistic import sigmoid

__all__ = ["lstm_step", "lstm_step_backward"]


def lstm_step(
    projected: cupy.ndarray,
    sums: cupy.ndarray,
    before: cupy.ndarray,
    hidden: cupy.ndarray,
    cell: cupy.ndarray,
) -> None:
    """Add `projected` to the sums, in place, and write the states after the step.

    Example:
        >>> sums, before = cupy.zeros((1, 4)), cupy.ones((1, 1))
        >>> hidden, cell = cupy.zeros((1, 1)), cupy.zeros((1, 1))
        >>> lstm_step(cupy.array([[0.0, 0.0, 50.0, 50.0]]), sums, before, hidden, cell)
        >>> hidden.round(4), cell
        (array([[0.7616]]), array([[1.]]))
    """
    sums += projected
    i, f, g, o = _gates(sums)
    cell[...] = f * before + i * g
    hidden[...] = o * tanh.forward(cell)


def lstm_step_backward(
    sums: cupy.ndarray,
    before: cupy.ndarray,
    cell: cupy.ndarray,
    grad: cupy.ndarray,
    cell_grad: cupy.ndarray,
    sums_grad: cupy.ndarray,
) -> None:
    """Write the gradient of the sums, and replace that of the cell state by the one before.

    Example:
        >>> sums, before, cell = cupy.zeros((1, 4)), cupy.ones((1, 1)), cupy.ones((1, 1))
        >>> grad, cell_grad = cupy.zeros((1, 1)), cupy.ones((1, 1))
        >>> sums_grad = cupy.zeros((1, 4))
        >>> lstm_step_backward(sums, before, cell, grad, cell_grad, sums_grad)
        >>> sums_grad, cell_grad
        (array([[0.  , 0.25, 0.5 , 0.  ]]), array([[0.5]]))
    """
    i, f, g, o = _gates(sums)
    squashed = tanh.forward(cell)
    cell_grad += grad * (o * (1 - squashed * squashed))
    n = before.shape[1]
    sums_grad[:, :n] = cell_grad * (g * (i * (1 - i)))
    sums_grad[:, n : 2 * n] = cell_grad * (before * (f * (1 - f)))
    sums_grad[:, 2 * n : 3 * n] = cell_grad * (i * (1 - g * g))
    sums_grad[:, 3 * n :] = grad * (squashed * (o * (1 - o)))
    cell_grad *= f


def _gates(sums: cupy.ndarray) -> tuple[cupy.ndarray, ...]:
    n = sums.shape[1] // 4
    gates = sigmoid(sums)
    g = tanh.forward(cupy.ascontiguousarray(sums[:, 2 * n : 3 * n]))
    return gates[:, :n], gates[:, n : 2 * n], g, gates[:, 3 * n :]
