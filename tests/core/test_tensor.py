"""Tensor: construction, promotion, NumPy's functions, indexing, and its repr."""

import re
import warnings
from collections.abc import Callable
from copy import deepcopy
from operator import iadd, imatmul, imul, ipow, isub, itruediv
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.backend import Array
from agrad.errors import CaptureError
from agrad.testing import check_gradients
from agrad.testing.strategies import shapes
from agrad.testing.strategies._operations.shapes import indices

DTYPES = [np.dtype(code) for code in "?bBhHiIlLefd"]
SCALARS = [True, 3, 2.5]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "**": lambda x, y: x**y,
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


# -- construction --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32),
        ([1.5, 2], np.float32),
        ([[1.0], [2.0]], np.float32),
        ([], np.float32),
        (3, np.int64),
        ([1, 2], np.int64),
        ([True], bool),
        *[(np.ones(2, dtype), dtype) for dtype in DTYPES],
        (np.float64(1.5), np.float64),
        (np.array(1.5), np.float64),
        ([np.float64(1.5)], np.float32),
    ],
    ids=repr,
)
def test_dtype_of_a_new_tensor(data: Any, dtype: Any) -> None:
    tensor = ag.tensor(data)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor.data, np.asarray(data, dtype))
    assert ag.tensor(tensor).dtype == dtype
    assert ag.tensor(data, dtype=np.float64).dtype == np.float64


def test_a_new_tensor_is_a_copy() -> None:
    array = np.arange(3.0)
    tensor = ag.tensor(array)
    again = ag.tensor(tensor)
    array[0] = tensor.data[1] = 7
    np.testing.assert_array_equal(tensor.data, [0, 7, 2])
    np.testing.assert_array_equal(again.data, [0, 1, 2])


def test_the_attributes_of_a_tensor() -> None:
    tensor = ag.tensor(np.zeros((2, 3)), requires_grad=True)
    assert (tensor.shape, tensor.ndim, tensor.size, len(tensor)) == ((2, 3), 2, 6, 2)
    assert tensor.dtype == np.float64
    assert tensor.device == "cpu"
    assert tensor.is_leaf
    assert not (tensor + 1).is_leaf
    assert tensor.T.shape == (3, 2)
    assert tensor.tolist() == [[0.0] * 3] * 2
    assert ag.tensor([2.5]).item() == 2.5
    assert isinstance(ag.tensor(2.5).item(), float)
    assert tensor.numpy() is tensor.data
    np.testing.assert_array_equal(np.asarray(tensor.detach()), tensor.data)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (ag.tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (ag.tensor(2.0), "tensor(2.)"),
        (ag.tensor([1, 2]), "tensor([1, 2], dtype=int64)"),
        (
            ag.tensor(np.ones(1), requires_grad=True),
            "tensor([1.], dtype=float64, requires_grad=True)",
        ),
        (ag.tensor([[1.0], [2.0]]), "tensor([[1.],\n        [2.]])"),
        (ag.tensor([]), "tensor([])"),
    ],
    ids=str,
)
def test_repr(tensor: ag.Tensor, text: str) -> None:
    assert repr(tensor) == text


def test_tensors_are_keys_by_identity() -> None:
    x, y = ag.tensor([1.0]), ag.tensor([1.0])
    table = {x: "x", y: "y"}
    x.data = [5.0]
    assert (table[x], table[y]) == ("x", "y")


def test_numbers_of_a_tensor() -> None:
    loss = ag.tensor(np.array([2.5]), requires_grad=True).sum()
    assert (float(loss), int(loss), f"{loss:.3f}", f"{loss:>6.1f}") == (2.5, 2, "2.500", "   2.5")
    assert f"{loss}" == str(loss) == "tensor(2.5, dtype=float64, requires_grad=True)"
    assert [*range(ag.tensor(3))] == [0, 1, 2]
    assert np.arange(5)[ag.tensor(3)] == 3
    with pytest.raises(TypeError):
        range(loss)  # type: ignore[call-overload]
    for convert in (float, int):
        with pytest.raises(ValueError, match=r"size 1|one element|scalar"):
            convert(ag.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="unsupported format string"):
        format(ag.tensor([1.0, 2.0]), ".3f")


# -- Tensors in sequences --------------------------------------------------------------------------

JOINS: dict[str, Callable[[Any], Any]] = {
    "x * [x, x]": lambda x: x * [x, x],
    "[x, x] * x": lambda x: [x, x] * x,
    "x * (x, 2)": lambda x: x * (x.sum(), 2.0),
    "mean": lambda x: ag.mean([x, 3 * x]),
    "sum over an axis": lambda x: ag.sum((x, x * x), axis=0),
    "tensor": lambda x: ag.tensor([x, x * x]),
    "tensor of numbers": lambda x: ag.tensor([x[0], 2.0, x[1]]),
    "nested stack": lambda x: ag.stack([[x, x], [x, 2 * x], [x, np.ones(2)]]),
    "nested lists": lambda x: ag.sum([[[x[0], x[1]], [1.0, x[0]]]], axis=(1, 2)),
    "concatenate": lambda x: ag.concatenate([x, [x[0], 3.0]]),
    "where": lambda x: ag.where([True, False], [x[1], x[0]], x),
    "matmul": lambda x: ag.matmul([x, x], x),
    "dot": lambda x: np.dot(x, [x[0], x[1]]),
    "method dot": lambda x: x.dot([x[0], x[1]]),
    "einsum": lambda x: ag.einsum("ij,j->i", [x, x], x),
    "add": lambda x: ag.add([x, x], 1.0),
    "linear": lambda x: F.linear([x], [x, x], [x[0], x[1]]),
    "mse_loss": lambda x: F.mse_loss([x[0], x[1]], [1.0, x[0]]),
    "layer_norm": lambda x: F.layer_norm(x, 2, [x[0], 1.0], [0.0, x[1]]),
}


@pytest.mark.parametrize("name", JOINS)
def test_tensors_in_sequences_record(name: str) -> None:
    check_gradients(JOINS[name], np.array([3.0, 5.0]))
    x = ag.tensor([3.0, 5.0], requires_grad=True)
    assert ag.tensor([x, x], dtype=np.float64).dtype == np.float64
    try:
        captured = ag.capture(JOINS[name])
        results = [captured(x).data for _ in range(2)]
    except CaptureError:
        return
    for result in results:
        np.testing.assert_array_equal(result, JOINS[name](x).data)


def test_the_product_with_a_list_of_tensors() -> None:
    x = ag.tensor(np.array([3.0, 5.0]), requires_grad=True)
    (x * [x, x]).sum().backward()
    np.testing.assert_array_equal(x.grad, [12, 20])


@pytest.mark.parametrize(
    "lose",
    [
        lambda x: np.array([x, x]),
        lambda x: np.array([x[0], x[1]]),
        lambda x: np.asarray(x),
        lambda x: np.r_[x, x],
        lambda x: np.c_[x, x],
        lambda x: np.mean([x, x]),
        lambda x: np.mean([x[0], x[1]]),
        lambda x: np.sin([x, x]),
        lambda x: np.zeros(2) + np.array([x, x]),
        lambda x: np.stack([[x, x], [x, x]]),
        lambda x: np.zeros(2).__setitem__(slice(None), x),
        lambda x: np.zeros(2).__iadd__(x),
        lambda x: np.add(x, 1, out=np.zeros(2)),
        lambda x: np.add(1, 1, out=x),
        lambda x: np.ma.array([1.0, 2.0], mask=[True, False]) * x,
        lambda x: ag.tensor([x, x], requires_grad=True),
        lambda x: nn.Parameter([x[0], x[1]]),
        lambda x: F.binary_cross_entropy_with_logits([0.5, 1.0], [0.0, 1.0], weight=x),
        lambda x: F.cross_entropy([[0.5, 1.0]], [[x[0], x[1]]]),
        lambda x: np.pad([1.0], 1, constant_values=x),
        lambda x: ag.pad([1.0], 1, constant_values=x),
        lambda x: ag.clip(np.ones(2), [x[0], x[1]]),
        lambda x: F.leaky_relu([1.0, -2.0], x[0]),
        lambda x: F.elu([1.0, -2.0], alpha=x[0]),
        lambda x: F.softplus([1.0, -2.0], x[0]),
    ],
)
def test_what_would_lose_a_gradient_raises(lose: Any) -> None:
    x = ag.tensor(np.array([3.0, 5.0]), requires_grad=True)
    with pytest.raises(
        (TypeError, ValueError), match=r"gradient|out=|must be a number, got Tensor"
    ):
        lose(x)


def test_values_that_carry_no_gradient_become_arrays() -> None:
    x = ag.tensor(np.array([3.0, 5.0]), requires_grad=True)
    losses = []
    for _ in range(3):
        loss = (x * x).sum()
        loss.backward()
        losses.append(loss)
    assert np.mean(losses) == np.mean([losses]) == 34  # their graphs are freed
    with ag.no_grad():
        np.testing.assert_array_equal([x, 2 * x], [[3, 5], [6, 10]])
        np.testing.assert_array_equal(np.r_[x, x], [3, 5, 3, 5])
    total = np.ones(2)
    same = total
    total += x.detach()
    np.multiply(x.detach(), 2, out=total, where=[True, False])
    assert total is same
    np.testing.assert_array_equal(total, [6, 6])
    total[0] = x.sum()  # the same as float(x.sum())
    assert total[0] == 8
    assert ag.tensor([x.detach(), [1.0, 2.0]]).dtype == np.float64
    assert ag.tensor([x.detach()], requires_grad=True).is_leaf


def test_masked_elements_are_refused() -> None:
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    x = ag.tensor([1.0, 2.0])
    np.testing.assert_array_equal((x * np.ma.array([3.0, 4.0])).data, [3, 8])
    for use in (
        ag.tensor,
        F.relu,
        lambda m: x * m,
        lambda m: ag.tensor([1.0, 2.0], requires_grad=True) * m,
        lambda m: x.clip(m),
        lambda m: ag.where(m, x, x),
        lambda m: F.mse_loss(x, m),
        lambda m: F.cross_entropy([[1.0, 2.0]] * 2, m.astype(int)),
        lambda m: x.__setitem__(slice(None), m),
    ):
        with pytest.raises(TypeError, match="has masked elements"):
            use(masked)
        use(masked.filled(1))
    with pytest.raises(TypeError, match=r"np\.ma: masked arrays have no gradients"):
        masked * x


def test_what_has_a_dtype_keeps_it_in_whatever_holds_it() -> None:
    class Table:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            return np.array([0.1, 0.2])

    assert ag.tensor(Table()).dtype == np.float64
    assert (ag.tensor(np.ones(2, np.float32)) * Table()).dtype == np.float64


def test_operators_with_a_series_of_pandas_record() -> None:
    pandas = pytest.importorskip("pandas")
    for kind in (pandas.Series, pandas.Index, lambda v: pandas.DataFrame([v])):
        values = kind(np.array([2.0, 3.0]))
        x = ag.tensor(np.array([1.0, 4.0]), requires_grad=True)
        for result in (values * x, x * values, values - x, 1 - x / values):
            assert isinstance(result, ag.Tensor)
            assert result.dtype == np.float64
            assert result.requires_grad
        (values * x).sum().backward()
        np.testing.assert_array_equal(x.grad, [2, 3])


# -- changes in place ------------------------------------------------------------------------------

IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "+=": iadd,
    "-=": isub,
    "*=": imul,
    "/=": itruediv,
    "**=": ipow,
    "@=": imatmul,
}
SQUARE, OTHER = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 1.0], [0.5, 3.0]])
every_operator_in_place = pytest.mark.parametrize("name", IN_PLACE)


@every_operator_in_place
@pytest.mark.parametrize("wrap", [ag.tensor, np.array, np.ndarray.tolist])
def test_operators_change_leaves_in_place(name: str, wrap: Any) -> None:
    parameter, constant = ag.tensor(SQUARE, requires_grad=True), ag.tensor(SQUARE)
    expected = SQUARE.copy()
    expected = IN_PLACE[name](expected, OTHER)
    with ag.no_grad():
        for leaf in (parameter, constant):
            array, result = leaf.data, IN_PLACE[name](leaf, wrap(OTHER))
            assert result is leaf
            assert leaf.data is array
            np.testing.assert_array_equal(leaf.data, expected)
    assert parameter.requires_grad
    assert parameter.is_leaf
    again = IN_PLACE[name](constant, wrap(OTHER))  # no gradient is wanted
    assert again is constant
    assert constant.is_leaf


@every_operator_in_place
def test_operators_in_place_raise_where_gradients_could_not_follow(name: str) -> None:
    leaf = ag.tensor(SQUARE, requires_grad=True)
    computed = leaf * 1
    before = leaf.data.copy()
    with pytest.raises(TypeError, match=re.escape(f"{name}: a leaf that requires a gradient")):
        IN_PLACE[name](leaf, OTHER)
    with ag.no_grad(), pytest.raises(TypeError, match=re.escape(f"{name}: the graph that")):
        IN_PLACE[name](computed, OTHER)
    np.testing.assert_array_equal(leaf.data, before)
    np.testing.assert_array_equal(computed.data, before)


@every_operator_in_place
def test_operators_in_place_record_on_results_and_on_all_their_names(name: str) -> None:
    other = ag.tensor(OTHER)  # a captured function refuses arrays

    def in_place(x: ag.Tensor) -> ag.Tensor:
        result = x + 1
        alias, scaled = result, result * 2
        result = IN_PLACE[name](result, other)
        assert alias is result
        return result + scaled

    def expected(x: ag.Tensor) -> ag.Tensor:
        result = x + 1
        changed = result @ OTHER if name == "@=" else OPERATORS[name[:-1]](result, OTHER)
        return changed + result * 2

    gradients = []
    for function in (expected, in_place, ag.capture(in_place)):
        x = ag.tensor(SQUARE, requires_grad=True)
        out = function(x)
        (out * OTHER).sum().backward()
        gradients.append((out.data, x.grad))
    for gradient in gradients[1:]:
        np.testing.assert_array_equal(gradient, gradients[0])


def test_a_total_records_what_is_added_to_it() -> None:
    x = ag.tensor(np.array([3.0, 5.0]), requires_grad=True)
    total = ag.tensor(np.array(0.0))
    for element in x:
        total += element * element
    total.backward()
    np.testing.assert_array_equal(x.grad, [6, 10])


def test_gradient_descent_by_operators() -> None:
    model = nn.Linear(2, 1)
    F.mse_loss(model([[1.0, 2.0]]), [[9.0]]).backward()
    expected = [p.data - 0.1 * p.grad for p in model.parameters()]
    with ag.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    for p, values in zip(model.parameters(), expected):
        np.testing.assert_array_equal(p.data, values)


def test_a_graph_keeps_the_values_that_a_leaf_had() -> None:
    x = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
    loss = (x * x).sum()
    with ag.no_grad():
        x *= 10
        x[0] -= 3
    np.testing.assert_array_equal(x.data, [7, 20])
    loss.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


@pytest.mark.parametrize("view", [lambda x: x.detach(), ag.no_grad()(lambda x: x[:1])])
@pytest.mark.parametrize(
    "change", [lambda v: imul(v, 2), lambda v: v.__setitem__(0, 7.0)], ids=["*=", "[]="]
)
def test_a_view_that_cannot_change_what_it_shows_raises(view: Any, change: Any) -> None:
    x = ag.tensor(np.array([1.0, 2.0]), requires_grad=True)
    loss = (x * x).sum()
    shown = view(x)
    with ag.no_grad(), pytest.raises(ValueError, match="read-only view"):
        change(shown)
    loss.backward()
    with ag.no_grad():
        part = x[:1]
        part *= 5
    np.testing.assert_array_equal(x.data, [5, 2])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda: iadd(ag.tensor([1, 2]), 0.5), TypeError, r"\+=: the result is float"),
        (lambda: imul(ag.tensor(1.0), [1.0, 2.0]), ValueError, r"\*=: .* shape \(2,\)"),
        (lambda: imatmul(ag.tensor([[1.0]]), [1.0]), ValueError, r"@=: .* shape \(1,\)"),
    ],
)
def test_operators_in_place_keep_shape_and_dtype(change: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        change()
    x = ag.tensor(np.ones(2, np.float32))
    x += np.ones(2)
    assert x.dtype == np.float32


@pytest.mark.parametrize("name", ["grad", "average_grad"])
def test_gradients_can_be_assigned(name: str) -> None:
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    for value in ([3, 4], (3.0, 4.0), np.array([3, 4]), ag.tensor([3.0, 4.0])):
        setattr(x, name, value)
        assert type(getattr(x, name)) is np.ndarray
        assert getattr(x, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(x, name), [3, 4])
    own = np.ones(2, np.float32)
    setattr(x, name, own)
    assert getattr(x, name) is own
    for wrong in (1.0, [1.0], [[1.0, 2.0]], np.ones(3)):
        with pytest.raises(ValueError, match=rf"Tensor.{name}: the value has shape"):
            setattr(x, name, wrong)
    assert getattr(x, name) is own
    setattr(x, name, None)
    assert getattr(x, name) is None


# -- promotion -----------------------------------------------------------------------------------


def numpy_says(operator: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    """Return NumPy's result, or the type of its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(operator(x, y))
        except (TypeError, ValueError, OverflowError) as error:
            return type(error)


def weak(value: Any, x: Array) -> Any:
    """Return a NumPy scalar as a Python number, unless it is of a higher kind than x."""
    kinds = {"b": 0, "i": 1, "u": 1, "f": 2}
    if isinstance(value, np.generic) and kinds[value.dtype.kind] <= kinds[x.dtype.kind]:
        return value.item()
    return value


@every_operator
@pytest.mark.parametrize("left", DTYPES, ids=str)
def test_promotion_is_numpys_except_that_scalars_are_weak(
    operator: Callable[[Any, Any], Any], left: Any
) -> None:
    x = np.array([1, 0, 1]).astype(left)
    others = [np.array([1, 1, 1]).astype(right) for right in DTYPES]
    others += [array[0] for array in others]
    for y in [*others, *SCALARS]:
        for first, second in ((x, y), (y, x)):
            expected = numpy_says(operator, weak(first, x), weak(second, x))
            if isinstance(expected, type) or expected.dtype == object:
                continue
            wraps = [(ag.tensor, lambda v: v)] if first is x else [(lambda v: v, ag.tensor)]
            if isinstance(y, np.ndarray):
                wraps.append((ag.tensor, ag.tensor))
            for wrap_first, wrap_second in wraps:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    result = operator(wrap_first(first), wrap_second(second))
                assert isinstance(result, ag.Tensor)
                assert result.dtype == expected.dtype, (first, second)
                np.testing.assert_array_equal(result.data, expected)


FLOATS = [np.float32, np.float64]
WEAK: dict[str, Any] = {
    "Python's": 0.1,
    "integer": 2,
    "boolean": True,
    "float64": np.float64(0.1),
    "float32": np.float32(0.1),
    "float16": np.float16(0.1),
    "longdouble": np.longdouble(0.1),
    "int64": np.int64(2),
    "bool_": np.bool_(True),
    "without axes": np.array(0.1),
    "a Tensor of float64": ag.tensor(0.1, dtype=np.float64),
    "a Tensor of float32": ag.tensor(0.1),
}
OF_TWO: dict[str, Callable[[Any, Any], Any]] = {
    **{name: operator for name, operator in OPERATORS.items() if name != "@"},
    **{
        function.__name__: function
        for function in (ag.add, ag.subtract, ag.multiply, ag.divide, ag.power, ag.maximum)
    },
    **{
        f"np.{function.__name__}": function
        for function in (np.add, np.subtract, np.multiply, np.divide, np.minimum, np.power)
    },
    "minimum": ag.minimum,
    "dot": ag.dot,
    "np.dot": np.dot,
    "outer": ag.outer,
    "einsum": lambda x, y: ag.einsum("i,->i" if np.ndim(y) == 0 else ",i->i", x, y),
    "tensordot": lambda x, y: ag.tensordot(x, y, 0),
    "where": lambda x, y: ag.where(np.array([True, False]), x, y),
    "np.where": lambda x, y: np.where(np.array([True, False]), x, y),
    "clip": lambda x, y: ag.clip(x, min=y) if np.ndim(x) else ag.maximum(x, y),
}
LISTS: dict[str, Callable[[Any, Any], Any]] = {
    **{name: f for name, f in OF_TWO.items() if name != "einsum"},
    "matmul": ag.matmul,
    "einsum of rows": lambda x, y: ag.einsum("i,i", x, y),
    "concatenate": lambda x, y: ag.concatenate([x, y]),
    "concatenate flat": lambda x, y: ag.concatenate([x, y], axis=None),
    "stack": lambda x, y: ag.stack([x, y]),
    "mse_loss": F.mse_loss,
    "linear": lambda x, y: F.linear(x, [y]),
    "linear bias": lambda x, y: F.linear(x, np.eye(2).astype(x.dtype), y),
    "conv1d": lambda x, y: F.conv1d(x[np.newaxis, np.newaxis], [[y]], [0.1]),
    "conv_transpose1d": lambda x, y: F.conv_transpose1d(x[np.newaxis, np.newaxis], [[y]], [0.1]),
    "layer_norm": lambda x, y: F.layer_norm(x, 2, y, y),
    "batch_norm": lambda x, y: F.batch_norm(
        ag.stack([x, 3 * x, 2 * x]), None, None, y, y, training=True
    ),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", OF_TWO)
def test_scalars_of_any_kind_take_the_dtype_of_their_partner(name: str, dtype: Any) -> None:
    function = OF_TWO[name]
    for array in np.array([1.0, 2.0], dtype), ag.tensor([1.0, 2.0], dtype=dtype):
        for kind, scalar in WEAK.items():
            tensors = isinstance(array, ag.Tensor) or isinstance(scalar, ag.Tensor)
            if not tensors and (name.startswith("np.") or name in OPERATORS):
                continue  # NumPy's own
            exact = np.asarray(scalar, dtype)[()]
            for swapped in [False, True] if name != "clip" else [False]:
                pair, expected = (array, scalar), (array, exact)
                if swapped:
                    pair, expected = pair[::-1], expected[::-1]
                result = function(*pair)
                assert result.dtype == dtype, (kind, swapped)
                reference = function(*map(ag.tensor, expected))
                np.testing.assert_array_equal(result.data, reference.data)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", LISTS)
def test_lists_take_the_dtype_of_their_partner(name: str, dtype: Any) -> None:
    x, values = ag.tensor([1.0, 3.0], dtype=dtype), [0.1, 0.7]
    result = LISTS[name](x, values)
    expected = LISTS[name](x, np.array(values, dtype))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.data, expected.data)


def test_scalars_among_themselves() -> None:
    x32, x64 = ag.tensor(0.5), ag.tensor(0.5, dtype=np.float64)
    assert (x32 * np.float64(0.1)).dtype == np.float32
    assert (x32 * x64).dtype == np.float64
    assert ag.multiply(np.float64(0.1), 0.1).data == 0.1 * 0.1
    assert ag.multiply(np.float32(0.1), 0.1).dtype == np.float32
    assert ag.multiply(0.1, [0.1]).dtype == np.float32
    assert (ag.tensor([1, 2]) * np.float32(0.5)).dtype == np.float64  # of a higher kind, as NumPy's
    with pytest.raises(OverflowError):
        ag.tensor(np.ones(2, np.int8)) + np.int64(1000)


def test_gradients_and_averages_of_weak_operands() -> None:
    for strong, weak_one in (np.float32, np.float64), (np.float64, np.float32):
        x = ag.tensor([1.0, 2.0], dtype=strong, requires_grad=True)
        scale = ag.tensor(3.0, dtype=weak_one, requires_grad=True)
        loss = (x * scale).sum()
        loss.backward(retain_graph=True)
        end = loss.average_backward({x: [1.0, 1.0], scale: 1.0})
        assert loss.dtype == end.dtype == strong
        assert scale.grad.dtype == scale.average_grad.dtype == weak_one
        assert (scale.grad, scale.average_grad, end) == (3, 4, 20)
        captured = ag.capture(lambda x, scale: (x * scale).sum() * np.float64(0.5))
        for _ in range(2):
            assert captured(x, scale).dtype == strong


OPTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "elu": lambda x, n: F.elu(x, n(1.0)),
    "leaky_relu": lambda x, n: F.leaky_relu(x, n(0.25)),
    "softplus": lambda x, n: F.softplus(x, n(1.5)),
    "dropout": lambda x, n: F.dropout(x, n(0.5)),
    "layer_norm": lambda x, n: F.layer_norm(x, 4, eps=n(0.25)),
    "batch_norm": lambda x, n: F.batch_norm(x, None, None, training=True, eps=n(0.25)),
    "batch_norm, evaluated": lambda x, n: F.batch_norm(
        x, ag.tensor(x.data[0]), ag.tensor(x.data[1] ** 2), eps=n(0.25)
    ),
    "cross_entropy": lambda x, n: F.cross_entropy(x, [0, 1, 2], label_smoothing=n(0.25)),
    "cross_entropy of shares": lambda x, n: F.cross_entropy(
        x, np.full((3, 4), 0.25), label_smoothing=n(0.25)
    ),
    "clip": lambda x, n: ag.clip(x, n(-0.5), n(0.5)),
    "pad": lambda x, n: ag.pad(x, 1, constant_values=n(0.5)),
    "var": lambda x, n: ag.var(x, 0, ddof=n(1)),
    "std": lambda x, n: ag.std(x, ddof=n(1)),
    "power": lambda x, n: ag.power(x, n(2)),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_never_change_the_dtype(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = ag.tensor(rng.normal(size=(3, 4)), dtype=dtype, requires_grad=True)
    update = rng.normal(size=(3, 4))
    results = []
    for number in float, np.float64, np.float32, np.float16:
        ag.seed(0)
        x.zero_grad()
        out = OPTIONS[name](x, number)
        loss = out.sum()
        loss.backward(retain_graph=True)
        loss.average_backward({x: update})
        assert out.dtype == dtype
        results.append([out.data, x.grad, x.average_grad])
    for result in results[1:]:
        for array, expected in zip(result, results[0], strict=True):
            assert array.dtype == dtype
            np.testing.assert_array_equal(array, expected)


def test_no_gradient_flows_through_other_dtypes() -> None:
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    for dtype in np.float16, np.longdouble:
        with pytest.raises(TypeError, match=f"astype: the result is {np.dtype(dtype)}"):
            x.astype(dtype)
        with pytest.raises(TypeError, match=f"astype: the result is {np.dtype(dtype)}"):
            ag.capture(lambda x, dtype=dtype: x.astype(dtype))(x)
        assert x.detach().astype(dtype).dtype == dtype
    with pytest.raises(TypeError, match="Multiply: the result is"):
        x * np.ones(2, np.longdouble)


def test_arrays_of_the_other_byte_order_are_converted() -> None:
    array = np.array([1.0, 2.0]).astype(np.dtype(np.float32).newbyteorder())
    x = ag.tensor(array, requires_grad=True)
    assert x.dtype == np.float32
    for function in (ag.tanh, F.gelu, lambda y: x * y, lambda y: F.linear(y, [[1.0, 2.0]])):
        result = function(array)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result.data, function(array.astype(np.float32)).data)
    for convert in x.astype, lambda dtype: ag.tensor([1.0], dtype=dtype):
        with pytest.raises(TypeError, match="byte order"):
            convert(array.dtype)


@every_operator
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "other", [2, 0.5, True, np.float64(2), np.array([1, 2]), np.float32(0.5)], ids=repr
)
def test_promotion_is_the_same_when_recording(
    operator: Callable[[Any, Any], Any], dtype: Any, other: Any
) -> None:
    x = ag.tensor(np.array([1.0, 2.0], dtype), requires_grad=True)
    result = operator(x, other)
    expected = operator(x.data, weak(other, x.data))
    assert result.requires_grad
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.data, expected)
    result.sum().backward()
    assert x.grad.dtype == dtype


# -- NumPy's functions ---------------------------------------------------------------------------

x2, y2 = np.array([[0.5, -1.5], [2.0, 0.25]]), np.array([1.0, 3.0])

CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "matmul": np.matmul,
    "dot": np.dot,
    "power": lambda x, y: np.power(y, x),
    "negative": lambda x, y: np.negative(x),
    "abs": lambda x, y: np.abs(x),
    "exp": lambda x, y: np.exp(x),
    "log": lambda x, y: np.log(y),
    "log1p": lambda x, y: np.log1p(y),
    "expm1": lambda x, y: np.expm1(x),
    "sqrt": lambda x, y: np.sqrt(y),
    "square": lambda x, y: np.square(x),
    "reciprocal": lambda x, y: np.reciprocal(x),
    "tanh": lambda x, y: np.tanh(x),
    "sin": lambda x, y: np.sin(x),
    "cos": lambda x, y: np.cos(x),
    "sum": lambda x, y: np.sum(x, axis=0),
    "mean": lambda x, y: np.mean(x, axis=-1, keepdims=True),
    "var": lambda x, y: np.var(x, axis=1, ddof=1),
    "std": lambda x, y: np.std(x),
    "max": lambda x, y: np.max(x, axis=0),
    "amin": lambda x, y: np.amin(x, axis=1),
    "prod": lambda x, y: np.prod(x, axis=0),
    "clip": lambda x, y: np.clip(x, 0, 1),
    "where": lambda x, y: np.where([True, False], x, y),
    "reshape": lambda x, y: np.reshape(x, (4,)),
    "ravel": lambda x, y: np.ravel(x),
    "transpose": lambda x, y: np.transpose(x, (1, 0)),
    "swapaxes": lambda x, y: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x, y: np.moveaxis(x, 0, -1),
    "squeeze": lambda x, y: np.squeeze(x[None]),
    "expand_dims": lambda x, y: np.expand_dims(x, 1),
    "broadcast_to": lambda x, y: np.broadcast_to(y, (3, 2)),
    "concatenate": lambda x, y: np.concatenate([x, y[None]]),
    "stack": lambda x, y: np.stack([x, x], axis=1),
    "split": lambda x, y: np.split(x, 2)[1],
    "pad": lambda x, y: np.pad(x, 1),
    "flip": lambda x, y: np.flip(x, 0),
    "take": lambda x, y: np.take(x, [0, 0, 1], axis=1),
    "outer": lambda x, y: np.outer(x, y),
    "tensordot": lambda x, y: np.tensordot(x, y, axes=1),
    "einsum": lambda x, y: np.einsum("ij,j->i", x, y),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_numpys_functions_record(name: str, dtype: Any) -> None:
    arrays = x2.astype(dtype), y2.astype(dtype)
    x, y = (ag.tensor(array, requires_grad=True) for array in arrays)
    result, expected = CALLS[name](x, y), CALLS[name](*arrays)
    assert isinstance(result, ag.Tensor)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(result.data, expected, rtol=4 * np.finfo(dtype).eps)
    result.sum().backward()
    assert x.grad is not None or y.grad is not None


@pytest.mark.parametrize("name", ["add", "multiply", "matmul", "maximum"])
def test_an_array_on_the_left_records_too(name: str) -> None:
    x = ag.tensor(x2, requires_grad=True)
    result = CALLS[name](x2, x)
    assert isinstance(result, ag.Tensor)
    assert result.requires_grad
    np.testing.assert_array_equal(result.data, CALLS[name](x2, x2))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.linalg.pinv(x),
        lambda x: np.hypot(x, x),
        lambda x: np.add.reduce(x),
        lambda x: np.add(x, x, out=np.zeros((2, 2))),
        lambda x: np.median(x),
    ],
    ids=["pinv", "hypot", "reduce", "out=", "median"],
)
def test_functions_without_a_derivative_raise(call: Any) -> None:
    with pytest.raises(TypeError, match=r"np\.|out"):
        call(ag.tensor(x2, requires_grad=True))


@pytest.mark.parametrize(
    "compare",
    [
        lambda x, y: x == y,
        lambda x, y: x != y,
        lambda x, y: x < y,
        lambda x, y: x <= y,
        lambda x, y: x > y,
        lambda x, y: x >= y,
        np.equal,
        np.less,
        np.greater_equal,
    ],
)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_comparisons_return_booleans(compare: Any, requires_grad: bool) -> None:
    x = ag.tensor(x2, requires_grad=requires_grad)
    for other in (x2, ag.tensor(y2), y2, 0.5, 1):
        plain = other.data if isinstance(other, ag.Tensor) else other
        result = compare(x, other)
        assert type(result) is (ag.Tensor if requires_grad else np.ndarray)
        np.testing.assert_array_equal(result, compare(x2, plain))
        assert result.dtype == bool


def test_argmax_and_argmin_are_plain() -> None:
    x = ag.tensor(x2, requires_grad=True)
    np.testing.assert_array_equal(x.argmax(1), x2.argmax(1))
    assert x.argmin() == x2.argmin()
    np.testing.assert_array_equal(np.argmax(x, 0), x2.argmax(0))


@pytest.mark.parametrize("value", [0.0, 1.0, [0], [True]])
def test_truth_of_one_element(value: Any) -> None:
    assert bool(ag.tensor(value)) == bool(np.array(value))


def test_truth_of_several_elements_is_ambiguous() -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        bool(ag.tensor([1.0, 2.0]))


# -- elements ------------------------------------------------------------------------------------


@given(data=st.data(), shape=shapes(min_dims=1, min_side=1), wrap=st.booleans())
def test_indexing_is_numpys(data: Any, shape: tuple[int, ...], wrap: bool) -> None:
    index = data.draw(indices(shape))
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    tensor = ag.tensor(array, requires_grad=True)
    expected = array[index]
    wrapped = ag.tensor(index) if wrap and isinstance(index, np.ndarray) else index
    result = tensor[wrapped]
    assert result.shape == np.shape(expected)
    np.testing.assert_array_equal(result.data, expected)
    counts = np.zeros(shape)
    np.add.at(counts, index, 1)
    result.sum().backward()
    np.testing.assert_array_equal(tensor.grad, counts)


KEPT: dict[str, tuple[Any, Callable[[ag.Tensor, Any], ag.Tensor], Callable[[Any], Any]]] = {
    "transpose": ([1, 0], ag.transpose, list.reverse),
    "method transpose": ([1, 0], lambda x, axes: x.transpose(axes), list.reverse),
    "sum": ([0], lambda x, axis: x.sum(axis), lambda axis: axis.append(1)),
    "std": ([0], lambda x, axis: ag.std(x, axis), list.clear),
    "logsumexp": ([0], ag.logsumexp, list.clear),
    "pad": (np.array([1, 0]), ag.pad, lambda width: width.sort()),
    "0-d index": (np.array(0), lambda x, i: x[i], lambda i: i.fill(1)),
    "0-d index of a slice": (np.array(1), lambda x, i: x[i:], lambda i: i.fill(0)),
    "0-d index in a tuple": (np.array(0), lambda x, i: x[..., i], lambda i: i.fill(1)),
    "Tensor as an axis": (ag.tensor(0), ag.sum, lambda i: i.writable().fill(1)),
    "Tensor as a slope": (
        ag.tensor(-1.0),
        lambda x, slope: F.leaky_relu(x - 2.5, slope),
        lambda i: i.writable().fill(1),
    ),
    "Tensor in a slice": (ag.tensor(1), lambda x, i: x[i:], lambda i: i.writable().fill(0)),
    "reshape": ([4, 1], lambda x, shape: x.reshape(shape), list.reverse),
    "padding_idx": (np.array(-1), lambda x, i: F.embedding([1, 0], x, i), lambda i: i.fill(0)),
}


@pytest.mark.parametrize("name", KEPT)
def test_an_option_may_change_after_its_use(name: str) -> None:
    """See also `test_changing_any_argument_after_the_call_changes_nothing`."""
    argument, function, change = KEPT[name]
    grads = []
    for changed in (False, True):
        x, option = ag.tensor(SQUARE, requires_grad=True), deepcopy(argument)
        out = function(x, option)
        if isinstance(option, np.ndarray):
            assert option == argument if option.ndim == 0 else True
        if changed:
            change(option)
        loss = (out * np.cos(np.arange(out.size)).reshape(out.shape)).sum()
        loss.average_backward({x: OTHER}, retain_graph=True)
        loss.backward()
        grads.append((x.grad, x.average_grad))
    np.testing.assert_array_equal(*grads)


def test_a_single_axis_may_be_transposed() -> None:
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    for y in (np.transpose(x, 0), x.transpose(0), x.transpose(np.int64(-1)), x.transpose((0,))):
        (y * [3.0, 4.0]).sum().backward()
    np.testing.assert_array_equal(x.grad, [12, 16])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ag.tensordot(x, x, (0,)), TypeError, "a pair of integers or sequences"),
        (lambda x: ag.tensordot(x, x, (0, 0, 0)), TypeError, "a pair of integers or sequences"),
        (lambda x: ag.tensordot(x, x, 1.5), TypeError, "must be an integer"),
        (lambda x: ag.tensordot(x, x, "ab"), TypeError, "must be an integer"),
        (lambda x: ag.tensordot(x, x, 3), ValueError, "axes=3 must lie between 0 and"),
        (lambda x: ag.tensordot(x, x, -1), ValueError, "axes=-1 must lie between 0 and"),
        (lambda x: ag.tensordot(x, x, (0, 2)), ValueError, "axes has 2 for y, which has 2 axes"),
        (lambda x: ag.tensordot(x, x, ([0, 1], [0])), ValueError, "2 axes of x and 1 of y"),
        (lambda x: ag.tensordot(x, x, ([0, -2], [0, 1])), ValueError, "repeats an axis of x"),
        (lambda x: ag.pad(x, (1, 2, 3)), ValueError, r"pad_width .* of shape \(2, 2\)"),
        (lambda x: ag.pad(x, ((1, 2), (3, 4), (5, 6))), ValueError, "pad_width must be"),
        (lambda x: ag.pad(x, -1), ValueError, "pad_width must not be negative, got -1"),
        (lambda x: ag.pad(x, 1.5), TypeError, "pad_width must hold integers, got 1.5"),
        (lambda x: ag.pad(x, None), TypeError, "pad_width must hold integers"),
        (lambda x: ag.pad(x, {0: 1}), TypeError, "pad_width must hold integers"),
        (lambda x: ag.pad(x, 1, "edge"), ValueError, 'mode must be "constant"'),
        (lambda x: ag.pad(x, 1, "constant", [1, 2, 3]), ValueError, "constant_values must be"),
    ],
)
def test_wrong_arguments_are_named(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=rf"^(tensordot|pad): .*{message}"):
        call(ag.tensor(SQUARE))


def test_tensordot_takes_whatever_names_axes() -> None:
    x, y = SQUARE.reshape(2, 1, 2), OTHER.reshape(2, 2, 1)
    for axes in (0, 1, np.int64(1), ([0], [1]), [0, 1], ((0, 1), (1, 2)), np.array([[2], [0]])):
        axes_of_x = 1 if isinstance(axes, np.int64) else axes
        left = x if not isinstance(axes, int | np.integer) else x.transpose(0, 1, 2)
        result = ag.tensordot(ag.tensor(left), y, axes)
        np.testing.assert_array_equal(result.data, np.tensordot(left, y, axes_of_x))


def test_an_index_may_change_after_its_use() -> None:
    x = ag.tensor(np.arange(4.0), requires_grad=True)
    index, mask = np.array([0, 0, 2]), np.array([True, False, True, False])
    loss = x[index].sum() + 10 * x[mask].sum()
    index[:] = 3
    mask[:] = True
    loss.backward()
    np.testing.assert_array_equal(x.grad, [12, 0, 11, 0])


def test_iteration_and_unpacking() -> None:
    x = ag.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    (first * second).sum().backward()
    np.testing.assert_array_equal(x.grad, [[3, 4], [1, 2]])


CONSTANTS: dict[str, Callable[[ag.Tensor, Array], ag.Tensor]] = {
    "where": lambda x, c: ag.where(c > 0, x, -x),
    "lower bound": lambda x, c: x.clip(c, None),
    "upper bound": lambda x, c: x.clip(None, c),
    "labels": lambda x, c: ag.nn.functional.cross_entropy(
        ag.stack([x, -x], 1), c.astype(int), reduction="sum"
    ),
}


@pytest.mark.parametrize("use", [*CONSTANTS])
def test_constants_of_an_operation_may_change_after_its_use(use: str) -> None:
    """Buffers may be refilled while a graph lives, so an operation must own its constants."""
    grads = []
    for change in (False, True):
        x = ag.tensor(np.array([-2.0, 0.5, 3.0]), requires_grad=True)
        constant = np.array([1.0, 0.0, 1.0])
        loss = CONSTANTS[use](x, constant).sum()
        if change:
            constant[:] = [0, 1, 0]
        loss.average_backward({x: [1.0, -1.0, 1.0]}, retain_graph=True)
        loss.backward()
        grads.append((x.grad, x.average_grad))
    np.testing.assert_array_equal(*grads)


# -- dtypes on the way back ----------------------------------------------------------------------


def test_gradients_pass_through_conversions() -> None:
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    y = x.astype(np.float64)
    assert y.dtype == np.float64
    (y * np.array([3.0, 4.0])).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [3, 4])


def test_a_conversion_to_integers_ends_the_graph() -> None:
    x = ag.tensor([1.5, 2.5], requires_grad=True)
    y = x.astype(np.int64)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.data, [1, 2])


def test_a_loss_divided_by_a_count_keeps_its_dtype() -> None:
    x = ag.tensor(np.array([1.0, -2.0, 3.0], np.float32), requires_grad=True)
    above = x > 0
    for count in (above.sum(), ag.tensor(2), np.int64(2), np.array(2), 2):
        mean = (x * above).sum() / count
        assert mean.dtype == np.float32
        assert mean.item() == 2


@pytest.mark.parametrize(
    ("dtype", "number"),
    [(np.uint8, 300), (np.int8, -129), (np.int32, 2**40), (np.uint64, -1), (np.uint8, -1)],
)
def test_numbers_in_sequences_do_not_wrap(dtype: Any, number: int) -> None:
    x = ag.tensor(np.ones(1, dtype))
    for compute in (
        lambda: np.add(x, [number]),
        lambda: [[number]] * x,
        lambda: np.maximum(x, [number]),
        lambda: np.where([True], x, [number]),
        lambda: x.clip([number], None),
        lambda: ag.concatenate([x, [number]]),
        lambda: ag.stack([x, [number]]),
        lambda: ag.scatter(x, 0, [0], [number]),
        lambda: ag.scatter(x, 0, [0], np.array([float(number)])),
        lambda: ag.pad(x, 1, constant_values=number),
        lambda: ag.pad(x, 1, constant_values=np.array([number, 0])),
        lambda: x.__setitem__(0, number),
        lambda: setattr(x, "data", [number]),
    ):
        with pytest.raises(OverflowError):
            compute()
    assert np.add(x, [100]).dtype == dtype
    assert np.add(ag.tensor([1.0]), [number]).tolist() == [1 + np.float32(number)]


def test_constants_with_a_fraction_have_no_place_among_integers() -> None:
    x = ag.tensor([1, 2])
    for compute in (
        lambda: ag.pad(x, 1, constant_values=0.5),
        lambda: ag.pad(x, 1, constant_values=(0, np.nan)),
        lambda: ag.scatter(x, 0, [0], 0.5),
    ):
        with pytest.raises(OverflowError, match="fit into int64"):
            compute()
    assert ag.pad(x, 1, constant_values=3.0).tolist() == [3, 1, 2, 3]
    assert ag.scatter(x, 0, [0], 3.0).tolist() == [3, 2]


@pytest.mark.parametrize("value", ["3", ["3"], [1 + 2j], np.array([1 + 2j]), np.array([1], object)])
def test_only_real_numbers_are_converted(value: Any) -> None:
    x = ag.tensor([1.0], requires_grad=True)
    constant = ag.tensor([1.0])
    for convert in (
        lambda: (x * 2).backward(value),
        lambda: x.sum().average_backward({x: value}),
        lambda: setattr(x, "grad", value),
        lambda: setattr(x, "average_grad", value),
        lambda: setattr(constant, "data", value),
        lambda: constant.__setitem__(0, value),
        lambda: ag.tensor(value, dtype=np.float32),
        lambda: ag.nn.init.constant_(constant, value),
        lambda: ag.pad(constant, 1, constant_values=value),
    ):
        with pytest.raises(TypeError, match="real numbers"):
            convert()
