"""PyTorch, if it is installed, and the mark of tests that compare with it."""

import pytest

__all__ = ["needs_torch", "torch"]

try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(
    torch is None, reason="compares with PyTorch, which is not installed"
)
