"""Random whole graphs: short programs over a few leaves, as Hypothesis draws and shrinks them."""

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
"""No element of a leaf is ever larger, updates of size 10 included."""

LARGE = 500.0
"""What may be larger is no operand any more, but of the tanh."""

LARGEST = 1e4
"""No result may grow larger: what could is not drawn, so that nothing overflows."""

TANH = next(choice for choice in INSTRUCTIONS if choice.name == "tanh")


class Program:
    """Leaves, and steps that each append the value of an instruction applied to earlier ones.

    It is a function of as many Tensors as it has leaves: a weighted sum of the values that no step
    uses.

    Attributes:
        starts: the leaves' values, float64.
        steps: of each an instruction, and the numbers of its operands among leaves and steps.
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
        """Return new Tensors of the leaves' values, which require a gradient."""
        return [Tensor(array, requires_grad=True, dtype=dtype) for array in self.starts]

    def run(self, leaves: Sequence[Tensor], probes: Sequence[Tensor] = ()) -> list[Tensor]:
        """Return all values; those of steps are added to their probes, where there are probes."""
        values = list(leaves)
        for i, (instruction, operands) in enumerate(self.steps):
            value = instruction.function(*[values[j] for j in operands])
            values.append(value + probes[i] if probes else value)
        return values

    def loss(self, values: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum, given all values."""
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
    """Random graphs, with values that are used often or not at all.

    They shrink to few leaves and steps, and have a text that says all there is to know.

    Args:
        smooth: whether only instructions without kinks are used.
        min_steps: how many steps there are at least.
        max_steps: how many at most.
        instructions: what a step may do; add your own operations to `INSTRUCTIONS`.

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
    # An index among the values so far, mostly one from their end, or graphs would hardly be deep. A
    # step is drawn as few numbers, which Hypothesis can delete at one go.
    operand = st.sampled_from([0, -1, -2, -3, -4, -5, 1])
    step = st.tuples(st.sampled_from(choices), operand, operand)

    @st.composite
    def strategy(draw: st.DrawFn) -> Program:
        rng = np.random.default_rng(draw(seeds))
        shapes = draw(st.lists(leaf_shapes, min_size=1, max_size=4))
        # Two digits, so that the text tells the values exactly.
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
