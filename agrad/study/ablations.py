"""Two readings of "RMSProp with the average gradient" that look natural but do not work.

Like `AverageGradient`, both propose Δ with RMSprop and compute ĝ along it. They then put ĝ into
RMSprop's formula, instead of searching along Δ.
"""

import numpy as np

from agrad import optim
from agrad.backend import Array
from agrad.core.tensor import Tensor

__all__ = ["ScaledBySquaredGradient", "Substituted"]


class Substituted(optim.AverageGradient):
    """RMSprop with ĝ in place of g: v ← alpha·v + (1 - alpha)·ĝ², Δ = -lr·ĝ / (√v + eps).

    ĝ is smaller than g where the proposal is too bold. RMSprop does not see scale, so v undoes
    this.
    """

    base: optim.RMSprop

    def step_on_losses(self, losses: tuple[Tensor, ...], probe: tuple[Tensor, ...]) -> None:
        """Update the parameters to reduce the sum of the losses."""
        for loss in losses:
            loss.backward(retain_graph=True)
        before = self.base.state_dict()
        _average_backward(losses, self.base.propose())
        self.base.load_state_dict(before)
        for param in self.params:
            param.grad = param.average_grad
        self.base.step()


class ScaledBySquaredGradient(optim.AverageGradient):
    """RMSprop with ĝ scaled by g: v ← alpha·v + (1 - alpha)·g², Δ = -lr·ĝ / (√v + eps).

    Nothing bounds the step if ĝ is much larger than g.
    """

    base: optim.RMSprop

    def step_on_losses(self, losses: tuple[Tensor, ...], probe: tuple[Tensor, ...]) -> None:
        """Update the parameters to reduce the sum of the losses."""
        for loss in losses:
            loss.backward(retain_graph=True)
        _average_backward(losses, self.base.propose())
        slots = self.base.state_dict()["parameters"]
        updates = {}
        for slot, param in zip(slots.values(), self.params):
            assert param.average_grad is not None
            root = np.sqrt(slot["square_average"])
            updates[param] = -self.base.rate * param.average_grad / (root + self.base.eps)
        self.base.apply(updates)


def _average_backward(losses: tuple[Tensor, ...], updates: dict[Tensor, Array]) -> None:
    for loss in losses:
        loss.average_backward(updates)
