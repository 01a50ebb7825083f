"""The evaluation mode of a model for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from agrad.core.context import no_grad
from agrad.nn.module import Module

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Put a model into evaluation mode inside the block, without gradients or NumPy's warnings."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with no_grad(), np.errstate(over="ignore", invalid="ignore"):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
