"""Functions of Tensors whose Python runs once, and whose operations run at every call.

While a function is captured its arguments are `Traced`: Tensors without values, on which it cannot
depend. Its operations go to a `Tape`, which becomes a `Plan`: their program, and the conditions
under which it may run again. Each call is one operation of the graph, a `Replay` of the plan.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, is_
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agrad.backend import Array, as_array, device_of, is_array, scalar
from agrad.core.anomaly import recorded_at
from agrad.core.context import is_grad_enabled, no_grad, recorder, recording
from agrad.core.flat import GradientPlaces
from agrad.core.program import Node, Program, Recorded, Run, Values, compute
from agrad.core.tensor import (
    Tensor,
    all_writable,
    apply,
    arrays_of,
    as_tensor,
    is_stray_view,
    pin_together,
    pinned,
    record,
    require_gradients,
    sources,
    wanting,
)
from agrad.errors import CaptureError, HigherDerivativeError
from agrad.ops.operation import Apply, Gradients, Operation, Point
from agrad.tracing.dense import StackStep, fuse_dense

__all__ = ["Captured", "Plan", "Replay", "Tape", "Traced", "capture"]

_PLANS = 16  # one for each combination of shapes; beyond that, the oldest is dropped


def capture(function: Callable[..., Tensor]) -> Captured:
    """Return a version of `function` whose Python runs once, and its operations at every call.

    The first call records the operations. Later calls run them on new arguments and on the current
    values of all other Tensors: dropout draws a new mask at each call, and batch normalization
    follows each batch. Results and both kinds of gradients are those of the function, bit for bit,
    with one exception: successive dense layers, in float32 on the CPU, run as one step that takes
    sums in another order. Its results differ from the function's by a few roundings of their terms,
    and are the same bits at every call with the same number of threads. (Several calls in one graph
    add to a gradient call by call.) The next call replaces the arrays of this one.

    A call records again if anything the recording depended on has changed: the shapes and dtypes of
    the arguments; the shape, dtype and `requires_grad` of the other Tensors; the mode of every
    Module called; whether gradients are recorded. **All other Python is frozen**: branches, numbers
    and attributes are those of the recording. Arrays and lists of numbers are refused: pass them as
    arguments, or make Tensors of them outside the function, as buffers for example. Each call uses
    the present values of such Tensors. Comparisons of arguments that require no gradient are
    recorded, for masks from ids for example.

    Args:
        function: Takes arrays or Tensors, by position or by name, and returns a Tensor; a Module,
            for example. It always gets Tensors: Python's numbers, and lists of them, become Tensors
            of float32, int64 or bool, which promote as Tensors do.

    Raises:
        CaptureError: When called: the function looks at values of its arguments or results,
            computes with arrays or lists of numbers, detaches a Tensor, changes a Tensor other than
            a result of its own in place, or does not return a Tensor.

    Example:
        >>> import agrad as ag
        >>> weight = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> loss = ag.capture(lambda x: ((weight * x) ** 2).sum())
        >>> for x in [[1.0, 1.0], [1.0, 2.0]]:
        ...     loss(x).backward()
        >>> weight.grad
        array([ 4., 20.], dtype=float32)
    """
    return Captured(function)


class Captured:
    """A function as `capture` returns it.

    Attributes:
        function: The function that was captured.
        last: The plan of the last call, None before the first.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.last: Plan | None = None
        self._plans: dict[Any, Plan] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle only the function; a copy records again at its first call."""
        return {"function": self.function}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Captured.__init__(self, **state)

    def __call__(self, *arguments: ArrayLike | Tensor, **named: ArrayLike | Tensor) -> Tensor:
        """Return the function's result for these arguments."""
        # Inside another captured function, and inside `detect_anomaly`.
        if recorder.get() is not None or recorded_at.get() is not None:
            return self.function(*arguments, **named)
        tensors = [as_tensor(argument) for argument in (*arguments, *named.values())]
        names = tuple(named)
        key = (is_grad_enabled(), names, *((t.shape, t.dtype, t.requires_grad) for t in tensors))
        plan = self._plans.get(key)
        arrays = plan.leaf_arrays() if plan is not None else None
        if plan is not None and arrays is not None:
            replay = Replay(plan)
        else:
            plan = Plan(self.function, tensors, names)
            replay = Replay(plan)  # takes the recorded run before other threads see the plan
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
        # Like `apply`, without the checks of leaves whose state is known.
        inputs = (*arrays_of(tensors), *arrays)
        parents = (*sources(tensors), *plan.parents)
        pins = [pin_together(plan.leaves)] if all_writable(plan.leaves) else pinned(plan.leaves)
        return record(replay, inputs, parents, [*pinned(tensors), *pins])


class Traced(Tensor):
    """A Tensor in a function that is being captured.

    Attributes:
        array: Its array in the call that records.
        source: The node that computed it; itself for an argument.
    """

    __slots__ = ("array", "source")

    def __init__(self, array: Array, source: Node | None, requires_grad: bool) -> None:
        self.array, self.source = array, self if source is None else source
        self.node = self._pin = self.home = self._grad = self._average_grad = self.grad_of = None
        self._requires_grad = requires_grad

    @property
    def _data(self) -> Array:  # type: ignore[override]
        raise CaptureError(
            "capture: the function looks at the values of a Tensor, which only the call that "
            "records would see; compute with operations on Tensors, or leave this part uncaptured"
        )

    shape, dtype, ndim, size = (
        property(attrgetter(f"array.{name}")) for name in ("shape", "dtype", "ndim", "size")
    )

    @property
    def device(self) -> str:
        return device_of(self.array)

    @property
    def is_leaf(self) -> bool:
        return self.source is self

    def _become(self, name: str, result: Any) -> None:
        if self.is_leaf:
            raise CaptureError(
                f"capture: the function changes an argument of shape {self.shape} in place by "
                f"{name}, which would not change the caller's; write x = x {name[:-1]} y"
            )
        self.array, self.source = result.array, result.source
        self._requires_grad = result.requires_grad

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"


class Tape:
    """Records the operations of a function, and the leaves and modules that it uses."""

    def __init__(self, arguments: list[Tensor]) -> None:
        # Pinned while the function runs, so that a view of an input is read-only from the start.
        self.pins = pinned(arguments)
        self.arguments = [Traced(t.data, None, t.requires_grad) for t in arguments]
        self.leaves: dict[Tensor, Array] = {traced: traced.array for traced in self.arguments}
        self.operations: list[Recorded] = []
        self.modes: list[tuple[Any, bool]] = []

    def traces(self, values: Any) -> bool:
        """Return whether any of the values is an argument, or was computed from one."""
        return any(isinstance(value, Traced) for value in values)

    def enter(self, module: Any) -> None:
        """Record a module that is called, and its mode."""
        self.modes.append((module, module.training))

    def record(self, operation: Operation, inputs: tuple[Any, ...]) -> Tensor:
        """Compute an operation, and record it."""
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        sources, arrays = zip(*(self._operand(operation, value, tensors) for value in inputs))
        _refuse_arrays(operation)
        with recording(None):  # an operation's own calls are not part of the function
            called, out = compute(operation, arrays)
        wants = [is_grad_enabled() and getattr(value, "requires_grad", False) for value in inputs]
        if any(wants):
            require_gradients(called, out)
        parents = tuple([source if wanted else None for source, wanted in zip(sources, wants)])
        node = Node(called, arrays, out, parents, [])
        self.operations.append((node, operation, sources))
        return Traced(out, node, any(wants) and called.differentiable)

    def _operand(
        self, operation: Operation, value: Any, tensors: list[Tensor]
    ) -> tuple[Any, Array]:
        """Return the source of an input, None for a constant, and its array."""
        name = type(operation).__name__
        if isinstance(value, Traced):
            return value.source, value.array
        if isinstance(value, Tensor) and value.is_leaf:
            if value not in self.leaves:
                self.pins += pinned([value])
            return value, self.leaves.setdefault(value, value.data)
        if isinstance(value, Tensor):
            what = f"Tensor of shape {value.shape} that was computed outside the function"
            raise CaptureError(f"capture: {name} takes a {what}; pass it as an argument")
        if isinstance(value, np.generic) and tensors:
            _, like = self._operand(operation, tensors[0], tensors)
            return None, scalar(value, value.dtype, like)
        raise CaptureError(
            f"capture: {name} takes a {type(value).__name__}, whose values would be frozen; "
            "pass it as an argument, or make it a Tensor outside the function"
        )


def _refuse_arrays(operation: Operation) -> None:
    """Reject an operation that holds arrays, which the function computed by other means."""

    def arrays(value: Any) -> Iterator[Array]:
        if is_array(value):
            yield value
        elif isinstance(value, slice):
            yield from arrays((value.start, value.stop, value.step))
        elif isinstance(value, tuple | list):
            for part in value:
                yield from arrays(part)

    for name, value in vars(operation).items():
        for array in arrays(value):
            raise CaptureError(
                f"capture: {type(operation).__name__} holds an array of shape {array.shape} as its "
                f"{name}, which would be frozen; leave this part uncaptured"
            )


class Plan:
    """A captured function's program, and what its recording depended on.

    Args:
        function: The function.
        arguments: Its arguments, those passed by name last.
        names: The names of these.

    Attributes:
        program: The slots of arguments, leaves and constants follow those of the results.
        leaves: The Tensors that the function uses besides its arguments.
        first: The recorded run, which the first `Replay` takes.
        kept: The arrays of the last start run and end run, until the next run replaces them one by
            one. Freed at once, their memory would have to be faulted in again page by page.
    """

    def __init__(
        self, function: Callable[..., Tensor], arguments: list[Tensor], names: tuple[str, ...]
    ) -> None:
        tape = Tape(arguments)
        by_position = len(arguments) - len(names)
        named = dict(zip(names, tape.arguments[by_position:]))
        with recording(tape):
            result = function(*tape.arguments[:by_position], **named)
        if not isinstance(result, Traced):
            raise CaptureError(
                f"capture: the function returned a {type(result).__name__}; it must return a "
                "Tensor that it computed from its arguments"
            )
        program = fuse_dense(Program(result.source, tape.operations, tape.leaves))
        values = program.recorded.values
        self.first: Run | None = program.recorded
        self.differentiable = result.requires_grad
        # Objects of the recording call must not live as long as the plan.
        program.nodes, program.leaves, program.recorded = [], {}, Run([], {})
        self.program, self.size = program, len(values)
        self.inputs = slice(program.count, program.count + len(tape.leaves))
        self.constants = values[self.inputs.stop :]
        self.leaves = list(tape.leaves)[len(arguments) :]
        self.parents = sources(self.leaves)
        self.kept: dict[str, Values] = {}
        self._modes = tape.modes
        self._wanting = wanting(self.leaves)
        self._kinds = [(leaf.shape, leaf.dtype) for leaf in self.leaves]
        self._arrays: Values = [None] * len(self.leaves)
        self._sources = dict(enumerate(self.parents, self.inputs.stop - len(self.leaves)))
        stacks = [step for step in program.backwards if isinstance(step, StackStep)]
        self._runs = {step.between: step.slots[1:] for step in stacks}
        self._places = GradientPlaces(self._sources, self._runs)
        self.has_stray_views = True

    def leaf_arrays(self) -> list[Array] | None:
        """Return the arrays of the leaves; None if anything the recording depended on has changed.

        The arguments are not checked.
        """
        arrays = arrays_of(self.leaves)
        if not all(map(is_, arrays, self._arrays)):
            if [(array.shape, array.dtype) for array in arrays] != self._kinds:
                return None
            self.has_stray_views = any(map(is_stray_view, self.leaves))
            self._places = GradientPlaces(self._sources, self._runs)
            self._arrays = arrays  # last, for other threads
        modes = [
            module.training == mode and not module.backward_hooks for module, mode in self._modes
        ]
        return arrays if all(modes) and wanting(self.leaves) == self._wanting else None

    def run(self, name: str, inputs: Values, start: Run | None = None) -> Run:
        """Run the program; the last run of that name releases its arrays one by one."""
        run = self.program.run([*inputs, *self.constants], start, self.kept.pop(name, None))
        self.kept[name] = list(run.values)
        return run

    def sweep(self, grad: Array, start: Run, end: Run) -> Gradients:
        """Return the gradients of the inputs."""
        places = self._places.arrays(self.size)
        return list(map(as_array, self.program.sweep(grad, start, end, places)[self.inputs]))


class Replay(Operation):
    """One call of a captured function.

    Attributes:
        first: The recorded run, until the first call has taken it.
        start: The run of the first call.
        runs: By the identity of its result, each run whose result is still referenced.
    """

    owns_gradients = True
    promotes = False  # its operations have been recorded with the dtypes of the inputs

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.first, plan.first = plan.first, None
        self.start: Run | None = None
        self.runs: dict[int, tuple[Run, weakref.ref[Array]]] = {}

    def require_average(self) -> None:
        self.plan.program.require_averages(self.start)

    def forward(self, *inputs: Array) -> Array:
        plan, first = self.plan, self.first
        if self.start is not None:
            run = plan.run("end", [*inputs], self.start)
        elif first is not None:
            results = first.values[: plan.program.count]
            run = self.start = first._replace(values=[*results, *inputs, *plan.constants])
            self.first = None
        else:
            run = self.start = plan.run("start", [*inputs])
        # The view belongs to this run alone, even if the result is one of the inputs.
        out: Array = run.values[plan.program.result].view()
        key, this = id(out), weakref.ref(self)  # a reference cycle would delay freeing
        forget = weakref.ref(out, lambda _: (replay := this()) and replay.runs.pop(key))
        self.runs[key] = run, forget
        return out

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        run, _ = self.runs[id(out)]
        return self.plan.sweep(grad, run, run)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        raise HigherDerivativeError(
            "Replay: the backward pass of a captured function cannot be recorded, so it has no "
            "higher derivatives; call the function itself, uncaptured"
        )

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        return self.plan.sweep(grad, self.runs[id(start.out)][0], self.runs[id(end.out)][0])
