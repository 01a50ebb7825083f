"""Averaged weights, for evaluation and for saving."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from agrad.arguments import require_share
from agrad.backend import Array, move
from agrad.core.tensor import Tensor, values_restored
from agrad.optim.arguments import checked_params, require_trainable
from agrad.optim.state import owned, require_array, require_count, require_dict

__all__ = ["EMA"]


class EMA:
    """The exponential moving average of parameters over the steps of training.

    The average is corrected for its start: after n updates, the weights of i updates ago have the
    share decayⁱ / (1 + decay + … + decayⁿ⁻¹), and those before the first update do not count.

    The running statistics of batch normalization belong to the weights that they were measured
    with. Pass the model's buffers to average them like the weights; otherwise the averaged weights
    are evaluated with the statistics of the latest ones. Buffers of integers, such as the number of
    batches, are not averaged and keep their values.

    If the Tensors change their dtype or their device, the averages follow.

    Args:
        params: The Tensors to average, leaves, of which one at least requires a gradient.
        decay: The share of the average that an update keeps in the long run.
        buffers: Other Tensors to average, as from `model.buffers()`.

    Raises:
        TypeError: `params` or `buffers` is not an iterable of Tensors.
        ValueError: `decay` is outside [0, 1), an optimizer would reject the parameters, or a buffer
            is computed, or is a parameter too.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([0.0], requires_grad=True)
        >>> ema = optim.EMA([x], decay=0.5)
        >>> for value in (4.0, 1.0):
        ...     x.data = [value]
        ...     ema.update()
        >>> with ema.averaged():
        ...     print(x)
        tensor([2.], requires_grad=True)
        >>> x
        tensor([1.], requires_grad=True)
    """

    def __init__(
        self, params: Iterable[Tensor], decay: float = 0.99, buffers: Iterable[Tensor] = ()
    ) -> None:
        require_share("EMA", decay=decay)
        self.params = checked_params("EMA", params)
        require_trainable("EMA", self.params)
        self.buffers = _checked_buffers(buffers, self.params)
        self.decay = decay
        self._updates = 0
        self._averages: list[Array] = []
        self._in_use = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._averages = [owned(average) for average in self._averages]

    def update(self) -> None:
        """Add the current parameters to the average. Call this after each step.

        Raises:
            ValueError: Called inside `averaged`, where the parameters hold the average.
        """
        if self._in_use:
            raise ValueError("EMA.update: the averages are in use; update outside of averaged()")
        if not self._averages:
            self._averages = [np.zeros_like(tensor.data) for tensor in self._averaged]
        self._follow()
        self._updates += 1
        fresh = (1 - self.decay) / (1 - self.decay**self._updates)
        for average, tensor in zip(self._averages, self._averaged):
            average += fresh * (tensor.data - average)

    def _follow(self) -> None:
        """Convert the averages to the dtypes and devices that their Tensors have now."""
        self._averages = [
            move(average.astype(tensor.dtype, copy=False), tensor.device)
            for average, tensor in zip(self._averages, self._averaged)
        ]

    @property
    def _averaged(self) -> tuple[Tensor, ...]:
        """The Tensors that have an average."""
        return self.params + self.buffers

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Set the Tensors to their averages inside the `with` block; restore them afterwards.

        Changes that the block makes to them are lost, even if it raises.

        Raises:
            ValueError: `update` was never called, or another such block is active.
        """
        if not self._updates:
            raise ValueError("EMA.averaged: there is nothing to average yet; call update() first")
        if self._in_use:
            raise ValueError("EMA.averaged: the averages are already in use")
        self._follow()
        self._in_use = True
        try:
            with values_restored(self._averaged):
                for tensor, average in zip(self._averaged, self._averages):
                    tensor.data = average
                yield
        finally:
            self._in_use = False

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates and copies of the averages, for `agrad.save`."""
        self._follow()  # so that the state fits these parameters
        averages = {str(i): average.copy() for i, average in enumerate(self._averages)}
        return {"updates": self._updates, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`, given matching parameters and buffers.

        Raises:
            ValueError: The state is invalid or belongs to other parameters; nothing has changed.
        """
        if require_dict("EMA", "the state", state).keys() != {"updates", "averages"}:
            raise ValueError(
                f"EMA.load_state_dict: expected updates and averages, got {sorted(state)}"
            )
        saved = require_dict("EMA", "averages", state["averages"])
        updates = require_count("EMA", "updates", state["updates"])
        names = [str(i) for i in range(len(self._averaged))] if updates else []
        if sorted(saved) != sorted(names):
            counts = f"{len(self.params)} parameters"
            if self.buffers:
                counts += f" and {len(self.buffers)} buffers"
            raise ValueError(
                f"EMA.load_state_dict: the state has {len(saved)} averages for {counts}"
            )
        for name, tensor in zip(names, self._averaged):
            require_array("EMA", f"average {name}", saved[name], tensor.data)
        self._averages = [
            move(saved[name], tensor.device).copy() for name, tensor in zip(names, self._averaged)
        ]
        self._updates = updates


def _checked_buffers(buffers: Iterable[Tensor], params: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the buffers of floating-point numbers."""
    if isinstance(buffers, Tensor) or not isinstance(buffers, Iterable):
        raise TypeError(
            f"EMA: buffers must be an iterable of Tensors, got a {type(buffers).__name__}"
        )
    checked = tuple(buffers)
    known = set(params)
    for i, buffer in enumerate(checked):
        if not isinstance(buffer, Tensor):
            raise TypeError(f"EMA: buffers[{i}] must be a Tensor, got a {type(buffer).__name__}")
        if not buffer.is_leaf:
            raise ValueError(f"EMA: buffers[{i}] is computed; only a leaf can be averaged")
        if buffer in known:
            raise ValueError(f"EMA: buffers[{i}] appears twice, here or among the parameters")
        known.add(buffer)
    return tuple(buffer for buffer in checked if buffer.dtype.kind == "f")
