"""Check average gradients against the change of the function, and against quadrature."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array
from agrad.core.average import average_over_nodes
from agrad.core.program import topological_order
from agrad.core.tensor import Tensor
from agrad.ops.operation import Linear, Operation
from agrad.testing.audit import audit
from agrad.testing.order import largest, length, measure_order
from agrad.testing.report import AverageReport, CheckError
from agrad.testing.single import compare_averages
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

    L is a randomly weighted sum of the elements of f. The check covers

    - completeness: ⟨ĝ, Δ⟩ = L(θ + Δ) - L(θ), and running the recorded graph again at θ + Δ gives
      the value of f there;
    - Δ = 0, where ĝ must equal the gradient, and a tiny Δ, where it nearly must: a difference
      quotient would be pure rounding error;
    - linear maps: if every recorded operation is `Linear`, ĝ is the gradient for any Δ;
    - the order: as Δ is halved, ĝ must approach the true average, computed by quadrature, as Δ² or
      faster;
    - float32 leaves: all of this holds for float64 copies, and ĝ in float32 agrees with ĝ in
      float64.

    The check cannot detect:

    - errors of the gradient itself; `check_gradients` finds them;
    - errors of a ĝ that is complete, symmetric in start and end, and right to second order, such as
      the Jacobian at the midpoint where the kind has an exact one;
    - errors at other values, updates, shapes or options;
    - errors in float32 below 3e-5 of the largest terms;
    - a wrong order, if every path tried crosses a kink; the report then gives None as the order;
    - errors below `tolerance`, relative to the largest gradients and the terms that are summed.

    Args:
        f: A function of Tensors that returns a Tensor; a Module, whose parameters then are leaves
            too; or an `Operation`. It must give the same result at every call.
        params: The Tensors to call f with; those that require a gradient are leaves. Values,
            gradients and the buffers of a Module are restored afterwards.
        update: Δ of each leaf that moves, of the leaf's shape; other leaves do not move.
        tolerance: The relative tolerance of the identities.
        seed: The seed of the weights of L; the same seed repeats a check.

    Returns:
        The change of L along the update, the incompleteness and the order.

    Raises:
        CheckError: ĝ is wrong; the message names the identity, the input and the index. Or f or a
            backward pass of an operation changes an array in place, or returns gradients that do
            not fit the inputs.
        TypeError: f does not return a Tensor of the dtype of the leaves.
        ValueError: Nothing requires a gradient; an update has the wrong shape or belongs to a
            Tensor that is not a leaf; or f is not deterministic or not finite at these inputs.
        AverageUndefinedError: An operation has no kind.

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
        if not subject.is_single:
            return _Check(subject, _moves(subject, update), tolerance, seed).run()
        double = subject.in_double()
        twins = dict(zip(subject.leaves.values(), double.leaves.values()))
        # float32 rounds the end of the update, and both dtypes must end at the same point.
        moves = {
            twins.get(leaf, leaf): (leaf.data + move).astype(leaf.dtype) - leaf.data.astype(float)
            for leaf, move in _moves(subject, update).items()
        }
        with double.restored():
            check = _Check(double, moves, tolerance, seed)
            report = check.run()
            compare_averages(subject, double, moves, check.weights)
        return report


def _moves(subject: Subject, update: Mapping[Tensor, ArrayLike]) -> dict[Tensor, Array]:
    """Return the updates as float64 arrays, each in the memory layout of its leaf."""
    moves = {}
    for i, (leaf, delta) in enumerate(update.items()):
        array = np.asarray(delta, dtype=float)
        if not any(leaf is known for known in subject.leaves.values()):
            raise ValueError(
                f"check_average_gradients: update {i} belongs to a Tensor that is not a leaf of f"
            )
        if array.shape != leaf.shape:
            raise ValueError(
                f"check_average_gradients: update {i} has shape {array.shape}, its leaf "
                f"{leaf.shape}"
            )
        moves[leaf] = np.empty_like(leaf.data, dtype=float)
        moves[leaf][...] = array
    return moves


class _Check:
    """The checks of one function at its parameters, along one update."""

    def __init__(
        self, subject: Subject, moves: Mapping[Tensor, Array], tolerance: float, seed: int
    ) -> None:
        self.subject = subject
        self.leaves = list(subject.leaves.values())
        self.moves = moves
        self.tolerance = tolerance
        self.out = subject.record_twice()
        rng = np.random.default_rng(seed)
        self.weights = rng.uniform(0.5, 1, self.out.shape) * rng.choice([-1, 1], self.out.shape)

    def run(self) -> AverageReport:
        at_start = audit(self.subject.owner, self._loss())
        along = audit(self.subject.owner, self._loss(), self.moves)
        change, incompleteness, averages = self._check_completeness(along.value)
        gradients = self._gradients()
        self.scale = max(at_start.largest, along.largest) + at_start.value
        still = {leaf: np.zeros(leaf.shape) for leaf in self.leaves}
        _, at_rest = swept_average(self._loss(), self.leaves, still)
        self._compare("for an update of 0, where it equals the gradient", at_rest, gradients, 1)
        self._check_tiny_update()
        last = self._loss().node
        assert last is not None
        nodes = list(topological_order(last))
        if all(isinstance(node.operation, Linear) for node in nodes[:-2]):  # weighted and summed
            where = "for operations that are all Linear, where it equals the gradient"
            self._compare(where, averages, gradients, 1)
        return AverageReport(change, incompleteness, self._check_order())

    def _loss(self) -> Tensor:
        loss: Tensor = (self.subject.record() * self.weights).sum()
        return loss

    def _gradients(self) -> dict[Tensor, Array]:
        gradients = self.subject.gradients(self._loss(), np.ones(()))
        return dict(zip(self.leaves, gradients, strict=True))

    def _check_tiny_update(self) -> None:
        """Compare ĝ with the gradient halfway, which is on the same side even next to a kink."""
        size = length(self.moves)
        if size == 0:
            return
        tiny = {leaf: delta * (1e-12 / size) for leaf, delta in self.moves.items()}
        halfway = average_over_nodes(self._loss, self._reached(), tiny, nodes=1)
        _, averages = swept_average(self._loss(), self.leaves, tiny)
        expected = {leaf: halfway.get(leaf, np.zeros(leaf.shape)) for leaf in self.leaves}
        # Start and end are rounded to 1e-16, so the step between them is accurate to 1 in 10⁴.
        where = "for an update scaled to 1e-12, where it nearly equals the gradient"
        self._compare(where, averages, expected, 1e3)

    def _check_completeness(self, terms: float) -> tuple[float, float, dict[Tensor, Array]]:
        loss = self._loss()
        end, averages = swept_average(loss, self.leaves, self.moves)
        starts = self.subject.values
        ends = [leaf.data + self.moves.get(leaf, 0.0) for leaf in self.leaves]
        out = self.subject.evaluate(ends)
        self.subject.move(starts)
        value = float((self.weights * out).sum())
        if not abs(float(end) - value) <= self.tolerance * terms:
            raise CheckError(
                "check_average_gradients: the recorded graph, run again at the end of the update, "
                "gives a different value than f: an operation keeps values between calls, or f "
                "takes a different branch there",
                expected=value,
                found=float(end),
            )
        change = value - float(loss.data)
        along = sum(float((averages[leaf] * delta).sum()) for leaf, delta in self.moves.items())
        incompleteness = abs(along - change) / max(terms, np.finfo(float).tiny)
        if not incompleteness <= self.tolerance:
            raise CheckError(
                "check_average_gradients: the average gradient is not complete: its product with "
                f"the update misses the change of the function by {incompleteness:.1e} of the "
                "terms that are summed; does every operation derive from the right kind?",
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
                "check_average_gradients: as the update shrinks, the average gradient approaches "
                "the true average, computed by quadrature, only with the power shown here; is the "
                "averaged Jacobian of every operation symmetric in start and end?",
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
        """Raise for the element with the largest deviation, if it exceeds the tolerance."""
        for name, leaf in self.subject.leaves.items():
            off = np.abs(found[leaf] - expected[leaf])
            if not largest(off) <= times * self.tolerance * self.scale:
                index = np.unravel_index(int(np.argmax(off)), off.shape)
                place = tuple(int(n) for n in index)
                raise CheckError(
                    f"check_average_gradients: the average gradient of {name}, of shape "
                    f"{leaf.shape}, is wrong at index {place} {where}",
                    expected=float(expected[leaf][index]),
                    found=float(found[leaf][index]),
                    input=name,
                    index=place,
                )
