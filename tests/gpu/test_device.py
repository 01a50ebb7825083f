"""Tensors on a device, and errors without one, on a stand-in for CuPy."""

import inspect
import json
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cupy_signatures
import fake_cupy
import numpy as np
import pytest
from devices import drawn, results
from fake_memory import root_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import OPTIMIZERS, network

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.backend import Array, alias, move
from agrad.core.flat import Flat
from agrad.core.tensor import apply
from agrad.data import Batches, digits
from agrad.errors import DeviceError, DeviceLostError, DeviceMemoryError
from agrad.gpu import cuda
from agrad.gpu.deferred import deferring
from agrad.ops import sums
from agrad.ops.operation import Operation
from agrad.testing.strategies import OPERATIONS
from agrad.train import evaluate, train, train_step

try:
    import cupy as real_cupy
except ImportError:
    real_cupy = None


@pytest.fixture(scope="module", autouse=True)
def cupy() -> Iterator[Any]:
    with fake_cupy.installed() as module:
        yield module


def on_gpu(values: Any, **options: Any) -> ag.Tensor:
    tensor = ag.tensor(values).to("cuda")
    tensor.requires_grad = options.get("requires_grad", False)
    return tensor


# -- every operation -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=10)
@given(data=st.data())
def test_an_operation_stays_on_its_device(name: str, data: Any) -> None:
    """Everything is computed on the device's arrays, and to the same bits."""
    case = data.draw(drawn(name))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sums, "_SHORT", 0)  # the CPU sums short rows in another order
        expected = results(case, "cpu")
    for result, known in zip(results(case, "cuda"), expected, strict=True):
        assert type(result) is fake_cupy.ndarray
        assert (result.shape, result.dtype) == (known.shape, known.dtype)
        np.testing.assert_array_equal(result.get(), known)


@pytest.mark.parametrize("function", [ag.linalg.eigh, ag.linalg.svd])
def test_decompositions_stay_on_their_device(function: Any) -> None:
    """They have no entry among the cases of operations."""
    values = np.random.default_rng(0).normal(size=(2, 3, 3))
    found = []
    for device in "cpu", "cuda":
        x = ag.tensor(values).to(device)
        x.requires_grad = True
        parts = function(x)
        (parts[0] * parts[0]).sum().backward()
        found.append([move(part, "cpu") for part in (*[part.data for part in parts], x.grad)])
    for part, known in zip(found[1], found[0], strict=True):
        np.testing.assert_array_equal(part, known)


def test_a_view_refers_to_the_array_that_owns_its_memory() -> None:
    """CuPy's views do the same, so that buffers without references can be lent again."""
    array = ag.tensor(np.arange(6.0)).to("cuda").data
    assert array.base is None
    assert array[1:].base is array[1:].reshape(1, 5)[0].base is array


def arrays_in_an_alias() -> dict[str, Callable[[], Any]]:
    """Return a function for each library that makes an array."""
    made: dict[str, Callable[[], Any]] = {
        "NumPy": lambda: np.arange(16, dtype=np.float32),
        "the stand-in": lambda: on_gpu(np.arange(16, dtype=np.float32)).data,
    }
    if real_cupy is not None:  # an address suffices, as nothing is read

        def unread() -> Any:
            memory = real_cupy.cuda.UnownedMemory(0x1000, 64, None, 0)
            pointer = real_cupy.cuda.MemoryPointer(memory, 0)
            return real_cupy.ndarray((16,), real_cupy.float32, memptr=pointer)

        made["CuPy"] = unread
    return made


@pytest.mark.parametrize("library", arrays_in_an_alias())
def test_an_alias_lives_exactly_as_long_as_a_view_of_it(library: str) -> None:
    array = arrays_in_an_alias()[library]()
    fresh = alias(array)
    assert (fresh.shape, fresh.dtype) == (array.shape, array.dtype)
    reference = weakref.ref(fresh)
    part = fresh[2:10].reshape(2, 4)[1:].T
    assert part.base is fresh
    del fresh
    assert reference() is not None
    del part
    assert reference() is None
    assert array.shape == (16,)


def test_buffers_on_the_device_are_lent_again_when_no_part_is_referenced() -> None:
    flat = Flat([on_gpu(np.ones((3, 2), np.float32)), on_gpu(np.ones(4, np.float32))])
    kept, roots = [], []
    for _ in range(3):
        buffer = flat.buffer()
        buffer.array[...] = len(kept)
        kept.append(buffer.views[0][1:])
        roots.append(id(root_of(buffer.array.host)))
    del buffer
    assert len(set(roots)) == 3
    assert [float(part.sum()) for part in kept] == [0.0, 4.0, 8.0]
    kept[1] = None
    assert id(root_of(flat.buffer().array.host)) == roots[1]


@pytest.mark.skipif(real_cupy is None, reason="CuPy is not installed")
@pytest.mark.parametrize("name", cupy_signatures.SIGNATURES)
def test_the_stand_in_takes_the_arguments_of_cupys_functions(name: str) -> None:
    function = real_cupy
    for part in name.split("."):
        function = getattr(function, part)
    own = [p.replace(annotation=p.empty) for p in parameters(inspect.signature(function))]
    assert own == parameters(cupy_signatures.signature(cupy_signatures.SIGNATURES[name]))


@pytest.mark.skipif(real_cupy is None, reason="CuPy is not installed")
@pytest.mark.parametrize("name", cupy_signatures.METHODS)
def test_the_stand_in_takes_the_arguments_of_cupys_methods(name: str) -> None:
    method = getattr(real_cupy.ndarray, name)
    if name == "view":  # in Python
        own = str(inspect.signature(method)).strip("()").removeprefix("self, ")
    else:  # in Cython, which writes it into the docstring
        own = re.search(r"\(self(?:, )?(.*?)\)", method.__doc__.splitlines()[0])[1]
    assert own == cupy_signatures.METHODS[name]


def parameters(signature: inspect.Signature) -> list[inspect.Parameter]:
    return list(signature.parameters.values())


# -- tensors ---------------------------------------------------------------------------------------


def test_to_a_device_and_back() -> None:
    x = ag.tensor([1.0, 2.0])
    assert x.to("cpu") is x
    y = x.to("cuda")
    assert (x.device, y.device, y.to("cuda:1").device) == ("cpu", "cuda:0", "cuda:1")
    assert y.to("cuda") is y.to("cuda:0") is y
    assert type(y.data) is fake_cupy.ndarray
    assert y.cpu().tolist() == y.tolist() == [1.0, 2.0]
    assert repr(y) == "tensor([1., 2.], device='cuda:0')"
    assert y.sum().item() == 3.0
    assert ag.tensor(y).device == ag.tensor(y.data).device == "cuda:0"
    assert ag.tensor(np.arange(3)).to("cuda").dtype == np.int64


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CUDA", "", "cpu:0"])
def test_to_no_device(device: str) -> None:
    with pytest.raises(DeviceError, match=r'must be "cpu", "cuda", or "cuda:0"'):
        ag.tensor(1.0).to(device)


def test_to_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="numbered from 0 to 1"):
        ag.tensor(1.0).to("cuda:2")


@pytest.mark.parametrize("convert", [ag.Tensor.numpy, np.asarray, np.array])
def test_no_implicit_conversion_to_numpy(convert: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"on cuda:0; use \.cpu\(\)\.numpy\(\)"):
        convert(on_gpu([1.0]))


def test_gradients_flow_between_devices() -> None:
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    loss = (x.to("cuda") ** 2).sum()
    loss.backward(retain_graph=True)
    assert loss.device == "cuda:0"
    assert type(x.grad) is np.ndarray
    assert x.grad.tolist() == [2.0, 4.0]
    end = loss.average_backward({x: [1.0, 0.0]})
    assert float(end) == 8.0
    assert x.average_grad.tolist() == [3.0, 4.0]


def test_arrays_and_tensors_of_the_device_serve_alike() -> None:
    x = on_gpu([1.0, 2.0], requires_grad=True)
    chosen = x > 1.5
    assert ag.where(chosen, x.data, x.data * 0).tolist() == [0.0, 2.0]
    assert x[chosen].tolist() == x[x.data > 1.5].tolist() == [2.0]
    for grad in (on_gpu([1.0, 3.0]), on_gpu([1.0, 3.0]).data):
        x.zero_grad()
        (x * x.data).backward(grad)
        assert x.grad.tolist() == [1.0, 6.0]


def test_numbers_and_sequences_go_where_the_tensors_are() -> None:
    x = on_gpu([1.0, 2.0])
    assert (x + 1).tolist() == (1 + x).tolist() == [2.0, 3.0]
    assert ag.add(x, [1.0, 1.0]).tolist() == [2.0, 3.0]
    assert ag.where([True, False], x, 0).tolist() == [1.0, 0.0]
    assert x.clip([1.5, 0.0], 1.75).tolist() == [1.5, 1.75]
    assert F.cross_entropy(on_gpu([[0.0, 0.0]]), [1]).device == "cuda:0"
    x.data = [3.0, 4.0]
    x[0] = 5
    assert (x.device, x.tolist()) == ("cuda:0", [5.0, 4.0])


HOST = np.ones((2, 2), np.float32)
IDS = np.zeros(2, np.int64)
STATISTICS = ag.tensor([0.0, 0.0]), ag.tensor([1.0, 1.0])
bce = F.binary_cross_entropy_with_logits


@pytest.mark.parametrize(
    ("words", "use"),
    [
        ("Multiply: x is on cuda:0, y is on cpu", lambda x: x * HOST),
        ("Add: x is on cpu, y is on cuda:0", lambda x: ag.tensor(HOST) + x),
        ("Affine: x is on cuda:0, weight is on cpu, bias is", lambda x: F.linear(x, HOST, IDS)),
        (r"Stack: arrays\[0\] is on cuda:0, arrays\[1\]", lambda x: np.stack([x, HOST])),
        ("where: condition is on cpu", lambda x: ag.where(HOST > 0, x, 0)),
        ("clip: min is on cpu", lambda x: x.clip(HOST, None)),
        ("cross_entropy: target is on cpu", lambda x: F.cross_entropy(x, IDS)),
        ("cross_entropy: weight is on cpu", lambda x: F.cross_entropy(x, [0, 1], HOST[0])),
        ("nll_loss: target is on cpu", lambda x: F.nll_loss(x, IDS)),
        ("with_logits: pos_weight", lambda x: bce(x, [[0, 1]] * 2, pos_weight=HOST)),
        ("embedding: input is on cpu", lambda x: F.embedding(IDS, x)),
        ("global_avg_pool1d: mask is on cpu", lambda x: F.global_avg_pool1d(x, HOST[0] > 0)),
        (
            "batch_norm: running_mean is on cpu",
            lambda x: F.batch_norm(x, *STATISTICS, training=True),
        ),
        ("backward: grad is on cpu", lambda x: x.backward(HOST)),
        ("average_backward: update 0 is on cpu", lambda x: x.sum().average_backward({x: HOST})),
        ("average_gradient: update 0 is", lambda x: ag.average_gradient(x.sum, [x], {x: HOST})),
        ("attribute: baseline is on cpu", lambda x: ag.attribute(np.square, x, HOST)),
        ("attribute: target is on cpu", lambda x: ag.attribute(np.square, x, target=IDS)),
        ("Tensor.data: value is on cpu", lambda x: setattr(x, "data", HOST)),
        ("__setitem__: value is on cpu", lambda x: x.detach().__setitem__(0, IDS)),
    ],
)
def test_devices_do_not_mix(words: str, use: Callable[[ag.Tensor], Any]) -> None:
    x = on_gpu(HOST, requires_grad=True)
    with pytest.raises(DeviceError, match=words):
        use(x)
    assert x.grad is None
    assert x.tolist() == HOST.tolist()


def test_another_device_than_the_current_one(cupy: Any) -> None:
    x = ag.tensor([1.0]).to("cuda:1")
    with pytest.raises(DeviceError, match=r"Add: .* on cuda:1, .*`with cupy.cuda.Device\(1\):`"):
        x + x
    with pytest.raises(DeviceError, match="x is on cuda:1, y is on cuda:0"):
        x + on_gpu([1.0])
    with cupy.cuda.Device(1):
        assert (x + x).device == x.to("cuda").device == "cuda:1"


def test_what_a_graph_needs_is_not_changed_in_place() -> None:
    """CuPy has no flag like NumPy's that would refuse it, so agrad's own changes must copy."""
    x = on_gpu([3.0], requires_grad=True)
    loss = (x * x).sum()
    recorded = x.data
    x.writable()[...] = 7
    with ag.no_grad():
        x[0] = 8
    assert x.data is not recorded
    loss.backward()
    assert x.grad.tolist() == [6.0]
    known = x.data
    assert x.writable() is known  # no graph needs it any more

    view = x.detach()
    view.writable()[...] = 9
    assert x.tolist() == [8.0]


@pytest.mark.parametrize("method", ["factorized", "integrated"])
def test_attributions_stay_on_their_device(cupy: Any, method: Any) -> None:
    def model(x: ag.Tensor) -> ag.Tensor:
        return F.softmax(x * x, 1)

    x = np.array([[1.0, 2.0, 0.5], [-1.0, 0.5, 1.0]])
    target = np.array([2, 0])
    found = ag.attribute(model, on_gpu(x), method=method, target=cupy.asarray(target))
    assert type(found) is fake_cupy.ndarray
    known = ag.attribute(model, x, method=method, target=target)
    assert found.tolist() == known.tolist()


def test_average_gradient_keeps_the_pins() -> None:
    x = on_gpu([3.0], requires_grad=True)
    loss = (x * x).sum()
    ag.average_gradient(lambda: (x * x).sum(), [x], {x: [1.0]})
    x.writable()[...] = 7
    loss.backward()
    assert x.grad.tolist() == [6.0]


def test_masks_are_drawn_on_the_device_as_the_seed_says() -> None:
    x = on_gpu(np.ones(1000, np.float32))

    def masks(seed: int) -> list[Any]:
        ag.seed(seed)
        return [F.dropout(x, 0.25).tolist() for _ in range(2)]

    first, second = masks(0)
    assert first != second
    assert masks(0) == [first, second] != masks(1)
    assert {round(value, 4) for value in first} == {0.0, 1.3333}
    assert 650 < np.count_nonzero(first) < 850
    ag.seed(0)
    F.dropout(x)
    state = ag.random.get_state()
    known = F.dropout(x).tolist()
    ag.random.set_state(state)
    assert F.dropout(x).tolist() == known


class Noted:
    """Notes deferred decisions: the numbers that feed arrays, and the conditions that must hold."""

    def __init__(self) -> None:
        self.makers: list[Callable[[], float]] = []
        self.conditions: list[Any] = []

    def feed(self, make: Callable[[], float], dtype: type) -> Any:
        self.makers.append(make)
        return fake_cupy.ndarray(np.array(make(), dtype))

    def condition(self, condition: Any) -> None:
        self.conditions.append(condition)

    def action(self, action: Callable[..., None], numbers: tuple[Any, ...]) -> None:
        raise AssertionError("no operation has anything to do after a step")


def test_the_key_of_a_mask_can_be_put_off() -> None:
    x, noted = on_gpu(np.ones(100, np.float32)), Noted()
    ag.seed(0)
    expected = F.dropout(x).tolist(), F.dropout(x).tolist()
    ag.seed(0)
    with deferring(noted), fake_cupy.waits() as waits:
        masked = F.dropout(x), F.dropout(x)
    assert not waits
    assert len(noted.makers) == 2
    assert tuple(map(ag.Tensor.tolist, masked)) == expected


ROWS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
CHECKS: dict[str, tuple[str, Callable[..., ag.Tensor], Any, Any]] = {
    "cross_entropy": ("class 4,", F.cross_entropy, [0, 3, -100], [0, 4, -2]),
    "cross_entropy by weights": (
        "class -2,",
        lambda x, target: F.cross_entropy(x, target, np.full_like(x.data[0], 2)),
        [0, 3, -100],
        [0, -2, 10**12],
    ),
    "cross_entropy smoothed": (
        "class 4,",
        lambda x, target: F.cross_entropy(x, target, label_smoothing=0.1),
        [0, 3, -100],
        [0, 4, -2],
    ),
    "nll_loss": ("class 4,", F.nll_loss, [0, 3, -100], [0, 4, -2]),
    "embedding": ("the id 3,", lambda x, ids: F.embedding(ids, x), [0, 2, 2], [0, 3, -1]),
    "global_max_pool1d": (
        "in sequence 0",
        F.global_max_pool1d,
        [True, False, True, False],
        [False] * 4,
    ),
    "global_avg_pool1d": (
        "in sequence 0",
        F.global_avg_pool1d,
        [True, False, True, False],
        [False] * 4,
    ),
}


@pytest.mark.parametrize(("message", "use", "good", "bad"), CHECKS.values(), ids=CHECKS)
def test_checks_of_values_can_be_put_off(
    message: str, use: Callable[..., ag.Tensor], good: Any, bad: Any
) -> None:
    """Conditions are noted instead of raising; both sweeps continue without waiting."""
    x, update = on_gpu(ROWS, requires_grad=True), on_gpu(ROWS[::-1]).data
    with pytest.raises(ValueError, match=message):
        use(x, on_gpu(bad))
    for argument, kept in (on_gpu(good), True), (on_gpu(bad), False):
        noted = Noted()
        # A GPU warns of nothing.
        with deferring(noted), fake_cupy.waits() as waits, np.errstate(all="ignore"):
            out = use(x, argument).sum()
            out.backward(retain_graph=True)
            out.average_backward({x: update})
        assert not waits
        checked, *finite = (condition.host.item() for condition in noted.conditions)
        assert checked == kept
        assert len(finite) == 2  # the loss at the end, and the averages
        assert all(finite) or not kept


def test_batch_norm_counts_batches_on_the_device() -> None:
    """With `momentum=None`, where the count matters."""
    rows = np.random.default_rng(0).normal(size=(3, 300)).astype(np.float32)
    batches, means, looks = [on_gpu(rows * k) for k in (1, 2, 4)], [], []
    for block in nullcontext(), deferring(Noted()):
        layer = nn.BatchNorm1d(300, momentum=None).to("cuda")
        with block, fake_cupy.waits() as waits:
            for batch in batches:
                layer(batch)
        means.append(layer.running_mean.tolist())
        looks.append(waits)
    assert looks == [[], []]
    assert means[0] == means[1]


# -- modules and training --------------------------------------------------------------------------


def test_a_module_moves_whole() -> None:
    model = network()
    parameters = list(model.parameters())
    F.cross_entropy(model(np.ones((4, 8, 8), np.float32)), [0, 1, 2, 3]).backward()
    state = model.state_dict()
    assert model.to("cuda") is model
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {"cuda:0"}
    assert all(type(p.grad) is fake_cupy.ndarray for p in parameters)
    for name, array in model.state_dict().items():
        assert type(array) is fake_cupy.ndarray
        np.testing.assert_array_equal(array.get(), state[name])
    assert {t.device for t in model.to("cpu").parameters()} == {"cpu"}
    with pytest.raises(ValueError, match=r"'gpu' is neither a dtype nor a device"):
        model.to("gpu")


def test_a_module_moves_whole_or_not_at_all(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = network(), iter(range(10))

    def full_after_three(array: Array) -> Any:
        if next(calls) == 3:
            raise cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 512 bytes")
        return fake_cupy.ndarray(array)

    monkeypatch.setattr(cupy, "asarray", full_after_three)
    with pytest.raises(DeviceMemoryError, match="allocating 512 bytes"):
        model.to("cuda")
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {"cpu"}


@pytest.mark.parametrize("name", [n for n in nn.init.__all__ if n.endswith("_")])
def test_initial_values_are_the_same_everywhere(name: str) -> None:
    fill = getattr(nn.init, name)
    arguments = [0.5] if name == "constant_" else []
    values = []
    for device in ("cpu", "cuda"):
        ag.seed(0)
        tensor = fill(ag.tensor(np.empty((3, 4), np.float32)).to(device), *arguments)
        assert tensor.device.startswith(device)
        values.append(tensor.tolist())
    assert values[0] == values[1]


def trained(make_optimizer: Callable[[Any], Any], device: str) -> tuple[list[float], Any, Any]:
    """Return the losses of some steps, the final state, and the optimizer's state."""
    model = network().to(device)
    optimizer = make_optimizer(model.parameters())
    ema = optim.EMA(model.parameters(), decay=0.9)
    images, labels = (move(array[:64], device) for array in digits())
    losses = []
    for step in train(model, optimizer, Batches(images, labels, batch_size=32, seed=0), 6):
        losses.append(step.loss)
        ema.update()
    with ema.averaged():
        losses.append(evaluate(model, images, labels).loss)
    return losses, model.state_dict(), optimizer.state_dict()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_the_same_everywhere(name: str) -> None:
    """Training stays on the device: its arrays would refuse anything else."""
    losses, state, _ = trained(OPTIMIZERS[name], "cpu")
    others, moved, moments = trained(OPTIMIZERS[name], "cuda")
    assert others == losses
    assert moved.keys() == state.keys()
    for key, array in moved.items():
        np.testing.assert_array_equal(array.get(), state[key])
    assert not list(arrays_of_host(moments))


RULE = ["bool", "item", "bool"]
AVERAGE = ["bool", "bool", "bool", "item", "item", "bool", "bool", "tolist", "bool"]


def on_a_probe(params: Any) -> optim.AverageGradient:
    return optim.AverageGradient(optim.RMSprop(params), probe_size=32)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize(
    ("make_optimizer", "expected"),
    [(optim.Adam, RULE), (on_a_probe, AVERAGE)],
    ids=["a rule", "average"],
)
def test_what_waits_for_the_gpu_in_a_step(
    make_optimizer: Callable[..., Any], expected: list[str], capture: bool
) -> None:
    """A step waits for the labels, the loss, and the finiteness of the gradients.

    With the average gradient, it also waits for whether a label of the probe counts, the labels and
    loss of the probe, the finiteness of the loss at the end of the update, two sums, and the check
    of the verified step.
    """
    model = nn.Sequential(network(), nn.Unflatten(1, (1, 10)), nn.AvgPool1d(2), nn.Flatten())
    model.to("cuda")
    optimizer = make_optimizer(model.parameters())
    forward = ag.capture(model) if capture else model
    images, labels = (move(array[:64], "cuda") for array in digits())
    labels %= 5
    for _ in range(3):  # arrays made once exist from the second step on
        with fake_cupy.waits() as noted:
            train_step(forward, optimizer, images, labels)
    assert noted == expected


MUON = (3.4445, -4.775, 2.0315), 5, 1e-7
OTHERS: dict[str, tuple[Callable[[ag.Tensor, ag.Tensor], Any], list[str]]] = {
    "embedding": (lambda x, ids: F.embedding(ids, x), ["bool"]),
    "pooling by a mask": (lambda x, ids: F.global_max_pool1d(x, x[0] == x[0]), ["bool"]),
    "nll_loss": (lambda x, ids: F.nll_loss(x, ids), ["bool"]),
    "smoothing": (lambda x, ids: F.cross_entropy(x, ids, label_smoothing=0.1), ["bool"]),
    "an index of booleans": (lambda x, ids: x[x > 0], ["index by booleans"]),
    "a list of labels": (lambda x, ids: F.cross_entropy(x, [0, 2, 1]), ["copy by asarray", "bool"]),
    "dropout": (lambda x, ids: F.dropout(x), []),
    "clipping by norm": (lambda x, ids: optim.clip_grad_norm_([x, x, x], 1.0), ["tolist"]),
    "Muon's matrices": (lambda x, ids: optim.muon.orthogonalize(x.data, *MUON), []),
}


@pytest.mark.parametrize(("use", "expected"), OTHERS.values(), ids=OTHERS)
def test_what_else_waits_for_the_gpu(use: Callable[..., Any], expected: list[str]) -> None:
    x, ids = on_gpu(ROWS, requires_grad=True), on_gpu([0, 2, 1])
    x.sum().backward()
    with fake_cupy.waits() as noted:
        use(x, ids)
    assert noted == expected


def arrays_of_host(state: Any) -> Iterator[Array]:
    if isinstance(state, dict):
        for value in state.values():
            yield from arrays_of_host(value)
    elif isinstance(state, np.ndarray):
        yield state


def test_a_batch_uploads_its_indices_once() -> None:
    images, labels = digits()
    arrays = images[:32], labels[:32]
    expected = next(iter(Batches(*arrays, batch_size=8, seed=0)))
    there = move(arrays[0], "cuda"), ag.tensor(arrays[1]).to("cuda")
    with fake_cupy.waits() as noted:
        x, y = next(iter(Batches(*there, batch_size=8, seed=0)))
    assert noted == ["copy by asarray"]
    np.testing.assert_array_equal(x.get(), expected[0])
    np.testing.assert_array_equal(y.cpu().numpy(), expected[1])


def test_texts_train_on_a_device() -> None:
    ag.seed(0)
    embedding, head = nn.Embedding(20, 4, padding_idx=0).to("cuda"), nn.Linear(8, 2).to("cuda")
    pools = nn.GlobalAvgPool1d(), nn.GlobalMaxPool1d()
    ids = on_gpu(np.random.default_rng(0).integers(1, 20, (6, 5)))
    vectors = embedding(ids).swapaxes(1, 2)
    pooled = ag.concatenate([pool(vectors, ids != 0) for pool in pools], axis=1)
    loss = F.cross_entropy(head(F.dropout(pooled, 0.1)), on_gpu(np.array([0, 1] * 3)))
    optim.AverageGradient(optim.RMSprop([embedding.weight, *head.parameters()])).step(loss)
    assert embedding.weight.device == "cuda:0"
    assert embedding.weight[0].tolist() == [0.0] * 4


@pytest.mark.parametrize("norm_type", [2.0, 1.0, np.inf])
def test_clipping_on_a_device(norm_type: float) -> None:
    x, y = on_gpu([3.0, 4.0], requires_grad=True), on_gpu([-1.0], requires_grad=True)
    (x.sum() * 5 + y.sum()).backward()
    norm = optim.clip_grad_norm_([x, y], 1.0, norm_type)
    assert norm == pytest.approx(np.linalg.norm([5.0, 5.0, 1.0], norm_type))
    assert x.grad.tolist() == pytest.approx([5 / norm] * 2, rel=1e-5)
    optim.clip_grad_value_([x], 0.1)
    assert x.grad.tolist() == pytest.approx([0.1, 0.1])


def test_an_optimizer_made_before_the_move_says_so() -> None:
    model, (images, labels) = network(), (array[:32] for array in digits())
    optimizer = optim.Adam(model.parameters())
    train_step(model, optimizer, images, labels)
    model.to("cuda")
    before = optimizer.state_dict()
    message = "Adam: parameter 0 is on cuda:0, its state on cpu; make the optimizer after"
    with pytest.raises(DeviceError, match=message):
        train_step(model, optimizer, move(images, "cuda"), move(labels, "cuda"))
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_states_go_to_a_file_and_back(tmp_path: Path) -> None:
    """A state saved on a device can be loaded on the CPU, and vice versa."""
    make = OPTIMIZERS["average by row"]
    _, weights, moments = trained(make, "cuda")
    ag.save(tmp_path / "state", {"model": weights, "optimizer": moments, "x": on_gpu([1.0])})
    loaded = ag.load(tmp_path / "state")
    assert loaded["x"].tolist() == [1.0]
    for device in ("cpu", "cuda"):
        model = network(seed=1).to(device)
        model.load_state_dict(loaded["model"])
        optimizer = make(model.parameters())
        optimizer.load_state_dict(loaded["optimizer"])
        assert bool(list(arrays_of_host(optimizer.state_dict()))) == (device == "cpu")
        images, labels = (move(array[:32], device) for array in digits())
        loss = train_step(model, optimizer, images, labels)
        state = optimizer.state_dict()
        known = (loss, *(p.tolist() for p in model.parameters()), state["base"]["lr"])
        if device == "cpu":
            expected = known
    assert known == expected
    assert not list(arrays_of_host(state))
    with pytest.raises(ValueError, match=r"float32\[3, 1, 3, 3\] in the module"):
        network().load_state_dict({**weights, "1.weight": on_gpu([1.0])})
    ema = optim.EMA(model.parameters())
    ema.update()
    averages = {key: move(array, "cpu") for key, array in ema.state_dict()["averages"].items()}
    ema.load_state_dict({"updates": 1, "averages": averages})
    with ema.averaged():
        assert {p.device for p in model.parameters()} == {"cuda:0"}


# -- missing parts, and failures -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "advice"),
    [
        (None, "no NVIDIA driver: install one"),
        ((11, 8), "CUDA 11.8, and 12 is needed"),
        ((12, 4), r'CUDA 12.4: pip install "agrad\[cuda12x\]"'),
        ((13, 0), r'CUDA 13.0: pip install "agrad\[cuda13x\]"'),
    ],
)
def test_without_cupy(driver: Any, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "driver_version", lambda: driver)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=f"CuPy cannot be imported .*{advice}"):
        ag.tensor(1.0).to("cuda")
    with pytest.raises(DeviceError, match=advice):
        nn.Linear(2, 2).to("cuda:1")
    assert ag.tensor([1.0]).sum().item() == 1.0


def test_without_a_gpu(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorNoDevice")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", none)
    with pytest.raises(DeviceError, match=r"CuPy finds no GPU .cudaErrorNoDevice.*install"):
        ag.tensor(1.0).to("cuda")


class Fails(Operation):
    """Raises an error instead of computing."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def forward(self, x: Array) -> Array:
        raise self.error


def test_out_of_memory_is_explained(cupy: Any) -> None:
    failing = Fails(cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 512 bytes"))
    with pytest.raises(DeviceMemoryError, match="512 bytes; use smaller batches") as caught:
        apply(failing, on_gpu([1.0]))
    assert isinstance(caught.value, MemoryError)
    assert caught.value.__notes__ == ["in Fails of inputs float32[1]"]


def test_a_lost_gpu_is_explained(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    error = cupy.cuda.runtime.CUDARuntimeError("cudaErrorIllegalAddress")

    def fail(*arguments: Any) -> Any:
        raise error

    x = on_gpu([1.0], requires_grad=True)
    with pytest.raises(RuntimeError) as caught:
        apply(Fails(error), x)  # the device still answers: it is not lost
    assert caught.value is error
    monkeypatch.setattr(cupy.cuda.runtime, "deviceSynchronize", fail)
    with pytest.raises(DeviceLostError, match=r"IllegalAddress.*what it held is lost"):
        apply(Fails(error), x)
    loss = (x * x).sum()
    monkeypatch.setattr(fake_cupy.ndarray, "__mul__", fail)
    with pytest.raises(DeviceLostError):
        loss.backward(retain_graph=True)
    monkeypatch.setattr(fake_cupy.ndarray, "item", fail)
    with pytest.raises(DeviceLostError):
        loss.item()
    monkeypatch.setattr(fake_cupy.ndarray, "get", fail)
    with pytest.raises(DeviceLostError):
        x.cpu()


class CUBLASError(RuntimeError):
    """Like CuPy's error, constructed from a status."""

    def __init__(self, status: int) -> None:
        super().__init__({3: "CUBLAS_STATUS_ALLOC_FAILED"}.get(status, "CUBLAS_STATUS_OTHER"))
        self.status = status


def test_errors_of_cublas_are_explained(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(CUBLASError=CUBLASError)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.cublas", library)
    x, error = on_gpu([1.0]), CUBLASError(13)
    with pytest.raises(CUBLASError) as caught:
        apply(Fails(error), x)  # the device still answers
    assert caught.value is error
    with pytest.raises(DeviceMemoryError, match="out of memory: CUBLAS_STATUS_ALLOC_FAILED"):
        apply(Fails(CUBLASError(3)), x)

    def fail() -> None:
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorIllegalAddress")

    monkeypatch.setattr(cupy.cuda.runtime, "deviceSynchronize", fail)
    with pytest.raises(DeviceLostError, match=r"has failed \(CUBLAS_STATUS_OTHER\)"):
        apply(Fails(CUBLASError(13)), x)


class DynamicLibNotFoundError(RuntimeError):
    """Like the error of cuda.pathfinder."""


def errors_of_missing_files() -> Iterator[Exception]:
    """Yield CuPy 14's errors without NVRTC, without cuBLAS, and without the headers."""
    yield DynamicLibNotFoundError('Failure finding "libnvrtc.so.13"')
    error = ImportError('Failure finding "libcublasLt.so.13"')
    error.__cause__ = DynamicLibNotFoundError()
    yield error
    yield fake_cupy.CompileException('could not open source file "cuda_fp16.h"')


@pytest.fixture
def pathfinder(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(DynamicLibNotFoundError=DynamicLibNotFoundError)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", found)
    monkeypatch.setattr(cuda, "driver_version", lambda: (13, 0))


MISSING = ["libnvrtc", "libcublasLt", "cuda_fp16"]


@pytest.mark.usefixtures("pathfinder")
@pytest.mark.parametrize("error", list(errors_of_missing_files()), ids=MISSING)
def test_a_missing_library_is_named_and_what_to_install(error: Exception) -> None:
    name = str(error).rpartition('"')[0]
    with pytest.raises(DeviceError, match=rf'{name}.*pip install "agrad\[cuda13x\]"') as caught:
        apply(Fails(error), on_gpu([1.0]))
    assert caught.value.__notes__ == ["in Fails of inputs float32[1]"]


@pytest.mark.usefixtures("pathfinder")
def test_the_doctor_tries_the_libraries(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    class Module(fake_cupy.RawModule):
        def get_function(self, name: str) -> Callable[..., None]:
            compiled.append(self.code)
            return super().get_function(name)

    def lacks() -> None:
        raise next(error for error in errors_of_missing_files() if "cublas" in str(error))

    monkeypatch.setattr(cupy, "RawModule", Module)
    lines = invoke("doctor").output.splitlines()
    assert lines[-1] == "cuda:1   compiles a kernel, runs it, and has cuBLAS"
    assert len(set(compiled)) == 2  # none is found in CuPy's cache
    monkeypatch.setattr(cupy.cuda.device, "get_cublas_handle", lacks)
    result = invoke("doctor")
    assert result.exit_code == 0
    warning = " ".join(result.output.split("WARNING", 2)[1].split())
    assert warning.startswith("cuda:0 cannot be used: CuPy lacks a part of CUDA")
    assert 'libcublasLt.so.13"); the driver supports CUDA 13.0' in warning

    def fails() -> None:
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorNoKernelImageForDevice")

    monkeypatch.setattr(cupy.cuda.device, "get_cublas_handle", fails)
    assert "NoKernelImage" in invoke("doctor").output


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(MemoryError) as caught:
        apply(Fails(MemoryError("Unable to allocate")), on_gpu([1.0]))
    assert not isinstance(caught.value, DeviceError)
    with pytest.raises(TypeError, match="no kernels for arrays of type list"):
        ag.backend.kernels([1.0])


# -- the command line ------------------------------------------------------------------------------


def invoke(*words: object) -> Any:
    testing = pytest.importorskip("click.testing")
    from agrad.cli.app import app

    return testing.CliRunner().invoke(app, list(map(str, words)))


@pytest.mark.parametrize("model", ["dense", "conv"])
def test_agrad_train_on_a_device(model: str, tmp_path: Path) -> None:
    states = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        size = ("--depth", 1, "--width", 4, "--iterations", 3, "--model", model)
        result = invoke("train", *size, "--device", device, "--out", out)
        assert result.exit_code == 0, result.exception
        states.append((ag.load(out / "weights.safetensors"), result.output.splitlines()[-2]))
    np.testing.assert_equal(*states)
    said = json.loads((tmp_path / "cuda" / "settings.json").read_text())
    assert (said["device"], said["machine"]["gpu"]) == ("cuda", "Stand-in")


@pytest.mark.parametrize("kind", ["dense", "conv", "conv over words"])
def test_a_study_on_a_device(kind: str) -> None:
    from agrad.study.data import DataSet, load_data
    from agrad.study.runs import Experiment, machine

    data = load_data("digits")
    if kind == "conv over words":
        rng = np.random.default_rng(0)
        texts, labels = rng.integers(0, 20, (160, 16)), rng.integers(0, 2, 160)
        data = DataSet((texts, labels), (texts, labels), vocabulary=20)
    network = kind.split()[0]
    runs = [
        Experiment(
            data="x",
            activation="relu",
            method="average-rmsprop",
            lr=1e-3,
            seed=0,
            iterations=3,
            network=network,
            depth=4,
            width=4,
            device=device,
        ).run(data)
        for device in ("cpu", "cuda")
    ]
    assert runs[0].train_loss == runs[1].train_loss
    assert runs[0].test_loss == runs[1].test_loss
    assert "gpu" not in machine()
    assert machine("cuda")["gpu"] == "Stand-in"


@pytest.mark.parametrize("name", ["3", "6", "9"])
def test_a_study_is_made_where_its_option_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("click")
    from agrad.cli import study

    devices: list[str] = []

    def results_of(jobs: Any, client: Any) -> Iterator[Any]:
        devices.extend(job.device for job in jobs)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(study, "results_of", results_of)
    monkeypatch.setattr(study, "load_data", lambda name: None)
    invoke("study", name, "--quick", "--device", "cuda", "--out", tmp_path / "out")
    assert set(devices) == {"cuda"}


@pytest.mark.parametrize("words", [["train"], ["study", "3"]])
def test_nothing_runs_without_a_device(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = invoke(*words, "--device", "cuda", "--out", tmp_path / "out")
    assert isinstance(result.exception, DeviceError)  # a line and exit code 1 by `agrad.cli.main`
    assert not (tmp_path / "out").exists()


def test_the_doctor_finds_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(cuda, "driver_version", lambda: (13, 0))
    result = invoke("doctor")
    assert result.exit_code == 0
    found = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert found["agrad"].startswith(ag.__version__)
    assert found["NumPy"] == np.__version__
    assert "threads: " in found["BLAS"]
    assert found["data"] == f"{tmp_path} (set by AGRAD_DATA)"
    assert found["driver"] == "for CUDA 13.0"
    assert found["CuPy"] == "14.2.0"
    lines = result.output.splitlines()
    for device in "cuda:0", "cuda:1":
        assert f"{device}   Stand-in, compute capability 9.0, 3.0 of 4.0 GiB free" in lines


def test_the_doctor_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGRAD_DATA", raising=False)
    monkeypatch.setattr(cuda, "driver_version", lambda: (12, 9))
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "(AGRAD_DATA is not set)" in result.output
    assert 'pip install "agrad[cuda12x]"' in result.output.splitlines()[-1]
