"""Compare float32 results with those of the same function in float64, which is checked itself.

Central differences say little in float32, where rounding hides most of a difference. So each
float32 result is compared with its float64 counterpart. How far they may differ depends on the
terms that are summed, and on how much the float64 result changes when its inputs change by a
rounding error of float32.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.core.tensor import Tensor
from agrad.testing.audit import audit
from agrad.testing.order import largest
from agrad.testing.report import CheckError
from agrad.testing.subject import Subject, swept_average

__all__ = ["compare_averages", "compare_gradients", "signs"]

_ULPS = 256
"""The rounding error allowed in a result, in ulps of its terms, which may cancel."""
_EPS = float(np.finfo(np.float32).eps)
_DRAWS = 3

Results = Sequence[Array]  # the value, and then an array for each leaf


def signs(rng: np.random.Generator, shape: Any, order: Any = "C") -> Array:
    """Return random numbers from ±½ to ±1, none so small that it would hide an element."""
    size = rng.uniform(0.5, 1, shape)
    return np.asarray(size * rng.choice([-1.0, 1.0], shape), order=order)


def compare_gradients(single: Subject, double: Subject, directions: int, seed: int) -> None:
    """Compare the value and the gradients of float32 leaves with those in float64.

    Raises:
        CheckError: They differ by more than rounding explains, or a backward pass misbehaves.
    """
    rng = np.random.default_rng(seed)
    out = single.record_twice()
    audit(single.owner, out)
    terms = audit(double.owner, double.record())
    sizes = [np.asarray(terms.value), *_of(double, terms.gradients)]
    for i in range(directions):
        order: Any = "CF"[i % 2]
        weights = signs(rng, out.shape, order).astype(np.float32)

        def results(subject: Subject, weights: Array = weights) -> Results:
            out = subject.record()
            value = np.asarray((weights * out.data.astype(float)).sum())
            return value, *subject.gradients(out, weights.astype(out.dtype))

        _compare(single, double, results, sizes, rng, "gradient")


def compare_averages(
    single: Subject, double: Subject, moves: Mapping[Tensor, Array], weights: Array
) -> None:
    """Compare the end and the average gradients of float32 leaves with those in float64.

    Args:
        single: The function.
        double: The same function in float64.
        moves: Where float64 leaves move; the ends must be float32 numbers.
        weights: The weights of the function's elements.

    Raises:
        CheckError: They differ by more than rounding explains, or a backward pass misbehaves.
    """
    weights = weights.astype(np.float32)

    def loss(subject: Subject) -> Tensor:
        total: Tensor = (subject.record() * weights.astype(subject.dtype)).sum()
        return total

    def results(subject: Subject) -> Results:
        update = dict(zip(subject.leaves.values(), _of(double, moves)))
        end, averages = swept_average(loss(subject), list(update), update)
        return end, *averages.values()

    audit(single.owner, loss(single), dict(zip(single.leaves.values(), _of(double, moves))))
    terms = audit(double.owner, loss(double), moves)
    sizes = [np.asarray(terms.value), *_of(double, terms.gradients)]
    _compare(single, double, results, sizes, np.random.default_rng(0), "average gradient")


def _of(subject: Subject, arrays: Mapping[Tensor, Array]) -> list[Array]:
    """Return the array of each leaf, zeros if there is none."""
    return [arrays.get(leaf, np.zeros(leaf.shape)) for leaf in subject.leaves.values()]


def _compare(
    single: Subject,
    double: Subject,
    results: Callable[[Subject], Results],
    sizes: Results,
    rng: np.random.Generator,
    what: str,
) -> None:
    """Compare results in float32 and in float64.

    Raises:
        CheckError: An element is wrong.
    """
    found, expected = results(single), results(double)
    values = double.values
    spreads = [np.zeros(array.shape) for array in expected]
    for _ in range(_DRAWS):
        double.move([x * (1 + _EPS * signs(rng, x.shape)) for x in values])
        nearby = results(double)
        spreads = [np.maximum(s, np.abs(n - e)) for s, n, e in zip(spreads, nearby, expected)]
    double.move(values)
    names = [
        f"the {what} by {name}, of shape {leaf.shape}," for name, leaf in single.leaves.items()
    ]
    names.insert(0, "the value of f (a randomly weighted sum of its elements)")
    for name, leaf, x, y, size, spread in zip(
        names, [None, *single.leaves], found, expected, sizes, spreads
    ):
        excess = np.abs(x - y) - _ULPS * (_EPS * largest(size) + spread)
        wrong = ~(excess <= 0)
        if wrong.any():
            worst = np.argmax(np.where(np.isnan(excess), np.inf, excess))
            index = tuple(map(int, np.unravel_index(worst, wrong.shape)))
            raise CheckError(
                f"{single.owner}: {name} is wrong in float32 at index {index}; expected from "
                "float64",
                expected=float(y[index]),
                found=float(x[index]),
                input=leaf,
                index=index,
            )
