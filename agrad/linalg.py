"""Linear algebra under NumPy's names, as `np.linalg` and `torch.linalg` have them.

NumPy's functions of these names record when called on a Tensor. Matrices are the last two axes; the
others index independent problems.
"""

from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array
from agrad.core.arguments import floating
from agrad.core.synonyms import takes_dim
from agrad.core.tensor import Tensor, apply, as_tensor, as_tensors
from agrad.functions import abs, amax, amin, sum
from agrad.functions.registry import implements
from agrad.ops import matrix
from agrad.ops.arithmetic import FractionalPower
from agrad.ops.choice import Choice
from agrad.ops.reduction import Axis, Norm

__all__ = [
    "Eigen",
    "SignAndLog",
    "Singular",
    "cholesky",
    "det",
    "eigh",
    "inv",
    "norm",
    "slogdet",
    "solve",
    "svd",
]


class SignAndLog(NamedTuple):
    """What `slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


class Eigen(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class Singular(NamedTuple):
    """What `svd` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


@implements(np.linalg.inv)
def inv(x: Any) -> Tensor:
    """Return the inverses of matrices (..., n, n).

    Raises:
        ValueError: A matrix is singular, or `x` does not consist of square matrices.
        TypeError: The elements are neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> ag.linalg.inv([[2.0, 0.0], [0.0, 4.0]])
        tensor([[0.5 , 0.  ],
                [0.  , 0.25]])
    """
    return apply(matrix.Inverse(), _square("inv", x))


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Tensor:
    """Return the solution x of a x = b.

    Args:
        a: Matrices (..., n, n).
        b: A vector (n,), or matrices (..., n, k) whose columns are k right-hand sides.

    Raises:
        ValueError: A matrix is singular, or the shapes do not match.
        TypeError: The elements are neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> ag.linalg.solve([[2.0, 0.0], [0.0, 4.0]], [1.0, 1.0])
        tensor([0.5 , 0.25])
    """
    a, b = as_tensors(a, b)
    a = _square("solve", a)
    is_vector = b.ndim == 1
    if b.ndim == 0 or b.shape[0 if is_vector else -2] != a.shape[-1]:
        raise ValueError(
            f"solve: b must be a vector or a matrix with {a.shape[-1]} rows, as a has shape "
            f"{a.shape}; it has shape {b.shape}"
        )
    x = apply(matrix.Solve(), a, b.reshape(-1, 1) if is_vector else b)
    return x.squeeze(-1) if is_vector else x


@implements(np.linalg.det)
def det(x: Any) -> Tensor:
    """Return the determinants of matrices (..., n, n).

    The average gradient is exact for n up to 16, and complete beyond. Singular matrices have no
    higher derivatives: with `create_graph`, `grad` raises a ValueError.

    Raises:
        ValueError: `x` does not consist of square matrices.
        TypeError: The elements are neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> x = ag.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
        >>> ag.linalg.det(x).backward()
        >>> x.grad.round(3)
        array([[ 4., -2.],
               [-2.,  1.]], dtype=float32)
    """
    return apply(matrix.Determinant(), _square("det", x))


@implements(np.linalg.slogdet)
def slogdet(x: Any) -> SignAndLog:
    """Return the signs and log |det x| of matrices (..., n, n), without overflow.

    The sign is a choice: an average backward pass raises a `ChoiceChangedError` where it changes.

    Raises:
        ValueError: `x` does not consist of square matrices.
        TypeError: The elements are neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> sign, logabsdet = ag.linalg.slogdet([[1.0, 0.0], [0.0, -4.0]])
        >>> float(sign), round(float(logabsdet), 3)
        (-1.0, 1.386)
    """
    tensor = _square("slogdet", x)
    return SignAndLog(apply(Choice(_sign_of_det), tensor), apply(matrix.LogDeterminant(), tensor))


def _sign_of_det(x: Array) -> Any:
    return np.linalg.slogdet(x)[0]


@implements(np.linalg.cholesky)
def cholesky(x: Any) -> Tensor:
    """Return the lower triangular L with L Lᵀ = x, for positive definite matrices (..., n, n).

    A matrix that is not symmetric counts as (x + xᵀ) / 2, so that the gradient is symmetric.

    Raises:
        ValueError: A matrix is not positive definite, or `x` does not consist of square matrices.
        TypeError: The elements are neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> ag.linalg.cholesky([[4.0, 2.0], [2.0, 5.0]])
        tensor([[2., 0.],
                [1., 2.]])
    """
    return apply(matrix.Cholesky(), _square("cholesky", x))


@implements(np.linalg.eigh)
def eigh(x: Any) -> Eigen:
    """Return the eigenvalues in ascending order, and the eigenvectors, of symmetric matrices.

    A matrix that is not symmetric counts as (x + xᵀ) / 2. The gradient of eigenvectors of equal
    eigenvalues is infinite or NaN. The average gradient is undefined: an average backward pass
    raises an `AverageUndefinedError`. Higher derivatives are not supported.

    Returns:
        Eigenvalues (..., n), and matrices (..., n, n) whose columns are the eigenvectors. The sign
        of each is arbitrary.

    Raises:
        ValueError: `x` does not consist of square matrices.
        TypeError: The elements are neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> ag.linalg.eigh([[2.0, 0.0], [0.0, 1.0]]).eigenvalues
        tensor([1., 2.])
    """
    out = apply(matrix.Eigh(), _square("eigh", x))
    return Eigen(out[..., 0, :], out[..., 1:, :])


@implements(np.linalg.svd)
def svd(x: Any, full_matrices: bool = True) -> Singular:
    """Return the singular value decomposition x = U diag(S) Vh of matrices (..., m, n).

    The gradient of singular vectors of equal values is infinite or NaN. The average gradient is
    undefined: an average backward pass raises an `AverageUndefinedError`. Higher derivatives are
    not supported.

    Args:
        x: Matrices.
        full_matrices: Must be False unless m = n: the vectors beyond the first k = min(m, n) are
            not determined, and have no gradient.

    Returns:
        U (..., m, k), the values S (..., k) in descending order, and Vh (..., k, n).

    Raises:
        ValueError: `x` does not consist of matrices, or full_matrices is not False as it must.
        TypeError: The elements are neither float32 nor float64.

    Example:
        >>> import agrad as ag
        >>> ag.linalg.svd([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]], full_matrices=False).S
        tensor([4., 3.])
    """
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ValueError(f"svd: x must have at least two axes, got shape {tensor.shape}")
    if full_matrices and tensor.shape[-1] != tensor.shape[-2]:
        raise ValueError(
            f"svd: pass full_matrices=False, as x of shape {tensor.shape} is not square"
        )
    out = apply(matrix.SingularValues(), floating("svd", "matrices", tensor))
    rows = tensor.shape[-2]
    return Singular(out[..., :rows, :], out[..., rows, :], out[..., rows + 1 :, :].mT)


@implements(np.linalg.norm)
@takes_dim
def norm(
    x: Any, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False
) -> Tensor:
    """Return norms of vectors or matrices; by default the root of the sum of all squares.

    Args:
        x: An array.
        ord: None, or "fro" for matrices: the root of the sum of squares. For vectors: a positive p
            for (Σ |x|ᵖ)^(1/p), or an infinity for the largest or smallest |x|. For matrices: 1 or
            infinity for the largest sum of |x| over rows or columns, -1 or minus infinity for the
            smallest. The gradient of roots and fractional powers at 0 is 0.
        axis: One axis for vectors, two for matrices, None for all axes; with an `ord`, `x` must
            then be a vector or a matrix.
        keepdims: Whether to keep the axes, with length one.

    Raises:
        ValueError: `ord` is not among these, or an axis is out of range.

    Example:
        >>> import agrad as ag
        >>> ag.linalg.norm([3.0, 4.0]), ag.linalg.norm([[3.0, -4.0]], ord=1, axis=1)
        (tensor(5.), tensor([7.]))
    """
    tensor = as_tensor(x)
    if tensor.dtype.kind != "f":
        tensor = tensor.astype(np.float64)
    axes = tuple(range(tensor.ndim)) if axis is None else axis
    axes = axes if isinstance(axes, tuple) else (axes,)
    if ord is None or (ord == "fro" and len(axes) == 2) or (ord == 2 and len(axes) == 1):
        return apply(Norm(axes, keepdims), tensor)
    size = abs(tensor)
    if len(axes) == 1 and not isinstance(ord, str):
        if np.isinf(ord):
            return (amax if ord > 0 else amin)(size, axes, keepdims=keepdims)
        if ord > 0:
            return _power(sum(_power(size, ord), axes, keepdims=keepdims), 1 / ord)
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        summed, chosen_from = axes if ord in (1, -1) else axes[::-1]
        sums = sum(size, summed, keepdims=True)
        found = (amax if ord > 0 else amin)(sums, chosen_from, keepdims=True)
        return found if keepdims else found.squeeze(axes)
    raise ValueError(
        f'norm: ord must be None, a positive number or an infinity for vectors, and None, "fro", '
        f"1, -1 or an infinity for matrices; got {ord!r} for axes {axes} of shape {tensor.shape}"
    )


def _power(x: Tensor, exponent: float) -> Tensor:
    """Return a power of numbers that are not negative; its gradient at 0 is finite."""
    if exponent == 1:
        return x
    return x**exponent if exponent > 1 else apply(FractionalPower(exponent), x)


def _square(name: str, x: Any) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2]:
        raise ValueError(
            f"{name}: the last two axes must form square matrices, got shape {tensor.shape}"
        )
    return floating(name, "matrices", tensor)
