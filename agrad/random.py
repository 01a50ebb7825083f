"""The random generator for initial weights, dropout and the order of batches.

Each thread has its own generator, so other threads do not affect a training. Unless `seed` is
called, a thread's generator starts from the operating system's entropy.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from agrad.arguments import integer

__all__ = ["generator", "get_state", "seed", "seeded", "set_state"]


class _Local(threading.local):
    def __init__(self) -> None:  # runs once in every thread that uses it
        self.generator = np.random.Generator(np.random.PCG64())


_local = _Local()


def generator() -> np.random.Generator:
    """Return the generator of the calling thread, the same object at every call.

    Example:
        >>> import agrad as ag
        >>> ag.seed(0)
        >>> ag.random.generator().integers(10, size=5)
        array([8, 6, 5, 2, 3])
    """
    return _local.generator


def seed(n: int) -> None:
    """Reset the calling thread's generator to the state of `numpy.random.default_rng(n)`.

    The seed determines the weights, dropout masks and batch orders that this thread creates
    afterwards, no matter what other threads draw.

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
    n = integer("seed", "n", n, least=0)
    _local.generator.bit_generator.state = np.random.PCG64(n).state


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Inside the block, the calling thread's draws depend on the numbers alone.

    Afterwards the thread's generator is in the state it had before.

    Args:
        numbers: Non-negative integers; different ones give independent draws.

    Example:
        >>> import agrad as ag
        >>> with ag.random.seeded(7, 1):
        ...     first = ag.random.generator().normal()
        >>> with ag.random.seeded(7, 1):
        ...     first == ag.random.generator().normal()
        True
    """
    before = get_state()
    # PCG64 ignores zeros at the end of a seed, so the last word must not be 0.
    _local.generator.bit_generator.state = np.random.PCG64([*numbers, 1]).state
    try:
        yield
    finally:
        _local.generator.bit_generator.state = before


def get_state() -> dict[str, Any]:
    """Return the state of the calling thread's generator, which JSON and `ag.save` can store.

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
    """Set the calling thread's generator to a state that `get_state` returned.

    Raises:
        ValueError: `state` is not such a state; the generator is unchanged.

    Example:
        >>> import agrad as ag
        >>> ag.seed(0)
        >>> state = ag.random.get_state()
        >>> ag.seed(1)
        >>> ag.random.set_state(state)
        >>> ag.random.generator().integers(10, size=5)
        array([8, 6, 5, 2, 3])
    """
    trial: Any = np.random.PCG64(0)
    try:
        trial.state = state
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"set_state: not a state of the random generator ({error!r}); "
            "pass a result of agrad.random.get_state"
        ) from error
    _local.generator.bit_generator.state = trial.state
