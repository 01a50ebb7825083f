"""`detect_anomaly` names the first operation that gives NaN or an infinity, in any pass."""

import threading
from typing import Any

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F
from agrad.core.tensor import apply
from agrad.errors import AnomalyError, NonFiniteError
from agrad.ops.operation import Elementwise, Linear

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class BadBackward(Linear):
    """The identity, with a backward pass that gives NaN for one element."""

    def forward(self, x: Any) -> Any:
        return x.copy()

    def backward(self, grad: Any, needs: Any, out: Any, x: Any) -> Any:
        bad = grad.copy()
        bad[1] = np.nan
        return (bad,)


class BadAverage(Elementwise):
    """The identity, with an infinite divided difference for negative a."""

    def forward(self, x: Any) -> Any:
        return x.copy()

    def derivative(self, out: Any, x: Any) -> Any:
        return np.ones_like(x)

    def divided_difference(self, a: Any, b: Any) -> Any:
        return np.where(a < 0, np.inf, 1).astype(a.dtype)


def leaf(*values: float) -> ag.Tensor:
    return ag.tensor(list(values), requires_grad=True)


def caught(function: Any) -> str:
    with pytest.raises(AnomalyError) as info, ag.detect_anomaly():
        function()
    return str(info.value)


# -- forward ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [True, False])
def test_forward_names_the_operation_the_element_and_the_operands(recorded: bool) -> None:
    x = ag.tensor([[4.0, 1.0], [0.0, 2.0]], requires_grad=recorded)
    assert caught(lambda: 2 * ag.log(x) + 1) == (
        "detect_anomaly: Log gave a result with -inf at [1, 0] (1 of 4 elements are not finite); "
        "operands: float32[2, 2] from 0 to 4"
    )


def test_the_first_operation_is_named_and_no_later_one() -> None:
    x = leaf(1e30, 1.0)
    message = caught(lambda: ag.exp(x * x * 1e-30) - ag.exp(x * x))
    assert message.startswith("detect_anomaly: Multiply gave a result with inf at [0]")


def test_nan_is_named_whatever_the_operands_are() -> None:
    x = ag.tensor([np.inf, 1.0])
    assert "Subtract gave a result with nan at [0]" in caught(lambda: x - x)
    assert "Tanh gave a result with nan at [1]" in caught(lambda: F.tanh(ag.tensor([0.0, np.nan])))


def test_an_operand_without_elements_has_no_range() -> None:
    message = caught(lambda: ag.tensor(np.zeros((0, 2), np.float32)).mean())
    assert "Mean gave a result with nan at []" in message
    assert message.endswith("operands: float32[0, 2]")


def test_an_infinite_operand_is_not_the_fault_of_the_operation() -> None:
    scores = leaf(1.0, 2.0, 3.0)
    with ag.detect_anomaly():
        masked = ag.where(np.array([True, True, False]), scores, -np.inf)
        loss = F.softmax(masked, 0)[0]
        loss.backward()
    assert np.isfinite(scores.grad).all()  # type: ignore[call-overload]


# -- backward --------------------------------------------------------------------------------------


def test_backward_names_the_operation_and_the_lines_that_recorded_it() -> None:
    x = leaf(4.0, 0.0)

    def my_loss() -> Any:
        return ag.sqrt(x).sum()

    with pytest.raises(AnomalyError) as info, ag.detect_anomaly():
        my_loss().backward()
    assert str(info.value) == (
        "detect_anomaly: the backward pass of Sqrt gave a gradient with inf at [1] (1 of 2 "
        "elements are not finite) for its operand 0; operands: float32[2] from 0 to 4; gradient of "
        "its result: float32[2] from 1 to 1"
    )
    (note,) = info.value.__notes__
    assert "return ag.sqrt(x).sum()" in note
    assert "in my_loss" in note
    assert note.rstrip().endswith("return apply(arithmetic.Sqrt(), x)")


def test_an_earlier_graph_is_checked_without_its_lines() -> None:
    loss = apply(BadBackward(), leaf(1.0, 2.0)).sum()
    with (
        pytest.raises(AnomalyError, match="the backward pass of BadBackward") as info,
        ag.detect_anomaly(),
    ):
        loss.backward()
    assert not hasattr(info.value, "__notes__")


class Careless(Linear):
    """The sum of two inputs, with a NaN gradient of the second."""

    def forward(self, x: Any, y: Any) -> Any:
        return x + y

    def backward(self, grad: Any, needs: Any, out: Any, x: Any, y: Any) -> Any:
        return grad, np.full_like(grad, np.nan)


def test_an_unneeded_gradient_may_be_anything() -> None:
    x, y = leaf(-2.0, 3.0), ag.tensor([2.0, 2.0])
    with ag.detect_anomaly():
        apply(Careless(), x, y).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])
    y.requires_grad = True
    assert "for its operand 1" in caught(lambda: apply(Careless(), x, y).sum().backward())


class Silent(Linear):
    """The identity, whose backward pass returns None for its input."""

    def forward(self, x: Any) -> Any:
        return x.copy()

    def backward(self, grad: Any, needs: Any, out: Any, x: Any) -> Any:
        return (None,)


def test_an_input_without_a_gradient_is_skipped() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with ag.detect_anomaly():
        (apply(Silent(), x) * y).sum().backward()
    assert x.grad is None
    np.testing.assert_array_equal(y.grad, [1, 2])


# -- average backward ------------------------------------------------------------------------------


def test_average_backward_names_the_operation() -> None:
    x = leaf(-1.0, 1.0)
    loss = apply(BadAverage(), x).sum()
    loss.backward(retain_graph=True)
    message = caught(lambda: loss.average_backward({x: [0.5, 0.5]}, retain_graph=True))
    assert "the average backward pass of BadAverage gave a gradient with inf at [0]" in message


def test_an_end_that_is_not_finite_names_the_operation_that_made_it_so() -> None:
    x = leaf(0.0, 1.0)
    loss = ag.log(1 + ag.exp(x)).sum()
    with pytest.raises(NonFiniteError, match=r"shorten the updates$"):
        loss.average_backward({x: [100.0, 0.0]})
    with (
        pytest.raises(NonFiniteError, match=r"\(Exp gave a result with inf at \[0\] .*to 100\)$"),
        ag.detect_anomaly(),
    ):
        loss.average_backward({x: [100.0, 0.0]})
    loss.average_backward({x: [1.0, 0.0]})  # nothing has been freed


def test_an_optimizer_may_still_propose_too_much() -> None:
    x = leaf(1.0)
    optimizer = ag.optim.AverageGradient(ag.optim.SGD([x], lr=1e4))
    with ag.detect_anomaly():
        loss = ag.exp(-x).sum()
        loss = loss + ag.exp(x).sum()
        optimizer.step(loss)
    assert np.isfinite(x.data).all()


# -- where it holds --------------------------------------------------------------------------------


def test_outside_nothing_is_checked_and_inside_warnings_are_silent() -> None:
    zero = ag.tensor([0.0])
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert np.isneginf(ag.log(zero).data)
    with np.errstate(all="raise"), pytest.raises(AnomalyError), ag.detect_anomaly():
        ag.log(zero)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        ag.log(zero)


def test_it_nests_and_holds_for_its_thread_only() -> None:
    zero = ag.tensor([0.0])
    found: list[Any] = []
    with ag.detect_anomaly():
        with ag.detect_anomaly():
            pass
        thread = threading.Thread(target=lambda: found.append(ag.log(zero)))
        thread.start()
        thread.join()
        with pytest.raises(AnomalyError):
            ag.log(zero)
    assert np.isneginf(found[0].data)


def test_results_are_the_same_inside() -> None:
    def gradients() -> Any:
        ag.seed(0)
        model = ag.nn.Sequential(ag.nn.Linear(4, 4), ag.nn.Tanh(), ag.nn.Linear(4, 2))
        loss = F.cross_entropy(model(np.eye(4, dtype=np.float32)), [0, 1, 0, 1])
        loss.backward(retain_graph=True)
        loss.average_backward({p: -p.grad for p in model.parameters()})
        return [array for p in model.parameters() for array in (p.grad, p.average_grad)]

    outside = gradients()
    with ag.detect_anomaly():
        inside = gradients()
    for found, expected in zip(inside, outside, strict=True):
        np.testing.assert_array_equal(found, expected)
