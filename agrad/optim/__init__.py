"""Optimizers: base rules, the average gradient around any of them, schedules, clipping, averages.

A rule gives PyTorch's numbers for PyTorch's arguments.
"""

from agrad.optim.adam import Adam, AdamW
from agrad.optim.average_gradient import AverageGradient
from agrad.optim.optimizer import Optimizer
from agrad.optim.rmsprop import RMSprop
from agrad.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "AverageGradient", "Optimizer", "RMSprop"]
