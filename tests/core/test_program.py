"""The engine: recording, sweeping, freeing, and the protection of what a graph still needs."""

import contextlib
import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad import nn
from agrad.backend import Array
from agrad.core.tensor import apply
from agrad.errors import AverageUndefinedError, FreedGraphError
from agrad.ops.operation import Operation


class Kindless(Operation):
    """2x, with no kind."""

    def forward(self, x: Array) -> Array:
        return 2 * x

    def backward(self, grad, needs, out, x):
        return (2 * grad,)


class Failing(Kindless):
    """Fails in the backward pass."""

    def backward(self, grad, needs, out, x):
        raise RuntimeError("on the way back")

    average_backward = backward


def weights(*values: float, dtype: Any = np.float64) -> ag.Tensor:
    return ag.tensor(list(values), requires_grad=True, dtype=dtype)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the collector: reference counts alone free memory, so a cycle shows."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# -- gradients -----------------------------------------------------------------------------------


def test_backward_adds_to_grad() -> None:
    x = weights(1, 2)
    for times in (1, 2, 3):
        (x * x).sum().backward()
        np.testing.assert_array_equal(x.grad, times * 2 * x.data)
    assert x.average_grad is None
    x.zero_grad()
    assert x.grad is None


def test_average_backward_adds_to_average_grad() -> None:
    x = weights(1, 2)
    for times in (1, 2, 3):
        end = (x * x).sum().average_backward({x: [1.0, 1.0]})
        np.testing.assert_allclose(x.average_grad, times * (2 * x.data + 1), rtol=1e-15)
        assert end == 4 + 9
    assert x.grad is None
    x.zero_grad()
    assert x.average_grad is None


def test_a_grad_kept_by_the_user_does_not_change() -> None:
    x = weights(1, 2)
    (x * x).sum().backward()
    kept = x.grad
    (x * x).sum().backward()
    np.testing.assert_array_equal(kept, [2, 4])


def test_diamond() -> None:
    x = weights(3)
    a = x * 2
    b, c = a * a, a * 5
    (b * c).sum().backward()  # 5 (2x)³
    np.testing.assert_allclose(x.grad, 5 * 8 * 3 * x.data**2)


def test_unequal_paths_from_one_value() -> None:
    """The short path's gradient must wait for the long one's before it passes on."""
    x = weights(0.5)
    a = x * 3
    long = a
    for _ in range(5):
        long = long * 2
    (a * long).sum().backward()  # 32 · 9 x²
    np.testing.assert_allclose(x.grad, 32 * 9 * 2 * x.data)


@pytest.mark.parametrize("sum_first", [False, True])
@pytest.mark.parametrize("captured", [False, True])
def test_adding_up_gradients_changes_none_of_them(sum_first: bool, captured: bool) -> None:
    """A sum passes one array to both operands, and one of them receives another gradient."""
    x, y = weights(1, 2), weights(3, 4)

    def function(x: ag.Tensor, y: ag.Tensor) -> ag.Tensor:
        a, b = x * 2.0, y * 3.0
        terms = [a + b, a * 5.0]
        return terms[0] + terms[1] if sum_first else terms[1] + terms[0]

    out = (ag.capture(function) if captured else function)(x, y)
    cotangent = np.array([1.0, 10.0])
    out.backward(cotangent)
    np.testing.assert_array_equal(x.grad, 2 * (1 + 5) * np.array([1, 10]))
    np.testing.assert_array_equal(y.grad, 3 * np.array([1, 10]))
    np.testing.assert_array_equal(cotangent, [1, 10])


def test_a_leaf_used_three_times() -> None:
    x = weights(2, 3)
    (x * x * x).sum().backward()
    np.testing.assert_allclose(x.grad, 3 * x.data**2)


def test_one_tensor_as_both_operands() -> None:
    x = weights(2, 3)
    (x + x).backward(np.array([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad, [2, 20])


def test_backward_of_a_leaf() -> None:
    x = ag.tensor(2.0, requires_grad=True)
    x.backward()
    np.testing.assert_array_equal(x.grad, 1)
    assert x.grad.dtype == np.float32


def test_backward_leaves_the_cotangent_alone() -> None:
    x = weights(1, 2)
    cotangent = np.array([3.0, 4.0])
    x.backward(cotangent)
    (x + 0.0).backward(cotangent)
    x.grad[:] = 0
    np.testing.assert_array_equal(cotangent, [3, 4])


SOURCES: dict[str, Callable[..., Array]] = {
    "own": lambda own, one, grad, out, inputs: own,
    "one": lambda own, one, grad, out, inputs: one,
    "view of one": lambda own, one, grad, out, inputs: one[:],
    "one turned": lambda own, one, grad, out, inputs: one[::-1],
    "grad": lambda own, one, grad, out, inputs: grad,
    "view of grad": lambda own, one, grad, out, inputs: grad[:],
    "input": lambda own, one, grad, out, inputs: inputs[0],
    "view of an input": lambda own, one, grad, out, inputs: inputs[-1][::-1],
    "out": lambda own, one, grad, out, inputs: out,
    "view of out": lambda own, one, grad, out, inputs: out[:],
}


class Aliasing(Operation):
    """A sum whose gradients are the arrays that `sources` names, of any value and any owner."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.sources = list(sources)
        self.given: dict[int, Array] = {}

    def forward(self, *inputs):
        return sum(inputs[1:], inputs[0].copy())

    def backward(self, grad, needs, out, *inputs):
        one = np.array([5.0, 6.0, 7.0])
        gradients = [
            SOURCES[source](np.full(3, float(i)), one, grad, out, inputs)
            for i, source in enumerate(self.sources)
        ]
        self.given = {i: gradient.copy() for i, gradient in enumerate(gradients)}
        return gradients

    def average_backward(self, grad, needs, start, end):
        return self.backward(grad, needs, start.out, *start.inputs)


WAYS: dict[str, Callable[[ag.Tensor], ag.Tensor]] = {
    "the leaf itself": lambda x: x,
    "its gradient passed on": lambda x: x + 0.0,
    "its gradient reshaped": lambda x: x.reshape(3),
}


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("numbers", [(0, 1), (0, 0)], ids=["two leaves", "one leaf twice"])
@pytest.mark.parametrize("way", WAYS)
def test_gradients_share_no_memory_whatever_an_operation_returns(
    average: bool, captured: bool, numbers: tuple[int, int], way: str
) -> None:
    """Changing one `.grad` in place, as clipping does, changes no other array."""
    for sources in product(SOURCES, repeat=2):
        leaves = [weights(1, 2, 4), weights(2, 2, 4)]
        operation = Aliasing(sources)

        def function(x: ag.Tensor, y: ag.Tensor, operation: Any = operation) -> ag.Tensor:
            return apply(operation, WAYS[way]([x, y][numbers[0]]), [x, y][numbers[1]])

        out = (ag.capture(function) if captured else function)(*leaves)
        loss, cotangent = out.sum(), np.array([2.0, 3.0, 4.0])
        known = [*(leaf.data for leaf in leaves), out.data, cotangent]
        before = [array.copy() for array in known]
        for times in (1, 2):
            if average:
                loss.average_backward({leaves[0]: [1.0, 1.0, 1.0]}, retain_graph=True)
            else:
                out.backward(cotangent, retain_graph=True)
            grads = [leaf.average_grad if average else leaf.grad for leaf in leaves]
            for i, grad in enumerate(grads):
                parts = [operation.given[j] for j in range(2) if numbers[j] == i]
                if not parts:
                    assert grad is None
                    continue
                np.testing.assert_array_equal(grad, times * sum(parts))
                assert grad.flags.writeable
                others = [*known, *(other for other in grads[:i] if other is not None)]
                assert not any(np.shares_memory(grad, other) for other in others)
        for array, values in zip(known, before, strict=True):
            np.testing.assert_array_equal(array, values)


def test_broadcast_gradients_are_summed() -> None:
    x, y = weights(1, 2, 3), ag.tensor([[2.0], [3.0]], requires_grad=True, dtype=np.float64)
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, [5, 5, 5])
    np.testing.assert_array_equal(y.grad, [[6], [6]])


def test_mixed_precision_gradients_have_the_leaf_s_dtype() -> None:
    x, y = weights(1, 2, dtype=np.float32), weights(3, 4)
    (x * y).sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(x.grad, [3, 4])


class Counting(Kindless):
    """Notes which gradients were needed."""

    def __init__(self) -> None:
        self.needs: list[tuple[bool, ...]] = []

    def forward(self, x, y):
        return x * y

    def backward(self, grad, needs, out, x, y):
        self.needs.append(needs)
        return grad * y, grad * x


class Strict(Counting):
    """Accepts only arrays: NumPy's arithmetic returns scalars in place of 0-d arrays."""

    def forward(self, x, y):
        assert type(x) is type(y) is np.ndarray
        return super().forward(x, y)

    def backward(self, grad, needs, out, x, y):
        assert {type(array) for array in (grad, out, x, y)} == {np.ndarray}
        return super().backward(grad, needs, out, x, y)

    def average_backward(self, grad, needs, start, end):
        for point in (start, end):
            self.backward(grad, needs, point.out, *point.inputs)
        return self.backward(grad, needs, start.out, *start.inputs)


@pytest.mark.parametrize("constant", [2.0, np.float64(2), np.array(2.0), ag.tensor(2.0)], ids=repr)
def test_operations_are_given_arrays_alone(constant: Any) -> None:
    x = ag.tensor(np.array(3.0), requires_grad=True)
    operation = Strict()
    loss = apply(operation, apply(operation, x * x, constant), x)
    loss.average_backward({x: 1.0}, segments=2, retain_graph=True)
    for _ in range(2):
        loss.backward(retain_graph=True)
    assert type(x.grad) is type(x.average_grad) is np.ndarray
    assert x.grad == 2 * (2 * 3 * 9)


def test_constants_get_no_gradient() -> None:
    x, constant = weights(1, 2), ag.tensor(np.array([3.0, 4.0]))
    operation = Counting()
    apply(operation, constant, x).sum().backward()
    assert operation.needs == [(False, True)]
    assert constant.grad is None
    np.testing.assert_array_equal(x.grad, [3, 4])


class Misshapen(Kindless):
    """Returns ones of a given shape as the gradient of its input."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def backward(self, grad, needs, out, x):
        return (np.ones(self.shape),)

    average_backward = backward


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1), (3, 2, 1)], ids=str)
def test_a_gradient_that_does_not_fit_its_input_is_refused(shape: tuple[int, ...]) -> None:
    x = weights(1, 2)
    with pytest.raises(ValueError, match=rf"shape {re.escape(str(shape))} .* \(2,\)"):
        apply(Misshapen(shape), x).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("shape", [(2,), (1, 2), (4, 2), (3, 4, 2)], ids=str)
def test_a_gradient_may_have_any_shape_that_its_input_broadcasts_to(shape: Any) -> None:
    x = weights(1, 2)
    apply(Misshapen(shape), x).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(2, np.prod(shape) / 2))


class Typed(Kindless):
    """Accepts only gradients of its output's dtype."""

    def backward(self, grad, needs, out, x):
        assert grad.dtype == out.dtype
        return (2 * grad,)


@pytest.mark.parametrize("cotangent", [np.array([3.0, 4.0]), [3, 4], ag.tensor([3.0, 4.0])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cotangent_is_converted_to_the_tensors_dtype(cotangent: Any, dtype: Any) -> None:
    for factor, compute in (1, lambda x: x), (2, lambda x: apply(Typed(), x)):
        x = weights(1, 2, dtype=dtype)
        compute(x).backward(cotangent)
        assert x.grad.dtype == dtype
        np.testing.assert_array_equal(x.grad, [3 * factor, 4 * factor])


class Counted(Operation):
    """2x; it counts how often it runs."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return 2 * x

    def backward(self, grad, needs, out, x):
        return (2 * grad,)

    def average_backward(self, grad, needs, start, end):
        return self.backward(grad, needs, start.out, *start.inputs)


@pytest.mark.parametrize("captured", [False, True])
def test_an_average_sweep_runs_again_only_what_moves(captured: bool) -> None:
    moving, still = Counted(), Counted()

    def function(x: ag.Tensor, y: ag.Tensor) -> ag.Tensor:
        return (apply(moving, x) * apply(still, y)).sum()

    x, y = weights(1, 2), weights(3, 4)
    loss = (ag.capture(function) if captured else function)(x, y)
    loss.average_backward({x: [1.0, 1.0]}, segments=3)
    assert (moving.runs, still.runs) == (1 + 3, 1)


def test_nothing_is_recorded_unless_needed() -> None:
    result = ag.tensor([1.0]) * ag.tensor([2.0])
    assert not result.requires_grad
    assert result.is_leaf


# -- freeing -------------------------------------------------------------------------------------

SWEEPS: dict[str, Callable[..., Any]] = {
    "backward": lambda loss, x, **options: loss.backward(**options),
    "average_backward": lambda loss, x, **options: loss.average_backward(
        {x: np.full(x.shape, 0.5)}, **options
    ),
}
every_sweep = pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)


@every_sweep
@pytest.mark.parametrize("second", SWEEPS.values(), ids=SWEEPS)
def test_a_freed_graph_raises_and_changes_nothing(sweep: Any, second: Any) -> None:
    x = weights(1, 2)
    loss = (x * x).sum()
    sweep(loss, x)
    grads = x.grad, x.average_grad
    with pytest.raises(FreedGraphError, match="retain_graph"):
        second(loss, x)
    assert (x.grad, x.average_grad) == grads or all(
        a is b for a, b in zip((x.grad, x.average_grad), grads, strict=True)
    )


@every_sweep
def test_a_graph_freed_in_part_raises_before_it_changes_anything(sweep: Any) -> None:
    x, other = weights(1, 2), weights(1, 2)
    shared = x * x
    loss = (shared * other).sum()
    shared.sum().backward()
    with pytest.raises(FreedGraphError, match="Multiply"):
        sweep(loss, other)
    assert other.grad is other.average_grad is None


def test_a_freed_node_with_hooks_is_named_by_its_operation() -> None:
    x = weights(1, 2)
    shared = x * x
    shared.register_hook(lambda grad: None)
    shared.sum().backward()
    with pytest.raises(FreedGraphError, match="was freed at Multiply by"):
        shared.sum().backward()


def test_retain_graph_keeps_it_for_other_sweeps() -> None:
    x = weights(1, 2)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.average_backward({x: [0.0, 0.0]}, retain_graph=True)
    loss.average_backward({x: [1.0, 1.0]}, extrapolate=True, retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(x.grad, 2 * 2 * x.data)
    with pytest.raises(FreedGraphError):
        loss.backward()


@pytest.mark.parametrize("options", [{}, {"segments": 3}, {"extrapolate": True}], ids=str)
def test_the_last_average_sweep_frees(options: Any) -> None:
    x = weights(1, 2)
    loss = (x * x).sum()
    loss.average_backward({x: [1.0, 1.0]}, **options)
    with pytest.raises(FreedGraphError):
        loss.backward()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("sweep", [None, *SWEEPS.values()], ids=["forward", *SWEEPS])
@pytest.mark.parametrize("retain", [False, True])
def test_a_graph_dies_with_its_loss(sweep: Any, retain: bool) -> None:
    x = weights(1, 2)
    a = x * x
    loss = (a * a).sum()
    watched = [weakref.ref(a.data), weakref.ref(loss.data)]
    if sweep:
        sweep(loss, x, retain_graph=retain)
    del a, loss
    assert [ref() for ref in watched] == [None, None]


@pytest.mark.usefixtures("no_collector")
@every_sweep
def test_buffers_go_as_the_sweep_passes(sweep: Any) -> None:
    x = weights(1, 2)
    a = x * x
    loss = (a * a).sum()
    watched = weakref.ref(a.data)
    del a
    assert watched() is not None
    sweep(loss, x)
    assert watched() is None


@pytest.mark.usefixtures("no_collector")
@every_sweep
def test_a_graph_dies_after_an_error_in_its_sweep(sweep: Any) -> None:
    x = weights(1, 2)
    a = x * x
    loss = (apply(Failing(), a) * 3.0).sum()
    watched = weakref.ref(a.data)
    try:
        sweep(loss, x)
    except RuntimeError as error:
        error.__traceback__ = None  # its frames hold the loss
    assert x.grad is x.average_grad is None
    del a, loss
    assert watched() is None
    x.data[0] = 5  # nothing needs it any longer


def test_an_operation_without_a_kind_leaves_the_graph_usable() -> None:
    x = weights(1, 2)
    loss = (apply(Kindless(), x) * x).sum()
    with pytest.raises(AverageUndefinedError, match="Kindless"):
        loss.average_backward({x: [1.0, 1.0]})
    assert x.average_grad is None
    loss.backward()
    np.testing.assert_array_equal(x.grad, 4 * x.data)


# -- depth ---------------------------------------------------------------------------------------


def chain(length: int) -> tuple[ag.Tensor, ag.Tensor]:
    x = weights(1.0)
    y = x
    for i in range(length // 2):
        y = (y * x if i == 0 else y * 1.0) + 0.0
    return x, y.sum()


def seconds_of_a_chain(length: int) -> float:
    start = time.process_time()
    x, loss = chain(length)
    loss.average_backward({x: [1.0]}, retain_graph=True)
    loss.backward()
    del loss
    assert (x.grad, x.average_grad) == (2, 3)
    return time.process_time() - start


def test_deep_graphs_need_no_recursion_and_linear_time() -> None:
    seconds_of_a_chain(400)
    short = seconds_of_a_chain(4000)
    # A chain ten times as long takes ten times as long; quadratic time would be a hundred times.
    assert seconds_of_a_chain(40_000) < 30 * short


@pytest.mark.usefixtures("no_collector")
def test_a_deep_graph_dies_at_once() -> None:
    x, loss = chain(100_000)
    watched = weakref.ref(loss.data)
    del loss
    assert watched() is None
    x.data[0] = 2


# -- arrays that a graph needs -------------------------------------------------------------------

CHANGES: dict[str, Callable[[ag.Tensor], Any]] = {
    "assignment": lambda t: t.data.__setitem__(0, 9.0),
    "+=": lambda t: t.data.__iadd__(1.0),
    "numpy()": lambda t: t.numpy().__setitem__(0, 9.0),
    "fill": lambda t: t.data.fill(9.0),
    "out=": lambda t: np.negative(t.data, out=t.data),
    "a view": lambda t: t.data[:1].__setitem__(0, 9.0),
}
CHANGES_BY_VIEW: dict[str, Callable[[ag.Tensor], Any]] = {
    "+=": lambda t: t.__iadd__(10.0),
    "assignment": lambda t: t.__setitem__(0, 9.0),
    "writable()": lambda t: t.writable().__setitem__(0, 9.0),
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@every_change
def test_a_needed_array_cannot_be_changed_in_place(change: Any) -> None:
    x = weights(1, 2)
    a = x * x
    loss = (a * a).sum()
    for needed in (x, a):
        with pytest.raises(ValueError, match="read-only"):
            change(needed)
    loss.backward()
    np.testing.assert_allclose(x.grad, 4 * np.array([1.0, 2.0]) ** 3)
    change(x)
    assert x.data[0] != 1


@pytest.mark.parametrize("change", CHANGES_BY_VIEW.values(), ids=CHANGES_BY_VIEW)
@pytest.mark.parametrize(
    "view", [lambda t: t[:1], lambda t: t.reshape(2, 1), lambda t: t[1:][::-1]]
)
def test_a_needed_array_cannot_be_changed_by_an_older_view(view: Any, change: Any) -> None:
    x, parameter = ag.tensor([1.0, 2.0]), weights(3, 4)
    with ag.no_grad():
        views = view(x), view(parameter)
    loss = (x * parameter * parameter).sum()
    for older in views:
        with ag.no_grad(), contextlib.suppress(ValueError):
            change(older)
    loss.backward()
    np.testing.assert_array_equal(parameter.grad, [6.0, 16.0])


def test_only_a_leaf_is_writable() -> None:
    x = weights(1, 2)
    with pytest.raises(TypeError, match=r"Tensor.writable: an operation computed .* shape \(2,\)"):
        (x * x).writable()
    with pytest.raises(TypeError, match="gradients cannot follow"):
        nn.init.constant_(x * x, 5.0)
    assert (x * x).detach().writable() is not None


def test_a_leaf_that_changed_between_two_uses_moves_from_each_of_its_values() -> None:
    x = weights(1, 2)
    a = x * x
    with ag.no_grad():
        x *= 2
    update = np.array([0.5, -0.25])

    def value(share: float) -> float:
        first, second = (np.array([1.0, 2.0]) * factor + share * update for factor in (1, 2))
        return float((first**2 * second).sum())

    for share in (0.0, 1.0, 3.0):
        x.zero_grad()
        loss = (a * x).sum()
        end = loss.average_backward({x: share * update}, retain_graph=True)
        assert float(end) == pytest.approx(value(share), rel=1e-14)
        change = float((x.average_grad * share * update).sum())
        assert change == pytest.approx(value(share) - value(0), rel=1e-13, abs=1e-14)


def test_a_graph_may_outlive_the_names_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the interpreter's exit, Python sets the names to None, one after the other."""
    x = weights(1, 2)
    loss = (x * x).sum()
    with monkeypatch.context() as exiting:
        exiting.setattr("agrad.core.tensor.np", None)
        del loss
    x.data[0] = 3


def test_a_constant_tensor_cannot_be_changed_while_it_is_needed() -> None:
    x, constant = weights(1, 2), ag.tensor(np.array([3.0, 4.0]))
    loss = (x * constant).sum()
    with pytest.raises(ValueError, match="read-only"):
        constant.data[0] = 0
    del loss
    constant.data[0] = 0


def test_data_plus_equals_raises_and_keeps_the_values() -> None:
    x = weights(1, 2)
    loss = (x * x).sum()
    with pytest.raises(ValueError, match="read-only"):
        x.data += 1
    np.testing.assert_array_equal(x.data, [1, 2])
    del loss
    x.data += 1
    np.testing.assert_array_equal(x.data, [2, 3])


class Shared:
    """An array by NumPy's protocol, whose memory its owner may change."""

    def __init__(self, array: Array) -> None:
        self.__array_interface__ = array.__array_interface__


@pytest.mark.parametrize(
    "present",
    [lambda a: a, lambda a: a[:], Shared, memoryview],
    ids=["array", "view", "Shared", "memoryview"],
)
def test_a_raw_operand_may_be_changed(present: Any) -> None:
    x, raw = weights(1, 2), np.array([3.0, 4.0])
    loss = (x * present(raw)).sum()
    raw[:] = 0
    loss.backward()
    np.testing.assert_array_equal(x.grad, [3, 4])


def test_assigned_values_leave_the_recorded_graph_as_it_was() -> None:
    x = weights(1, 2)
    loss = (x * x).sum()
    x.data = [10, 20]
    x.data[0] = 30  # nobody else has the new array
    loss.average_backward({x: [1.0, 1.0]}, retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])
    np.testing.assert_array_equal(x.average_grad, [3, 5])
    np.testing.assert_array_equal(x.data, [30, 20])


def test_writable_copies_only_what_a_graph_needs() -> None:
    x = weights(1, 2)
    assert x.writable() is x.data
    loss = (x * x).sum()
    old = x.data
    x.writable()[:] = [10, 20]
    assert x.data is not old
    assert x.writable() is x.data
    loss.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])
    np.testing.assert_array_equal(x.data, [10, 20])
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [22, 44])


def test_elements_cannot_be_set_where_a_gradient_would_be_lost() -> None:
    wanted, constant = weights(1, 2), ag.tensor(np.array([3.0, 4.0]))
    for target, value in ((wanted, 5.0), (constant, wanted[0]), (constant, weights(5)[0])):
        with pytest.raises(TypeError, match="gradients cannot follow"):
            target[0] = value
    with ag.no_grad():
        constant[0] = wanted[1]
        wanted[0] = constant[1]
        result = wanted * 2.0
        result[0] = 9.0
    recorded = wanted * 2.0
    with pytest.raises(TypeError, match="gradients cannot follow"), ag.no_grad():
        recorded[0] = 9.0
    assert (constant.tolist(), wanted.tolist(), result.tolist()) == ([2, 4], [4, 2], [9, 4])


def test_a_step_after_each_sweep_never_copies() -> None:
    x = weights(1, 2)
    array = x.data
    for _ in range(3):
        loss = (x * x).sum()
        loss.backward()
        x.writable()[:] -= 0.1 * x.grad
        x.zero_grad()
    assert x.data is array


@given(st.permutations(range(3)))
def test_a_shared_leaf_is_writable_when_its_last_graph_dies(order: list[int]) -> None:
    x = weights(1, 2)
    losses: list[Any] = [(x * (i + 2.0)).sum() if i else (x * x).sum() for i in range(3)]
    for i in order:
        with pytest.raises(ValueError, match="read-only"):
            x.data[0] = 5
        losses[i] = None
    x.data[0] = 5


@given(st.permutations(range(4)), st.booleans())
def test_views_and_their_source_die_in_any_order(order: list[int], flip: bool) -> None:
    x = ag.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    memory = x.data
    view = x.T if flip else x.reshape(3, 2)
    parts: list[Any] = [x, view, (view * view).sum(), (x * view.reshape(2, 3)).sum()]
    del x, view
    for i in order:
        if parts[2] is not None or parts[3] is not None:
            with pytest.raises(ValueError, match="read-only"):
                memory[0, 0] = 5
        parts[i] = None
    memory[0, 0] = 5


def unrecorded_transpose(x: ag.Tensor) -> ag.Tensor:
    with ag.no_grad():
        return x.T


ALIASES: dict[str, Callable[[ag.Tensor], ag.Tensor]] = {
    "detach": lambda x: x.detach(),
    "detach of detach": lambda x: x.detach().detach(),
    "transpose under no_grad": unrecorded_transpose,
    "transpose of a constant": lambda x: ag.tensor(np.array([3.0, 4.0])).T,
}


@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
@pytest.mark.parametrize("pinned_meanwhile", [False, True])
def test_what_shares_memory_with_a_changed_tensor(alias: Any, pinned_meanwhile: bool) -> None:
    """A change of the source must not reach a view whose source the graph does not know."""
    w, x = weights(1, 2), weights(3, 4)
    other = (x * x).sum() if pinned_meanwhile else None
    constant = alias(x)
    loss = (w * constant).sum()
    other = None  # noqa: F841
    for tensor in (x, constant):
        with contextlib.suppress(ValueError):  # refused, or without effect on the graph
            tensor.data[:] = 0
    loss.backward()
    np.testing.assert_array_equal(w.grad, [3, 4])


def test_a_view_of_a_needed_array_dies_after_it_without_an_error() -> None:
    x, w = ag.tensor(np.ones((2, 2))), weights(1, 2)
    view = x.T
    first = (w * view).sum()
    second = (w * x).sum()
    del first  # a finalizer that failed would be reported as an error here
    second.backward()
    np.testing.assert_array_equal(w.grad, [2, 2])


def test_detach_is_a_read_only_view() -> None:
    x = weights(1, 2)
    detached = x.detach()
    assert np.shares_memory(detached.data, x.data)
    assert not detached.requires_grad
    with pytest.raises(ValueError, match="read-only"):
        detached.data[0] = 5
    x.data[0] = 5
    assert detached.data[0] == 5
    detached.writable()[0] = 7
    assert x.data[0] == 5


# -- the switch ----------------------------------------------------------------------------------


def records() -> bool:
    assert ag.is_grad_enabled() == (weights(1) * 2.0).requires_grad
    return ag.is_grad_enabled()


def test_no_grad_nests() -> None:
    with ag.no_grad():
        with ag.no_grad():
            assert not records()
        assert not records()
    assert records()


def test_no_grad_as_decorator() -> None:
    @ag.no_grad()
    def evaluate(depth: int) -> bool:
        return records() if depth == 0 else evaluate(depth - 1)

    for _ in range(2):
        assert not evaluate(2)
        assert records()


@pytest.mark.parametrize("decorator", [ag.no_grad, ag.enable_grad])
def test_what_runs_after_its_call_cannot_be_decorated(decorator: Any) -> None:
    def generator() -> Iterator[bool]:
        yield ag.is_grad_enabled()

    async def coroutine() -> bool:
        return ag.is_grad_enabled()

    async def both() -> Any:
        yield ag.is_grad_enabled()

    for function in (generator, coroutine, both):
        with pytest.raises(TypeError, match=f"cannot decorate {function.__name__}, which runs"):
            decorator()(function)


def test_one_no_grad_may_be_entered_twice() -> None:
    off = ag.no_grad()
    with off, off:
        assert not ag.is_grad_enabled()
    assert ag.is_grad_enabled()


def test_no_grad_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), ag.no_grad():
        raise KeyError
    assert records()


def test_no_grad_ends_with_a_generator() -> None:
    def generate() -> Iterator[bool]:
        with ag.no_grad():
            yield records()

    assert list(generate()) == [False]
    assert records()
    generator = generate()
    next(generator)
    generator.close()
    assert records()


def test_no_grad_holds_for_its_thread_alone() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def other() -> bool:
        with ag.no_grad():
            inside.set()
            go_on.wait(timeout=10)
            return records()

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(other)
        inside.wait(timeout=10)
        assert records()
        go_on.set()
        assert result.result() is False
    with ag.no_grad(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(records).result()


def test_threads_record_and_sweep_independently() -> None:
    constant = ag.tensor(np.linspace(0, 1, 50))

    def work(scale: float) -> tuple[Any, Any]:
        x = ag.tensor(np.linspace(1, 2, 50), requires_grad=True)
        for _ in range(50):
            loss = ((x * constant + x) * (x * scale)).sum()
            loss.average_backward({x: np.full(50, 0.1)}, retain_graph=True)
            loss.backward()
        return x.grad, x.average_grad

    scales = [1.0, 2.0, 3.0, 4.0]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, scales))
    for scale, grads in zip(scales, together, strict=True):
        for parallel, alone in zip(grads, work(scale), strict=True):
            np.testing.assert_array_equal(parallel, alone)
    constant.data[0] = 5
