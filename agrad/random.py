"""The random generator behind initial weights, dropout and the order of batches.

Each thread has one of its own, so that a model trained in one thread of a process comes out as if
it were alone. Until `seed` is called in a thread, its generator starts from the operating system's
entropy. Beside the switch of gradient recording this is the package's only mutable state.
"""

import operator
import threading
from typing import Any

import numpy as np

__all__ = ["generator", "get_state", "seed", "set_state"]


class _Local(threading.local):
    def __init__(self) -> None:  # once in every thread that looks
        self.generator = np.random.Generator(np.random.PCG64())


_local = _Local()


def generator() -> np.random.Generator:
    """Return the calling thread's generator, the same object at every call.

    Example:
        >>> import agrad as ag
        >>> ag.seed(0)
        >>> ag.random.generator().integers(10, size=5)
        array([8, 6, 5, 2, 3])
    """
    return _local.generator


def seed(n: int) -> None:
    """Start the calling thread's generator anew, as `numpy.random.default_rng(n)` starts.

    Whatever other threads draw, a seed decides the weights, dropout masks and batch orders made
    after it in this one.

    Args:
        n: A non-negative integer.

    Raises:
        TypeError: `n` is not an integer.
        ValueError: `n` is negative.

    Example:
        >>> import agrad as ag
        >>> ag.seed(0)
        >>> first = ag.random.generator().normal()
        >>> ag.seed(0)
        >>> first == ag.random.generator().normal()
        True
    """
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"seed: n must be an integer, got {type(n).__name__}") from None
    if n < 0:
        raise ValueError(f"seed: n must not be negative, got {n}")
    _local.generator.bit_generator.state = np.random.PCG64(n).state


def get_state() -> dict[str, Any]:
    """Return the state of the calling thread's generator, which JSON and `ag.save` can hold.

    Example:
        >>> import agrad as ag
        >>> state = ag.random.get_state()
        >>> first = ag.random.generator().normal()
        >>> ag.random.set_state(state)
        >>> first == ag.random.generator().normal()
        True
    """
    return dict(_local.generator.bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Put the calling thread's generator into a state that `get_state` returned.

    Raises:
        ValueError: `state` is not such a state; the generator is left as it was.
    """
    trial: Any = np.random.PCG64(0)
    try:
        trial.state = state
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"set_state: not a state of the random generator ({error!r}); "
            "pass what agrad.random.get_state returned"
        ) from error
    _local.generator.bit_generator.state = trial.state
