"""Kernels for NumPy arrays: NumPy where it is fast enough, Numba where a loop is hot.

Nothing is compiled on import: `agrad.kernels.cpu.jit` compiles a kernel at its first call.
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
    selection,
    softmax,
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
    "selection",
    "softmax",
]
