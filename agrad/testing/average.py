"""Average gradients against the change of the function, and against quadrature."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array
from agrad.core.average import average_gradient
from agrad.core.program import topological_order
from agrad.core.tensor import Tensor
from agrad.ops.operation import Linear, Operation
from agrad.testing.order import largest, length, measure_order
from agrad.testing.report import AverageReport, CheckError
from agrad.testing.subject import Subject, fresh_gradients, swept_average

__all__ = ["check_average_gradients"]


def check_average_gradients(
    f: Callable[..., Tensor] | Operation,
    params: Sequence[Tensor],
    update: Mapping[Tensor, ArrayLike],
    *,
    tolerance: float = 1e-9,
    seed: int = 0,
) -> AverageReport:
    """Check the average gradients ĝ of a function along an update Δ.

    Of a randomly weighted sum L of f's elements it checks

    - completeness: ⟨ĝ, Δ⟩ = L(θ + Δ) - L(θ), and that running the recorded graph again at θ + Δ
      gives what f gives there;
    - Δ = 0, where ĝ must be the gradient, and a tiny Δ, where it must nearly be: a quotient of
      differences would be nothing but rounding;
    - linear maps: where every recorded operation is `Linear`, ĝ is the gradient for any Δ;
    - the order: as Δ is halved ĝ must approach the true average, by quadrature, as Δ² or faster.

    It cannot detect: an error of the gradient itself (`check_gradients` does); an error of a ĝ that
    is complete, symmetric in start and end, and right to second order, such as the midpoint's
    Jacobian where a kind has an exact one, if the order is all that tells them apart; an error at
    other values, updates, shapes or options than those given; rounding in float32; and, where a
    kink lies on every path tried, the order, which is then reported as None. An error smaller than
    `tolerance`, relative to the largest gradients and the terms that are summed, passes.

    Args:
        f: a function of Tensors, of which it returns one; a Module, whose parameters then count as
            `params` that f is not called with; or an `Operation`. It must give the same at every
            call.
        params: the Tensors that f is called with; those that require a gradient are leaves.
            Values, gradients and a Module's buffers are afterwards what they were.
        update: for each moving leaf its Δ, of its shape; the others stay put.
        tolerance: of the identities, relative.
        seed: of the weights of L; the same seed repeats a check.

    Raises:
        CheckError: ĝ is wrong. The message names the identity, the input and the index.
        TypeError: a leaf in float32, where identities of 1e-9 drown in rounding; a result that is
            no float64 Tensor.
        ValueError: nothing to differentiate by; an update of another shape, or for a Tensor that is
            no leaf; f gives different values for the same inputs, or ones that are not finite.
        AverageUndefinedError: an operation without a kind.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad.testing import check_average_gradients
        >>> x = ag.tensor(np.array([0.5, -1.0]), requires_grad=True)
        >>> report = check_average_gradients(ag.tanh, [x], {x: [0.25, 0.5]})
        >>> report.order  # one elementwise operation: ĝ is the true average
        inf
    """
    subject = Subject("check_average_gradients", f, params)
    with subject.restored():
        return _Check(subject, update, tolerance, seed).run()


class _Check:
    """The checks of one function, at its params, along one update."""

    def __init__(
        self, subject: Subject, update: Mapping[Tensor, ArrayLike], tolerance: float, seed: int
    ) -> None:
        self.subject = subject
        self.leaves = list(subject.leaves.values())
        self.moves = {leaf: np.asarray(delta, dtype=float) for leaf, delta in update.items()}
        self.tolerance = tolerance
        self.out = subject.record_twice()
        rng = np.random.default_rng(seed)
        self.weights = rng.uniform(0.5, 1, self.out.shape) * rng.choice([-1, 1], self.out.shape)

    def run(self) -> AverageReport:
        change, incompleteness, averages = self._check_completeness()
        gradients = self._gradients()
        self.scale = largest(*gradients.values()) + self._terms(self.out.data)
        still = {leaf: np.zeros(leaf.shape) for leaf in self.leaves}
        _, at_rest = swept_average(self._loss(), self.leaves, still)
        self._compare("for an update of 0, where it is the gradient", at_rest, gradients, 1)
        self._check_tiny_update()
        nodes = topological_order(self._loss().node)
        if all(isinstance(node.operation, Linear) for node in nodes[:-2]):  # weighted and summed
            where = "for operations that are all Linear, where it is the gradient"
            self._compare(where, averages, gradients, 1)
        return AverageReport(change, incompleteness, self._check_order())

    def _loss(self) -> Tensor:
        return (self.subject.record() * self.weights).sum()

    def _terms(self, out: Array) -> float:
        return float(np.abs(self.weights * out).sum())

    def _gradients(self) -> dict[Tensor, Array]:
        gradients = self.subject.gradients(self._loss(), np.ones(()))
        return dict(zip(self.leaves, gradients, strict=True))

    def _check_tiny_update(self) -> None:
        """Compare ĝ with the gradient halfway, which even next to a kink is on the same side."""
        size = length(self.moves)
        if size == 0:
            return
        tiny = {leaf: delta * (1e-12 / size) for leaf, delta in self.moves.items()}
        halfway = average_gradient(self._loss, self._reached(), tiny, nodes=1)
        _, averages = swept_average(self._loss(), self.leaves, tiny)
        expected = {leaf: halfway.get(leaf, np.zeros(leaf.shape)) for leaf in self.leaves}
        # Start and end are rounded to 1e-16, the step between them to a part in 10⁴.
        where = "for an update scaled to 1e-12, where it is nearly the gradient"
        self._compare(where, averages, expected, 1e3)

    def _check_completeness(self) -> tuple[float, float, dict[Tensor, Array]]:
        loss = self._loss()
        end, averages = swept_average(loss, self.leaves, self.moves)
        starts = self.subject.values
        ends = [leaf.data + self.moves.get(leaf, 0.0) for leaf in self.leaves]
        out = self.subject.evaluate(ends)
        self.subject.move(starts)
        terms = self._terms(self.out.data) + self._terms(out)
        value = float((self.weights * out).sum())
        if not abs(float(end) - value) <= self.tolerance * terms:
            raise CheckError(
                "check_average_gradients: the recorded graph, run again at the end of the update, "
                "gives another value than f there: an operation keeps values between calls, or f "
                "takes another path",
                expected=value,
                found=float(end),
            )
        change = value - float(loss.data)
        along = sum(float((averages[leaf] * delta).sum()) for leaf, delta in self.moves.items())
        for leaf, start, stop in zip(self.leaves, starts, ends, strict=True):
            terms += float((np.abs(averages[leaf]) * (np.abs(start) + np.abs(stop))).sum())
        incompleteness = abs(along - change) / max(terms, np.finfo(float).tiny)
        if not incompleteness <= self.tolerance:
            raise CheckError(
                "check_average_gradients: the average gradient is not complete: its product with "
                f"the update misses the change of the function by {incompleteness:.1e} of the "
                "terms that are summed; is an operation of the kind that it derives from?",
                expected=change,
                found=along,
            )
        return change, incompleteness, averages

    def _check_order(self) -> float | None:
        params = self._reached()
        moves = {leaf: delta for leaf, delta in self.moves.items() if leaf in set(params)}
        if length(moves) == 0:
            return math.inf
        order = measure_order(self._loss, params, moves)
        if order is not None and order < 1.5:
            raise CheckError(
                "check_average_gradients: the average gradient approaches the true average, by "
                "quadrature, as the update's power shown here; is an operation's averaged Jacobian "
                "symmetric in start and end?",
                expected=2.0,
                found=order,
            )
        return order

    def _reached(self) -> list[Tensor]:
        """Return the leaves that the function depends on."""
        loss = self._loss()
        with fresh_gradients(loss):
            loss.backward()
            return [leaf for leaf in self.leaves if leaf.grad is not None]

    def _compare(
        self,
        where: str,
        found: Mapping[Tensor, Array],
        expected: Mapping[Tensor, Array],
        times: float,
    ) -> None:
        """Raise for the element that is off the most, if it is more than the tolerance."""
        for name, leaf in self.subject.leaves.items():
            off = np.abs(found[leaf] - expected[leaf])
            if not largest(off) <= times * self.tolerance * self.scale:
                index = np.unravel_index(int(np.argmax(off)), off.shape)
                place = tuple(int(n) for n in index)
                raise CheckError(
                    f"check_average_gradients: the average gradient by {name}, of shape "
                    f"{leaf.shape}, is wrong at index {place} {where}",
                    expected=float(expected[leaf][index]),
                    found=float(found[leaf][index]),
                    input=name,
                    index=place,
                )
