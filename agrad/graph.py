"""The recorded graph: its nodes, the reverse sweep, and the average sweep.

A graph is recorded define-by-run: each operation on a Tensor that wants a gradient adds a `Node` that
points at the nodes its inputs came from. Nodes refer upwards only, so a graph dies with its loss, and
hold arrays rather than Tensors, so giving a Tensor other values later does not change what was recorded.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np

from agrad.backend import Array, as_array
from agrad.errors import FreedGraphError
from agrad.ops.operation import Gradients, Operation, Point

__all__ = ["Node", "Pin", "average_sweep", "backward_sweep", "topological_order", "unbroadcast"]


class Pin:
    """Keeps an array read-only for as long as a graph needs its values.

    A change in place between forward and backward would make gradients silently wrong; with the
    array pinned, NumPy raises at the line that attempts it.
    """

    __slots__ = ("__weakref__", "array")

    def __init__(self, array: Array) -> None:
        self.array = array
        array.flags.writeable = False

    def __del__(self) -> None:
        self.array.flags.writeable = True


class Node:
    """One recorded operation: its inputs' arrays, its output's, and where the inputs came from.

    `parents` has for each input the node that produced it, the leaf it is (any hashable that is no
    Node), or None where no gradient is wanted.
    """

    __slots__ = ("depth", "inputs", "needs", "operation", "out", "parents", "pins")

    def __init__(
        self,
        operation: Operation,
        inputs: tuple[Array, ...],
        out: Array,
        parents: tuple[Any, ...],
        pins: list[Pin],
    ) -> None:
        self.operation = operation
        self.inputs = inputs
        self.out = out
        self.parents = parents
        self.pins = pins
        self.needs = tuple(parent is not None for parent in parents)
        depth = 0
        for parent in parents:
            if type(parent) is Node and parent.depth >= depth:
                depth = parent.depth + 1
        self.depth = depth

    @property
    def freed(self) -> bool:
        """Whether an earlier sweep has freed the buffers."""
        return self.out is None

    def free(self) -> None:
        """Drop every array and every reference to other nodes."""
        self.inputs = self.parents = ()
        self.pins = []
        self.out = None  # type: ignore[assignment]


def topological_order(root: Node) -> list[Node]:
    """Return `root` and every node it depends on, each after the nodes that it depends on.

    Raises:
        FreedGraphError: a node's buffers have been freed.
    """
    seen = {root: None}  # a dict, for its order: sums must come out the same in every run
    stack = [root]
    while stack:
        node = stack.pop()
        if node.freed:
            raise FreedGraphError(
                f"backward: the graph was freed at {type(node.operation).__name__} by an earlier sweep; "
                "pass retain_graph=True to that sweep, or compute the loss again"
            )
        for parent in node.parents:
            if type(parent) is Node and parent not in seen:
                seen[parent] = None
                stack.append(parent)
    return sorted(seen, key=lambda node: node.depth)


def backward_sweep(
    root: Node, grad: Array, nodes: list[Node], retain_graph: bool
) -> dict[Hashable, Array]:
    """Pull `grad` back from `root` to the leaves through each operation's Jacobian."""

    def pull(node: Node, grad: Array) -> Gradients:
        return node.operation.backward(grad, node.needs, node.out, *node.inputs)

    return _sweep(root, grad, nodes, pull, retain_graph)


def average_sweep(
    root: Node, nodes: list[Node], waypoints: list[Mapping[Hashable, Array]], retain_graph: bool
) -> tuple[Array, dict[Hashable, Array]]:
    """Pull 1 back from the scalar `root` through the Jacobians averaged along a path of the leaves.

    `waypoints` gives the leaves' values at the end of each straight segment of the path; the first
    segment starts at the recorded values. Leaves that it does not name stay put. Returns the root's
    value at the end of the path, and for each leaf the mean of its factorized average gradients over
    the segments.
    """
    start = {node: Point(node.out, node.inputs) for node in nodes}
    _require_kinds(start)
    seed = np.ones_like(root.out)
    total: dict[Hashable, Array] = {}
    for i, leaves in enumerate(waypoints):
        end = _replay(nodes, leaves)
        last = i + 1 == len(waypoints)
        pull = partial(_average_pull, start, end)
        part = _sweep(root, seed, nodes, pull, retain_graph or not last)
        for leaf, grad in part.items():
            total[leaf] = total[leaf] + grad if leaf in total else grad
        start = end
    if len(waypoints) > 1:
        for leaf in total:
            total[leaf] = total[leaf] / len(waypoints)
    return start[root].out, total


def _require_kinds(start: Mapping[Node, Point]) -> None:
    """Let an operation without a kind raise now, not in the middle of a sweep that frees buffers."""
    for node, point in start.items():
        if type(node.operation).average_backward is Operation.average_backward:
            node.operation.average_backward(point.out, node.needs, point, point)


def _average_pull(
    start: dict[Node, Point], end: dict[Node, Point], node: Node, grad: Array
) -> Gradients:
    before, after = start.pop(node), end[node]
    if all(a is b for a, b in zip(before.inputs, after.inputs, strict=True)):
        return node.operation.backward(grad, node.needs, before.out, *before.inputs)
    return node.operation.average_backward(grad, node.needs, before, after)


def _replay(nodes: list[Node], leaves: Mapping[Hashable, Array]) -> dict[Node, Point]:
    """Run the recorded operations forward again from other values of the leaves.

    An array that does not change is the same object as the recorded one, so that what does not depend
    on a moving leaf is neither computed nor stored twice.
    """
    points: dict[Node, Point] = {}
    for node in nodes:
        inputs = tuple(
            array
            if parent is None
            else points[parent].out
            if type(parent) is Node
            else leaves.get(parent, array)
            for parent, array in zip(node.parents, node.inputs, strict=True)
        )
        if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
            points[node] = Point(node.out, node.inputs)
        else:
            points[node] = Point(as_array(node.operation.forward(*inputs)), inputs)
    return points


def _sweep(
    root: Node,
    grad: Array,
    nodes: list[Node],
    pull: Callable[[Node, Array], Gradients],
    retain_graph: bool,
) -> dict[Hashable, Array]:
    """Sweep from `root` back to the leaves and return the leaves' gradients, each an array of its own."""
    pending: dict[Any, Array] = {root: grad}
    leaves: dict[Hashable, Array] = {}
    for node in reversed(nodes):
        grad = pending.pop(node, None)  # type: ignore[arg-type]
        if grad is not None:
            grad = as_array(grad)
            gradients = pull(node, grad)
            for i, parent in enumerate(node.parents):
                if parent is None or gradients[i] is None:
                    continue
                gradient = unbroadcast(gradients[i], node.inputs[i])
                known = pending if type(parent) is Node else leaves
                if parent in known:
                    known[parent] = known[parent] + gradient
                elif known is leaves and _is_shared(gradient, i, grad, gradients):
                    known[parent] = gradient.copy()
                else:
                    known[parent] = gradient
        if not retain_graph:
            node.free()
    return {leaf: as_array(grad) for leaf, grad in leaves.items()}


def _is_shared(gradient: Array, i: int, grad: Array, gradients: Gradients) -> bool:
    """Whether a leaf's gradient might share memory with another array that outlives this step."""
    return (
        gradient is grad
        or getattr(gradient, "base", None) is not None
        or any(other is gradient for j, other in enumerate(gradients) if j != i)
    )


def unbroadcast(grad: Array, like: Array) -> Array:
    """Sum `grad` over the axes along which `like` was broadcast, and give it `like`'s dtype.

    Raises:
        ValueError: `like` does not broadcast to the shape of `grad`.
    """
    if grad.shape != like.shape:
        lead = grad.ndim - like.ndim
        if lead < 0 or any(
            n not in (1, m) for n, m in zip(like.shape, grad.shape[lead:], strict=True)
        ):
            raise ValueError(
                f"backward: a gradient of shape {grad.shape} does not fit an input of shape {like.shape}"
            )
        stretched = tuple(
            lead + i for i, n in enumerate(like.shape) if n == 1 and grad.shape[lead + i] != 1
        )
        grad = grad.sum(axis=tuple(range(lead)) + stretched).reshape(like.shape)
    if grad.dtype != like.dtype:
        grad = grad.astype(like.dtype)
    return grad
