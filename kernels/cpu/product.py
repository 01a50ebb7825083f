"""Products of matrices: NumPy's own function, which calls the BLAS without overhead."""

from numpy import matmul

__all__ = ["matmul"]
