"""Products of matrices: NumPy's own function, which calls the BLAS and costs nothing more."""

from numpy import matmul

__all__ = ["matmul"]
