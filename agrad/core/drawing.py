"""A picture of a recorded graph."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from itertools import count
from typing import Any

from agrad.core.hooks import unhooked
from agrad.core.program import Node, topological_order

__all__ = ["Drawing", "draw"]


class Drawing:
    """What `Tensor.draw` returns. Its `str` is the DOT text; notebooks show the picture.

    Attributes:
        dot: the graph in the language of Graphviz.
    """

    def __init__(self, dot: str) -> None:
        self.dot = dot

    def __repr__(self) -> str:
        return self.dot

    def to_svg(self) -> str:
        """Return the picture as SVG, drawn by Graphviz.

        Raises:
            FileNotFoundError: Graphviz' command `dot` is not installed.
            RuntimeError: It failed.
        """
        command = shutil.which("dot")
        if command is None:
            raise FileNotFoundError(
                "to_svg: Graphviz' command dot is not installed; install Graphviz, or paste the "
                "DOT text, str(drawing), into another program that draws it"
            )
        result = subprocess.run(
            [command, "-Tsvg"], input=self.dot, capture_output=True, encoding="utf-8"
        )
        if result.returncode:
            raise RuntimeError(f"to_svg: dot failed: {result.stderr.strip()}")
        return result.stdout

    def _repr_svg_(self) -> str | None:
        # None lets notebooks show the text.
        return self.to_svg() if shutil.which("dot") else None


def draw(root: Node, names: Iterable[tuple[str, Any]] | None) -> Drawing:
    """Return the drawing of the graph of a node; `names` are those of its leaves."""
    known = {leaf: name for name, leaf in names or ()}
    found: dict[Any, str] = {}
    lines = ["digraph {", "  node [shape=box];"]
    numbers = count()

    def add(label: str, shape: tuple[int, ...], style: str = "", more: str = "") -> str:
        label = label.replace("\\", "\\\\").replace('"', '\\"')
        key = f"n{next(numbers)}"
        lines.append(f'  {key} [label="{label}\\n{shape}{more}"{style}];')
        return key

    for node in topological_order(root):
        sources = []
        for parent, array in zip(node.parents, node.inputs):
            if parent is None or (type(parent) is Node and parent not in found):
                sources.append(add("constant", array.shape, ", shape=ellipse, style=dashed"))
                continue
            if parent not in found:
                name, more = known.get(parent, "leaf"), _gradients(parent)
                found[parent] = add(name, array.shape, ", shape=ellipse", more)
            sources.append(found[parent])
        found[node] = add(type(unhooked(node.operation)).__name__, node.out.shape)
        lines += [f"  {source} -> {found[node]};" for source in sources]
    return Drawing("\n".join([*lines, "}"]))


def _gradients(leaf: Any) -> str:
    """Return a line on the gradients that a leaf has: numbers, or the lengths of arrays."""
    words = []
    for sign, gradient in (("g", leaf.grad), ("ĝ", leaf.average_grad)):
        if gradient is not None:
            single = gradient.size == 1
            size = gradient.sum() if single else (gradient * gradient).sum() ** 0.5
            words.append(f"{sign if single else f'‖{sign}‖'} = {float(size):.3g}")
    return "\\n" + ", ".join(words) if words else ""
