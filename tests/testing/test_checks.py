"""The checks of agrad.testing pass correct derivatives and name wrong ones."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.backend import Array
from agrad.core.tensor import apply
from agrad.errors import AverageUndefinedError
from agrad.ops.operation import Elementwise, Linear, Multilinear, Operation, Smooth
from agrad.testing import (
    CheckError,
    GradientReport,
    Kink,
    check_average_gradients,
    check_gradients,
    measure_order,
)
from agrad.testing.differences import slope
from agrad.testing.strategies import Model, models, operations, seeds

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))
Y = RNG.normal(size=(3, 4))


def leaf(array: Array) -> ag.Tensor:
    return ag.tensor(array, requires_grad=True)


class Square(Smooth):
    """x², with room for faults."""

    def forward(self, x):
        return x * x

    def backward(self, grad, needs, out, x):
        return (2 * x * grad,)


# -- slope ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phi", "expected", "precision"),
    [
        (math.exp, 1.0, 1e-12),
        (lambda t: math.sin(10 * t), 10.0, 1e-12),
        (lambda t: math.log(1e-3 + t) if t > -1e-3 else math.nan, 1e3, 1e-10),
        (lambda t: abs(t - 1e-4), -1.0, 1e-10),
    ],
)
def test_slopes_are_exact_to_most_digits(phi: Any, expected: float, precision: float) -> None:
    """Without extrapolation, steps alone would lose half of the digits."""
    found = slope(phi, 1.0)
    assert found.value == pytest.approx(expected, rel=precision)
    assert abs(found.value - expected) <= 10 * max(found.error, found.noise)
    assert max(found.error, found.noise) <= 10 * precision * abs(expected)
    assert found.jump == 0


@pytest.mark.parametrize("near", [0.0, 1e-8])
def test_a_jump_of_the_slope_is_measured(near: float) -> None:
    found = slope(lambda t: math.sin(t) + abs(t - near), 1.0)
    assert found.jump == pytest.approx(2, rel=0.1)


# -- check_gradients -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "inputs", "elements"),
    [
        (ag.tanh, [X], 12),
        (lambda x, y: ag.tanh(x * y) @ x.T, [X, Y], 24),
        (Square(), [X], 12),
        (nn.Linear(4, 2).to("float64"), [X], 12 + 10),
        (lambda x: x, [X], 12),
        (lambda x, y: x + 0.0, [X, Y], 24),
        (lambda x, ids: F.nll_loss(x, ids), [X, np.array([0, 3, 1])], 12),
        (lambda x, y: x * y, [leaf(X), ag.tensor(Y)], 12),
        (lambda x, y: x * y, [leaf(X)] * 2, 12),
        (lambda x: x * 1e-9, [X], 12),
        (lambda x: ag.exp(x) * 1e9, [X], 12),
        (ag.log, [np.array([1e-3, 1e8])], 2),
        (ag.sum, [np.zeros((0, 3))], 0),
    ],
)
def test_right_gradients_pass(f: Any, inputs: Any, elements: int) -> None:
    if elements == 0:
        assert check_gradients(lambda x, y: x.sum() + y, *inputs, 1.0).elements == 1
    else:
        assert check_gradients(f, *inputs) == GradientReport(elements, ())


class OneSign(Square):
    def backward(self, grad, needs, out, x):
        gradient = 2 * x * grad
        gradient[1, 2] *= -1
        return (gradient,)


class Factor(Square):
    def backward(self, grad, needs, out, x):
        return (x * grad,)


class Rounded(Square):
    """Off by a part in 10⁵."""

    def backward(self, grad, needs, out, x):
        return (2.00002 * x * grad,)


class NotANumber(Square):
    def backward(self, grad, needs, out, x):
        gradient = 2 * x * grad
        gradient[0, 3] = np.nan
        return (gradient,)


class Forgotten(Square):
    def backward(self, grad, needs, out, x):
        return (None,)


class Swapped(Multilinear):
    def forward(self, x, y):
        return x * y

    def backward(self, grad, needs, out, x, y):
        return grad * x, grad * y


class Hinge(Linear):
    """max(x, 0) with a wrong gradient in one corner."""

    def forward(self, x):
        return np.maximum(x, 0)

    def backward(self, grad, needs, out, x):
        gradient = grad * (x > 0)
        gradient[0, 0] += 1
        return (gradient,)


@pytest.mark.parametrize("fault", [Factor(), Rounded(), Forgotten()])
def test_wrong_gradients_fail(fault: Operation) -> None:
    with pytest.raises(CheckError, match="of input 0, of shape") as caught:
        check_gradients(fault, X)
    error = caught.value
    # A weight is from ½ to 1 in magnitude.
    assert 0.5 <= abs(error.expected / (2 * X[error.index])) <= 1
    assert error.found != pytest.approx(error.expected, rel=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1e3, 1e12])
def test_small_errors_are_found_at_any_magnitude(size: float) -> None:
    with pytest.raises(CheckError):
        check_gradients(Rounded(), size * X)


def test_the_error_names_input_index_and_values() -> None:
    with pytest.raises(CheckError) as caught:
        check_gradients(lambda x, y: apply(OneSign(), y) + x, X, Y)
    error = caught.value
    assert (error.input, error.index) == ("input 1", (1, 2))
    assert error.found == pytest.approx(-error.expected)
    for part in ("check_gradients", "input 1", "(3, 4)", "(1, 2)", repr(error.expected)):
        assert part in str(error)


def test_swapped_gradients_fail() -> None:
    with pytest.raises(CheckError):
        check_gradients(Swapped(), X, Y)


def test_a_gradient_with_nan_fails() -> None:
    with pytest.raises(CheckError) as caught:
        check_gradients(NotANumber(), X)
    assert caught.value.index == (0, 3)
    assert math.isnan(caught.value.found)


def test_a_wrong_parameter_of_a_module_is_named() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(4, 3)

        def forward(self, x: Any) -> ag.Tensor:
            return x @ self.inner.weight.T + apply(OneSign(), self.inner.weight).sum()

    layer = Layer().to("float64")
    with pytest.raises(CheckError) as caught:
        check_gradients(layer, X)
    assert (caught.value.input, caught.value.index) == ("parameter inner.weight", (1, 2))


def test_one_wrong_element_among_many_is_found() -> None:
    with pytest.raises(CheckError) as caught:
        check_gradients(OneSign(), RNG.normal(size=(300, 300)), directions=1)
    assert caught.value.index == (1, 2)


@pytest.mark.parametrize("near", [0.0, 1e-9, -1e-9, 1e-300])
def test_kinks_are_reported(near: float) -> None:
    x = X.copy()
    x[2, 1] = near
    report = check_gradients(lambda x: F.relu(x) * 3.0, x)
    assert report.kinks == (Kink("input 0", (2, 1)),)


@pytest.mark.parametrize("near", [1e-2, 1e-4, -1e-5])
def test_kinks_farther_away_do_no_harm(near: float) -> None:
    x = X.copy()
    x[2, 1] = near
    assert check_gradients(abs, x).kinks == ()


def test_kinks_do_not_hide_a_wrong_gradient() -> None:
    x = X.copy()
    x[2, 1] = x[1, 1] = 0
    with pytest.raises(CheckError) as caught:
        check_gradients(Hinge(), x)
    assert caught.value.index == (0, 0)


def test_kinks_that_cancel_are_told_apart() -> None:
    """At x = (0, 0) both elements have kinks; in some directions their sum has none."""
    weights = ag.tensor(np.array([1.0, -1.0, 0.0]))
    inputs = np.array([0.0, 0.0, 1.0])
    report = check_gradients(lambda x: (abs(x) * weights).sum() + F.relu(x).sum(), inputs)
    assert report.kinks == (Kink("input 0", (0,)), Kink("input 0", (1,)))


class Bent(Linear):
    """x + ½ jump |x|, whose gradient at 0 is off by 1 from the mean of the slopes."""

    def __init__(self, jump: float) -> None:
        self.jump = jump

    def forward(self, x):
        return x + 0.5 * self.jump * np.abs(x)

    def backward(self, grad, needs, out, x):
        return (grad * np.where(x == 0, 2, 1 + 0.5 * self.jump * np.sign(x)),)


def test_every_direction_starts_at_the_inputs() -> None:
    seen = []

    def f(x: ag.Tensor) -> ag.Tensor:
        seen.append(x.data.copy())
        return ag.tanh(x)

    check_gradients(f, X, directions=4)
    assert sum(np.array_equal(x, X) for x in seen) >= 2 + 2 * 4  # recorded, and in the middle


@pytest.mark.parametrize("jump", [2.0, 0.1, 0.01])
def test_a_kink_may_be_small_beside_the_error(jump: float) -> None:
    report = check_gradients(Bent(jump), np.array([1.0, 0.0, -2.0]))
    assert report.kinks == (Kink("input 0", (1,)),)


@pytest.mark.parametrize("jump", [1e-4, 1e-6, 1e-15, 0.0])
def test_a_bend_too_small_to_explain_the_error_does_not_excuse_it(jump: float) -> None:
    with pytest.raises(CheckError) as caught:
        check_gradients(Bent(jump), np.array([1.0, 0.0, -2.0]))
    assert caught.value.index == (1,)


class Sloped(Linear):
    """3x, with a gradient that is wrong by a factor in one place."""

    def __init__(self, place: int, factor: float) -> None:
        self.place = place
        self.factor = factor

    def forward(self, x):
        return 3 * x

    def backward(self, grad, needs, out, x):
        gradient = 3 * grad
        gradient.flat[self.place] *= self.factor
        return (gradient,)


@settings(max_examples=25)
@given(
    seed=seeds,
    place=st.integers(0, 11),
    factor=st.sampled_from([0.0, 0.99, 1.01, -1.0]),
    size=st.sampled_from([1e-8, 1e-3, 1.0]),
)
def test_rounding_of_a_linear_function_is_not_taken_for_a_kink(
    seed: int, place: int, factor: float, size: float
) -> None:
    x = size * np.random.default_rng(seed).normal(size=(3, 4))
    with pytest.raises(CheckError) as caught:
        check_gradients(Sloped(place, factor), x, seed=seed)
    assert caught.value.index == np.unravel_index(place, x.shape)


def test_ties_and_borders_are_kinks() -> None:
    report = check_gradients(lambda x: F.max_pool1d(x, 3), np.array([[1.0, 1.0, 0.0]]))
    assert report.kinks == (Kink("input 0", (0, 0)), Kink("input 0", (0, 1)))
    # Equal elements share the gradient, which agrees with central differences.
    assert check_gradients(ag.max, np.array([1.0, 1.0, 0.0])).kinks == ()
    assert check_gradients(ag.log, np.array([1e-9, 1.0])).kinks == (Kink("input 0", (0,)),)


def test_kinks_everywhere_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"more than 100 .* away"):
        check_gradients(F.relu, np.zeros(1000))


def test_up_to_a_hundred_kinks_are_left_out() -> None:
    assert len(check_gradients(F.relu, np.append(np.zeros(100), 1.0)).kinks) == 100
    with pytest.raises(ValueError, match="more than 100 elements are at kinks"):
        check_gradients(F.relu, np.zeros(101))


@pytest.mark.parametrize("place", [0, 2, 3, 5])
@pytest.mark.parametrize("size", [0, 1])
def test_the_first_and_the_last_element_of_each_input_are_told_apart(place: int, size: int) -> None:
    names = [("input 0", i) for i in range(3)] + [("input 2", i) for i in range(3)]
    between = np.ones(size)

    def f(x: ag.Tensor, y: ag.Tensor, z: ag.Tensor) -> ag.Tensor:
        both = ag.concatenate([x, z])
        return apply(Sloped(place, 2.0), both).sum() + y.sum()

    with pytest.raises(CheckError) as caught:
        check_gradients(f, np.ones(3), between, np.ones(3))
    name, index = names[place]
    assert (caught.value.input, caught.value.index) == (name, (index,))


class Partly(Linear):
    """x, with a gradient that is wrong where the gradient of its result is positive."""

    def forward(self, x):
        return x.copy()

    def backward(self, grad, needs, out, x):
        return (np.where(grad > 0, 2 * grad, grad),)


def test_more_directions_find_more() -> None:
    def passes(seed: int, directions: int) -> bool:
        try:
            check_gradients(Partly(), np.array([1.0]), directions=directions, seed=seed)
        except CheckError:
            return False
        return True

    assert any(passes(seed, 1) for seed in range(20))
    assert not any(passes(seed, 30) for seed in range(20))


def test_frozen_parameters_are_constants() -> None:
    layer = nn.Linear(4, 2).to("float64")
    layer.bias.requires_grad = False
    assert check_gradients(layer, X).elements == 12 + 8
    moves = {layer.weight: 0.1 * X[:2]}
    assert check_average_gradients(layer, [ag.tensor(X)], moves).order == math.inf


def test_calls_that_give_other_shapes_are_told_apart() -> None:
    calls = []

    def f(x: ag.Tensor) -> ag.Tensor:
        calls.append(x)
        return x[: len(calls)]

    with pytest.raises(ValueError, match="two calls of f gave different values"):
        check_gradients(f, np.ones(3))


def test_a_check_leaves_everything_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to("float64")
    bystander = leaf(Y)
    tensors = [*model.parameters(), bystander, x := leaf(X)]
    for i, tensor in enumerate(tensors):
        tensor.grad = np.full(tensor.shape, float(i))
        tensor.average_grad = np.full(tensor.shape, -float(i))
    arrays = [(t.data, t.data.copy(), t.grad, t.average_grad) for t in tensors]
    state = model.state_dict()

    class Both(nn.Module):
        def __init__(self) -> None:
            self.model = model

        def forward(self, x: Any) -> ag.Tensor:
            return self.model(x).sum() + (bystander * 2.0).sum()

    check_gradients(Both(), x)
    check_average_gradients(Both(), [x], {x: 0.1 * Y, model[0].weight: 0.1 * X[:3]})
    for tensor, (array, values, grad, average_grad) in zip(tensors, arrays, strict=True):
        assert tensor.data is array
        np.testing.assert_array_equal(array, values)
        assert array.flags.writeable
        assert tensor.grad is grad
        assert tensor.average_grad is average_grad
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_the_same_seed_repeats_a_check() -> None:
    def failure(seed: int) -> str:
        with pytest.raises(CheckError) as caught:
            check_gradients(Factor(), X, seed=seed)
        return str(caught.value)

    assert failure(1) == failure(1) != failure(2)


BOTH_CHECKS = pytest.mark.parametrize(
    "check",
    [
        lambda f, *inputs: check_gradients(f, *inputs),
        lambda f, *inputs: check_average_gradients(f, inputs, {}),
    ],
    ids=["check_gradients", "check_average_gradients"],
)


@BOTH_CHECKS
@pytest.mark.parametrize(
    ("f", "inputs", "error", "message"),
    [
        (lambda x: x.astype("f"), [X], TypeError, "f returned float32 for float64 inputs"),
        (lambda x: x.astype("f"), [X.astype("f")], TypeError, "f returned float32 for float64"),
        (lambda x: x.astype("d"), [X.astype("f")], TypeError, "f returned float64 for float32"),
        (lambda x: x.data, [X], TypeError, "f returned a ndarray"),
        (Square, [X], TypeError, "a Module or an Operation, got <class"),
        (3, [X], TypeError, "a Module or an Operation, got 3"),
        (ag.tanh, [np.array([1, 2])], ValueError, "no input requires a gradient"),
        (ag.tanh, [ag.tensor(X)], ValueError, "no input requires a gradient"),
        (ag.tanh, [leaf(X) * 2.0], ValueError, "input 0 is computed"),
        (lambda x: F.dropout(x), [X], ValueError, "without randomness"),
        (ag.log, [np.zeros(3)], ValueError, "not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_cannot_be_checked(check: Any, f: Any, inputs: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        check(f, *inputs)


def test_directions_must_be_positive() -> None:
    with pytest.raises(ValueError, match="directions"):
        check_gradients(ag.tanh, X, directions=0)


# -- terms that cancel ---------------------------------------------------------------------------


CONSTANT = {
    "the mean of a layer norm": lambda x: F.layer_norm(x, 3).mean(),
    "the sum of a softmax": lambda x: F.softmax(x, 1).sum(1) - 1,
    "the mean of a batch norm": lambda x: F.batch_norm(x, None, None, training=True).mean(0),
    "the sum of a log-softmax, exponentiated": lambda x: ag.exp(F.log_softmax(x, 1)).sum(1),
    "its logarithm": lambda x: ag.log(ag.exp(F.log_softmax(x, 1)).sum(1)),
    "deviations from the mean": lambda x: (x - x.mean(0)).sum(0),
    "Pythagoras": lambda x: ag.sin(x) ** 2 + ag.cos(x) ** 2 - 1.0,
    "a difference": lambda x: (x + 1.0) - 1.0 - x,
    "a quotient": lambda x: x / x - 1.0,
    "lengths of unit rows": lambda x: ((x / ag.sqrt((x * x).sum(1, keepdims=True))) ** 2).sum(1),
    "large inputs": lambda x: F.layer_norm(1e6 * x, 3).mean(),
    "far inputs": lambda x: F.layer_norm(x + 1e3, 3).mean(),
    "small inputs": lambda x: F.layer_norm(1e-6 * x, 3, eps=1e-20).sum(1),
    "attention's shift": lambda x: F.softmax(x + x[:, :1], 1)[:, 1] - F.softmax(x, 1)[:, 1],
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("f", CONSTANT.values(), ids=CONSTANT)
def test_functions_that_are_constant_by_cancellation_pass(f: Any, dtype: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(3, 3)).astype(dtype)
        assert check_gradients(f, x) == GradientReport(9, ())
        moving = leaf(x)
        check_average_gradients(f, [moving], {moving: rng.normal(size=(3, 3))})


@pytest.mark.parametrize("f", CONSTANT.values(), ids=CONSTANT)
@pytest.mark.parametrize("factor", [0.0, 0.999, 1.001, -1.0])
def test_a_wrong_gradient_beside_terms_that_cancel_is_found(f: Any, factor: float) -> None:
    for seed in range(2):
        x = np.random.default_rng(seed).normal(size=(3, 3))
        with pytest.raises(CheckError) as caught:
            check_gradients(lambda x: apply(Sloped(4, factor), f(x).sum() + x), x, seed=seed)
        assert (caught.value.input, caught.value.index) == ("input 0", (1, 1))


class Centred(Linear):
    """Rows minus their means; the part of the gradient that cancels is wrong by a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x):
        return x - x.mean(-1, keepdims=True)

    def backward(self, grad, needs, out, x):
        return (grad - self.factor * grad.mean(-1, keepdims=True),)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_wrong_part_of_what_cancels_is_found(size: float, dtype: str) -> None:
    x = (size * X).astype(dtype)
    for factor in (0.999, 1.001):
        fault = Centred(factor)
        with pytest.raises(CheckError):
            check_gradients(lambda x, fault=fault: apply(fault, x).sum(1), x)
        with pytest.raises(CheckError):
            check_average_gradients(
                lambda x, fault=fault: apply(fault, x).sum(1), [moving := leaf(x)], {moving: x}
            )
    assert check_gradients(lambda x: apply(Centred(1.0), x).sum(1), x).kinks == ()


# -- memory layouts ------------------------------------------------------------------------------


class WrongWhere(Square):
    """x², with a gradient that is off by a thousandth in some memory layout."""

    def __init__(self, what: str, wrong: Any) -> None:
        self.what, self.wrong = what, wrong

    def backward(self, grad, needs, out, x):
        array = {"input": x, "gradient": grad}[self.what]
        return (2 * x * grad * (1.001 if self.wrong(array) else 1.0),)


def unaligned(array: Array) -> Array:
    room = np.zeros(array.nbytes + 1, np.uint8)
    copy = np.ndarray(array.shape, array.dtype, room.data, 1)
    copy[...] = array
    return copy


LAYOUTS: dict[str, Any] = {
    "Fortran order": (np.asfortranarray, lambda x: not x.flags.c_contiguous),
    "a transposed view": (lambda x: x.T, lambda x: not x.flags.c_contiguous),
    "every second column": (lambda x: np.repeat(x, 2, 1)[:, ::2], lambda x: not x.flags.forc),
    "reversed rows": (lambda x: x[::-1], lambda x: min(x.strides) < 0),
    "axes permuted": (
        lambda x: np.moveaxis(np.stack([x, 2 * x]), 0, 1),
        lambda x: not x.flags.forc,
    ),
    "not aligned": (unaligned, lambda x: not x.flags.aligned),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_operation_sees_inputs_in_their_memory_layout(layout: str, dtype: str) -> None:
    lay_out, wrong = LAYOUTS[layout]
    array = X.astype(dtype)
    assert check_gradients(WrongWhere("input", wrong), array).kinks == ()
    x = lay_out(array)
    assert wrong(x)
    assert check_gradients(Square(), x).kinks == ()
    with pytest.raises(CheckError):
        check_gradients(WrongWhere("input", wrong), x)


def test_operations_see_gradients_of_either_order() -> None:
    for wrong in (lambda grad: grad.flags.c_contiguous, lambda grad: grad.flags.f_contiguous):
        with pytest.raises(CheckError):
            check_gradients(WrongWhere("gradient", wrong), X)


def test_elements_that_share_memory_are_told_apart() -> None:
    broadcast = np.broadcast_to(X[0], (3, 4))
    windows = np.lib.stride_tricks.sliding_window_view(X[0], 2)
    for x in (broadcast, windows):
        assert check_gradients(ag.tanh, x) == GradientReport(x.size, ())
        with pytest.raises(CheckError):
            check_gradients(Factor(), x)


def test_averages_are_checked_in_the_layout_of_the_leaves() -> None:
    moving = leaf(np.asfortranarray(X))
    fault = WrongWhere("input", lambda x: not x.flags.c_contiguous)
    with pytest.raises(CheckError):
        check_average_gradients(fault, [moving], {moving: 0.1 * Y})


# -- float32 -------------------------------------------------------------------------------------


class Single(Square):
    """x², wrong by a thousandth only in float32, in one of its three passes."""

    def __init__(self, fault: str, factor: float = 1.001) -> None:
        self.fault, self.factor = fault, factor

    def _times(self, name: str, array: Array) -> Array:
        wrong = name == self.fault and array.dtype == np.float32
        return array * array.dtype.type(self.factor if wrong else 1)

    def forward(self, x):
        return self._times("forward", x * x)

    def backward(self, grad, needs, out, x):
        return (self._times("backward", 2 * x * grad),)

    def average_backward(self, grad, needs, start, end):
        return (self._times("average", grad * (start.inputs[0] + end.inputs[0])),)


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [("forward", "both"), ("backward", "gradients"), ("average", "averages"), ("none", "neither")],
)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_faults_of_float32_alone_are_found(fault: str, found_by: str, size: float) -> None:
    x = (size * X).astype("f")

    def fails(check: Any) -> bool:
        try:
            check()
        except CheckError as error:
            assert "in float32" in str(error)  # noqa: PT017
            return True
        return False

    moving = leaf(x)
    assert fails(lambda: check_gradients(Single(fault), x)) == (found_by in ("both", "gradients"))
    assert fails(lambda: check_average_gradients(Single(fault), [moving], {moving: size * Y})) == (
        found_by in ("both", "averages")
    )
    # Float64 is right.
    assert check_gradients(Single(fault), size * X).kinks == ()


def test_the_error_of_a_float32_gradient_names_input_and_index() -> None:
    class Corner(Square):
        def backward(self, grad, needs, out, x):
            gradient = 2 * x * grad
            if x.dtype == np.float32:
                gradient[1, 2] *= 1.001
            return (gradient,)

    with pytest.raises(CheckError, match="in float32 at index") as caught:
        check_gradients(lambda x, y: apply(Corner(), y) + x, X.astype("f"), Y.astype("f"))
    assert (caught.value.input, caught.value.index) == ("input 1", (1, 2))
    with pytest.raises(CheckError, match="is wrong at index"):  # in float64 too
        check_gradients(OneSign(), X.astype("f"))


def test_a_float32_module_is_checked_as_it_is_and_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh())
    arrays = [p.data for p in model.parameters()]
    state = model.state_dict()
    x = X.astype("f")
    assert check_gradients(model, x) == GradientReport(12 + 12 + 3 + 6, ())
    check_average_gradients(model, [ag.tensor(x)], {model[0].weight: 0.1 * X[:3]})
    for parameter, array in zip(model.parameters(), arrays, strict=True):
        assert parameter.data is array
    assert all(p.grad is None for p in model.parameters())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
        assert array.dtype == state[name].dtype


@settings(max_examples=10)
@given(case=operations(), seed=seeds)
def test_operations_pass_in_float32(case: Any, seed: int) -> None:
    inputs = [x.astype("f") for x in case.inputs]
    assume(all(np.isfinite(x).all() for x in inputs))
    check_gradients(case, *inputs, directions=1, seed=seed)
    leaves = [leaf(x) for x in inputs]
    rng = np.random.default_rng(seed)
    moves = {x: 1e-2 * x.data * rng.uniform(-1, 1, x.shape) for x in leaves}
    check_average_gradients(case, leaves, moves, seed=seed)


# -- nothing checked -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (F.relu, np.zeros(3)),
        (F.relu, np.array(0.0)),
        (F.relu, np.zeros(100)),
        (lambda x: ag.sqrt(x), np.full(2, 1e-12)),
        (lambda x: ag.exp(x), np.full(2, 709.7827)),
    ],
    ids=["zeros", "a number", "a hundred", "border", "overflow"],
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_a_check_in_which_nothing_could_be_checked_does_not_pass(f: Any, x: Array) -> None:
    with pytest.raises(ValueError, match=f"nothing could be checked: all {x.size} elements"):
        check_gradients(f, x)


# -- misbehaviour --------------------------------------------------------------------------------


class ForwardChanges(Square):
    def forward(self, x):
        np.maximum(x, 0.1, out=x)
        return x * x


class BackwardChangesInput(Square):
    def backward(self, grad, needs, out, x):
        x *= 2
        return (grad * x,)


class BackwardChangesOutput(Square):
    def backward(self, grad, needs, out, x):
        out *= 2
        return (2 * grad * x,)


class BackwardChangesGradient(Square):
    def backward(self, grad, needs, out, x):
        grad *= 2
        return (grad * x,)


class AverageChangesGradient(Square):
    def average_backward(self, grad, needs, start, end):
        grad *= start.inputs[0] + end.inputs[0]
        return (grad,)


class AverageChangesEnd(Square):
    def average_backward(self, grad, needs, start, end):
        total = end.inputs[0]
        total += start.inputs[0]
        return (grad * total,)


class TooSmall(Square):
    def backward(self, grad, needs, out, x):
        return ((2 * grad * x).sum(0),)


class Turned(Square):
    def backward(self, grad, needs, out, x):
        return ((2 * grad * x).T,)


class TooMany(Square):
    def backward(self, grad, needs, out, x):
        return (2 * grad * x, None)


class NoSequence(Square):
    def backward(self, grad, needs, out, x):
        return 2 * grad * x


class Owned(Square):
    owns_gradients = True

    def backward(self, grad, needs, out, x):
        return ((2 * grad * x)[None],)


AROUND = {
    "alone": lambda operation: operation,
    "inside": lambda operation: lambda x: ag.tanh(apply(operation, ag.exp(x))) + x,
    "used twice": lambda operation: lambda x: apply(operation, (y := ag.exp(x))) * y,
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize(
    ("operation", "message", "averages_alone"),
    [
        (ForwardChanges, r"changes an array in place.* in ForwardChanges of inputs float", False),
        (BackwardChangesInput, "BackwardChangesInput.backward changes input 0 in place", False),
        (BackwardChangesOutput, "BackwardChangesOutput.backward changes the output in", False),
        (BackwardChangesGradient, "backward changes the gradient it is given in place", False),
        (AverageChangesGradient, "average_backward changes the gradient it is given", True),
        (AverageChangesEnd, "average_backward changes input 0 at the end in place", True),
        (TooSmall, r"TooSmall.backward returns a gradient of shape \(4,\) for input 0 of", False),
        (Turned, r"Turned.backward returns a gradient of shape \(4, 3\) for input 0 of", False),
        (TooMany, "TooMany.backward returns 2 gradients; it must return a sequence of 1", False),
        (NoSequence, "NoSequence.backward returns an ndarray; it must return", False),
        (Owned, r"Owned.backward returns a gradient of shape \(1, 3, 4\) for input 0", False),
    ],
)
def test_misbehaviour_is_named(
    operation: Any, message: str, averages_alone: bool, around: Any, dtype: str
) -> None:
    x = X.astype(dtype)
    f = around(operation())
    if averages_alone:
        assert check_gradients(f, x).kinks == ()
    else:
        with pytest.raises(CheckError, match=f"check_gradients: .*{message}") as caught:
            check_gradients(f, x)
        assert (caught.value.expected, caught.value.found) == (None, None)
    moving = leaf(x)
    with pytest.raises(CheckError, match=f"check_average_gradients: .*{message}"):
        check_average_gradients(f, [moving], {moving: 0.1 * Y})
    np.testing.assert_array_equal(moving.data, x)


def test_a_function_that_changes_its_arguments_is_named() -> None:
    def changes_leaf(x: ag.Tensor) -> ag.Tensor:
        if x.data.flags.writeable:
            x.data[0, 0] = 0
        return ag.tanh(x)

    def changes_labels(x: ag.Tensor, labels: Array) -> ag.Tensor:
        labels %= 2
        return F.nll_loss(x, labels)

    with pytest.raises(CheckError, match="f changes input 0 in place"):
        check_gradients(changes_leaf, X)
    with pytest.raises(CheckError, match="f changes input 1 in place"):
        check_gradients(changes_labels, X, np.array([0, 3, 1]))


# -- check_average_gradients ---------------------------------------------------------------------


def test_right_averages_pass() -> None:
    x, y = leaf(X), leaf(Y)
    moves = {x: RNG.normal(size=X.shape), y: RNG.normal(size=Y.shape)}
    report = check_average_gradients(lambda x, y: ag.tanh(x) * ag.exp(y), [x, y], moves)
    assert report.order == pytest.approx(2, abs=0.01)
    assert report.incompleteness < 1e-14
    assert check_average_gradients(ag.multiply, [x, y], moves).order == math.inf
    assert check_average_gradients(F.relu, [x], {x: moves[x]}).order == math.inf
    assert check_average_gradients(lambda x: x, [x], {x: moves[x]}).order == math.inf
    assert check_average_gradients(ag.tanh, [x], {}).change == 0


def test_the_change_is_that_of_the_weighted_sum() -> None:
    x = leaf(np.array(1.0))
    report = check_average_gradients(Square(), [x], {x: 2.0})
    assert 0.5 <= abs(report.change / 8) <= 1


@settings(max_examples=15)
@given(model=models(smooth=True), seed=st.integers(0, 100))
def test_the_order_of_models_is_two_or_they_are_exact(model: Model, seed: int) -> None:
    rng = np.random.default_rng(seed)
    moves = {p: 0.3 * rng.normal(size=p.shape) for p in model.module.parameters()}
    report = check_average_gradients(model.module, [ag.tensor(model.input)], moves)
    assert report.order is not None
    assert report.order >= 1.9


@pytest.mark.parametrize("near", [1e-3, 1e-8, 0.0, -1e-8])
def test_kinks_on_the_path_are_not_errors(near: float) -> None:
    """The path crosses them right at its start or end, where quadrature would not see them."""
    x = X.copy()
    x[2, 1] = -near
    moving = leaf(x)
    for move in Y, Y - x:
        move[2, 1] = 1.0
        report = check_average_gradients(lambda x: F.relu(x).sum() ** 2, [moving], {moving: move})
        assert report.order is None or report.order >= 1.9


class NaiveQuotient(Elementwise):
    def forward(self, x):
        return np.tanh(x)

    def derivative(self, out, x):
        return 1 - out * out

    def divided_difference(self, a, b):
        same = a == b
        quotient = (np.tanh(b) - np.tanh(a)) / np.where(same, 1, b - a)
        return np.where(same, self.derivative(np.tanh(a), a), quotient)


class Unguarded(Elementwise):
    """x², whose quotient is 0/0 where nothing moves."""

    forward, derivative = Square.forward, lambda self, out, x: 2 * x

    def divided_difference(self, a, b):
        with np.errstate(invalid="ignore"):
            return (b * b - a * a) / (b - a)


class NeverANumber(Square):
    """NaN wherever anything moves."""

    def average_backward(self, grad, needs, start, end):
        (x0,), (x1,) = start.inputs, end.inputs
        return (np.where(x0 == x1, 2 * grad * x0, np.nan),)


class WrongKind(Linear, Square):
    pass


class Ends(Multilinear):
    """Complete, but with one factor at the start and one at the end: right to first order."""

    def forward(self, x, y):
        return x * y

    def backward(self, grad, needs, out, x, y):
        return grad * y, grad * x

    def average_backward(self, grad, needs, start, end):
        return grad * start.inputs[1], grad * end.inputs[0]


class Doubled(Square):
    """Complete for any update except 0."""

    def average_backward(self, grad, needs, start, end):
        x0, x1 = start.inputs[0], end.inputs[0]
        return (grad * (x0 + x1) * (2 if (x0 == x1).all() else 1),)


class Skewed(Linear):
    """2x; its average has a part orthogonal to the update: complete, and the gradient for Δ = 0."""

    def forward(self, x):
        return 2 * x

    def backward(self, grad, needs, out, x):
        return (2 * grad,)

    def average_backward(self, grad, needs, start, end):
        step = end.inputs[0] - start.inputs[0]
        across = np.zeros_like(step)
        across[0, 0], across[0, 1] = -step[0, 1], step[0, 0]
        return (2 * grad + across,)


class Remembering(Linear):
    """x times the mean of the first input that it saw."""

    def forward(self, x):
        self.mean = getattr(self, "mean", x.mean())
        return x * self.mean

    def backward(self, grad, needs, out, x):
        return (grad * self.mean,)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x, y: apply(NaiveQuotient(), x) + y, "of input 0.*scaled to 1e-12"),
        (lambda x, y: apply(WrongKind(), x) + y, "not complete"),
        (lambda x, y: apply(NeverANumber(), x) + y, "not complete"),
        (lambda x, y: apply(Unguarded(), x) + y, "of input 0.*update of 0"),
        (lambda x, y: apply(Ends(), x, y), "power shown here"),
        (lambda x, y: apply(Doubled(), y) + x, "of input 1.*update of 0"),
        (lambda x, y: apply(Skewed(), x) + y, r"at index \(0, [01]\).*all Linear"),
        (lambda x, y: apply(Remembering(), x) + y, "run again"),
    ],
)
def test_wrong_averages_fail(f: Any, message: str) -> None:
    x, y = leaf(X), leaf(Y)
    with pytest.raises(CheckError, match=message):
        check_average_gradients(f, [x, y], {x: 0.5 * Y, y: 0.2 * X})


def test_an_operation_without_a_kind_has_no_average() -> None:
    class Kindless(Operation):
        forward, backward = Square.forward, Square.backward

    x = leaf(X)
    with pytest.raises(AverageUndefinedError, match="Kindless"):
        check_average_gradients(Kindless(), [x], {x: Y})


@pytest.mark.parametrize("update", [{leaf(X): X}, {"x": X}])
def test_updates_must_be_of_the_leaves(update: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="update 0"):
        check_average_gradients(ag.tanh, [leaf(X)], update)


def test_updates_must_have_their_leaves_shapes() -> None:
    x = leaf(X)
    with pytest.raises(ValueError, match="shape"):
        check_average_gradients(ag.tanh, [x], {x: X[0]})


def test_measured_orders() -> None:
    x = leaf(X)

    def f() -> ag.Tensor:
        return ag.tanh(x @ x.T).sum()

    assert measure_order(f, [x], {x: 0.1 * Y}) == pytest.approx(2, abs=0.01)
    assert measure_order(f, [x], {x: 0.5 * Y}, extrapolate=True) == pytest.approx(4, abs=0.2)
    assert measure_order(lambda: (x * x).sum(), [x], {x: Y}) == math.inf


def test_no_order_where_kinks_lie_on_every_path() -> None:
    x = leaf(np.array(1.0))

    def sawtooth() -> ag.Tensor:
        return abs(ag.sin(1e9 * x))

    assert measure_order(sawtooth, [x], {x: 1.0}) is None


# -- without Hypothesis --------------------------------------------------------------------------


def test_the_checks_need_no_hypothesis_and_the_strategies_say_so() -> None:
    script = """
import sys
sys.modules["hypothesis"] = None
import numpy as np
import agrad as ag
from agrad.testing import check_gradients
assert check_gradients(ag.tanh, np.ones(3)).elements == 3
try:
    import agrad.testing.strategies
except ModuleNotFoundError as error:
    assert 'pip install "agrad[testing]"' in str(error), error
else:
    raise AssertionError("imported")
"""
    subprocess.run([sys.executable, "-c", script], check=True)
