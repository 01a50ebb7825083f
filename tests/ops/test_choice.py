"""Comparisons in a graph: an average pass raises unless their outcomes stay the same."""

import warnings
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import agrad as ag
import agrad.nn.functional as F
from agrad import optim
from agrad.errors import ChoiceChangedError
from agrad.testing import check_average_gradients, check_gradients

Loss = Callable[[ag.Tensor], ag.Tensor]

FORMS: dict[str, Loss] = {
    "where": lambda x: ag.where(x > 0, x, 0.1 * x),
    "np.where": lambda x: np.where(x > 0, x, 0.1 * x),
    "where of numbers": lambda x: x * np.where(x >= 0, 1.0, -1.0),
    "product": lambda x: x * (x > 0),
    "cast": lambda x: x * (x > 0).astype(x.dtype),
    "cast to integers": lambda x: (x > 0).astype(int) * x,
    "rest": lambda x: x * (1 - (x > 0)),
    "not": lambda x: x * ~(x > 0),
    "and": lambda x: x * ((x > -9) & (x < 0)),
    "or": lambda x: x * ((x < -9) | (x > 0)),
    "xor": lambda x: x * ((x > -9) ^ (x > 0)),
    "logical_and": lambda x: x * np.logical_and(x > -9, np.less(x, 0)),
    "elements": lambda x: ag.concatenate([x[x > 0], 3 * x[x <= 0]]),
    "elements of another": lambda x: (x + 1)[None, :][:, x > 0],
    "of what is computed": lambda x: np.where(ag.tanh(3 * x) > 0, x, 2 * x),
    "of a maximum": lambda x: x * (x.max() > 0),
    "reshaped": lambda x: x[:, None] * (x > 0).reshape(1, -1),
    "reflected": lambda x: x * (0 < x),  # noqa: SIM300
    "with an array": lambda x: x * (x > np.zeros(x.shape)),
    "with itself": lambda x: x * (x > -x),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25)
@given(st.data())
def test_the_average_of_a_choice_is_complete_or_raises(form: str, data: st.DataObject) -> None:
    sizes = st.integers(-4, 4).map(lambda n: n + 0.25)
    values = np.array(data.draw(st.lists(sizes, min_size=2, max_size=4)))
    update = np.array(data.draw(st.lists(sizes, min_size=len(values), max_size=len(values))))

    def outcome(x: np.ndarray) -> Any:
        return (x.max() > 0) if form == "of a maximum" else (x > 0)

    x = ag.tensor(values, requires_grad=True)
    loss = FORMS[form](x).sum()
    if np.array_equal(outcome(values), outcome(values + update)):
        end = loss.average_backward({x: update})
        np.testing.assert_allclose(end, FORMS[form](ag.tensor(values + update)).sum().item())
        change = end - loss.item()
        np.testing.assert_allclose((x.average_grad * update).sum(), change, atol=1e-12)
    else:
        with pytest.raises(ChoiceChangedError, match=r"outcome of \w+, of shape .*np\.maximum"):
            loss.average_backward({x: update})


def test_the_error_leaves_the_graph_as_it_was() -> None:
    x = ag.tensor(np.array([-1.0, 2.0]), requires_grad=True)
    loss = np.where(x > 0, x, 0.1 * x).sum()
    with pytest.raises(ChoiceChangedError, match=r"greater, of shape \(2,\), .* first at \[1\]"):
        loss.average_backward({x: [0.5, -5.0]})
    assert x.average_grad is None
    assert loss.average_backward({x: [0.5, 1.0]}) == pytest.approx(2.95)


def test_functions_that_choose_can_be_checked() -> None:
    def function(x: ag.Tensor) -> ag.Tensor:
        return x * (x > 0) + np.where(x > 0, x, 2 * x)

    values = np.array([0.5, -1.0, 2.0])
    check_gradients(function, values)
    x = ag.tensor(values, requires_grad=True)
    check_average_gradients(function, [x], {x: [0.1, 0.2, 0.3]})


def test_every_segment_must_have_the_same_outcome() -> None:
    x = ag.tensor(np.array([-1.0]), requires_grad=True)
    loss = np.where((x - 1) ** 2 > 1, x, 0 * x).sum()  # false between 0 and 2
    assert loss.average_backward({x: [4.0]}, retain_graph=True) == 3
    with pytest.raises(ChoiceChangedError):
        loss.average_backward({x: [4.0]}, segments=2)


def test_the_safe_form_crosses_zero() -> None:
    x = ag.tensor(np.array([-1.0, 2.0]), requires_grad=True)
    end = F.leaky_relu(x, 0.1).sum().average_backward({x: [3.0, -5.0]})
    assert end == pytest.approx(1.7)


def test_an_outcome_is_a_boolean_tensor_only_where_a_graph_may_need_it() -> None:
    x = ag.tensor([-1.0, 2.0], requires_grad=True)
    above = x > 0
    assert isinstance(above, ag.Tensor)
    assert above.dtype == bool
    assert not above.requires_grad
    for plain in (x.detach() > 0, ag.tensor([1.0]) > 0, x.data > 0):
        assert type(plain) is np.ndarray
    with ag.no_grad():
        assert type(x > 0) is np.ndarray
    np.testing.assert_array_equal(np.arange(2)[above], [1])
    np.testing.assert_array_equal(np.nonzero(above)[0], [1])
    assert above.any()
    assert not above.all()
    assert above.sum().item() == 1
    assert above.mean().item() == 0.5
    assert not (x == None).any()  # noqa: E711
    assert (x != "a").all()


def test_an_outcome_serves_several_graphs_and_outlives_them() -> None:
    x = ag.tensor(np.array([-1.0, 2.0]), requires_grad=True)
    hidden = 2 * x
    above = hidden > 1
    other = hidden.sum()
    first, second = (x * above).sum(), (3 * x * above).sum()
    first.backward()
    second.backward()
    other.backward()  # no sweep over the outcome has freed it
    np.testing.assert_array_equal(x.grad, [2, 6])
    late = (x * above).sum()  # `hidden` has been freed: the outcome is a constant now
    assert late.average_backward({x: [9.0, -9.0]}) == -7


def test_an_outcome_does_not_make_its_operands_read_only() -> None:
    x = ag.tensor(np.array([-1.0, 2.0]), requires_grad=True)
    x.data[x < 0] = 0
    np.testing.assert_array_equal(x.data, [0, 2])
    above = x > 0
    above[0] = True  # from here on it is a plain mask
    assert above.all()
    assert (x * above).sum().average_backward({x: [-1.0, -3.0]}) == -2


def test_counts_over_many_graphs_do_not_keep_them() -> None:
    x = ag.tensor([1.0, -2.0], requires_grad=True)
    hits: Any = 0
    for _ in range(3):
        hits = hits + (x > 0)
    assert hits.node is None
    np.testing.assert_array_equal(hits.data, [3, 0])


@pytest.mark.parametrize("captured", [False, True])
def test_average_gradient_measures_a_choice_as_it_was_and_warns_once(captured: bool) -> None:
    x = ag.tensor(np.array([-1.0, 2.0]), requires_grad=True)
    optimizer = optim.AverageGradient(optim.SGD([x], lr=1.0))
    square = ag.capture(lambda x: (x * x).sum()) if captured else lambda x: (x * x).sum()

    def step() -> float:
        optimizer.zero_grad()
        return optimizer.step(square(np.where(x > 0, x, 0.1 * x)))

    with pytest.warns(RuntimeWarning, match=r"greater in the loss .* np\.maximum") as seen:
        step()
    assert len(seen) == 1
    assert seen[0].filename == __file__
    # The update (0.02, -4) is measured as if the second element were squared at both ends.
    np.testing.assert_allclose(x.data, [-0.98, 0], atol=1e-12)
    x.data = [-1.0, 2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()


def test_a_refused_assignment_leaves_the_comparison_as_it_was() -> None:
    x = ag.tensor([1.0, -2.0], requires_grad=True)
    positive = x > 0
    with pytest.raises(IndexError):
        positive[5] = True
    with pytest.raises(ChoiceChangedError):
        ag.where(positive, x, 0.0).sum().average_backward({x: [0.0, 5.0]})
    positive[1] = True
    assert positive.tolist() == [True, True]
    ag.where(positive, x, 0.0).sum().average_backward({x: [0.0, 5.0]})
