"""Losses whose sum is minimized, each swept on its own graph."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from agrad.backend import Array, as_array, is_array
from agrad.core.program import Program, Run
from agrad.core.tensor import Tensor, accumulate_from
from agrad.distributed import Ranks
from agrad.errors import NonFiniteError
from agrad.gpu import cuda

__all__ = ["Losses", "listed"]

Gradients = dict[Tensor, Array]

Ends = Callable[[Program], dict[Tensor, Array]]
"""Gives other values for the leaves of a program."""


def listed(owner: str, loss: Any, what: str = "loss") -> tuple[Tensor, ...]:
    """Return a loss, or all losses of an iterable, as a tuple.

    Raises:
        TypeError: It is neither a Tensor nor an iterable of Tensors.
        ValueError: There is no loss, or one does not have a single element and a graph.
    """
    several = isinstance(loss, Iterable) and not (isinstance(loss, Tensor) or is_array(loss))
    losses = tuple(loss) if several else (loss,)
    if not losses:
        raise ValueError(f"{owner}: the sequence given as {what} is empty")
    for i, each in enumerate(losses):
        name = f"{what}[{i}]" if several else what
        if not isinstance(each, Tensor):
            raise TypeError(f"{owner}: {name} must be a Tensor, got a {type(each).__name__}")
        if each.size != 1 or each.is_leaf:
            raise ValueError(
                f"{owner}: {name} must be a single element computed from the parameters, "
                f"got shape {each.shape}{' and no graph' if each.is_leaf else ''}"
            )
    return losses


class Losses:
    """The graphs of losses, swept one after the other; the losses' gradients add up.

    The graphs may have parts in common: each program has its own references to their arrays. Over
    several ranks, the losses are those of all of them, and all ranks must call the same methods.

    Args:
        losses: Tensors of one element, each with a graph.
        params: The leaves whose gradients are wanted.
        ranks: The ranks whose losses are summed; None for this process alone.

    Raises:
        FreedGraphError: A graph has been freed.
    """

    def __init__(
        self, losses: Sequence[Tensor], params: Sequence[Tensor], ranks: Ranks | None
    ) -> None:
        self._roots = [loss.node for loss in losses if loss.node is not None]
        self._programs = [Program(root) for root in self._roots]
        self._params = params
        self._ranks = ranks

    @property
    def value(self) -> Any:
        """The sum of the losses, an array without axes."""
        return self._total((program, program.recorded) for program in self._programs)

    def value_at(self, ends: Ends) -> Any:
        """Return the sum of the losses at other values of the leaves, an array without axes."""
        return self._total((program, program.moved(ends(program))) for program in self._programs)

    def require_averages(self) -> None:
        """Raise an AverageUndefinedError if the averaged Jacobian of an operation is unknown."""
        for program in self._programs:
            program.require_averages()

    def backward(self, retain_graph: bool) -> None:
        """Add the gradients to `.grad` of the leaves."""
        if self._ranks is not None:
            accumulate_from(self._roots[0], self._gradients(retain_graph))
            return
        for root, program in zip(self._roots, self._programs):
            accumulate_from(root, _swept(program, retain_graph))

    def gradients(self) -> Gradients:
        """Return the gradient of each leaf, and retain the graphs."""
        return self._gradients(retain_graph=True)

    def averages(self, ends: Ends, retain_graph: bool) -> Gradients:
        """Return the average gradient of each leaf.

        Args:
            ends: The end of the update.
            retain_graph: Keep the graphs' buffers for another sweep.

        Raises:
            NonFiniteError: A loss at the end is NaN or infinite, perhaps on another rank; the
                graphs are retained.
        """

        def swept(program: Program) -> Gradients:
            path = partial(_at_end, ends(program))
            # Another loss may turn out not to be finite, and then this one is needed again.
            last = self._ranks is None and program is self._programs[-1]
            keep = retain_graph or not last
            with np.errstate(all="ignore"), cuda.failures_explained():
                return program.average(path, retain_graph=keep)[1]

        try:
            averages: Gradients | None = _sum(map(swept, self._programs))
        except NonFiniteError:
            if self._ranks is None:
                raise
            averages = None
        averages = self._over_ranks(averages)
        if averages is None:
            raise NonFiniteError("average_backward: the loss of a rank is not finite at the end")
        if not retain_graph:
            self.free()
        return averages

    def free(self) -> None:
        """Free the graphs."""
        for program in self._programs:
            program.free()

    def _gradients(self, retain_graph: bool) -> Gradients:
        grads = _sum(_swept(program, retain_graph) for program in self._programs)
        return self._over_ranks(grads) or {}

    def _over_ranks(self, grads: Gradients | None) -> Gradients | None:
        return grads if self._ranks is None else self._ranks.summed(self._params, grads)

    def _total(self, runs: Iterable[tuple[Program, Run]]) -> Any:
        value = sum(run.values[program.result].reshape(()) for program, run in runs)
        if self._ranks is None:
            return value
        return value.dtype.type(self._ranks.total("the loss of a step", float(value)))


def _swept(program: Program, retain_graph: bool) -> Gradients:
    seed = np.ones_like(program.recorded.values[program.result])
    with cuda.failures_explained():
        return program.backward(seed, retain_graph)


def _at_end(ends: dict[Tensor, Array], share: float) -> dict[Tensor, Array]:
    """Return the end of an update, which is the whole path."""
    return ends


def _sum(parts: Iterable[Gradients]) -> Gradients:
    total: Gradients = {}
    for part in parts:
        for leaf, grad in part.items():
            total[leaf] = as_array(total[leaf] + grad) if leaf in total else grad
    return total
