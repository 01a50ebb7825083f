"""Which losses are a cross entropy, and what each label weighs in its mean."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import agrad.nn.functional as F
from agrad.backend import Array, device_of, move
from agrad.core.tensor import Tensor, as_tensor, plain
from agrad.nn import CrossEntropyLoss

__all__ = ["IGNORED", "Entropy", "entropy_of"]

IGNORED = -100
"""The class that `F.cross_entropy` leaves out unless it is told another."""


class Entropy(NamedTuple):
    """The options of a cross entropy, see `F.cross_entropy`."""

    weight: Any = None
    ignore_index: int = IGNORED
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def total(self, output: Any, targets: Any) -> Tensor:
        """Return the sum of the losses of all labels."""
        return F.cross_entropy(output, targets, **self._replace(reduction="sum")._asdict())

    def label_weights(self, labels: Array) -> Array:
        """Return what each label, an integer, weighs in the mean: 0 if it is left out."""
        known: Array = labels != self.ignore_index
        if self.weight is None:
            return known
        weight = move(plain(as_tensor(self.weight)), device_of(labels)).astype(np.float64)
        # The loss itself refuses labels that are no classes.
        weights: Array = known * weight[np.clip(labels, 0, len(weight) - 1)]
        return weights


def entropy_of(loss_function: Any) -> Entropy | None:
    """Return the options of a loss that is a cross entropy: the function, a partial or a module.

    Example:
        >>> from functools import partial
        >>> import agrad.nn.functional as F
        >>> entropy_of(partial(F.cross_entropy, ignore_index=0)).ignore_index
        0
        >>> entropy_of(F.mse_loss) is None
        True
    """
    if loss_function is F.cross_entropy:
        return Entropy()
    if type(loss_function) is CrossEntropyLoss:
        return Entropy(*(getattr(loss_function, name) for name in Entropy._fields))
    if isinstance(loss_function, partial) and not loss_function.args:
        entropy = entropy_of(loss_function.func)
        if entropy is not None and loss_function.keywords.keys() <= {*Entropy._fields}:
            return entropy._replace(**loss_function.keywords)
    return None
