"""Numerical kernels on plain arrays, installed as `agrad.kernels`: `cpu` and `gpu`, same names."""
