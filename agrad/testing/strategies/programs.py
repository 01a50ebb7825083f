"""Random whole graphs: short programs over a few leaves, as Hypothesis draws and shrinks them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad import functions as f
from agrad.backend import Array
from agrad.tensor import Tensor
from agrad.testing.strategies.arrays import seeds

__all__ = ["INSTRUCTIONS", "Instruction", "Program", "programs"]

REACH = 15.0
"""No element of a leaf is ever larger, updates of size 10 included."""

LARGEST = 1e4
"""No result may grow larger: what could is not drawn, so that nothing overflows."""


@dataclass(frozen=True)
class Instruction:
    """A function of earlier values, with a bound of its result's elements for bounds of theirs."""

    name: str
    function: Callable[..., Tensor]
    bound: Callable[..., float]
    operands: int = 1
    smooth: bool = True


def _product(x: float, y: float) -> float:
    return x * y


# The values are matrices (n, n), columns (n, 1), rows (1, n) and single elements (1, 1), n = 3.
N = 3

INSTRUCTIONS = [
    Instruction("add", lambda x, y: x + y, lambda x, y: x + y, 2),
    Instruction("subtract", lambda x, y: x - y, lambda x, y: x + y, 2),
    Instruction("multiply", lambda x, y: x * y, _product, 2),
    Instruction("divide", lambda x, y: x / (1 + y * y), lambda x, y: x, 2),
    Instruction("matmul", lambda x, y: _wide(x) @ _tall(y), lambda x, y: N * x * y, 2),
    Instruction("linear", lambda x, y: F.linear(_wide(x), _wide(y)), lambda x, y: N * x * y, 2),
    Instruction("power", lambda x, y: (1 + x * x) ** f.tanh(y), lambda x, y: 1 + x * x, 2),
    Instruction("maximum", f.maximum, max, 2, smooth=False),
    Instruction("minimum", f.minimum, max, 2, smooth=False),
    Instruction(
        "concatenate",
        lambda x, y: f.concatenate([_wide(x), _wide(y)])[1:].mean(0, keepdims=True),
        max,
        2,
    ),
    Instruction("stack", lambda x, y: f.stack([_full(x), _full(y)]).prod(0), _product, 2),
    Instruction(
        "einsum", lambda x, y: f.einsum("ij,kj->ki", _wide(x), _wide(y)), lambda x, y: N * x * y, 2
    ),
    Instruction("negative", lambda x: -x, lambda x: x),
    Instruction("scale", lambda x: 0.5 * x - 1.5, lambda x: x + 2),
    Instruction("tanh", f.tanh, lambda x: 1),
    Instruction("sin", f.sin, lambda x: 1),
    Instruction("relu", F.relu, lambda x: x, smooth=False),
    Instruction("absolute", abs, lambda x: x, smooth=False),
    Instruction("clip", lambda x: x.clip(-1, 1), lambda x: 1, smooth=False),
    Instruction("gelu", F.gelu, lambda x: x),
    Instruction("sigmoid", F.sigmoid, lambda x: 1),
    Instruction("softplus", F.softplus, lambda x: x + 1),
    Instruction("exp", f.exp, np.exp),
    Instruction("log", lambda x: f.log(1 + x * x), lambda x: x),
    Instruction("sqrt", lambda x: f.sqrt(0.5 + f.square(x)), lambda x: x + 1),
    Instruction("reciprocal", lambda x: f.reciprocal(1.5 + f.sin(x)), lambda x: 2),
    Instruction("sum", lambda x: x.sum(0, keepdims=True), lambda x: N * x),
    Instruction("mean", lambda x: x.mean(1, keepdims=True), lambda x: x),
    Instruction("var", lambda x: x.var(0, keepdims=True), lambda x: x * x),
    Instruction("max", lambda x: x.max(1, keepdims=True), lambda x: x, smooth=False),
    Instruction("min", lambda x: x.min(0, keepdims=True), lambda x: x, smooth=False),
    Instruction("logsumexp", lambda x: f.logsumexp(x, 1, keepdims=True), lambda x: x + 2),
    Instruction("softmax", lambda x: F.softmax(x, -1), lambda x: 1),
    Instruction("log_softmax", lambda x: F.log_softmax(x, 0), lambda x: 2 * x + 2),
    Instruction("layer_norm", lambda x: F.layer_norm(x, x.shape[-1], eps=0.1), lambda x: 2),
    Instruction("transpose", lambda x: x.T, lambda x: x),
    Instruction("reshape", lambda x: x.reshape(-1).reshape(x.T.shape), lambda x: x),
    Instruction("flip", lambda x: x[::-1], lambda x: x),
    Instruction("repeat", lambda x: x[[0, -1, 0]], lambda x: x),
    Instruction("pad", lambda x: f.pad(x, 1)[:-2, 1:-1], lambda x: x),
]


def _wide(x: Tensor) -> Tensor:
    return f.broadcast_to(x, (x.shape[0], N))


def _tall(x: Tensor) -> Tensor:
    return f.broadcast_to(x, (N, x.shape[1]))


def _full(x: Tensor) -> Tensor:
    return f.broadcast_to(x, (N, N))


class Program:
    """Leaves, and steps that each append the value of an instruction applied to earlier ones."""

    def __init__(self, starts: list[Array], moving: list[bool]) -> None:
        self.starts = starts
        self.moving = moving
        self.steps: list[tuple[Instruction, tuple[int, ...]]] = []

    def __repr__(self) -> str:
        lines = [
            f"v{i} = leaf{array.shape}{'' if moves else ', does not move'}"
            for i, (array, moves) in enumerate(zip(self.starts, self.moving, strict=True))
        ]
        for instruction, operands in self.steps:
            names = ", ".join(f"v{i}" for i in operands)
            lines.append(f"v{len(lines)} = {instruction.name}({names})")
        return "\n".join(lines)

    def leaves(self, dtype: Any) -> list[Tensor]:
        return [Tensor(array.astype(dtype), requires_grad=True) for array in self.starts]

    def run(self, leaves: Sequence[Tensor], probes: Sequence[Tensor] = ()) -> list[Tensor]:
        """Return all values; each is first added to its probe, where there are probes."""
        values = list(leaves)
        for i, (instruction, operands) in enumerate(self.steps):
            value = instruction.function(*[values[j] for j in operands])
            values.append(value + probes[i] if probes else value)
        return values

    def loss(self, values: Sequence[Tensor]) -> Tensor:
        """Return a weighted sum of the values that no instruction uses."""
        used = {i for _, operands in self.steps for i in operands}
        ends = [value for i, value in enumerate(values) if i not in used]
        total = sum((i + 1.0) * value.mean() for i, value in enumerate(ends))
        assert isinstance(total, Tensor)
        return total


@st.composite
def programs(
    draw: Any, *, smooth: bool = False, min_steps: int = 2, max_steps: int = 25
) -> Program:
    """Programs of any instructions, or of smooth ones; a value may be used often or not at all."""
    rng = np.random.default_rng(draw(seeds))
    shapes = draw(
        st.lists(st.sampled_from([(N, N), (N, 1), (1, N), (1, 1)]), min_size=1, max_size=4)
    )
    program = Program(
        starts=[rng.uniform(-2, 2, shape) for shape in shapes],
        moving=[True, *[draw(st.booleans()) for _ in shapes[1:]]],
    )
    bounds = [REACH] * len(shapes)
    choices = [choice for choice in INSTRUCTIONS if choice.smooth or not smooth]
    for _ in range(draw(st.integers(min_steps, max_steps))):
        instruction = draw(st.sampled_from(choices))
        # Mostly recent values, or graphs would hardly be deep.
        last = len(bounds) - 1
        operands = tuple(
            max(0, last - draw(st.integers(0, min(last, 4)))) for _ in range(instruction.operands)
        )
        bound = float(instruction.bound(*[min(bounds[i], 500.0) for i in operands]))
        if bound > LARGEST or any(bounds[i] > 500 for i in operands):
            instruction, operands, bound = TANH, operands[:1], 1.0
        program.steps.append((instruction, operands))
        bounds.append(bound)
    return program


TANH = next(choice for choice in INSTRUCTIONS if choice.name == "tanh")
