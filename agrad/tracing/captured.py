"""Functions of Tensors whose Python runs once, and whose operations run at every call.

While a function is captured its arguments are `Traced`: Tensors with a shape and a dtype, but
without values, so that the function can decide by nothing else. Its operations go to a `Tape`,
which becomes a program. Each call of the captured function is one operation of the graph, a
`Replay` of the program.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from operator import is_
from typing import Any

from numpy.typing import ArrayLike

from agrad.backend import Array, as_array
from agrad.core.anomaly import recorded_at
from agrad.core.context import is_grad_enabled, no_grad, recorder, recording
from agrad.core.flat import Flat
from agrad.core.graph import Pin
from agrad.core.program import Program, Run, Values
from agrad.core.tensor import (
    Tensor,
    apply,
    as_tensor,
    is_stray_view,
    pin_together,
    pinned,
    record,
)
from agrad.errors import CaptureError
from agrad.ops.device import require_one_device
from agrad.ops.operation import Gradients, Operation, Point
from agrad.tracing.dense import fuse_dense
from agrad.tracing.tape import Tape, Traced

__all__ = ["Captured", "Plan", "Replay", "capture"]

_PLANS = 16  # one for each combination of shapes; the oldest goes when there are more


def capture(function: Callable[..., Tensor]) -> Captured:
    """Return `function` such that its Python runs once, and its operations at every call.

    The first call records the operations. Later ones run them on new arguments and on the present
    values of all other Tensors, with the same results and gradients of both kinds, bit for bit:
    dropout draws a new mask at each call, and batch normalization follows each batch. (What several
    calls in one graph add to a gradient is summed call by call.)

    The arrays of the last call are kept until the next one's take their place.

    What decided the recording is looked at in each call, and recorded anew where it differs: the
    arguments' shapes and dtypes; the shape, dtype and `requires_grad` of the other Tensors; the
    mode of every Module called; whether gradients are recorded.

    **What is frozen is all other Python**: branches, numbers and attributes are those of the
    recording. Capture a function in which they never change.

    Args:
        function: takes arrays or Tensors by position, and returns a Tensor; a Module, for example.

    Raises:
        CaptureError: when called: the function looks at values of its arguments or results,
            computes with plain arrays, changes a Tensor in place, or returns no Tensor.

    Example:
        >>> import agrad as ag
        >>> import agrad.nn.functional as F
        >>> from agrad import nn, optim
        >>> ag.seed(0)
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        >>> optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1))
        >>> forward = ag.capture(model)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     loss = F.cross_entropy(forward([[0.0, 1.0], [1.0, 0.0]]), [0, 1])
        ...     optimizer.step(loss)
        >>> loss.item() < 0.1
        True
    """
    return Captured(function)


class Captured:
    """A function as `capture` returns it.

    Attributes:
        function: the function that was captured.
        last: the plan of the last call, None before the first.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.last: Plan | None = None
        self._plans: dict[Any, Plan] = {}

    def __call__(self, *arguments: ArrayLike | Tensor) -> Tensor:
        """Return what the function returns for these arguments."""
        # Inside another captured function, and where each operation is to be checked.
        if recorder.get() is not None or recorded_at.get() is not None:
            return self.function(*arguments)
        tensors = [as_tensor(argument) for argument in arguments]
        key = (is_grad_enabled(), *((t.shape, t.dtype, t.requires_grad) for t in tensors))
        plan = self._plans.get(key)
        arrays = plan.leaf_arrays() if plan is not None else None
        if plan is not None and arrays is not None:
            replay = Replay(plan)
        else:
            plan, recorded = record_plan(self.function, tensors)
            replay = Replay(plan, recorded)
            self._plans.pop(key, None)
            self._plans[key] = plan
            if len(self._plans) > _PLANS:
                del self._plans[next(iter(self._plans))]
        if self.last is not None and self.last is not plan:
            self.last.kept.clear()
        self.last = plan
        if not plan.differentiable:
            with no_grad():
                return apply(replay, *tensors, *plan.leaves)
        if arrays is None or plan.has_stray_views or any(map(is_stray_view, tensors)):
            return apply(replay, *tensors, *plan.leaves)
        # What `apply` does, less what is known of the leaves.
        inputs = (*(tensor.data for tensor in tensors), *arrays)
        require_one_device(replay, inputs)
        parents = [(t.node or t) if t.requires_grad else None for t in tensors]
        return record(replay, inputs, (*parents, *plan.parents), [*pinned(tensors), *plan.pins()])


def record_plan(function: Callable[..., Tensor], arguments: list[Tensor]) -> tuple[Plan, Run]:
    """Call a function on stand-ins for its arguments, and return the plan and the recorded run."""
    tape = Tape(arguments)
    with recording(tape):
        result = function(*tape.arguments)
    if not isinstance(result, Traced):
        raise CaptureError(
            f"capture: the function returned a {type(result).__name__}; it must return a Tensor "
            "that it computed from its arguments"
        )
    program = fuse_dense(Program(result.source, tape.operations, tape.leaves))
    plan = Plan(program, list(tape.leaves), len(arguments), result.requires_grad, tape.modules)
    recorded = program.recorded
    # What belongs to this call alone must not live as long as the plan.
    program.nodes, program.leaves, program.recorded = [], {}, Run([], {})
    return plan, recorded


class Plan:
    """A captured function's program, and the conditions under which it may run again.

    Args:
        program: its first slots after the results are those of the arguments and other leaves.
        tensors: the arguments and the leaves, in this order.
        arguments: how many of them are arguments.
        differentiable: whether the result requires a gradient.
        modules: the modules that the function calls, and their modes.

    Attributes:
        kept: the arrays of the last run from the start, and of the last one to an end, until the
            next ones take their place. Freed all at once, their memory would go back to the system
            and be fetched again page by page.
    """

    def __init__(
        self,
        program: Program,
        tensors: list[Tensor],
        arguments: int,
        differentiable: bool,
        modules: list[tuple[Any, bool]],
    ) -> None:
        self.program = program
        self.leaves = tensors[arguments:]
        self.inputs = slice(program.count, program.count + len(tensors))
        self.constants = program.recorded.values[self.inputs.stop :]
        self.differentiable = differentiable
        self.without_average = program.without_average()
        self.parents = [leaf if leaf.requires_grad else None for leaf in self.leaves]
        self.has_stray_views = True
        self.kept: dict[str, Values] = {}
        self._size = len(program.recorded.values)
        self._modules = modules
        self._arrays: Values = [None] * len(self.leaves)
        self._kinds = [(leaf.shape, leaf.dtype) for leaf in self.leaves]
        self._homes: dict[weakref.ref[Flat], list[tuple[int, int]]] = {}

    def leaf_arrays(self) -> list[Array] | None:
        """Return the arrays of the leaves; None if anything the recording depended on has changed.

        The arguments are not looked at.
        """
        arrays = [leaf.data for leaf in self.leaves]
        if not all(map(is_, arrays, self._arrays)):
            if [(array.shape, array.dtype) for array in arrays] != self._kinds:
                return None
            self._arrays = arrays
            self.has_stray_views = any(map(is_stray_view, self.leaves))
            self._homes = self._find_homes()
        parents = [leaf if leaf.requires_grad else None for leaf in self.leaves]
        modes = [module.training == mode for module, mode in self._modules]
        return arrays if all(modes) and all(map(is_, parents, self.parents)) else None

    def pins(self) -> list[Pin]:
        """Return the pins on the arrays of the leaves, none of which is a stray view."""
        if all(leaf.is_writable() for leaf in self.leaves):
            return [pin_together(self.leaves)]
        return pinned(self.leaves)

    def run(self, name: str, inputs: Values, start: Run | None = None) -> Run:
        """Run the program; the last run of that name gives its memory up array by array."""
        run = self.program.run([*inputs, *self.constants], start, self.kept.pop(name, None))
        self.kept[name] = list(run.values)
        return run

    def sweep(self, grad: Array, start: Run, end: Run) -> Gradients:
        """Return the gradients of the inputs, those of a Flat's leaves side by side."""
        places: Values = [None] * self._size
        for reference, slots in self._homes.items():
            flat = reference()
            if flat is not None:
                views = flat.buffer().views
                for slot, part in slots:
                    places[slot] = views[part]
        return list(map(as_array, self.program.sweep(grad, start, end, places)[self.inputs]))

    def _find_homes(self) -> dict[weakref.ref[Flat], list[tuple[int, int]]]:
        """Return for each Flat the slots of the leaves that are its parts, and which parts."""
        homes: dict[weakref.ref[Flat], list[tuple[int, int]]] = {}
        first = self.inputs.stop - len(self.leaves)
        for slot, leaf in enumerate(self.parents, start=first):
            home = None if leaf is None else leaf.home
            flat = None if home is None else home.flat()
            if flat is not None and flat.has(leaf.data, home.part):
                homes.setdefault(home.flat, []).append((slot, home.part))
        return homes


class Replay(Operation):
    """One call of a captured function.

    The values of a run stay for as long as its result is referred to: of the first for ordinary
    sweeps, and of the runs from other inputs that average sweeps make.
    """

    owns_gradients = True

    def __init__(self, plan: Plan, recorded: Run | None = None) -> None:
        self.plan = plan
        self.recorded = recorded  # by the call itself, if it is the first
        self.start: Run | None = None
        self.runs: dict[int, tuple[weakref.ref[Array], Run]] = {}

    def forward(self, *inputs: Array) -> Array:
        if self.start is not None:
            run = self.plan.run("end", [*inputs], self.start)
        elif self.recorded is not None:
            values, called = self.recorded
            results = values[: self.plan.program.count]
            run = self.start = Run([*results, *inputs, *self.plan.constants], called)
            self.recorded = None
        else:
            run = self.start = self.plan.run("start", [*inputs])
        # A view is this run's alone, even where the result is one of the inputs.
        out = run.values[self.plan.program.result].view()
        self._remember(out, run)
        return out

    def _remember(self, out: Array, run: Run) -> None:
        """Keep a run until `out` is gone."""
        key, this = id(out), weakref.ref(self)  # a cycle would keep all of it for some time

        def forget(_: Any) -> None:
            replay = this()
            if replay is not None:
                del replay.runs[key]

        self.runs[key] = weakref.ref(out, forget), run

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        run = self.runs[id(out)][1]
        return self.plan.sweep(grad, run, run)

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        before, after = (self.runs[id(point.out)][1] for point in (start, end))
        return self.plan.sweep(grad, before, after)

    @property
    def without_average(self) -> Operation | None:
        """The first operation of the plan whose averaged Jacobian is unknown, or None."""
        return self.plan.without_average
