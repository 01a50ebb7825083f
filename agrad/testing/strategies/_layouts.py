"""Memory layouts of arrays and Tensors."""

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
"""Functions that copy an array to another memory layout, by the name of the layout."""

layouts = st.sampled_from([*LAYOUTS])
"""Names in `LAYOUTS`."""


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
    """Return a Tensor with the same elements in another memory layout.

    Results of indexing or transposing have such layouts. Gradients flow back to `tensor`.

    Args:
        tensor: A Tensor or an array.
        layout: A name in `LAYOUTS`.

    Example:
        >>> import agrad as ag
        >>> from agrad.testing import strategies as ags
        >>> ags.lay_out(ag.tensor([[1.0, 2.0]]), "reversed").data.strides
        (-8, -4)
    """
    return apply(_LayOut(layout), tensor)
