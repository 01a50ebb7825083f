"""A problem that optimizers are tested on: a noisy, bumpy bowl of several parameters."""

from functools import cache

import numpy as np
import pytest

import agrad as ag

STEPS = 100
SHAPES = [(5, 7), (7, 3), (3,), ()]
DTYPES = [np.float64, np.float32]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def starts(dtype=np.float64, shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [np.asarray(rng.normal(size=shape)).astype(dtype) for shape in shapes]


@cache
def bowl(step, i, shape):
    rng = np.random.default_rng([step, i])
    return rng.uniform(0.1, 2, shape), rng.normal(size=shape)


def gradient(step, i, theta):
    """Return the gradient of a noisy, bumpy bowl, which depends on where a rule has moved."""
    curvature, noise = bowl(step, i, theta.shape)
    return np.asarray(theta * curvature + np.sin(3 * theta) + noise).astype(theta.dtype)


def leaves(dtype=np.float64, shapes=SHAPES):
    return [ag.tensor(start, requires_grad=True) for start in starts(dtype, shapes)]


def run(optimizer, steps=STEPS, start=0):
    for step in range(start, start + steps):
        for i, param in enumerate(optimizer.params):
            # In every seventh step, one parameter has no gradient.
            param.grad = None if (step + i) % 7 == 3 else gradient(step, i, param.data)
        optimizer.step()
    return [param.data for param in optimizer.params]


def x(**options):
    return ag.tensor([1.0, 2.0], requires_grad=True, **options)
