"""Functions of Tensors whose operations are recorded once and then run without the Python around.

While a function is captured its arguments are `Traced`: Tensors whose values nobody can look at, so
that whatever it decides it decides by shapes, dtypes and its own constants. Each operation goes to
a `Tape`, with where its inputs come from. What the tape holds in the end is a `Plan`: one list of
operations over numbered slots, to be run forward or swept back, also with averaged Jacobians. A
call of the captured function is then a single operation of the graph, a `Replay` of the plan, and
whatever else a graph can do stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from agrad.core.anomaly import detecting
from agrad.core.mode import active_tape, is_grad_enabled, no_grad, taping
from agrad.core.tensor import Tensor, apply, as_tensor, is_stray_view, pinned, record
from agrad.errors import CaptureError
from agrad.ops.device import require_one_device
from agrad.tracing.plan import Plan, Replay
from agrad.tracing.tape import Tape, Traced

__all__ = ["Captured", "capture"]

_PLANS = 16  # a plan for each combination of shapes met, of which so many are kept


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
        ...     loss = optimizer.step(F.cross_entropy(forward([[0.0, 1.0], [1.0, 0.0]]), [0, 1]))
        >>> loss < 0.1
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
        self._plans: dict[Any, Plan] = {}
        self.last: Plan | None = None

    def __call__(self, *arguments: ArrayLike | Tensor) -> Tensor:
        """Return what the function returns for these arguments."""
        # As a part of a function that is captured itself, or to be looked through line by line.
        if active_tape() is not None or detecting():
            return self.function(*arguments)
        tensors = [as_tensor(argument) for argument in arguments]
        key = (is_grad_enabled(), *((t.shape, t.dtype, t.requires_grad) for t in tensors))
        plan = self._plans.get(key)
        arrays = plan.leaf_arrays() if plan is not None else None
        if plan is not None and arrays is not None:
            replay = Replay(plan)
        else:
            plan, replay = self._record(tensors)
            self._plans.pop(key, None)
            if len(self._plans) == _PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan
        if self.last is not None and self.last is not plan:
            self.last.kept.clear()
        self.last = plan
        if not plan.differentiable:
            with no_grad():
                return apply(replay, *tensors, *plan.leaves)
        if arrays is None or plan.has_stray_views or any(map(is_stray_view, tensors)):
            return apply(replay, *tensors, *plan.leaves)
        # As `apply` would, but for what is known of the leaves.
        inputs = (*(tensor._data for tensor in tensors), *arrays)
        require_one_device(replay, inputs)
        parents = [(t._node or t) if t._requires_grad else None for t in tensors]
        return record(replay, inputs, (*parents, *plan.parents), [*pinned(tensors), *plan.pins()])

    def _record(self, arguments: list[Tensor]) -> tuple[Plan, Replay]:
        tape = Tape(arguments)
        with taping(tape):
            result = self.function(*tape.arguments)
        if not isinstance(result, Traced):
            raise CaptureError(
                f"capture: the function returned a {type(result).__name__}; it must return a "
                "Tensor that it computed from its arguments"
            )
        plan = Plan(tape, result.slot)
        return plan, Replay(plan, tape.values())
