"""Methods that apply an operation or change the shape give the results of the functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import agrad as ag
import agrad.nn.functional as F

X = np.array([[0.5, 1.5, 0.25], [2.0, 0.75, 1.0]])

METHODS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    **{
        name: (lambda x, name=name: getattr(x, name)(), getattr(ag, name))
        for name in (
            "abs",
            "square",
            "sqrt",
            "reciprocal",
            "exp",
            "expm1",
            "log",
            "log1p",
            "sin",
            "cos",
            "tanh",
            "logsumexp",
            "flip",
        )
    },
    "relu": (lambda x: (x - 1).relu(), lambda x: F.relu(x - 1)),
    "sigmoid": (lambda x: x.sigmoid(), F.sigmoid),
    "pow": (lambda x: x.pow(3), lambda x: x**3),
    "maximum": (lambda x: x.maximum(1), lambda x: ag.maximum(x, 1)),
    "minimum": (lambda x: x.minimum(1), lambda x: ag.minimum(x, 1)),
    "logsumexp along an axis": (
        lambda x: x.logsumexp(1, keepdims=True),
        lambda x: ag.logsumexp(x, 1, keepdims=True),
    ),
    "softmax": (lambda x: x.softmax(1), lambda x: F.softmax(x, 1)),
    "log_softmax": (lambda x: x.log_softmax(dim=0), lambda x: F.log_softmax(x, 0)),
    "view": (lambda x: x.view(3, -1), lambda x: x.reshape(3, 2)),
    "view of a tuple": (lambda x: x.view((6,)), lambda x: x.reshape(6)),
    "permute": (lambda x: x.permute(1, 0), lambda x: x.T),
    "permute by a tuple": (lambda x: x.permute((1, 0)), lambda x: x.T),
    "unsqueeze": (lambda x: x.unsqueeze(-1), lambda x: ag.expand_dims(x, -1)),
    "unsqueeze by name": (lambda x: x.unsqueeze(dim=0), lambda x: ag.expand_dims(x, 0)),
    "flatten": (lambda x: x.flatten(), lambda x: x.reshape(6)),
    "flatten from": (lambda x: x.reshape(2, 3, 1).flatten(1), lambda x: x),
    "flatten to": (lambda x: x.reshape(2, 1, 3).flatten(0, 1), lambda x: x),
    "flip along an axis": (lambda x: x.flip(dim=1), lambda x: x[:, ::-1]),
    **{
        name: (
            lambda x, name=name, options=options: getattr(x, name)(**options),
            lambda x, name=name, options=options: getattr(ag, name)(x, **options),
        )
        for name, options in {
            **{name: {} for name in ("log2", "log10", "sinh", "cosh", "arctan", "arcsinh", "erf")},
            "tan": {},
            "cumsum": {},
            "cumprod": {"dim": 1},
            "tril": {"k": 1},
            "triu": {},
            "diagonal": {"offset": 1},
            "trace": {},
            "repeat": {"repeats": 2, "axis": 0},
            "tile": {"reps": 2},
            "roll": {"shift": 1, "dim": 1},
        }.items()
    },
    "arcsin": (lambda x: (x / 9).arcsin(), lambda x: ag.arcsin(x / 9)),
    "arccos": (lambda x: (x / 9).arccos(), lambda x: ag.arccos(x / 9)),
    "arctanh": (lambda x: (x / 9).arctanh(), lambda x: ag.arctanh(x / 9)),
    "arccosh": (lambda x: (x + 1).arccosh(), lambda x: ag.arccosh(x + 1)),
    "logaddexp": (lambda x: x.logaddexp(1), lambda x: ag.logaddexp(x, 1)),
    "remainder": (lambda x: (x / 9).remainder(5), lambda x: ag.remainder(x / 9, 5)),
    "clone": (lambda x: x.clone(), lambda x: x),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_method_is_the_function(name: str, dtype: Any) -> None:
    results = []
    for function in METHODS[name]:
        x = ag.tensor(X.astype(dtype), requires_grad=True)
        out = function(x)
        loss = (out * np.arange(1, out.size + 1).reshape(out.shape)).sum()
        loss.average_backward({x: 0.5 * X}, retain_graph=True)
        loss.backward()
        assert out.dtype == dtype
        results.append((out.shape, *(a.tobytes() for a in (out.data, x.grad, x.average_grad))))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["relu", "sigmoid"])
def test_activations_of_integers_are_float32(name: str) -> None:
    result = getattr(ag.tensor([-1, 2]), name)()
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result.data, getattr(F, name)([-1, 2]).data)


def test_a_clone_has_its_own_memory() -> None:
    x = ag.tensor([1.0, 2.0])
    clone = x.clone()
    clone[0] = 5.0
    assert x.tolist() == [1.0, 2.0]
    assert ag.tensor([True]).clone().dtype == bool


def test_a_number_flattens_to_one_element() -> None:
    assert ag.tensor(3.0).flatten().tolist() == [3.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.view(np.float64), TypeError, r"view: takes a shape.*float64.*astype"),
        (lambda x: x.view("float32"), TypeError, "view: takes a shape"),
        (lambda x: x.unsqueeze(3), ValueError, "unsqueeze: axis.*3"),
        (lambda x: x.flatten(1, 0), ValueError, r"flatten: start_dim=1 is after.*\(2, 3\)"),
        (lambda x: x.flatten(2), ValueError, "flatten: start_dim"),
        (lambda x: x.permute(0, 0), ValueError, "ranspose"),
    ],
)
def test_wrong_arguments_are_named(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(ag.tensor(X))


@pytest.mark.parametrize("function", [ag.Tensor.softmax, ag.Tensor.log_softmax])
def test_a_softmax_is_of_floats_along_an_axis(function: Any) -> None:
    for dtype in np.int64, np.uint8, np.bool_, np.float16:
        with pytest.raises(TypeError, match=f"softmax: input must be .*, not {np.dtype(dtype)}"):
            function(ag.tensor(np.ones(2, dtype)), -1)
    for dim in 0, -1:
        with pytest.raises(ValueError, match=f"softmax: axis {dim} is out of bounds"):
            function(ag.tensor(1.0), dim)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64])
def test_a_logsumexp_of_integers_is_float32(dtype: Any) -> None:
    x = np.array([100, 1, 0]).astype(dtype)
    out = ag.tensor(x).logsumexp()
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.data, np.log(np.exp(x.astype(float)).sum()), rtol=1e-6)
