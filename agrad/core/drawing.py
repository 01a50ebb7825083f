"""A picture of a recorded graph."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import count
from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.core.hooks import unhooked
from agrad.core.program import Node, Program

__all__ = ["Drawing", "draw"]


class Drawing:
    """What `Tensor.draw` returns. Its `str` is the DOT text; notebooks show the picture.

    Attributes:
        dot: The graph in the language of Graphviz.
    """

    def __init__(self, dot: str) -> None:
        self.dot = dot

    def __repr__(self) -> str:
        return self.dot

    def to_svg(self) -> str:
        """Return the picture as SVG, drawn by Graphviz.

        Raises:
            FileNotFoundError: Graphviz' command `dot` is not installed.
            RuntimeError: `dot` failed.
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


def draw(
    program: Program, names: Iterable[tuple[str, Any]] | None, ends: Mapping[Any, Array] | None
) -> Drawing:
    """Return the drawing of a program's graph.

    Args:
        program: The program of the result.
        names: The leaves' names.
        ends: Where leaves move to; if given, the nodes show their part in the change.
    """
    known = {leaf: name for name, leaf in names or ()}
    motions = {} if ends is None else _motions(program, ends)
    found: dict[Any, str] = {}
    lines = ["digraph {", "  node [shape=box];"]
    numbers = count()

    def add(label: str, shape: tuple[int, ...], style: str = "", more: str = "") -> str:
        label = label.replace("\\", "\\\\").replace('"', '\\"')
        key = f"n{next(numbers)}"
        lines.append(f'  {key} [label="{label}\\n{shape}{more}"{style}];')
        return key

    for node in program.nodes:
        sources = []
        for parent, array in zip(node.parents, node.inputs):
            if parent is None or (type(parent) is Node and parent not in found):
                sources.append(add("constant", array.shape, ", shape=ellipse, style=dashed"))
                continue
            if parent not in found:
                name, more = known.get(parent, "leaf"), motions.get(parent, "") + _gradients(parent)
                found[parent] = add(name, array.shape, ", shape=ellipse", more)
            sources.append(found[parent])
        name = type(unhooked(node.operation)).__name__
        found[node] = add(name, node.out.shape, more=motions.get(node, ""))
        lines += [f"  {source} -> {found[node]};" for source in sources]
    return Drawing("\n".join([*lines, "}"]))


def _motions(program: Program, ends: Mapping[Any, Array]) -> dict[Any, str]:
    """Return a line on each node and leaf that the gradient reaches: its ends, its λ, and λδ."""
    start, end = program.recorded, program.moved_finite(ends)
    factors = [np.zeros_like(value) for value in start.values]
    factors[program.result][...] = 1
    program.sweep(np.ones_like(start.values[program.result]), start, end, factors)
    reached = {program.nodes[step.result]: [step.result] for step in program.backwards}
    lines = {}
    for key, slots in (reached | program.leaves).items():
        x0, x1 = start.values[slots[-1]], end.values[slots[-1]]
        factor = reduce(np.add, [factors[slot] for slot in reversed(slots)])
        share = float((factor.astype(np.float64) * (x1 - x0)).sum())
        words = f"{_measure(x0)} → {_measure(x1)}, λ = {_measure(factor)}, λδ = {share:.3g}"
        if x0.size != 1:
            words = (
                f"‖x‖ = {_measure(x0)} → {_measure(x1)}, "
                f"‖λ‖ = {_measure(factor)}, ⟨λ, δ⟩ = {share:.3g}"
            )
        lines[key] = "\\n" + words
    return lines


def _gradients(leaf: Any) -> str:
    """Return a line on the gradients that a leaf has: numbers, or the lengths of arrays."""
    words = []
    for sign, gradient in (("g", leaf.grad), ("ĝ", leaf.average_grad)):
        if gradient is not None:
            words.append(f"{sign if gradient.size == 1 else f'‖{sign}‖'} = {_measure(gradient)}")
    return "\\n" + ", ".join(words) if words else ""


def _measure(x: Array) -> str:
    """Return a single element as a number, and the length of a longer array."""
    return f"{float(x.sum() if x.size == 1 else (x * x).sum() ** 0.5):.3g}"
