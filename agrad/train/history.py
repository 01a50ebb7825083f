"""The history of a training: arrays by name, and a plot of them."""

import html
import math
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agrad.extras import optional_import

__all__ = ["History"]


class History(Mapping[str, NDArray[Any]]):
    """What a training measured: arrays by name, with an entry for each epoch.

    "loss" is the mean over the epoch's examples, each before its step; "rate" the last effective
    rate; "fraction" the mean share of its update that a step used, NaN for optimizers that do not
    measure; "seconds" the time of the steps. With validation there are "validation_loss", for
    classes "validation_accuracy", and "validation_" before the name of each metric, whose array has
    the metric's shape after the epochs.

    Attributes:
        steps: "loss", "rate" and "fraction" of each step.
        best_epoch: The number of the best epoch, from 1; None if none was looked for.
        stopped: Whether the training ended because nothing improved, or a callback stopped it.

    Example:
        >>> from agrad.train import History
        >>> history = History({"loss": [2.0, 1.0]}, {"loss": [3.0, 1.0, 1.5, 0.5]})
        >>> history["loss"], len(history.steps["loss"])
        (array([2., 1.]), 4)
        >>> history
        <History of 2 epochs: loss 1>
    """

    def __init__(
        self,
        epochs: Mapping[str, Any],
        steps: Mapping[str, Any],
        best_epoch: int | None = None,
        stopped: bool = False,
    ) -> None:
        self._epochs = {name: np.asarray(values) for name, values in epochs.items()}
        self.steps = {name: np.asarray(values) for name, values in steps.items()}
        self.best_epoch = best_epoch
        self.stopped = stopped

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._epochs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._epochs)

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        numbers = {n: a for n, a in self.items() if a.ndim == 1 and len(a)}
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in numbers.items())
        return f"<History of {self._length()} epochs{': ' if last else ''}{last}>"

    def _length(self) -> int:
        return max(map(len, self.values()), default=0)

    def _repr_html_(self) -> str:
        numbers = {n: a for n, a in self.items() if a.ndim == 1}
        heads = "".join(f"<th>{html.escape(name)}</th>" for name in ("epoch", *numbers))
        rows = "".join(
            f"<tr{' style=font-weight:bold' if i + 1 == self.best_epoch else ''}><td>{i + 1}</td>"
            + "".join(f"<td>{values[i]:.4g}</td>" for values in numbers.values())
            + "</tr>"
            for i in range(self._length())
        )
        return f"<table><tr>{heads}</tr>{rows}</table>"

    def _repr_png_(self) -> bytes | None:
        if not self._length():
            return None
        content = BytesIO()
        self.plot().savefig(content, format="png", dpi=100)
        return content.getvalue()

    def plot(self) -> Any:
        """Return a Matplotlib figure of losses, rates and metrics over the epochs.

        Raises:
            ImportError: Matplotlib is missing.

        Example:
            >>> from agrad.train import History
            >>> figure = History({"loss": [2.0, 1.0], "rate": [0.1, 0.1]}, {}).plot()
            >>> [axes.get_ylabel() for axes in figure.axes]
            ['loss', 'rate']
        """
        panels: dict[str, dict[str, NDArray[Any]]] = {}
        for name, values in self.items():
            if values.ndim == 1 and name != "seconds" and not np.isnan(values).all():
                kind = name.removeprefix("validation_")
                panels.setdefault(kind, {})["validation" if kind != name else "training"] = values
        figure = optional_import("matplotlib.figure", "plots").Figure(
            figsize=(6.4, 0.6 + 1.9 * max(1, len(panels))), layout="constrained"
        )
        grid = figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (kind, curves) in zip(grid, panels.items()):
            for label, values in curves.items():
                axes.plot(np.arange(1, len(values) + 1), values, marker=".", label=label)
            positive = all(np.nanmin(values) > 0 for values in curves.values())
            if kind in ("loss", "rate") and positive:
                axes.set_yscale("log")
            if self.best_epoch is not None:
                axes.axvline(self.best_epoch, color="0.7", linewidth=1, zorder=0)
            axes.set_ylabel(kind)
            axes.grid(alpha=0.3)
            if len(curves) > 1:
                axes.legend()
        grid[-1].set_xlabel("epoch")
        return figure


class Series:
    """Lists of numbers or arrays by name, to which a training adds, and their state."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}

    def add(self, **entries: Any) -> None:
        """Append an entry to each list."""
        for name, entry in entries.items():
            self.values.setdefault(name, []).append(math.nan if entry is None else entry)

    def state_dict(self) -> dict[str, Any]:
        """Return the lists as arrays."""
        return {name: np.asarray(values) for name, values in self.values.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the lists from arrays."""
        self.values = {name: list(np.asarray(values)) for name, values in state.items()}
