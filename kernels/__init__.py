"""Numerical kernels: arrays in, arrays out; no Tensor and no graph.

`cpu` (NumPy and Numba) and `gpu` (CuPy) have the same names with the same signatures.
"""
