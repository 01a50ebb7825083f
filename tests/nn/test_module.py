"""Modules and lists of modules: ownership, listings, states and refusals."""

import copy
import gc
import math
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad import nn, optim
from agrad.serialization import load, save
from agrad.train import capture_step

# -- random models ---------------------------------------------------------------------------------

Spec = list[dict[str, tuple[str, Any]]]
"""A module for each entry: its attributes by name. Children are earlier entries, and parameters
come from a small pool, so that both can be shared. The last module is the whole model."""

ATTRIBUTES = st.sampled_from("abcde")


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    spec: Spec = []
    for i in range(draw(st.integers(1, 6))):
        values = st.tuples(st.just("parameter"), st.integers(0, 3))
        values |= st.tuples(st.just("buffer"), st.booleans())
        if i:
            values |= st.tuples(st.just("child"), st.integers(0, i - 1))
        spec.append(draw(st.dictionaries(ATTRIBUTES, values, max_size=4)))
    return spec


def build(spec: Spec) -> nn.Module:
    shapes = [(), (3,), (2, 0), (4, 2)]
    parameters = [
        nn.Parameter(np.full(shape, i, dtype))
        for i, (shape, dtype) in enumerate(zip(shapes, [np.float32, np.float64] * 2))
    ]
    modules: list[nn.Module] = []
    for attributes in spec:
        module = nn.Module()
        for name, (kind, value) in attributes.items():
            if kind == "buffer":
                module.register_buffer(name, np.arange(3), persistent=value)
            else:
                setattr(module, name, parameters[value] if kind == "parameter" else modules[value])
        modules.append(module)
    return modules[-1]


def build_torch(torch: Any, spec: Spec) -> Any:
    parameters = [torch.nn.Parameter(torch.zeros(i)) for i in range(4)]
    modules: list[Any] = []
    for attributes in spec:
        module = torch.nn.Module()
        for name, (kind, value) in attributes.items():
            if kind == "buffer":
                module.register_buffer(name, torch.zeros(3), persistent=value)
            else:
                setattr(module, name, parameters[value] if kind == "parameter" else modules[value])
        modules.append(module)
    return modules[-1]


@given(spec=specs())
def test_finds_what_pytorch_finds_in_its_order(spec: Spec) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = build(spec), build_torch(torch, spec)
    for listing in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        names = [name for name, _ in getattr(ours, listing)()]
        assert names == [name for name, _ in getattr(theirs, listing)()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)


@given(spec=specs())
def test_each_listing_has_each_object_once(spec: Spec) -> None:
    model = build(spec)
    for listing in (model.parameters, model.buffers, model.modules, model.children):
        objects = list(listing())
        assert len(objects) == len({id(value) for value in objects})


@given(spec=specs())
def test_a_saved_state_loads(tmp_path_factory: pytest.TempPathFactory, spec: Spec) -> None:
    model, other = build(spec), build(spec)
    path = tmp_path_factory.getbasetemp() / "state.safetensors"
    rng = np.random.default_rng(0)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.writable()[...] = rng.integers(9, size=tensor.shape)
    save(path, model.state_dict())
    assert other.load_state_dict(load(path)) == ([], [])
    for (name, array), known in zip(other.state_dict().items(), model.state_dict().values()):
        assert array.dtype == known.dtype, name
        np.testing.assert_array_equal(array, known)


# -- what a module owns ----------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        self.first = nn.Linear(3, 4)
        self.scale = nn.Parameter([2.0])
        self.register_buffer("steps", np.array(0))

    def forward(self, x: Any) -> Any:
        return self.first(x) * self.scale


def test_parameter() -> None:
    parameter = nn.Parameter([1.0, 2.0])
    assert parameter.dtype == np.float32
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert type(parameter * 2) is ag.Tensor
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    assert nn.Parameter(ag.tensor([1.0]), dtype=np.float64).dtype == np.float64
    with pytest.raises(TypeError, match="float32 and float64, not int64"):
        nn.Parameter([1, 2])


def test_calling_runs_forward() -> None:
    net = Net()
    x = np.ones((2, 3), np.float32)
    expected = (x @ net.first.weight.data.T + net.first.bias.data) * 2
    np.testing.assert_allclose(net(x).data, expected, rtol=1e-6)


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Module: the module defines no forward"):
        nn.Module()(1)


def test_init_may_assign_in_any_order() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter([1.0])
            super().__init__()

    assert [name for name, _ in Late().named_parameters()] == ["weight"]


def test_attributes_can_be_replaced_and_deleted() -> None:
    net = Net()
    net.first = nn.Linear(3, 2, bias=False)
    net.scale = nn.Parameter([3.0])
    assert list(net.state_dict()) == ["scale", "steps", "first.weight"]
    assert next(net.parameters()).item() == 3
    net.scale = None  # type: ignore[assignment]
    del net.first
    net.steps = net.steps + 1  # type: ignore[has-type]
    assert net.state_dict() == {"steps": 1}
    del net.steps
    assert net.state_dict() == {}
    net.register_buffer("steps", [1.0], persistent=False)
    assert [name for name, _ in net.named_buffers()] == ["steps"]
    assert net.state_dict() == {}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scale", ag.tensor([1.0]), "Net.scale: is a Parameter, and a Tensor cannot"),
        ("scale", np.ones(1), "Net.scale: is a Parameter, and a ndarray cannot"),
        ("first", math.sin, "Net.first: is a Module, and a builtin_function_or_method cannot"),
        ("steps", 1, "Net.steps: is a Tensor, and a int cannot"),
    ],
)
def test_nothing_vanishes_by_assignment(name: str, value: Any, message: str) -> None:
    net = Net()
    state = list(net.state_dict())
    with pytest.raises(TypeError, match=message):
        setattr(net, name, value)
    assert list(net.state_dict()) == state


def test_a_module_cannot_contain_itself() -> None:
    net = Net()
    with pytest.raises(ValueError, match=r"Net.again: a module cannot contain itself"):
        net.again = nn.Sequential(nn.Sequential(net))


@pytest.mark.parametrize("part", [nn.Parameter([1.0]), nn.Tanh()])
def test_a_name_with_a_dot_is_refused_since_it_could_hide_another(
    part: nn.Parameter | nn.Module,
) -> None:
    net = Net()
    message = f"Net: 'first.weight' cannot name a {type(part).__name__}, since a dot"
    with pytest.raises(ValueError, match=message):
        setattr(net, "first.weight", part)
    setattr(net, "a.number", 1)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("a.b", 1.0, ValueError, "'a.b' is not an identifier"),
        ("first", 1.0, ValueError, "Net already has an attribute 'first'"),
        ("forward", 1.0, ValueError, "Net already has an attribute 'forward'"),
        ("new", nn.Parameter([1.0]), TypeError, "'new' is a Parameter"),
    ],
)
def test_buffers_that_are_refused(name: str, value: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"register_buffer: {message}"):
        Net().register_buffer(name, value)


def test_a_module_dies_without_the_collector() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    net.to("float64")(np.ones((1, 2))).sum().backward()
    list(net.named_parameters())
    references = [weakref.ref(module) for module in net.modules()]
    gc.disable()
    try:
        del net
        assert not any(reference() for reference in references)
    finally:
        gc.enable()


def test_a_copy_is_independent() -> None:
    net = Net()
    out = net(np.ones((1, 3), np.float32))
    twin = copy.deepcopy(net)
    twin.first.weight.writable()[...] = 0
    assert net.first.weight.data.all()
    out.sum().backward()
    assert net.scale.grad is not None
    assert twin.scale.grad is None
    assert list(twin.state_dict()) == list(net.state_dict())


# -- modes, dtypes, gradients ----------------------------------------------------------------------


def test_train_and_eval_reach_every_module() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout()))
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert nn.Dropout().training
    assert all(module.training for module in net.train().modules())


def test_a_mode_that_is_no_bool_is_refused() -> None:
    net = nn.Sequential(nn.Dropout())
    with pytest.raises(TypeError, match="train: mode must be a bool, got str"):
        net.train("eval")  # type: ignore[arg-type]
    assert net.training
    assert net[0].training


def test_to_converts_in_place() -> None:
    net = Net()
    net.register_buffer("mean", [1.0])
    parameters = list(net.parameters())
    net(np.ones((1, 3), np.float32)).sum().backward()
    assert net.to(np.float64) is net
    assert all(one is other for one, other in zip(net.parameters(), parameters, strict=True))
    for parameter in parameters:
        assert parameter.requires_grad
        assert parameter.dtype == np.float64
        assert parameter.grad is not None
        assert parameter.grad.dtype == np.float64
    assert {name: buffer.dtype.kind for name, buffer in net.named_buffers()} == {
        "steps": "i",
        "mean": "f",
    }
    assert next(b for n, b in net.named_buffers() if n == "mean").dtype == np.float64
    assert net(np.ones((1, 3))).dtype == np.float64


def test_float_and_double_are_to_of_their_dtype() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert net.double() is net
    assert {array.dtype.name for array in net.state_dict().values()} == {"float64", "int64"}
    assert net.float() is net
    assert {array.dtype.name for array in net.state_dict().values()} == {"float32", "int64"}


def test_apply_calls_with_children_before_their_parent() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Tanh()))
    seen: list[nn.Module] = []
    assert net.apply(seen.append) is net
    assert seen == [net[0], net[1][0], net[1], net]


def test_to_a_device() -> None:
    net = Net()
    state = net.state_dict()
    assert net.to("cpu") is net
    assert {k: v.dtype for k, v in net.state_dict().items()} == {
        k: v.dtype for k, v in state.items()
    }
    with pytest.raises(ValueError, match=r"'gpu' is neither a dtype nor a device.*\"cpu\""):
        net.to("gpu")
    with pytest.raises(TypeError, match="float32 or float64, not int64"):
        net.to(np.int64)
    assert net.scale.dtype == np.float32


def test_zero_grad_forgets_both_gradients() -> None:
    net = Net()
    loss = net(np.ones((1, 3), np.float32)).sum()
    loss.backward(retain_graph=True)
    loss.average_backward({net.scale: [1.0]})
    net.zero_grad()
    assert all(p.grad is None and p.average_grad is None for p in net.parameters())


def test_requires_grad() -> None:
    net = Net()
    assert net.requires_grad_(False) is net
    assert not net(np.ones((1, 3), np.float32)).requires_grad
    assert net.requires_grad_()(np.ones((1, 3), np.float32)).requires_grad


# -- states ----------------------------------------------------------------------------------------


def test_a_state_is_a_copy() -> None:
    net = Net()
    state = net.state_dict()
    net.scale.writable()[...] = 7
    assert state["scale"] == 2
    state["scale"][...] = 9
    assert net.scale.item() == 7
    net.load_state_dict(state)
    state["scale"][...] = 11
    assert net.scale.item() == 9


def test_load_keeps_the_parameters_and_their_arrays() -> None:
    net, other = Net(), Net()
    array = net.scale.data
    other.scale.writable()[...] = 5
    net.load_state_dict(dict(other.named_parameters()) | dict(other.named_buffers()))
    assert net.scale.data is array
    assert array == 5


@pytest.mark.parametrize("strict", [True, False])
def test_a_state_that_does_not_fit_changes_nothing(strict: bool) -> None:
    net = Net()
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["first.bias"]
    state["first.gain"] = np.ones(4)
    state["first.weight"] = np.ones((4, 2), np.float32)
    state["scale"] = np.ones(1)
    with pytest.raises(ValueError, match="load_state_dict: the state does not fit Net") as caught:
        net.load_state_dict(state, strict)
    assert str(caught.value).split("\n")[1:] == [
        "  scale is float64[1] in the state, float32[1] in the module",
        "  first.weight is float32[4, 2] in the state, float32[4, 3] in the module",
        *(["  first.bias is missing", "  first.gain is unexpected"] if strict else []),
    ]
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_partial_state() -> None:
    net = Net()
    keys = net.load_state_dict({"scale": np.float32([4]), "shift": np.zeros(1)}, strict=False)
    assert keys.missing == ["steps", "first.weight", "first.bias"]
    assert keys.unexpected == ["shift"]
    assert net.scale.item() == 4


def test_a_state_must_be_a_dict() -> None:
    with pytest.raises(TypeError, match=r"load_state_dict: .* not list"):
        Net().load_state_dict([1.0])  # type: ignore[arg-type]


# -- containers ------------------------------------------------------------------------------------


def test_sequential_applies_in_order() -> None:
    double, root = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
    nn.init.constant_(double.weight, 2.0)
    nn.init.constant_(root.weight, 1.0)
    nn.init.constant_(root.bias, 1.0)
    assert nn.Sequential(double, root)([[3.0]]).item() == 7
    assert nn.Sequential(root, double)([[3.0]]).item() == 8
    assert nn.Sequential(double, double, double)([[3.0]]).item() == 24
    assert nn.Sequential()(3.0) == 3


@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleList])
def test_lists_of_modules(kind: Any) -> None:
    modules = [nn.Linear(1, 1), nn.Identity(), nn.LayerNorm(1)]
    listed = kind(*modules) if kind is nn.Sequential else kind(modules)
    assert len(listed) == 3
    assert list(listed) == modules
    assert listed[0] is modules[0]
    assert listed[-1] is modules[2]
    assert type(listed[1:]) is kind
    assert list(listed[1:]) == modules[1:]
    assert list(listed[::-1]) == modules[::-1]
    with pytest.raises(IndexError):
        listed[3]
    listed[1] = tanh = nn.Identity()
    assert list(listed) == [modules[0], tanh, modules[2]]
    assert [name for name, _ in listed.named_children()] == ["0", "1", "2"]
    assert [name for name, _ in listed.named_parameters()] == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]
    assert listed.append(modules[1]) is listed
    assert listed[3] is modules[1]


def test_append_to_a_slice_replaces_nothing() -> None:
    tail = nn.Sequential(nn.Identity(), nn.Linear(1, 1), nn.Linear(1, 1))[1:]
    tail.append(nn.Identity())
    assert [name for name, _ in tail.named_children()] == ["1", "2", "3"]


def test_named_modules_of_a_sequential() -> None:
    model = nn.Sequential(OrderedDict(inner=nn.Linear(2, 3), outer=nn.Linear(3, 1)))
    assert list(model.state_dict()) == ["inner.weight", "inner.bias", "outer.weight", "outer.bias"]
    assert model.inner is model[0]  # type: ignore[attr-defined]
    assert [name for name, _ in model.append(nn.Identity()).named_children()][2] == "2"


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"Sequential: {name!r} cannot name a module"):
        nn.Sequential({name: nn.Identity()})


def test_anything_but_a_module_is_refused() -> None:
    with pytest.raises(TypeError, match="Sequential: '1' is a builtin_function"):
        nn.Sequential(nn.Identity(), math.sin)  # type: ignore[arg-type]
    layers = nn.Sequential(nn.Identity())
    for part in (1.0, None):
        with pytest.raises(TypeError, match=r"Sequential: \[0\] must be a Module, got a"):
            layers[0] = part  # type: ignore[assignment]
    with pytest.raises(TypeError, match="slice"):
        layers[:1] = nn.Tanh()  # type: ignore[index]
    assert len(layers) == 1


def test_a_dict_of_modules() -> None:
    first, second, third = (nn.Linear(1, 1) for _ in range(3))
    named = nn.ModuleDict({"a": first})
    named["b"] = second
    assert (len(named), "a" in named, "c" in named) == (2, True, False)
    assert list(named) == list(named.keys()) == ["a", "b"]
    assert list(named.values()) == [first, second]
    assert list(named.items()) == [("a", first), ("b", second)]
    assert named["b"] is second
    named["a"] = third
    assert named["a"] is third
    assert [name for name, _ in named.named_parameters()] == [
        "a.weight",
        "a.bias",
        "b.weight",
        "b.bias",
    ]
    assert named.pop("a") is third
    assert list(named) == ["b"]
    for missing in (lambda: named["a"], lambda: named.pop("a"), lambda: named.__delitem__("a")):
        with pytest.raises(KeyError):
            missing()


@pytest.mark.parametrize("name", ["", "a.b", "forward", "items"])
def test_a_dict_of_modules_refuses_names_and_changes_nothing(name: str) -> None:
    named = nn.ModuleDict()
    with pytest.raises(ValueError, match=f"ModuleDict: {name!r} cannot name a module"):
        named[name] = nn.Identity()
    with pytest.raises(ValueError, match=f"ModuleDict: {name!r} cannot name a module"):
        named.update({"a": nn.Identity(), name: nn.Identity()})
    with pytest.raises(TypeError, match="ModuleDict: 'b' is a float, not a Module"):
        named.update({"a": nn.Identity(), "b": 1.0})  # type: ignore[dict-item]
    assert len(named) == 0


def test_a_list_of_parameters() -> None:
    first, second = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0])
    listed = nn.ParameterList([first])
    assert listed.append(second) is listed
    assert len(listed.extend([[4.0], np.zeros((2, 2))])) == 4
    assert list(listed)[:2] == [first, second]
    assert listed[-1].dtype == np.float64
    assert [name for name, _ in listed.named_parameters()] == ["0", "1", "2", "3"]
    assert list(listed[1:3]) == [second, listed[2]]
    listed[0] = other = nn.Parameter([5.0])
    assert next(listed.parameters()) is other
    assert "(1): Parameter of shape (1,), float32" in repr(listed)
    with pytest.raises(IndexError):
        listed[4]
    with pytest.raises(TypeError, match="int64"):
        listed.extend([[6.0], np.zeros(2, int)])
    assert len(listed) == 4


class Tied(nn.Module):
    """A language model whose output layer has the weight of its embedding."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(7, 4)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embedding.weight

    def forward(self, ids: Any) -> ag.Tensor:
        out: ag.Tensor = self.decoder(self.embedding(ids))
        return out


IDS = np.array([0, 3, 3, 6, 1, 5])


def test_a_tied_weight_is_one_parameter_under_two_names() -> None:
    model, other = Tied(), Tied()
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight", "decoder.bias"]
    state = model.state_dict()
    assert list(state) == ["embedding.weight", "decoder.weight", "decoder.bias"]
    other.load_state_dict(state)
    assert other.decoder.weight is other.embedding.weight
    np.testing.assert_array_equal(other(IDS).data, model(IDS).data)
    twin = copy.deepcopy(model)
    assert twin.decoder.weight is twin.embedding.weight is not model.embedding.weight


def test_a_tied_weight_gets_the_sum_of_both_gradients() -> None:
    torch = pytest.importorskip("torch")
    model = Tied().to("float64")
    weight = torch.tensor(model.embedding.weight.numpy(), requires_grad=True)
    bias = torch.tensor(model.decoder.bias.numpy())
    out = torch.nn.functional.linear(
        torch.nn.functional.embedding(torch.tensor(IDS), weight), weight, bias
    )
    torch.nn.functional.cross_entropy(out, torch.tensor(IDS)).backward()
    for run in (model, ag.capture(model), ag.capture(model)):
        model.zero_grad()
        nn.functional.cross_entropy(run(IDS), IDS).backward()
        np.testing.assert_allclose(model.embedding.weight.grad, weight.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("captured", [False, True])
def test_the_average_of_a_tied_weight_is_complete(captured: bool) -> None:
    model = Tied().to("float64")
    run = ag.capture(model) if captured else model
    rng = np.random.default_rng(0)
    for _ in range(3):
        loss = nn.functional.cross_entropy(run(IDS), IDS)
        updates = {p: rng.normal(size=p.shape) for p in model.parameters()}
        model.zero_grad()
        end = loss.average_backward(updates)
        change = sum((p.average_grad * updates[p]).sum() for p in model.parameters())
        assert float(end) - loss.item() == pytest.approx(change, rel=1e-10)


@pytest.mark.parametrize("measured", [False, True])
def test_a_tied_weight_trains_and_resumes_bit_for_bit(tmp_path: Path, measured: bool) -> None:
    def begin() -> tuple[Tied, Any, Any]:
        ag.seed(1)
        model = Tied()
        rule = optim.Adam(model.parameters(), lr=0.05)
        optimizer = optim.AverageGradient(rule, probe_size=4) if measured else rule
        return model, optimizer, capture_step(model, optimizer)

    model, _, step = begin()
    losses = [step(IDS, IDS) for _ in range(10)]
    assert losses[-1] < losses[0]
    assert model.decoder.weight is model.embedding.weight

    again, other, step = begin()
    assert [step(IDS, IDS) for _ in range(5)] == losses[:5]
    save(tmp_path / "run", {"model": again.state_dict(), "optimizer": other.state_dict()})
    draws = ag.random.get_state()
    again, other, step = begin()
    state = load(tmp_path / "run")
    again.load_state_dict(state["model"])
    other.load_state_dict(state["optimizer"])
    ag.random.set_state(draws)
    assert [step(IDS, IDS) for _ in range(5)] == losses[5:]


def test_what_is_refused_changes_nothing() -> None:
    named = nn.ModuleDict()
    with pytest.raises(ValueError, match="a module cannot contain itself"):
        named.update({"a": nn.Tanh(), "b": named})
    assert list(named) == []
    module = Net()
    with pytest.raises(TypeError):
        module.register_buffer("late", "text")
    module.late = ag.tensor([1.0])
    assert "late" not in module.state_dict()


def test_a_state_is_loaded_as_a_whole_or_not_at_all() -> None:
    module = nn.Linear(2, 1)
    module.register_buffer("doubled", 2 * module.weight)
    before = module.weight.tolist()
    state = {name: array + 1 for name, array in module.state_dict().items()}
    with pytest.raises(ValueError, match="doubled is computed in the module"):
        module.load_state_dict(state)
    assert module.weight.tolist() == before
    masked = np.ma.array(state["weight"], mask=[[True, False]])
    with pytest.raises(TypeError, match="load_state_dict: weight has masked elements"):
        nn.Linear(2, 1, bias=False).load_state_dict({"weight": masked})


def test_none_is_no_dtype_of_a_module() -> None:
    with pytest.raises(ValueError, match="to: None is neither a dtype nor a device"):
        nn.Linear(2, 2).to(None)


@pytest.mark.parametrize("adopted", [False, True])
def test_a_state_of_the_modules_own_values_can_change_their_places(adopted: bool) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(np.array([1.0, 2.0]))
            self.b = nn.Parameter(np.array([3.0, 4.0]))

    pair = Pair()
    if adopted:  # into one array
        optim.SGD(pair.parameters(), lr=0.0).step((pair.a + pair.b).sum())
        assert pair.a.data.base is not None
    pair.load_state_dict({"a": pair.b, "b": pair.a})
    assert (pair.a.tolist(), pair.b.tolist()) == ([3.0, 4.0], [1.0, 2.0])
    pair.load_state_dict({"a": pair.b.data[::-1], "b": pair.a.data})
    assert (pair.a.tolist(), pair.b.tolist()) == ([2.0, 1.0], [3.0, 4.0])
