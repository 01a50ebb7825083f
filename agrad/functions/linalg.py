"""Products of matrices and tensors."""

__all__: list[str] = []
