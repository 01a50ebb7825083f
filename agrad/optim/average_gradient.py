"""An optimizer that wraps a base rule and measures how far the rule's proposal may go."""

import math
import warnings
from collections.abc import Callable, Hashable, Mapping
from functools import partial, reduce
from operator import add
from typing import Any, Literal

import numpy as np

from agrad.backend import Array, is_array, kernels, move
from agrad.core.flat import Flat
from agrad.core.program import Program
from agrad.core.tensor import Tensor
from agrad.errors import NonFiniteError
from agrad.gpu.deferred import after, fed
from agrad.ops.choice import noting_changes
from agrad.optim.arguments import require
from agrad.optim.group import ParameterGroup
from agrad.optim.line_search import GRANULARITIES, Granularity, Proposal, by_group, scale, search
from agrad.optim.losses import Losses
from agrad.optim.optimizer import Optimizer, Ready, RuleOptimizer, Scheduled
from agrad.optim.state import require_array, require_count, require_dict

__all__ = ["AverageGradient"]

Check = tuple[Callable[[float], None], Any]
"""Warns if need be, given a number; and that number, perhaps on a GPU."""

# If the loss is not finite at the end of a proposal, the proposal is multiplied by this factor, at
# most this many times, which spans more than the range of float32.
_RETREAT = 1 / 16
_RETREATS = 64


class AverageGradient(Optimizer):
    """Shorten a base rule's updates where the average gradient says they stop reducing the loss.

    The base rule proposes Δ from the ordinary gradient g. An average backward pass on the same
    graph gives ĝ, the factorized average gradient along Δ. Coordinate i's share of the change of
    the loss when the update is scaled to a fraction t is modelled by

        φᵢ(t) = t·gᵢΔᵢ + t²·(ĝᵢ - gᵢ)Δᵢ,

    which has the right slope at t = 0 and the right value at t = 1. The coordinate takes the
    fraction of its update that minimizes φᵢ on [0, cap]. Where gᵢ and ĝᵢ are 0, the loss does not
    depend on the coordinate, which takes its whole update: only weight decay or momentum move it. A
    step costs two forward and two backward passes, and only the base rule keeps state between
    steps. Δ is the whole proposal, including its weight decay; the loss is the sum of those given
    to `step`, without the decay's penalty.

    `step` needs the loss, or the losses, and frees their graphs. If no parameter has a gradient, it
    runs the backward passes. Otherwise the base rule proposes from the existing gradients, which
    must come from `backward(retain_graph=True)` of these very losses, and may have been clipped or
    changed in other ways since. A step that measures then sweeps the graphs once more, because g is
    the gradient of the losses as it was before any change. The gradients stay in `.grad` for
    inspection; `.average_grad` is cleared. If a loss at the end of the proposal is not finite,
    the proposal is cut until it is, which counts as a small fraction; if that never succeeds, the
    parameters do not change. Where the losses are finite but ĝ is not, coordinates (or groups) do
    not move; if the proposal was not cut, a RuntimeWarning names the parameter. Where the outcome
    of a comparison changes along the proposal, it is measured as if it did not, and a
    RuntimeWarning says so once. Besides the errors of `Optimizer.step`, a step raises an
    AverageUndefinedError for an operation that has no kind.

    Args:
        base: the rule that proposes, over the parameters to train.
        cap: the largest fraction; a cap above 1 allows updates to be lengthened.
        granularity: the groups that share a fraction, the minimizer of the sum of their φᵢ: each
            "element"; each "row", the elements with one index on a parameter's first axis (a
            unit's or a channel's weights, or one element of a bias); each "tensor"; or the "model".
        every: measure only once in this many steps, and scale the updates in between by the last
            fractions, which are then stored. Those steps cost one forward and one backward pass.
        repeats: how many times a step measures and scales the update. Each round starts from the
            result of the previous one, and only the first may lengthen the update.
        lr: "auto" to let the measured fractions set the base rule's learning rate. τ, their mean
            weighted by |gᵢΔᵢ|, says how much of the proposal was usable; after each measured step
            lr ← lr·exp(κ(τ - τ*)). Start small: the rate soon leaves 1e-6; 1e-1 may be too large.
        target: τ*, the share of the proposal that the automatic rate aims at.
        gain: κ, how fast the automatic rate adapts.

    Attributes:
        fraction: τ of the last measured step, None before the first.
        scale: the factor of a schedule. It scales the learning rate; if that is automatic, it
            scales the step after the line search instead, so that the two do not compete.

    Raises:
        TypeError: `base` is not an optimizer that applies a rule, or an argument is not a number.
        ValueError: an argument is out of its range.

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
    """

    def __init__(
        self,
        base: RuleOptimizer,
        *,
        cap: float = 1.0,
        granularity: Granularity = "element",
        every: int = 1,
        repeats: int = 1,
        lr: Literal["auto"] | None = None,
        target: float = 0.65,
        gain: float = 1.0,
    ) -> None:
        if not isinstance(base, RuleOptimizer):
            raise TypeError(
                f"AverageGradient: base must be an Optimizer, got {type(base).__name__}; "
                "pass one that applies a rule, such as Adam"
            )
        require("AverageGradient", "be positive", lambda x: x > 0, cap=cap, gain=gain)
        require("AverageGradient", "be in (0, 1)", lambda x: 0 < x < 1, target=target)
        require(
            "AverageGradient",
            "be an integer of at least 1",
            lambda x: x >= 1 and x == int(x),
            every=every,
            repeats=repeats,
        )
        if granularity not in GRANULARITIES:
            raise ValueError(
                f"AverageGradient: granularity must be one of {GRANULARITIES}, got {granularity!r}"
            )
        if lr not in (None, "auto"):
            raise ValueError(
                f"AverageGradient: lr must be None or 'auto', got {lr!r}; "
                "a fixed rate is given to the base rule"
            )
        if lr == "auto" and base.lr == 0:
            raise ValueError("AverageGradient: the base rule's lr is 0, which no factor can raise")
        self.base = base
        self.cap = cap
        self.granularity = granularity
        self.every = every
        self.repeats = repeats
        self.automatic = lr == "auto"
        self.target = target
        self.gain = gain
        self.fraction: float | None = None
        self._scale_source: float | Scheduled = 1.0
        self._steps = 0
        self._fractions: dict[Tensor, Array] = {}
        self._warned = False

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
        self.base.lr = value

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
    def state_kind(self) -> str:
        """What the state belongs to: this optimizer and its base rule."""
        return f"{type(self).__name__}({self.base.state_kind})"

    # -- a step ------------------------------------------------------------------------------------

    def step_by_gradients(self) -> None:
        """Raise a TypeError: nothing can be measured without the loss."""
        raise TypeError(
            "AverageGradient.step: the average gradient needs the loss; call step(loss)"
        )

    def step_on_losses(self, losses: tuple[Tensor, ...]) -> None:
        """Measure how far the base rule's update may go, update the parameters, free the graphs."""
        measured = self._measures
        given = self.has_gradients()
        if measured or not given:
            graphs = Losses(losses)
        if measured:
            graphs.require_averages()
        if not given:
            graphs.backward(retain_graph=measured)
            self.require_gradients()
        ready = slopes = self.base.ready()
        self.base.require_finite(ready, "AverageGradient")
        if measured and given:
            grads = graphs.gradients()
            slopes = [Ready(block, _gathered(block.flat, grads)) for block, _ in ready]
            self.base.require_finite(slopes, "AverageGradient")
        proposals = []
        for part, (_, slope) in zip(ready, slopes):
            delta = part.block.flat.scratch("update")
            self.base.proposal(part, delta)
            proposals.append(Proposal(part.block.flat, slope, delta))
        if measured:
            self._measure(graphs, proposals)
            graphs.free()  # if no end was finite, no sweep has freed them
        else:
            for proposal in proposals:
                fractions = [self._fractions.get(param) for param in proposal.flat.tensors]
                scale(proposal, fractions, self.granularity)
        self.mark_gradients()
        for flat, _, delta in proposals:
            if self._scales:
                factor = fed(lambda: self.scale)
                kernels(delta.array).optimizer.scale(delta.array, delta.array, factor)
            values = flat.writable()
            np.add(values, delta.array, out=values)
        after(self._count)

    def _measure(self, graphs: Losses, proposals: list[Proposal]) -> None:
        """Scale the updates by the fractions that the average gradients give, and store those."""
        fractions: dict[Tensor, Array] = {}
        checks: list[Check] = []
        for param in self.params:
            param.average_grad = None
        for i in range(self.repeats):
            retain_graph = i + 1 < self.repeats
            cut, averages = self._averages(graphs, proposals, retain_graph, checks)
            sums = []
            found = search(proposals, averages, self.granularity, self.cap if i == 0 else 1.0)
            for params, found_here, *sums_here in found:
                sums.append(sums_here)
                for param, own in zip(params, found_here):
                    if self.every > 1:
                        own *= cut
                        fractions[param] = own * fractions[param] if i else own
            kept, whole = map(partial(reduce, add), zip(*sums))
            if i == 0:
                proposed = whole / cut if cut > 0 else math.inf
        # One wait for all numbers of a GPU.
        reports, numbers = [check for check, _ in checks], [number for _, number in checks]
        after(partial(self._conclude, fractions, reports), kept, proposed, *numbers)

    def _conclude(
        self,
        fractions: dict[Tensor, Array],
        reports: list[Callable[[float], None]],
        kept: float,
        proposed: float,
        *numbers: float,
    ) -> None:
        """Store the results of a measured step: the fractions, and Σ t|gΔ| over Σ |gΔ|."""
        for report, number in zip(reports, numbers, strict=True):
            report(number)
        self._fractions = fractions
        self.fraction = kept / proposed if proposed > 0 else None
        if self.automatic and self.fraction is not None:
            self.base.lr *= math.exp(self.gain * (self.fraction - self.target))

    def _count(self) -> None:
        self._steps += 1

    def _averages(
        self, graphs: Losses, proposals: list[Proposal], retain_graph: bool, checks: list[Check]
    ) -> tuple[float, list[Array]]:
        """Compute the average gradients, cutting the updates until the loss at their end is finite.

        Returns the factor by which the updates were cut, and the averages for each proposal. What
        may have to be warned of is added to the checks.
        """
        cut = 1.0
        for _ in range(_RETREATS):
            try:
                with noting_changes() as changes:
                    grads = graphs.averages(partial(_ends, proposals), retain_graph)
            except NonFiniteError:
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
                        else:  # while the averages are there, to name the parameter
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
        """Return the arrays that steps change in place: the parameters' and the base rule's."""
        return self.base.changing()

    def flats(self) -> list[Flat]:
        """Return each `Flat` that holds parameters."""
        return self.base.flats()

    def reading(self) -> list[Array]:
        """Return the arrays that the next step reads and does not change."""
        return [] if self._measures else list(self._fractions.values())

    def options(self) -> Hashable:
        """Return everything the next step depends on, except arrays and fed numbers."""
        own = self.cap, self.granularity, self.every, self.repeats
        return self.base.options(), own, self._measures, self._scales

    @property
    def _measures(self) -> bool:
        """Whether the next step measures."""
        return self._steps % self.every == 0

    @property
    def _scales(self) -> bool:
        """Whether a schedule's factor is applied to the step."""
        return self.automatic and self.scale != 1

    # -- state -------------------------------------------------------------------------------------

    @property
    def state_bytes(self) -> int:
        """The size of the arrays kept from one step to the next."""
        return self.base.state_bytes + sum(array.nbytes for array in self._fractions.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the base rule's state, the step count and the fractions, for `agrad.save`."""
        return {
            "base": self.base.state_dict(),
            "steps": self._steps,
            "fractions": {
                str(i): self._fractions[param].copy()
                for i, param in enumerate(self.params)
                if param in self._fractions
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`, given the same options and matching parameters.

        Raises:
            ValueError: the state belongs to another rule or granularity, or to other parameters;
                nothing has changed.
        """
        name = type(self).__name__
        if require_dict(name, "the state", state).keys() != {"base", "steps", "fractions"}:
            raise ValueError(
                "AverageGradient.load_state_dict: expected base, steps and fractions, "
                f"got {sorted(state)}"
            )
        steps = require_count(name, "steps", state["steps"])
        saved = require_dict(name, "fractions", state["fractions"])
        if unknown := saved.keys() - {str(i) for i in range(len(self.params))}:
            raise ValueError(
                f"AverageGradient.load_state_dict: the state has fractions for parameters "
                f"{sorted(unknown)}, but the base rule has only {len(self.params)}"
            )
        fractions = {}
        for i, param in enumerate(self.params):
            if str(i) in saved:
                each = self.granularity == "element"
                groups = param.data if each else by_group(param.data, self.granularity)[:, 0]
                like = np.empty(groups.shape, param.dtype)
                require_array(name, f"the fractions of parameter {i}", saved[str(i)], like)
                fractions[param] = move(saved[str(i)], param.device).copy()
        self.base.load_state_dict(state["base"])
        self._steps = steps
        self._fractions = fractions


def _gathered(flat: Flat, grads: Mapping[Tensor, Array]) -> Array:
    """Return one array with the gradient of each leaf, zeros for those without one."""
    return flat.gather([grads[p] if p in grads else np.zeros_like(p.data) for p in flat.tensors])


def _ends(proposals: list[Proposal], program: Program) -> dict[Tensor, Array]:
    """Return the recorded values plus the whole updates."""
    ends: dict[Tensor, Array] = {}
    for flat, _, delta in proposals:
        end = flat.scratch("end")
        start = flat.gather(
            [program.start_of(p) if p in program.leaves else p.data for p in flat.tensors]
        )
        np.add(start, delta.array, out=end.array)
        ends |= zip(flat.tensors, end.views)
    return ends
