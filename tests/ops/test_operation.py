"""An operation's requirements on its inputs' values, and when the engine checks them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad.backend import Array
from agrad.core.tensor import apply
from agrad.ops.operation import Linear, Requirement


class Checked(Linear):
    """x; it requires that no element is negative, and then that none exceeds a limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.events: list[str] = []

    def requires(self, x: Array) -> Iterable[Requirement]:
        self.events.append("lower")
        yield x.min() >= 0, lambda: ValueError(f"checked: x has the element {x.min()}")
        self.events.append("upper")
        yield x.max() <= self.limit, lambda: IndexError(f"checked: x has {x.max()}")

    def for_call(self, x: Array) -> "Checked":
        self.events.append("call")
        return self

    def forward(self, x: Array) -> Array:
        self.events.append("forward")
        return x.copy()

    def backward(self, grad: Array, needs: Any, out: Array, x: Array) -> Any:
        return (grad,)


def test_requirements_are_asked_in_order_before_the_call() -> None:
    operation = Checked(limit=2)
    assert apply(operation, ag.tensor([0.0, 2.0])).tolist() == [0.0, 2.0]
    assert operation.events == ["lower", "upper", "call", "forward"]


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    ("values", "error", "message", "events"),
    [
        ([-1.0, 9.0], ValueError, "checked: x has the element -1.0", ["lower"]),
        ([1.0, 9.0], IndexError, "checked: x has 9.0", ["lower", "upper"]),
    ],
)
def test_the_first_requirement_that_fails_raises_its_error(
    values: list[float],
    error: type[Exception],
    message: str,
    events: list[str],
    recorded: bool,
) -> None:
    operation = Checked(limit=2)
    with pytest.raises(error, match=message) as caught:
        apply(operation, ag.tensor(values, requires_grad=recorded))
    assert operation.events == events
    assert caught.value.__notes__ == ["in Checked of inputs float32[2]"]


def test_an_average_backward_pass_does_not_ask_again() -> None:
    operation = Checked(limit=2)
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    loss = apply(operation, x).sum()
    assert loss.average_backward({x: [-3.0, 3.0]}) == 3
    assert operation.events == ["lower", "upper", "call", "forward", "forward"]
    np.testing.assert_array_equal(x.average_grad, [1, 1])


def test_a_captured_function_asks_in_every_call() -> None:
    captured = ag.capture(lambda x: apply(operation, x))
    operation = Checked(limit=2)
    for _ in range(2):
        captured([1.0])
    with pytest.raises(IndexError, match=r"checked: x has 3\.0"):
        captured([3.0])
    assert operation.events == ["lower", "upper", "call", "forward"] * 2 + ["lower", "upper"]
