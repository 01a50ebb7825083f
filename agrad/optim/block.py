"""What an optimizer computes over at once: parameters of one rule, after as many steps each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.core.flat import Flat
from agrad.core.tensor import Tensor
from agrad.optim.rule import Rule

__all__ = ["Block", "blocks_of", "by_gradient"]

CHUNK = 1 << 16
"""The number of elements that a CPU computes at a time, so that each pass finds in the cache what
the one before it left."""


@dataclass(slots=True, eq=False)
class Block:
    """Parameters of one rule, dtype and device that have made the same number of steps.

    Attributes:
        flat: the parameters, side by side.
        rule: the rule for them.
        steps: how many steps they have made.
        state: the rule's arrays by name, one-dimensional and in the layout of `flat`; none before
            the first step.
    """

    flat: Flat
    rule: Rule
    steps: int = 0
    state: dict[str, Array] = field(default_factory=dict)

    @property
    def grads(self) -> list[Any]:
        """The gradients of the parameters, None where there is none."""
        return [param.grad for param in self.flat.tensors]

    @property
    def chunk(self) -> int:
        """The number of elements the rule is given at a time: on a GPU all, in one launch."""
        whole = self.rule.whole or self.flat.tensors[0].device != "cpu"
        return self.flat.size if whole else min(CHUNK, self.flat.size)

    def chunks(self) -> Iterator[slice]:
        """Yield where the rule is to be computed, one chunk after another."""
        size = self.chunk
        for start in range(0, self.flat.size, max(size, 1)):
            yield slice(start, start + size)

    def complete(self) -> None:
        """Add the arrays that the rule keeps and the block lacks, as zeros; drop all others."""
        names = self.rule.state
        if self.state.keys() != set(names):
            kept = self.state
            self.state = {name: kept[name] if name in kept else self.flat.zeros() for name in names}

    def update(
        self, out: Array, grad: Array, values: Array, where: slice, numbers: tuple[float, ...]
    ) -> None:
        """Put one chunk of the rule's update into `out`, and bring the chunk's state up to date."""
        state = {name: array[where] for name, array in self.state.items()}
        grad, values = grad[where], values[where]
        if self.rule.whole:
            shape = self.flat.tensors[0].shape
            state = {name: array.reshape(shape) for name, array in state.items()}
            out, grad, values = (array.reshape(shape) for array in (out, grad, values))
        self.rule.update(out, grad, values, state, numbers)

    def count(self) -> None:
        """Count a step."""
        self.steps += 1


def blocks_of(params: Iterable[Tensor], rule: Rule, steps: int = 0) -> list[Block]:
    """Return the blocks of parameters that have all made this many steps, without state.

    Parameters of a rule that is `whole` have a block each.
    """
    kinds: dict[Any, list[Tensor]] = {}
    for param in params:
        own = rule.for_param(param)
        kind = param.dtype, param.device, own, param if own.whole else None
        kinds.setdefault(kind, []).append(param)
    return [Block(Flat(alike), rule.for_param(alike[0]), steps) for alike in kinds.values()]


def by_gradient(block: Block) -> list[Block]:
    """Return the block; two, if some of its parameters have a gradient and others have none."""
    tensors = block.flat.tensors
    missing = [grad is None for grad in block.grads]
    if not any(missing) or all(missing):
        return [block]
    states = {name: block.flat.split(array) for name, array in block.state.items()}
    blocks = []
    for lacks in False, True:
        chosen = [i for i, lacking in enumerate(missing) if lacking == lacks]
        flat = Flat([tensors[i] for i in chosen])
        state = {
            name: np.concatenate([parts[i].ravel() for i in chosen])
            for name, parts in states.items()
        }
        blocks.append(Block(flat, block.rule, block.steps, state))
    return blocks
