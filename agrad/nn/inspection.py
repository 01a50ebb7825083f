"""A table of a model's layers, with the shapes of their outputs and their parameters."""

import html
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from agrad.core.tensor import Tensor
from agrad.nn.modes import evaluating
from agrad.nn.module import Module

__all__ = ["LayerSummary", "Summary", "summary"]


@dataclass(frozen=True)
class LayerSummary:
    """One call of a module.

    Attributes:
        name: The module's name in the model; "" for the model itself.
        kind: The name of its class.
        output: The shape of its output, or the shapes of several.
        parameters: The number of its own parameters, without those of its children.
    """

    name: str
    kind: str
    output: Any
    parameters: int


@dataclass(frozen=True)
class Summary:
    """A table of the layers, which prints as text.

    Attributes:
        layers: The calls of modules, in order.
        parameters: The number of the model's parameters, each counted once.
        trainable: How many of them are trained.
    """

    layers: list[LayerSummary]
    parameters: int
    trainable: int

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (layer.name, layer.kind, str(layer.output), f"{layer.parameters:,}")
            for layer in self.layers
        ]

    def __str__(self) -> str:
        rows = [("layer", "type", "output", "parameters"), *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = []
        for row in rows:
            words = [cell.ljust(width) for cell, width in zip(row[:-1], widths)]
            lines.append("  ".join([*words, row[-1].rjust(widths[-1])]))
        return "\n".join([*lines, self._total()])

    def _total(self) -> str:
        return f"{self.parameters:,} parameters, {self.trainable:,} trainable"

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{name}</th>" for name in ("layer", "type", "output", "parameters"))
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        return f"<table><tr>{heads}</tr>{rows}</table><p>{self._total()}</p>"

    __repr__ = __str__


def summary(model: Module, *inputs: Any) -> Summary:
    """Return a table of a model's layers: the shapes of their outputs, and their parameters.

    The model is called once, in evaluation mode and without gradients.

    Args:
        model: The model.
        inputs: The inputs of a call, such as a batch of one example.

    Returns:
        The table, which prints as text and is shown as a table in notebooks. A module that is
        called several times has a row for each call.

    Raises:
        TypeError: `model` is not a Module.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad import nn
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> print(ag.summary(model, np.zeros((1, 3), np.float32)))
        layer  type        output  parameters
        0      Linear      (1, 8)          32
        1      Tanh        (1, 8)           0
        2      Linear      (1, 2)          18
               Sequential  (1, 2)           0
        50 parameters, 50 trainable
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: model must be a Module, got a {type(model).__name__}")
    layers: list[LayerSummary] = []

    def note(name: str, module: Module, _: tuple[Any, ...], output: Any) -> None:
        children = {id(p) for child in module.children() for p in child.parameters()}
        own = sum(p.size for p in module.parameters() if id(p) not in children)
        layers.append(LayerSummary(name, type(module).__name__, _shape(output), own))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.enter_context(module.register_forward_hook(partial(note, name)))
        stack.enter_context(evaluating(model))
        model(*inputs)
    parameters = list(model.parameters())
    trainable = sum(p.size for p in parameters if p.requires_grad)
    return Summary(layers, sum(p.size for p in parameters), trainable)


def _shape(output: Any) -> Any:
    """Return the shape of a Tensor, or a list of those of several."""
    if isinstance(output, Tensor):
        return output.shape
    if isinstance(output, tuple | list):
        return [_shape(part) for part in output]
    return type(output).__name__
