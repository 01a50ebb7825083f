"""Products: the multilinear operations."""

import numpy as np

from agrad.ops.operation import Multilinear

__all__ = ["Affine"]


class Affine(Multilinear):
    """x Wᵀ + b for inputs (..., n), weight (m, n) and, optionally, bias (m,)."""

    def forward(self, x, weight, bias=None):
        out = x @ weight.T
        if bias is not None:
            out += bias
        return out

    def backward(self, grad, needs, out, x, weight, bias=None):
        rows = grad.reshape(-1, grad.shape[-1])
        x_grad = grad @ weight if needs[0] else None
        weight_grad = rows.T @ x.reshape(-1, x.shape[-1]) if needs[1] else None
        if bias is None:
            return x_grad, weight_grad
        return x_grad, weight_grad, rows.sum(axis=0) if needs[2] else None
