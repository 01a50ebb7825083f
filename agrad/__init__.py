"""Tensors with automatic differentiation, and average gradients along an update."""

from importlib.metadata import version as _version

from agrad import data as data
from agrad import errors as errors
from agrad import nn as nn
from agrad import optim as optim
from agrad import random as random
from agrad.anomaly import detect_anomaly as detect_anomaly
from agrad.average import average_gradient as average_gradient
from agrad.capture import capture as capture
from agrad.functions import *  # noqa: F403
from agrad.mode import is_grad_enabled as is_grad_enabled
from agrad.mode import no_grad as no_grad
from agrad.random import seed as seed
from agrad.serialization import load as load
from agrad.serialization import save as save
from agrad.tensor import Tensor as Tensor
from agrad.tensor import tensor as tensor

__version__ = _version("agrad")
