"""Check gradients against central differences."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from agrad.backend import Array
from agrad.core.tensor import Tensor
from agrad.ops.operation import Operation
from agrad.testing.audit import Terms, audit
from agrad.testing.differences import EPS, Slope, slope
from agrad.testing.order import largest
from agrad.testing.report import CheckError, GradientReport, Kink
from agrad.testing.single import compare_gradients, signs
from agrad.testing.subject import Subject

__all__ = ["check_gradients"]

MOST_KINKS = 100
_ULPS = 256
"""The rounding error allowed in a gradient, in ulps of the largest term of its array."""


def check_gradients(
    f: Callable[..., Tensor] | Operation,
    *inputs: Any,
    directions: int = 3,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> GradientReport:
    """Check the gradients of a function against central differences along random directions.

    A direction moves all elements together. Along it, the derivative of a randomly weighted sum of
    f's elements must agree with `backward`. If it does not, the direction is halved until a single
    element is left, which the error names. Shorter steps avoid kinks close to the inputs. Elements
    at a kink are left out and reported, since no gradient is right or wrong there. Where the terms
    of a sum cancel, the check allows for their rounding.

    If a leaf is float32, the same function of float64 copies is checked in this way. The values and
    the gradients in float32 must then agree with those in float64.

    The check cannot detect:

    - errors smaller than `tolerance` relative to the terms that are summed, for example in a small
      element among large ones; use inputs of similar magnitude;
    - errors at other inputs, shapes or options; generate them with `agrad.testing.strategies`;
    - a wrong `forward`, which it differentiates without question;
    - a wrong choice at a kink;
    - overflow, or a loss of digits that float64 hides; in float32, errors below 3e-5 of the largest
      terms;
    - errors of average gradients; use `check_average_gradients`.

    Args:
        f: A function of Tensors that returns a Tensor; a Module, whose parameters are then checked
            too; or an `Operation`. It must give the same result at every call.
        inputs: The arguments of f. Float64 and float32 arrays and Tensors that require a gradient
            are checked; all others, such as integers, are constant. f receives each in its own
            memory layout, unless its elements share memory. Values, gradients and the buffers of a
            Module are restored afterwards.
        directions: The number of random directions, each with its own weights.
        tolerance: The tolerance relative to the sum of the absolute terms of the derivative.
        seed: The seed of directions and weights; the same seed repeats a check.

    Returns:
        The number of elements checked, and those left out because they are at kinks.

    Raises:
        CheckError: A gradient is wrong or not finite; or f or the backward pass of an operation
            changes an array in place, or returns gradients that do not fit the inputs.
        TypeError: f does not return a Tensor of the dtype of the leaves.
        ValueError: Nothing requires a gradient; f is not deterministic or not finite at these
            inputs; more than 100 elements, or all of them, are at kinks; or `directions` is below
            1.

    Example:
        >>> import numpy as np
        >>> import agrad.nn.functional as F
        >>> from agrad.testing import check_gradients
        >>> check_gradients(F.relu, np.array([-1.0, 0.0, 2.0]))
        GradientReport(elements=3, kinks=(Kink(input='input 0', index=(1,)),))
    """
    if directions < 1:
        raise ValueError(f"check_gradients: directions must be at least 1, got {directions}")
    subject = Subject("check_gradients", f, inputs)
    if not subject.is_single:
        return _check(subject, directions, tolerance, seed)
    double = subject.in_double()
    report = _check(double, directions, tolerance, seed)
    with subject.restored(), double.restored():
        compare_gradients(subject, double, directions, seed)
    return report


def _check(subject: Subject, directions: int, tolerance: float, seed: int) -> GradientReport:
    rng = np.random.default_rng(seed)
    with subject.restored():
        out = subject.record_twice()
        terms = audit(subject.owner, out)
        elements = _Elements(subject)
        kinks: set[int] = set()
        for i in range(directions):
            # Operations must accept gradients in either memory order.
            order: Any = "CF"[i % 2]
            _Search(subject, elements, terms, out.shape, order, tolerance, rng, kinks).examine()
        names = tuple(Kink(*elements.name(i)) for i in sorted(kinks))
        if elements.count == len(kinks) > 0:
            raise ValueError(
                f"check_gradients: nothing could be checked: all {elements.count} elements are at "
                f"kinks or at the edge of the domain, the first at {names[0].index} of "
                f"{names[0].input}; use inputs away from them, such as random ones"
            )
        return GradientReport(elements.count, names)


class _Elements:
    """The elements of all leaves, numbered consecutively."""

    def __init__(self, subject: Subject) -> None:
        self.names = list(subject.leaves)
        self.shapes = [leaf.shape for leaf in subject.leaves.values()]
        self.ends = np.cumsum([leaf.size for leaf in subject.leaves.values()])
        self.count = int(self.ends[-1])
        self.start = self.join(subject.values)

    def name(self, i: int) -> tuple[str, tuple[int, ...]]:
        """Return the name of an element's leaf, and the element's index in it."""
        leaf = int(np.searchsorted(self.ends, i, side="right"))
        i -= int(self.ends[leaf - 1]) if leaf else 0
        return self.names[leaf], tuple(int(n) for n in np.unravel_index(i, self.shapes[leaf]))

    def join(self, arrays: list[Array]) -> Array:
        return np.concatenate([np.ravel(array) for array in arrays])

    def split(self, flat: Array) -> list[Array]:
        parts = np.split(flat, self.ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]


class _Search:
    """The search for an element at which the gradient of a weighted sum is wrong."""

    def __init__(
        self,
        subject: Subject,
        elements: _Elements,
        terms: Terms,
        shape: tuple[int, ...],
        order: Any,
        tolerance: float,
        rng: np.random.Generator,
        kinks: set[int],
    ) -> None:
        self.subject = subject
        self.elements = elements
        self.tolerance = tolerance
        self.rng = rng
        self.kinks = kinks
        self.start = elements.start
        self.weights = signs(rng, shape, order)
        self.scale = terms.value
        magnitudes = [
            np.full(leaf.shape, largest(terms.gradients.get(leaf, np.zeros(1))))
            for leaf in subject.leaves.values()
        ]
        self.rounding = _ULPS * EPS * self.elements.join(magnitudes)
        subject.move(self.elements.split(self.start))
        gradients = subject.gradients(subject.record(), self.weights)
        self.gradient = self.elements.join(gradients)

    def examine(self) -> None:
        """Raise if an element is wrong; add elements without a derivative to `kinks`."""
        unusable = ~np.isfinite(self.gradient)
        if unusable.any():
            self._blame(int(np.argmax(unusable)))
        left = np.setdiff1d(np.arange(self.elements.count), sorted(self.kinks))
        self._examine(left)

    def _examine(self, elements: Array) -> None:
        if not elements.size:
            return
        direction = signs(self.rng, elements.size) * np.maximum(1, np.abs(self.start[elements]))
        discrepancy, kinked = self._compare(elements, direction)
        if not discrepancy:
            return
        if kinked and elements.size > 1:
            for half in np.array_split(elements, 2):
                self._examine(half)
            return
        worst = elements
        while worst.size > 1:
            halves = zip(np.array_split(worst, 2), np.array_split(direction, 2), strict=True)
            worst, direction = max(halves, key=lambda half: self._compare(*half)[0])
        if not self._compare(worst, direction)[1]:
            self._blame(int(worst[0]))
        self._leave_out(int(worst[0]))
        self._examine(np.setdiff1d(elements, worst))

    def _leave_out(self, i: int) -> None:
        self.kinks.add(i)
        if len(self.kinks) > MOST_KINKS:
            name, index = self.elements.name(min(self.kinks))
            raise ValueError(
                f"check_gradients: more than {MOST_KINKS} elements are at kinks, the first at "
                f"{index} of {name}; use inputs away from kinks, such as random ones"
            )

    def _compare(self, elements: Array, direction: Array) -> tuple[float, bool]:
        """Return the gradient's error along a direction, or 0, and whether a kink may cause it."""
        measured = self._measure(elements, direction)
        terms = self.gradient[elements] * direction
        allowed = self.tolerance * (np.abs(terms).sum() + abs(measured.value)) + 8 * measured.noise
        allowed += float((self.rounding[elements] * np.abs(direction)).sum())
        if not measured.error <= allowed:  # no step is accurate: kinks, or the edge of the domain
            return math.inf, True
        discrepancy = abs(float(terms.sum()) - measured.value)
        if discrepancy <= allowed + measured.error:
            return 0.0, False
        return discrepancy, measured.jump > 1e-3 * discrepancy

    def _measure(self, elements: Array, direction: Array) -> Slope:
        def along(step: float) -> float:
            values = self.start.copy()
            values[elements] += step * direction
            out = self.subject.evaluate(self.elements.split(values))
            return float((self.weights * out).sum())

        with np.errstate(all="ignore"):  # a step may leave the domain
            return slope(along, self.scale)

    def _blame(self, i: int) -> None:
        element = np.array([i])
        unit = np.maximum(1, np.abs(self.start[element]))
        measured = self._measure(element, unit)
        name, index = self.elements.name(i)
        shape = self.subject.leaves[name].shape
        raise CheckError(
            f"check_gradients: the gradient of {name}, of shape {shape}, is wrong at index {index} "
            "(of a randomly weighted sum of f's elements; expected from central differences)",
            expected=float(measured.value / unit[0]),
            found=float(self.gradient[i]),
            input=name,
            index=index,
        )
