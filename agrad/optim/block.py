"""What an optimizer computes over at once: parameters that have made the same number of steps."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.core.flat import Flat

__all__ = ["Block", "Part", "by_gradient"]


@dataclass(slots=True, eq=False)
class Block:
    """Parameters that have made the same number of steps, and the rule's arrays for them, by name.

    The arrays have one dimension, and the layout of `flat`.
    """

    flat: Flat
    steps: int
    state: dict[str, Array]

    def grads(self) -> list[Any]:
        """Return the gradients of the parameters, None where there is none."""
        return [param.grad for param in self.flat.tensors]

    def count(self) -> None:
        """Count a step."""
        self.steps += 1


@dataclass(slots=True, eq=False)
class Part:
    """What a rule is given of a block: as many elements of the values and of each state's array.

    The learning rate and the count of steps are numbers, or while a CUDA graph is recorded arrays
    without axes: see `agrad.gpu.deferred`.

    Attributes:
        shape: the parameter's, if the part is all of one.
        values: the parameters', to be read.
        rate: the learning rate in force.
        steps: how many the parameters have made, with this one.
        first: whether this is their first.
        state: the rule's arrays, to be brought up to date.
    """

    shape: tuple[int, ...] | None
    values: Array
    rate: Any
    steps: Any
    first: bool
    state: dict[str, Array]


def by_gradient(block: Block) -> list[Block]:
    """Return the block; two, where some of its parameters have a gradient and others have none."""
    tensors, grads = block.flat.tensors, block.grads()
    missing = [grad is None for grad in grads]
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
        blocks.append(Block(flat, block.steps, state))
    return blocks
