"""Layouts of arrays in memory, and Tensors that have them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from agrad.backend import Array
from agrad.core.tensor import Tensor, apply
from agrad.ops.operation import Gradients, Linear

__all__ = ["LAYOUTS", "lay_out", "layouts"]


def _strided(array: Array) -> Array:
    if array.ndim == 0:
        return array.copy()
    room = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    room[..., ::2] = array
    return room[..., ::2]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda array: array.copy(order="C"),
    "Fortran-ordered": lambda array: array.copy(order="F"),
    "reversed": lambda array: np.asarray(np.flip(np.flip(array).copy())),
    "strided": _strided,
}
"""Functions that return an array's elements in another layout in memory."""

layouts = st.sampled_from([*LAYOUTS])
"""Names of layouts."""


class _LayOut(Linear):
    def __init__(self, layout: str) -> None:
        self.layout = layout

    def forward(self, *inputs: Array) -> Array:
        return LAYOUTS[self.layout](*inputs)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        return (grad,)


def lay_out(tensor: Any, layout: str) -> Tensor:
    """Return the same elements in another layout, as results of indexing or transposing have it.

    Gradients flow back through it to `tensor`.

    Example:
        >>> import agrad as ag
        >>> from agrad.testing import strategies as ags
        >>> ags.lay_out(ag.tensor([[1.0, 2.0]]), "reversed").data.strides
        (-8, -4)
    """
    return apply(_LayOut(layout), tensor)
