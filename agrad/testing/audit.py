"""Call the backward passes of a recorded graph, check how they behave, and measure what they sum.

Rounding errors are relative to the terms of a sum, not to the sum. Where the terms cancel, as in
the mean of normalized values, a correct result and a correct gradient consist of rounding errors
alone. An audit estimates the magnitudes of the terms: it pulls magnitudes, rather than a gradient,
back through each operation, with random signs so that they do not cancel.
"""

from collections.abc import Mapping
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, as_array
from agrad.core.program import Node, topological_order
from agrad.core.tensor import Tensor
from agrad.ops.operation import Point
from agrad.ops.sums import unbroadcast
from agrad.testing.layout import has_own_elements, laid_out
from agrad.testing.report import CheckError

__all__ = ["Terms", "audit"]

_DRAWS = 3


class Terms(NamedTuple):
    """The magnitudes of the terms that a function and its gradients sum.

    Attributes:
        value: The sum of the magnitudes of all intermediate values, each times the magnitude of its
            gradient.
        gradients: For each leaf, the magnitudes of the terms that each element of its gradient
            sums.
    """

    value: float
    gradients: dict[Tensor, Array]

    @property
    def largest(self) -> float:
        """The largest term of a gradient."""
        return max((float(array.max(initial=0)) for array in self.gradients.values()), default=0.0)


def audit(owner: str, out: Tensor, moves: Mapping[Tensor, Array] | None = None) -> Terms:
    """Audit each operation of a graph, and return the magnitudes of the terms summed.

    Args:
        owner: The name of the check, for error messages.
        out: The result. Its elements count as summed with weights of magnitude 1.
        moves: How far leaves move. An operation whose inputs move is audited in its averaged
            backward pass.

    Raises:
        CheckError: A backward pass changes what it is given, or returns gradients that do not fit
            the inputs. The message names the operation and what it does.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad.testing.audit import audit
        >>> x = ag.tensor(np.array([3.0, 5.0]), requires_grad=True)
        >>> terms = audit("check", (x - x).sum())
        >>> bool((terms.gradients[x] > 0.5).all())  # the gradient is 0
        True
    """
    if out.node is None:
        return Terms(float(np.abs(out.data).sum()), {out: np.ones(out.shape)})
    nodes = list(topological_order(out.node))
    after = _run(nodes, moves or {})
    rng = np.random.default_rng(0)
    sizes: dict[Any, Array] = {out.node: np.ones(out.shape)}
    leaves: dict[Tensor, Array] = {}
    total = 0.0
    for node in reversed(nodes):
        size = sizes.pop(node, None)
        if size is None:
            continue
        start, end = Point(node.out, node.inputs), after[node]
        total += _product(size, start.out, end.out)
        found = _magnitudes(owner, node, size, start, end, rng)
        for parent, x, x_end, magnitude in zip(node.parents, node.inputs, end.inputs, found):
            if parent is None or magnitude is None:
                continue
            known = sizes if isinstance(parent, Node) else leaves
            known[parent] = known[parent] + magnitude if parent in known else magnitude
            if known is leaves:
                total += _product(magnitude, x, x_end)
    return Terms(total, leaves)


def _run(nodes: list[Node], moves: Mapping[Tensor, Array]) -> dict[Any, Point]:
    """Return each node's inputs and output at the end; the recorded arrays where no input moves."""
    values: dict[Any, Array] = {
        leaf: as_array((leaf.data + move).astype(leaf.dtype, copy=False))
        for leaf, move in moves.items()
    }
    points: dict[Any, Point] = {}
    for node in nodes:
        inputs = tuple(values.get(p, x) for p, x in zip(node.parents, node.inputs))
        out = node.out
        if not all(map(is_, inputs, node.inputs)):
            out = values[node] = as_array(node.operation.forward(*inputs))
        points[node] = Point(out, inputs)
    return points


def _product(size: Array, start: Array, end: Array) -> float:
    with np.errstate(all="ignore"):
        terms = size * (np.abs(start) if start is end else np.abs(start) + np.abs(end))
        return float(_finite(terms).sum())


def _finite(magnitudes: Array) -> Array:
    """Replace overflowed magnitudes by 0, so that they do not allow infinite errors elsewhere."""
    return np.where(np.isfinite(magnitudes), magnitudes, 0)


def _magnitudes(
    owner: str, node: Node, size: Array, start: Point, end: Point, rng: np.random.Generator
) -> list[Array | None]:
    """Return the magnitudes of the terms that the gradient of each input of a node sums."""
    largest: list[Array | None] = [None] * len(node.inputs)
    for i in range(_DRAWS):
        grad = size * rng.uniform(0.5, 1, size.shape) * rng.choice([-1, 1], size.shape)
        grad = as_array(grad.astype(node.out.dtype, copy=False))
        if i == 0:
            _require_well_behaved(owner, node, grad, start, end)
        found = _pull(node, grad, start, end)
        for k, (x, gradient) in enumerate(zip(node.inputs, found)):
            if node.needs[k] and gradient is not None:
                magnitude = _finite(unbroadcast(np.abs(gradient), x))
                known = largest[k]
                largest[k] = magnitude if known is None else np.maximum(known, magnitude)
    return largest


def _pull(node: Node, grad: Array, start: Point, end: Point) -> Any:
    """Pull a gradient back through a node."""
    if _moves(start, end):
        return node.operation.average_backward(grad, node.needs, start, end)
    return node.operation.backward(grad, node.needs, start.out, *start.inputs)


def _moves(start: Point, end: Point) -> bool:
    return not all(map(is_, start.inputs, end.inputs))


def _require_well_behaved(owner: str, node: Node, grad: Array, start: Point, end: Point) -> None:
    """Pull a gradient back through a node, on copies of all arrays.

    Raises:
        CheckError: The operation changes an array, or its gradients do not fit the inputs.
    """
    operation = node.operation
    name = f"{type(operation).__name__}.{'average_' if _moves(start, end) else ''}backward"
    count = len(start.inputs)
    given = {"the gradient it is given": grad, "the output": start.out}
    given |= {f"input {i}": x for i, x in enumerate(start.inputs)}
    copies = [_copy(array) for array in given.values()]
    own_grad, own_start = copies[0], Point(copies[1], tuple(copies[2:]))
    own_end = own_start
    if _moves(start, end):
        given |= {"the output at the end": end.out}
        given |= {f"input {i} at the end": x for i, x in enumerate(end.inputs)}
        # An operation may compare by identity: an input that does not move is one array at both
        # ends.
        inputs = zip(start.inputs, end.inputs, own_start.inputs)
        own_end = Point(_copy(end.out), tuple(own if a is b else _copy(b) for a, b, own in inputs))
        copies += [own_end.out, *own_end.inputs]
    found = _pull(node, own_grad, own_start, own_end)
    for (what, array), own in zip(given.items(), copies):
        if not np.array_equal(own, array, equal_nan=array.dtype.kind == "f"):
            raise CheckError(f"{owner}: {name} changes {what} in place")
    if not isinstance(found, tuple | list) or len(found) != count:
        many = isinstance(found, tuple | list)
        what = f"{len(found)} gradients" if many else f"an {type(found).__name__}"
        raise CheckError(
            f"{owner}: {name} returns {what}; it must return a sequence of {count}, one for each "
            "input"
        )
    for i, (gradient, x) in enumerate(zip(found, start.inputs)):
        if gradient is not None and node.needs[i] and not _fits(gradient, x, operation):
            raise CheckError(
                f"{owner}: {name} returns a gradient of shape {np.shape(gradient)} for input {i} "
                f"of shape {x.shape}"
            )


def _copy(array: Array) -> Array:
    return laid_out(array, array) if has_own_elements(array) else array.copy()


def _fits(gradient: Any, x: Array, operation: Any) -> bool:
    """Return whether a gradient has the input's shape, or one to which the input broadcasts."""
    if np.shape(gradient) == x.shape:
        return True
    if operation.owns_gradients:
        return False
    try:
        unbroadcast(gradient, x)
    except ValueError:
        return False
    return True
