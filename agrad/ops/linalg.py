"""Products: the multilinear operations."""

import math
import string
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from agrad.backend import Array, as_array, kernels
from agrad.ops.adjoint import adjoints
from agrad.ops.arithmetic import Multiply
from agrad.ops.operation import Apply, Gradients, Multilinear, Operation, Point, midpoint
from agrad.ops.sums import sum_over

__all__ = ["Affine", "Einsum", "Matmul", "contraction", "dot"]

Shape = tuple[int, ...]
Axes = int | Sequence[int]


class Affine(Multilinear):
    """x Wᵀ + b for inputs (..., n), weight (m, n) and, optionally, bias (m,)."""

    owns_gradients = True

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        library = kernels(x)
        out: Array = library.product.matmul(_as_matrix(x), weight.T)
        if bias is not None and out.dtype == bias.dtype and out.dtype.char in "fd":
            library.dense.add_bias(out, bias)
        elif bias is not None:
            out = out + bias
        return out if x.ndim == 2 else out.reshape(*x.shape[:-1], len(weight))

    def backward(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        out: Array,
        x: Array,
        weight: Array,
        bias: Array | None = None,
    ) -> Gradients:
        rows, library = _as_matrix(grad), kernels(grad)
        matmul = library.product.matmul
        x_grad = matmul(rows, weight) if needs[0] else None
        if x_grad is not None and x.ndim != 2:
            x_grad = x_grad.reshape(x.shape)
        weight_grad = matmul(rows.T, _as_matrix(x)) if needs[1] else None
        if bias is None:
            return x_grad, weight_grad
        bias_grad = library.dense.sum_rows(rows) if needs[2] else None
        return x_grad, weight_grad, bias_grad

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        factors, bias = inputs[:2], inputs[2:]
        found = adjoints(apply, self, grad, needs, *factors)
        return [*found, *[grad.sum(tuple(range(grad.ndim - 1))) for _ in bias]]

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        # The midpoint as for any two factors, but only of what a gradient is wanted through.
        (x0, weight0, *bias), (x1, weight1, *_) = start.inputs, end.inputs
        x = midpoint(x0, x1) if needs[1] else x0
        weight = midpoint(weight0, weight1) if needs[0] else weight0
        return self.backward(grad, needs, start.out, x, weight, *bias)


class Matmul(Multilinear):
    """The product of matrices (..., m, k) and (..., k, n); a 1-d operand is a row or a column."""

    def forward(self, x: Array, y: Array) -> Array:
        try:
            product = kernels(x).product
            both_many = x.ndim > 2 and y.ndim > 2
            out: Array = (product.matmul_each if both_many else product.matmul)(x, y)
            return out
        except ValueError:
            raise ValueError(
                f"matmul: shapes {x.shape} and {y.shape} do not fit: the last axis of x must be as "
                "long as the last but one of y (the only one of a 1-d y), and the axes before them "
                "must broadcast"
            ) from None

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, y: Array
    ) -> Gradients:
        matmul = kernels(grad).product.matmul
        if y.ndim > 2:
            # A product for each leading index; the sweep sums where an operand was broadcast.
            if x.ndim == 1:
                x, grad = x[np.newaxis], grad[..., np.newaxis, :]
            each = kernels(grad).product.matmul_each
            x_grad = each(grad, y.mT) if needs[0] else None
            return x_grad, each(x.mT, grad) if needs[1] else None
        # One product, with the leading axes of x as rows.
        rows = _as_matrix(x)
        columns = y[:, np.newaxis] if y.ndim == 1 else y
        grad = grad.reshape(len(rows), columns.shape[1])
        x_grad = matmul(grad, columns.T).reshape(x.shape) if needs[0] else None
        y_grad = matmul(rows.T, grad).reshape(y.shape) if needs[1] else None
        return x_grad, y_grad

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        return adjoints(apply, self, grad, needs, *inputs)


class Einsum(Multilinear):
    """Sums of products by Einstein's convention, as np.einsum; the operands are the factors."""

    def __init__(self, subscripts: str) -> None:
        self.subscripts = subscripts.replace(" ", "")
        terms, arrow, self.result = self.subscripts.partition("->")
        self.terms = terms.split(",")
        self.degree = len(self.terms)
        if not arrow:
            letters = "".join(self.terms).replace(".", "")
            once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
            self.result = "".join(["..." if "..." in self.subscripts else "", *once])

    def forward(self, *operands: Array) -> Array:
        return _einsum(self.subscripts, *operands)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *operands: Array
    ) -> Gradients:
        terms, result = self._spelled_out(operands)
        return [
            _operand_gradient(grad, i, terms, result, operands) if need else None
            for i, need in enumerate(needs)
        ]

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        return adjoints(apply, self, grad, needs, *inputs)

    def _spelled_out(self, operands: Sequence[Array]) -> tuple[list[str], str]:
        """Return the terms and the result with letters in place of each ellipsis."""
        free = [letter for letter in string.ascii_letters if letter not in self.subscripts]
        counts = [
            x.ndim - len(term.replace("...", "")) if "..." in term else 0
            for x, term in zip(operands, self.terms)
        ]
        # The axes that an ellipsis stands for are aligned at their last, as in broadcasting.
        letters = "".join(free[: max(counts)])
        terms = [
            term.replace("...", letters[len(letters) - count :])
            for term, count in zip(self.terms, counts)
        ]
        return terms, self.result.replace("...", letters)


def contraction(x_shape: Shape, y_shape: Shape, x_axes: Axes, y_axes: Axes) -> Einsum:
    """Return the Einsum of two arrays that sums over pairs of axes."""
    x_axes = normalize_axis_tuple(x_axes, len(x_shape), "axes")
    y_axes = normalize_axis_tuple(y_axes, len(y_shape), "axes")
    if [x_shape[i] for i in x_axes] != [y_shape[j] for j in y_axes]:
        raise ValueError(
            f"tensordot: axes {x_axes} of shape {x_shape} and axes {y_axes} of shape {y_shape} "
            "must have the same lengths"
        )
    x_letters = string.ascii_letters[: len(x_shape)]
    y_letters = list(string.ascii_letters[len(x_shape) : len(x_shape) + len(y_shape)])
    for i, j in zip(x_axes, y_axes):
        y_letters[j] = x_letters[i]
    letters = [*x_letters, *y_letters]
    result = [letter for letter in letters if letters.count(letter) == 1]
    return Einsum(f"{x_letters},{''.join(y_letters)}->{''.join(result)}")


def dot(x_shape: Shape, y_shape: Shape) -> Operation:
    """Return the operation that np.dot stands for."""
    if not x_shape or not y_shape:
        return Multiply()
    return Matmul() if len(y_shape) <= 2 else contraction(x_shape, y_shape, -1, -2)


def _operand_gradient(
    grad: Array, i: int, terms: list[str], result: str, operands: Sequence[Array]
) -> Array:
    """Contract the gradient with all operands but the i-th."""
    x = operands[i]
    lengths = dict(zip(terms[i], x.shape))
    others = [*terms[:i], *terms[i + 1 :]]
    known = set(chain(result, *others))
    # A letter of x alone was summed over, one of length one was broadcast: neither is an axis here.
    kept = "".join(letter for letter in lengths if letter in known and lengths[letter] > 1)
    x_grad = _einsum(
        f"{','.join([result, *others])}->{kept}", grad, *operands[:i], *operands[i + 1 :]
    )
    x_grad = x_grad[tuple(slice(None) if letter in kept else np.newaxis for letter in lengths)]
    x_grad = np.broadcast_to(x_grad, tuple(lengths.values()))
    if len(lengths) == x.ndim:
        return x_grad
    # A letter twice in one term is a diagonal, of which NumPy's einsum gives a view.
    full = np.zeros(x.shape, x_grad.dtype, like=x_grad)
    np.einsum(f"{terms[i]}->{''.join(lengths)}", full)[...] = x_grad
    return full


def _einsum(subscripts: str, *operands: Array) -> Array:
    if len(operands) == 1:
        # A path finds the BLAS products, but costs more than a small sum of one operand.
        alone: Array = np.einsum(*_summed(subscripts, *operands))
        return alone
    # A path may multiply operands of a narrow dtype first, and their products must not wrap.
    dtype = np.result_type(*operands)
    operands = tuple(x.astype(dtype, copy=False) for x in operands)
    out: Array = np.einsum(subscripts, *operands, optimize=True)
    return out


def _summed(subscripts: str, x: Array) -> tuple[str, Array]:
    """Return subscripts and an operand after the sums over axes whose letter occurs but once."""
    term, arrow, result = subscripts.partition("->")
    before, _, after = term.partition("...")
    axes = {**dict(enumerate(before)), **dict(enumerate(after, x.ndim - len(after)))}
    once = [i for i, letter in axes.items() if arrow and (term + result).count(letter) == 1]
    if not once or len(term.replace("...", "")) > x.ndim:
        return subscripts, x
    kept = "".join(letter for letter in term if letter == "." or (term + result).count(letter) > 1)
    return f"{kept}->{result}", as_array(sum_over(x, tuple(once)))


def _as_matrix(x: Array) -> Array:
    """Return x with its leading axes as rows; -1 could not tell their number where x is empty."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
