"""The sweeps over a recorded graph: ordinary gradients, and factorized average gradients.

Both run once from the root back to the leaves. The ordinary sweep pulls the gradient through each
operation's Jacobian at the recorded values; the average sweep through its Jacobian averaged between
two runs of the graph. The leaves are any hashable objects that the graph's nodes name as parents.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from agrad.backend import Array, as_array
from agrad.core.anomaly import checked, detecting, first_anomaly
from agrad.core.graph import Node, topological_order
from agrad.errors import NonFiniteError
from agrad.gpu.deferred import holds
from agrad.ops.operation import Gradients, Point

__all__ = ["average_sweep", "backward_sweep", "recorded_leaves", "require_kinds", "unbroadcast"]

LeafArrays = dict[Any, Array]
"""An array for each leaf."""
Path = Callable[[float], Mapping[Any, Array]]
"""The leaves' arrays at any share, from 0 to 1, of the way to their ends."""


def backward_sweep(root: Node, grad: Array, retain_graph: bool) -> LeafArrays:
    """Pull `grad` back from `root` to the leaves through each operation's Jacobian."""

    def pull(node: Node, grad: Array) -> Gradients:
        return node.operation.backward(grad, node.needs, node.out, *node.inputs)

    return _sweep(root, grad, topological_order(root), checked(pull, "backward"), retain_graph)


def average_sweep(
    nodes: list[Node], path: Path, segments: int, retain_graph: bool
) -> tuple[Array, LeafArrays]:
    """Pull 1 back through the Jacobians averaged along a path of the leaves.

    `nodes` are those of a graph in topological order; the last, the root, is a scalar. The path
    gives the arrays of the leaves that move at any share of it, from the recorded ones on, and is
    cut into `segments`. Returns the root's value at the end, and for each leaf the mean of its
    factorized average gradients over the segments.

    Raises:
        AverageUndefinedError: an operation has no kind.
        NonFiniteError: the value at an end is NaN or infinite. Nothing has been freed.
    """
    root = nodes[-1]
    require_kinds(nodes)
    start = {node: Point(node.out, node.inputs) for node in nodes}
    seed = np.ones_like(root.out)
    total: LeafArrays = {}
    for i in range(1, segments + 1):
        last = i == segments
        end = _replay(nodes, path(i / segments))
        value = end[root].out
        if not holds(np.isfinite(value).all()):
            raise NonFiniteError(
                f"average_backward: the value at the end of the updates is {value.item()}, so no "
                "average gradient exists; shorten the updates"
                + (f" ({first_anomaly(end)})" if detecting() else "")
            )
        following = {} if last else dict(end)
        pull = checked(partial(_average_pull, start, end), "average backward")
        part = _sweep(root, seed, nodes, pull, retain_graph or not last)
        for leaf, grad in part.items():
            total[leaf] = total[leaf] + grad if leaf in total else grad
        start = following
    if segments > 1:
        total = {leaf: grad / segments for leaf, grad in total.items()}
    return value, total


def recorded_leaves(nodes: Iterable[Node]) -> LeafArrays:
    """Return the value that each leaf had when the graph was recorded."""
    return {
        parent: array
        for node in nodes
        for parent, array in zip(node.parents, node.inputs)
        if parent is not None and type(parent) is not Node
    }


def require_kinds(nodes: Iterable[Node]) -> None:
    """Let an operation without a kind raise now, not amid a sweep that frees buffers.

    Raises:
        AverageUndefinedError: there is one.
    """
    for node in nodes:
        operation = node.operation.without_average
        if operation is not None:
            point = Point(node.out, node.inputs)
            operation.average_backward(point.out, node.needs, point, point)


def _average_pull(
    start: dict[Node, Point], end: dict[Node, Point], node: Node, grad: Array
) -> Gradients:
    # Taken out of both: what has been swept is freed.
    before, after = start.pop(node), end.pop(node)
    if before.inputs is after.inputs:
        return node.operation.backward(grad, node.needs, before.out, *before.inputs)
    return node.operation.average_backward(grad, node.needs, before, after)


def _replay(nodes: list[Node], leaves: Mapping[Hashable, Array]) -> dict[Node, Point]:
    """Run the recorded operations forward again from other values of the leaves.

    What does not depend on a moving leaf is neither computed nor stored twice: its arrays, and the
    tuple of a node's inputs, are the recorded ones.
    """
    points: dict[Node, Point] = {}
    for node in nodes:
        inputs = []
        moves = False
        for parent, recorded in zip(node.parents, node.inputs):
            array = recorded
            if type(parent) is Node:
                array = points[parent].out
            elif parent is not None:
                array = leaves.get(parent, recorded)
            inputs.append(array)
            moves |= array is not recorded
        if moves:
            points[node] = Point(as_array(node.operation.forward(*inputs)), tuple(inputs))
        else:
            points[node] = Point(node.out, node.inputs)
    return points


def _sweep(
    root: Node,
    grad: Array,
    nodes: list[Node],
    pull: Callable[[Node, Array], Gradients],
    retain_graph: bool,
) -> LeafArrays:
    """Sweep from `root` back and return the leaves' gradients, each an array of its own."""
    pending: dict[Node, Array] = {root: grad}
    leaves: LeafArrays = {}
    for node in reversed(nodes):
        if node in pending:
            grad = as_array(pending.pop(node))
            gradients = pull(node, grad)
            owned = node.operation.owns_gradients
            taken = set() if owned else {id(array) for array in (*node.inputs, node.out, grad)}
            for i, parent in enumerate(node.parents):
                if parent is None or gradients[i] is None:
                    continue
                gradient = gradients[i] if owned else unbroadcast(gradients[i], node.inputs[i])
                known: LeafArrays = pending if type(parent) is Node else leaves
                if parent in known:
                    known[parent] = known[parent] + gradient
                elif owned:
                    known[parent] = gradient
                elif known is leaves and (
                    id(gradient) in taken or _is_shared(gradient, i, gradients, node, grad)
                ):
                    known[parent] = gradient.copy()
                else:
                    known[parent] = gradient
                    taken.add(id(gradient))
        if not retain_graph:
            node.free()
    return {leaf: as_array(grad) for leaf, grad in leaves.items()}


def _is_shared(gradient: Array, i: int, gradients: Gradients, node: Node, grad: Array) -> bool:
    """Whether a leaf's gradient might share memory with another array that outlives this step."""
    if isinstance(gradient, np.ndarray) and gradient.base is None:
        return False  # others may be views of it, and are copied themselves
    others = [*node.inputs, node.out, grad, *gradients[:i], *gradients[i + 1 :]]
    return any(other is not None and np.may_share_memory(gradient, other) for other in others)


def unbroadcast(grad: Array, like: Array) -> Array:
    """Sum `grad` over the axes along which `like` was broadcast, and give it `like`'s dtype.

    Raises:
        ValueError: `like` does not broadcast to the shape of `grad`.
    """
    if grad.shape != like.shape:
        lead = grad.ndim - like.ndim
        if lead < 0 or any(n not in (1, m) for n, m in zip(like.shape, grad.shape[lead:])):
            raise ValueError(
                f"backward: a gradient of shape {grad.shape} does not fit an input of shape "
                f"{like.shape}"
            )
        stretched = tuple(
            lead + i for i, n in enumerate(like.shape) if n == 1 and grad.shape[lead + i] != 1
        )
        grad = grad.sum(axis=tuple(range(lead)) + stretched).reshape(like.shape)
    if grad.dtype != like.dtype:
        grad = grad.astype(like.dtype)
    return grad
