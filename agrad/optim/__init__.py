"""Optimizers: base rules, the average gradient around any of them, schedules, clipping, averages.

The base rules and schedules give PyTorch's numbers for PyTorch's arguments. Use `Rule` and
`RuleOptimizer` to write your own.
"""

from agrad.optim.adam import Adam, AdamW
from agrad.optim.average_gradient import AverageGradient
from agrad.optim.clip import clip_grad_norm_, clip_grad_value_
from agrad.optim.ema import EMA
from agrad.optim.group import ParameterGroup
from agrad.optim.muon import Muon
from agrad.optim.optimizer import Optimizer
from agrad.optim.rmsprop import RMSprop
from agrad.optim.rule import Rule
from agrad.optim.rule_optimizer import RuleOptimizer
from agrad.optim.schedule import (
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    Schedule,
    SequentialLR,
    StepLR,
)
from agrad.optim.sgd import SGD

__all__ = [
    "EMA",
    "SGD",
    "Adam",
    "AdamW",
    "AverageGradient",
    "CosineAnnealingLR",
    "LinearLR",
    "Muon",
    "OneCycleLR",
    "Optimizer",
    "ParameterGroup",
    "RMSprop",
    "ReduceLROnPlateau",
    "Rule",
    "RuleOptimizer",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]
