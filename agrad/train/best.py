"""The best weights of a training so far, and how long ago they were found."""

import math
from collections.abc import Mapping
from typing import Any

from agrad.arguments import require_not_negative
from agrad.backend import Array
from agrad.nn import Module
from agrad.optim.state import require_count, require_dict

__all__ = ["BestWeights"]


class BestWeights:
    """Keeps the weights of the epoch with the best score.

    Args:
        model: The model whose parameters and persistent buffers are kept.
        mode: "min" if a lower score is better, "max" if a higher one is.
        min_delta: The smallest improvement that counts.

    Attributes:
        epoch: The number of the best epoch; None before the first.
        score: Its score.
        stale: The number of epochs since.

    Raises:
        ValueError: `mode` is neither "min" nor "max", or `min_delta` is negative.
    """

    def __init__(self, model: Module, mode: str = "min", min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'BestWeights: mode must be "min" or "max", got {mode!r}')
        require_not_negative("BestWeights", min_delta=min_delta)
        self.mode = mode
        self._model = model
        self._min_delta = min_delta
        self.epoch: int | None = None
        self.score = math.nan
        self.stale = 0
        self._weights: dict[str, Array] = {}

    def update(self, epoch: int, score: float) -> bool:
        """Count an epoch, keep its weights if its score is the best, and return whether it is.

        A score of NaN never is.
        """
        sign = 1 if self.mode == "min" else -1
        better = not math.isnan(score) and (
            self.epoch is None or sign * score < sign * self.score - self._min_delta
        )
        if not better:
            self.stale += 1
            return False
        self._weights = self._model.state_dict()  # first, as a signal may interrupt this
        self.epoch, self.score, self.stale = epoch, float(score), 0
        return True

    def restore(self) -> None:
        """Load the best weights into the model, if there are any."""
        if self.epoch is not None:
            self._model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the best weights, their epoch and score, and the number of epochs since."""
        return {
            "epoch": self.epoch,
            "score": self.score,
            "stale": self.stale,
            "weights": {name: array.copy() for name, array in self._weights.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises:
            ValueError: The state does not fit the model; nothing has changed.
        """
        keys = {"epoch", "score", "stale", "weights"}
        if require_dict("BestWeights", "the state", state).keys() != keys:
            raise ValueError(
                f"BestWeights.load_state_dict: expected {sorted(keys)}, got {sorted(state)}"
            )
        epoch, score = state["epoch"], state["score"]
        if not isinstance(score, float) or (math.isnan(score) != (epoch is None)):
            raise ValueError(
                f"BestWeights.load_state_dict: the state has the score {score!r:.50} and the epoch "
                f"{epoch!r:.50}"
            )
        if epoch is not None:
            epoch = require_count("BestWeights", "epoch", epoch, least=1)
        stale = require_count("BestWeights", "stale", state["stale"])
        saved = dict(require_dict("BestWeights", "weights", state["weights"]))
        if epoch is not None:
            current = self._model.state_dict()
            self._model.load_state_dict(saved)  # raises unless they fit
            self._model.load_state_dict(current)
        self.epoch, self.score, self.stale = epoch, score, stale
        self._weights = {name: array.copy() for name, array in saved.items()}
