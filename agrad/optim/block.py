"""Blocks: parameters that share a rule and a step count, which an optimizer updates together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agrad.backend import Array, kernels
from agrad.core.flat import Flat
from agrad.core.tensor import Tensor, gradients_of, wanting
from agrad.optim.group import ParameterGroup
from agrad.optim.rule import Rule
from agrad.optim.state import owned

__all__ = ["Block", "blocks_of", "by_gradient"]

CHUNK = 1 << 16
"""The number of elements that a CPU updates at a time, so that they stay in the cache from one pass
to the next."""


@dataclass(slots=True, eq=False)
class Block:
    """Parameters of one group, rule, dtype and device that have made the same number of steps.

    Attributes:
        flat: The parameters, side by side.
        group: The group that they belong to, with its learning rate and its options.
        steps: How many steps they have made.
        state: The rule's arrays by name, one-dimensional and in the layout of `flat`; empty
            before the first step.
    """

    flat: Flat
    group: ParameterGroup
    steps: int = 0
    state: dict[str, Array] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Support all of pickle's protocols; the old ones do not know slots."""
        return _restored, (self.flat, self.group, self.steps, self.state)

    @property
    def rule(self) -> Rule:
        """The rule for the parameters, by the group's present options."""
        return self.group.rule.for_param(self.flat.tensors[0])

    @property
    def decays(self) -> bool:
        """Whether the rule has a decoupled weight decay."""
        return self.rule.decay(1.0) != 0

    def numbers(self, scale: float) -> tuple[float, ...]:
        """Return the rule's numbers for the next step, and minus its decay if it has one."""
        rate = self.group.lr * scale
        numbers = self.rule.numbers(rate, self.steps + 1)
        return (*numbers, -self.rule.decay(rate)) if self.decays else numbers

    @property
    def grads(self) -> list[Any]:
        """The gradient of each parameter, or None; None for a frozen one, whatever it has."""
        tensors = self.flat.tensors
        grads = gradients_of(tensors)
        wanted = wanting(tensors)
        if all(wanted):
            return grads
        return [grad if trained else None for grad, trained in zip(grads, wanted)]

    @property
    def chunk(self) -> int:
        """The number of elements that the rule updates at a time; on a GPU, all in one launch."""
        whole = self.rule.whole or self.flat.tensors[0].device != "cpu"
        return self.flat.size if whole else min(CHUNK, self.flat.size)

    def chunks(self) -> Iterator[slice]:
        """Yield the slices of the chunks, in order."""
        size = self.chunk
        for start in range(0, self.flat.size, max(size, 1)):
            yield slice(start, start + size)

    def complete(self) -> None:
        """Add the state arrays that the rule needs and the block lacks, as zeros; drop others."""
        names = self.rule.state
        if self.state.keys() != set(names):
            kept = self.state
            self.state = {name: kept[name] if name in kept else self.flat.zeros() for name in names}

    def update(
        self, out: Array, grad: Array, values: Array, where: slice, numbers: tuple[float, ...]
    ) -> None:
        """Write one chunk of the rule's update into `out`, and update the chunk's state."""
        rule = self.rule
        state = {name: array[where] for name, array in self.state.items()}
        grad, values = grad[where], values[where]
        if rule.whole:
            shape = self.flat.tensors[0].shape
            state = {name: array.reshape(shape) for name, array in state.items()}
            out, grad, values = (array.reshape(shape) for array in (out, grad, values))
        rule.update(out, grad, values, state, numbers[:-1] if self.decays else numbers)

    def decay(self, out: Array, values: Array, numbers: tuple[float, ...]) -> None:
        """Add the rule's decoupled weight decay to `out`, if it has one."""
        if self.decays:
            kernels(out).optimizer.add_scaled(out, values, numbers[-1])

    def count(self) -> None:
        """Count a step."""
        self.steps += 1


def _restored(flat: Flat, group: ParameterGroup, steps: int, state: dict[str, Array]) -> Block:
    return Block(flat, group, steps, {name: owned(array) for name, array in state.items()})


def blocks_of(group: ParameterGroup, params: Iterable[Tensor], steps: int = 0) -> list[Block]:
    """Return stateless blocks of parameters of a group that have all made this many steps.

    If the rule is `whole`, each parameter has its own block.
    """
    kinds: dict[Any, list[Tensor]] = {}
    for param in params:
        own = group.rule.for_param(param)
        kind = param.dtype, param.device, own, param if own.whole else None
        kinds.setdefault(kind, []).append(param)
    return [Block(Flat(alike), group, steps) for alike in kinds.values()]


def by_gradient(block: Block) -> list[Block]:
    """Return the block; split in two if only some of its parameters have a gradient."""
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
        blocks.append(Block(flat, block.group, block.steps, state))
    return blocks
