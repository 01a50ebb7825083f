"""The strategies of agrad.testing: what they draw, how it shrinks, and its reproduction."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, reproduce_failure, seed, settings
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad.backend import Array
from agrad.testing import check_gradients
from agrad.testing import strategies as ags

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])

LAYOUTS: dict[str, Callable[[Array], bool]] = {
    "contiguous": lambda x: x.flags.c_contiguous and not x.flags.f_contiguous,
    "Fortran-ordered": lambda x: x.flags.f_contiguous and not x.flags.c_contiguous,
    "reversed": lambda x: x.strides[0] < 0,
    "strided": lambda x: x.strides[1] == 2 * x.itemsize,
    "broadcast": lambda x: 0 in x.strides,
}

MAGNITUDES: dict[str, Callable[[Any, Any], Any]] = {
    "zero": lambda x, info: (x == 0) & ~np.signbit(x),
    "negative zero": lambda x, info: (x == 0) & np.signbit(x),
    "ordinary": lambda x, info: (abs(x) > 0.001) & (abs(x) < 1000),
    "subnormal": lambda x, info: (x != 0) & (abs(x) < info.tiny),
    "huge": lambda x, info: np.isfinite(x) & (abs(x) > np.sqrt(info.max)),
    "NaN": lambda x, info: np.isnan(x),
    "infinite": lambda x, info: x == np.inf,
    "minus infinite": lambda x, info: x == -np.inf,
}


# -- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=20)
@given(data=st.data())
def test_arrays_have_the_layout_asked_for(layout: str, data: Any) -> None:
    x = data.draw(ags.arrays((2, 3), layouts=[layout]))
    assert x.shape == (2, 3)
    assert LAYOUTS[layout](x)


@DTYPES
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_arrays_reach_every_magnitude(magnitude: str, dtype: Any) -> None:
    everything = ags.arrays((3,), dtype, nan=True, infinity=True)
    x = find(
        everything,
        lambda x: bool(MAGNITUDES[magnitude](x, np.finfo(dtype)).any()),
        settings=settings(phases=[Phase.generate]),
    )
    assert x.dtype == dtype


@DTYPES
@settings(max_examples=30)
@given(data=st.data())
def test_arrays_keep_to_the_magnitudes_asked_for(dtype: Any, data: Any) -> None:
    some = data.draw(st.sets(st.sampled_from(ags.MAGNITUDES), min_size=1))
    x = data.draw(ags.arrays(dtype=dtype, magnitudes=some))
    kinds = [kind for kind in MAGNITUDES if kind.removeprefix("negative ") in some]
    assert np.all([MAGNITUDES[kind](x, np.finfo(dtype)) for kind in kinds], axis=0).any() or (
        np.any([MAGNITUDES[kind](x, np.finfo(dtype)) for kind in kinds], axis=0).all()
    )


@settings(max_examples=30)
@given(x=ags.arrays())
def test_no_nan_or_infinity_without_request(x: Array) -> None:
    assert np.isfinite(x).all()


def test_arrays_shrink_to_few_plain_elements() -> None:
    x = find(ags.arrays(), lambda x: x.size > 0 and bool((abs(x) > 3).any()))
    assert (x.ndim, x.size, abs(x).item()) == (0, 1, 4.0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: ags.elements(magnitudes=["medium"]),
        lambda: ags.elements(magnitudes=[]),
        lambda: ags.arrays(layouts=["diagonal"]),
        lambda: ags.operations("tangent"),
        lambda: ags.updates([]),
        lambda: ags.updates([ag.tensor(1.0)], smallest=1.0, largest=0.1),
    ],
)
def test_arguments_out_of_range(draw: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|name a|none of|needs"):
        draw()


UFUNCS = [ag.add, ag.subtract, ag.multiply, ag.maximum, ag.minimum]


@pytest.mark.parametrize("function", UFUNCS, ids=lambda f: f.__name__)
@settings(max_examples=20)
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
def test_functions_agree_with_numpy_at_all_magnitudes(function: Any, data: Any, dtype: Any) -> None:
    """They agree bit for bit, including NaN and the sign of zeros, in any layout."""
    x, y = (
        data.draw(ags.arrays(shape, dtype, nan=True, infinity=True))
        for shape in data.draw(ags.broadcastable(2))
    )
    with np.errstate(all="ignore"):
        expected = getattr(np, function.__name__)(x, y)
        found = function(ag.tensor(x), ag.tensor(y)).data
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@settings(max_examples=30)
@given(x=ags.arrays(dtype=np.float64, magnitudes=["zero", "subnormal", "ordinary", "huge"]))
def test_activations_stay_finite_at_all_magnitudes(x: Array) -> None:
    leaf = ag.tensor(x, requires_grad=True)
    for function in (F.relu, F.tanh, F.sigmoid, F.softplus, F.silu, F.gelu, F.elu, F.softsign):
        leaf.zero_grad()
        out = function(leaf)
        out.backward(np.ones(out.shape))
        assert np.isfinite(out.data).all()
        assert np.isfinite(leaf.grad).all()


# -- operations and programs ---------------------------------------------------------------------


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(case=ags.operations())
def test_a_case_names_its_function_and_arguments(case: ags.Case) -> None:
    text = repr(case)
    assert case.name
    assert text.startswith(f"{case.name}(x0")
    assert "lambda" not in text
    assert "object at 0x" not in text
    for i in range(len(case.inputs)):
        assert f"\nx{i} = array(" in text
    for option in case.options:
        assert f"{option}=" in text.partition(" at\n")[0]


def test_a_users_own_operation_makes_cases() -> None:
    cases = ags.elementwise(lambda x, y: ag.tanh(x) * y, None, ags.REAL, ags.POSITIVE)
    case = find(cases, lambda case: case.inputs[0].size > 1)
    assert repr(case).startswith("f(x0, x1) at\nx0 = array(")
    assert (case.inputs[1] >= 0.3).all()


@settings(max_examples=30)
@given(program=ags.programs(min_steps=4))
def test_a_program_s_text_runs(program: ags.Program) -> None:
    """A program's text, run as Python, computes the same as the program."""
    functions: dict[str, Any] = {i.name: i.function for i in ags.INSTRUCTIONS}
    values: dict[str, Any] = {}
    *lines, last = repr(program).splitlines()
    for line in lines:
        name, _, expression = line.partition(" = ")
        value = eval(expression, functions, values)
        values[name] = ag.tensor(np.array(value)) if isinstance(value, list) else value
    functions["mean"] = lambda x: x.mean()
    result = eval(last.removeprefix("return "), functions, values)
    assert result.item() == program(*program.leaves()).item()


def test_programs_shrink_to_what_matters() -> None:
    def fails(program: ags.Program) -> bool:
        return any(i.name == "softmax" and operands == (0,) for i, operands in program.steps)

    text = repr(find(ags.programs(min_steps=1), fails))
    assert re.fullmatch(r"v0 = \[\[.*\]\]\nv1 = softmax\(v0\)\nreturn 1 \* mean\(v1\)", text)


def test_programs_share_values() -> None:
    def uses(program: ags.Program) -> list[int]:
        operands = [i for _, operands in program.steps for i in operands]
        return [operands.count(i) for i in range(len(program.starts) + len(program.steps))]

    assert max(uses(find(ags.programs(), lambda p: max(uses(p)) >= 4))) >= 4
    find(ags.programs(), lambda p: uses(p).count(0) >= 2)  # more than one end


@settings(max_examples=30)
@given(program=ags.programs(smooth=True))
def test_smooth_programs_have_no_kinks(program: ags.Program) -> None:
    assert all(instruction.smooth for instruction, _ in program.steps)


def test_programs_take_a_users_own_operation() -> None:
    cube = ags.Instruction("cube", lambda x: x * x * x, lambda x: x**3)
    own = ags.programs(instructions=[*ags.INSTRUCTIONS, cube])
    program = find(own, lambda p: any(i is cube for i, _ in p.steps))
    assert "= cube(v0)" in repr(program)
    check_gradients(program, *program.starts)


# -- models and updates --------------------------------------------------------------------------


@DTYPES
@settings(max_examples=30)
@given(data=st.data())
def test_models_take_their_input(dtype: Any, data: Any) -> None:
    state = ag.random.get_state()
    module, x = data.draw(ags.models(dtype=dtype))
    assert ag.random.get_state() == state
    assert {p.dtype for p in module.parameters()} == {np.dtype(dtype)}
    assert x.dtype == dtype or x.dtype.kind == "i"
    out = module(x)
    assert out.dtype == dtype
    assert np.isfinite(out.data).all()


@pytest.mark.parametrize("layer", ["Conv2d", "BatchNorm2d", "MaxPool2d", "Embedding", "LayerNorm"])
def test_models_are_of_every_family(layer: str) -> None:
    found = find(ags.models(), lambda model: layer in repr(model.module))
    assert layer in repr(found)


@given(data=st.data())
def test_updates_fit_their_parameters(data: Any) -> None:
    params = [ag.tensor(np.ones(3, dtype), requires_grad=True) for dtype in ("f4", "f8")]
    update = data.draw(ags.updates(params, smallest=1e-3, largest=2.0))
    assert params[0] in update
    for param, delta in update.items():
        assert (delta.shape, delta.dtype) == (param.shape, param.dtype)
        assert abs(delta).max() <= 2.0


# -- reproduction --------------------------------------------------------------------------------

STRATEGIES = {
    "arrays": ags.arrays(),
    "operations": ags.operations(),
    "programs": ags.programs(),
    "models": ags.models(),
    "updates": ags.updates([ag.tensor([1.0, 2.0], requires_grad=True)]),
}
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def draws(strategy: Any, number: int) -> list[str]:
    """Return the reprs of what a seed draws."""
    seen = []

    @seed(number)
    @settings(max_examples=10, database=None, derandomize=False)
    @given(drawn=strategy)
    def run(drawn: Any) -> None:
        seen.append(repr(drawn))

    run()
    return seen


@every_strategy
def test_a_seed_draws_the_same_again(strategy: Any) -> None:
    first = draws(strategy, 1)
    assert first == draws(strategy, 1)
    assert first != draws(strategy, 2)


@every_strategy
def test_the_printed_blob_reproduces_a_failure(strategy: Any) -> None:
    failures = []

    def fail(drawn: Any) -> None:
        assume(len(repr(drawn)) % 7 == 3)
        failures.append(repr(drawn))
        raise KeyError("failed")

    options = settings(
        max_examples=200,
        database=None,
        print_blob=True,
        derandomize=False,
        phases=[Phase.generate],  # unshrunk failures are longer to reproduce
    )
    with pytest.raises(KeyError) as caught:
        options(given(drawn=strategy)(fail))()
    printed = failures[-1]
    (arguments,) = re.findall(r"@reproduce_failure\((.*)\)", "\n".join(caught.value.__notes__))
    failures.clear()
    with pytest.raises(KeyError):
        reproduce_failure(*eval(arguments))(options(given(drawn=strategy)(fail)))()
    assert failures == [printed]
