"""Numerical kernels: arrays in, arrays out; no Tensor and no graph.

`cpu` (NumPy and Numba) and `gpu` (CuPy) hold the same names with the same signatures.
"""
