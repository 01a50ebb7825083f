"""Kernels for NumPy arrays: NumPy where it is fast enough, Numba for hot loops.

Nothing is compiled on import: `agrad.kernels.cpu.jit` compiles a kernel when it is first called.
"""

from . import (
    activation,
    conv,
    dense,
    divided_difference,
    embedding,
    gelu,
    logistic,
    normalization,
    optimizer,
    piecewise,
    pooling,
    power,
    product,
    recurrent,
    selection,
    softmax,
    stack,
)

__all__ = [
    "activation",
    "conv",
    "dense",
    "divided_difference",
    "embedding",
    "gelu",
    "logistic",
    "normalization",
    "optimizer",
    "piecewise",
    "pooling",
    "power",
    "product",
    "recurrent",
    "selection",
    "softmax",
    "stack",
]
