"""Kernels for CuPy arrays, under the names and with the signatures of `agrad.kernels.cpu`.

Only `random` is here alone: NumPy has generators of its own.
Products are cuBLAS's, by `cupy.matmul` or, where a CUDA graph is recorded, past CuPy; TF32 is used
only where CuPy is told to. The rest is CUDA C in the `.cu` and `.cuh` files beside these modules.
CuPy compiles a file when one of its kernels is first called, once for float32 and once for float64,
and keeps the result on disk. No kernel adds with atomics: every sum is taken in an order that
depends on the shapes alone.

Importing this package without CuPy raises ImportError; a device is needed by the first call.
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
    random,
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
    "random",
    "selection",
    "softmax",
]
