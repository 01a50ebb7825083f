"""An optimizer that wraps a base rule and measures how far the rule's proposal may go."""

import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np

from agrad.arguments import integer, require_not_negative, require_share
from agrad.backend import Array, is_array, kernels, move
from agrad.core.flat import Flat
from agrad.core.program import Program
from agrad.core.tensor import Tensor
from agrad.errors import NonFiniteError
from agrad.gpu import cuda
from agrad.gpu.deferred import after, fed, holds, values
from agrad.ops.choice import noting_changes
from agrad.optim.automatic_rate import CLIMB, AutomaticRate
from agrad.optim.group import ParameterGroup
from agrad.optim.leaf_arrays import LeafArrays, values_of, zero
from agrad.optim.line_search import GRANULARITIES, Granularity, Proposal, search, shorten
from agrad.optim.losses import Losses
from agrad.optim.optimizer import Optimizer, Scheduled
from agrad.optim.rule_optimizer import BlockGradient, RuleOptimizer
from agrad.optim.state import require_array, require_count, require_dict

__all__ = ["AverageGradient"]

Check = tuple[Callable[[float], None], Any]
"""Warns if need be, given a number; and that number, perhaps on a GPU."""

Updates = Sequence[Sequence[Array | None]]
"""Updates to add up, each a list with an array for each `Flat`, or None for no update."""

# If the loss is not finite at the end of a proposal, the proposal is multiplied by this factor, at
# most this many times, which spans more than the range of float32.
_RETREAT = 1 / 16
_RETREATS = 64

# A step is verified up to rounding: a loss computed again after a forward pass of some dozen layers
# differs by a few units in its last place. If the loss has risen by more, the step is multiplied by
# this factor; after this many cuts it is left out.
_ROUNDING = 64  # units
_CUT = 1 / 4
_CUTS = 8

# A step that is not measured may be this many times as long as the last measured one. Where the
# loss is nearly 0 and the rate high, an unusual batch can propose a hundred times that, and ruin
# the network before another step is measured.
_LONGER = 4


class Displacement(NamedTuple):
    """What an automatic rate asks of a measured step, as numbers that may still be on a GPU.

    Attributes:
        update_square: The squared length of the proposed update.
        square: That of the way from the parameters' start to where they are.
        start_loss: The loss at the start; 0 once the way is confirmed.
        loss: That where they are, likewise.
    """

    update_square: Any
    square: Any
    start_loss: Any
    loss: Any


class AverageGradient(Optimizer):
    """Shorten a base rule's updates where the average gradient says they stop reducing the loss.

    The base rule proposes Δ from the ordinary gradient g. An average backward pass on the same
    graph gives ĝ, the factorized average gradient along Δ. Coordinate i's share of the change of
    the loss when the update is scaled to a fraction t is modelled by

        φᵢ(t) = t·gᵢΔᵢ + t²·(ĝᵢ - gᵢ)Δᵢ,

    which has the right slope at t = 0 and the right value at t = 1. The coordinate takes the
    fraction of its update that minimizes φᵢ on [0, 1]. Where gᵢ and ĝᵢ are 0, the loss does not
    depend on the coordinate, which takes its whole update: only weight decay or momentum move it.
    The loss is the sum of those given to `step`, without a decay's penalty. A decoupled weight
    decay is applied first, in full, and is not part of Δ.

    Given a probe, a loss on a few examples of the batch, a step takes the difference ĝ - g from it,
    and only the slope g from the whole batch. Finally, the step is verified: the loss it was
    measured on is computed after it, and the step is cut to a quarter while that loss has risen by
    more than rounding explains; after eight cuts it is left out. A measured step therefore costs
    one forward and one backward pass of the batch, and of the probe three and two; without a probe,
    three and two of the batch. Until an automatic rate is confirmed, it costs one forward more.

    `step` needs the loss, or the losses, and frees their graphs. If no parameter has a gradient, it
    runs the backward passes. Otherwise the base rule proposes from the existing gradients, which
    must come from `backward(retain_graph=True)` of these very losses, and may have been clipped or
    changed in other ways since. A step that measures then sweeps the graphs once more, because g is
    the gradient of the losses as it was before any change. The gradients stay in `Tensor.grad` for
    inspection; `.average_grad` is cleared. If a loss at the end of the proposal is not finite,
    the proposal is cut until it is, which counts as a small fraction; if that never succeeds, the
    parameters do not change. Where the losses are finite but ĝ is not, coordinates (or groups) do
    not move; if the proposal was not cut, a RuntimeWarning names the parameter. Where the outcome
    of a comparison changes along the proposal, it is measured as if it did not, and a
    RuntimeWarning says so once. Besides the errors of `Optimizer.step`, a step raises an
    AverageUndefinedError for an operation that has no kind.

    Args:
        base: The rule that proposes, over the parameters to train.
        granularity: The groups that share a fraction, the minimizer of the sum of their φᵢ: each
            "element"; each "row", the elements with one index on a parameter's first axis (a
            unit's or a channel's weights, or one element of a bias); each "tensor"; or the "model".
        every: Measure only one step in this many, the step after each that was cut, and the first
            sixteen if the rate is automatic. The others find their fractions by the curvature that
            earlier steps have measured, are not verified, but cut where they are over four times as
            long as the last measured step, and cost one forward and one backward pass. By default
            1, and 4 if the rate is automatic.
        smoothing: The curvature (ĝᵢ - gᵢ)/Δᵢ is fitted to all measured steps; each further one
            multiplies the weight of those before by this number, at least 0 and below 1. With 0,
            measured steps use their own alone. By default 0, and 0.9 if the rate is automatic.
        probe_size: On how many examples `train_step`, `capture_step` and `train` measure a step,
            the first of the batch; None for the whole batch.
        verify: Whether steps are verified.
        lr: "auto" to let measured steps set the base rule's learning rates, see `AutomaticRate`.
            The rule's own are those of the first step: start small, with 1e-4 for example.

    Attributes:
        scale: The factor of a schedule. It scales the learning rate; if that is automatic, it
            scales the step after the line search instead, so that the two do not compete.

    Raises:
        TypeError: `base` is not an optimizer that applies a rule, or an argument is not a number.
        ValueError: An argument is out of its range.

    Example:
        >>> import agrad as ag
        >>> from agrad import optim
        >>> x = ag.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = optim.AverageGradient(optim.SGD([x], lr=0.75))
        >>> loss = (x * x).sum()
        >>> optimizer.step(loss)  # plain SGD would go to [-0.5, 1.0]
        5.0
        >>> x
        tensor([0., 0.], requires_grad=True)

        The recommended configuration, which measures on a few examples of the batch and sets its
        rate itself:

        >>> import numpy as np
        >>> from agrad import nn
        >>> from agrad.data import Batches
        >>> from agrad.train import train
        >>> ag.seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
        >>> base = optim.Adam(model.parameters(), lr=1e-4, cautious=True)
        >>> optimizer = optim.AverageGradient(base, lr="auto")
        >>> inputs, labels = np.eye(4, dtype=np.float32), np.arange(4)
        >>> steps = list(train(model, optimizer, Batches(inputs, labels, batch_size=4), 100))
        >>> steps[-1].loss < 0.1 < steps[0].loss
        True
    """

    def __init__(
        self,
        base: RuleOptimizer,
        *,
        granularity: Granularity = "element",
        every: int | None = None,
        smoothing: float | None = None,
        probe_size: int | None = 64,
        verify: bool = True,
        lr: Literal["auto"] | None = None,
    ) -> None:
        if not isinstance(base, RuleOptimizer):
            raise TypeError(
                f"AverageGradient: base must be an Optimizer, got {type(base).__name__}; "
                "pass one that applies a rule, such as Adam"
            )
        automatic = lr == "auto"
        if lr not in (None, "auto"):
            raise ValueError(
                f"AverageGradient: lr must be None or 'auto', got {lr!r}; "
                "a fixed rate is given to the base rule"
            )
        self.automatic = automatic
        self._require_rate(base.lr)
        self.base = base
        self.granularity = granularity
        self.every = (4 if automatic else 1) if every is None else every
        self.smoothing = (0.9 if automatic else 0.0) if smoothing is None else smoothing
        self.probe_size = probe_size
        self.verify = verify
        self._rate: AutomaticRate | None = None
        self._origins = LeafArrays(values_of)
        self._curvatures, self._weights = LeafArrays(zero), LeafArrays(zero)
        self._scale_source: float | Scheduled = 1.0
        self._steps = self._due = 0
        self._was_cut = False
        self._square_length = math.inf
        self._warned = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CHECKS:
            _CHECKS[name](value)
        super().__setattr__(name, value)

    # -- what the base rule provides ---------------------------------------------------------------

    @property
    def params(self) -> tuple[Tensor, ...]:
        """The parameters, in the order given."""
        return self.base.params

    @property
    def param_groups(self) -> tuple[ParameterGroup, ...]:
        """The base rule's groups, whose options can be set."""
        return self.base.param_groups

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters to train, see `RuleOptimizer.add_param_group`."""
        self.base.add_param_group(param_group)

    @property
    def lr(self) -> float:
        """The base rule's learning rate, before a schedule's factor."""
        return self.base.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._require_rate(value)
        self.base.lr = value

    def _require_rate(self, lr: float) -> None:
        if self.automatic and lr == 0:
            raise ValueError("AverageGradient: the base rule's lr is 0, which no factor can raise")

    @property
    def scale_source(self) -> float | Scheduled:
        """The factor `scale`, or the schedule that gives it."""
        return self._scale_source if self.automatic else self.base.scale_source

    @scale_source.setter
    def scale_source(self, value: float | Scheduled) -> None:
        if self.automatic:
            self._scale_source = value
        else:
            self.base.scale_source = value

    @property
    def probe_size(self) -> int | None:
        """How many examples the next step would measure on; None for all, or if it does not."""
        return self._probe_size if self._next_is_measured else None

    @probe_size.setter
    def probe_size(self, value: int | None) -> None:
        self._probe_size = value

    @property
    def state_kind(self) -> str:
        """What the state belongs to, this optimizer and its base rule."""
        return f"{type(self).__name__}({self.base.state_kind})"

    # -- a step ------------------------------------------------------------------------------------

    def step_by_gradients(self) -> None:
        """Raise a TypeError: nothing can be measured without the loss."""
        raise TypeError(
            "AverageGradient.step: the average gradient needs the loss; call step(loss)"
        )

    def step_on_losses(self, losses: tuple[Tensor, ...], probe: tuple[Tensor, ...]) -> None:
        """Measure how far the base rule's update may go, update the parameters, free the graphs."""
        self._require_rate(self.base.lr)
        measured = self._next_is_measured
        given = self.has_gradients()
        graphs = Losses(losses, self.params, self.ranks)
        if measured:
            rows = Losses(probe, self.params, self.ranks) if probe else None
            (rows or graphs).require_averages()
        if not given:
            graphs.backward(retain_graph=measured and rows is None)
            self.require_gradients()
        gradients = slopes = self.base.block_gradients()
        self.base.require_finite(gradients, "AverageGradient")
        if measured and given:
            grads = graphs.gradients()
            slopes = [BlockGradient(block, _gathered(block.flat, grads)) for block, _ in gradients]
            self.base.require_finite(slopes, "AverageGradient")
        proposals, decays = [], []
        for gradient, (block, slope) in zip(gradients, slopes):
            flat = block.flat
            delta, decay = flat.scratch("update"), None
            if block.decays:
                decay = flat.scratch("decay").array
                decay[...] = 0
            self.base.write_update(gradient, delta, decay)
            proposals.append(Proposal(flat, slope, delta))
            decays.append(decay)
        if measured:
            self._measure(graphs, rows, proposals)
        else:
            curvatures = [self._curvatures.of(flat) for flat, _, _ in proposals]
            shorten(proposals, curvatures, self.granularity)
            self._limit(proposals)
        if self._scales:
            factor = fed(lambda: self.scale)
            arrays = [delta.array for _, _, delta in proposals]
            for array in (*arrays, *(decay for decay in decays if decay is not None)):
                kernels(array).optimizer.scale(array, array, factor)
        if measured:
            if self.verify:
                self._verify(rows or graphs, proposals, decays)
            if rows is not None:
                rows.free()
        graphs.free()
        self.mark_gradients()
        for (flat, _, delta), decay in zip(proposals, decays):
            values = flat.writable()
            if decay is not None:
                np.add(values, decay, out=values)
            np.add(values, delta.array, out=values)
            if measured and self.every > 1:
                flat.release("end")  # it would lie idle until the next measurement
        after(self._count)

    def _limit(self, proposals: list[Proposal]) -> None:
        """Cut updates that were not measured and are much longer than the last measured ones."""
        square = np.maximum(_square_length(proposals), np.finfo(np.float64).tiny)
        share = fed(lambda: _LONGER**2 * self._square_length) / square
        if is_array(share) or share < 1:
            factor = np.sqrt(np.minimum(share, 1.0))
            for _, _, delta in proposals:
                kernels(delta.array).optimizer.scale(delta.array, delta.array, factor)
        after(self._note_limit, share)

    def _note_limit(self, share: float) -> None:
        if share < 1:
            self.cuts += 1
            self._was_cut = True

    def _verify(
        self, graphs: Losses, proposals: list[Proposal], decays: list[Array | None]
    ) -> None:
        """Cut the updates until the loss they were measured on has not risen, to zero at worst."""
        flats = [flat for flat, _, _ in proposals]
        decayed = any(decay is not None for decay in decays)
        start = _value_at(graphs, flats, [decays]) if decayed else graphs.value
        limit = start + _ROUNDING * np.finfo(start.dtype).eps * abs(start)
        for _ in range(_CUTS):
            end = _value_at(graphs, flats, [decays, [delta.array for _, _, delta in proposals]])
            if holds(end <= limit):
                return
            self.cuts += 1
            self._was_cut = True
            for _, _, delta in proposals:
                np.multiply(delta.array, _CUT, out=delta.array)
        self.zero_steps += 1
        for _, _, delta in proposals:
            delta.array[...] = 0

    def _measure(self, graphs: Losses, rows: Losses | None, proposals: list[Proposal]) -> None:
        """Scale the updates by the fractions that the average gradients give."""
        checks: list[Check] = []
        for param in self.params:
            param.average_grad = None
        moved = self._displacement(rows or graphs, proposals) if self.automatic else ()
        own_slopes = [slope for _, slope, _ in proposals]
        if rows is not None:
            grads = rows.gradients()
            own_slopes = [_gathered(flat, grads) for flat, _, _ in proposals]
        cut, averages = self._averages(rows or graphs, proposals, checks)
        if self._smooths:
            self._blend(proposals, own_slopes, averages)
        used, usable = search(proposals, own_slopes, averages, self.granularity)
        proposed = usable / cut if cut > 0 else math.inf
        # One wait for all numbers of a GPU.
        reports, numbers = [check for check, _ in checks], [number for _, number in checks]
        square = _square_length(proposals) if self.every > 1 else math.inf
        size = sum(flat.size for flat, _, _ in proposals)
        after(partial(self._conclude, reports, size), square, used, proposed, *moved, *numbers)

    def _blend(
        self, proposals: list[Proposal], own_slopes: list[Array], averages: list[Array]
    ) -> None:
        """Blend the curvature that was measured into the kept one, and the averages with it."""
        for (flat, _, delta), own, average in zip(proposals, own_slopes, averages):
            kept = self._curvatures.of(flat), self._weights.of(flat)
            kernel = kernels(average).optimizer.blend_curvature
            kernel(own, average, delta.array, *kept, self.smoothing)

    def _displacement(self, graphs: Losses, proposals: list[Proposal]) -> Displacement:
        """Return where the parameters are, seen from their start; losses until it is confirmed."""
        if self._rate is None:
            trained = [param for flat, _, _ in proposals for param in flat.tensors]
            self._rate = AutomaticRate(self.base.lr, _typical_length(trained))
        square = start_loss = loss = 0.0
        for flat, _, _ in proposals:
            start = self._origins.of(flat)
            gone = np.subtract(flat.adopt(), start, out=flat.scratch("end").array)
            square += kernels(gone).optimizer.sum_of_squares(gone)
        if not self._rate.confirmed:
            flats = [flat for flat, _, _ in proposals]
            back = [self._origins.of(flat) - flat.adopt() for flat in flats]
            start_loss, loss = _value_at(graphs, flats, [back]), graphs.value
        return Displacement(_square_length(proposals), square, start_loss, loss)

    def _conclude(
        self,
        reports: list[Callable[[float], None]],
        size: int,
        square: float,
        used: float,
        proposed: float,
        *numbers: float,
    ) -> None:
        """Store what a step of `size` coordinates has measured: its length, share and rate."""
        count = len(Displacement._fields) if self.automatic else 0
        for report, number in zip(reports, numbers[count:], strict=True):
            report(number)
        self._square_length = square or self._square_length  # a step of length 0 tells nothing
        self.fraction = used / proposed if proposed > 0 else None
        if self._rate is not None:
            moved = Displacement(*numbers[:count])
            self.base.lr = self._rate.after(
                self.lr,
                self.fraction,
                length=math.sqrt(moved.update_square / size),
                distance=math.sqrt(moved.square / size),
                losses=(moved.start_loss, moved.loss),
                steps=self._interval,
            )

    def _count(self) -> None:
        """Count a step; after one that was measured or cut, decide when to measure again."""
        if self._next_is_measured or self._was_cut:
            self._due = self._steps + (1 if self._was_cut else self._interval)
            self._was_cut = False
        self._steps += 1

    @property
    def _interval(self) -> int:
        """The number of steps from a measured step to the next, unless that one is cut."""
        # An automatic rate starts low. That each of its first steps is measured lets it climb in
        # time for a short training too.
        return 1 if self.automatic and self._steps < CLIMB else self.every

    def _averages(
        self, graphs: Losses, proposals: list[Proposal], checks: list[Check]
    ) -> tuple[float, list[Array]]:
        """Compute the average gradients, cutting the updates until the loss at their end is finite.

        Returns the factor by which the updates were cut, and the averages for each proposal.
        Conditions to warn about are added to the checks.
        """
        cut = 1.0
        flats = [flat for flat, _, _ in proposals]
        deltas: list[Array | None] = [delta.array for _, _, delta in proposals]
        for _ in range(_RETREATS):
            try:
                with noting_changes() as changes:
                    grads = graphs.averages(partial(_ends, flats, [deltas]), self.verify)
            except NonFiniteError:
                self._was_cut = True
                cut *= _RETREAT
                for _, _, delta in proposals:
                    np.multiply(delta.array, _RETREAT, out=delta.array)
            else:
                for name, changed in changes:
                    checks.append((partial(self._warn_of_choice, name), changed.any()))
                averages = [_gathered(flat, grads) for flat, _, _ in proposals]
                for (flat, _, _), average in zip(proposals, averages):
                    if cut == 1:  # after a cut the proposal is known to be too bold
                        finite = kernels(average).optimizer.all_finite(average)
                        check = partial(self._warn_unless, flat, average)
                        if is_array(finite):
                            checks.append((check, finite))
                        else:  # while the averages exist, to name the parameter
                            after(check, finite)
                return cut, averages
        for _, _, delta in proposals:
            delta.array[...] = 0
        return 0.0, [flat.zeros() for flat, _, _ in proposals]

    def _warn_of_choice(self, name: str, changed: float) -> None:
        """Warn once if the outcome of a comparison in the losses has changed along a proposal."""
        if changed and not self._warned:
            self._warned = True
            warnings.warn(
                f"AverageGradient.step: the outcome of {name} in the loss changes along the "
                "update, which is measured as if it did not (further changes are not reported); "
                "use an operation that chooses by itself, such as np.maximum, np.minimum, np.clip, "
                "np.abs, F.relu or F.leaky_relu",
                RuntimeWarning,
                stacklevel=7,  # the line that calls step
            )

    def _warn_unless(self, flat: Flat, average: Array, finite: float) -> None:
        """Warn if an average gradient is not finite, and name the parameter unless it is lost."""
        if finite:
            return
        pairs = zip(flat.tensors, flat.split(average))
        wrong = next((param for param, part in pairs if not np.isfinite(part).all()), None)
        name = "a parameter"
        if wrong is not None:
            name = f"parameter {self.base.number_of(wrong)}, {wrong.shape},"
        warnings.warn(
            f"AverageGradient.step: the average gradient of {name} is not finite, "
            "although the loss is; elements (or groups) for which it is not do not move. Lower "
            "the learning rate; if that does not help, look for an operation outside its domain "
            "whose result is masked, as in where(x > 0, sqrt(x), 0), and mask its operand instead",
            RuntimeWarning,
            stacklevel=7,  # the line that calls step
        )

    # -- what a recorded step needs ----------------------------------------------------------------

    def changing(self) -> list[Array]:
        """Return the arrays that the next step changes in place."""
        kept = [*self._curvatures, *self._weights] if self._next_is_measured else ()
        return [*self.base.changing(), *kept]

    def flats(self) -> list[Flat]:
        """Return each `Flat` that holds parameters."""
        return self.base.flats()

    def reading(self) -> list[Array]:
        """Return the arrays that the next step reads and does not change."""
        return list(self._origins if self._next_is_measured else self._curvatures)

    def options(self) -> Hashable:
        """Return everything the next step depends on, except arrays and fed numbers."""
        own = self.granularity, self.smoothing, self._smooths, self.verify
        measured = self._next_is_measured
        votes = measured and (self._rate is None or not self._rate.confirmed)
        return self.base.options(), own, votes, measured, self._scales

    @property
    def _next_is_measured(self) -> bool:
        """Whether the next step measures."""
        return self._steps >= self._due

    @property
    def _smooths(self) -> bool:
        """Whether the measured curvature is kept for later steps."""
        return self.every > 1 or self.smoothing > 0

    @property
    def _scales(self) -> bool:
        """Whether a schedule's factor is applied to the step."""
        return self.automatic and self.scale != 1

    # -- state -------------------------------------------------------------------------------------

    @property
    def state_bytes(self) -> int:
        """The size of the arrays kept from one step to the next."""
        kept = self._origins, self._curvatures, self._weights
        return self.base.state_bytes + sum(arrays.nbytes for arrays in kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the base rule's state and all that this optimizer keeps, for `agrad.save`."""

        def numbered(arrays: LeafArrays) -> dict[str, Array]:
            known = arrays.by_leaf()
            own = ((str(i), known.get(param)) for i, param in enumerate(self.params))
            return {i: array.copy() for i, array in own if array is not None}

        state = {
            "base": self.base.state_dict(),
            "steps": self._steps,
            "due": self._due,
            "cuts": self.cuts,
            "zero_steps": self.zero_steps,
            "square_length": self._square_length,
            "curvatures": numbered(self._curvatures),
            "weights": numbered(self._weights),
        }
        if self.fraction is not None:
            state["fraction"] = self.fraction
        if self._rate is not None:
            state |= {"rate": self._rate.state_dict(), "origins": numbered(self._origins)}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`, given the same options and matching parameters.

        An automatic rate continues from the saved one; if none was saved, it starts afresh.

        Raises:
            ValueError: The state belongs to another rule, or to other parameters; nothing has
                changed.
            TypeError: A number of the state is not one; nothing has changed.
        """
        name = type(self).__name__
        counts = "steps", "due", "cuts", "zero_steps"
        always = {"base", *counts, "square_length", "curvatures", "weights"}
        names = require_dict(name, "the state", state).keys()
        if names - {"fraction"} not in (always, always | {"rate", "origins"}):
            raise ValueError(
                f"AverageGradient.load_state_dict: expected {', '.join(sorted(always))}, and "
                f"origins and rate if that is automatic, got {sorted(state)}"
            )
        steps, due, cuts, zero_steps = (require_count(name, key, state[key]) for key in counts)
        square_length = state["square_length"]
        if square_length != math.inf:
            require_not_negative(f"{name}.load_state_dict", square_length=square_length)
        fraction = state.get("fraction")
        if "fraction" in state and not isinstance(fraction, float):
            raise TypeError(
                f"AverageGradient.load_state_dict: fraction must be a float, got {fraction!r:.50}"
            )
        rate = AutomaticRate(1.0, 0.0)
        if "rate" in state:
            rate.load_state_dict(require_dict(name, "rate", state["rate"]))
        origins, curvatures, weights = (
            self._loaded(state.get(key, {}), key) for key in ("origins", "curvatures", "weights")
        )
        self.base.load_state_dict(state["base"])
        self._steps, self._due, self.cuts, self.zero_steps = steps, due, cuts, zero_steps
        self._square_length, self.fraction = square_length, fraction
        self._rate = rate if self.automatic and "rate" in state else None
        self._origins.load(origins)
        self._curvatures.load(curvatures)
        self._weights.load(weights)

    def _loaded(self, saved: Any, what: str) -> dict[Tensor, Array]:
        """Check arrays that were saved for parameters, and return copies of them."""
        name = type(self).__name__
        saved = require_dict(name, what, saved)
        if unknown := saved.keys() - {str(i) for i in range(len(self.params))}:
            raise ValueError(
                f"AverageGradient.load_state_dict: the state has {what} for parameters "
                f"{sorted(unknown)}, but the base rule has only {len(self.params)}"
            )
        loaded = {}
        for i, param in enumerate(self.params):
            if str(i) in saved:
                require_array(name, f"the {what} of parameter {i}", saved[str(i)], param.data)
                loaded[param] = move(saved[str(i)], param.device).copy()
        return loaded


def _check_granularity(value: Any) -> None:
    if value not in GRANULARITIES:
        raise ValueError(
            f"AverageGradient: granularity must be one of {GRANULARITIES}, got {value!r}"
        )


def _check_probe_size(value: Any) -> None:
    if value is not None:
        integer("AverageGradient", "probe_size", value, least=1)


def _check_verify(value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"AverageGradient: verify must be True or False, got {value!r:.50}")


_CHECKS: dict[str, Callable[[Any], object]] = {
    "every": lambda value: integer("AverageGradient", "every", value, least=1),
    "granularity": _check_granularity,
    "probe_size": _check_probe_size,
    "smoothing": lambda value: require_share("AverageGradient", smoothing=value),
    "verify": _check_verify,
}
"""The checks of options, when they are given and when they are set later."""


def _square_length(proposals: Iterable[Proposal]) -> Any:
    """Return the sum of squares of all updates."""
    arrays = [delta.array for _, _, delta in proposals]
    return sum(kernels(array).optimizer.sum_of_squares(array) for array in arrays)


def _typical_length(params: Iterable[Tensor]) -> float:
    """Return the median of the root mean squares of the weights, parameters with several axes."""
    weights = [param.data.ravel() for param in params if param.ndim > 1 and param.size]
    means = [kernels(weight).optimizer.sum_of_squares(weight) / weight.size for weight in weights]
    return math.sqrt(median(values(tuple(means)))) if means else 0.0


def _gathered(flat: Flat, grads: Mapping[Tensor, Array]) -> Array:
    """Return one array with the gradient of each leaf, zeros for those without one."""
    return flat.gather([grads[p] if p in grads else np.zeros_like(p.data) for p in flat.tensors])


def _value_at(graphs: Losses, flats: list[Flat], updates: Updates) -> Any:
    """Return the sum of the losses after updates, whose comparisons and overflows warn nobody."""
    with noting_changes(), np.errstate(all="ignore"), cuda.failures_explained():
        return graphs.value_at(partial(_ends, flats, updates))


def _ends(flats: list[Flat], updates: Updates, program: Program) -> dict[Tensor, Array]:
    """Return the recorded values plus the updates; some have no update for a `Flat`."""
    ends: dict[Tensor, Array] = {}
    starts = program.starts()
    for flat, *own in zip(flats, *updates):
        end = flat.scratch("end")
        at = flat.gather([starts.get(p, p.data) for p in flat.tensors])
        for update in own:
            if update is not None:
                at = np.add(at, update, out=end.array)
        if at is end.array:
            ends |= zip(flat.tensors, end.views)
    return ends
