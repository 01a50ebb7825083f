"""Functions of matrices: inverse, solutions, determinants, Cholesky factors, decompositions.

Most have an averaged Jacobian in closed form, from an identity that holds for any two matrices. It
is complete and symmetric in start and end. The decompositions have none.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.errors import AverageUndefinedError
from agrad.ops.operation import Apply, Gradients, Operation, Point, Smooth, midpoint
from agrad.ops.reduction import products_of_others

__all__ = [
    "Cholesky",
    "Determinant",
    "Eigh",
    "Inverse",
    "LogDeterminant",
    "SingularValues",
    "Solve",
]


class Inverse(Operation):
    """B = A⁻¹: B¹ - B⁰ = -B⁰ (A¹ - A⁰) B¹, and the same with the ends exchanged; their mean."""

    def forward(self, x: Array) -> Array:
        out: Array = _solved("inv", x, np.linalg.inv, x)
        return out

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        return (-_product(out.mT, grad, out.mT),)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (-(out.mT @ grad @ out.mT),)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        first, last = start.out.mT, end.out.mT
        return ((_product(first, grad, last) + _product(last, grad, first)) / -2,)


class Solve(Operation):
    """x with A x = b: A¹ (x¹ - x⁰) = b¹ - b⁰ - (A¹ - A⁰) x⁰, and the same with the ends exchanged.

    b is a matrix (..., n, k).
    """

    def forward(self, a: Array, b: Array) -> Array:
        out: Array = _solved("solve", a, np.linalg.solve, a, b)
        return out

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, a: Array, b: Array
    ) -> Gradients:
        b_grad = np.linalg.solve(a.mT, grad)
        return -_product(b_grad, out.mT), b_grad

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, a: Any, b: Any
    ) -> Sequence[Any]:
        b_grad = apply(self, a.mT, grad)
        return -(b_grad @ out.mT), b_grad

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        by_start, by_end = (np.linalg.solve(point.inputs[0].mT, grad) for point in (start, end))
        a_grad = (_product(by_end, start.out.mT) + _product(by_start, end.out.mT)) / -2
        return a_grad, (by_start + by_end) / 2


class Determinant(Smooth):
    """det A, averaged exactly for n ≤ 16 and corrected to completeness beyond; see `Prod`.

    The gradient is the matrix of cofactors, also of singular matrices: with the singular value
    decomposition U S V it is det U det V U S' V, S' holding the products of the other values.
    Recorded, it is det A times the transposed inverse, which only regular matrices have.
    """

    nodes = 8
    axis = (-2, -1)

    def forward(self, x: Array) -> Array:
        out: Array = np.linalg.det(x)
        return out

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        left, values, right = np.linalg.svd(x)
        sign = np.linalg.det(left) * np.linalg.det(right)
        cofactors = _product(left * products_of_others(values)[..., np.newaxis, :], right)
        return ((grad * sign)[..., np.newaxis, np.newaxis] * cofactors,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return ((grad * out)[..., np.newaxis, np.newaxis] * apply(Inverse(), x).mT,)


class LogDeterminant(Smooth):
    """log |det A|."""

    nodes = 8
    axis = (-2, -1)

    def forward(self, x: Array) -> Array:
        out: Array = np.linalg.slogdet(x)[1]
        return out

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        inverse = _solved("slogdet", x, np.linalg.inv, x)
        return (grad[..., np.newaxis, np.newaxis] * inverse.mT,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        return (grad[..., np.newaxis, np.newaxis] * apply(Inverse(), x).mT,)


class Cholesky(Operation):
    """The lower triangular L with L Lᵀ = A, A being made symmetric first.

    With M the mean of L⁰ and L¹, A¹ - A⁰ = M (L¹ - L⁰)ᵀ + (L¹ - L⁰) Mᵀ. So L¹ - L⁰ depends on
    A¹ - A⁰ as the differential of L depends on that of A, at the matrix whose factor is M.
    """

    def forward(self, x: Array) -> Array:
        try:
            out: Array = np.linalg.cholesky((x + x.mT) / 2)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"cholesky: x of shape {x.shape} is not positive definite, or one of its matrices"
            ) from None
        return out

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        inner = _product(out.mT, grad)
        halved = (np.tril(inner) + np.tril(inner, -1)) / 2
        inverse = np.linalg.inv(out)
        x_grad = _product(inverse.mT, halved, inverse)
        return ((x_grad + x_grad.mT) / 2,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any
    ) -> Sequence[Any]:
        inner = out.mT @ grad
        halved = (np.tril(inner) + np.tril(inner, -1)) / 2
        inverse = apply(Inverse(), out)
        x_grad = inverse.mT @ halved @ inverse
        return ((x_grad + x_grad.mT) / 2,)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        return self.backward(grad, needs, midpoint(start.out, end.out), *start.inputs)


class Decomposition(Operation):
    """The base of decompositions into vectors, which have gradients but no average.

    Vectors have any sign, and where two values meet along an update they change places. So there is
    no function of the segment to average.
    """

    name: str

    def require_average(self) -> None:
        raise AverageUndefinedError(
            f"{self.name}: its averaged Jacobian is undefined, because vectors have any sign and "
            "change places where two values meet; use a rule that takes ordinary gradients, or "
            "detach() the matrix"
        )


class Eigh(Decomposition):
    """Eigenvalues, and below them in their columns the eigenvectors, of x made symmetric."""

    name = "eigh"

    def forward(self, x: Array) -> Array:
        values, vectors = np.linalg.eigh((x + x.mT) / 2)
        return np.concatenate([values[..., np.newaxis, :], vectors], axis=-2)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        values, vectors = out[..., 0, :], out[..., 1:, :]
        inner = _over_gaps(_product(vectors.mT, grad[..., 1:, :]), values)
        inner += _diagonal(grad[..., 0, :])
        x_grad = _product(vectors, inner, vectors.mT)
        return ((x_grad + x_grad.mT) / 2,)


class SingularValues(Decomposition):
    """x = U S Vᵀ: the rows of U (..., m, k), a row of singular values, and the rows of V."""

    name = "svd"

    def forward(self, x: Array) -> Array:
        left, values, right = np.linalg.svd(x, full_matrices=False)
        return np.concatenate([left, values[..., np.newaxis, :], right.mT], axis=-2)

    def backward(self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array) -> Gradients:
        rows = x.shape[-2]
        left, values, right = out[..., :rows, :], out[..., rows, :], out[..., rows + 1 :, :]
        left_grad, right_grad = grad[..., :rows, :], grad[..., rows + 1 :, :]
        by_left, by_right = _product(left.mT, left_grad), _product(right.mT, right_grad)
        squares = np.square(values)
        inner = _over_gaps(by_left - by_left.mT, squares) * values[..., np.newaxis, :]
        inner += _over_gaps(by_right - by_right.mT, squares) * values[..., np.newaxis]
        inner += _diagonal(grad[..., rows, :])
        x_grad = _product(left, inner, right.mT)
        # What leaves the spaces that the vectors of a matrix that is not square span.
        with np.errstate(divide="ignore"):
            inverse = 1 / values[..., np.newaxis, :]
        if x.shape[-2] > x.shape[-1]:
            outside = (left_grad - _product(left, by_left)) * inverse
            x_grad = x_grad + _product(outside, right.mT)
        elif x.shape[-2] < x.shape[-1]:
            outside = (right_grad - _product(right, by_right)) * inverse
            x_grad = x_grad + _product(left, outside.mT)
        return (x_grad,)


def _over_gaps(matrix: Array, values: Array) -> Array:
    """Return m_ij / (v_j - v_i), where m_ij is 0 too; equal values give an infinity or NaN."""
    gaps = values[..., np.newaxis, :] - values[..., np.newaxis]
    with np.errstate(divide="ignore"):
        off = np.triu(matrix, 1) + np.tril(matrix, -1)
        return np.where(off == 0, 0, off / np.where(off == 0, 1, gaps))


def _diagonal(values: Array) -> Array:
    """Return matrices with the values on their diagonal."""
    columns = np.broadcast_to(values[..., np.newaxis], (*values.shape, values.shape[-1]))
    return np.triu(np.tril(columns))


def _product(x: Array, y: Array, *others: Array) -> Array:
    """Return the product of matrices."""
    matmul = kernels(x).product.matmul
    product: Array = matmul(x, y)
    return _product(product, *others) if others else product


def _solved(name: str, matrix: Array, function: Callable[..., Any], *arguments: Array) -> Any:
    """Call a function that needs a matrix to be regular, and explain if it is not."""
    try:
        return function(*arguments)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"{name}: the matrix of shape {matrix.shape} is singular, or one of several is"
        ) from None
