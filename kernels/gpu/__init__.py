"""Kernels for CuPy arrays, under the names and with the signatures of `agrad.kernels.cpu`.

Only `random` has no counterpart: NumPy has generators of its own.

cuBLAS computes the products, through `cupy.matmul` or, while a CUDA graph is recorded, directly.
TF32 is used only if CuPy is told to. `recurrent` calls other kernels. Everything else is CUDA C in
the `.cu` and `.cuh` files beside these modules. CuPy compiles a file when one of its kernels is
first called, once for float32 and once for float64, and caches the result on disk. No kernel adds
with atomics: the order of every sum depends on the shapes alone.

Importing this package without CuPy raises ImportError; the first call needs a device.
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
    "random",
    "recurrent",
    "selection",
    "softmax",
    "stack",
]
