"""Random graphs: short programs over a few leaves, drawn and shrunk by Hypothesis."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from agrad.backend import Array
from agrad.core.tensor import Tensor
from agrad.testing.strategies._arrays import seeds
from agrad.testing.strategies._instructions import INSTRUCTIONS, Instruction, N

__all__ = ["Program", "programs"]

REACH = 15.0
"""A bound of the elements of leaves, updates of size 10 included."""

LARGE = 500.0
"""Values with a larger bound become operands of tanh only."""

LARGEST = 1e4
"""A bound of all results: an instruction that could exceed it is replaced by tanh, so that nothing
overflows."""

TANH = next(choice for choice in INSTRUCTIONS if choice.name == "tanh")


class Program:
    """Leaves, and steps that each apply an instruction to earlier values.

    A program is a function of its leaves. It returns a weighted sum of all values that no step
    uses.

    Attributes:
        starts: The values of the leaves, float64.
        steps: The instruction of each step, and the numbers of its operands among leaves and steps.
    """

    def __init__(self, starts: Sequence[Array]) -> None:
        self.starts = list(starts)
        self.steps: list[tuple[Instruction, tuple[int, ...]]] = []

    def __repr__(self) -> str:
        lines = [f"v{i} = {array.tolist()}" for i, array in enumerate(self.starts)]
        for instruction, operands in self.steps:
            names = ", ".join(f"v{i}" for i in operands)
            lines.append(f"v{len(lines)} = {instruction.name}({names})")
        terms = [f"{i + 1} * mean(v{end})" for i, end in enumerate(self._ends())]
        return "\n".join([*lines, "return " + " + ".join(terms)])

    def __call__(self, *leaves: Tensor) -> Tensor:
        return self.loss(self.run(leaves))

    def leaves(self, dtype: Any = np.float64) -> list[Tensor]:
        """Return new Tensors with the values of the leaves, which require a gradient."""
        return [Tensor(array, requires_grad=True, dtype=dtype) for array in self.starts]

    def run(self, leaves: Sequence[Tensor], probes: Sequence[Tensor] = ()) -> list[Tensor]:
        """Return the values of leaves and steps; if there are probes, add one to each step's."""
        values = list(leaves)
        for i, (instruction, operands) in enumerate(self.steps):
            value = instruction.function(*[values[j] for j in operands])
            values.append(value + probes[i] if probes else value)
        return values

    def loss(self, values: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum of the values that no step uses."""
        first, *others = [(i + 1.0) * values[end].mean() for i, end in enumerate(self._ends())]
        return sum(others, first)

    def _ends(self) -> list[int]:
        used = {i for _, operands in self.steps for i in operands}
        return [i for i in range(len(self.starts) + len(self.steps)) if i not in used]


def programs(
    *,
    smooth: bool = False,
    min_steps: int = 1,
    max_steps: int = 25,
    instructions: Sequence[Instruction] = INSTRUCTIONS,
) -> st.SearchStrategy[Program]:
    """Draw random graphs, in which values are used several times or not at all.

    They shrink to few leaves and steps, and print as text that describes them completely.

    Args:
        smooth: Whether to use only instructions without kinks.
        min_steps: The smallest number of steps.
        max_steps: The largest number of steps.
        instructions: The instructions to draw from; add your own operations to `INSTRUCTIONS`.

    Example:
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> def normalizes(program):
        ...     return any(step.name == "softmax" for step, _ in program.steps)
        >>> find(ags.programs(), normalizes)
        v0 = [[...]]
        v1 = softmax(v0)
        return 1 * mean(v1)
    """
    choices = [choice for choice in instructions if choice.smooth or not smooth]
    leaf_shapes = st.sampled_from([(N, N), (N, 1), (1, N), (1, 1)])
    # An index into the values so far, mostly from the end, since graphs would rarely be deep
    # otherwise. A step takes few numbers, so that Hypothesis can delete it in one go.
    operand = st.sampled_from([0, -1, -2, -3, -4, -5, 1])
    step = st.tuples(st.sampled_from(choices), operand, operand)

    @st.composite
    def strategy(draw: st.DrawFn) -> Program:
        rng = np.random.default_rng(draw(seeds))
        shapes = draw(st.lists(leaf_shapes, min_size=1, max_size=4))
        # Two digits, so that the text shows the exact values.
        program = Program([np.round(rng.uniform(-2, 2, shape), 2) for shape in shapes])
        bounds = [REACH] * len(shapes)
        for instruction, *drawn in draw(st.lists(step, min_size=min_steps, max_size=max_steps)):
            count = len(bounds)
            operands = tuple(
                min(i, count - 1) if i >= 0 else max(count + i, 0)
                for i in drawn[: instruction.operands]
            )
            bound = float(instruction.bound(*[min(bounds[i], LARGE) for i in operands]))
            if bound > LARGEST or any(bounds[i] > LARGE for i in operands):
                instruction, operands, bound = TANH, operands[:1], 1.0
            program.steps.append((instruction, operands))
            bounds.append(bound)
        return program

    return strategy()
