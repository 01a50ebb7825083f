"""A small network, and an optimizer of every kind, for tests that train."""

from collections.abc import Callable, Iterable
from typing import Any

import agrad as ag
from agrad import nn, optim


def in_groups(params: Iterable[Any]) -> list[dict[str, Any]]:
    """Return two groups: biases, and all others."""
    listed = list(params)
    return [
        {"params": [p for p in listed if p.ndim > 1]},
        {"params": [p for p in listed if p.ndim < 2], "lr": 0.02, "weight_decay": 0.0},
    ]


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "plain SGD": lambda p: optim.SGD(p, lr=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, centered=True, momentum=0.5),
    "Adam": lambda p: optim.Adam(p, amsgrad=True),
    "AdamW": optim.AdamW,
    "Muon": lambda p: optim.Muon(p, lr=0.01),
    "cautious AdamW": lambda p: optim.AdamW(p, lr=0.01, cautious=True),
    "cautious Muon": lambda p: optim.Muon(
        p, lr=0.01, rmsprop={"momentum": 0.9, "cautious": True}, cautious=True
    ),
    "groups": lambda p: optim.AdamW(in_groups(p), lr=0.01),
    **{
        f"average by {granularity}": lambda p, g=granularity: optim.AverageGradient(
            optim.Adam(p, lr=1e-3), granularity=g, every=2, lr="auto", probe_size=8
        )
        for granularity in ("element", "row", "tensor", "model")
    },
}


def network(seed: int = 0) -> nn.Sequential:
    ag.seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 16),
        nn.LayerNorm(16),
        nn.Tanh(),
        nn.Linear(16, 16),
        nn.GELU(),
        nn.Linear(16, 10),
    )
