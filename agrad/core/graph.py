"""The recorded graph: its nodes, and what keeps their arrays as they were.

A graph is recorded define-by-run: each operation on a Tensor that wants a gradient adds a `Node`
that points at the nodes its inputs came from. Nodes refer upwards only, so a graph dies with its
loss, and hold arrays rather than Tensors, so that a Tensor may be given other values later without
a change to what was recorded.
"""

from collections.abc import Sequence
from typing import Any

from agrad.backend import Array, as_array, set_writable
from agrad.core.anomaly import check_result, recorded_at
from agrad.errors import FreedGraphError
from agrad.gpu import cuda
from agrad.ops.operation import Operation, Point

__all__ = ["Node", "Pin", "compute", "topological_order"]


class Pin:
    """Keeps arrays read-only for as long as a graph needs the values of one of them.

    A change in place between forward and backward would make gradients silently wrong; with the
    array pinned, NumPy raises at the line that attempts it. CuPy cannot: there it is agrad's own
    ways of changing a tensor that ask for the pin.
    """

    __slots__ = ("__weakref__", "arrays")

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays
        set_writable(arrays, False)

    def __del__(self) -> None:
        set_writable(self.arrays, True)

    def holds(self, array: Array) -> bool:
        """Return whether it is one of these arrays."""
        return any(pinned is array for pinned in self.arrays)


class Node:
    """One recorded operation: its inputs' arrays, its output's, and where the inputs came from.

    `parents` has for each input the node that produced it, the leaf it is (any hashable that is no
    Node), or None where no gradient is wanted.
    """

    __slots__ = ("__weakref__", "depth", "inputs", "needs", "operation", "out", "parents", "pins")

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
        self.depth: int = 1 + max((p.depth for p in parents if type(p) is Node), default=-1)

    @property
    def freed(self) -> bool:
        """Whether an earlier sweep has freed the buffers."""
        return self.out is None

    def free(self) -> None:
        """Drop every array, the operation's own too, and every reference to other nodes."""
        self.operation = type(self.operation)  # type: ignore[assignment]
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
            name = node.operation.__name__  # type: ignore[attr-defined]
            raise FreedGraphError(
                f"backward: the graph was freed at {name} by an earlier "
                "sweep; pass retain_graph=True to that sweep, or compute the loss again"
            )
        for parent in node.parents:
            if type(parent) is Node and parent not in seen:
                seen[parent] = None
                stack.append(parent)
    return sorted(seen, key=lambda node: node.depth)


def compute(operation: Operation, arrays: Sequence[Array]) -> tuple[Operation, Array]:
    """Call an operation: return it as it is for this call, and its output."""
    try:
        operation = operation.for_call(*arrays)
        out = as_array(operation.forward(*arrays))
    except (ValueError, TypeError, IndexError, MemoryError, RuntimeError) as error:
        kinds = ", ".join(f"{array.dtype}{list(array.shape)}" for array in arrays)
        error.add_note(f"in {type(operation).__name__} of inputs {kinds}")
        cuda.explain(error)
        raise
    if recorded_at.get() is not None:
        check_result(operation, Point(out, tuple(arrays)))
    return operation, out
