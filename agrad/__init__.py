"""Tensors with automatic differentiation, and average gradients along an update."""

from agrad.average import average_gradient
from agrad.functions import *  # noqa: F403
from agrad.tensor import Tensor, is_grad_enabled, no_grad, tensor
