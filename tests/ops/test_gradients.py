"""Forward and backward of every operation, at random inputs of every layout."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.ops
from agrad.backend import Array
from agrad.core.program import Node, topological_order
from agrad.errors import AverageUndefinedError, CaptureError, HigherDerivativeError
from agrad.ops import ctc, matrix
from agrad.ops.operation import Operation
from agrad.ops.recurrent import Recurrent
from agrad.testing import check_gradients
from agrad.testing.strategies import (
    OPERATIONS,
    Case,
    Model,
    Program,
    lay_out,
    layouts,
    models,
    operations,
    programs,
    seeds,
)

WITHOUT_AVERAGE = {matrix.Eigh, matrix.SingularValues}
"""Operations without averages, which test_functions covers."""

every_operation = pytest.mark.parametrize("name", OPERATIONS)
few = settings(max_examples=10)


def evaluate(case: Case, inputs: Sequence[Array], layouts: Sequence[str] = ()) -> Array:
    tensors = [ag.tensor(array) for array in inputs]
    with ag.no_grad():
        return case(*with_layouts(tensors, layouts)).data


def with_layouts(tensors: Sequence[ag.Tensor], layouts: Sequence[str]) -> list[ag.Tensor]:
    if not layouts:
        return list(tensors)
    return [lay_out(tensor, layout) for tensor, layout in zip(tensors, layouts, strict=True)]


def pull_back(
    case: Case, inputs: Sequence[Array], cotangent: Array, layouts: Sequence[str] = ()
) -> list[Array]:
    """Return the gradients of ⟨cotangent, case(inputs)⟩."""
    leaves = [ag.tensor(array, requires_grad=True) for array in inputs]
    case(*with_layouts(leaves, layouts)).backward(cotangent)
    return [leaf.grad for leaf in leaves]


def concrete_operations() -> Iterator[type[Operation]]:
    for info in pkgutil.iter_modules(agrad.ops.__path__):
        module = importlib.import_module(f"agrad.ops.{info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            defined_here = member.__module__ == module.__name__
            if (
                defined_here
                and getattr(member, "forward", Operation.forward) is not Operation.forward
                and not member.__subclasses__()  # what others derive from is tested with them
                and member.differentiable
            ):
                yield member


@pytest.mark.parametrize("operation", list(concrete_operations()), ids=lambda op: op.__qualname__)
def test_every_operation_is_tested(operation: type[Operation]) -> None:
    if operation in WITHOUT_AVERAGE:
        with pytest.raises(AverageUndefinedError):
            operation().require_average()
    else:
        assert operation in {entry.operation for entry in OPERATIONS.values()}, (
            "add it to agrad/testing/strategies/_operations"
        )


@every_operation
@settings(max_examples=20)
@given(data=st.data(), seed=seeds)
def test_backward_agrees_with_central_differences(name: str, data: Any, seed: int) -> None:
    case = data.draw(operations(name))
    drawn = [data.draw(layouts) for _ in case.inputs]

    def laid_out(*tensors: ag.Tensor) -> ag.Tensor:
        return case(*with_layouts(tensors, drawn))

    # Points are away from kinks, so that no element may be left out.
    report = check_gradients(laid_out, *case.inputs, directions=1, tolerance=1e-8, seed=seed)
    assert not report.kinks


NOT_RECORDED: set[type[Operation]] = {ctc.PathLikelihood, matrix.Eigh, matrix.SingularValues}
"""The operations whose backward pass cannot be recorded, so that they lack higher derivatives."""


@pytest.mark.parametrize("operation", list(concrete_operations()), ids=lambda op: op.__qualname__)
def test_every_operation_is_recorded_or_named_here(operation: type[Operation]) -> None:
    defined = operation.recorded_backward is not Operation.recorded_backward
    assert (operation.recordable or defined) == (operation not in NOT_RECORDED)


def once_differentiable(name: str, out: ag.Tensor) -> set[str]:
    """Return the names of the operations that led to `out` and have no higher derivatives.

    The operation that the entry names must be among those that led to `out`.
    """
    assert isinstance(out.node, Node)
    found = {type(node.operation) for node in topological_order(out.node)}
    assert OPERATIONS[name].operation in found
    return {operation.__name__ for operation in found & NOT_RECORDED}


def recorded_gradients(
    case: Case, inputs: Sequence[ag.Tensor], cotangent: ag.Tensor | Array
) -> list[ag.Tensor]:
    """Return the gradients of ⟨cotangent, case(inputs)⟩, which have graphs of their own."""
    with ag.enable_grad():
        out = case(*inputs)
        return list(ag.grad(out, inputs, cotangent, create_graph=True, allow_unused=True))


@every_operation
@settings(max_examples=4)
@given(data=st.data(), seed=seeds)
def test_recorded_backward_is_backward_and_has_a_gradient(name: str, data: Any, seed: int) -> None:
    case = data.draw(operations(name))
    rng = np.random.default_rng(seed)
    cotangent = rng.normal(size=evaluate(case, case.inputs).shape)
    weights = [rng.normal(size=x.shape) for x in case.inputs]
    leaves = [ag.tensor(x, requires_grad=True) for x in case.inputs]
    missing = once_differentiable(name, case(*leaves))
    if missing:
        with pytest.raises(HigherDerivativeError, match="|".join(missing)):
            recorded_gradients(case, leaves, cotangent)
        return
    found = recorded_gradients(case, leaves, cotangent)
    for gradient, expected in zip(found, pull_back(case, case.inputs, cotangent), strict=True):
        assert (gradient.shape, gradient.dtype) == (expected.shape, expected.dtype)
        # The recorded backward pass consists of other operations, which round differently.
        atol = 1e-12 * np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(gradient.data, expected, rtol=1e-11, atol=atol)

    def weighted(*tensors: ag.Tensor) -> ag.Tensor:
        gradients = recorded_gradients(case, tensors[:-1], tensors[-1])
        with ag.enable_grad():
            parts = zip(gradients, weights, strict=True)
            return ag.stack([(g * w).sum() for g, w in parts]).sum()

    report = check_gradients(
        weighted, *case.inputs, cotangent, directions=1, tolerance=1e-7, seed=seed
    )
    assert not report.kinks


@every_operation
@settings(max_examples=2)
@given(data=st.data(), seed=seeds)
def test_recorded_backward_has_complete_averages_and_a_recorded_backward(
    name: str, data: Any, seed: int
) -> None:
    case = data.draw(operations(name))
    rng = np.random.default_rng(seed)
    leaves = [ag.tensor(x, requires_grad=True) for x in case.inputs]
    out = case(*leaves)
    if once_differentiable(name, out):
        return
    cotangent = ag.tensor(rng.normal(size=out.shape), requires_grad=True)
    gradients = recorded_gradients(case, leaves, cotangent)
    total = ag.stack([(g * rng.normal(size=g.shape)).sum() for g in gradients]).sum()
    updates = {cotangent: rng.normal(size=out.shape)}
    for leaf, domain in zip(leaves, case.domains, strict=True):
        # The step stays short of the next element or kink, where a choice would change.
        step = 0.004 * rng.choice([-1.0, 1.0], leaf.shape)
        updates[leaf] = domain.step(leaf.data, step) - leaf.data
    slopes = ag.grad(total, list(updates), create_graph=True, allow_unused=True)
    updates = {
        leaf: update for (leaf, update), slope in zip(updates.items(), slopes) if slope is not None
    }
    end = total.average_backward(updates)
    terms = np.concatenate([(x.average_grad * u).ravel() for x, u in updates.items()])
    scale = np.abs(terms).sum() + abs(end) + abs(total.item())
    assert terms.sum() == pytest.approx(end - total.item(), abs=1e-11 * scale)


@settings(max_examples=100)
@given(program=programs(), seed=seeds)
def test_gradients_of_random_graphs(program: Program, seed: int) -> None:
    check_gradients(program, *program.starts, directions=1, seed=seed)


@settings(max_examples=50)
@given(model=models(), seed=seeds)
def test_gradients_of_models(model: Model, seed: int) -> None:
    assert not check_gradients(model.module, model.input, directions=1, seed=seed).kinks


@every_operation
@few
@given(data=st.data(), seed=seeds)
def test_float32_agrees_with_float64(name: str, data: Any, seed: int) -> None:
    """Values and gradients agree within 32 times the effect of rounding the inputs.

    That effect is measured: it is the largest change of an element, in float64, under four random
    perturbations of the inputs and the cotangent by one eps of float32. An eps of the largest
    element is added for the operation's own rounding.
    """
    case = data.draw(operations(name))
    inputs = [array.astype(np.float32) for array in case.inputs]
    rng = np.random.default_rng(seed)
    cotangent = rng.normal(size=evaluate(case, inputs).shape).astype(np.float32)
    eps = np.finfo(np.float32).eps

    def in_float64(perturbation: float) -> list[Array]:
        arrays = [
            array * (1 + perturbation * rng.choice([-1.0, 1.0], array.shape))
            for array in (*inputs, cotangent)
        ]
        return [evaluate(case, arrays[:-1]), *pull_back(case, arrays[:-1], arrays[-1])]

    results = [evaluate(case, inputs), *pull_back(case, inputs, cotangent)]
    references = in_float64(0.0)
    perturbed = [in_float64(eps) for _ in range(4)]
    for i, (result, reference) in enumerate(zip(results, references, strict=True)):
        assert result.dtype == np.float32
        if result.size:
            spread = max(np.abs(other[i] - reference).max() for other in perturbed)
            tolerance = 32 * (spread + eps * np.abs(reference).max())
            assert np.abs(result - reference).max() <= tolerance


@every_operation
@few
@given(data=st.data())
def test_no_array_is_changed_or_shared(name: str, data: Any) -> None:
    """Inputs of two dtypes get gradients of their own; recurrent layers refuse such inputs."""
    case = data.draw(operations(name))
    dtypes = [data.draw(st.sampled_from([np.float32, np.float64])) for _ in case.inputs]
    if issubclass(OPERATIONS[name].operation, Recurrent):
        dtypes = dtypes[:1] * len(dtypes)
    arrays = [array.astype(dtype) for array, dtype in zip(case.inputs, dtypes, strict=True)]
    leaves = [ag.tensor(array, requires_grad=True) for array in arrays]
    drawn = [data.draw(layouts) for _ in leaves]
    operands = [
        leaf if layout == "contiguous" else lay_out(leaf, layout)
        for leaf, layout in zip(leaves, drawn, strict=True)
    ]
    out = case(*operands)
    assert not out.data.flags.writeable  # its gradient may be computed from it
    cotangent = np.ones(out.shape, out.dtype)
    arrays = [out.data, cotangent, *[tensor.data for tensor in (*leaves, *operands)]]
    before = [array.tobytes() for array in arrays]
    out.backward(cotangent, retain_graph=True)
    weighted = (out * cotangent).sum()
    updates = {tensor: np.full(tensor.shape, 1e-3, tensor.dtype) for tensor in leaves}
    updated = [update.tobytes() for update in updates.values()]
    weighted.average_backward(updates)
    assert [array.tobytes() for array in arrays] == before
    assert [update.tobytes() for update in updates.values()] == updated

    grads = [g for tensor in leaves for g in (tensor.grad, tensor.average_grad)]
    for tensor in leaves:
        for grad in (tensor.grad, tensor.average_grad):
            assert type(grad) is np.ndarray
            assert (grad.shape, grad.dtype) == (tensor.shape, tensor.dtype)
    for i, grad in enumerate(grads):
        others = [*grads[:i], *arrays, *updates.values()]
        assert not any(np.shares_memory(grad, other) for other in others)
        assert grad.flags.writeable


def changeable(value: Any) -> list[Any]:
    """Return forms of an argument that can be changed in place; a function may reject some."""
    if isinstance(value, np.ndarray):
        return [value.copy()]
    if isinstance(value, slice):
        return [slice(*[part if part is None else np.array(part) for part in parts_of(value)])]
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return [np.array(value)]
    if isinstance(value, list | tuple):
        parts = [changeable(part)[0] for part in value]
        return [parts, tuple(parts), list(value)]
    return [value]


def parts_of(value: slice) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


def change(value: Any) -> None:
    """Change an argument and all its parts in place."""
    if isinstance(value, np.ndarray):
        value[...] = ~value if value.dtype == bool else value + 1
    elif isinstance(value, list | tuple | slice):
        for part in parts_of(value) if isinstance(value, slice) else value:
            change(part)
        if isinstance(value, list):
            value.clear()


@every_operation
@few
@given(data=st.data(), captured=st.booleans())
def test_changing_any_argument_after_the_call_changes_nothing(
    name: str, data: Any, captured: bool
) -> None:
    case = data.draw(operations(name))
    forms = {key: data.draw(st.sampled_from(changeable(v))) for key, v in case.options.items()}
    is_array = [i > 0 and data.draw(st.booleans()) for i, _ in enumerate(case.inputs)]

    def outcome(changed: bool) -> list[bytes]:
        inputs = [
            array.copy() if plain else ag.tensor(array, requires_grad=True)
            for array, plain in zip(case.inputs, is_array)
        ]
        options, leaves = deepcopy(forms), [x for x in inputs if isinstance(x, ag.Tensor)]

        def function(*arguments: Any) -> ag.Tensor:
            out: ag.Tensor = case.function(*arguments, **options)
            return out

        call = ag.capture(function) if captured else function
        out = call(*inputs)
        if changed:
            change([options[key] for key in options])
        if captured:
            out = call(*inputs)  # a replay
        if changed:
            change([x for x in inputs if isinstance(x, np.ndarray)])
        loss = (out * np.cos(np.arange(out.size)).reshape(out.shape)).sum()
        updates = {leaf: np.full(leaf.shape, 1e-3) for leaf in leaves}
        arrays = [out.data, loss.average_backward(updates, retain_graph=True)]
        loss.backward()
        arrays += [grad for leaf in leaves for grad in (leaf.grad, leaf.average_grad)]
        return [array.tobytes() for array in arrays]

    try:
        unchanged = outcome(False)
    except (TypeError, ValueError, IndexError, CaptureError):
        return  # the form is refused
    assert outcome(True) == unchanged


@every_operation
@few
@given(data=st.data())
def test_only_what_is_needed_gets_a_gradient(name: str, data: Any) -> None:
    case = data.draw(operations(name))
    wanted = data.draw(st.sets(st.integers(0, len(case.inputs) - 1), min_size=1))
    cotangent = np.ones_like(evaluate(case, case.inputs))
    leaves = [ag.tensor(array, requires_grad=i in wanted) for i, array in enumerate(case.inputs)]
    case(*leaves).backward(cotangent)
    for i, expected in enumerate(pull_back(case, case.inputs, cotangent)):
        if i in wanted:
            np.testing.assert_array_equal(leaves[i].grad, expected)
        else:
            assert leaves[i].grad is None


@every_operation
@few
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
def test_forward_agrees_with_numpy(name: str, data: Any, dtype: Any) -> None:
    case = data.draw(operations(name))
    if case.reference is None:
        return
    inputs = [array.astype(dtype) for array in case.inputs]
    expected = np.asarray(case.reference(*inputs, **case.options))
    result = evaluate(case, inputs, [data.draw(layouts) for _ in inputs])
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    # The sums have another order, or the function another formula: a few ulps of the largest
    # element or, where terms cancel, of the result for their absolute values.
    terms = np.asarray(case.reference(*map(np.abs, inputs), **case.options))
    scale = np.abs(expected).max(initial=0) + np.abs(terms).max(initial=0)
    np.testing.assert_allclose(result, expected, rtol=0, atol=8 * np.finfo(dtype).eps * scale)


ALIKE = np.add, np.subtract, np.multiply, np.divide, np.power, np.maximum, np.minimum
TOGETHER = {
    **{ufunc.__name__: ufunc for ufunc in ALIKE},
    "logaddexp": np.logaddexp,
    "where": lambda x, y: np.where([True, False, True], x, y),
    "concatenate": lambda x, y: np.concatenate([x, y]),
    "matmul": np.matmul,
    "outer": np.outer,
    "einsum": lambda x, y: np.einsum("i,j,j->i", x, y, y),
}
NARROW = {
    "bool": [True, True, True],
    "int8": [120, 100, 1],
    "uint8": [200, 250, 2],
    "int16": [300, 200, 2],
    "float16": [300, 1e-2, 2],
}
"""Numbers whose sums or products leave their dtype, or lose digits in it."""


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", TOGETHER)
def test_a_constant_of_a_narrow_dtype_counts_as_the_number_it_is(
    name: str, dtype: str, first: bool
) -> None:
    start, end = np.array([2.0, 1.5, 0.75]), np.array([3.0, 1.75, 1.0])
    constant = np.array(NARROW[dtype], dtype)
    if name == "power":  # within the range of float64
        constant = np.minimum(constant, constant.dtype.type(1 if dtype == "bool" else 100))

    def derivatives(constant: Array) -> list[Array]:
        leaf = ag.tensor(start, requires_grad=True)
        out = TOGETHER[name](*((constant, leaf) if first else (leaf, constant)))
        loss = (out * np.linspace(1.0, 2.0, out.size).reshape(out.shape)).sum()
        (slope,) = ag.grad(loss, leaf, create_graph=True)
        second = ag.grad(slope.sum(), leaf, retain_graph=True)[0] if slope.requires_grad else slope
        reached = loss.average_backward({leaf: end - start})
        return [loss.data, slope.data, second.data, reached, leaf.average_grad]

    for found, expected in zip(derivatives(constant), derivatives(constant.astype(float))):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
